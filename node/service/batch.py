"""Many files -> many files: a `Rewriter` driven in workers, which are forks of this process.

A fork has imported everything and starts in a millisecond. It takes orders until there are none,
and answers through a pipe of its own: paths are never sent, nor pixels. A worker that dies, be it
of somebody else's codec, costs the one file that it was at: that file is reported broken and stays
as it was, and other workers go on with the rest. This process is one of the workers where all code
is our own; where it is not, it may not be what crashes.

Results come in the order in which they are done. Raises `CannotWrite` from the rewriter; what is
under way is finished before.
"""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import select
import signal
import struct
import warnings
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from node.errors import CannotWrite
from node.pixels import rle
from node.reasons import KeepReason
from node.service.places import Task
from node.service.rewriting import Broken, NotDicom, Result, Rewriter, Same, Smaller

Done: TypeAlias = tuple[Task, Result]

#: So many orders fit every pipe at once, so that giving them never waits for a worker.
_MOST_ORDERS = 1000
_ORDER = struct.Struct("<L")
_PIECE = 1 << 16


@contextlib.contextmanager
def started(rewriter: Rewriter, tasks: Sequence[Task], jobs: int) -> Iterator[Iterator[Done]]:
    """Begin to rewrite files, `jobs` at one time; give what yields what became of each.

    When the context ends early, workers finish the files they are at and begin no other.
    """
    jobs = min(jobs, len(tasks))
    if jobs == 0 or (jobs == 1 and not needs_processes(rewriter)):
        yield ((task, rewriter.rewrite(task)) for task in tasks)
        return
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(_Workers(rewriter, tasks, jobs))
        yield _in_workers(rewriter, tasks, jobs, first, stack)


def needs_processes(rewriter: Rewriter) -> bool:
    """Tell whether code that we do not trust is at work: it may crash."""
    ours = rewriter.options.encoder == "dcmpress" and rle.KERNEL == "dcmpress"
    return rewriter.transcode or not ours


def _in_workers(
    rewriter: Rewriter,
    tasks: Sequence[Task],
    jobs: int,
    workers: _Workers,
    stack: contextlib.ExitStack,
) -> Iterator[Done]:
    """Yield what the workers answer; where some die, start others for what is left."""
    while True:
        left = set(range(len(tasks)))
        for number, result in workers.answers():
            left.discard(number)
            yield tasks[number], result
        for number in [number for number in left if workers.begun[number]]:
            left.discard(number)
            rewriter.keep(tasks[number])
            cause = "the process that worked on it died; it stays as it was"
            yield tasks[number], Broken(cause)
        if not left:
            return
        tasks = [tasks[number] for number in sorted(left)]
        workers = stack.enter_context(_Workers(rewriter, tasks, min(jobs, len(tasks))))


class _Workers:
    """Forks that work off `tasks`, each of which is known by its number."""

    def __init__(self, rewriter: Rewriter, tasks: Sequence[Task], jobs: int) -> None:
        self._rewriter = rewriter
        self._tasks = tasks
        #: A byte for each task, shared with the workers: whether one began with it.
        self.begun = mmap.mmap(-1, len(tasks))
        self._works_too = not needs_processes(rewriter)
        self._chunk = -(-len(tasks) // _MOST_ORDERS)
        self._orders, given = os.pipe()
        for first in range(0, len(tasks), self._chunk):
            os.write(given, _ORDER.pack(first))
        os.close(given)
        gc.freeze()  # so that workers share what there is: collecting would write to all of it
        #: Where each worker answers, and its process.
        self._running: dict[int, int] = {}
        for _ in range(jobs - self._works_too):
            self._fork()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the workers finish what they are at, and wait for that."""
        while os.read(self._orders, _PIECE):
            pass
        os.close(self._orders)
        for answers in list(self._running):
            self._wait(answers)

    def answers(self) -> Iterator[tuple[int, Result]]:
        """Yield the number of each finished task and its result, until no worker is left."""
        poll = select.poll()
        unread = {answers: bytearray() for answers in self._running}
        for answers in unread:
            poll.register(answers, select.POLLIN)
        if self._works_too:
            for number in self._ordered():
                yield number, self._rewriter.rewrite(self._tasks[number])
                yield from self._read(poll, unread, wait=False)
        while self._running:
            yield from self._read(poll, unread, wait=True)

    def _read(
        self, poll: select.poll, unread: dict[int, bytearray], wait: bool
    ) -> Iterator[tuple[int, Result]]:
        """Yield what there is of answers; `wait` until there is one."""
        for answers, _ in poll.poll(None if wait else 0):
            piece = os.read(answers, _PIECE)
            unread[answers] += piece
            yield from _taken(unread[answers])
            if not piece:
                poll.unregister(answers)
                self._wait(answers)

    def _ordered(self) -> Iterator[int]:
        """Take orders until there are none; yield the numbers of the tasks."""
        while order := os.read(self._orders, _ORDER.size):
            (first,) = _ORDER.unpack(order)
            for number in range(first, min(first + self._chunk, len(self._tasks))):
                self.begun[number] = 1
                yield number

    def _fork(self) -> None:
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                self._work(writing)
            finally:
                os._exit(0)  # nothing of the parent's is flushed or cleared away twice
        os.close(writing)
        self._running[reading] = process

    def _wait(self, answers: int) -> None:
        os.close(answers)
        os.waitpid(self._running.pop(answers), 0)

    def _work(self, answers: int) -> None:
        """Answer until there are no orders: this is the worker's whole life."""
        # Ctrl-C is for the parent, which lets the files under way be finished.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        warnings.simplefilter("ignore")  # pydicom's, of what is odd in a file
        for number in self._ordered():
            if not self._answer(answers, number):
                return

    def _answer(self, answers: int, number: int) -> bool:
        """Work one task off; False where the next one would be in vain."""
        result: Result | CannotWrite
        try:
            result = self._rewriter.rewrite(self._tasks[number])
        except CannotWrite as failure:
            result = failure
        rest = memoryview(_told(number, result))
        try:
            while rest:
                rest = rest[os.write(answers, rest) :]
        except BrokenPipeError:  # nobody wants to know any more
            return False
        return not isinstance(result, CannotWrite)


def _taken(unread: bytearray) -> Iterator[tuple[int, Result]]:
    """Take the whole answers from the beginning of `unread`; each is a line."""
    *lines, rest = bytes(unread).split(b"\n")
    unread[:] = rest
    for line in lines:
        yield _heard(line)


def _told(number: int, result: Result | CannotWrite) -> bytes:
    """Return an answer as a worker sends it."""
    fields = [str(result)] if isinstance(result, CannotWrite) else result
    return json.dumps([number, type(result).__name__, *fields]).encode() + b"\n"


def _heard(answer: bytes) -> tuple[int, Result]:
    """Return what a worker told; raises `CannotWrite` where that is what it met."""
    number, kind, *fields = json.loads(answer)
    match kind:
        case "CannotWrite":
            raise CannotWrite(*fields)
        case "Smaller":
            return number, Smaller(*fields)
        case "Same":
            reason, size, detail = fields
            return number, Same(KeepReason(reason), size, detail)
        case "NotDicom":
            return number, NotDicom(*fields)
        case _:
            return number, Broken(*fields)
