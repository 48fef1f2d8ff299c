"""Instances by the thousand: each is made from its number alone, small, distinct, in microseconds.

Most are like MR slices of 64 x 64, some are CT slices (of the corpus where it is there). A number
gives the same bytes in every process, so a sender and a judge need not exchange them.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import corpus
import instances
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

#: Of a UUID that was drawn once; what follows has as many digits for every number.
ROOT = "2.25.245861209347561290847562134908756123"
_UID, _STUDY, _PIXEL = f"{ROOT}.1000000000", f"{ROOT}.2000000000", b"the number here:"
#: Instances of one study: small, so that folders are made all the time.
STUDY = 4
_CT_EVERY = 16
_LOOKS = 8
CORPUS_CT = "didymo+OnkoDICOM/_history/test/testdata/DICOM-RT-TEST"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as it goes over the wire."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data_set).hexdigest()


def made(number: int) -> Instance:
    """Instance `number`, from 0 to 999,999,999."""
    look = _LOOKS if number % _CT_EVERY == _CT_EVERY - 1 else number % _LOOKS
    syntax = ImplicitVRLittleEndian if number % 3 else ExplicitVRLittleEndian
    sop_class, template = _template(look, syntax)
    uid = f"{ROOT}.{1000000000 + number}"
    study = f"{ROOT}.{2000000000 + number // STUDY}"
    data_set = (
        template.replace(_UID.encode(), uid.encode())
        .replace(_STUDY.encode(), study.encode())
        .replace(_PIXEL, f"{number:016d}".encode(), 1)
    )
    return Instance(sop_class, uid, syntax, data_set)


@functools.cache
def _template(look: int, syntax: str) -> tuple[str, bytes]:
    ds = _ct() if look == _LOOKS else _mr(look)
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = _UID, _STUDY, f"{_STUDY}.1"
    native = bytearray(ds["PixelData"].value)
    native[: len(_PIXEL)] = _PIXEL
    ds.add_new("PixelData", "OW", bytes(native))
    return str(ds.SOPClassUID), instances.encoded(ds, syntax)


def _mr(look: int) -> Dataset:
    ds = instances.image(rows=64, columns=64, seed=look, sop_class=MRImageStorage)
    return instances.with_everything(ds)


def _ct() -> Dataset:
    root = corpus.corpus_root()
    if root is not None:
        for path in sorted((root / CORPUS_CT).glob("CT*")):
            ds = pydicom.dcmread(path)
            if ds.get("Rows") == 512 and not ds.file_meta.TransferSyntaxUID.is_encapsulated:
                return without_group_lengths(ds)
    return without_group_lengths(pydicom.dcmread(pydicom.examples.get_path("ct")))


def without_group_lengths(ds: Dataset) -> Dataset:
    """They are retired, and would be wrong in another transfer syntax."""
    kept = Dataset()
    kept.update({tag: ds[tag] for tag in ds.keys() if tag.element})  # noqa: SIM118
    return kept
