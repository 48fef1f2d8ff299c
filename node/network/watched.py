"""Which events of the hot path somebody is bound to.

pynetdicom hashes an event's name and description to look that up. Here it is looked up when a
handler is bound, not for every PDU.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.association import Association

_PER_PDU: Final = (evt.EVT_PDU_RECV, evt.EVT_DATA_RECV, evt.EVT_FSM_TRANSITION)


@dataclass(frozen=True, slots=True)
class Watched:
    """What somebody wants to be told of, as far as it happens for every message or association."""

    pdu_received: bool = False
    pdu_sent: bool = False
    data_sent: bool = False
    message_received: bool = False
    message_sent: bool = False
    primitives: bool = False
    closing: bool = False


def watched(events: Container[evt.EventType]) -> Watched:
    """Return what is told to somebody where there are handlers for `events`."""
    received = any(event in events for event in _PER_PDU)
    return Watched(
        pdu_received=received,
        # The table's transitions and the bytes tell of both directions.
        pdu_sent=received or evt.EVT_PDU_SENT in events,
        data_sent=evt.EVT_DATA_SENT in events,
        message_received=evt.EVT_DIMSE_RECV in events,
        message_sent=evt.EVT_DIMSE_SENT in events,
        primitives=evt.EVT_ACSE_RECV in events or evt.EVT_ACSE_SENT in events,
        closing=evt.EVT_CONN_CLOSE in events,
    )


def copy_of(handlers: Mapping[evt.EventType, Any]) -> dict[evt.EventType, Any]:
    """Return `handlers`, to bind others without anybody else noticing."""
    return {
        event: list(bound) if isinstance(bound, list) else bound
        for event, bound in handlers.items()
    }


class WatchedAssociation(Association):
    """An association whose handlers are those of others too, until it binds some of its own."""

    watched: Watched

    def share(self, handlers: dict[Any, Any], of_them: Watched) -> None:
        """Have the handlers that others have too, until `bind` makes them its own."""
        self._handlers, self.watched = handlers, of_them

    def bind(
        self, event: evt.EventType, handler: Callable[..., Any], args: list[Any] | None = None
    ) -> None:
        """Bind `handler` to `event`, for this association alone."""
        self._handlers = copy_of(self._handlers)
        super().bind(event, handler, args)
        self.watched = watched(self._handlers)

    def get_handlers(self, event: evt.EventType) -> Any:
        """Return what is bound to `event`: asked for at every step of the state table."""
        return self._handlers.get(event, ())

    def unbind(self, event: evt.EventType, handler: Callable[..., Any]) -> None:
        """Undo `bind`."""
        self._handlers = copy_of(self._handlers)
        super().unbind(event, handler)
        self.watched = watched(self._handlers)
