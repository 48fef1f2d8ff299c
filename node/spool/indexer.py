"""Keeps the spool's index, on a thread of its own, so that nobody ever waits for it.

`note` and `forget` only leave word. The thread begins with the first word, and with `recall` where
the index is not what it should be; a node in which nothing fails has neither thread nor file.

Nothing raises. Whatever is wrong with the file is logged once; it is thrown away and made anew from
the reasons beside the failed entries, and tried again every `again_seconds` where that fails too.
Of entries that wait then, the next failure is known again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator

from node.spool.entries import FailedEntry
from node.spool.index import COMPANIONS, NAME, ROWS, Changes, Index, Tried, Unusable, read
from node.spool.spool import Spool
from node.spool.states import State

log = logging.getLogger(__name__)

#: How long an index that cannot be made is left alone.
_AGAIN_SECONDS = 10.0
#: A stop waits so long for what is still to be written.
_STOP_SECONDS = 2.0


class Indexer:
    """The index of one spool, for the process that delivers. Safe to share between threads."""

    def __init__(self, spool: Spool, *, again_seconds: float = _AGAIN_SECONDS) -> None:
        self._spool = spool
        self._again_seconds = again_seconds
        #: Guards the five below, and tells that there is something to do.
        self._changed = threading.Condition()
        self._pending: dict[tuple[str, str], Tried | None] = {}
        self._is_asked = False
        self._doubt: Unusable | None = None
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        # The thread's own.
        self._index: Index | None = None
        self._works = True

    def recall(self, destination: str) -> list[Tried]:
        """Return what is known of entries that wait; forget those that are no longer there."""
        try:
            known = read(self._spool.root, destination)
        except Unusable as failure:
            self._wake(failure)
            return []
        waiting = []
        for tried in known:
            if self._spool.find(tried.state, destination, tried.name) is None:
                self.forget(destination, tried.name)
            elif tried.state is State.QUEUED:
                waiting.append(tried)
        if not known:
            self._wake()
        return waiting

    def note(self, tried: Tried) -> None:
        """Remember that an entry failed."""
        self._leave_word(tried.destination, tried.name, tried)

    def forget(self, destination: str, name: str) -> None:
        """Forget an entry that failed and has left since."""
        self._leave_word(destination, name, None)

    def close(self) -> None:
        """Write what is still to be written, where that is possible soon."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(_STOP_SECONDS)

    def _leave_word(self, destination: str, name: str, tried: Tried | None) -> None:
        with self._changed:
            # An index that could not be written for long need not have everything.
            if len(self._pending) < ROWS or (destination, name) in self._pending:
                self._pending[destination, name] = tried
        self._wake()

    def _wake(self, doubt: Unusable | None = None) -> None:
        with self._changed:
            self._is_asked = True
            self._doubt = doubt or self._doubt
            self._changed.notify_all()
            if self._thread is None and not self._is_stopped:
                thread = threading.Thread(target=self._run, name="index", daemon=True)
                # Without a thread there is no index: delivery goes on.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        is_stopped = False
        while not is_stopped:
            changes, doubt, is_stopped = self._next()
            if doubt is not None:
                self._throw_away(doubt)
            if not self._write(changes):
                self._put_back(changes)
        if self._index is not None:
            self._index.close()

    def _next(self) -> tuple[Changes, Unusable | None, bool]:
        """Wait for something to do; after a failure for the time that it is left alone."""
        with self._changed:
            if not self._works:
                until = time.monotonic() + self._again_seconds
                while not self._is_stopped and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
            while not (self._is_asked or self._is_stopped):
                self._changed.wait()
            changes, self._pending = self._pending, {}
            doubt, self._doubt = self._doubt, None
            self._is_asked = False
            return changes, doubt, self._is_stopped

    def _put_back(self, changes: Changes) -> None:
        with self._changed:
            # Of what came meanwhile there may be as much again.
            both = {**changes, **self._pending}
            self._pending = dict(itertools.islice(both.items(), ROWS))
            self._is_asked = True

    def _write(self, changes: Changes) -> bool:
        """Write what changed, if need be into an index made anew; False where that fails too."""
        for _ in range(2):
            try:
                self._try_to_write(changes)
            except Exception as failure:
                self._throw_away(failure)
            else:
                if not self._works:
                    log.info("the spool's index is there again")
                self._works = True
                return True
        return False

    def _try_to_write(self, changes: Changes) -> None:
        if not self._spool.is_mounted():
            raise Unusable("the spool is not there")
        if self._index is None:
            is_new = not os.path.lexists(self._spool.root / NAME)
            reasons = self._reasons() if is_new else {}
            if is_new and not reasons and not changes:
                return
            self._index = Index(self._spool.root)
            self._index.apply(reasons)
        self._index.apply(changes)

    def _reasons(self) -> Changes:
        """Return what the files beside the failed entries say."""
        failed = itertools.islice(self._failed(), ROWS)
        return {
            (each.entry.destination, each.entry.name): Tried(
                destination=each.entry.destination,
                name=each.entry.name,
                state=State.FAILED,
                tries=each.tries,
                cause=each.cause,
            )
            for each in failed
        }

    def _failed(self) -> Iterator[FailedEntry]:
        for destination in self._spool.destinations():
            for failed in self._spool.failed(destination):
                if self._is_stopped:
                    return
                yield failed

    def _throw_away(self, failure: Exception) -> None:
        if self._works:
            log.warning("the spool's index cannot be used (%s): it is made anew", failure)
        self._works = False
        if self._index is not None:
            self._index.close()
            self._index = None
        if not self._spool.is_mounted():
            return
        path = self._spool.root / NAME
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                self._set_aside()
            for name in (NAME, *(f"{NAME}{ending}" for ending in COMPANIONS)):
                self._spool.disk.remove(self._spool.root / name)

    def _set_aside(self) -> None:
        """Make room where a folder lies; what somebody put into it is kept."""
        path = self._spool.root / NAME
        try:
            path.rmdir()
        except OSError:
            self._spool.disk.move(path, path.with_name(f"{NAME}.{time.time_ns()}"))
