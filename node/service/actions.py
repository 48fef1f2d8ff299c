"""What the buttons of the page do: echo, pause, resume, wake, retry, drop.

Each is a plain function of the queues or of `Echoes`; destinations and entries are looked up among
those there are, so that nothing from the wire becomes a path. What was done, or could not be, is a
sentence, recorded in the audit trail and remembered for the page. Raises nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.errors import NodeError
from node.events import QueueAction, Witness
from node.service import queues
from node.service.observer import Observer
from node.settings import Settings
from node.spool import Spool

log = logging.getLogger(__name__)

#: Longer than a person needs to read a sentence, in seconds.
_SHOWN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Notice:
    """What came of an action. `at` is Unix time."""

    at: float
    text: str
    is_well: bool


class Actions:
    """The actions on one spool. Safe to share; one after the other."""

    def __init__(
        self, spool: Spool, observer: Observer, settings: Settings, witness: Witness
    ) -> None:
        self._spool = spool
        self._observer = observer
        self.take_settings(settings, witness)
        self._lock = threading.Lock()
        self._last: Notice | None = None
        self._doers: dict[str, Callable[[str, Sequence[str] | None], tuple[int, str]]] = {
            "echo": self._echo,
            "pause": self._pause,
            "resume": self._resume,
            "wake": self._wake,
            "retry": self._retry,
            "drop": self._drop,
        }

    def take_settings(self, settings: Settings, witness: Witness) -> None:
        """Use new settings from now on, and another trail."""
        self._settings = settings
        self._witness = witness

    @property
    def notice(self) -> Notice | None:
        """What came of the last action, for a minute."""
        last = self._last
        return last if last is not None and time.time() - last.at < _SHOWN_SECONDS else None

    def do(self, action: str, destination: str, entry: str = "", *, by: str) -> Notice:
        """Do it: for one entry, or without a name for the destination as a whole."""
        if action not in self._doers or destination not in self._names():
            return self._note(f"there is no {action or 'action'} of {destination}", is_well=False)
        try:
            count, text = self._doers[action](destination, [entry] if entry else None)
            well = True
        except (NodeError, OSError) as failure:
            count, text, well = 0, f"{action} {destination}: {failure}", False
        self._observer.counts.forget()
        self._witness(QueueAction(action=action, destination=destination, instances=count, by=by))
        log.info("%s: %s", by, text)
        return self._note(text, is_well=well)

    def _names(self) -> list[str]:
        return [each.name for each in self._settings.destinations]

    def _note(self, text: str, *, is_well: bool) -> Notice:
        self._last = Notice(time.time(), text, is_well)
        return self._last

    def _echo(self, name: str, _: Sequence[str] | None) -> tuple[int, str]:
        settings = self._settings
        [destination] = [each for each in settings.destinations if each.name == name]
        echo = self._observer.echoes.ask(settings, destination)
        if echo.error:
            raise NodeError(echo.error)
        return 0, f"{name} answered in {1000 * echo.seconds:.0f} ms"

    def _pause(self, name: str, _: Sequence[str] | None) -> tuple[int, str]:
        queues.pause(self._spool, name)
        return 0, f"{name} is paused: what comes for it waits here"

    def _resume(self, name: str, _: Sequence[str] | None) -> tuple[int, str]:
        queues.resume(self._spool, name)
        return 0, f"{name} goes on"

    def _wake(self, name: str, _: Sequence[str] | None) -> tuple[int, str]:
        queues.wake(self._spool, name)
        return 0, f"{name} is tried now"

    def _retry(self, name: str, entries: Sequence[str] | None) -> tuple[int, str]:
        with self._lock:
            return self._told(queues.retry(self._spool, name, entries), f"queued for {name} again")

    def _drop(self, name: str, entries: Sequence[str] | None) -> tuple[int, str]:
        with self._lock:
            return self._told(queues.drop(self._spool, name, entries), f"for {name} dropped")

    @staticmethod
    def _told(done: queues.Done, what: str) -> tuple[int, str]:
        if done.refused:
            raise NodeError("; ".join(done.refused.values()))
        count = done.changed
        return count, f"{'1 instance' if count == 1 else f'{count:,} instances'} {what}"
