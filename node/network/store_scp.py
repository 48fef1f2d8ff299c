"""The storage and verification SCP: what a requestor may ask for, and what it is answered.

Each instance is handed to `receive`, which returns when the instance is safe and raises
`InstanceRefused` where it is not taken; the requestor gets Success or that failure's status, with
its sentence as Error Comment. One line is logged for each association, none for each instance.

Whoever calls the wrong AE title gets A-ASSOCIATE-RJ (1,1,7), who is not allowed to send (1,1,3),
and while the disk is too full (2,3,1): PS3.8 9.3.4.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from pydicom.dataset import Dataset
from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.presentation import PresentationContext, build_context

from node.dicom import status
from node.dicom.contexts import VERIFICATION, accepts, in_preferred_order
from node.errors import InstanceRefused
from node.model import Compressed, Origin, Received, Stored
from node.network.data_set import ReceivedData
from node.network.dimse import received_data
from node.network.limits import Limits
from node.network.server import Server, listen

log = logging.getLogger(__name__)

#: What takes an instance: returns when it is safe, raises `InstanceRefused` where it is not taken.
Receive: TypeAlias = Callable[[Received, ReceivedData], "Answer"]

#: Error Comment (0000,0902) is an LO: 64 characters (PS3.7 Annex E).
_COMMENT_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What the requestor is told."""

    status: int = status.SUCCESS
    comment: str = ""
    stored: Stored | None = None

    @property
    def is_taken(self) -> bool:
        """Tell whether the requestor is told that the instance was taken, if with a warning."""
        taken = (status.Category.SUCCESS, status.Category.WARNING)
        return status.category(self.status) in taken


@dataclass(slots=True)
class Tally:
    """What was received, counted; add to it under the lock of whoever shares it."""

    associations: int = 0
    rejected: int = 0
    instances: int = 0
    refused: int = 0
    compressed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    kept: dict[str, int] = field(default_factory=dict)

    def count(self, answer: Answer) -> None:
        """Add one instance that was answered."""
        stored = answer.stored
        if stored is None or not answer.is_taken:
            self.refused += 1
            return
        self.instances += 1
        self.bytes_in += stored.received.byte_count
        if isinstance(stored, Compressed):
            self.compressed += 1
            self.bytes_out += stored.byte_count
        else:
            self.bytes_out += stored.received.byte_count
            self.kept[stored.reason.value] = self.kept.get(stored.reason.value, 0) + 1


class Admission(Protocol):
    """Who may send, and when."""

    def admits(self, calling_ae_title: str, address: str) -> bool:
        """Tell whether this peer may send."""

    def has_room(self) -> bool:
        """Tell whether there is disk space for more."""


