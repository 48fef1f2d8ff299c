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
    #: From where the connection came.
    client_address: tuple[Any, ...] = ()

    # The parent's initialiser is not called: see `NodeAssociation`.
    def __init__(self, prototype: Prototype | None) -> None:
        self.answers = None if prototype is None else prototype.answers
        self.judged: JudgedRequest | None = None
        #: What was answered, where it was answered before.
        self.answer: Answer | None = None
        self._prototype = prototype
        self._indication: A_ASSOCIATE | JudgedPDU | None = None
        self._requestor: ServiceUser | None = None
        self._acceptor: ServiceUser | None = None
        self._as_tuples: dict[int, PresentationContextTuple] = {}

    @property
    def requestor(self) -> ServiceUser:
        """Return who asks for the association."""
        if self._requestor is None:
            prototype = self._prototype
            if prototype is None:
                self._requestor = ServiceUser(self, MODE_REQUESTOR)
            else:
                self._requestor = prototype.requestor(self, self.client_address)
            self._introduce(self._requestor)
        return self._requestor

    @requestor.setter
    def requestor(self, user: ServiceUser) -> None:
        self._requestor = user

    def asked(self, indication: A_ASSOCIATE | JudgedPDU) -> None:
        """Take the indication that the requestor asks for an association."""
        self._indication = indication
        if self._requestor is not None:
            self._introduce(self._requestor)

    def _introduce(self, requestor: ServiceUser) -> None:
        """Let `requestor` be who asked, where somebody has."""
        said = self._indication
        if said is not None:
            primitive = said.to_primitive() if isinstance(said, JudgedPDU) else said
            requestor.primitive = primitive
            requestor._ae_title = primitive.calling_ae_title

    @property
    def acceptor(self) -> ServiceUser:
        """Return who is asked."""
        if self._acceptor is None:
            prototype = self._prototype
            if prototype is None:
                self._acceptor = ServiceUser(self, MODE_ACCEPTOR)
            else:
                self._acceptor = prototype.acceptor(self)
            if self.answer is not None:
                self._acceptor.primitive = self.answer.primitive
        return self._acceptor

    @acceptor.setter
    def acceptor(self, user: ServiceUser) -> None:
        self._acceptor = user

    def question(self) -> Hashable:
        """Return all that the answer to the request depends on; None where it is negotiated."""
        judged, prototype = self.judged, self._prototype
        if judged is None or prototype is None or not is_repeatable(judged):
            return None
        who_may_ask = tuple(self._ae._require_calling_aet), self._ae._require_called_aet
        # Whoever asked for the acceptor may have changed it.
        ours = prototype.is_everybody if self._acceptor is None else what_we_are(self._acceptor)
        return None if ours is None else (judged, who_may_ask, ours)

    def answer_as_before(self, answer: Answer) -> None:
        """Take over what was negotiated for another association."""
        self.answer = answer
        self._accepted_cx = dict(answer.accepted)
        self._rejected_cx = list(answer.rejected)
        if self._acceptor is not None:
            self._acceptor.primitive = answer.primitive

    def context_as_tuple(self, context_id: int) -> PresentationContextTuple:
        """Return an accepted presentation context as events have it; the same each time."""
        if self.answer is not None:
            return self.answer.as_tuples[context_id]
        found = self._as_tuples.get(context_id)
        if found is None:
            found = self._as_tuples[context_id] = self._accepted_cx[context_id].as_tuple
        return found
