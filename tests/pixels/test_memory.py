"""Memory does not grow with an instance: neither with its bytes nor with the number of frames."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import instances
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom import part10

#: Python, our modules and the few pieces that are held take 40 MB.
MOST_KILOBYTES = 100_000
FRAMES = {
    "400 MB in large frames": (512, 512, 16, 800, []),
    "400 MB in large frames, in threads": (512, 512, 16, 800, ["threads"]),
    "400,000 tiny frames": (10, 10, 8, 400_000, []),
}
#: Not ru_maxrss, in which what the parent had at the fork counts too.
PEAK = """
import re
found = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print("peak", found[1], code)
"""
COMMAND = """
import sys
from node.cli import main
code = main(["compress", sys.argv[1], "--output", sys.argv[2]])
"""
LIBRARY = """
import sys
from node.pixels import Options, compress_file
threads = 3 if "threads" in sys.argv else 1
code = compress_file(sys.argv[1], sys.argv[2], Options(threads=threads)) or 0
"""


def multi_frame(path: Path, rows: int, columns: int, bits: int, frames: int) -> int:
    """An instance of zeros, which take no space on the disk; the size of its file."""
    ds = instances.image(rows=rows, columns=columns, bits=bits, NumberOfFrames=frames)
    del ds.PixelData
    meta = part10.FileMeta(
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.SOPInstanceUID),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    length = rows * columns * bits // 8 * frames
    with path.open("wb") as file:
        file.write(part10.encode(meta) + instances.encoded(ds))
        file.write(struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", length))
        return file.truncate(file.tell() + length)


@pytest.mark.parametrize("by", ["command", "library"])
@pytest.mark.parametrize("kind", FRAMES)
def test_memory_does_not_grow_with_the_instance(tmp_path: Path, kind: str, by: str) -> None:
    *shape, words = FRAMES[kind]
    size = multi_frame(tmp_path / "many.dcm", *shape)
    target = tmp_path / ("out" if by == "command" else "out.dcm")
    code = COMMAND if by == "command" else LIBRARY
    shown = subprocess.run(
        [sys.executable, "-c", code + PEAK, str(tmp_path / "many.dcm"), str(target), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    _, peak, failed = shown.stdout.splitlines()[-1].split()
    assert failed == "0"
    assert int(peak) < MOST_KILOBYTES
    [written] = [target] if target.is_file() else target.iterdir()
    assert os.stat(written).st_size < size
