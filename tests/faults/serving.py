"""`dcmpress serve` as its users run it: its settings, its processes, killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import peers
from peers import wait_until

RECEIVER, DELIVERER, SUPERVISOR = "receiver", "deliverer", "supervisor"


@dataclass(frozen=True)
class Downstream:
    """Where a node forwards to or relays to."""

    port: int
    mode: str = "forward"


def settings(
    root: Path,
    *,
    port: int,
    receivers: int = 1,
    archive: bool = True,
    downstream: Downstream | None = None,
    durability: str = "fsync",
    status_port: int = 0,
) -> Path:
    """Write the settings of a node whose state and archive lie below `root`."""
    waits = "retry_seconds = 0.1\nretry_max_seconds = 0.2\n"
    text = (
        f'[node]\nport = {port}\nreceivers = {receivers}\nstate_directory = "{root}/state"\n'
        f'[spool]\ndurability = "{durability}"\nreserve_bytes = 0\nreserve_percent = 0\n'
        f"[status]\nport = {status_port}\n"
    )
    if archive:
        text += f'[[destination]]\nname = "disk"\ndirectory = "{root}/archive"\n{waits}'
    if downstream is not None:
        text += (
            f'[[destination]]\nname = "pacs"\nae_title = "{peers.DOWNSTREAM}"\n'
            f'host = "127.0.0.1"\nport = {downstream.port}\nmode = "{downstream.mode}"\n{waits}'
        )
    path = root / "node.toml"
    path.write_text(text, "utf-8")
    return path


class Served:
    """A node that runs as processes. It may be crashed and started again."""

    def __init__(self, root: Path, config: Path, port: int) -> None:
        self.root, self.config, self.port = root, config, port
        self.archive, self.state = root / "archive", root / "state"
        self.log = root / "log"
        self._process: subprocess.Popen[str] | None = None

    def start(self, seconds: float = 60) -> None:
        """Start, and wait until it listens. While another one still ends, try again."""
        deadline = time.monotonic() + seconds
        while not self._started():
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def _started(self) -> bool:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "node", "serve", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline().startswith("listening AE="):
            return True
        self._process.wait()
        return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether the supervisor has not ended."""
        return self._process is not None and self._process.poll() is None

    def processes(self, role: str) -> list[int]:
        """The processes of a role that are there."""
        if role == SUPERVISOR:
            return [self.pid] if self.is_up else []
        found = []
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            for child in map(int, children):
                words = _words_of(child)
                if b"node.service.process" in words and role.encode() in words:
                    found.append(child)
        return found

    def one(self, role: str, besides: int = 0) -> int:
        """The one process of a role, when it is there; not the one that was just killed."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = [pid for pid in self.processes(role) if pid != besides]
            return len(found) == 1

        wait_until(is_there, f"a {role} is there")
        return found[0]

    def crash(self) -> int:
        """SIGKILL for every process, the supervisor last; return how many there were."""
        if not self.is_up:
            return 0
        # So that it starts none while they are counted.
        os.kill(self.pid, signal.SIGSTOP)
        going = [*self.processes(RECEIVER), *self.processes(DELIVERER), self.pid]
        for pid in going:
            kill(pid)
        self._wait_for_the_end_of(going)
        return len(going)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def wait_for_orphans(self, orphans: list[int], seconds: float = 60) -> None:
        """Wait until the children of a killed supervisor have ended by themselves."""
        self._wait_for_the_end_of(orphans, seconds)

    def _wait_for_the_end_of(self, going: list[int], seconds: float = 30) -> None:
        if self._process is not None and self.pid in going:
            self._process.wait(seconds)
        wait_until(lambda: not any(map(_is_alive, going)), "the processes end", seconds)

    @property
    def is_drained(self) -> bool:
        """Whether everything that was received is where it belongs."""
        spool = self.state / "spool"
        return not any(
            path.suffix == ".dcm"
            for state in ("received", "queued")
            for path in walk(spool / state)
        )

    def set_aside(self) -> list[Path]:
        """Entries that were refused for good or found damaged."""
        spool = self.state / "spool"
        return [
            path
            for state in ("failed", "corrupt")
            for path in walk(spool / state)
            if not path.is_dir()
        ]


def walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder, while others work in it."""
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names)


def kill(pid: int) -> bool:
    """SIGKILL; False where the process has ended already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _words_of(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


@contextlib.contextmanager
def served(
    root: Path,
    *,
    receivers: int = 1,
    archive: bool = True,
    downstream: Downstream | None = None,
    durability: str = "fsync",
    status_port: int = 0,
) -> Iterator[Served]:
    """Run a node; at the end nothing of it is left running."""
    root.mkdir(parents=True, exist_ok=True)
    port = peers.free_port()
    config = settings(
        root,
        port=port,
        receivers=receivers,
        archive=archive,
        downstream=downstream,
        durability=durability,
        status_port=status_port,
    )
    node = Served(root, config, port)
    node.start()
    try:
        yield node
    finally:
        node.crash()
