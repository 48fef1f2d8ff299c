"""An entry while it is written, from `Spool.begin` or `Spool.arrive` to its commit.

Both are contexts that leave nothing behind unless committed. They differ in how the name becomes
durable: `Draft` is renamed and the folder synced; `Arrival` has a durable name from the start
(`arriving.py`) and gets a second one that tells the deliverer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from node.spool.durable import Disk
from node.spool.entries import Entry
from node.spool.states import State, Step, after


class Incoming:
    """A file that is being written, and the place it gets when it is whole."""

    def __init__(self, path: Path, descriptor: int, place: Path, disk: Disk) -> None:
        self.path = path
        self.file = open(descriptor, "w+b", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._place = place
        self._disk = disk
        self._is_committed = False
        self._may_have_place = False

    def commit(self) -> Entry:
        """Make the entry durable and give it its place; when this returns, Success may be said."""
        self._disk.sync_file(self.file.fileno())
        self._may_have_place = True
        try:
            self._give_place()
        except OSError:
            # Its name may be there and not be durable: what is answered with a failure must go.
            self._disk.remove(self._place)
            raise
        self._is_committed = True
        return Entry(self._place.name, State.RECEIVED, self._place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not self._is_committed:
                self._discard()
        finally:
            # What was synced is safe whatever close says.
            with contextlib.suppress(OSError):
                self.file.close()

    def _give_place(self) -> None:
        raise NotImplementedError

    def _discard(self) -> None:
        raise NotImplementedError


class Draft(Incoming):
    """In `incoming`: nothing was promised of it before it is elsewhere."""

    def queue(self, destinations: Collection[str]) -> None:
        """Make the entry durable in the queues of these destinations alone, which must exist.

        When this returns, Success may be said. Where it raises OSError the entry may be in some of
        them, and then goes to those though its sender was told otherwise: the same content again.
        """
        state = after(State.INCOMING, Step.QUEUE)
        assert state is not None
        self._disk.sync_file(self.file.fileno())
        queues = [self._place.parent.parent / state / name for name in destinations]
        for folder in queues:
            self._disk.link(self.path, folder / self._place.name)
            self._disk.sync_folder(folder)
        self._is_committed = True
        self._disk.remove(self.path)

    def _give_place(self) -> None:
        assert after(State.INCOMING, Step.COMMIT) is State.RECEIVED
        self._disk.move(self.path, self._place)

    def _discard(self) -> None:
        assert after(State.INCOMING, Step.DISCARD) is None
        self._disk.remove(self.path)


class Arrival(Incoming):
    """In `arriving`: kept by whoever finds it whole."""

    def _give_place(self) -> None:
        assert after(State.ARRIVING, Step.COMMIT) is State.RECEIVED
        # Not synced: the name in `arriving` is durable, and stays until the queues' names are.
        self._disk.link(self.path, self._place)

    def _discard(self) -> None:
        assert after(State.ARRIVING, Step.DISCARD) is None
        # Nobody may find it whole, not even after a power cut that undoes the removal.
        with contextlib.suppress(OSError):
            os.ftruncate(self.file.fileno(), 0)
        self._disk.remove(self.path)
        self._disk.sync_folder(self.path.parent)
        if self._may_have_place:
            self._disk.sync_folder(self._place.parent)
