"""Presentation contexts: which to accept as acceptor, which to propose as requestor (PS3.8 9.3.2).

Pure functions of what was proposed, or of what is to be sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydicom.uid import UID

from node.dicom import uids
from node.dicom.uids import is_uid

VERIFICATION = "1.2.840.10008.1.1"

#: One association proposes at most this many contexts: their IDs are odd, 1 to 255 (PS3.8 7.1.1).
MOST_CONTEXTS = 128

#: All composite and non-patient objects; print and commitment, which say Storage too, are not.
_STORAGE_ROOT = "1.2.840.10008.5.1.4."
_ANY_COMPRESSED = 3
#: The acceptor chooses. Native comes first: it is what this node can make smaller. Explicit VR
#: Little Endian needs no conversion on the way to an encapsulated syntax (PS3.5 A.4).
_PREFERENCE = {uids.EXPLICIT_VR_LE: 0, uids.IMPLICIT_VR_LE: 1, uids.EXPLICIT_VR_BE: 2}


def accepts(abstract_syntax: str, storage_classes: frozenset[str]) -> bool:
    """Tell whether a proposed abstract syntax may be a storage SOP class.

    Those of the Standard that are, retired ones too, which old modalities still send; private
    ones; and ones of a later edition than ours knows. The Standard's other services (query,
    commitment, worklist…) are not offered here.
    """
    if abstract_syntax == VERIFICATION or abstract_syntax in storage_classes:
        return True
    if not is_uid(abstract_syntax):
        return False
    uid = UID(abstract_syntax)
    # pydicom has every UID that the Standard registers; without a name it is private or new.
    return uid.name == abstract_syntax or _is_registered_storage(uid)


def _is_registered_storage(uid: UID) -> bool:
    """Tell whether a registered UID is a storage class (PS3.6 Table A-1, PS3.4 B.5, GG.3).

    Retired ones that were never published have lost their name.
    """
    if uid.type != "SOP Class" or not uid.startswith(_STORAGE_ROOT):
        return False
    return "Storage" in uid.name or not uid.name


def in_preferred_order(transfer_syntaxes: Sequence[str]) -> list[str]:
    """Return the proposed transfer syntaxes as we prefer them: native, then the rest as proposed.

    Every compressed or deflated syntax is taken and kept byte for byte, known to us or not.
    """
    return sorted(transfer_syntaxes, key=lambda uid: _PREFERENCE.get(uid, _ANY_COMPRESSED))


class Wanted(NamedTuple):
    """An instance to be sent, and the transfer syntaxes it can be given in, best first."""

    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]


class Proposal(NamedTuple):
    """One presentation context with one transfer syntax, so that each is answered for itself."""

    sop_class_uid: str
    transfer_syntax_uid: str


def propose(wanted: Iterable[Wanted]) -> list[Proposal]:
    """Return the contexts to propose for these instances, in order and without doubles.

    One transfer syntax for each context: of several in one context the acceptor takes one, and
    whether it would have taken the compressed one stays unknown. Instances that no longer fit the
    limit of contexts are left for the next association.
    """
    proposals: dict[Proposal, None] = {}
    for sop_class_uid, transfer_syntax_uids in wanted:
        new = {Proposal(sop_class_uid, uid): None for uid in transfer_syntax_uids}
        if len(proposals | new) > MOST_CONTEXTS:
            break
        proposals |= new
    return list(proposals)
