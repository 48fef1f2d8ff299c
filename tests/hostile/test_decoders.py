"""Compressed instances that are attacks on whoever decodes them, sent to a node that is to decode
them: its archive takes nothing but native pixel data.

Each is acknowledged, kept as it came, and set aside for the archive that it cannot be decoded for;
the node lives on within its memory, and the good one behind them arrives.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import instances
import pytest
from conftest import StartNode, disk, pacs
from hostile.usage import usage
from peers import connected, downstream, send, wait_until
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from node.pixels.encapsulation import OffsetTable
from node.spool import State

BASELINE, LOSSLESS, LS = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 70, 80))
J2K, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201"
_MOST = 0xFFFF
_BEYOND = struct.pack("<2Q", 1 << 32, (1 << 63) + 1)


def encapsulated(*frames: bytes, table: bytes = b"", extended: bytes = b"", **elements: Any) -> Any:
    """A data set with these items, whatever they are, and such offset tables."""
    ds = instances.image(**elements)
    del ds.PixelData
    data_set = instances.encoded(ds)
    for element in (1, 2) if extended else ():
        data_set += struct.pack("<HH2sHI", 0x7FE0, element, b"OV", 0, len(extended)) + extended
    data_set += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 2**32 - 1)
    for each in (table, *frames):
        padded = each + b"\0" * (len(each) % 2)
        data_set += struct.pack("<HHI", 0xFFFE, 0xE000, len(padded)) + padded
    return str(ds.SOPInstanceUID), data_set + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


# -- output of more than 4 GiB: DCMTK #1099 --------------------------------------------------------


def marker(code: int, value: bytes = b"", length: int | None = None) -> bytes:
    """A segment of a JPEG stream, whose length counts itself."""
    return struct.pack(">BBH", 0xFF, code, len(value) + 2 if length is None else length) + value


def sof(code: int, rows: int, columns: int, precision: int = 8) -> bytes:
    return marker(code, struct.pack(">BHHB", precision, rows, columns, 1) + b"\1\x11\0")


def siz(columns: int, rows: int) -> bytes:
    fields = struct.pack(">H8IH", 0, columns, rows, 0, 0, columns, rows, 0, 0, 1)
    return marker(0x51, fields + b"\x0f\1\1")


SOI, EOI, SOC = b"\xff\xd8", b"\xff\xd9", b"\xff\x4f"
SCAN = marker(0xDA, b"\1\1\0\0\x3f\0") + b"\0" * 64
LS_SCAN = marker(0xDA, b"\1\1\0\0\0\0") + b"\0" * 64
TILE = marker(0x90, struct.pack(">HIBB", 0, 0, 0, 1)) + b"\xff\x93" + b"\0" * 64
COD = marker(0x52, b"\0\0\0\1\0\5\4\4\0\1")
QCD = marker(0x5C, b"\x40" + b"\x40" * 16)
#: Two segments that end in runs: 16 bits allocated.
RUNS = struct.pack("<16I", 2, 64, 64 + 20_000, *[0] * 13) + b"\x81\0" * 20_000
WIDE = {"rows": 2, "columns": 2, "bits": 16}


def claiming(frames: int, rows: int = _MOST, columns: int = _MOST) -> dict[str, Any]:
    return {"NumberOfFrames": frames, "Rows": rows, "Columns": columns}


CLAIMS: dict[str, tuple[str, Any]] = {
    "RLE of 8 GiB": (RLELossless, encapsulated(RUNS, **WIDE, **claiming(1))),
    "RLE of two billion such frames": (
        RLELossless,
        encapsulated(RUNS, **WIDE, **claiming(2**31 - 1)),
    ),
    "RLE with a basic offset beyond its end": (
        RLELossless,
        encapsulated(RUNS, table=b"\0\0\0\0\xfe\xff\xff\xff", **WIDE, **claiming(2)),
    ),
    "RLE with extended offsets beyond 32 bits": (
        RLELossless,
        encapsulated(RUNS, extended=_BEYOND, **WIDE, **claiming(2)),
    ),
    "JPEG of 4 GiB": (
        BASELINE,
        encapsulated(SOI + sof(0xC0, _MOST, _MOST) + SCAN + EOI, bits=8, **claiming(1)),
    ),
    "JPEG-LS of 8 GiB": (
        LS,
        encapsulated(SOI + sof(0xF7, _MOST, _MOST, 16) + LS_SCAN + EOI, **WIDE, **claiming(1)),
    ),
    "JPEG 2000 of 2^64": (
        J2K,
        encapsulated(
            SOC + siz(2**32 - 1, 2**32 - 1) + COD + QCD + TILE + EOI, **WIDE, **claiming(1)
        ),
    ),
    "HTJ2K of 8 GiB": (
        HTJ2K,
        encapsulated(SOC + siz(_MOST, _MOST) + COD + QCD + TILE + EOI, **WIDE, **claiming(1)),
    ),
}


# -- segments that loop, or claim absurd lengths: DCMTK 2026-03-10 ---------------------------------

START = SOI + sof(0xC0, 8, 8)
LOOPS: dict[str, tuple[list[str], bytes]] = {
    "a length of 0, again and again": (
        [BASELINE, LOSSLESS, LS],
        SOI + marker(0xE0, length=0) * 5000,
    ),
    "a length of 1": ([BASELINE, LS], SOI + marker(0xE8, length=1) * 5000),
    "a length beyond the end": ([BASELINE, LS], SOI + marker(0xDB, b"\0\1", 0xFFFF)),
    "fill bytes without end": ([BASELINE, LS], SOI + b"\xff" * 200_000),
    "beginnings without end": ([BASELINE, LS], SOI * 100_000),
    "empty segments without end": ([BASELINE, LS], SOI + marker(0xFE) * 50_000),
    "restarts without end": ([BASELINE], START + SCAN + b"\xff\xd0\xff\xd1" * 50_000),
    "scans without end": ([BASELINE], START + SCAN * 5000),
    "parameters without a length": ([LS], SOI + sof(0xF7, 8, 8) + marker(0xF8, length=0) * 5000),
    "a code stream marker without a length": ([J2K, HTJ2K], SOC + marker(0x51, length=0) * 5000),
    "comments without end": ([J2K], SOC + siz(8, 8) + COD + QCD + marker(0x64, b"\0\1") * 50_000),
    "tile parts that do not go on": (
        [J2K, HTJ2K],
        SOC + siz(8, 8) + COD + QCD + marker(0x90, struct.pack(">HIBB", 0, 12, 0, 0)) * 20_000,
    ),
}


def attacks() -> Iterator[tuple[str, str, str, bytes]]:
    """Yield name, transfer syntax, UID and data set of each."""
    for name, (syntax, (uid, data_set)) in CLAIMS.items():
        yield name, syntax, uid, data_set
    for name, (syntaxes, frame) in LOOPS.items():
        for syntax in syntaxes:
            uid, data_set = encapsulated(frame, bits=8, rows=8, columns=8)
            yield f"{name} in {syntax}", syntax, uid, data_set


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_decoded_is_kept_and_holds_up_nobody(
    tmp_path: Path, start_node: StartNode, counted: list[str]
) -> None:
    given: dict[str, Any] = {
        "sop_classes": [CTImageStorage],
        "transfer_syntaxes": [ExplicitVRLittleEndian],
    }
    sent: dict[str, tuple[str, bytes]] = {}
    with downstream(**given) as archive:
        node = start_node(pacs(archive.port), disk(tmp_path / "disk"))
        before = usage().memory
        for name, syntax, uid, data_set in attacks():
            scu = connected(node.address[1], (CTImageStorage, syntax))
            assert scu.send(CTImageStorage, uid, syntax, [data_set]).status == 0, name
            scu.close()
            sent[uid] = name, data_set
        good = instances.image()
        assert send(node.address[1], good) == 0
        wait_until(lambda: archive.received, "the good one is forwarded", 300)
        wait_until(lambda: not list(node.spool.queued("pacs")), "nothing waits", 300)
        wait_until(lambda: node.progress["disk"].delivered == len(sent) + 1, "on disk", 300)
        failed = {_uid_of(each.path) for each in node.spool.entries(State.FAILED, "pacs")}
        grown = usage().memory - before
    decoded = {uid for uid, _, _ in archive.received} - {str(good.SOPInstanceUID)}
    assert failed | decoded == set(sent)
    # What claims more than there is was not made up.
    assert not decoded & {uid for _, (uid, _) in CLAIMS.values()}
    kept = instances.data_sets_in(tmp_path / "disk")
    for uid, (name, data_set) in sent.items():
        assert kept[uid][1] == data_set, name
    assert grown < 300 << 20
    counted.append(f"attacks on decoders: {len(sent)}, {len(decoded)} of them decoded after all")


def _uid_of(path: Path) -> str:
    return str(instances.parts_of(path)[0].MediaStorageSOPInstanceUID)


def test_what_we_encode_beyond_32_bits_has_a_table_of_64() -> None:
    """Three frames of which none can be larger: their lengths alone, without the frames."""
    table = OffsetTable(3, extended=True)
    for _ in range(3):
        table.add(2**32 - 2)
    step = 2**32 + 6
    expected = struct.pack("<3Q", 0, step, 2 * step) + struct.pack("<3Q", *[2**32 - 2] * 3)
    encoded = table.encoded()
    assert len(encoded) == table.byte_count
    assert encoded[12:36] + encoded[48:72] == expected
