"""strace on a running process: its system calls are told, made to fail, or made its last one.

What is injected counts for each thread by itself: the Nth call of this kind. A thread that begins
while its process is traced is traced from its first call on; one that was there can be traced
alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
from peers import wait_until

#: What makes, fills, names, removes and secures files. Not every kernel or libc has all of them.
CHANGES = [
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    *("fallocate", "ftruncate", "truncate", "fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
]
#: What tells the peer.
TELLS = ["sendto", "sendmsg"]
#: What opens and makes files.
OPENS = ["openat"]

_KILLED = re.compile(r"\+\+\+ killed by SIGKILL \+\+\+")
_INJECTED = "(INJECTED)"
_CALL = re.compile(r"^(?:(\d+) +)?(\w+)\(")


def need_strace() -> None:
    """Skip where strace is not installed, or may not attach to processes of ours."""
    strace = peers.need("strace")
    with subprocess.Popen(["sleep", "60"]) as victim:
        try:
            tried = subprocess.run(
                [strace, "-qq", "-p", str(victim.pid), "-e", "trace=none"],
                capture_output=True, text=True, timeout=1, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return
        finally:
            victim.kill()
    pytest.skip(f"strace may not attach to a process: {tried.stderr.strip()}")


class Traced:
    """What strace has written of a process."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def lines(self) -> list[str]:
        """All lines so far."""
        return self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []

    @property
    def was_killed(self) -> bool:
        """Whether the process ended by a SIGKILL."""
        return any(map(_KILLED.search, self.lines()))

    @property
    def injected(self) -> list[str]:
        """The calls that were made to fail."""
        return [line for line in self.lines() if line.rstrip().endswith(_INJECTED)]

    @property
    def last(self) -> str:
        """The last call that was begun: the one that a killed process died of."""
        calls = list(filter(_CALL.match, self.lines()))
        return calls[-1] if calls else ""

    def counts(self) -> Counter[tuple[int, str]]:
        """How often each thread made each call."""
        found = map(_CALL.match, self.lines())
        return Counter((int(call[1]), call[2]) for call in found if call)


def threads_of(pid: int) -> list[int]:
    """The threads of a process, in the order in which they began."""
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


@contextlib.contextmanager
def attached(pid: int, log: Path, *expressions: str, thread: int | None = None) -> Iterator[Traced]:
    """Trace a process, with all threads it has and begins, or one thread of it, for the block."""
    log.unlink(missing_ok=True)
    everything = ["-f"] if thread is None else []
    # The thread's number at the beginning of each line comes with -f only.
    traced = pid if thread is None else thread
    command = [shutil.which("strace") or "strace", *everything, "-y", "-s", "48", "-o", str(log)]
    for expression in expressions:
        command += ["-e", expression]
    with subprocess.Popen(
        [*command, "-p", str(traced)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as strace:
        assert strace.stderr is not None
        said = os.read(strace.stderr.fileno(), 4096)
        assert b"attached" in said, said
        if thread is None:
            # Threads that were there are attached one by one.
            wait_until(lambda: _is_traced(pid), "every thread is traced")
        traced_calls = Traced(log)
        try:
            yield traced_calls
        finally:
            _let_go(strace, traced_calls)


def _let_go(strace: subprocess.Popen[bytes], traced: Traced) -> None:
    """End strace, which ends by itself after the process that it traced."""
    if not traced.was_killed:
        strace.send_signal(signal.SIGINT)
    try:
        strace.wait(5)
    except subprocess.TimeoutExpired:
        strace.kill()


def _is_traced(pid: int) -> bool:
    """Whether every thread has a tracer; a process that is gone has no untraced one."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if "\nTracerPid:\t0\n" in (task / "status").read_text():
                return False
    return True
