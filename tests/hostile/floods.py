"""Floods, and how honest senders fare meanwhile: `python -m tests.hostile.floods`.

    --connects N   connects and closes, from one address (20,000; the full form is 1,000,000)
    --slow N       clients that send one byte and stay (1,000)
    --seconds N    of association requests as fast as they can be made, from one address (10)
    --only NAME    one receiver

An honest peer from another address asks for an association and sends a C-ECHO again and again:
printed are how many it got through, how many failed, and how long they took, beside the same
without a flood; then what the receiver holds afterwards. Our node, storescp and Orthanc, as they
come but for short time limits.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from hostile.servers import AE_TITLE, Server, available, running  # noqa: E402
from hostile.usage import usage  # noqa: E402
from network.raw_peer import RELEASE_RQ, associate_rq, echo_rq, message  # noqa: E402

_HONEST, _FLOODER = "127.0.0.9", "127.0.0.66"
_PATIENCE = 10.0
_QUIET_SECONDS = 2.0
#: Between two visits of the honest peer.
_PAUSE = 0.02
_REQUEST = associate_rq(called=AE_TITLE.encode())
_ECHO = message(3, echo_rq())
_AT_ONCE = struct.pack("ii", 1, 0)
_FLOODERS = 2


@dataclass
class Honest:
    """What an honest peer met with."""

    seconds: list[float] = field(default_factory=list)
    failures: int = 0

    def visit(self, address: tuple[str, int]) -> None:
        """Ask for an association, send a C-ECHO, release."""
        begun = time.monotonic()
        try:
            with socket.create_connection(address, _PATIENCE, (_HONEST, 0)) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for request, kind in ((_REQUEST, 2), (_ECHO, 4), (RELEASE_RQ, 6)):
                    sock.sendall(request)
                    if _answer(sock) != kind:
                        raise ConnectionError("another answer")
            self.seconds.append(time.monotonic() - begun)
        except OSError:
            self.failures += 1

    def __str__(self) -> str:
        if not self.seconds:
            return f"0 served, {self.failures} failed"
        slowest = sorted(self.seconds)[int(len(self.seconds) * 0.99)]
        return (
            f"{len(self.seconds)} served, {self.failures} failed, "
            f"median {statistics.median(self.seconds) * 1000:.0f} ms, "
            f"99 % within {slowest * 1000:.0f} ms"
        )


def _answer(sock: socket.socket) -> int:
    header = _exactly(sock, 6)
    _exactly(sock, int.from_bytes(header[2:6], "big"))
    return header[0]


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


@contextlib.contextmanager
def honest_peer(server: Server) -> Iterator[Honest]:
    """Let an honest peer come by for as long as this context lasts."""
    met, stop = Honest(), threading.Event()

    def come_by() -> None:
        while not stop.is_set():
            met.visit(server.address)
            stop.wait(_PAUSE)

    thread = threading.Thread(target=come_by)
    thread.start()
    try:
        yield met
    finally:
        stop.set()
        thread.join()


# -- floods: each returns what it did, in words ----------------------------------------------------


def connects(server: Server, count: int) -> str:
    """Connect and close, by turns with a FIN and with a reset."""
    begun = time.monotonic()
    failures = 0
    for number in range(count):
        try:
            sock = socket.create_connection(server.address, _PATIENCE, (_FLOODER, 0))
        except OSError:
            failures += 1
            continue
        # Without the reset this machine would run out of ports that are not in TIME_WAIT.
        if number % 8:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        sock.close()
    seconds = time.monotonic() - begun
    return f"{count} connects and closes ({count / seconds:.0f}/s, {failures} failed)"


def slow_clients(server: Server, count: int) -> str:
    """Send one byte each and stay for some seconds."""
    clients = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            sock = socket.create_connection(server.address, 1, (_FLOODER, 0))
            sock.sendall(b"\x01")
            clients.append(sock)
    time.sleep(5)
    for sock in clients:
        sock.close()
    return f"{len(clients)} of {count} slow clients for 5 s"


def associations(server: Server, seconds: float) -> str:
    """Ask for associations from one address, as fast as can be, and let them lie.

    In processes of their own, so that the honest peer does not wait for ours.
    """
    with ProcessPoolExecutor(_FLOODERS, get_context("spawn")) as pool:
        asked = pool.map(_ask, [server.address] * _FLOODERS, [seconds] * _FLOODERS)
        return f"{sum(asked)} association requests in {seconds:.0f} s"


def _ask(address: tuple[str, int], seconds: float) -> int:
    """Ask for associations, the last 50 of which are kept; return how many."""
    kept: list[socket.socket] = []
    count, stop = 0, time.monotonic() + seconds
    while time.monotonic() < stop:
        with contextlib.suppress(OSError):
            sock = socket.create_connection(address, 1, (_FLOODER, 0))
            sock.sendall(_REQUEST)
            count += 1
            kept.append(sock)
        for old in kept[:-50]:
            old.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            old.close()
        del kept[:-50]
    for sock in kept:
        sock.close()
    return count


def measured(server: Server, flood: Callable[[], str]) -> tuple[str, Honest, str]:
    """Flood while an honest peer comes by; return what was done, what it met, what is left."""
    before = usage(server.pid, family=True)
    with honest_peer(server) as met:
        done = flood()
    alive = server.revive() or "serves"
    after = usage(server.pid, family=True)
    left = (
        f"{alive}, memory {(after.memory - before.memory) / 1e6:+.0f} MB, "
        f"descriptors {after.descriptors - before.descriptors:+d}, "
        f"threads {after.threads - before.threads:+d}"
    )
    return done, met, left


def quiet(server: Server) -> tuple[str, Honest, str]:
    """What the honest peer meets with when it is alone."""

    def wait() -> str:
        time.sleep(_QUIET_SECONDS)
        return "nothing"

    return measured(server, wait)


def main() -> None:
    """Print a table for each receiver."""
    parser = argparse.ArgumentParser(description="Flood receivers.")
    parser.add_argument("--connects", type=int, default=20_000)
    parser.add_argument("--slow", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", action="append", choices=available())
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, given.slow + 1000), hard))
    print("| Receiver | Flood | An honest peer | Afterwards |\n|---|---|---|---|")
    for name in given.only or [name for name in available() if name != "pynetdicom"]:
        with running(name) as server:
            for row in (
                quiet(server),
                measured(server, lambda: connects(server, given.connects)),
                measured(server, lambda: slow_clients(server, given.slow)),
                measured(server, lambda: associations(server, given.seconds)),
            ):
                print(f"| {name} | {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
