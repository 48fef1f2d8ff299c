"""What happens to a received instance: checked, encoded or kept, made safe, answered.

`Pipeline.receive` returns when the instance is safe: on stable storage in the spool, with the bell
rung for the deliverer (`Spooling`), or at the destination of a relay (`relaying`). It raises
`InstanceRefused` where the instance is not taken, and then nothing of it is left. An encoder that
fails costs compression, never the instance.
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple, Protocol

from node.dicom import identity, status, uids
from node.dicom.encoded import EncodedDataSet
from node.dicom.part10 import FileMeta
from node.errors import OutOfResources
from node.model import Compressed, Kept, Received, Stored
from node.network.data_set import ReceivedData
from node.network.store_scp import Answer
from node.network.tally import Timing
from node.pixels.files import Written, write_file, write_unread
from node.pixels.held import HeldInstance, hold, hold_as_received
from node.pixels.planning import NotEncoded
from node.pixels.policy import Options
from node.reasons import KeepReason
from node.service.bell import Bell
from node.service.room import Room
from node.spool import Incoming, Spool

log = logging.getLogger(__name__)


class Ended(NamedTuple):
    """What became of an instance, how long that took, and what its requestor is answered."""

    stored: Stored
    timing: Timing
    status: int = status.SUCCESS
    comment: str = ""


class Ending(Protocol):
    """What is done with an instance that was checked, before it is answered."""

    def end(self, arrived: Arrived) -> Ended:
        """Make it safe, here or elsewhere; raises OSError and `InstanceRefused`."""


class Arrived(NamedTuple):
    """An instance that was checked, and how it is to be encoded."""

    received: Received
    data: ReceivedData
    scanned: EncodedDataSet
    meta: FileMeta
    options: Options

    def write(self, incoming: Incoming) -> Stored:
        """Write it to a file of the spool, without making it durable."""
        data, meta = self.data, self.meta
        if meta.transfer_syntax_uid in uids.DEFLATED:
            written = write_unread(data.buffer, meta, incoming.file, data.release)
        else:
            written = write_file(self.scanned, meta, incoming.file, self.options, data.release)
        if not data.is_as_it_arrived(written.crc32):
            log.error("%s: the spool's disk gave back other bytes", meta.sop_instance_uid)
            raise OutOfResources("the spool's disk gave back other bytes than were written to it")
        return self.stored(written)

    def hold(self) -> HeldInstance:
        """Encode it in memory, for an instance that was received in memory."""
        return hold(self.scanned, self.data.buffer, self.meta, self.options)

    def hold_as_received(self, kept: NotEncoded) -> HeldInstance:
        """Keep it in memory as it is, for the reason in `kept`."""
        return hold_as_received(self.scanned, self.data.buffer, self.meta, kept)

    def stored(self, written: Written) -> Stored:
        """Say what became of it."""
        received = self.received._replace(
            byte_count=self.data.nbytes,
            modality=self.scanned.modality or "",
            study_instance_uid=self.scanned.study_instance_uid or "",
        )
        return _stored(received, written)


class Spooling:
    """The usual ending: on stable storage in the spool, for the deliverer."""

    def __init__(self, spool: Spool, bell: Bell) -> None:
        self._spool = spool
        self._bell = bell

    def end(self, arrived: Arrived) -> Ended:
        """Write it to an entry, commit that, and wake the deliverer."""
        began = time.perf_counter()
        # A file that is not committed is gone when the block ends.
        with self._spool.arrive() as incoming:
            stored = arrived.write(incoming)
            written = time.perf_counter()
            incoming.commit()
        self._bell.ring()
        return Ended(stored, Timing(encode=written - began, store=time.perf_counter() - written))


class Pipeline:
    """Received -> Compressed | Kept -> its ending, in the thread that received. Safe to share."""

    def __init__(
        self, spool: Spool, room: Room, options: Options, ae_title: str, ending: Ending
    ) -> None:
        self._spool = spool
        self._room = room
        self._options = options
        self._ae_title = ae_title
        self._ending = ending

    def receive(self, received: Received, data: ReceivedData) -> Answer:
        """Take one instance and return what is answered about it."""
        scanned, meta = checked(received, data), file_meta(received, self._ae_title)
        try:
            self.require_room()
            ended = self._ending.end(Arrived(received, data, scanned, meta, self._options))
        except OSError as failure:
            self._spool.doubt(failure)
            log.error("cannot store: %s", failure)
            raise OutOfResources(f"cannot store: {failure.strerror or failure}") from failure
        return Answer(ended.status, ended.comment, ended.stored, ended.timing)

    def require_room(self) -> None:
        """Raise `OutOfResources` where nothing more may be written."""
        if hindrance := self._room.hindrance():
            raise OutOfResources(hindrance.cause)


def checked(received: Received, data: ReceivedData) -> EncodedDataSet:
    """Scan what was received and compare it with its command; raises `InstanceRefused`."""
    scanned = identity.scan_any(data.buffer, received.transfer_syntax_uid, data.release)
    found = identity.identity_of(scanned)
    identity.check(found, received.sop_class_uid, received.sop_instance_uid)
    return scanned


def file_meta(received: Received, ae_title: str) -> FileMeta:
    """Return the File Meta Information of an instance as it was received (PS3.10 7.1)."""
    return FileMeta(
        sop_class_uid=received.sop_class_uid,
        sop_instance_uid=received.sop_instance_uid,
        transfer_syntax_uid=received.transfer_syntax_uid,
        source_ae_title=ae_title,
        sending_ae_title=received.origin.calling_ae_title,
        receiving_ae_title=received.origin.called_ae_title,
    )


#: These say that something is wrong with an encoder or a decoder, not with the instance.
_ALARMING = frozenset({KeepReason.ENCODER_FAILED, KeepReason.VERIFY_FAILED})


def _stored(received: Received, written: Written) -> Stored:
    if written.reason is None:
        return Compressed(
            received=received,
            transfer_syntax_uid=written.transfer_syntax_uid,
            byte_count=written.byte_count,
        )
    if written.reason in _ALARMING:
        log.error(
            "kept %s as it came: %s (%s)",
            received.sop_instance_uid,
            written.reason.value,
            written.detail,
        )
    return Kept(received=received, reason=written.reason)
