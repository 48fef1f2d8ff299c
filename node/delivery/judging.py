"""What an answer, or none, means for an entry: the table of causes, as pure functions."""

from __future__ import annotations

from node.dicom import status
from node.dicom.status import Category
from node.errors import PeerRefused, PeerUnreachable
from node.model import Blame, Deferred, Delivered, Failed, Outcome
from node.network.sending import AssociationEnded, PeerTooSlow, StoreResponse
from node.network.store_scu import PeerBusy


def blame_of(failure: PeerUnreachable | PeerRefused) -> Blame:
    """Return whose fault it is that no answer came."""
    if isinstance(failure, AssociationEnded | PeerTooSlow):
        return Blame.UNCLEAR
    # A permanent rejection (PS3.8 9.3.4) stays until somebody changes something.
    lasting = isinstance(failure, PeerRefused) and not isinstance(failure, PeerBusy)
    return Blame.SETTINGS if lasting else Blame.DESTINATION


def judge(destination: str, response: StoreResponse) -> Outcome:
    """Return what an answer to a C-STORE-RQ means for the entry (PS3.4 B.2.3, PS3.7 Annex C)."""
    said = status.describe(response.status)
    if response.comment:
        said = f"{said}: {response.comment}"
    match status.category(response.status):
        case Category.SUCCESS:
            return Delivered(destination=destination, status=response.status)
        case Category.WARNING | Category.DUPLICATE:
            return Delivered(destination=destination, status=response.status, detail=said)
        case Category.OUT_OF_RESOURCES:
            return Deferred(destination=destination, cause=said, blame=Blame.ROOM)
        case Category.NOT_AUTHORISED:
            return Deferred(destination=destination, cause=said, blame=Blame.SETTINGS)
        case Category.REFUSED | Category.MISMATCH:
            return Failed(destination=destination, cause=said)
        case _:
            # Cannot understand, unknown: some archives say so of passing errors.
            return Deferred(destination=destination, cause=said, blame=Blame.INSTANCE)
