"""What happens to a received instance: checked, encoded or kept, made safe, answered.

`Pipeline.receive` returns when the instance is safe: on stable storage in the spool, with the bell
rung for the deliverer (`Spooling`), or at the destination of a relay (`relaying`). It raises
`InstanceRefused` where the instance is not taken, and then nothing of it is left. An encoder that
fails costs compression, never the instance.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
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
from node.pixels.policy import Options
from node.reasons import KeepReason
from node.service.bell import Bell
from node.service.room import Room
from node.spool import Incoming, Spool

log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """What the requestor is answered about an instance that was written."""

    status: int = status.SUCCESS
    comment: str = ""


class Ending(Protocol):
    """What is done with an instance once it is written, before it is answered."""

    def begin(self) -> Incoming:
        """Start the file that it is written to."""

    def finish(self, incoming: Incoming) -> Reply:
        """Make it safe, here or elsewhere; raises OSError and `InstanceRefused`."""


class Spooling:
    """The usual ending: on stable storage in the spool, for the deliverer."""

    def __init__(self, spool: Spool, bell: Bell) -> None:
        self._spool = spool
        self._bell = bell

    def begin(self) -> Incoming:
        """Start an entry."""
        return self._spool.arrive()

    def finish(self, incoming: Incoming) -> Reply:
        """Commit it and wake the deliverer."""
        incoming.commit()
        self._bell.ring()
        return Reply()


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
        scanned = checked(received, data)
        try:
            self.require_room()
            # A file that is not committed is gone when the block ends.
            with self._ending.begin() as incoming:
                began = time.perf_counter()
                stored = self.write(received, scanned, data, incoming)
                written = time.perf_counter()
                reply = self._ending.finish(incoming)
                timing = Timing(encode=written - began, store=time.perf_counter() - written)
        except OSError as failure:
            self._spool.doubt(failure)
            log.error("cannot store: %s", failure)
            raise OutOfResources(f"cannot store: {failure.strerror or failure}") from failure
        return Answer(reply.status, reply.comment, stored, timing)

    def require_room(self) -> None:
        """Raise `OutOfResources` where nothing more may be written."""
        if hindrance := self._room.hindrance():
            raise OutOfResources(hindrance.cause)

    def write(
        self, received: Received, scanned: EncodedDataSet, data: ReceivedData, incoming: Incoming
    ) -> Stored:
        """Write one instance to a file of the spool, without making it durable."""
        meta = file_meta(received, self._ae_title)
        if received.transfer_syntax_uid in uids.DEFLATED:
            written = write_unread(data.buffer, meta, incoming.file, data.release)
        else:
            written = write_file(scanned, meta, incoming.file, self._options, data.release)
        if not data.is_as_it_arrived(written.crc32):
            log.error("%s: the spool's disk gave back other bytes", received.sop_instance_uid)
            raise OutOfResources("the spool's disk gave back other bytes than were written to it")
        return _stored(_described(received, scanned, data), written)


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


def _described(received: Received, scanned: EncodedDataSet, data: ReceivedData) -> Received:
    return replace(
        received,
        byte_count=data.nbytes,
        modality=scanned.modality or "",
        study_instance_uid=scanned.study_instance_uid or "",
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
