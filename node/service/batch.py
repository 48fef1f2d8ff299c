"""Many files -> many files: a `Rewriter` driven in threads or in processes.

Threads serve where our own kernel does the work, which releases the GIL, and the files are few:
they start at once. Processes serve where the files are many, and always where somebody else's
codec is at work, for it may hold the GIL or crash. A worker that dies costs the one file it died
of, which is found by trying alone each of those that were under way; that file is reported broken,
stays as it was, and the rest goes on.

Paths go to the workers and results come back, never pixels. Results come in the order in which
they are done. Raises `CannotWrite` from the rewriter; what is under way is finished before.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from typing import TypeAlias

from node.pixels import rle
from node.service.places import Task
from node.service.rewriting import Broken, Result, Rewriter

Done: TypeAlias = tuple[Task, Result]

#: Fewer files than this are done by threads before processes have imported what they need.
PROCESSES_FROM = 1000
#: Files that a worker is given at one time: enough to hide what the giving costs.
_CHUNK = 16
#: Chunks that wait in a worker's queue, so that it never waits for us.
_AHEAD = 2


def run(rewriter: Rewriter, tasks: Sequence[Task], jobs: int) -> Iterator[Done]:
    """Rewrite files, `jobs` at one time, and yield what became of each."""
    if needs_processes(rewriter):
        yield from _in_processes(rewriter, tasks, jobs, chunk=1)
    elif jobs > 1 and len(tasks) >= PROCESSES_FROM:
        yield from _in_processes(rewriter, tasks, jobs, chunk=_CHUNK)
    elif jobs > 1 and len(tasks) > 1:
        yield from _in_threads(rewriter, tasks, jobs)
    else:
        yield from ((task, rewriter.rewrite(task)) for task in tasks)


def needs_processes(rewriter: Rewriter) -> bool:
    """Tell whether code that we do not trust is at work."""
    ours = rewriter.options.encoder == "dcmpress" and rle.KERNEL == "dcmpress"
    return rewriter.transcode or not ours


def _in_threads(rewriter: Rewriter, tasks: Sequence[Task], jobs: int) -> Iterator[Done]:
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from zip(tasks, pool.map(rewriter.rewrite, tasks), strict=True)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_processes(
    rewriter: Rewriter, tasks: Sequence[Task], jobs: int, chunk: int
) -> Iterator[Done]:
    waiting = deque(_chunks(tasks, chunk))
    jobs = min(jobs, len(waiting))
    while waiting:
        suspects: list[Task] = []
        yield from _until_a_worker_dies(rewriter, waiting, jobs, suspects)
        yield from _one_by_one(rewriter, suspects)


def _until_a_worker_dies(
    rewriter: Rewriter, waiting: deque[list[Task]], jobs: int, suspects: list[Task]
) -> Iterator[Done]:
    """Work `waiting` off; where a worker dies, leave what was under way in `suspects`."""
    pool = _pool(jobs)
    running: dict[Future[list[Result]], list[Task]] = {}
    try:
        while (waiting and not suspects) or running:
            while waiting and not suspects and len(running) < jobs * _AHEAD:
                tasks = waiting.popleft()
                try:
                    running[pool.submit(_rewrite_all, rewriter, tasks)] = tasks
                except BrokenProcessPool:
                    suspects += tasks
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                tasks = running.pop(future)
                try:
                    yield from zip(tasks, future.result(), strict=True)
                except BrokenProcessPool:
                    suspects += tasks
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_by_one(rewriter: Rewriter, suspects: Iterable[Task]) -> Iterator[Done]:
    """Find the file that a worker died of: each has a process to itself."""
    for task in suspects:
        with _pool(1) as pool:
            try:
                [result] = pool.submit(_rewrite_all, rewriter, [task]).result()
            except BrokenProcessPool:
                rewriter.keep(task)
                result = Broken("the process that worked on it died; it stays as it was")
        yield task, result


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Return processes that begin with what they need, imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    # The server preloads the package that runs, not one that lies in the working directory.
    os.environ["PYTHONSAFEPATH"] = "1"
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker)


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, which lets the files under way be finished; and be quiet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # pydicom's, of what is odd in a file


def _rewrite_all(rewriter: Rewriter, tasks: list[Task]) -> list[Result]:
    return [rewriter.rewrite(task) for task in tasks]


def _chunks(tasks: Sequence[Task], size: int) -> Iterator[list[Task]]:
    each = iter(tasks)
    while chunk := list(itertools.islice(each, size)):
        yield chunk
