"""Fuzz what is read from disk: the header of a DICOM file, an entry of the spool, a whole file.

Whatever lies in the spool, reading it raises nothing but what the caller expects; what can be
compressed is, and gives back the bytes that were there.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import harness  # first: it sets the path

with harness.instrumented("node.dicom", "node.pixels", "node.spool", "node.network.tls"):
    import instances
    from pydicom.uid import ExplicitVRLittleEndian

    from node.dicom import part10
    from node.errors import NodeError
    from node.network.tls import expiry_of
    from node.pixels import library
    from node.pixels.policy import Options
    from node.service.report import Report
    from node.spool import entries
    from node.spool.arriving import is_whole

OPTIONS = Options(transfer_syntax_uid="1.2.840.10008.1.2.5", encoder="dcmpress", verify=True)
_FILE = os.memfd_create("entry")


def one(content: bytes) -> None:
    """The first byte chooses what the rest is."""
    if content:
        READERS[content[0] % len(READERS)](content[1:])


def header(data: bytes) -> None:
    """What was understood and is written again says the same."""
    try:
        meta, start = part10.decode(data)
    except NodeError:
        return
    assert 132 <= start <= len(data)
    if meta.record is None:
        return
    again, _ = part10.decode(part10.encode(meta))
    assert again.sop_instance_uid == meta.sop_instance_uid


def entry(data: bytes) -> None:
    """A file in the spool: whole, or not ours."""
    os.ftruncate(_FILE, 0)
    os.pwrite(_FILE, data, 0)
    is_whole(_FILE)
    name = data[:60].decode("latin1")
    entries.received_at(name)
    entries.slot_of(name)


def whole(data: bytes) -> None:
    """Compress a file."""
    try:
        library.compress(data, OPTIONS)
    except NodeError:
        return


def report(data: bytes) -> None:
    """A line from another process of the node."""
    try:
        Report.decode(data)
    except ValueError:
        return


def certificate(data: bytes) -> None:
    """A file that should hold a certificate."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            expiry_of(Path(file.name))
        except NodeError:
            return


READERS = (header, entry, whole, report, certificate)


def seeds() -> list[bytes]:
    """Files of the corpus, and one of ours as it lies in the spool."""
    found = [bytes([2]) + data for data, _ in harness.corpus_files()]
    found += [bytes([kind]) + data[:2000] for data, _ in harness.corpus_files() for kind in (0, 1)]
    made = instances.image()
    meta = part10.FileMeta(
        sop_class_uid=str(made.SOPClassUID),
        sop_instance_uid=str(made.SOPInstanceUID),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    file = part10.encode(meta) + instances.encoded(made)
    found += [bytes([kind]) + data for kind in (0, 1, 2) for data in (file, library.compress(file))]
    found.append(bytes([3]) + Report().encode())
    return found


if __name__ == "__main__":
    harness.run(one, seeds())
