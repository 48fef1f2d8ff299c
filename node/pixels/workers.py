"""Codecs of others, run in processes of their own: what crashes, hangs or eats memory there costs
one call, never the process that receives or delivers.

A worker is started when one is wanted and none is idle, kept for the next call, and given up as
soon as anything is odd about it. It limits its own memory and time (`worker_process`); should it
not keep to its time, it is killed from here. What it sends back is bytes with their length, never
objects: a codec that an image has taken over can lie about pixels, which are compared, and can do
nothing to this process.

`CodecWorkers` raises `CodecFailed` where a call fails, with the reason. It is safe in threads.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from node.errors import CodecFailed

log = logging.getLogger(__name__)

#: What goes ahead of a request: the length of what follows, and the seconds it may take.
REQUEST_HEADER = struct.Struct("<Qd")
#: What goes ahead of an answer: whether it is a result, and its length.
ANSWER_HEADER = struct.Struct("<?Q")
#: The slowest codec is expected to do so many bytes in a second.
SLOWEST_BYTES_PER_SECOND = 1_000_000
#: How much longer we wait than the worker allows itself.
_GRACE_SECONDS = 5.0
_PIECE = 1 << 20
#: The longest reason that is taken from a worker.
_LONGEST_REASON = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """What a worker may use.

    `processes`     workers at one time, for each pool; further calls wait
    `memory_bytes`  address space of one (RLIMIT_AS), which also bounds an answer
    `seconds`       for one call, and one second more for each `SLOWEST_BYTES_PER_SECOND`
    """

    processes: int = 2
    memory_bytes: int = 2 << 30
    seconds: float = 60.0


class CodecWorkers:
    """Calls functions in worker processes; a `Run`. `close` ends those that are idle."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._slots = threading.BoundedSemaphore(limits.processes)
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def __call__(
        self, function: Callable[..., bytes], /, *arguments: Any, work_bytes: int = 0
    ) -> bytes:
        """Return `function(*arguments)`, called in a worker; raises `CodecFailed`.

        The function is one of a module's, its arguments can be pickled.
        """
        seconds = self._limits.seconds + work_bytes / SLOWEST_BYTES_PER_SECOND
        request = pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL)
        with self._slots:
            worker = self._take()
            try:
                is_result, answer = worker.call(request, seconds, self._limits.memory_bytes)
            except BaseException:
                worker.kill()
                raise
            self._give_back(worker)
        if not is_result:
            raise CodecFailed(answer[:_LONGEST_REASON].decode("utf-8", "replace"))
        return answer

    def close(self) -> None:
        """End the workers; calls that are under way are finished by those who made them."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()

    def _take(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive:
                    return worker
                worker.kill()
        try:
            return _Worker(self._limits.memory_bytes)
        except OSError as failure:
            raise CodecFailed(f"no worker can be started: {failure.strerror}") from failure

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)


class _Worker:
    """One worker process, used by one thread at a time."""

    def __init__(self, memory_bytes: int) -> None:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "node.pixels.worker_process", str(memory_bytes)]
        try:
            # Its output is for nobody; what its libraries complain of is for the log.
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def call(self, request: bytes, seconds: float, most_bytes: int) -> tuple[bool, bytes]:
        """Return whether it succeeded, with the result or the reason; raises `CodecFailed`."""
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        try:
            self._socket.settimeout(seconds + _GRACE_SECONDS)
            self._socket.sendall(REQUEST_HEADER.pack(len(request), seconds))
            self._socket.sendall(request)
            header = self._receive(ANSWER_HEADER.size, deadline)
            is_result, length = ANSWER_HEADER.unpack(header)
            if length > most_bytes:
                raise CodecFailed(f"a codec answered with {length} bytes")
            return is_result, bytes(self._receive(length, deadline))
        except TimeoutError as failure:
            raise CodecFailed(f"a codec took more than {seconds:.0f} s") from failure
        except OSError as failure:
            raise CodecFailed(self._how_it_ended(seconds)) from failure

    def _receive(self, length: int, deadline: float) -> bytearray:
        """Return exactly `length` bytes; memory grows with what is there, not with the claim."""
        received = bytearray()
        while len(received) < length:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            piece = self._socket.recv(min(_PIECE, length - len(received)))
            if not piece:
                raise ConnectionResetError
            received += piece
        return received

    def _how_it_ended(self, seconds: float) -> str:
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return "a codec stopped answering"
        if code == -signal.SIGALRM:
            return f"a codec took more than {seconds:.0f} s"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        log.warning("a codec worker ended with %s", how)
        return f"a codec ended its process ({how})"

    def kill(self) -> None:
        """End it now and give everything back."""
        with contextlib.suppress(OSError):
            self._socket.close()
        self._process.kill()
        self._process.wait()
