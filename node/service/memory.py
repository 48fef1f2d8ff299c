"""What memory a node can need: a sum of settings, printed at the start (tests hold it to that).

An association holds the instance it receives, up to `limits.memory_bytes`, and while a frame of it
is encoded and checked buffers of at most that size: four in all, measured with instances of one
frame that cannot be compressed. A larger instance lies in the spool; of it only a frame is in
memory. Codecs of others run in processes with a limit of their own and are not counted here.
"""

from __future__ import annotations

from node.service.receiver import limits_of
from node.settings import Settings

#: What a process of the node has before it does anything, measured, with room to grow.
PROCESS_BYTES = 100_000_000
#: A thread's stack as far as it is used, what pynetdicom keeps of an association, and the PDUs that
#: are sent at one go where an instance is passed on meanwhile.
_ASSOCIATION_BYTES = 1_500_000
_BUFFERS = 4


def most_bytes(settings: Settings) -> int:
    """Return the most bytes that the node's processes have together."""
    return _processes(settings) * PROCESS_BYTES + settings.limits.associations * per_association(
        settings
    )


def per_association(settings: Settings) -> int:
    """Return the most bytes that one association adds."""
    limits = limits_of(settings.limits)
    return _BUFFERS * limits.memory_bytes + limits.receive_buffer_bytes + _ASSOCIATION_BYTES


def sentence(settings: Settings) -> str:
    """Return the sum, in words."""
    return (
        f"memory: at most {most_bytes(settings) / 1e9:.1f} GB, which is {_processes(settings)} "
        f"processes of {PROCESS_BYTES / 1e6:.0f} MB and {settings.limits.associations} "
        f"associations of {per_association(settings) / 1e6:.1f} MB; limits.associations and "
        "limits.memory_bytes change it"
    )


def _processes(settings: Settings) -> int:
    return settings.node.receivers + 2  # the deliverer and the supervisor
