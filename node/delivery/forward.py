"""A network destination: instances are sent by C-STORE in the best transfer syntax it takes.

One association serves a batch and is kept for the next; it proposes, for each SOP class that is
about to be sent, the stored transfer syntax and the native ones, each in a context of its own. An
instance goes as it is stored where that context was accepted, otherwise as it was received,
decompressed on the way. With `native_only` that is done always, to what we compressed; what came
compressed goes as it came.

`deliver` answers with an outcome: what a status means is `judge`'s table. A failure after the
association was established (it ended, the peer was too slow or out of resources) may be that of
the instance, and is told as `InDoubt`: the loop finds out whether others get through.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from node.dicom import status
from node.dicom.contexts import Proposal, Wanted, propose
from node.dicom.identity import scan_any
from node.dicom.status import Category
from node.dicom.uids import is_uid, name_of
from node.errors import (
    CannotUnderstand,
    DecodingFailed,
    OutOfResources,
    PeerRefused,
    PeerUnreachable,
)
from node.events import InstancesSent, Studies, Witness, nobody
from node.model import Blame, Deferred, Delivered, Failed, Outcome
from node.network.sending import AssociationEnded, PeerTooSlow, StoreResponse
from node.network.store_scu import NothingAccepted, Peer, PeerBusy, StoreSCU, connect
from node.network.told import StudyCount
from node.pixels.policy import Run, here
from node.pixels.stored import StoredInstance, data_set_in, native_syntaxes, opened
from node.spool import Entry

log = logging.getLogger(__name__)


class NotAccepted(PeerRefused):
    """The peer takes instances of this SOP class in no transfer syntax that we can give."""


class Forward:
    """One network destination, used from one thread."""

    def __init__(
        self,
        name: str,
        peer: Peer,
        *,
        native_only: bool = False,
        run: Run = here,
        witness: Witness = nobody,
    ) -> None:
        self.name = name
        self._peer = peer
        self._native_only = native_only
        self._run = run
        self._witness = witness
        #: What the association that is open has taken, for the audit.
        self._sent = StudyCount()
        self._association: StoreSCU | None = None
        self._proposed: set[Proposal] = set()
        self._upcoming: list[Wanted] = []
        #: What was proposed for this batch, and nothing of it accepted.
        self._hopeless: set[Proposal] = set()

    def begin(self, entries: Iterable[Entry]) -> None:
        """Look at what comes next, so that one association is negotiated for all of it."""
        self._upcoming, self._hopeless = [], set()
        for entry in entries:
            try:
                with opened(entry.path) as instance:
                    self._upcoming.append(self._wanted(instance))
            except (OSError, CannotUnderstand):
                # Its turn comes, and `deliver` then says what is wrong with it.
                continue

    def deliver(self, entry: Entry) -> Outcome:
        """Send one entry."""
        try:
            response = self.send(entry.path)
        except (CannotUnderstand, DecodingFailed, NotAccepted) as failure:
            return Failed(destination=self.name, cause=str(failure))
        except (PeerUnreachable, PeerRefused) as failure:
            return Deferred(destination=self.name, cause=str(failure), blame=blame_of(failure))
        except OSError as failure:
            cause = f"the spool cannot be read: {failure.strerror or failure}"
            return Deferred(destination=self.name, cause=cause, blame=Blame.DESTINATION)
        return judge(self.name, response)

    def send(self, path: Path) -> StoreResponse:
        """Send the instance in the file at `path` and return the answer.

        Raises `PeerUnreachable`, `PeerRefused`, `NotAccepted` where the peer takes it in no
        transfer syntax, `CannotUnderstand`, `DecodingFailed` and OSError.
        """
        with opened(path) as instance:
            wanted = self._wanted(instance)
            meta = instance.meta
            association = self._association_for(wanted)
            for syntax in wanted.transfer_syntax_uids:
                if association.accepts(meta.sop_class_uid, syntax):
                    data_set = data_set_in(instance, syntax, self._run)
                    response = association.send(
                        meta.sop_class_uid, meta.sop_instance_uid, syntax, data_set
                    )
                    self._count(instance, response)
                    return response
        raise self._refusal(wanted)

    def _refusal(self, wanted: Wanted) -> NotAccepted:
        tried = ", ".join(name_of(syntax) for syntax in wanted.transfer_syntax_uids)
        return NotAccepted(
            f"{self._peer} accepts {name_of(wanted.sop_class_uid)} in none of: {tried}"
        )

    def close(self) -> None:
        """Release the association."""
        if self._association is not None:
            self._association.close()
            self._association = None
        self._tell(self._sent.take())

    def _count(self, instance: StoredInstance, response: StoreResponse) -> None:
        """Note for the audit what the peer has taken."""
        if response.meaning in (Category.SUCCESS, Category.WARNING, Category.DUPLICATE):
            self._tell(self._sent.add(study_of(instance), instance.meta.sop_class_uid))

    def _tell(self, studies: Studies) -> None:
        if studies:
            self._witness(
                InstancesSent(
                    destination=self.name,
                    ae_title=self._peer.ae_title,
                    address=self._peer.host,
                    studies=studies,
                )
            )

    def _wanted(self, instance: StoredInstance) -> Wanted:
        meta = instance.meta
        if not all(map(is_uid, (meta.sop_class_uid, meta.sop_instance_uid))):
            raise CannotUnderstand("the file's SOP Class or Instance UID is no UID")
        stored, native = instance.meta.transfer_syntax_uid, native_syntaxes(instance)
        compressed_here = meta.record is not None and meta.record.as_received is not None
        syntaxes = native if self._native_only and compressed_here else [stored, *native]
        return Wanted(instance.meta.sop_class_uid, tuple(dict.fromkeys(syntaxes)))

    def _association_for(self, wanted: Wanted) -> StoreSCU:
        """Return an open association on which `wanted` was proposed."""
        needed = {Proposal(wanted.sop_class_uid, uid) for uid in wanted.transfer_syntax_uids}
        if self._association is not None:
            if self._association.is_open and needed <= self._proposed:
                return self._association
            self.close()
        if needed <= self._hopeless:
            raise self._refusal(wanted)
        proposals = propose([wanted, *self._upcoming])
        try:
            self._association = connect(self._peer, proposals)
        except NothingAccepted:
            self._hopeless |= set(proposals)
            raise self._refusal(wanted) from None
        self._proposed = set(proposals)
        return self._association


def blame_of(failure: PeerUnreachable | PeerRefused) -> Blame:
    """Return whose fault it is that no answer came."""
    if isinstance(failure, AssociationEnded | PeerTooSlow):
        return Blame.UNCLEAR
    # A permanent rejection (PS3.8 9.3.4) stays until somebody changes something.
    lasting = isinstance(failure, PeerRefused) and not isinstance(failure, PeerBusy)
    return Blame.SETTINGS if lasting else Blame.DESTINATION


def study_of(instance: StoredInstance) -> str:
    """Return the Study Instance UID of a stored instance, "" where it has none to be read."""
    try:
        scanned = scan_any(instance.data_set, instance.meta.transfer_syntax_uid, instance.release)
    except (CannotUnderstand, OutOfResources):
        return ""
    return scanned.study_instance_uid or ""


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
