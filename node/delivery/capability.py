"""What a relay's destination takes, and so what may be accepted from a modality.

`Capability` is what was learnt of each SOP class: which transfer syntaxes were asked about and
which of them accepted. `narrowed` is the decision, a pure function of that: a transfer syntax may
be accepted where the destination takes it itself, or one that it can be brought into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from node.dicom import uids
from node.dicom.contexts import MOST_CONTEXTS, VERIFICATION, Proposal

#: What every native instance can be given in.
_LITTLE_ENDIAN = (uids.EXPLICIT_VR_LE, uids.IMPLICIT_VR_LE)


@dataclass(frozen=True, slots=True)
class Capability:
    """What a destination said of one SOP class, at a time."""

    asked: frozenset[str]
    accepted: frozenset[str]
    since: float

    def answers(self, transfer_syntax_uids: Sequence[str]) -> bool:
        """Tell whether all of these were asked about."""
        return self.asked.issuperset(transfer_syntax_uids)


def questions(
    sop_class_uid: str, transfer_syntax_uids: Sequence[str], encoded_in: Sequence[str]
) -> list[Proposal]:
    """Return what to ask of one class: what is proposed, and what it can be brought into."""
    syntaxes = dict.fromkeys([*encoded_in, *transfer_syntax_uids, *_LITTLE_ENDIAN])
    return [Proposal(sop_class_uid, uid) for uid in syntaxes]


def in_associations(classes: Sequence[list[Proposal]]) -> list[list[Proposal]]:
    """Divide the questions so that each part fits one association, a class staying together."""
    parts: list[list[Proposal]] = []
    for proposals in classes:
        if not parts or len(parts[-1]) + len(proposals) > MOST_CONTEXTS:
            parts.append([])
        parts[-1] += proposals[:MOST_CONTEXTS]
    return parts


def narrowed(
    proposed: Mapping[str, Sequence[str]],
    known: Mapping[str, Capability],
    encoded_in: Sequence[str],
    is_decodable: Callable[[str], bool],
) -> dict[str, list[str]]:
    """Return what may be accepted of `proposed`, transfer syntaxes by SOP class.

    A class of which nothing is known stays as it is. `encoded_in` are the transfer syntaxes in
    which native pixel data is encoded here.
    """
    result: dict[str, list[str]] = {}
    for sop_class, syntaxes in proposed.items():
        capability = known.get(sop_class)
        if capability is None or sop_class == VERIFICATION:
            result[sop_class] = list(syntaxes)
            continue
        taken = capability.accepted
        native = not taken.isdisjoint(_LITTLE_ENDIAN)
        encoded = native or not taken.isdisjoint(encoded_in)
        kept = [
            uid
            for uid in syntaxes
            if uid in taken or (encoded if uid in uids.NATIVE else native and is_decodable(uid))
        ]
        if kept:
            result[sop_class] = kept
    return result
