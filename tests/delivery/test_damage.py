"""An entry that is not what was written is set aside and never sent: any bit, any end (F32)."""

from __future__ import annotations

from pathlib import Path

import instances
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from node.delivery.attempt import Damaged, attempt
from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.model import Delivered, Outcome
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.pixels.stored import StoredInstance
from node.spool import Entry, State

#: It says nothing (PS3.10 7.1); what is in it is not looked at.
_PREAMBLE = 128


class Taker:
    """Takes everything, and says so."""

    name = "pacs"

    def begin(self, entries: object) -> None:
        """Nothing has to be known."""

    def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
        return Delivered(destination=self.name, status=0)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    ds = instances.image(rows=4, columns=4)
    meta = FileMeta(
        str(ds.SOPClassUID),
        str(ds.SOPInstanceUID),
        ExplicitVRLittleEndian,
        source_ae_title="NODE",
        sending_ae_title="CT1",
        receiving_ae_title="NODE",
    )
    path = tmp_path / "1.dcm"
    with path.open("w+b", buffering=0) as file:
        data_set = scan(instances.encoded(ds), ExplicitVRLittleEndian)
        write_file(data_set, meta, file, Options())
    return Entry(path.name, State.QUEUED, path, "pacs")


def is_sent(entry: Entry, content: bytes) -> bool:
    entry.path.write_bytes(content)
    return not isinstance(attempt(Taker(), entry).outcome, Damaged)


def test_any_bit_that_flipped_is_seen(entry: Entry) -> None:
    whole = entry.path.read_bytes()
    assert is_sent(entry, whole)
    unseen = []
    for at in range(_PREAMBLE, len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        if is_sent(entry, bytes(flipped)):
            unseen.append(at)
    assert unseen == []


def test_any_end_that_is_missing_or_too_much_is_seen(entry: Entry) -> None:
    whole = entry.path.read_bytes()
    assert [end for end in range(len(whole)) if is_sent(entry, whole[:end])] == []
    assert not is_sent(entry, whole + b"\0")
    assert not is_sent(entry, bytes(len(whole)))
