"""The DICOM file format: preamble, prefix and File Meta Information (PS3.10 7.1).

Bytes in, bytes out; the data set itself is never touched here. What is written has a zero
preamble (PS3.10 7.5), our own implementation UID and version name, and, in Private Information
(0002,0102), a `Record`: how the instance was encoded when it was received, so that exactly those
bytes can be given back, and the SHA-256 of what is stored. The record holds the CRC-32 of group 2
too: where that has changed since, by a broken disk or another program, there is no record any more.

Raises `CannotUnderstand` where a file does not hold a readable File Meta group.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from node.dicom import uids
from node.dicom.layout import Buffer
from node.errors import CannotUnderstand

PREFIX_END = 132
_GROUP_LENGTH_END = PREFIX_END + 12
#: So much of a file is looked at for its File Meta Information: nearly always the first is enough.
_STARTS = (4 << 10, 256 << 10, 16 << 20)
_LONG_FORM = frozenset({b"OB", b"UN", b"SQ", b"OW", b"UT"})
_RECORD_FORMAT = 1
_as_json = json.JSONEncoder(separators=(",", ":")).encode
#: What is the same from one instance to the next is so short at most; so much of it is remembered.
_LONGEST_REMEMBERED, _REMEMBERED = 64, 512
_SPACES = " \t\r\n\v\f"
_NO_DIGEST = "0" * 64
_NO_CHECKSUM = "0" * 8
#: What stands in the record before the digest of the data set and before the checksum of group 2.
_BEFORE_DIGEST = b'"sha256":"'
_BEFORE_CHECKSUM = b'"group2":"'
_as_json = json.JSONEncoder(separators=(",", ":")).encode

MEDIA_STORAGE_SOP_CLASS_UID = 0x0002_0002
MEDIA_STORAGE_SOP_INSTANCE_UID = 0x0002_0003
TRANSFER_SYNTAX_UID = 0x0002_0010
IMPLEMENTATION_CLASS_UID = 0x0002_0012
IMPLEMENTATION_VERSION_NAME = 0x0002_0013
SOURCE_AE_TITLE = 0x0002_0016
SENDING_AE_TITLE = 0x0002_0017
RECEIVING_AE_TITLE = 0x0002_0018
PRIVATE_INFORMATION_CREATOR_UID = 0x0002_0100
PRIVATE_INFORMATION = 0x0002_0102


class AsReceived(NamedTuple):
    """How the data set was encoded when it arrived: all that is needed to encode it so again.

    `pixel_vr` and `planar_configuration` are those of the native Pixel Data; `planar_configuration`
    is None where the data set has no such element. `crc32` is that of the whole data set.
    """

    transfer_syntax_uid: str
    byte_count: int
    crc32: int
    pixel_vr: str
    planar_configuration: int | None


class Record(NamedTuple):
    """What Private Information says of a file: the stored data set's digest, and how it came.

    `as_received` is None where the data set is stored as it was received.
    """

    sha256: str
    as_received: AsReceived | None


class FileMeta(NamedTuple):
    """File Meta Information of one file. `others` are further group 2 elements, kept as they are.

    AE titles are those of PS3.10 7.1: `source` wrote the file, `sending` sent its content over
    the network, `receiving` received it. Empty where unknown.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str = ""
    sending_ae_title: str = ""
    receiving_ae_title: str = ""
    record: Record | None = None
    others: tuple[tuple[int, bytes, bytes], ...] = ()


