"""Fuzz the scanner and the converter: `python tests/fuzz/fuzz_scan.py -max_total_time=60`.

The first byte chooses the transfer syntax, the rest is the data set. Whatever it is, it is
understood or refused with `CannotUnderstand`; what was understood can be asked for every value;
and what can be converted comes back byte for byte.
"""

from __future__ import annotations

import harness  # sets the path

with harness.instrumented("node.dicom"):
    from node.dicom import part10
    from node.dicom.convert import CannotConvert, from_explicit_le, restores, to_explicit_le
    from node.dicom.encoded import WATCHED, EncodedDataSet
    from node.dicom.scan import scan
    from node.dicom.uids import EXPLICIT_VR_BE, EXPLICIT_VR_LE, IMPLICIT_VR_LE
    from node.dicom.walk import Limits
    from node.errors import CannotUnderstand

NATIVE = (IMPLICIT_VR_LE, EXPLICIT_VR_LE, EXPLICIT_VR_BE)
#: Small, so that the limits are met too.
LIMITS = Limits(depth=8, elements=2000)
VALUES = [name for name, kind in vars(EncodedDataSet).items() if isinstance(kind, property)]


def look_at(found: EncodedDataSet) -> None:
    """Ask for everything that can be asked for."""
    for name in VALUES:
        getattr(found, name)
    size = len(found.data)
    for tag in WATCHED:
        element = found.element(tag)
        if element is None:
            continue
        assert found.start <= element.offset < element.value_offset <= element.end <= size
        if element.is_undefined_length and element.vr not in ("SQ", "UN", None):
            for offset, length in found.fragments(element):
                assert element.value_offset < offset <= offset + length <= element.end - 8


def there_and_back(data: bytes, syntax: str) -> None:
    """Convert, and compare what comes back."""
    try:
        converted = to_explicit_le(data, syntax, limits=LIMITS)
    except CannotConvert:
        return
    assert restores(converted, data, syntax, limits=LIMITS)
    if syntax != EXPLICIT_VR_LE:
        return
    try:
        other = from_explicit_le(data, EXPLICIT_VR_BE, limits=LIMITS)
    except CannotConvert:
        return
    assert restores([data], b"".join(other), EXPLICIT_VR_BE, limits=LIMITS)
    assert b"".join(to_explicit_le(b"".join(other), EXPLICIT_VR_BE, limits=LIMITS)) == data


def test_one_input(content: bytes) -> None:
    """Scan, look, convert."""
    if not content:
        return
    data, syntax = content[1:], NATIVE[content[0] % 3]
    try:
        found = scan(data, syntax, LIMITS)
    except CannotUnderstand:
        return
    look_at(found)
    if found.is_regular:
        there_and_back(data, syntax)


def seeds() -> list[bytes]:
    """Data sets of the corpus in each transfer syntax, without their File Meta Information."""
    found = []
    for data, _ in harness.corpus_files():
        try:
            start = part10.decode(data)[1]
        except CannotUnderstand:
            start = 0
        found += [bytes([number]) + data[start:] for number in range(3)]
    return found


def main() -> None:
    """Run libFuzzer; its flags and corpus directories are the arguments."""
    harness.run(test_one_input, seeds())


if __name__ == "__main__":
    main()
