"""The header of a DICOM file: bytes that others read, and back."""

from __future__ import annotations

import io
import struct
from typing import Any

import instances
import pydicom
import pytest
from pydicom.uid import UID

from node.dicom import part10, uids
from node.dicom.part10 import AsReceived, FileMeta, Record
from node.errors import CannotUnderstand

CAME = AsReceived(
    transfer_syntax_uid=uids.IMPLICIT_VR_LE,
    byte_count=4711,
    crc32=0xFFFF_FFFF,
    pixel_vr="OW",
    planar_configuration=None,
)
FULL = FileMeta(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    sop_instance_uid="1.2.3.4.5",
    transfer_syntax_uid=uids.RLE_LOSSLESS,
    source_ae_title="DCMPRESS",
    sending_ae_title="CT1",
    receiving_ae_title="DCMPRESS",
    record=Record(sha256="ab" * 32, as_received=CAME),
)
METAS = {
    "full": FULL,
    "without a record": FULL._replace(record=None),
    "kept as received": FULL._replace(record=Record(sha256="cd" * 32, as_received=None)),
    "planar configuration 0": FULL._replace(
        record=Record(sha256="ef" * 32, as_received=CAME._replace(planar_configuration=0))
    ),
    "no titles": FULL._replace(source_ae_title="", sending_ae_title="", receiving_ae_title=""),
    "titles of odd length": FULL._replace(sending_ae_title="ODD", receiving_ae_title="A"),
    "elements of others": FULL._replace(
        record=None, others=((0x00020100, b"UI", b"1.2.3\0"), (0x00020102, b"OB", b"\1\2"))
    ),
    "a UID of 64 characters": FULL._replace(sop_instance_uid="1." + "9" * 62),
}


@pytest.mark.parametrize("case", METAS)
def test_what_is_written_is_read_again(case: str) -> None:
    meta = METAS[case]
    header = part10.encode(meta)
    assert part10.decode(header + b"data set") == (meta, len(header))


@pytest.mark.parametrize("case", METAS)
def test_pydicom_reads_it(case: str) -> None:
    meta = METAS[case]
    header = part10.encode(meta)
    data_set = instances.encoded(instances.instance())
    ds = pydicom.dcmread(io.BytesIO(header + data_set))
    found = ds.file_meta
    assert ds.preamble == bytes(128)
    assert found.FileMetaInformationGroupLength == len(header) - 144
    assert found.FileMetaInformationVersion == b"\x00\x01"
    assert found.MediaStorageSOPClassUID == meta.sop_class_uid
    assert found.MediaStorageSOPInstanceUID == meta.sop_instance_uid
    assert found.TransferSyntaxUID == meta.transfer_syntax_uid
    assert found.ImplementationClassUID == uids.IMPLEMENTATION_CLASS_UID
    assert found.ImplementationVersionName == uids.IMPLEMENTATION_VERSION_NAME
    assert found.get("SourceApplicationEntityTitle", "") == meta.source_ae_title
    assert found.get("SendingApplicationEntityTitle", "") == meta.sending_ae_title
    assert found.get("ReceivingApplicationEntityTitle", "") == meta.receiving_ae_title
    assert len(header) % 2 == 0
    if meta.record is not None:
        creator = found.PrivateInformationCreatorUID
        assert creator == uids.PRIVATE_INFORMATION_CREATOR_UID


def test_our_own_uids_are_valid() -> None:
    for uid in (uids.IMPLEMENTATION_CLASS_UID, uids.PRIVATE_INFORMATION_CREATOR_UID):
        assert UID(uid).is_valid
    assert 1 <= len(uids.IMPLEMENTATION_VERSION_NAME) <= 16


def test_elements_stand_in_the_order_of_their_tags() -> None:
    header = part10.encode(METAS["elements of others"])
    meta = pydicom.filereader.read_dataset(io.BytesIO(header[132:]), False, True)
    tags = [int(tag) for tag in meta._dict]
    assert len(tags) > 8
    assert tags == sorted(tags)