def encode(meta: FileMeta) -> bytes:
    """Return preamble, prefix and File Meta Information of `meta`, ready to be written.

    The length depends on the text fields only, not on the digest: see `patch_digest`.
    """
    elements: dict[int, tuple[bytes, bytes]] = {tag: (vr, value) for tag, vr, value in meta.others}
    elements[0x0002_0001] = (b"OB", b"\x00\x01")
    elements[MEDIA_STORAGE_SOP_CLASS_UID] = (b"UI", _uid(meta.sop_class_uid))
    elements[MEDIA_STORAGE_SOP_INSTANCE_UID] = (b"UI", _uid(meta.sop_instance_uid))
    elements[TRANSFER_SYNTAX_UID] = (b"UI", _uid(meta.transfer_syntax_uid))
    elements[IMPLEMENTATION_CLASS_UID] = (b"UI", _uid(uids.IMPLEMENTATION_CLASS_UID))
    elements[IMPLEMENTATION_VERSION_NAME] = (b"SH", _text(uids.IMPLEMENTATION_VERSION_NAME))
    for tag, title in (
        (SOURCE_AE_TITLE, meta.source_ae_title),
        (SENDING_AE_TITLE, meta.sending_ae_title),
        (RECEIVING_AE_TITLE, meta.receiving_ae_title),
    ):
        if title:
            elements[tag] = (b"AE", _text(title))
    if meta.record is not None:
        creator = _uid(uids.PRIVATE_INFORMATION_CREATOR_UID)
        elements[PRIVATE_INFORMATION_CREATOR_UID] = (b"UI", creator)
        elements[PRIVATE_INFORMATION] = (b"OB", _encode_record(meta.record))
    body = b"".join(_either(tag, *elements[tag]) for tag in sorted(elements))
    length = _element(0x0002_0000, b"UL", struct.pack("<L", len(body)))
    group = length + body
    if meta.record is not None:
        at = group.rindex(_BEFORE_CHECKSUM) + len(_BEFORE_CHECKSUM)
        group = _put(group, at, _checksum(group))
    return bytes(128) + b"DICM" + group


def _checksum(group: bytes) -> bytes:
    """Return the CRC-32 of group 2 as text; its own place and the digest's count as unfilled.

    ValueError where there is no such place.
    """
    for before, unfilled in ((_BEFORE_DIGEST, _NO_DIGEST), (_BEFORE_CHECKSUM, _NO_CHECKSUM)):
        group = _put(group, group.rindex(before) + len(before), unfilled.encode())
    return b"%08x" % zlib.crc32(group)


