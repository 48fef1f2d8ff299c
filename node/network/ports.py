"""Taking a port, and telling whose it is where it is taken.

Linux only, from /proc; where that cannot be read the advice is a command that can.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

from node.errors import CannotWrite
from node.network.limits import Limits

_LISTEN = "0A"


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`; 0 takes any free port.

    Raises `CannotWrite`, naming who has the port where that can be seen.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as failure:
        raise CannotWrite(f"cannot listen on {host}: {failure.strerror or failure}") from failure
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(Limits().backlog)
    except OSError as failure:
        listening.close()
        raise CannotWrite(_advice(host, port, failure)) from failure
    return listening


def as_people_write_it(address: Any) -> Any:
    """Return a peer's socket address; IPv4 as itself where a socket for IPv6 has it mapped.

    RFC 4291 2.5.5.2: `::ffff:10.0.0.5`, which no list of peers and no log should have to know.
    """
    host, *others = address
    return (host.removeprefix("::ffff:"), *others) if "." in host else address


def _advice(host: str, port: int, failure: OSError) -> str:
    if failure.errno == errno.EADDRINUSE:
        owner = who_listens(port)
        who = f"by {owner}" if owner else f"(ss -ltnp 'sport = :{port}' shows by whom)"
        return f"port {port} is in use {who}: stop that, or choose another port with --port"
    if failure.errno == errno.EACCES:
        return (
            f"port {port} needs a privilege: choose one above 1023, or let systemd open it "
            "(systemd/dcmpress.socket)"
        )
    return f"cannot listen on {host}:{port}: {failure.strerror or failure}"


def who_listens(port: int) -> str:
    """Return name and process ID of who listens on `port`; "" where that cannot be seen."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(descriptor) in inodes:
                process = descriptor.parts[2]
                name = Path("/proc", process, "comm").read_text().strip()
                return f"{name} (process {process})"
    return ""


def _listening_inodes(port: int) -> list[str]:
    """Return the inodes of the sockets that listen on `port` (proc(5), /proc/net/tcp)."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    found.append(fields[9])
    return found
