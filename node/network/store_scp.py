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
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from pydicom.dataset import Dataset
from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.presentation import PresentationContext, build_context

from node.dicom import status
from node.dicom.contexts import VERIFICATION, accepts, in_preferred_order
from node.errors import InstanceRefused
from node.model import Origin, Received
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

    def _requested(self, event: Any) -> None:
        """Decide on an A-ASSOCIATE-RQ before pynetdicom negotiates it."""
        assoc = event.assoc
        request = assoc.requestor.primitive
        calling = request.calling_ae_title.strip()
        called = request.called_ae_title.strip()
        peer = f"{calling}@{assoc.requestor.address}"
        if called != self._ae_title:
            log.warning(
                "rejected %s: called AE title %s is not ours, we are %s; "
                "change the title at the sender, or ae_title here",
                peer,
                called,
                self._ae_title,
            )
            assoc.acse.send_reject(1, 1, 7)
        elif not self._admission.admits(calling, assoc.requestor.address):
            log.warning(
                "rejected %s: not in the list of peers; add a [[peer]] with this AE title and "
                "address to let it send",
                peer,
            )
            assoc.acse.send_reject(1, 1, 3)
        elif not self._admission.has_room():
            log.error("rejected %s: free disk space is below the reserve", peer)
            assoc.acse.send_reject(2, 3, 1)
        else:
            assoc.acceptor.supported_contexts = _supported(assoc.requestor.requested_contexts)

    def _store(self, event: Any) -> Dataset:
        request = event.request
        received = Received(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            byte_count=0,
            origin=origin_of(event.assoc),
        )
        try:
            return _response(self._receive(received, received_data(event)))
        except InstanceRefused as failure:
            answer = Answer(failure.dimse_status, str(failure))
        except Exception:
            # A defect of ours must not cost the association its other instances.
            log.exception("an instance could not be received")
            answer = Answer(status.PROCESSING_FAILURE, "internal error")
        log.warning(
            "%s: refused %s with %s: %s",
            received.origin.calling_ae_title,
            received.sop_instance_uid,
            status.describe(answer.status),
            answer.comment,
        )
        return _response(answer)

    @staticmethod
    def _echo(_: Any) -> int:
        return status.SUCCESS


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