@pytest.mark.parametrize("came", [None, CAME], ids=["kept", "encoded"])
def test_the_digest_is_patched_where_it_stands(came: AsReceived | None) -> None:
    header = part10.encode(FULL._replace(record=part10.unsealed(came)))
    at, patch = part10.patch_digest(header, "5a" * 32)
    sealed = header[:at] + patch + header[at + len(patch) :]
    assert len(sealed) == len(header)
    assert part10.decode(sealed)[0].record == Record(sha256="5a" * 32, as_received=came)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


SYNTAX = element(0x00020010, b"UI", b"1.2.840.10008.1.2\0")
CLASS = element(0x00020002, b"UI", b"1.2\0")
PREAMBLE = bytes(128) + b"DICM"
LENIENT = {
    "no group length": PREAMBLE + CLASS + SYNTAX,
    "a preamble that says something": b"II*\0" + bytes(124) + b"DICM" + CLASS + SYNTAX,
    "spaces around a UID": PREAMBLE + element(0x00020002, b"UI", b"1.2 ") + SYNTAX,
    "tags out of order": PREAMBLE + SYNTAX + CLASS,
}
DATA = b"\x08\x00\x05\x00CS\x00\x00"


@pytest.mark.parametrize("case", LENIENT)
def test_headers_of_others_are_read(case: str) -> None:
    meta, offset = part10.decode(LENIENT[case] + DATA)
    assert (meta.sop_class_uid, meta.transfer_syntax_uid) == ("1.2", "1.2.840.10008.1.2")
    assert offset == len(LENIENT[case])
    assert meta.record is None


def record_of_others(text: bytes) -> bytes:
    value = text + b" " * (len(text) % 2)
    body = SYNTAX + element(
        0x00020100, b"UI", uids.PRIVATE_INFORMATION_CREATOR_UID.encode().ljust(46, b"\0")
    )
    body += struct.pack("<HH2sHL", 2, 0x0102, b"OB", 0, len(value)) + value
    return PREAMBLE + element(0x00020000, b"UL", struct.pack("<L", len(body))) + body


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format":2,"as_received":null,"sha256":""}',
        b'{"format":1,"sha256":""}',
        b'{"format":1,"as_received":{"what":1},"sha256":""}',
        b'{"format":1,"as_received":7,"sha256":""}',
    ],
)
def test_a_record_that_is_none_of_ours_is_none(text: bytes) -> None:
    assert part10.decode(record_of_others(text))[0].record is None


