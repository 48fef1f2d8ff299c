"""The storage and verification SCP: what a requestor may ask for, and what it is answered.

Each instance is handed to `receive`, which returns when the instance is safe and raises
`InstanceRefused` where it is not taken; the requestor gets Success or that failure's status, with
its sentence as Error Comment. What came of it all is in the `Ledger`.

Whoever calls the wrong AE title gets A-ASSOCIATE-RJ (1,1,7), who is not allowed to send (1,1,3),
and while the disk is too full (2,3,1): PS3.8 9.3.4.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import build_context

from node.dicom import status
from node.dicom.contexts import VERIFICATION, accepts, in_preferred_order
from node.errors import InstanceRefused
from node.events import AuthenticationFailed, Witness, nobody
from node.model import Origin, Received, Stored
from node.network.answers import MOST_REQUESTS, Offer, is_repeatable
from node.network.association_request import JudgedRequest, Proposed
from node.network.census import Census
from node.network.data_set import ReceivedData
from node.network.dimse import received_data
from node.network.ledger import Ledger, Refusal, name_of, origin_of
from node.network.limits import Limits
from node.network.server import Server, listen
from node.network.services import tell_of_refusal
from node.network.tally import Timing
from node.network.users import Users, offered

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
    timing: Timing | None = None

    @property
    def is_taken(self) -> bool:
        """Tell whether the requestor is told that the instance was taken, if with a warning."""
        taken = (status.Category.SUCCESS, status.Category.WARNING)
        return status.category(self.status) in taken

    @property
    def taken(self) -> Stored | None:
        """What was stored where the requestor is told so, else None."""
        return self.stored if self.is_taken else None


#: Of one SOP class so many are looked at: five times as many as the Standard has.
_MOST_SYNTAXES = 256

#: Transfer syntaxes by SOP class, as proposed -> those of them that may be accepted.
Narrow: TypeAlias = Callable[[Mapping[str, Sequence[str]]], Mapping[str, list[str]]]

#: Answered by the upper layer itself (PS3.8 9.3.4).
_NOT_WELL_FORMED = Refusal(
    (1, 1, 1),
    "the request is not well formed",
    "its application context, AE titles or user information are not of the Standard: look at the "
    "sender's settings",
)


class Admission(Protocol):
    """Who may send, and when."""

    def admits(
        self, calling_ae_title: str, address: str, certificate_names: frozenset[str]
    ) -> bool:
        """Tell whether this peer may send; the names are what its TLS certificate proves."""

    def places_of(self, calling_ae_title: str) -> list[str]:
        """Return from where one who calls itself so may send, in words; nothing where nowhere."""

    def needs_certificate(self, calling_ae_title: str) -> bool:
        """Tell whether one who calls itself so is known by a certificate."""

    def peer_name(self, calling_ae_title: str) -> str:
        """Return as whom its instances are counted: one of a few names."""

    def hindrance(self) -> tuple[str, str] | None:
        """Return why nothing can be stored now and what to do, or None."""


class StoreSCP:
    """Answers the associations of one listening address."""

    def __init__(
        self,
        ae_title: str,
        receive: Receive,
        admission: Admission,
        witness: Witness = nobody,
        users: Users | None = None,
        narrow: Narrow | None = None,
    ) -> None:
        """`narrow` says what may be accepted where that is not ours alone to say."""
        self._ae_title = ae_title
        self._users = users
        self._witness = witness
        self._receive = receive
        self._admission = admission
        self._narrow = narrow
        self.ledger = Ledger(admission.peer_name, witness)

    def listen(
        self,
        address: tuple[str, int] | socket.socket,
        *,
        limits: Limits,
        spill: Path,
        ssl_context: ssl.SSLContext | None = None,
        census: Census | None = None,
    ) -> Server:
        """Start listening; raises `CannotWrite` where the port is taken."""
        # An association whose end nobody watches ends faster.
        over_tls = [(evt.EVT_CONN_CLOSE, self._ended)] if ssl_context is not None else []
        return listen(
            address=address,
            ae_title=self._ae_title,
            handlers=[
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_REJECTED, self._not_well_formed),
                (evt.EVT_ESTABLISHED, self._established),
                *over_tls,
                (evt.EVT_C_STORE, self._store),
            ],
            contexts=[build_context(VERIFICATION)],
            limits=limits,
            spill=spill,
            ssl_context=ssl_context,
            require_called_aet=False,
            census=census,
        )

    def _requested(self, event: Any) -> None:
        """Decide on an A-ASSOCIATE-RQ before pynetdicom negotiates it."""
        assoc = event.assoc
        refusal = self._refusal(origin_of(assoc), assoc.certificate_names)
        refusal = refusal or self._refusal_of_user(assoc)
        if refusal is None:
            assoc.acceptor.supported_contexts = _supported(assoc.judged, self._narrow)
            return
        self.ledger.reject(assoc, refusal)
        assoc.acse.send_reject(*refusal.code)

    def _not_well_formed(self, event: Any) -> None:
        """Note a request that was rejected before anybody looked who asks."""
        self.ledger.reject(event.assoc, _NOT_WELL_FORMED)

    def _refusal(self, origin: Origin, certificate_names: frozenset[str]) -> Refusal | None:
        """Return why not, or None to accept."""
        if origin.called_ae_title != self._ae_title:
            return Refusal(
                (1, 1, 7),
                "called AE title is not ours",
                f"it called {origin.called_ae_title}, we are {self._ae_title}: change it at the "
                "sender, or node.ae_title here",
            )
        names = certificate_names
        if not self._admission.admits(origin.calling_ae_title, origin.address, names):
            return self._unknown(origin, names)
        if hindrance := self._admission.hindrance():
            return Refusal((2, 3, 1), *hindrance)
        return None

    def _unknown(self, origin: Origin, names: frozenset[str]) -> Refusal:
        """Tell one whom nobody listed from one who comes from elsewhere than it should."""
        shown = f"; its certificate is {', '.join(sorted(names))}" if names else ""
        title, places = origin.calling_ae_title, self._admission.places_of(origin.calling_ae_title)
        if not names and self._admission.needs_certificate(title):
            return Refusal(
                (1, 1, 3),
                "known by its certificate, and showed none",
                f"let {title} call the port for TLS (tls.port, or node.port where there is none), "
                "with its certificate; or give its [[peer]] an address instead of the certificate",
            )
        if places:
            return Refusal(
                (1, 1, 3),
                "known, but not from there",
                f"{title} is known, but from {' and '.join(places)}, not from {origin.address}: "
                f"change its [[peer]], or find out who calls itself {title}{shown}",
            )
        return Refusal(
            (1, 1, 3),
            "not in the list of peers",
            f'if it may send, add a [[peer]] with ae_title = "{title}", '
            f'address = "{origin.address}"{shown}',
        )

    def _refusal_of_user(self, assoc: Any) -> Refusal | None:
        """Check the user's identity, where that is asked for; answer it where it is good.

        The response to a user name has no content: PS3.7 Table D.3-15.
        """
        if self._users is None:
            return None
        item = assoc.requestor.user_identity
        identity = offered(item)
        objection = self._users.objection(identity, secured=assoc.tls is not None)
        if objection is not None:
            origin = origin_of(assoc)
            user = identity.name.decode("utf-8", "replace") if identity is not None else ""
            self._witness(
                AuthenticationFailed(
                    user=user,
                    ae_title=origin.calling_ae_title,
                    address=origin.address,
                    cause=objection,
                )
            )
            return Refusal((1, 1, 1), "user identity", objection)
        if item is not None and item.positive_response_requested:
            response = UserIdentityNegotiation()
            response.server_response = b""
            assoc.acceptor.add_negotiation_item(response)
        return None

    def _established(self, event: Any) -> None:
        self.ledger.begin(event.assoc)
        assoc = event.assoc
        assoc.on_refused = lambda: self._count(assoc, Answer(status.PROCESSING_FAILURE))
        # No handler of EVT_C_ECHO: one that nobody handles is answered faster.
        assoc.on_echo = lambda: self.ledger.echo(assoc)
        assoc.on_over = lambda: self._over(assoc)

    def _count(self, assoc: Any, answer: Answer) -> None:
        self.ledger.count(assoc, answer.taken, answer.timing)

    def _over(self, assoc: Any) -> None:
        assoc.on_refused = None
        self.ledger.end(assoc)

    def _ended(self, event: Any) -> None:
        if event.assoc.tls_failure:
            self.ledger.not_authenticated(event.assoc)

    def _store(self, event: Any) -> tuple[int, str]:
        request = event.request
        received = Received(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            byte_count=0,
            origin=origin_of(event.assoc),
        )
        with self.ledger.working():
            answer = self._answer(event, received)
        self._count(event.assoc, answer)
        if not answer.is_taken:
            tell_of_refusal(event.assoc, received.sop_instance_uid, answer.status, answer.comment)
        return answer.status, answer.comment[:_COMMENT_CHARACTERS]

    def _answer(self, event: Any, received: Received) -> Answer:
        try:
            return self._receive(received, received_data(event))
        except InstanceRefused as failure:
            return Answer(failure.dimse_status, str(failure))
        except Exception:
            # A defect of ours must not cost the association its other instances.
            log.exception("%s: an instance could not be received", name_of(event.assoc))
            return Answer(status.PROCESSING_FAILURE, "internal error")


@cache
def _storage_classes() -> frozenset[str]:
    return frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)


def _supported(judged: JudgedRequest, narrow: Narrow | None) -> Offer:
    """Return what this association may use: exactly what was proposed, as far as we take it."""
    allowed = judged.proposed
    if narrow is not None:
        allowed = tuple((uid, tuple(uids)) for uid, uids in narrow(_taken(allowed)).items())
    # The same each time where it is the same, so that the answer to it is known to be the same.
    return _offer(allowed) if is_repeatable(judged) else _offer.__wrapped__(allowed)


def _taken(proposed: Proposed) -> dict[str, list[str]]:
    """Return by abstract syntax what was proposed for those that we take."""
    taken: dict[str, dict[str, None]] = {}
    for abstract_syntax, transfer_syntaxes in proposed:
        if accepts(abstract_syntax, _storage_classes()):
            syntaxes = taken.setdefault(abstract_syntax, {})
            syntaxes.update(dict.fromkeys(transfer_syntaxes[: _MOST_SYNTAXES - len(syntaxes)]))
    return {abstract_syntax: list(syntaxes) for abstract_syntax, syntaxes in taken.items()}


@lru_cache(MOST_REQUESTS)
def _offer(proposed: Proposed) -> Offer:
    return Offer(
        build_context(abstract_syntax, in_preferred_order(syntaxes))
        for abstract_syntax, syntaxes in _taken(proposed).items()
    )
