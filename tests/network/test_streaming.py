"""Data sets in a stream: into memory, a spill file or nowhere; from files; with deadlines."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import resource
import socket
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from network.peers import need, storescp, wait_until
from network.raw_peer import (
    RELEASE_RQ,
    RawPeer,
    associate_rq,
    command_set,
    message,
    p_data,
    pdu,
    pdv,
    status,
    store_rq,
    us,
)
from pynetdicom import build_context, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from node.errors import PeerUnreachable
from node.network.arena import BLOCK_BYTES, Pool
from node.network.data_set import Assembly
from node.network.dimse import received_data
from node.network.kernel import KERNEL
from node.network.limits import KIB, MIB, Limits
from node.network.message_sender import MessageSender
from node.network.pdu_reader import PDUReader
from node.network.requestor import associate
from node.network.sending import (
    AssociationEnded,
    ContextNotAccepted,
    PeerTooSlow,
    send_store,
)
from node.network.server import listen
from node.network.window import _LEAD_BYTES, Window

IMPLICIT_VR_LE = "1.2.840.10008.1.2"
#: Bytes that the kernel has and has not sent, from linux/sockios.h.
_SIOCOUTQNSD = 0x894B
LIMITS = Limits(
    memory_bytes=1 * MIB,
    instance_bytes=64 * MIB,
    idle_seconds=5,
    close_seconds=0.3,
    artim_seconds=2,
)


class Received(list):
    """What arrived: length, digest, spill file."""

    answer = 0x0000

    def store(self, event: evt.Event) -> int:
        data = received_data(event)
        self.append((data.nbytes, hashlib.sha256(data.buffer).hexdigest(), data.path))
        if data.path is not None:
            assert data.path.stat().st_mode & 0o777 == 0o600
        return self.answer


@pytest.fixture
def received():
    return Received()


@pytest.fixture
def serve(tmp_path: Path):
    servers = []

    def start(store, limits: Limits = LIMITS, spill: Path | None = None, **options):
        server = listen(
            address=("127.0.0.1", 0),
            ae_title="STREAM",
            handlers=[(evt.EVT_C_STORE, store)],
            contexts=[build_context(Verification), build_context(CTImageStorage)],
            limits=limits,
            spill=spill or tmp_path,
            **options,
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


@pytest.mark.skipif(KERNEL is None, reason="the C extension was not built")
def test_after_a_large_data_set_the_next_request_comes_late(serve, monkeypatch) -> None:
    expected = []
    take_store = PDUReader.take_store

    def noted(self, pattern, room, begin_by, comes_late):
        expected.append(comes_late)
        return take_store(self, pattern, room, begin_by, comes_late)

    monkeypatch.setattr(PDUReader, "take_store", noted)
    server = serve(lambda event: 0x0000, Limits(memory_bytes=100_000, close_seconds=0.2))
    sizes = [10, 65_534, 65_536, 10, 100_010, 66_000, 10]
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == "A-ASSOCIATE-AC"
        for size in sizes:
            peer.send([message(1, store_rq(), bytes(size))])
            assert peer.receive() == "RSP 0000"
        peer.send([RELEASE_RQ])
        assert peer.receive() == "A-RELEASE-RP"
    # Not for the first request, which there is none to compare with; one for the release.
    assert expected == [size >= 65_536 for size in sizes]


def reach(address, **options):
    return associate(
        address=address,
        calling_ae_title="SCU",
        called_ae_title="STREAM",
        contexts=[build_context(CTImageStorage, IMPLICIT_VR_LE)],
        limits=LIMITS,
        **options,
    )


def send(assoc, source, **options):
    context = assoc.accepted_contexts[0]
    return send_store(assoc, context, CTImageStorage, "1.2.3", source, **options)


#: Around the sizes of a fragment, a window, a block and the limit of memory.
SIZES = [
    0,
    1,
    2,
    131_065,
    131_066,
    131_067,
    262_132,
    262_133,
    524_264,
    524_265,
    MIB - 1,
    MIB,
    MIB + 1,
    5_000_000,
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("max_pdu", [16, 1000, 16384, 131072])
def test_every_byte_arrives(serve, received, tmp_path, size, max_pdu) -> None:
    if max_pdu == 16 and size > 200_000:
        size = 200_000
    limits = Limits(max_pdu=max_pdu, memory_bytes=MIB, idle_seconds=10)
    server = serve(received.store, limits)
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(b"header" + data)
    assoc = reach(server.address)
    with source.open("rb") as file:
        assert send(assoc, (file.fileno(), 6, size)).status == 0x0000
    chunks = [data[start : start + 77_777] for start in range(0, size, 77_777)]
    assert send(assoc, chunks, message_id=2).status == 0x0000
    assert send(assoc, iter(chunks), message_id=3).status == 0x0000
    assoc.release()
    digest = hashlib.sha256(data).hexdigest()
    assert [entry[:2] for entry in received] == [(size, digest)] * 3
    assert all((path is not None) == (size > MIB) for _, _, path in received)


def test_window_marks_the_last_fragment_and_no_other() -> None:
    for length in (0, 1, 9, 10, 11, 20, 29, 30, 31):
        window = Window(5, 16)
        window._holes = window._holes[:3]
        window._buffer = window._buffer[: _LEAD_BYTES + 3 * window._stride]
        pdus = b"".join(bytes(part) for part in window.from_chunks([bytes(length)]))
        expected = b""
        for start in range(0, max(length, 1), 10):
            part = bytes(length)[start : start + 10]
            expected += p_data(pdv(5, 2 if start + 10 >= length else 0, part))
        assert pdus == expected


@pytest.mark.parametrize(("longest", "pdus"), [(16384, 7), (32768, 4), (131072, 4)])
def test_some_pdus_go_out_at_one_go_however_long_they_are(longest: int, pdus: int) -> None:
    """A peer that reads each of them whole would sleep before the next one."""
    first, *others = Window(5, longest).from_chunks([bytes(20 * longest)])
    assert len(first) == pdus * (longest + 6)
    assert others


def test_what_is_worth_it_goes_out_while_more_is_made() -> None:
    window, size = Window(5, 16384), 16384 - 6

    def made():
        yield bytes(2 * size)
        assert sent == []
        yield bytes(4 * size)
        # One fragment is held back, or there might be none to be the last.
        assert [len(part) for part in sent] == [5 * (size + 12)]
        yield b""

    sent: list[bytes] = []
    for part in window.from_chunks(made()):
        sent.append(bytes(part))
    assert [len(part) for part in sent] == [5 * (size + 12), size + 12]
    assert b"".join(sent) == b"".join(
        p_data(pdv(5, flag, bytes(size))) for flag in (0, 0, 0, 0, 0, 2)
    )


@pytest.mark.skipif(KERNEL is None, reason="the C extension was not built")
def test_an_answer_may_be_waited_for_awake_longer_than_a_request(serve) -> None:
    assoc = reach(serve(lambda event: 0x0000).address)
    alertness = assoc.dul.connection.alertness
    for _ in range(8):
        alertness.note(0.00008)  # longer than a request is waited for
    assert (alertness.awake_seconds > 0) is (len(os.sched_getaffinity(0)) > 1)
    assoc.release()


def test_status_and_comment_come_back(serve, received) -> None:
    received.answer = 0xB007
    assoc = reach(serve(received.store).address)
    answer = send(assoc, [b"12"], message_id=77)
    assert (answer.status, answer.meaning.value) == (0xB007, "warning")
    assoc.release()


def test_handler_may_take_the_spill_file_away(serve, tmp_path) -> None:
    def store(event: evt.Event) -> int:
        received_data(event).path.rename(tmp_path / "kept")
        return 0x0000

    assoc = reach(serve(store).address)
    data = os.urandom(3 * MIB)
    assert send(assoc, [data]).status == 0x0000
    assoc.release()
    assert (tmp_path / "kept").read_bytes() == data


def test_spill_file_goes_when_the_handler_fails(serve, tmp_path) -> None:
    def store(event: evt.Event) -> int:
        assert received_data(event).path.exists()
        raise RuntimeError("as it happens")

    assoc = reach(serve(store).address)
    assert send(assoc, [bytes(3 * MIB)]).status == 0x0110
    assert not list(tmp_path.iterdir())
    assoc.release()


def test_spill_file_is_gone_when_the_requestor_is_told(serve, tmp_path, monkeypatch) -> None:
    found = []
    answer = MessageSender.send_store_response

    def answered(sender: MessageSender, *arguments: object) -> None:
        found.append(list(tmp_path.iterdir()))
        answer(sender, *arguments)

    monkeypatch.setattr(MessageSender, "send_store_response", answered)
    assoc = reach(serve(lambda event: 0xA700).address)
    assert send(assoc, [bytes(3 * MIB)]).status == 0xA700
    assert found == [[]]
    assoc.release()


def test_memory_is_used_again_for_the_next_instance(serve) -> None:
    server = serve(lambda event: 0x0000)
    assoc = reach(server.address)
    for number in range(5):
        assert send(assoc, [bytes(100_000)], message_id=number + 1).status == 0x0000
        wait_until(lambda: server.prototype.pool.nbytes == BLOCK_BYTES, "the one block is back")
    assoc.release()


@pytest.mark.parametrize("how", ["close", "abort", "reset", "vanish"])
def test_spill_file_goes_when_the_sender_does(serve, tmp_path, how) -> None:
    server = serve(
        lambda event: 0x0000, Limits(memory_bytes=1000, idle_seconds=0.5, close_seconds=0.2)
    )
    with RawPeer(server.address) as peer:
        peer.send([associate_rq(), p_data(pdv(1, 3, store_rq()))])
        peer.send([p_data(pdv(1, 0, bytes(10_000)))] * 20)
        wait_until(lambda: bool(list(tmp_path.iterdir())), "spill file is there")
        if how == "abort":
            peer.send([pdu(7, bytes(4))])
        elif how == "reset":
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if how in ("close", "reset"):
            peer.sock.close()
        wait_until(lambda: not list(tmp_path.iterdir()), "spill file is gone")
        wait_until(lambda: server.active == 0, "association ended")


def test_full_disk_is_answered_and_the_association_goes_on(serve, monkeypatch) -> None:
    """ENOSPC while spilling: A700 for this instance, Success for the next."""
    real = os.write

    def full(descriptor: int, data) -> int:
        if len(data) > 100_000:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    server = serve(lambda event: 0x0000)
    assoc = reach(server.address)
    monkeypatch.setattr(os, "write", full)
    answer = send(assoc, [bytes(4 * MIB)])
    assert (answer.status, answer.comment) == (0xA700, "cannot write: No space left on device")
    assert send(assoc, [bytes(1000)], message_id=2).status == 0x0000
    assoc.release()


def test_spill_folder_that_is_not_there_is_answered(serve, tmp_path) -> None:
    assoc = reach(serve(lambda event: 0x0000, spill=tmp_path / "missing").address)
    assert send(assoc, [bytes(4 * MIB)]).status == 0xA700
    assoc.release()


def test_what_is_larger_than_memory_may_hold_is_spilled_however_it_comes(serve, received) -> None:
    """Also where it has come whole with a request like the last one."""
    server = serve(received.store, Limits(memory_bytes=3000, idle_seconds=10))
    sizes = [100, 3000, 3002, 9000, 2, 3002] * 5
    stream = b"".join(
        message(1, store_rq(number, sop_instance=f"1.2.{number}".encode()), bytes(size))
        for number, size in enumerate(sizes)
    )
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == "A-ASSOCIATE-AC"
        peer.send([stream])
        assert [peer.receive() for _ in sizes] == [status(0)] * len(sizes)
    assert [size for size, _, _ in received] == sizes
    assert [path is not None for _, _, path in received] == [size > 3000 for size in sizes]


def test_view_that_a_handler_kept_never_shows_another_instance(serve) -> None:
    kept = []

    def store(event: evt.Event) -> int:
        kept.append(received_data(event).buffer[:4])
        return 0x0000

    assoc = reach(serve(store).address)
    for text in (b"AAAA", b"BBBB", b"CCCC"):
        assert send(assoc, [text * 100]).status == 0x0000
    assoc.release()
    assert [bytes(view) for view in kept] == [b"AAAA", b"BBBB", b"CCCC"]


def test_memory_of_the_pool_is_bounded() -> None:
    pool = Pool()
    blocks = [pool.take(8 * MIB) for _ in range(10)]
    for block in blocks:
        pool.give_back(block)
    assert pool.nbytes <= 32 * MIB


def test_large_instance_takes_little_memory(serve, received) -> None:
    """A quarter of a gigabyte through this process, both ends; the long form is a benchmark."""
    server = serve(lambda event: 0x0000, Limits(idle_seconds=20))
    assoc = reach(server.address)
    send(assoc, [bytes(17 * MIB)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunk = bytes(1 * MIB)
    assert send(assoc, (chunk for _ in range(256)), message_id=2).status == 0x0000
    assoc.release()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000


def test_assembly_keeps_nothing_after_abandon(tmp_path) -> None:
    assembly = Assembly(Limits(memory_bytes=1000), tmp_path, Pool())
    assembly.write(memoryview(bytes(100_000)))
    assert list(tmp_path.iterdir())
    assembly.abandon()
    assembly.abandon()
    assert not list(tmp_path.iterdir())


def test_a_spill_file_is_compared_with_what_arrived(tmp_path) -> None:
    """Read again in several pieces, or by a sum that somebody else made of it."""
    content = os.urandom(3 * MIB + 17)
    assembly = Assembly(Limits(memory_bytes=1000), tmp_path, Pool())
    for start in range(0, len(content), 100_000):
        assembly.write(memoryview(content)[start : start + 100_000])
    data = assembly.finish()
    assert data is not None
    assert data.is_as_it_arrived()
    assert data.is_as_it_arrived(zlib.crc32(content))
    for at in (0, MIB, len(content) - 1):
        os.pwrite(data.descriptor, bytes([content[at] ^ 1]), at)
        assert not data.is_as_it_arrived(), at
        os.pwrite(data.descriptor, content[at : at + 1], at)
    assert data.is_as_it_arrived()
    data.close()


# -- deadlines of the requestor --------------------------------------------------------------------


class ScriptedAcceptor(threading.Thread):
    """Accepts one association in the words of an A-ASSOCIATE-AC, then does as `behave` says."""

    def __init__(self, behave, receive_buffer: int) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.address = self._listening.getsockname()
        self._behave = behave
        self.done = threading.Event()

    def run(self) -> None:
        sock, _ = self._listening.accept()
        with sock:
            length = int.from_bytes(sock.recv(6, socket.MSG_WAITALL)[2:], "big")
            request = sock.recv(length, socket.MSG_WAITALL)
            result = b"\x21\0\0\x19\1\0\0\0\x40\0\0\x11" + IMPLICIT_VR_LE.encode()
            user = b"\x50\0\0\x0f\x51\0\0\4\0\0\x40\0\x52\0\0\3" + b"1.2"
            application = b"\x10\0\0\x15" + b"1.2.840.10008.3.1.1.1"
            sock.sendall(pdu(2, request[:68] + application + result + user))
            self._behave(sock, self.done)
        self._listening.close()


def scripted(behave, receive_buffer: int = 4096):
    acceptor = ScriptedAcceptor(behave, receive_buffer)
    acceptor.start()
    return acceptor, reach(acceptor.address)


def test_peer_that_stops_reading_is_given_up_after_the_deadline() -> None:
    acceptor, assoc = scripted(lambda sock, done: done.wait(20))
    begun = time.monotonic()
    with pytest.raises(PeerTooSlow, match="takes no more data"):
        send(assoc, [bytes(32 * MIB)], progress_seconds=0.5)
    assert 0.4 < time.monotonic() - begun < 3
    assert not assoc.is_established
    acceptor.done.set()
    acceptor.join(10)


def test_little_waits_in_the_kernel_for_a_peer_that_does_not_read() -> None:
    acceptor, assoc = scripted(lambda sock, done: done.wait(20), receive_buffer=512 * KIB)
    most = 0
    with assoc.dul.connection.socket.dup() as sock, ThreadPoolExecutor() as pool:
        sending = pool.submit(send, assoc, [bytes(32 * MIB)], progress_seconds=0.5)
        while not sending.done():
            unsent = fcntl.ioctl(sock, _SIOCOUTQNSD, bytes(4))
            most = max(most, int.from_bytes(unsent, sys.byteorder))
            wait([sending], 0.01)
        assert isinstance(sending.exception(), PeerTooSlow)
    assert 0 < most <= 256 * KIB
    acceptor.done.set()
    acceptor.join(10)


def test_a_kernel_that_cannot_be_told_so_is_no_obstacle(serve, monkeypatch) -> None:
    monkeypatch.setattr(socket, "TCP_NOTSENT_LOWAT", 9999)
    assoc = reach(serve(lambda event: 0x0000).address)
    assert send(assoc, [bytes(KIB)]).status == 0x0000
    assoc.release()


def test_slow_peer_that_makes_progress_succeeds() -> None:
    """It takes several times the deadline in all, but something in every one of them."""
    answer = command_set(us(0x0100, 0x8001), us(0x0120, 1), us(0x0800, 0x0101), us(0x0900, 0))

    def behave(sock: socket.socket, done: threading.Event) -> None:
        taken = 0
        while taken < 8 * MIB:
            taken += len(sock.recv(512 * KIB))
            done.wait(0.06)
        sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while sock.recv(MIB):
                pass
        sock.sendall(p_data(pdv(1, 3, answer)))
        done.wait(10)

    acceptor, assoc = scripted(behave, receive_buffer=512 * KIB)
    begun = time.monotonic()
    response = send(assoc, [bytes(8 * MIB)], progress_seconds=0.3, response_seconds=5)
    assert response.status == 0x0000
    assert time.monotonic() - begun > 0.9
    acceptor.done.set()
    assoc.abort()


def test_response_time_begins_when_the_last_byte_was_sent() -> None:
    def behave(sock: socket.socket, done: threading.Event) -> None:
        sock.settimeout(20)
        while sock.recv(MIB):
            pass

    _, assoc = scripted(behave)
    with pytest.raises(PeerTooSlow, match="did not answer in"):
        send(assoc, [bytes(MIB)], response_seconds=0.4)


@pytest.mark.parametrize("goodbye", [pdu(7, bytes(4)), b""], ids=["A-ABORT", "close"])
def test_peer_that_ends_the_association_meanwhile_is_told_apart(goodbye) -> None:
    def behave(sock: socket.socket, done: threading.Event) -> None:
        sock.recv(1000)
        sock.sendall(goodbye)

    _, assoc = scripted(behave)
    with pytest.raises(AssociationEnded):
        send(assoc, [bytes(32 * MIB)], progress_seconds=10)
    assert assoc.is_aborted
    with pytest.raises(AssociationEnded):
        send(assoc, [b"12"])


def test_abort_is_noticed_by_one_who_waits_to_send() -> None:
    """The peer neither reads nor closes, but says A-ABORT."""

    def behave(sock: socket.socket, done: threading.Event) -> None:
        sock.recv(1000)
        sock.sendall(pdu(7, bytes(4)))
        done.wait(20)

    acceptor, assoc = scripted(behave)
    begun = time.monotonic()
    with pytest.raises(AssociationEnded):
        send(assoc, [bytes(64 * MIB)], progress_seconds=15)
    assert time.monotonic() - begun < 5
    acceptor.done.set()


def test_source_that_fails_aborts_and_says_so(serve, received, tmp_path) -> None:
    server = serve(received.store)
    source = tmp_path / "short"
    source.write_bytes(bytes(1000))
    assoc = reach(server.address)
    with source.open("rb") as file, pytest.raises(OSError, match="shorter"):
        send(assoc, (file.fileno(), 0, 2000))
    assert assoc.is_aborted
    assert received == []


def test_context_that_was_not_accepted(serve) -> None:
    assoc = reach(serve(lambda event: 0x0000).address)
    context = build_context(CTImageStorage)
    context.context_id = 9
    with pytest.raises(ContextNotAccepted):
        send_store(assoc, context, CTImageStorage, "1.2.3", [b"12"])
    assoc.release()


def test_failures_are_unreachable_peers_to_a_command() -> None:
    assert issubclass(AssociationEnded, PeerUnreachable)
    assert issubclass(PeerTooSlow, PeerUnreachable)


@pytest.mark.peer
def test_storescp_gets_every_byte(tmp_path: Path) -> None:
    """Bit preserving, DCMTK writes what it received after its own Part 10 header."""
    need("storescp")
    element = b"\x08\0\x18\0\x06\0\0\x001.2.3\0"
    data = element + b"\xe0\x7f\x10\0" + (2 * MIB).to_bytes(4, "little") + os.urandom(2 * MIB)
    with storescp(tmp_path, "+B", "-uf", "-pdu", "131072") as address:
        assoc = reach(address)
        assert send(assoc, [data]).status == 0x0000
        assoc.release()
    (written,) = tmp_path.iterdir()
    assert written.read_bytes().endswith(data)


def test_raw_fragments_of_one_byte(serve, received) -> None:
    """A sender may cut a data set as it likes."""
    server = serve(received.store)
    data = os.urandom(300)
    with RawPeer(server.address) as peer:
        fragments = [p_data(pdv(1, 0, data[n : n + 1])) for n in range(299)]
        last = p_data(pdv(1, 2, data[299:]))
        peer.send([associate_rq(), p_data(pdv(1, 3, store_rq())), *fragments, last, RELEASE_RQ])
        peer.until_closed()
        assert peer.said[1] == status(0x0000)
    assert received[0][:2] == (300, hashlib.sha256(data).hexdigest())
