"""A network destination: instances are sent by C-STORE in the best transfer syntax it takes.

One association serves a batch and is kept for the next; it proposes, for each SOP class that is
about to be sent, the transfer syntaxes of the destination's `Manner`, each in a context of its own,
but for those that it refused not long ago. An instance goes in the first that was accepted: in the
destination's own codec, as it is stored, or as it was received, decompressed on the way.

`deliver` answers with an outcome: what a status means is the table of `judging`. Where the
destination accepts a compressed context and then cannot read what it gets, the instance is sent
once more as it was received before the answer counts: compression must not cost the instance.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.delivery.calls import Calls
from node.delivery.judging import blame_of, judge
from node.delivery.refusals import Refusals
from node.dicom import status, uids
from node.dicom.contexts import Proposal, Wanted, propose
from node.dicom.convert import Chunk
from node.dicom.status import Category
from node.dicom.uids import is_uid, name_of
from node.errors import (
    CannotUnderstand,
    DecodingFailed,
    PeerRefused,
    PeerUnreachable,
)
from node.events import InstancesSent, Studies, Witness, nobody
from node.model import Blame, Deferred, Failed, Outcome
from node.network.sending import StoreResponse
from node.network.store_scu import NothingAccepted, Peer, StoreSCU
from node.network.told import StudyCount
from node.pixels.instance import Instance, data_set_in, native_syntaxes
from node.pixels.planning import NotEncoded
from node.pixels.policy import Options, Run, here
from node.pixels.recode import recoded
from node.pixels.stored import StoredInstance, opened
from node.spool import Entry

log = logging.getLogger(__name__)

#: What a destination may answer because it cannot read the transfer syntax that it accepted.
_PERHAPS_THE_SYNTAX = frozenset({Category.MISMATCH, Category.CANNOT_UNDERSTAND})


_TAKEN = frozenset({Category.SUCCESS, Category.WARNING, Category.DUPLICATE})


class NotAccepted(PeerRefused):
    """The peer takes instances of this SOP class in no transfer syntax that we can give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """In which transfer syntax a destination is sent what.

    `native_only`  what we compressed is decompressed always; what came compressed goes as it came
    `codec`        encode in this what we can; None: send what is stored
    """

    native_only: bool = False
    codec: Options | None = None

    def syntaxes(self, instance: Instance) -> list[str]:
        """Return the transfer syntaxes to propose for an instance, best first."""
        stored, native = instance.transfer_syntax_uid, native_syntaxes(instance)
        if self.native_only and instance.is_encoded_here:
            return native
        own = []
        if self.codec is not None and instance.received_syntax in uids.NATIVE:
            own = [self.codec.transfer_syntax_uid]
        return [*own, stored, *native]

    def data_set(self, instance: Instance, transfer_syntax_uid: str, run: Run) -> Iterable[Chunk]:
        """Return the data set in one of `syntaxes`; raises `NotEncoded` and `DecodingFailed`."""
        is_ours = self.codec is not None and transfer_syntax_uid == self.codec.transfer_syntax_uid
        if is_ours and transfer_syntax_uid != instance.transfer_syntax_uid:
            assert self.codec is not None
            return [recoded(instance, self.codec)]
        return data_set_in(instance, transfer_syntax_uid, run)


AS_STORED = Manner()


