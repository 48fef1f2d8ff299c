"""Who takes part in an association, and what was answered to its request (PS3.8 7.1).

The service users are made when somebody asks for them, or a handler changes them. A request is
answered as it was before where the answer depends on nothing that is different now (`question`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.association import ServiceUser
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContextTuple

from node.network.answers import Answer, is_repeatable, what_we_are
from node.network.association_request import JudgedRequest
from node.network.prototype import Prototype
from node.network.request_primitive import JudgedPDU
from node.network.watched import WatchedAssociation


class Parties(WatchedAssociation):
    """An association, as far as it is about who asks, who is asked and what the answer is."""

    _ae: AE

    # The parent's initialiser is not called: see `NodeAssociation`.
    def __init__(self, prototype: Prototype | None) -> None:
        #: From where the connection came, of a peer that has connected to us.
        self.client_address: tuple[Any, ...] = ()
        self.answers = None if prototype is None else prototype.answers
        self.judged: JudgedRequest | None = None
        #: What was answered, where it was answered before.
        self.answer: Answer | None = None
        self._prototype = prototype
        self._request: A_ASSOCIATE | JudgedPDU | None = None
        #: By mode. Where two threads ask at a time, one of them to name the association in a log,
        #: who was made first is kept.
        self._users: dict[str, ServiceUser] = {}
        self._as_tuples: dict[int, PresentationContextTuple] = {}

    @property
    def requestor(self) -> ServiceUser:
        """Return who asks for the association."""
        requestor = self._users.get(MODE_REQUESTOR)
        if requestor is None:
            prototype = self._prototype
            if prototype is None:
                requestor = ServiceUser(self, MODE_REQUESTOR)
            else:
                requestor = prototype.requestor(self, self.client_address)
            self._fill_in(requestor)
            requestor = self._users.setdefault(MODE_REQUESTOR, requestor)
            self._fill_in(requestor)  # with what was taken meanwhile
        return requestor

    @requestor.setter
    def requestor(self, user: ServiceUser) -> None:
        self._users[MODE_REQUESTOR] = user

    def take_request(self, request: A_ASSOCIATE | JudgedPDU) -> None:
        """Take the request; the requestor is made of it when somebody asks for it."""
        self._request = request
        if MODE_REQUESTOR in self._users:
            self._fill_in(self.requestor)

    def _fill_in(self, requestor: ServiceUser) -> None:
        """Let `requestor` be who has asked, where somebody has and that was not done."""
        request = self._request
        if request is not None and requestor.primitive is None:
            primitive = request.to_primitive() if isinstance(request, JudgedPDU) else request
            requestor._ae_title = primitive.calling_ae_title
            requestor.primitive = primitive

    @property
    def peer_address(self) -> str:
        """Return the address of a peer that has connected to us."""
        return str(self.client_address[0]) if self.client_address else ""

    @property
    def calling_ae_title(self) -> str:
        """Return who asks, as the request says; empty before it has come."""
        return self._request.calling_ae_title.strip() if self._request is not None else ""

    @property
    def called_ae_title(self) -> str:
        """Return who is asked, as the request says; empty before it has come."""
        return self._request.called_ae_title.strip() if self._request is not None else ""

    @property
    def acceptor(self) -> ServiceUser:
        """Return who is asked."""
        acceptor = self._users.get(MODE_ACCEPTOR)
        if acceptor is None:
            prototype = self._prototype
            if prototype is None:
                acceptor = ServiceUser(self, MODE_ACCEPTOR)
            else:
                acceptor = prototype.acceptor(self)
            self._fill_in_answer(acceptor)
            acceptor = self._users.setdefault(MODE_ACCEPTOR, acceptor)
            self._fill_in_answer(acceptor)
        return acceptor

    @acceptor.setter
    def acceptor(self, user: ServiceUser) -> None:
        self._users[MODE_ACCEPTOR] = user

    def question(self) -> Hashable:
        """Return all that the answer to the request depends on; None where it is negotiated."""
        judged, prototype = self.judged, self._prototype
        if judged is None or prototype is None or not is_repeatable(judged):
            return None
        who_may_ask = tuple(self._ae._require_calling_aet), self._ae._require_called_aet
        # Whoever asked for the acceptor may have changed it.
        if MODE_ACCEPTOR in self._users:
            ours = what_we_are(self.acceptor)
        else:
            ours = prototype.is_everybody
        return None if ours is None else (judged, who_may_ask, ours)

    def answer_as_before(self, answer: Answer) -> None:
        """Take over what was negotiated for another association."""
        self.answer = answer
        self._accepted_cx = dict(answer.accepted)
        self._rejected_cx = list(answer.rejected)
        if MODE_ACCEPTOR in self._users:
            self._fill_in_answer(self.acceptor)

    def _fill_in_answer(self, acceptor: ServiceUser) -> None:
        """Let `acceptor` be who has answered, where that was done before."""
        if self.answer is not None:
            acceptor.primitive = self.answer.primitive

    def context_as_tuple(self, context_id: int) -> PresentationContextTuple:
        """Return an accepted presentation context as events have it; the same each time."""
        if self.answer is not None:
            return self.answer.as_tuples[context_id]
        found = self._as_tuples.get(context_id)
        if found is None:
            found = self._as_tuples[context_id] = self._accepted_cx[context_id].as_tuple
        return found
