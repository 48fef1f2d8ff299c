"""The deliverer: hands received entries to destinations, and drives one loop for each.

It trusts nothing but the spool: whatever stopped it, it goes on where the folders say. One
destination that is down delays nobody.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time

from node.delivery.calls import Calls
from node.delivery.loop import Loop
from node.delivery.progress import Progress
from node.events import Witness
from node.service.audit import Trail
from node.service.bell import Bell
from node.service.destinations import (
    backoff_of,
    codec_workers,
    driven_destinations,
    lanes,
    queued_destinations,
)
from node.service.syslog import Sender
from node.settings import DiskDestination, NetworkDestination, Settings
from node.spool import Indexer, Spool, State

log = logging.getLogger(__name__)

#: How long the deliverer waits for the bell before it looks by itself, in seconds.
_LOOK_EVERY = 1.0
#: So many received entries are queued with one sync of each queue.
_AT_ONCE = 1000
#: How often it looks after what receivers that are gone have left, in seconds.
_TAKE_OVER_EVERY = 10.0


class Deliverer:
    """The delivering half of a node: call `start`, later `stop`."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        bell: Bell,
        trail: Trail,
        witness: Witness,
    ) -> None:
        self._spool = spool
        self._bell = bell
        self._stop = threading.Event()
        self._workers = codec_workers(settings)
        self._index = Indexer(spool)
        self._loops = {
            destination.name: self._loop(settings, destination, witness)
            for destination in driven_destinations(settings)
        }
        self._fans_out_to = [destination.name for destination in queued_destinations(settings)]
        self._threads: list[threading.Thread] = []
        self._audit = (
            Sender(trail, settings.audit, settings.node.ae_title, spool.disk)
            if settings.audit.syslog
            else None
        )

    def _loop(
        self,
        settings: Settings,
        destination: DiskDestination | NetworkDestination,
        witness: Witness,
    ) -> Loop:
        calls = Calls()
        return Loop(
            lanes=lanes(settings, destination, self._spool, self._workers, calls, witness),
            spool=self._spool,
            backoff=backoff_of(destination),
            stop=self._stop,
            memory=self._index,
            calls=calls,
        )

    @property
    def progress(self) -> dict[str, Progress]:
        """What each destination's loop has done."""
        return {name: loop.progress for name, loop in self._loops.items()}

    def start(self) -> None:
        """Make the queues and begin."""
        for name in self._loops:
            self._spool.add_destination(name)
        for name in set(self._spool.destinations()) - set(self._loops):
            if self._spool.count(State.QUEUED, name).entries:
                log.warning(
                    "entries wait for destination %s, which is not configured any more: "
                    "configure it again to deliver them",
                    name,
                )
        for name, loop in self._loops.items():
            self._begin(threading.Thread(target=loop.run, name=f"deliver-{name}"))
        self._begin(threading.Thread(target=self._fan_out_forever, name="fan-out"))
        if self._audit is not None:
            self._audit.start()

    def stop(self) -> None:
        """Finish what is under way and stop; what is queued stays for the next start."""
        self._stop.set()
        self._bell.ring()
        for loop in self._loops.values():
            loop.ring()
        for thread in self._threads:
            thread.join()
        self._index.close()
        self._workers.close()
        if self._audit is not None:
            self._audit.stop()

    @property
    def is_alive(self) -> bool:
        """Tell whether every loop is still running."""
        return all(thread.is_alive() for thread in self._threads)

    def _begin(self, thread: threading.Thread) -> None:
        thread.daemon = True
        thread.start()
        self._threads.append(thread)

    def _fan_out_forever(self) -> None:
        due = 0.0
        while not self._stop.is_set():
            try:
                self._fan_out()
                if time.monotonic() >= due and self._take_over():
                    due = time.monotonic() + _TAKE_OVER_EVERY
            except OSError as failure:
                log.error("cannot queue what was received: %s; trying again", failure)
            if self._bell.wait(_LOOK_EVERY):
                self._bell.gather(self._stop)

    def _take_over(self) -> bool:
        """Look after what receivers that are gone were writing; return whether that is all."""
        found = self._spool.take_over()
        if found.adopted or found.removed:
            log.info(
                "of receivers that are gone: %d whole instances go on, %d incomplete ones removed",
                found.adopted,
                found.removed,
            )
        if found.adopted:
            self._bell.ring()
        return found.is_all

    def _fan_out(self) -> None:
        received = self._spool.received()
        while entries := list(itertools.islice(received, _AT_ONCE)):
            self._spool.fan_out(entries, self._fans_out_to)
            self._ring_loops()
        # A relay that could not be reached has queued by itself.
        self._ring_loops()

    def _ring_loops(self) -> None:
        for loop in self._loops.values():
            loop.ring()