class StoreSCP:
    """Answers the associations of one listening address."""

    def __init__(self, ae_title: str, receive: Receive, admission: Admission) -> None:
        self._ae_title = ae_title
        self._receive = receive
        self._admission = admission
        self._lock = threading.Lock()
        # Everything since the start, and what each running association has sent.
        self._total = Tally()
        self._running: dict[Any, tuple[float, Tally]] = {}

    def listen(
        self,
        address: tuple[str, int] | socket.socket,
        *,
        limits: Limits,
        spill: Path,
        ssl_context: ssl.SSLContext | None = None,
        share_port: bool = False,
    ) -> Server:
        """Start listening; raises `CannotWrite` where the port is taken."""
        return listen(
            address=address,
            ae_title=self._ae_title,
            handlers=[
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_ESTABLISHED, self._established),
                (evt.EVT_CONN_CLOSE, self._ended),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_ECHO, self._echo),
            ],
            contexts=[build_context(VERIFICATION)],
            limits=limits,
            spill=spill,
            ssl_context=ssl_context,
            require_called_aet=False,
            share_port=share_port,
        )

    @property
    def tally(self) -> Tally:
        """What was received since the start; a copy."""
        with self._lock:
            return replace(self._total, kept=dict(self._total.kept))

    def _requested(self, event: Any) -> None:
        """Decide on an A-ASSOCIATE-RQ before pynetdicom negotiates it."""
        assoc = event.assoc
        refusal = self._refusal(origin_of(assoc))
        if refusal is None:
            assoc.acceptor.supported_contexts = _supported(assoc.requestor.requested_contexts)
            return
        code, why = refusal
        log.warning("%s rejected: %s", _name(assoc), why)
        with self._lock:
            self._total.rejected += 1
        assoc.acse.send_reject(*code)

    def _refusal(self, origin: Origin) -> tuple[tuple[int, int, int], str] | None:
        """Return the A-ASSOCIATE-RJ code and the reason with its mend; None to accept."""
        if origin.called_ae_title != self._ae_title:
            return (1, 1, 7), (
                f"called AE title {origin.called_ae_title} is not ours, we are {self._ae_title}; "
                "change it at the sender, or node.ae_title here"
            )
        if not self._admission.admits(origin.calling_ae_title, origin.address):
            return (1, 1, 3), (
                "not in the list of peers; add a [[peer]] with this AE title and address"
            )
        if not self._admission.has_room():
            return (2, 3, 1), "free disk space is below the reserve; make room"
        return None

    def _established(self, event: Any) -> None:
        with self._lock:
            self._total.associations += 1
            self._running[event.assoc] = (time.monotonic(), Tally())
        event.assoc.on_refused = lambda: self._count(event.assoc, Answer(status.PROCESSING_FAILURE))

    def _count(self, assoc: Any, answer: Answer) -> None:
        with self._lock:
            self._total.count(answer)
            if assoc in self._running:
                self._running[assoc][1].count(answer)

    def _ended(self, event: Any) -> None:
        """Log the one line of an association."""
        event.assoc.on_refused = None
        with self._lock:
            since, tally = self._running.pop(event.assoc, (0.0, None))
        if tally is None:
            return
        seconds = max(time.monotonic() - since, 1e-6)
        log.info(
            "%s sent %d instances, %d refused, %d compressed, %.1f MB -> %.1f MB, %.1f MB/s",
            _name(event.assoc),
            tally.instances,
            tally.refused,
            tally.compressed,
            tally.bytes_in / 1e6,
            tally.bytes_out / 1e6,
            tally.bytes_in / 1e6 / seconds,
        )

    def _store(self, event: Any) -> Dataset:
        request = event.request
        received = Received(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            byte_count=0,
            origin=origin_of(event.assoc),
        )
        answer = self._answer(event, received)
        self._count(event.assoc, answer)
        if not answer.is_taken:
            log.warning(
                "%s: %s answered with %s: %s",
                _name(event.assoc),
                received.sop_instance_uid,
                status.describe(answer.status),
                answer.comment,
            )
        return _response(answer)

    def _answer(self, event: Any, received: Received) -> Answer:
        try:
            return self._receive(received, received_data(event))
        except InstanceRefused as failure:
            return Answer(failure.dimse_status, str(failure))
        except Exception:
            # A defect of ours must not cost the association its other instances.
            log.exception("%s: an instance could not be received", _name(event.assoc))
            return Answer(status.PROCESSING_FAILURE, "internal error")

    @staticmethod
    def _echo(_: Any) -> int:
        return status.SUCCESS


def _name(assoc: Any) -> str:
    """Return who is at the other end, as every log line of an association begins."""
    origin = origin_of(assoc)
    return f"{origin.calling_ae_title}@{origin.address}"


def origin_of(assoc: Any) -> Origin:
    """Return whose association this is."""
    return Origin(
        calling_ae_title=assoc.requestor.primitive.calling_ae_title.strip(),
        called_ae_title=assoc.requestor.primitive.called_ae_title.strip(),
        address=assoc.requestor.address,
    )


def _response(answer: Answer) -> Dataset:
    response = Dataset()
    response.Status = answer.status
    if answer.comment:
        response.ErrorComment = answer.comment[:_COMMENT_CHARACTERS]
    return response


@cache
def _storage_classes() -> frozenset[str]:
    return frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)


def _supported(requested: list[PresentationContext]) -> list[PresentationContext]:
    """Return what this association may use: exactly what was proposed, as far as we take it."""
    proposed: dict[str, list[str]] = {}
    for context in requested:
        syntaxes = proposed.setdefault(str(context.abstract_syntax), [])
        syntaxes += [str(uid) for uid in context.transfer_syntax if uid not in syntaxes]
    return [
        build_context(abstract_syntax, in_preferred_order(syntaxes))
        for abstract_syntax, syntaxes in proposed.items()
        if accepts(abstract_syntax, _storage_classes())
    ]