BAD = {
    "empty": b"",
    "short": bytes(100),
    "no prefix": bytes(132) + CLASS + SYNTAX,
    "prefix alone": PREAMBLE,
    "lower case": bytes(128) + b"dicm" + CLASS,
    "group length past the end": PREAMBLE
    + element(0x00020000, b"UL", struct.pack("<L", 500))
    + CLASS,
    "group length of a data set element": PREAMBLE
    + element(0x00020000, b"UL", struct.pack("<L", len(CLASS) + 8))
    + CLASS
    + DATA,
    "element past the end": PREAMBLE + CLASS + struct.pack("<HH2sH", 2, 0x10, b"UI", 60),
    "long form cut off": PREAMBLE + CLASS + b"\x02\x00\x02\x01OB\x00\x00",
    "long form past the end": PREAMBLE
    + CLASS
    + struct.pack("<HH2sHL", 2, 0x0102, b"OB", 0, 0xFFFF_FFFF),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_header_is_refused(case: str) -> None:
    with pytest.raises(CannotUnderstand):
        part10.decode(BAD[case])


def test_a_record_counts_for_the_group_it_was_written_with() -> None:
    """A flipped bit anywhere in group 2 is seen; in the preamble there is nothing to see."""
    header = part10.encode(FULL)
    for at in range(part10.PREFIX_END, len(header)):
        changed = bytearray(header)
        changed[at] ^= 1
        try:
            meta, _ = part10.decode(bytes(changed))
        except CannotUnderstand:
            continue
        # The digest is compared with the data set.
        assert meta.record is None or meta.record.sha256 != "ab" * 32, at


def padded(length: int, *, group_length: bool = True) -> bytes:
    """A header of so many bytes, and a data set."""
    meta = FileMeta(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid="1.2.840")
    filler = length - len(part10.encode(meta)) - 12
    others = ((0x0002_FFFF, b"OB", bytes(filler)),)
    header = part10.encode(meta._replace(others=others))
    if not group_length:
        header = header[:132] + header[144:]
    return header + b"\x08\0\5\0CS\2\0  " + bytes(100)


#: Lengths around those that are tried.
LENGTHS = [1000, 4084, 4086, 4088, 4090, 4092, 4094, 4096, 4098, 5000, 262_136, 262_144, 300_000]


@pytest.mark.parametrize("group_length", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_start_of_a_file_is_enough(length: int, group_length: bool) -> None:
    file = padded(length + (0 if group_length else 12), group_length=group_length)
    asked: list[int] = []

    def read(count: int) -> bytes:
        asked.append(count)
        return file[:count]

    assert part10.decode_start(read) == part10.decode(file)
    assert part10.decode_start(read)[1] == length
    assert max(asked) <= (256 << 10 if length <= 262_136 else 16 << 20)


@pytest.mark.parametrize("file", [b"", b"x" * 5000, bytes(128) + b"DICM", padded(5000)[:4999]])
def test_the_start_of_what_is_no_file_of_ours(file: bytes) -> None:
    with pytest.raises(CannotUnderstand):
        part10.decode_start(lambda count: file[:count])


def test_a_header_without_end_is_not_read_to_its_end() -> None:
    endless = bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, 0xFFFFFFF0)
    asked: list[int] = []

    def read(count: int) -> bytes:
        asked.append(count)
        return endless.ljust(count, b"\0")

    with pytest.raises(CannotUnderstand):
        part10.decode_start(read)
    assert max(asked) == 16 << 20


def test_the_digest_may_be_filled_in_later() -> None:
    header = part10.encode(FULL._replace(record=part10.unsealed(CAME)))
    at, digest = part10.patch_digest(header, "ab" * 32)
    sealed = header[:at] + digest + header[at + len(digest) :]
    assert sealed == part10.encode(FULL)
    assert part10.decode(sealed)[0] == FULL


def test_bytes_that_are_no_ascii_stay() -> None:
    """In UIDs and AE titles, where they should not be."""
    meta = FileMeta(
        sop_class_uid="1.2", sop_instance_uid="1.2.\xe9", transfer_syntax_uid="1.2.840.10008.1.2"
    )
    meta = meta._replace(sending_ae_title="M\xdcNCHEN")
    again, _ = part10.decode(part10.encode(meta))
    assert (again.sop_instance_uid, again.sending_ae_title) == ("1.2.\xe9", "M\xdcNCHEN")


def test_a_record_that_nests_without_end_is_none() -> None:
    made = part10.encode(
        FileMeta(
            sop_class_uid="1.2",
            sop_instance_uid="1.2.3",
            transfer_syntax_uid="1.2.840.10008.1.2",
            others=(
                (0x0002_0100, b"UI", uids.PRIVATE_INFORMATION_CREATOR_UID.encode()),
                (0x0002_0102, b"OB", b"[" * 100_000),
            ),
        )
    )
    assert part10.decode(made)[0].record is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"transfer_syntax_uid": 5},
        {"pixel_vr": None},
        {"byte_count": "many"},
        {"byte_count": True},
        {"crc32": [1]},
        {"planar_configuration": "1"},
    ],
)
def test_a_record_with_fields_of_other_types_is_none(wrong: dict[str, Any]) -> None:
    assert FULL.record is not None
    assert FULL.record.as_received is not None
    came = FULL.record.as_received._replace(**wrong)
    forged = FULL.record._replace(as_received=came)
    header = part10.encode(FULL._replace(record=forged))
    assert part10.decode(header)[0].record is None
