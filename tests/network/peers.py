"""Peers that tests talk to, DCMTK's and GDCM's programs, and waiting for conditions."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from peers import ENVIRONMENT, need

__all__ = ["ENVIRONMENT", "need"]

#: A peer that takes longer has failed.
PATIENCE = 30.0
#: The kernel may give a port that was free to somebody else first.
_ATTEMPTS = 5


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a peer's program to its end."""
    return subprocess.run(
        [need(program), *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def wait_until(condition, what: str = "condition", seconds: float = PATIENCE) -> None:
    """Wait for `condition` to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def storescp(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Run DCMTK's storescp, writing into `folder`."""
    command = [need("storescp"), "-od", str(folder), *options]
    process, port = listening(command)
    try:
        yield "127.0.0.1", port
    finally:
        process.kill()
        process.wait()


def listening(command: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start `command` on a free port; on another one where somebody took it in the meantime."""
    for _ in range(_ATTEMPTS):
        port = free_port()
        process = subprocess.Popen(
            [*command, str(port)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: process.poll() is not None or _listens(port), f"{command[0]} listens")  # noqa: B023
        if process.poll() is None:
            return process, port
    raise AssertionError(f"{command[0]} does not run")