def _put(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


def patch_digest(header: bytes, sha256: str) -> tuple[int, bytes]:
    """Return where in a file that begins with `header` the digest stands, and its bytes.

    The digest is known only once the data set behind the header was written.
    """
    at = header.rindex(_NO_DIGEST.encode())
    return at, sha256.encode()


def unsealed(as_received: AsReceived | None) -> Record:
    """Return a record whose digest is still to be patched in."""
    return Record(sha256=_NO_DIGEST, as_received=as_received)


def decode(data: Buffer) -> tuple[FileMeta, int]:
    """Return the File Meta Information of the file `data`, and the offset of its data set."""
    view = memoryview(data)
    if len(view) < _GROUP_LENGTH_END or bytes(view[128:PREFIX_END]) != b"DICM":
        raise CannotUnderstand("not a DICOM file: the prefix DICM is missing at byte 128")
    end = _group_end(view)
    found: dict[int, tuple[bytes, bytes]] = {}
    at = PREFIX_END
    while at < end:
        tag, vr, value, at = _next_element(view, at, end)
        found[tag] = (vr, value)
    return _meta(found, bytes(view[PREFIX_END:end])), end


def decode_start(read: Callable[[int], bytes]) -> tuple[FileMeta, int]:
    """As `decode`, of a file of which `read` returns as many first bytes as asked for, or all.

    It is asked for no more than the File Meta Information needs.
    """
    for wanted in _STARTS:
        start = read(wanted)
        is_all = len(start) < wanted
        try:
            meta, end = decode(start)
        except CannotUnderstand:
            if is_all or start[128:PREFIX_END] != b"DICM":
                raise
            continue
        # Without a group length it ends where another group begins: that has to be seen.
        if is_all or end + 8 <= wanted:
            return meta, end
    raise CannotUnderstand("its File Meta Information is larger than any")


def _group_end(view: memoryview) -> int:
    """Return where group 2 ends: its group length tells, or, where that is missing, its tags."""
    tag, vr, value, at = _next_element(view, PREFIX_END, len(view))
    if tag == 0x0002_0000 and vr == b"UL" and len(value) == 4:
        end = at + int(struct.unpack("<L", value)[0])
        if end <= len(view):
            return end
        raise CannotUnderstand("the file ends within its File Meta Information")
    at = PREFIX_END
    while at + 8 <= len(view) and bytes(view[at : at + 2]) == b"\x02\x00":
        _, _, _, at = _next_element(view, at, len(view))
    return at


def _next_element(view: memoryview, at: int, end: int) -> tuple[int, bytes, bytes, int]:
    if at + 8 > end:
        raise CannotUnderstand("the File Meta Information is cut off")
    group, element = struct.unpack_from("<HH", view, at)
    vr = bytes(view[at + 4 : at + 6])
    if vr in _LONG_FORM:
        if at + 12 > end:
            raise CannotUnderstand("the File Meta Information is cut off")
        start, length = at + 12, int(struct.unpack_from("<L", view, at + 8)[0])
    else:
        start, length = at + 8, int(struct.unpack_from("<H", view, at + 6)[0])
    if group != 2 or start + length > end:
        raise CannotUnderstand("the File Meta Information is not well formed")
    return group << 16 | element, vr, bytes(view[start : start + length]), start + length


_WRITTEN_BY_US = frozenset(
    {
        0x0002_0000,
        0x0002_0001,
        MEDIA_STORAGE_SOP_CLASS_UID,
        MEDIA_STORAGE_SOP_INSTANCE_UID,
        TRANSFER_SYNTAX_UID,
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION_NAME,
        SOURCE_AE_TITLE,
        SENDING_AE_TITLE,
        RECEIVING_AE_TITLE,
    }
)


def _meta(found: dict[int, tuple[bytes, bytes]], group: bytes) -> FileMeta:
    def text(tag: int) -> str:
        value = found.get(tag, (b"", b""))[1]
        # What should be ASCII and is not keeps its bytes: no character of Latin-1 is two.
        return value.rstrip(b"\x00 ").decode("latin-1").strip(_SPACES)

    record, ours = None, set(_WRITTEN_BY_US)
    if text(PRIVATE_INFORMATION_CREATOR_UID) == uids.PRIVATE_INFORMATION_CREATOR_UID:
        record = _decode_record(found.get(PRIVATE_INFORMATION, (b"", b""))[1], group)
        ours |= {PRIVATE_INFORMATION_CREATOR_UID, PRIVATE_INFORMATION}
    return FileMeta(
        sop_class_uid=text(MEDIA_STORAGE_SOP_CLASS_UID),
        sop_instance_uid=text(MEDIA_STORAGE_SOP_INSTANCE_UID),
        transfer_syntax_uid=text(TRANSFER_SYNTAX_UID),
        source_ae_title=text(SOURCE_AE_TITLE),
        sending_ae_title=text(SENDING_AE_TITLE),
        receiving_ae_title=text(RECEIVING_AE_TITLE),
        record=record,
        others=tuple((tag, vr, value) for tag, (vr, value) in found.items() if tag not in ours),
    )


def _encode_record(record: Record) -> bytes:
    came = record.as_received
    as_received = came and came._asdict()
    fields = {
        "format": _RECORD_FORMAT,
        "as_received": as_received,
        "group2": _NO_CHECKSUM,
        "sha256": record.sha256,
    }
    return _as_json(fields).encode()


def _decode_record(value: bytes, group: bytes) -> Record | None:
    """Return the record in `value`; None where it is not one of ours or of a later format, or
    where it is not that of this group 2.
    """
    try:
        fields = json.loads(value.rstrip(b"\x00 "))
        if fields["format"] != _RECORD_FORMAT or fields["group2"].encode() != _checksum(group):
            return None
        return Record(sha256=str(fields["sha256"]), as_received=_received(fields["as_received"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _received(came: dict[str, object] | None) -> AsReceived | None:
    """Return how the data set came; raises TypeError where that is not what we write."""
    if came is None:
        return None
    texts = (came["transfer_syntax_uid"], came["pixel_vr"])
    numbers = (came["byte_count"], came["crc32"], came["planar_configuration"] or 0)
    if {type(text) for text in texts} != {str} or {type(number) for number in numbers} != {int}:
        raise TypeError("a field of a record is of another type")
    return AsReceived(**came)  # type: ignore[arg-type]


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\x00" if vr in (b"UI", b"OB") else b" "
    header = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in _LONG_FORM:
        return header + struct.pack("<HL", 0, len(value)) + value
    return header + struct.pack("<H", len(value)) + value


_remembered_element = lru_cache(_REMEMBERED)(_element)


def _either(tag: int, vr: bytes, value: bytes) -> bytes:
    """Return an element as `_element` does; but for two they are those of the instance before."""
    if tag == MEDIA_STORAGE_SOP_INSTANCE_UID or len(value) > _LONGEST_REMEMBERED:
        return _element(tag, vr, value)
    return _remembered_element(tag, vr, value)


def _uid(value: str) -> bytes:
    return value.encode("latin-1", "replace")


def _text(value: str) -> bytes:
    return value.encode("latin-1", "replace")
