"""A DICOMDIR that names files elsewhere (CVE-2026-32711, pydicom's FileSet), and data sets that
are not what the association said: what is in an instance is never followed, and is kept as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import instances
import pytest
import served
from conftest import StartNode, disk
from network.raw_peer import RawPeer, associate_rq, context
from peers import connected, send, wait_until
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from node.dicom import part10

#: Components of a File ID: up and out, absolute, with separators of either kind in them.
FILE_IDS = [
    ["..", "..", "secret"],
    ["/etc", "passwd"],
    ["../../secret"],
    ["..\\..\\secret"],
    [".."],
]


def a_directory(uid: str) -> Dataset:
    """A DICOMDIR whose records lead elsewhere, and to each other in a circle."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MediaStorageDirectoryStorage, uid
    ds.FileSetID = "../../x"
    ds.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 400
    ds.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 400
    records = []
    for components in FILE_IDS:
        record = Dataset()
        record.OffsetOfTheNextDirectoryRecord = 400
        record.RecordInUseFlag = _MOST
        record.OffsetOfReferencedLowerLevelDirectoryEntity = 400
        record.DirectoryRecordType = "IMAGE"
        record.add_new("ReferencedFileID", "CS", components)
        record.ReferencedSOPClassUIDInFile = CTImageStorage
        record.ReferencedSOPInstanceUIDInFile = "../../x"
        record.ReferencedTransferSyntaxUIDInFile = ExplicitVRLittleEndian
        records.append(record)
    ds.DirectoryRecordSequence = Sequence(records)
    return ds


_MOST = 0xFFFF


def everything_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.filterwarnings("ignore")
def test_a_directory_is_no_instance_to_take(tmp_path: Path, start_node: StartNode) -> None:
    node = start_node(disk(tmp_path / "disk"))
    with RawPeer(node.address) as peer:
        directory = MediaStorageDirectoryStorage.encode()
        peer.send([associate_rq(context(1, [directory]), called=b"DCMPRESS")])
        assert peer.receive() == "A-ASSOCIATE-AC"
        assert peer.context_results() == {1: 3}
    # Under the name of another class its records are as good as any other sequence.
    ds = a_directory(instances.new_uid())
    ds.SOPClassUID = CTImageStorage
    assert send(node.address[1], ds) == 0
    wait_until(lambda: node.progress["disk"].delivered == 1, "on disk")
    kept = instances.data_sets_in(tmp_path / "disk")
    assert kept[str(ds.SOPInstanceUID)][1] == instances.encoded(ds)
    assert [path.suffix for path in (tmp_path / "disk").rglob("*") if path.is_file()] == [".dcm"]


@pytest.mark.filterwarnings("ignore")
def test_the_commands_do_not_follow_a_directory(tmp_path: Path) -> None:
    secret = instances.as_file(tmp_path / "secret", instances.image())
    media = tmp_path / "media" / "disc"
    directory = instances.as_file(media / "DICOMDIR", a_directory(instances.new_uid()))
    image = instances.as_file(media / "IMAGES" / "1", instances.image())
    (media / "LINK").symlink_to(secret)
    before = secret.read_bytes(), image.read_bytes()
    done = served.run("compress", "media", "--output", "out", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    written = everything_below(tmp_path / "out")
    assert {Path(name).name for name in written} <= {"DICOMDIR", "1", "LINK"}
    [copy] = [content for name, content in written.items() if name.endswith("DICOMDIR")]
    assert copy == directory.read_bytes()
    assert (secret.read_bytes(), image.read_bytes()) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"media", "out", "secret"}


# -- not as it was said ----------------------------------------------------------------------------


def native(ds: Dataset) -> bytes:
    return instances.encoded(ds)


def with_file_meta(ds: Dataset) -> bytes:
    """Group 2, of which another transfer syntax is claimed, before the data set."""
    uid = RLELossless.encode() + b"\0" * (len(RLELossless) % 2)
    return struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid + instances.encoded(ds)


def a_whole_file(ds: Dataset) -> bytes:
    """With a preamble that is the head of a program."""
    return b"MZ" + bytes(126) + b"DICM" + with_file_meta(ds)


def implicit(ds: Dataset) -> bytes:
    return instances.encoded(ds, "1.2.840.10008.1.2")


NOT_AS_SAID: dict[str, tuple[str, Callable[[Dataset], bytes]]] = {
    "native pixel data in an RLE context": (RLELossless, native),
    "File Meta Information in the data set": (ExplicitVRLittleEndian, with_file_meta),
    "a whole file as data set": (ExplicitVRLittleEndian, a_whole_file),
    "Implicit VR in an Explicit VR context": (ExplicitVRLittleEndian, implicit),
    "Explicit VR in an Implicit VR context": ("1.2.840.10008.1.2", native),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", NOT_AS_SAID)
def test_what_is_not_as_it_was_said_is_kept_byte_for_byte(
    case: str, tmp_path: Path, start_node: StartNode
) -> None:
    syntax, encode = NOT_AS_SAID[case]
    node = start_node(disk(tmp_path / "disk"))
    ds = instances.image()
    uid = str(ds.SOPInstanceUID)
    scu = connected(node.address[1], (CTImageStorage, syntax))
    answer = scu.send(CTImageStorage, uid, syntax, [encode(ds)])
    scu.close()
    assert answer.status == 0, answer.comment
    wait_until(lambda: node.progress["disk"].delivered == 1, "on disk")
    [path] = (tmp_path / "disk").rglob("*.dcm")
    # Not by pydicom, to which File Meta Information ends where another group begins.
    meta, data_set_offset = part10.decode(path.read_bytes())
    assert (meta.sop_instance_uid, meta.transfer_syntax_uid) == (uid, syntax)
    assert path.read_bytes()[data_set_offset:] == encode(ds)
    assert path.read_bytes()[:132] == bytes(128) + b"DICM"
