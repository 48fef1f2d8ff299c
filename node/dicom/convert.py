"""The lean converter between Explicit VR LE and the two other native transfer syntaxes.

`to_explicit_le` brings Implicit VR LE or Explicit VR BE to Explicit VR LE; `from_explicit_le` is
its exact inverse. Only how elements are encoded changes: every element, every value, group
lengths, odd lengths, and whether a sequence or item has a defined length or a delimiter stay as
they are, so that from_explicit_le(to_explicit_le(x)) == x. That holds by construction, since both
ways walk the same structure; `restores` proves it for one data set at the cost of the way back.

VRs come from pydicom's data dictionary; where the dictionary leaves a choice it is made as pydicom
makes it (`correct_ambiguous_vr`). Private elements become UN, private creators LO, private
sequences of undefined length SQ. A value too long for the 16-bit length of its VR becomes UN
(PS3.5 6.2.2). UN of undefined length stays Implicit VR LE inside (PS3.5 6.2.2 Note 4).

Any extent of whole top-level elements can be converted, so that a caller converts what is before
and after Pixel Data, and encodes Pixel Data itself. The result is a list of chunks to be written
one after the other; values of 64 KiB and more are views of the input and never copied, unless
their bytes have to be swapped.

Raises `CannotUnderstand` as the scanner does; `CannotConvert` where the data set is sound but has
no counterpart in the other transfer syntax: encapsulated values and elements in implicit form in
big endian, UN of undefined length that is not Implicit VR LE inside, a sequence that outgrows its
32-bit length; `ValueError` for a transfer syntax that is not native.
"""

from __future__ import annotations

from typing import Final

from node.dicom.byte_order import ByteSwap
from node.dicom.layout import Buffer, Layout, layout, layout_of
from node.dicom.rewrite import CannotConvert, Chunk, Rewriter
from node.dicom.rewrite_vr import ExplicitToImplicit, ImplicitToExplicit
from node.dicom.uids import EXPLICIT_VR_LE, NATIVE
from node.dicom.walk import Limits
from node.errors import CannotUnderstand

__all__ = [
    "PROVABLE_BYTES",
    "CannotConvert",
    "Chunk",
    "from_explicit_le",
    "restores",
    "to_explicit_le",
]

#: What `restores` may have in memory; no header of an image comes near it.
PROVABLE_BYTES: Final = 64 * 1024 * 1024


def to_explicit_le(
    data: Buffer,
    source_transfer_syntax_uid: str,
    start: int = 0,
    end: int | None = None,
    *,
    pixel_representation: int | None = None,
    limits: Limits | None = None,
) -> list[Chunk]:
    """Return the elements between `start` and `end` in Explicit VR LE.

    `pixel_representation` is that of the whole data set, where the extent may be without it.
    """
    source, target = _native(source_transfer_syntax_uid), layout_of(EXPLICIT_VR_LE)
    return _convert(data, source, target, start, end, pixel_representation, limits)


def from_explicit_le(
    data: Buffer,
    target_transfer_syntax_uid: str,
    start: int = 0,
    end: int | None = None,
    *,
    limits: Limits | None = None,
) -> list[Chunk]:
    """Return the elements between `start` and `end`, which are in Explicit VR LE, in the target."""
    source, target = layout_of(EXPLICIT_VR_LE), _native(target_transfer_syntax_uid)
    return _convert(data, source, target, start, end, None, limits)


def restores(
    converted: list[Chunk],
    original: Buffer,
    transfer_syntax_uid: str,
    *,
    limits: Limits | None = None,
) -> bool:
    """Tell whether `from_explicit_le` of `converted` gives the bytes of `original` again."""
    if sum(map(len, converted)) > PROVABLE_BYTES:
        return False
    try:
        restored = from_explicit_le(b"".join(converted), transfer_syntax_uid, limits=limits)
    except (CannotConvert, CannotUnderstand):
        return False
    return memoryview(b"".join(restored)) == memoryview(original)


def _convert(
    data: Buffer,
    source: Layout,
    target: Layout,
    start: int,
    end: int | None,
    pixel_representation: int | None,
    limits: Limits | None,
) -> list[Chunk]:
    end = len(data) if end is None else end
    if source is target:
        return [memoryview(data)[start:end]]
    walk = _converter(data, source, target, limits or Limits(), pixel_representation)
    walk.walk(start, end, source)
    return walk.chunks()


def _native(transfer_syntax_uid: str) -> Layout:
    if transfer_syntax_uid not in NATIVE:
        raise ValueError(f"{transfer_syntax_uid} is not a native transfer syntax")
    return layout_of(transfer_syntax_uid)


def _converter(
    data: Buffer, source: Layout, target: Layout, limits: Limits, pixel_representation: int | None
) -> Rewriter:
    """Return the walk from one native layout to another; one of the two is Explicit VR LE."""
    if source.order != target.order:
        return ByteSwap(data, limits, source.order)
    if source is layout(False, "<"):
        return ImplicitToExplicit(data, limits, pixel_representation)
    return ExplicitToImplicit(data, limits)