class Forward:
    """One network destination, used from one thread."""

    at_once = 1

    def __init__(
        self,
        name: str,
        peer: Peer,
        *,
        manner: Manner = AS_STORED,
        refusals: Refusals | None = None,
        run: Run = here,
        witness: Witness = nobody,
        calls: Calls | None = None,
    ) -> None:
        self.name = name
        self._peer = peer
        self._manner = manner
        self._refusals = refusals or Refusals()
        self._run = run
        self._witness = witness
        self._calls = calls or Calls()
        #: What the association that is open has taken, for the audit.
        self._sent = StudyCount()
        self._association: StoreSCU | None = None
        self._proposed: set[Proposal] = set()
        self._upcoming: list[Entry] = []
        #: What was proposed for this batch, and nothing of it accepted.
        self._hopeless: set[Proposal] = set()

    def begin(self, entries: Iterable[Entry]) -> None:
        """Hear what comes next: an association that has to be negotiated is so for all of it."""
        self._upcoming, self._hopeless = list(entries), set()

    def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
        """Send one entry."""
        try:
            response = self.send(instance)
        except (CannotUnderstand, DecodingFailed, NotAccepted) as failure:
            return Failed(destination=self.name, cause=str(failure))
        except (PeerUnreachable, PeerRefused) as failure:
            return Deferred(destination=self.name, cause=str(failure), blame=blame_of(failure))
        except OSError as failure:
            cause = f"the spool cannot be read: {failure.strerror or failure}"
            return Deferred(destination=self.name, cause=cause, blame=Blame.DESTINATION)
        return judge(self.name, response)

    def send(self, instance: Instance) -> StoreResponse:
        """Send an instance and return the answer.

        Raises `PeerUnreachable`, `PeerRefused`, `NotAccepted` where the peer takes it in no
        transfer syntax, `CannotUnderstand`, `DecodingFailed` and OSError.
        """
        wanted = self._wanted(instance)
        association = self._association_for(wanted)
        accepted = [
            uid
            for uid in wanted.transfer_syntax_uids
            if association.accepts(wanted.sop_class_uid, uid)
        ]
        used, response = self._send_as(association, instance, accepted)
        native = [uid for uid in accepted if uid in uids.NATIVE]
        if response.meaning in _PERHAPS_THE_SYNTAX and used not in uids.NATIVE and native:
            refused, first = used, response
            used, response = self._send_as(association, instance, native)
            if response.meaning not in _PERHAPS_THE_SYNTAX:
                self._give_up(Proposal(wanted.sop_class_uid, refused), first)
        self._count(instance, response)
        return response

    def send_file(self, path: Path) -> StoreResponse:
        """Send the instance in the file at `path`; raises as `send`."""
        with opened(path) as instance:
            return self.send(instance)

    def _send_as(
        self, association: StoreSCU, instance: Instance, syntaxes: list[str]
    ) -> tuple[str, StoreResponse]:
        """Send in the first of these transfer syntaxes in which the instance can be given."""
        sop_class, sop_instance = instance.sop_class_uid, instance.sop_instance_uid
        for syntax in syntaxes:
            try:
                data_set = self._manner.data_set(instance, syntax, self._run)
            except NotEncoded as kept:
                log.debug("%s: %s in %s: %s", self.name, sop_instance, syntax, kept)
                continue
            return syntax, association.send(sop_class, sop_instance, syntax, data_set)
        raise self._refusal(self._wanted(instance))

    def _give_up(self, proposal: Proposal, answer: StoreResponse) -> None:
        """Remember a transfer syntax that was accepted and then could not be read."""
        log.warning(
            "%s accepts %s of %s, answers %s, and takes it decompressed: so it is sent from now on",
            self.name,
            name_of(proposal.transfer_syntax_uid),
            name_of(proposal.sop_class_uid),
            status.describe(answer.status),
        )
        self._refusals.note([proposal], time.monotonic())

    def _refusal(self, wanted: Wanted) -> NotAccepted:
        tried = ", ".join(name_of(syntax) for syntax in wanted.transfer_syntax_uids)
        return NotAccepted(
            f"{self._peer} accepts {name_of(wanted.sop_class_uid)} in none of: {tried}"
        )

    def ask(self, proposals: Sequence[Proposal]) -> set[Proposal]:
        """Negotiate an association with these contexts, for what comes; return what is accepted.

        Raises `PeerUnreachable` and `PeerRefused`.
        """
        self.close()
        try:
            self._association = self._calls.connect(self._peer, proposals)
        except NothingAccepted:
            return set()
        self._proposed = set(proposals)
        self._refusals.note_answer(proposals, self._association.accepted, time.monotonic())
        return self._association.accepted

    def settle(self) -> None:
        """Nothing: what the peer has answered for, it has."""

    def close(self) -> None:
        """Release the association."""
        if self._association is not None:
            self._calls.close(self._association)
            self._association = None
        self._tell(self._sent.take())

    def _count(self, instance: Instance, response: StoreResponse) -> None:
        """Note for the audit what the peer has taken."""
        is_heard = self._witness is not nobody
        if is_heard and response.meaning in _TAKEN:
            self._tell(self._sent.add(instance.study_instance_uid, instance.sop_class_uid))

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

    def _wanted(self, instance: Instance) -> Wanted:
        sop_class = instance.sop_class_uid
        if not all(map(is_uid, (sop_class, instance.sop_instance_uid))):
            raise CannotUnderstand("the file's SOP Class or Instance UID is no UID")
        syntaxes = self._manner.syntaxes(instance)
        left = self._refusals.without(sop_class, syntaxes, time.monotonic())
        return Wanted(sop_class, left)

    def _association_for(self, wanted: Wanted) -> StoreSCU:
        """Return an open association on which `wanted` was proposed."""
        needed = {Proposal(wanted.sop_class_uid, uid) for uid in wanted.transfer_syntax_uids}
        is_open = self._association is not None and self._association.is_open
        if self._association is not None and is_open and needed <= self._proposed:
            return self._association
        if needed <= self._hopeless:
            raise self._refusal(wanted)
        proposals = propose([wanted, *self._wanted_next()])
        self.ask(proposals)
        if self._association is None:
            self._hopeless |= set(proposals)
            raise self._refusal(wanted)
        return self._association

    def _wanted_next(self) -> Iterable[Wanted]:
        for entry in self._upcoming:
            try:
                with opened(entry.path) as instance:
                    yield self._wanted(instance)
            except (OSError, CannotUnderstand):
                # It is gone, or its turn comes, and `deliver` then says what is wrong with it.
                continue
