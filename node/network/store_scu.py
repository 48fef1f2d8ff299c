"""The storage and verification SCU: one association, over which instances are sent.

`connect` raises `PeerUnreachable`, `PeerRefused` and two kinds of that: `PeerBusy` where asking
again may help, `NothingAccepted` where the peer takes nothing of what is proposed. `StoreSCU.send`
returns the status that the peer answered or raises `PeerUnreachable` where none came. pynetdicom's
empty Dataset, which would mean that, does not leave this module.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom.presentation import build_context

from node.dicom.contexts import VERIFICATION, Proposal
from node.errors import BadConfiguration, PeerRefused, PeerUnreachable
from node.network.association import NodeAssociation
from node.network.requestor import associate
from node.network.sending import StoreResponse, send_store
from node.network.tls import TLS, client_context
from node.network.window import Buffer


class PeerBusy(PeerRefused):
    """The peer rejected the association for now (PS3.8 9.3.4, rejected-transient)."""


class NothingAccepted(PeerRefused):
    """The peer took the association and none of its presentation contexts (PS3.8 9.3.3.2)."""


#: Result of an A-ASSOCIATE-RJ (PS3.8 9.3.4).
_TRANSIENT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom to call, what to call ourselves, and how long to wait, in seconds."""

    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    connect_seconds: float = 10
    response_seconds: float = 60
    tls: TLS | None = None

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


class StoreSCU:
    """One established association. Use from one thread; `close` releases it."""

    def __init__(self, peer: Peer, association: NodeAssociation) -> None:
        self._peer = peer
        self._association = association
        self._message_id = 0
        self._accepted: dict[Proposal, Any] = {
            Proposal(str(context.abstract_syntax), str(context.transfer_syntax[0])): context
            for context in association.accepted_contexts
        }

    @property
    def is_open(self) -> bool:
        """Tell whether the association still stands; an end that the peer has said is heard."""
        if self._association.is_established:
            self._association.serve(0)
        return bool(self._association.is_established)

    @property
    def accepted(self) -> set[Proposal]:
        """The contexts that may be used."""
        return set(self._accepted)

    def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Tell whether instances of this class may be sent in this transfer syntax."""
        return Proposal(sop_class_uid, transfer_syntax_uid) in self._accepted

    def send(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        data_set: Iterable[Buffer],
    ) -> StoreResponse:
        """Send one instance and return the answer.

        An exception that `data_set` raises aborts the association, so that the peer does not take
        what was sent until then for an instance, and is passed on.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        try:
            return send_store(
                self._association,
                self._accepted[Proposal(sop_class_uid, transfer_syntax_uid)],
                sop_class_uid,
                sop_instance_uid,
                data_set,
                message_id=self._message_id,
                progress_seconds=self._peer.response_seconds,
                response_seconds=self._peer.response_seconds,
            )
        except BaseException:
            self.abort()
            raise

    def echo(self) -> int:
        """Send a C-ECHO and return its status (PS3.7 9.1.5)."""
        response = self._association.send_c_echo()
        if "Status" not in response:
            raise PeerUnreachable(f"{self._peer}: no answer to C-ECHO")
        return int(response.Status)

    def close(self) -> None:
        """Release the association; harmless where it has ended."""
        if self._association.is_established:
            self._association.release()

    def abort(self) -> None:
        """Abort the association."""
        if self._association.is_established:
            self._association.abort()


def connect(peer: Peer, proposals: Sequence[Proposal]) -> StoreSCU:
    """Ask `peer` for an association with these contexts, Verification where there are none."""
    contexts = [build_context(sop_class, [syntax]) for sop_class, syntax in proposals]
    association = associate(
        address=(peer.host, peer.port),
        calling_ae_title=peer.calling_ae_title,
        called_ae_title=peer.ae_title,
        contexts=contexts or [build_context(VERIFICATION)],
        ssl_context=_secured(peer),
        server_name=peer.tls.name if peer.tls is not None else None,
        connect_seconds=peer.connect_seconds,
        answer_seconds=peer.connect_seconds,
        response_seconds=peer.response_seconds,
    )
    if association.is_established:
        return StoreSCU(peer, association)
    if association.is_rejected:
        why = f"{peer} rejected the association: {_reason(association)}"
        answer: Any = association.acceptor.primitive
        raise PeerBusy(why) if answer.result == _TRANSIENT else PeerRefused(why)
    if association.rejected_contexts and not association.accepted_contexts:
        raise NothingAccepted(f"{peer} accepts none of what was proposed")
    raise PeerUnreachable(f"{peer}: the association was aborted before it was established")


def _secured(peer: Peer) -> ssl.SSLContext | None:
    """Return what secures the connection, read anew: renewed files count from the next one on."""
    try:
        return client_context(peer.tls) if peer.tls is not None else None
    except BadConfiguration as failure:
        raise PeerUnreachable(f"{peer}: {failure}") from failure


_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "it does not support our application context",
    (1, 3): "it does not know our AE title: have it added there",
    (1, 7): "that is not its AE title: check the title before the @",
    (2, 1): "no reason given",
    (2, 2): "it does not support this protocol version",
    (3, 1): "it is busy",
    (3, 2): "it has no association free",
}


def _reason(association: NodeAssociation) -> str:
    """Say an A-ASSOCIATE-RJ in words (PS3.8 9.3.4)."""
    answer: Any = association.acceptor.primitive
    code = (answer.result_source, answer.diagnostic)
    numbers = f"({answer.result},{answer.result_source},{answer.diagnostic})"
    return f"{_REASONS.get(code, 'reason unknown')} {numbers}"
