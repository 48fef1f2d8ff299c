"""A whole node inside this program: for a test, a demonstration, or a program that embeds one.

    from node import Node

    with Node(settings, on_event=print) as node:
        ...                       # node.address is where it listens

`on_event` hears of each instance that was taken (`model.Stored`), once it is safe, and of what the
audit trail records (`events.Event`). It is called from the threads that do the work: it should
return soon; what it raises is logged and changes nothing.

It is the receiver and the deliverer of the service without their processes: the same code, the
same spool, the same promises, at the speed of one process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from node.delivery.progress import Progress
from node.events import Event
from node.model import Stored
from node.network.tally import Tally
from node.service.audit import open_trail
from node.service.bell import Bell
from node.service.deliverer import Deliverer
from node.service.doors import Doors
from node.service.receiver import Receiver
from node.service.startable import require_startable
from node.settings import Settings
from node.spool import Disk, Durability, Spool

log = logging.getLogger(__name__)


def open_spool(settings: Settings, *, create: bool = False) -> Spool:
    """Return the spool that `settings` name; raises `CannotWrite`."""
    disk = Disk(Durability(settings.spool.durability))
    return Spool(settings.node.state_directory / "spool", disk, create=create)


class Node:
    """A running node. `start` raises `CannotWrite` for a spool or a port that is taken and
    `BadConfiguration` for an encoder that is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        on_event: Callable[[Event | Stored], object] = lambda _: None,
    ) -> None:
        self.settings = settings
        self._on_event = on_event
        self._stop_drain_seconds = 30.0
        self._started = ExitStack()

    def start(self) -> Node:
        """Recover what an earlier run left, listen and deliver; a failure gives everything back."""
        require_startable(self.settings)
        with ExitStack() as started:
            self.spool = open_spool(self.settings, create=True)
            started.callback(os.close, self.spool.lock())
            self.spool.recover()
            bell = Bell.make()
            started.callback(bell.close)
            trail = open_trail(self.settings)
            started.callback(trail.close)

            def witness(event: Event) -> None:
                trail.record(event)
                self._tell(event)

            self._deliverer = Deliverer(self.settings, self.spool, bell, trail, witness)
            self._receiver = Receiver(self.settings, self.spool, bell, witness, self._tell)
            started.callback(self._deliverer.stop)
            self._deliverer.start()
            doors = Doors.open(self.settings, {})
            started.callback(doors.close)
            addresses = doors.addresses
            started.callback(self._receiver.stop, self._stop_drain_seconds)
            self._receiver.start(doors)
            self.address = addresses[0][:2]
            self.tls_address = next((where[:2] for where in addresses if where[2]), None)
            self._started = started.pop_all()
        return self

    def stop(self) -> None:
        """Let running associations finish, stop delivering, and give everything back."""
        self._started.close()

    def _tell(self, event: Event | Stored) -> None:
        try:
            self._on_event(event)
        except Exception:
            log.exception("what listens to the node's events failed")

    @property
    def tally(self) -> Tally:
        """What was received since the start."""
        return self._receiver.tally

    @property
    def progress(self) -> dict[str, Progress]:
        """What was delivered, by destination, since the start."""
        queued, relayed = self._deliverer.progress, self._receiver.progress
        return {
            name: queued.get(name, Progress()).plus(relayed.get(name, Progress()))
            for name in queued | relayed
        }

    def __enter__(self) -> Node:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
