"""systemd's protocols, as far as a service needs them: notification and socket activation.

Both are promised to be stable: sd_notify(3), sd_listen_fds(3). Without systemd nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

_FIRST_DESCRIPTOR = 3


def notify(message: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Tell the service manager something: READY=1, STOPPING=1, WATCHDOG=1, STATUS=…"""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.sendto(message.encode(), address)


def inherited_sockets(environ: MutableMapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """Return the listening sockets of socket units by their FileDescriptorName=.

    The variables are removed, so that no child takes them for its own.
    """
    meant_for = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "0")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if meant_for != str(os.getpid()) or not count.isdigit():
        return {}
    names += [""] * (int(count) - len(names))
    return {
        name: socket.socket(fileno=_FIRST_DESCRIPTOR + index)
        for index, name in enumerate(names[: int(count)])
    }
