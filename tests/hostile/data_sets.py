"""Data sets that are broken, hostile, or odd and yet not to be lost, with the status of each.

`tests/test_bad_input.py` holds the node to it; `python -m tests.hostile.table` plays it against
other receivers too.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import instances
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage


def nothing(data_set: bytes) -> bytes:
    return data_set


def cut(data_set: bytes) -> bytes:
    return data_set[:-1000]


def in_sequences(depth: int) -> Callable[[bytes], bytes]:
    """Sequences of undefined length inside each other, none of them closed."""
    opened = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return lambda data_set: data_set + opened * depth


def deflated(data_set: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data_set) + packer.flush()


def bomb(data_set: bytes) -> bytes:
    """A megabyte of padding that inflates to more than anybody should hold."""
    padding = b"\xfc\xff\xfc\xffOB\0\0" + (100 << 20).to_bytes(4, "little") + bytes(100 << 20)
    return deflated(data_set + padding)


UID = f"{instances.ROOT}.77"
LONG = "1." + "1" * 63
REFUSED: dict[str, tuple[dict[str, str], Callable[[bytes], bytes], int]] = {
    "garbage": ({}, lambda _: b"\xff" * 1000, 0xC000),
    "text": ({}, lambda _: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0xC000),
    "nothing": ({}, lambda _: b"", 0xC000),
    "one byte": ({}, lambda _: b"\x08", 0xC000),
    "cut off": ({}, cut, 0xC000),
    "one byte short": ({}, lambda data_set: data_set[:-1], 0xC000),
    "a length past the end": (
        {},
        lambda data_set: data_set + b"\xfc\xff\xfc\xffOB\0\0\0\1\0\0",
        0xC000,
    ),
    "a sequence that is not closed": ({}, in_sequences(1), 0xC000),
    "sequences deeper than anybody nests": ({}, in_sequences(100_000), 0xC000),
    "more elements than anybody has": (
        {},
        lambda data_set: data_set + b"\xfd\xff\x10\x10LO\0\0" * 1_000_001,
        0xC000,
    ),
    "an item among elements": ({}, lambda data_set: data_set + b"\xfe\xff\x00\xe0\0\0\0\0", 0xC000),
    "no SOP Instance UID": ({"SOPInstanceUID": ""}, nothing, 0xC000),
    "no SOP Class UID": ({"SOPClassUID": ""}, nothing, 0xC000),
    "another SOP class": ({"SOPClassUID": MRImageStorage}, nothing, 0xA900),
    "another SOP instance": ({"SOPInstanceUID": UID + ".1"}, nothing, 0xA900),
    "a path as command's SOP instance": ({"command": "../../x"}, nothing, 0x0117),
    "letters as command's SOP instance": ({"command": "1.2.A"}, nothing, 0x0117),
    "a path as SOP instance": (
        {"SOPInstanceUID": "../../x", "command": "../../x"},
        nothing,
        0x0117,
    ),
    "a path as SOP instance in the data set only": (
        {"SOPInstanceUID": "../../x"},
        nothing,
        0x0117,
    ),
    "a path as Study Instance UID": ({"StudyInstanceUID": "../.."}, nothing, 0x0117),
    "dots as Study Instance UID": ({"StudyInstanceUID": ".."}, nothing, 0x0117),
    "a path as Series Instance UID": ({"SeriesInstanceUID": "/etc/passwd"}, nothing, 0x0117),
    "a line feed in Series Instance UID": ({"SeriesInstanceUID": "1.2\n3"}, nothing, 0x0117),
    "65 characters as Study Instance UID": ({"StudyInstanceUID": LONG}, nothing, 0x0117),
}


def bad_one(case: str) -> tuple[str, bytes, int]:
    """The SOP Instance UID of the command, the data set, and the status it gets."""
    changes, spoil, code = REFUSED[case]
    ds = instances.image(SOPInstanceUID=UID)
    for keyword, value in changes.items():
        if keyword != "command":
            setattr(ds, keyword, value)
    return changes.get("command", UID), spoil(instances.encoded(ds)), code


DEFLATED = {"garbage": (lambda _: b"\xff" * 100, 0xC000), "a bomb": (bomb, 0xA700)}


def no_study(ds: Dataset) -> Dataset:
    del ds.StudyInstanceUID
    del ds.SeriesInstanceUID
    return ds


def with_repeated(ds: Dataset) -> bytes:
    data_set = instances.encoded(ds)
    return data_set + b"\xfc\xff\xfc\xffOB\0\0\2\0\0\0\0\0" * 2


#: Odd, and yet nothing that may be lost: an archive can mend it, so it is taken as it came.
TAKEN: dict[str, Callable[[], tuple[Dataset, bytes]]] = {
    "no Study or Series Instance UID": lambda: _as_is(no_study(instances.image())),
    "pixel data cut off": lambda: _as_is(_with_pixels(lambda native: native[:-100])),
    "pixel data too long": lambda: _as_is(_with_pixels(lambda native: native + bytes(100))),
    "an empty StudyInstanceUID": lambda: _as_is(instances.image(StudyInstanceUID="")),
    "leading zeros": lambda: _as_is(instances.image(StudyInstanceUID="1.02.003")),
    "a tag twice": lambda: _as_is(instances.image(), with_repeated),
    "rows that are not there": lambda: _as_is(instances.image(Rows=65535, Columns=65535)),
}


def _with_pixels(change: Callable[[bytes], bytes]) -> Dataset:
    ds = instances.image()
    ds.PixelData = change(ds.PixelData)
    return ds


def _as_is(
    ds: Dataset, encode: Callable[[Dataset], bytes] = instances.encoded
) -> tuple[Dataset, bytes]:
    return ds, encode(ds)
