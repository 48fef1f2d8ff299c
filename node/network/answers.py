"""A-ASSOCIATE requests that were answered before, and how.

A modality asks for every association with the same bytes, and what is judged and negotiated depends
on nothing else as long as no extended negotiation is asked for. So the answer to the last requests
is kept, and given again without negotiating 128 contexts anew. What is kept is bounded in number
and size, and belongs to one listening address. Any thread may use it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pynetdicom.association import ServiceUser
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, PresentationContextTuple

from node.network.association_request import JudgedRequest, readable_by_pynetdicom
from node.network.limits import KIB
from node.network.request_primitive import JudgedPDU

#: As many modalities, each with its own request; a longer one than this is not remembered.
MOST_REQUESTS: Final = 64
LONGEST_REQUEST: Final = 32 * KIB


def judged_pdu(body: bytes, secured: bool) -> JudgedPDU:
    """Return an A-ASSOCIATE-RQ, judged; raises `InvalidPDU`, and what pynetdicom's decoder does."""
    return JudgedPDU(readable_by_pynetdicom(body, secured))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request that was accepted. Shared by associations, and only read."""

    accepted: Mapping[int, PresentationContext]
    as_tuples: Mapping[int, PresentationContextTuple]
    rejected: tuple[PresentationContext, ...]
    primitive: A_ASSOCIATE
    encoded: bytes
    #: To the requestor, in bytes.
    longest_pdu: int


class Answers:
    """The last requests, judged, and the answers to them."""

    def __init__(self) -> None:
        self._remembered_pdu = lru_cache(MOST_REQUESTS)(judged_pdu)
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, Answer] = OrderedDict()

    def judged_pdu(self, body: bytes, secured: bool) -> JudgedPDU:
        """Return what `judged_pdu` does."""
        if len(body) > LONGEST_REQUEST:
            return judged_pdu(body, secured)
        return self._remembered_pdu(body, secured)

    def get(self, question: Hashable) -> Answer | None:
        """Return the answer that was given to `question`."""
        with self._lock:
            return self._answers.get(question)

    def put(self, question: Hashable, answer: Answer) -> None:
        """Remember an answer; the oldest is forgotten."""
        with self._lock:
            self._answers[question] = answer
            if len(self._answers) > MOST_REQUESTS:
                self._answers.popitem(last=False)


class Offer(list[PresentationContext]):
    """Contexts that an acceptor supports, made once for many associations and only read.

    `identity` stands for them where they are compared.
    """

    def __init__(self, contexts: Iterable[PresentationContext]) -> None:
        super().__init__(contexts)
        self.identity: Hashable = object()


def is_repeatable(judged: JudgedRequest) -> bool:
    """Tell whether the answer to a request depends on nothing but what we are."""
    return judged.is_plain and len(judged.body) <= LONGEST_REQUEST


def what_we_are(acceptor: ServiceUser) -> Hashable:
    """Return what else the answer to a request depends on; None where it is negotiated."""
    if acceptor.extended_negotiation:
        return None
    ours = (
        acceptor.ae_title,
        acceptor.maximum_length,
        acceptor.implementation_class_uid,
        acceptor.implementation_version_name,
    )
    return _identity_of(acceptor._contexts), ours


def _identity_of(contexts: list[PresentationContext]) -> Hashable:
    if isinstance(contexts, Offer):
        return contexts.identity
    return tuple(
        (
            context.abstract_syntax,
            tuple(context.transfer_syntax),
            context.scu_role,
            context.scp_role,
        )
        for context in contexts
    )
