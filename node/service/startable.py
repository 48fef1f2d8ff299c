"""Whether a node could start with these settings: encoders installed, files named in them usable.

What can be seen in the settings alone was seen when they were read. Faults of encoders, of TLS and
of audit are told together.
"""

from __future__ import annotations

from node.errors import BadConfiguration
from node.service import doors, syslog
from node.service.encoding import check_codecs
from node.settings import Settings


def require_startable(settings: Settings) -> None:
    """Raise `BadConfiguration` with all that is in the way."""
    found = []
    for check in (check_codecs, doors.require_usable, _audit):
        try:
            check(settings)
        except BadConfiguration as failure:
            found.append(str(failure))
    if found:
        raise BadConfiguration("\n".join(found))


def _audit(settings: Settings) -> None:
    syslog.require_usable(settings.audit)
