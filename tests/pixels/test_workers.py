"""Codecs of others in processes of their own: real crashes, real hangs, real memory hunger."""

from __future__ import annotations

import os
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import instances
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.errors import CodecFailed, DecodingFailed, EncodingFailed
from node.pixels import library, workers
from node.pixels.codecs import codec_for
from node.pixels.instance import data_set_in
from node.pixels.policy import Options, PixelLayout
from node.pixels.stored import opened
from node.pixels.workers import CodecWorkers, WorkerLimits
from node.reasons import KeepReason

LAYOUT = PixelLayout(
    rows=64,
    columns=64,
    samples_per_pixel=1,
    bits_allocated=16,
    bits_stored=12,
    pixel_representation=0,
    photometric_interpretation="MONOCHROME2",
    planar_configuration=0,
    number_of_frames=1,
)
FRAME = instances.pixels((64, 64)).tobytes()
PROCESS = (os.readlink, b"/proc/self")


@pytest.fixture
def pool() -> Iterator[CodecWorkers]:
    made = CodecWorkers(WorkerLimits(processes=2, memory_bytes=1 << 30, seconds=30))
    yield made
    made.close()


def test_what_a_worker_returns_is_what_the_function_returns(pool: CodecWorkers) -> None:
    data = os.urandom(3 << 20)
    assert zlib.decompress(pool(zlib.compress, data)) == data
    assert pool(bytes) == b""


def test_a_worker_is_another_process_and_serves_again(pool: CodecWorkers) -> None:
    first = pool(*PROCESS)
    assert int(first) != os.getpid()
    assert pool(*PROCESS) == first
    with pytest.raises(CodecFailed, match="No such file"):
        pool(os.readlink, b"/nowhere")
    assert pool(*PROCESS) == first


DEADLY: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
    (os.abort, (), "SIGABRT"),
    (signal.raise_signal, (signal.SIGSEGV,), "SIGSEGV"),
    (signal.raise_signal, (signal.SIGKILL,), "SIGKILL"),
    (os._exit, (3,), "exit code 3"),
    (os.write, (0, b"\x01" + struct.pack("<Q", 1 << 40)), "1099511627776 bytes"),
]


@pytest.mark.parametrize(("function", "given", "why"), DEADLY)
def test_a_worker_that_dies_or_lies_costs_one_call(
    pool: CodecWorkers, function: Callable[..., Any], given: tuple[Any, ...], why: str
) -> None:
    before = pool(*PROCESS)
    with pytest.raises(CodecFailed, match=why):
        pool(function, *given)
    assert pool(*PROCESS) != before
    assert not Path(f"/proc/{int(before)}").exists()


def test_the_kernel_ends_a_worker_that_takes_too_long() -> None:
    pool = CodecWorkers(WorkerLimits(seconds=1, memory_bytes=1 << 30))
    with pytest.raises(CodecFailed, match="more than 1 s"):
        pool(time.sleep, 3600)
    pool.close()


def test_the_time_grows_with_the_work() -> None:
    pool = CodecWorkers(WorkerLimits(seconds=0.2, memory_bytes=1 << 30))
    with pytest.raises(CodecFailed, match="more than"):
        pool(time.sleep, 3600)
    # It sleeps and then fails for another reason: what sleep returns is not bytes.
    with pytest.raises(CodecFailed, match="exit code 1"):
        pool(time.sleep, 0.5, work_bytes=60 * workers.SLOWEST_BYTES_PER_SECOND)
    pool.close()


def test_a_worker_that_is_stopped_is_killed_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_GRACE_SECONDS", 0.2)
    pool = CodecWorkers(WorkerLimits(seconds=1, memory_bytes=1 << 30))
    pid = int(pool(*PROCESS))
    with pytest.raises(CodecFailed, match="more than 1 s"):
        pool(signal.raise_signal, signal.SIGSTOP)
    assert not Path(f"/proc/{pid}").exists()
    pool.close()


def test_memory_is_bounded_and_the_worker_goes_on(pool: CodecWorkers) -> None:
    before = pool(*PROCESS)
    with pytest.raises(CodecFailed, match=r"limits\.codec_memory_bytes"):
        pool(bytes, 4 << 30)
    assert pool(*PROCESS) == before


def test_a_worker_writes_no_file(pool: CodecWorkers, tmp_path: Path) -> None:
    with pytest.raises(CodecFailed, match="File too large"):
        pool((tmp_path / "file").write_bytes, b"x")


def test_a_worker_that_died_while_idle_is_replaced(pool: CodecWorkers) -> None:
    before = int(pool(*PROCESS))
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert int(pool(*PROCESS)) != before


def test_workers_end_with_their_pool() -> None:
    pool = CodecWorkers(WorkerLimits())
    pid = int(pool(*PROCESS))
    pool.close()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("uid", "plugin", "package"),
    [
        (JPEGLSLossless, "", "jpeg_ls"),
        (JPEG2000Lossless, "", "openjpeg"),
        (RLELossless, "pylibjpeg", "rle"),
        (RLELossless, "gdcm", "gdcm"),
    ],
)
def test_frames_are_the_same_wherever_they_are_encoded(
    pool: CodecWorkers, uid: str, plugin: str, package: str
) -> None:
    pytest.importorskip(package)
    here = Options(transfer_syntax_uid=uid, encoder=plugin)
    there = codec_for(LAYOUT, here._replace(run=pool))
    encoded = there.encode(memoryview(FRAME))
    assert encoded == codec_for(LAYOUT, here).encode(FRAME)
    assert there.decode(memoryview(encoded)) == FRAME
    assert there.is_same(encoded, FRAME)


def test_a_codec_that_fails_says_which_way(pool: CodecWorkers) -> None:
    pytest.importorskip("jpeg_ls")

    def dies(function: Callable[..., bytes], /, *given: Any, work_bytes: int = 0) -> bytes:
        return pool(os.abort)

    codec = codec_for(LAYOUT, Options(transfer_syntax_uid=JPEGLSLossless, run=dies))
    with pytest.raises(EncodingFailed, match="SIGABRT"):
        codec.encode(FRAME)
    with pytest.raises(DecodingFailed, match="SIGABRT"):
        codec.decode(FRAME)
    good = codec_for(LAYOUT, Options(transfer_syntax_uid=JPEGLSLossless, run=pool))
    with pytest.raises(DecodingFailed):
        good.decode(b"no frame")


def test_an_instance_whose_encoder_dies_stays_as_it_is(pool: CodecWorkers) -> None:
    pytest.importorskip("jpeg_ls")

    def dies(function: Callable[..., bytes], /, *given: Any, work_bytes: int = 0) -> bytes:
        return pool(os.abort)

    dataset = pydicom.examples.ct
    before = dataset.PixelData
    options = Options(transfer_syntax_uid=JPEGLSLossless, run=dies)
    assert library.compress_dataset(dataset, options) is KeepReason.ENCODER_FAILED
    assert dataset.PixelData == before


def test_what_others_compressed_is_decoded_in_a_worker(pool: CodecWorkers, tmp_path: Path) -> None:
    path = Path(str(pydicom.data.get_testdata_file("MR_small_RLE.dcm", download=False)))
    with opened(path) as instance:
        here = b"".join(data_set_in(instance, ExplicitVRLittleEndian))
        there = b"".join(data_set_in(instance, ExplicitVRLittleEndian, pool))
    assert here == there
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(path.read_bytes()[:-3000])
    with opened(broken) as instance, pytest.raises(DecodingFailed):
        b"".join(data_set_in(instance, ExplicitVRLittleEndian, pool))
