"""Negotiating an association: pynetdicom's, with the answers it leaves out (PS3.8 7.1).

A request that was answered before gets the same answer without being negotiated anew (`answers`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from node.network.answers import Answer

if TYPE_CHECKING:
    from node.network.association import NodeAssociation

#: How pynetdicom rejects a user identity; PS3.15 B.6 wants a permanent rejection by the user.
_IDENTITY_REFUSED: Final = (2, 2, 1)


class NodeACSE(ACSE):
    """pynetdicom's negotiation, with the answers it leaves out."""

    assoc: NodeAssociation
    _assoc: NodeAssociation

    def send_accept(self) -> None:
        """Answer also for the contexts whose names are no UIDs (PS3.8 Table 9-18)."""
        judged = self.assoc.judged
        for context_id, result in judged.unusable_contexts if judged is not None else ():
            context = PresentationContext()
            context.context_id = context_id
            context.transfer_syntax = ["1.2.840.10008.1.2"]  # not significant (PS3.8 9.3.3.2)
            context.result = result
            self.assoc._rejected_cx.append(context)
        super().send_accept()

    def _negotiate_as_acceptor(self) -> None:
        """Answer as before where the same was asked before."""
        assoc = self._assoc
        question, answers = assoc.question(), assoc.answers
        if answers is None or question is None:
            super()._negotiate_as_acceptor()
        elif (answer := answers.get(question)) is not None:
            self._repeat(answer)
        else:
            super()._negotiate_as_acceptor()
            if assoc.is_established:
                answers.put(question, _answer_of(assoc))

    def _repeat(self, answer: Answer) -> None:
        """Accept; nothing is left to negotiate."""
        assoc = self._assoc
        assoc.answer_as_before(answer)
        assoc.dimse.maximum_pdu_size = answer.longest_pdu
        assoc.dul.send_accept(answer.primitive, answer.encoded)
        evt.trigger(assoc, evt.EVT_ACCEPTED, {})
        assoc.is_established = True
        evt.trigger(assoc, evt.EVT_ESTABLISHED, {})

    def send_release(self, is_response: bool = False) -> None:
        """Ask for the end of the association, or answer that it has come."""
        if not is_response or not self.assoc.dul.send_release_response():
            super().send_release(is_response)

    def send_reject(self, result: int, source: int, diagnostic: int) -> None:
        """Reject, permanently where it is for who the user is."""
        if (result, source, diagnostic) == _IDENTITY_REFUSED:
            result, source, diagnostic = 1, 1, 1
        super().send_reject(result, source, diagnostic)


def _answer_of(assoc: NodeAssociation) -> Answer:
    """Return what was answered to the request of an association that was accepted."""
    primitive = cast(A_ASSOCIATE, assoc.acceptor.primitive)
    return Answer(
        accepted=dict(assoc._accepted_cx),
        as_tuples={number: each.as_tuple for number, each in assoc._accepted_cx.items()},
        rejected=tuple(assoc._rejected_cx),
        primitive=primitive,
        encoded=A_ASSOCIATE_AC(primitive).encode(),
        longest_pdu=assoc.dimse.maximum_pdu_size,
    )
