"""Receiving and sending compared with DCMTK, in one run, as ratios: `python bench_network.py`.

Every figure is the median of five; above 1 we are faster or cheaper. All that are compared run all
the while, and each of the five is the mean of some turns, in which they come one after the other in
random order: what else the machine does meets all of them. In brackets are the least and the
greatest of the five ratios. The sender is the same for both receivers and does nothing but send
bytes it made before; both have received a few instances when it begins, or had a few associations,
as a receiver that runs for months has. DCMTK's programs run with TCP_NODELAY=1, without which they
wait 40 ms an instance; of dcmsend's time what it takes until it connects is not counted. Where
several associations are open at a time, storescp forks for each and we are as many processes on one
socket as there are cores, as the node is; a second line tells what one process of ours does with
instances, for information. What receivers have written is put aside after each turn and
removed only at the end: ext4 looks long for an inode where many were freed just before, and it is
chance whom that meets. (For the same reason a `--folder` is best in which nothing was removed for
five minutes.) The second ratio is that of the processor time of what is measured, receiver or
sender, which other work on the machine changes less.

    --only NAME     one group: receive, send, short, idle, memory, large
    --repeat N      instead of five
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import itertools
import os
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from network.peers import ENVIRONMENT, listening  # noqa: E402
from network.raw_peer import (  # noqa: E402
    RELEASE_RQ,
    RawPeer,
    associate_rq,
    echo_rq,
    message,
    p_data,
    pdv,
    store_rq,
)

KB, MB = 1000, 1_000_000
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_VR_LE = "1.2.840.10008.1.2"
EXPLICIT_VR_LE = "1.2.840.10008.1.2.1"
#: Status (0000,0900) of a C-STORE-RSP, Implicit VR LE (PS3.7 9.3.1.2).
SUCCESS = bytes.fromhex("0000 0009 02000000 0000")
#: How often each is measured for one figure.
TURNS = 3

#: Wall and processor seconds.
Cost: TypeAlias = tuple[float, float]


# -- receivers -----------------------------------------------------------------------------------


def serve(arguments: argparse.Namespace) -> None:
    """Be our receiver, in a process of its own; the port goes to standard output."""
    from pynetdicom import build_context, evt

    from node.network.census import Census
    from node.network.dimse import received_data
    from node.network.limits import Limits
    from node.network.server import listen

    numbers = itertools.count()

    def write(event: evt.Event) -> int:
        data = received_data(event)
        target = f"{prefix}.{next(numbers)}"
        if data.path is not None:
            os.rename(data.path, target)
        else:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.write(descriptor, data.buffer)
            os.close(descriptor)
        return 0x0000

    limits = Limits(
        max_pdu=arguments.pdu,
        associations=3000,
        associations_per_peer=3000,
        waiting=3000,
        idle_seconds=600,
    )
    # As the node does: as many processes on one socket as there are cores.
    shared = socket.create_server(("127.0.0.1", 0), backlog=512)
    ready, tell = os.pipe()
    places = os.memfd_create("associations")
    for _ in range(arguments.processes - 1):
        if os.fork() == 0:
            prctl_die_with_parent()
            arguments.processes = 0
            break
    prefix = arguments.folder / str(os.getpid())
    gc.collect()
    gc.freeze()  # as the node does
    listen(
        address=shared,
        ae_title="BENCH",
        handlers=[(evt.EVT_C_STORE, write if arguments.write else lambda event: 0x0000)],
        contexts=[
            build_context(CT_IMAGE_STORAGE, [IMPLICIT_VR_LE, EXPLICIT_VR_LE]),
            build_context("1.2.840.10008.1.1"),
        ],
        limits=limits,
        spill=arguments.folder,
        census=Census(limits, places),
    )
    os.write(tell, b"!")
    for _ in range(arguments.processes):
        os.read(ready, 1)
    if arguments.processes:
        print(shared.getsockname()[1], flush=True)
    threading.Event().wait()


def prctl_die_with_parent() -> None:
    """End when the first process does (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def ours(
    folder: Path, pdu: int, write: bool, many: bool
) -> contextlib.AbstractContextManager[tuple[str, int, int]]:
    """Run our receiver, as many processes as the node would; yields host, port and process ID."""
    return one_of_ours(folder, pdu, write, many, (os.cpu_count() or 1) if many else 1)


@contextlib.contextmanager
def one_of_ours(
    folder: Path, pdu: int, write: bool, many: bool, processes: int = 1
) -> Iterator[tuple[str, int, int]]:
    """The same in so many processes."""
    command = [sys.executable, __file__, "--serve", "--folder", str(folder), "--pdu", str(pdu)]
    command += ["--write"] if write else []
    command += ["--processes", str(processes)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield "127.0.0.1", int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def dcmtk(folder: Path, pdu: int, write: bool, many: bool) -> Iterator[tuple[str, int, int]]:
    """Run storescp; yields host, port and process ID."""
    options = ["-od", str(folder), "-uf", "+B"] if write else ["--ignore"]
    options += ["--fork"] if many else []
    process, port = listening(["storescp", *options, "-pdu", str(pdu)])
    try:
        yield "127.0.0.1", port, process.pid
    finally:
        process.kill()
        process.wait()


RECEIVERS = {"ours": ours, "dcmtk": dcmtk, "one process of ours": one_of_ours}


def processor_seconds(process: int) -> float:
    """Return what a process and its children have used, those that have ended too."""
    living = 0.0
    for one in (process, *_children(process)):
        with contextlib.suppress(OSError):  # it has just ended
            living += time.clock_gettime((~one << 3) | 2)
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return living + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


# -- the sender ----------------------------------------------------------------------------------


def data_set(byte_count: int, uid: bytes, explicit: bool = False) -> bytes:
    """Return a data set of about `byte_count` bytes, Implicit or Explicit VR LE."""

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        if not explicit:
            return struct.pack("<HHI", group, number, len(value)) + value
        length = struct.pack("<xxI" if vr == b"OW" else "<H", len(value))
        return struct.pack("<HH2s", group, number, vr) + length + value

    return b"".join(
        [
            element(0x0008, 0x0016, b"UI", CT_IMAGE_STORAGE.encode() + b"\0"),
            element(0x0008, 0x0018, b"UI", uid + b"\0" * (len(uid) % 2)),
            element(0x0028, 0x0010, b"US", struct.pack("<H", 512)),
            element(0x7FE0, 0x0010, b"OW", bytes(byte_count & ~1)),
        ]
    )


def messages(byte_count: int, pdu: int, count: int, worker: int) -> list[list[bytes]]:
    """Return `count` C-STORE requests as the bytes of their PDUs; a large one shares its zeros."""
    made = []
    for number in range(count):
        uid = f"1.2.3.{os.getpid()}.{worker}.{number}".encode()
        command = p_data(pdv(1, 3, store_rq(number + 1, sop_instance=uid)))
        data = data_set(byte_count, uid)
        room = pdu - 6
        parts = [data[start : start + room] for start in range(0, len(data), room)]
        middle = p_data(pdv(1, 0, bytes(room)))
        window = max(1, MB // room)
        first, last = p_data(pdv(1, 0, parts[0])), p_data(pdv(1, 2, parts[-1]))
        if len(parts) == 1:
            made.append([command + last])
            continue
        between = len(parts) - 2
        block = middle * window
        made.append(
            [command + first] + [block] * (between // window) + [middle * (between % window) + last]
        )
    return made


def warm(path: Path, byte_count: int) -> None:
    """Have the kernel use so much memory for files, and leave it free: its first use costs more.

    A virtual machine has to ask its host for it then, and gives back what it does not use.
    """
    zeros = bytes(MB)
    with path.open("wb", buffering=0) as file:
        for _ in range(byte_count // MB + 1):
            file.write(zeros)
        file.truncate(0)


def await_success(sock: socket.socket, buffer: bytearray) -> None:
    """Read a C-STORE-RSP, one PDU; DCMTK sends it in pieces."""
    received = sock.recv_into(buffer)
    while received < 6 or received < 6 + int.from_bytes(buffer[2:6], "big"):
        more = sock.recv_into(memoryview(buffer)[received:])
        assert more, "the receiver closed"
        received += more
    assert SUCCESS in buffer[:received], "the receiver did not take it"


def send_all(address: tuple[str, int], batches: list[list[list[bytes]]]) -> float:
    """Send each batch over an association of its own, all at a time; return the seconds."""
    peers = [RawPeer(address) for _ in batches]
    for peer in peers:
        peer.sock.sendall(associate_rq())
        assert peer.receive() == "A-ASSOCIATE-AC"

    def work(peer: RawPeer, batch: list[list[bytes]]) -> None:
        answer = bytearray(65536)
        for parts in batch:
            for part in parts:
                peer.sock.sendall(part)
            await_success(peer.sock, answer)
        peer.sock.sendall(RELEASE_RQ)
        assert peer.receive() == "A-RELEASE-RP"

    seconds = all_at_a_time(work, peers, batches)
    for peer in peers:
        peer.sock.close()
    return seconds


def all_at_a_time(work: Callable[..., None], *arguments: Sequence[Any]) -> float:
    """Call `work` with the first of each, the second of each and so on; return the seconds."""
    with ThreadPoolExecutor(len(arguments[0])) as pool:
        begun = time.perf_counter()
        deque(pool.map(work, *arguments), maxlen=0)
        return time.perf_counter() - begun


# -- the groups ----------------------------------------------------------------------------------


def compare(name: str, measures: Mapping[str, Callable[[], Cost]], repeat: int) -> None:
    """Print the medians of what ours, dcmtk and others cost, and their ratios to DCMTK's."""
    names = list(measures)
    figures: dict[str, list[Cost]] = {who: [] for who in names}
    for _ in range(repeat):
        turns: dict[str, list[Cost]] = {who: [] for who in names}
        for _ in range(TURNS):
            for who in random.sample(names, len(names)):
                turns[who].append(measures[who]())
        for who in names:
            seconds, used = zip(*turns[who], strict=True)
            figures[who].append((sum(seconds) / TURNS, sum(used) / TURNS))
    medians = {
        who: [statistics.median(column) for column in zip(*costs, strict=True)]
        for who, costs in figures.items()
    }
    wall, processor = medians["dcmtk"]
    for who in names:
        if who == "dcmtk":
            continue
        mine = medians[who]
        ratios = [
            theirs / ours
            for (ours, _), (theirs, _) in zip(figures[who], figures["dcmtk"], strict=True)
        ]
        print(
            f"{name if who == 'ours' else '  ' + who:58} ours {mine[0]:8.3f} s  "
            f"dcmtk {wall:8.3f} s  {wall / mine[0]:5.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
            f"  processor {processor / mine[1]:5.2f} x",
            flush=True,
        )


def bench_receive(folder: Path, repeat: int) -> None:
    """Receive and drop, receive and write."""
    sizes = [("512 kB", 512 * KB, 200), ("9 kB", 9 * KB, 3000), ("1 GB", 1000 * MB, 1)]
    for write, pdu, associations in itertools.product((False, True), (16384, 131072), (1, 8)):
        for label, byte_count, count in sizes:
            if associations > 1 and count == 1:
                continue
            name = (
                f"receive and {'write' if write else 'drop'}, {label}, PDU {pdu}, "
                f"{associations} assoc."
            )
            names = ["ours", "dcmtk"]
            if associations > 1:
                name += f" to {os.cpu_count()} proc."
                names.append("one process of ours")
            each = max(1, count // associations)
            batches = [messages(byte_count, pdu, each, n) for n in range(associations)]
            with contextlib.ExitStack() as running:
                measures = {
                    who: running.enter_context(
                        receiver(who, Path(tempfile.mkdtemp(dir=folder)), pdu, write, batches)
                    )
                    for who in names
                }
                os.sync()  # what was written before must not be written out meanwhile
                compare(name, measures, repeat)


@contextlib.contextmanager
def receiver(
    who: str, target: Path, pdu: int, write: bool, batches: list[list[list[bytes]]]
) -> Iterator[Callable[[], Cost]]:
    """Run a receiver; yields what sends it the batches, all at a time, and returns their cost."""
    aside, numbers = Path(tempfile.mkdtemp(dir=target.parent)), itertools.count()
    byte_count = sum(len(part) for batch in batches for message in batch for part in message)

    def put_aside() -> None:
        for path in target.iterdir():
            os.truncate(path, 0)
            path.rename(aside / str(next(numbers)))

    with RECEIVERS[who](target, pdu, write, len(batches) > 1) as (host, port, process):

        def measure() -> Cost:
            if write:
                warm(target.parent / "warm", byte_count)
            before = processor_seconds(process)
            seconds = send_all((host, port), batches)
            used = processor_seconds(process) - before
            put_aside()
            return seconds, used

        small = [messages(9 * KB, pdu, 4, 100 + number) for number in range(len(batches))]
        send_all((host, port), small)
        put_aside()
        yield measure


def bench_send(folder: Path, repeat: int) -> None:
    """Send files to one storescp, which drops them.

    They are Explicit VR LE, which dcmsend proposes first: it would convert others.
    """
    sizes = [("512 kB", 512 * KB, 400), ("9 kB", 9 * KB, 2000), ("1 GB", 1000 * MB, 1)]
    for (label, byte_count, count), pdu in itertools.product(sizes, (16384, 131072)):
        source = Path(tempfile.mkdtemp(dir=folder))
        paths = [_part10(source / str(number), byte_count, number) for number in range(count)]
        with dcmtk(folder, pdu, False, False) as (host, port, _):
            measures = {
                "ours": partial(_cost_of, partial(_send_ours, (host, port), paths)),
                "dcmtk": partial(_cost_of_dcmsend, (host, port), paths),
            }
            for once in measures.values():
                once()
            compare(f"send, {label}, {count} files, PDU {pdu}", measures, repeat)
        shutil.rmtree(source)


def _cost_of(send: Callable[[], None]) -> Cost:
    before, begun = os.times(), time.perf_counter()
    send()
    seconds, now = time.perf_counter() - begun, os.times()
    # All but the wall clock; dcmsend is a child.
    return seconds, sum(now[:4]) - sum(before[:4])


def _cost_of_dcmsend(address: tuple[str, int], paths: list[tuple[Path, str, int]]) -> Cost:
    """Return what dcmsend costs from when it connects: it reads all headers before that."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        until_then = _cost_of(lambda: _dcmsend(nobody.getsockname(), paths, "refused"))
    seconds, used = _cost_of(lambda: _dcmsend(address, paths, ""))
    report = _report_of(paths).read_text().rstrip()
    assert report.endswith(f"with status SUCCESS  : {len(paths)}"), report[-500:]
    return seconds - until_then[0], used - until_then[1]


def _part10(path: Path, byte_count: int, number: int) -> tuple[Path, str, int]:
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import write_file_meta_info

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT_IMAGE_STORAGE
    meta.MediaStorageSOPInstanceUID = uid = f"1.2.3.4.{number}"
    meta.TransferSyntaxUID = EXPLICIT_VR_LE
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, meta, enforce_standard=True)
        offset = file.tell()
        file.write(data_set(byte_count, uid.encode(), explicit=True))
    return path, uid, offset


def _send_ours(address: tuple[str, int], paths: list[tuple[Path, str, int]]) -> None:
    from pynetdicom import build_context

    from node.network.requestor import associate
    from node.network.sending import send_store

    assoc = associate(
        address=address,
        calling_ae_title="BENCH",
        called_ae_title="ANY",
        contexts=[build_context(CT_IMAGE_STORAGE, EXPLICIT_VR_LE)],
    )
    context = assoc.accepted_contexts[0]
    for number, (path, uid, offset) in enumerate(paths):
        with path.open("rb", buffering=0) as file:
            part = (file.fileno(), offset, os.fstat(file.fileno()).st_size - offset)
            answer = send_store(
                assoc, context, CT_IMAGE_STORAGE, uid, part, message_id=number % 65535 + 1
            )
            assert answer.status == 0
    assoc.release()


def _dcmsend(address: tuple[str, int], paths: list[tuple[Path, str, int]], fails: str) -> None:
    """Run it; `fails` is what it says when it does, if it should."""
    folder, (host, port) = paths[0][0].parent, address
    options = ["--max-send-pdu", "131072", "--create-report-file", str(_report_of(paths))]
    ended = subprocess.run(
        ["dcmsend", *options, "--scan-directories", host, str(port), str(folder)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert bool(ended.returncode) == bool(fails), ended.stderr
    assert fails in ended.stderr, ended.stderr


def _report_of(paths: list[tuple[Path, str, int]]) -> Path:
    return paths[0][0].parent.with_suffix(".report")


def bench_short(folder: Path, repeat: int) -> None:
    """Short associations: request, accept, C-ECHO, release."""
    request, echo = associate_rq(), message(3, echo_rq())

    def one(address: tuple[str, int], count: int) -> None:
        for _ in range(count):
            with RawPeer(address) as peer:
                peer.sock.sendall(request)
                assert peer.receive() == "A-ASSOCIATE-AC"
                peer.sock.sendall(echo)
                assert peer.receive() == "RSP 0000"
                peer.sock.sendall(RELEASE_RQ)
                assert peer.receive() == "A-RELEASE-RP"

    def measure(receiver: tuple[str, int, int], clients: int) -> Cost:
        host, port, process = receiver
        before = processor_seconds(process)
        seconds = all_at_a_time(one, [(host, port)] * clients, [400 // clients] * clients)
        return seconds, processor_seconds(process) - before

    for clients in (1, 4):
        with contextlib.ExitStack() as running:
            measures = {
                who: partial(
                    measure,
                    running.enter_context(RECEIVERS[who](folder, 16384, False, clients > 1)),
                    clients,
                )
                for who in ("ours", "dcmtk")
            }
            for once in measures.values():
                once()
            compare(f"400 short associations, {clients} at a time", measures, repeat)


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(process: int, which: str = "VmRSS") -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(which + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(which)


def bench_idle(folder: Path, repeat: int) -> None:
    """Idle associations, and an honest C-ECHO beside them."""
    for count in (100, 1000):
        with ours(folder, 16384, False, False) as (host, port, process):
            before = _resident_mb(process)
            peers = []
            for _ in range(count):
                peer = RawPeer((host, port))
                peer.sock.sendall(associate_rq())
                assert peer.receive() == "A-ASSOCIATE-AC"
                peers.append(peer)
            used, begun = _cpu_seconds(process), time.perf_counter()
            threading.Event().wait(5 if repeat > 1 else 2)
            share = (_cpu_seconds(process) - used) / (time.perf_counter() - begun)
            echoes = [_echo_milliseconds((host, port)) for _ in range(20)]
            memory = _resident_mb(process) - before
            print(
                f"{count} idle associations: {share * 100:.2f} % of a core, {memory:.0f} MB; "
                f"C-ECHO beside them {statistics.median(echoes):.2f} ms, "
                f"slowest of 20 {max(echoes):.2f} ms",
                flush=True,
            )
            for peer in peers:
                peer.sock.close()


def _echo_milliseconds(address: tuple[str, int]) -> float:
    with RawPeer(address) as peer:
        begun = time.perf_counter()
        peer.sock.sendall(associate_rq())
        assert peer.receive() == "A-ASSOCIATE-AC"
        peer.sock.sendall(message(3, echo_rq()))
        assert peer.receive() == "RSP 0000"
        return (time.perf_counter() - begun) * 1000


def bench_memory(folder: Path, repeat: int) -> None:
    """Resident memory while a 2 GB instance arrives."""
    batch = messages(2000 * MB, 131072, 1, 0)
    with ours(folder, 131072, False, False) as (host, port, process):
        send_all((host, port), [messages(9 * KB, 131072, 1, 1)])
        before = _resident_mb(process)
        seconds = send_all((host, port), [batch])
        peak = _resident_mb(process, "VmHWM")
        print(f"2 GB instance: {peak - before:.0f} MB above idle at its peak, {seconds:.2f} s")


def bench_large(folder: Path, repeat: int) -> None:
    """The largest instance, received and sent; eight of a gigabyte at a time. Once each."""
    largest = messages(4_290 * MB, 131072, 1, 0)
    _receive_large("4.29 GB instance received", folder, [largest], processes=1)
    eight = [messages(1000 * MB, 131072, 1, number) for number in range(8)]
    _receive_large("1 GB in each of 8 associations", folder, eight, processes=2)
    path, uid, offset = _sparse_part10(folder / "largest", 4_290 * MB)
    # To a receiver of ours: storescp would hold all of it in memory.
    with ours(folder, 131072, False, False) as (host, port, _):
        answers, answer = os.pipe()
        if os.fork() == 0:
            try:
                before = _resident_mb(os.getpid())
                seconds, _ = _cost_of(partial(_send_ours, (host, port), [(path, uid, offset)]))
                peak = _resident_mb(os.getpid(), "VmHWM") - before
                os.write(answer, f"{peak:.0f} MB above idle at its peak, {seconds:.1f} s".encode())
                os._exit(0)
            finally:
                os._exit(1)
        os.close(answer)
        print(f"4.29 GB instance sent: {os.read(answers, 99).decode()}", flush=True)
        assert os.wait()[1] == 0, "it was not sent"
    path.unlink()


def _receive_large(
    name: str, folder: Path, batches: list[list[list[bytes]]], processes: int
) -> None:
    target = Path(tempfile.mkdtemp(dir=folder))
    with ours(target, 131072, False, processes > 1) as (host, port, process):
        small = [messages(9 * KB, 131072, 1, 100 + number) for number in range(8)]
        send_all((host, port), small)
        receivers = [process, *_children(process)]
        before = [_resident_mb(receiver) for receiver in receivers]
        seconds = send_all((host, port), batches)
        peaks = [_resident_mb(receiver, "VmHWM") for receiver in receivers]
    shutil.rmtree(target)
    above = " and ".join(f"{peak - idle:.0f} MB" for peak, idle in zip(peaks, before, strict=True))
    print(f"{name}: {above} above idle at the peak, {seconds:.1f} s", flush=True)


def _children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


def _sparse_part10(path: Path, byte_count: int) -> tuple[Path, str, int]:
    """A file of zeros behind a header of the right lengths, which takes no room on the disk."""
    _, uid, offset = _part10(path, 0, 1)
    header = data_set(0, uid.encode(), explicit=True)[:-4]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(header + struct.pack("<I", byte_count))
        file.truncate(offset + len(header) + 4 + byte_count)
    return path, uid, offset


GROUPS = {
    "receive": bench_receive,
    "send": bench_send,
    "short": bench_short,
    "idle": bench_idle,
    "memory": bench_memory,
    "large": bench_large,
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=GROUPS)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--pdu", type=int, default=16384)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name, group in GROUPS.items():
            if arguments.only in (None, name):
                group(Path(folder), arguments.repeat)


if __name__ == "__main__":
    main()
