"""The C extension and its Python equivalent: the same for any stream, however it arrives."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network.raw_peer import RELEASE_RQ, echo_rq, p_data, pdu, pdv, store_rq

from node.network import command_set, pdu_reader, repetition
from node.network.alertness import Alertness
from node.network.connection import Connection
from node.network.kernel import KERNEL, memory
from node.network.limits import MIB, Limits
from node.network.pdu_reader import ConnectionClosed, InvalidPDU, PDUReader

pytestmark = pytest.mark.skipif(KERNEL is None, reason="the C extension was not built")
KERNELS = pytest.mark.parametrize("kernel", [KERNEL, None], ids=["kernel", "Python"])

LIMITS = Limits(max_pdu=4096, idle_seconds=5)
#: Long enough to be told from nothing, short enough to wait for.
SHORT = Limits(max_pdu=4096, pdu_seconds=0.2, pdu_bytes_per_second=1e9)
CONTEXT = 5


class Memory:
    """Where fragments go: so much room and not a byte more."""

    def __init__(self, room: int) -> None:
        self.bytes = bytearray(room + 64)
        self.room = room
        self.filled = 0

    def free(self) -> tuple[memoryview, int, int]:
        return memoryview(self.bytes), self.filled, self.room

    def fill_to(self, filled: int) -> None:
        self.filled = filled

    def make_room(self) -> bool:
        return False


@contextlib.contextmanager
def reader(kernel: object, limits: Limits = LIMITS) -> Iterator[tuple[PDUReader, socket.socket]]:
    """A reader over a real connection, and the peer's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    connection = Connection(SimpleNamespace(), accepted)  # type: ignore[arg-type]
    made = PDUReader(connection, limits)
    made._kernel = kernel
    with peer:
        yield made, peer
    connection.close()


def transcript(kernel: object, stream: bytes, pieces: int, room: int) -> tuple[object, ...]:
    """What comes of `stream`, sent in `pieces`: the data sets, the other PDUs, the end."""
    said: list[object] = []
    with reader(kernel) as (it, peer):

        def send() -> None:
            step = max(1, len(stream) // pieces)
            with contextlib.suppress(OSError):
                for start in range(0, len(stream), step):
                    peer.sendall(stream[start : start + step])
                peer.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        memory = Memory(room)
        try:
            while True:
                if it.take_fragments(CONTEXT, memory, 5):
                    said.append(("data set", bytes(memory.bytes[: memory.filled])))
                    assert not any(memory.bytes[memory.room :])
                    memory = Memory(room)
                else:
                    kind, body = it.read(time.monotonic() + 5)
                    said.append((kind, bytes(body)))
        except (ConnectionClosed, InvalidPDU) as end:
            said.append((type(end), getattr(end, "reason", None)))
        it._connection.close()
        thread.join()
    return tuple(said)


def fragments(length: int, size: int, flags: int, context: int = CONTEXT) -> bytes:
    data = bytes(index % 251 for index in range(length))
    parts = [data[start : start + size] for start in range(0, max(length, 1), size)]
    middle = b"".join(p_data(pdv(context, 0, part)) for part in parts[:-1])
    return middle + p_data(pdv(context, flags, parts[-1]))


STREAMS = {
    "one fragment": fragments(100, 4000, 2),
    "many of one length": fragments(60_000, 4000, 2),
    "the last as long as the others": fragments(40_000, 4000, 2),
    "of one byte": fragments(300, 1, 2),
    "an empty one": p_data(pdv(CONTEXT, 0, b"")) + p_data(pdv(CONTEXT, 2, b"")),
    "two data sets": fragments(9000, 1000, 2) + fragments(9000, 1000, 2),
    "a short last one, then another data set": fragments(8500, 1000, 2) + fragments(8500, 1000, 2),
    "a last one that is longer": fragments(8000, 1000, 0) + fragments(3000, 3000, 2),
    "another PDU after": fragments(9000, 1000, 2) + RELEASE_RQ,
    "another PDU between": fragments(8000, 1000, 0) + RELEASE_RQ + fragments(8000, 1000, 2),
    "two PDVs in one PDU": fragments(8000, 1000, 0)
    + p_data(pdv(CONTEXT, 0, b"ab"), pdv(CONTEXT, 2, b"cd")),
    "a command fragment": fragments(8000, 1000, 0) + p_data(pdv(CONTEXT, 3, bytes(1000))),
    "another context": fragments(8000, 1000, 0) + fragments(1000, 1000, 2, context=7),
    "other lengths": fragments(8000, 1000, 0) + fragments(8000, 999, 0) + fragments(10, 10, 2),
    "too long a PDU": fragments(8000, 1000, 0) + pdu(4, b"", length=5000),
    "too short a PDU": fragments(8000, 1000, 0) + pdu(4, bytes(5)),
    "a PDV that is longer than its PDU": fragments(8000, 1000, 0) + p_data(pdv(5, 0, b"ab", 99)),
    "no PDU": fragments(8000, 1000, 0) + b"GET / HTTP/1.1\r\n\r\n",
    "more than fits": fragments(90_000, 4000, 2),
    "cut off in a header": fragments(8000, 1000, 0) + p_data(pdv(5, 0, b"ab"))[:9],
    "cut off in a fragment": fragments(8000, 1000, 0) + p_data(pdv(5, 0, bytes(1000)))[:500],
    "nothing": b"",
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_kernel_and_python_take_the_same(name: str, pieces: int) -> None:
    stream = STREAMS[name]
    expected = transcript(None, stream, pieces, 64_000)
    assert transcript(KERNEL, stream, pieces, 64_000) == expected


def test_data_set_arrives_as_it_was_sent() -> None:
    data = os.urandom(60_000)
    stream = b"".join(p_data(pdv(5, 0, data[at : at + 4000])) for at in range(0, 56_000, 4000))
    stream += p_data(pdv(5, 2, data[56_000:]))
    assert transcript(KERNEL, stream, 7, 64_000)[0] == ("data set", data)


class Emptied(Memory):
    """Memory that is written elsewhere when it is full, like that of a spill file."""

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self.written = b""

    def make_room(self) -> bool:
        had = self.filled > 0
        self.written += bytes(self.bytes[: self.filled])
        self.filled = 0
        return had


@KERNELS
@pytest.mark.parametrize("size", [1, 900, 4000])
def test_a_run_goes_on_where_there_is_room_again(kernel: object, size: int) -> None:
    stream = fragments(30_000, size, 2) + fragments(10, 10, 2)
    with reader(kernel) as (it, peer):
        thread = threading.Thread(target=peer.sendall, args=(stream,))
        thread.start()
        memory = Emptied(4000)
        assert it.take_fragments(CONTEXT, memory, 5)
        memory.make_room()
        assert memory.written == bytes(index % 251 for index in range(30_000))
        thread.join()


@KERNELS
def test_a_fragment_that_never_fits_ends_the_run(kernel: object) -> None:
    with reader(kernel) as (it, peer):
        peer.sendall(fragments(1000, 1000, 2))
        assert not it.take_fragments(CONTEXT, Emptied(999), 5)
        assert it.read(time.monotonic() + 5)[0] == 4


pieces_of_streams = st.one_of(
    st.builds(
        lambda size, flags, context: p_data(pdv(context, flags, bytes(size))),
        st.sampled_from([0, 1, 30, 1000, 1000, 1000, 1000]),
        st.sampled_from([0, 0, 0, 0, 0, 2, 1, 3, 4]),
        st.sampled_from([5, 5, 5, 5, 5, 7]),
    ),
    st.sampled_from([RELEASE_RQ, pdu(4, b""), pdu(4, bytes(5)), b"\4", pdu(9, b"x")]),
    st.binary(max_size=30),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(pieces_of_streams, max_size=30).map(b"".join),
    st.integers(1, 12),
    st.sampled_from([900, 3000, 20_000]),
)
def test_kernel_and_python_take_the_same_of_anything(stream: bytes, pieces: int, room: int) -> None:
    assert transcript(KERNEL, stream, pieces, room) == transcript(None, stream, pieces, room)


@KERNELS
@pytest.mark.parametrize(
    "begun",
    [
        p_data(pdv(5, 0, bytes(100)))[:1],
        p_data(pdv(5, 0, bytes(100)))[:50],
        p_data(pdv(5, 0, bytes(100))) * 3 + p_data(pdv(5, 0, bytes(100)))[:50],
    ],
    ids=["in its header", "in a fragment", "in one that was expected"],
)
def test_pdu_that_does_not_end_meets_its_deadline(kernel: object, begun: bytes) -> None:
    with reader(kernel, SHORT) as (it, peer):
        peer.sendall(begun)
        with pytest.raises(InvalidPDU, match="in its time"):
            it.take_fragments(CONTEXT, Memory(1000), 5)


@KERNELS
def test_a_byte_now_and_then_gains_nothing(kernel: object) -> None:
    ended = threading.Event()
    with reader(kernel, SHORT) as (it, peer):

        def dawdle() -> None:
            with contextlib.suppress(OSError):
                for byte in p_data(pdv(5, 0, bytes(4000))):
                    peer.sendall(bytes([byte]))
                    if ended.wait(0.02):
                        return

        thread = threading.Thread(target=dawdle)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(InvalidPDU, match="in its time"):
            it.take_fragments(CONTEXT, Memory(5000), 5)
        assert time.monotonic() - begun < 5
        ended.set()
        thread.join()


@KERNELS
def test_peer_that_says_nothing_is_idle(kernel: object) -> None:
    with reader(kernel) as (it, peer):
        peer.sendall(fragments(100, 100, 0))
        with pytest.raises(TimeoutError):
            it.take_fragments(CONTEXT, Memory(1000), 0.1)


@KERNELS
def test_another_thread_may_wake_it(kernel: object) -> None:
    with reader(kernel) as (it, _):
        threading.Timer(0.1, it._connection.wake).start()
        with pytest.raises(ConnectionClosed):
            it.take_fragments(CONTEXT, Memory(1000), 30)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_memory_takes_no_page_before_it_is_used() -> None:
    before = resident_bytes()
    made = memory(256 * MIB)
    assert len(made) == 256 * MIB
    assert resident_bytes() - before < 16 * MIB
    made[-1] = 7
    made.append(made.pop())
    assert made[-1] == 7


def test_memory_of_a_negative_length() -> None:
    with pytest.raises(ValueError, match="negative"):
        memory(-1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": 5, "end": 4},
        {"end": 101},
        {"start": -1},
        {"filled": 11},
        {"filled": -1},
        {"room": 51},
        {"idle": 0.0},
        {"idle": float("nan")},
        {"rate": 0.0},
        {"grace": -1.0},
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, float]) -> None:
    given = {"start": 0, "end": 0, "filled": 0, "room": 10, "idle": 1.0, "grace": 1.0, "rate": 1.0}
    given |= arguments
    start, end, filled, room, idle, grace, rate = given.values()
    with pytest.raises(ValueError, match="do not fit"):
        KERNEL.take(
            -1, bytearray(100), start, end, bytearray(50), filled, room, 5, 99, idle, grace, rate
        )


@pytest.mark.parametrize("buffer", [bytes(100), memoryview(bytes(100))])
def test_memory_that_must_not_change_is_refused(buffer: object) -> None:
    with pytest.raises((TypeError, BufferError)):
        KERNEL.take(-1, buffer, 0, 0, bytearray(50), 0, 50, 5, 99, 1.0, 1.0, 1.0)


command_bytes = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.builds(
            lambda group, element, value, more: (
                struct.pack("<HHI", group, element, len(value) + more) + value
            ),
            st.sampled_from([0, 0, 0, 0, 8]),
            st.sampled_from([0x0002, 0x0100, 0x0110, 0x0800, 0x0902, 0x1000, 0x1031, 0x5110]),
            st.one_of(
                st.binary(max_size=8), st.sampled_from([b"1.2.3\0", b" A \0", b"a\\b", b"\xe9"])
            ),
            st.sampled_from([0, 0, 0, 0, 0, 0, 1, 0xFFFFFF00]),
        ),
        max_size=8,
    ).map(b"".join),
)


@settings(max_examples=500, deadline=None)
@given(command_bytes, st.integers(0, 12))
def test_kernel_decodes_command_sets_as_python_does(data: bytes, position: int) -> None:
    table = command_set._DECODERS
    expected = command_set.decode_in_python(data, position, table)
    assert KERNEL.decode(data, position, table) == expected


def test_usual_command_sets_are_decoded() -> None:
    for encoded in (store_rq(), echo_rq()):
        decoded = command_set.decode(encoded)
        assert decoded == command_set.decode_in_python(encoded, 12, command_set._DECODERS)
        assert decoded["MessageID"] == 7


def test_broken_line_is_an_os_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        KERNEL.send(-1, b"x")


def test_python_serves_where_the_kernel_is_not_used(without_kernel: None) -> None:
    assert pdu_reader.KERNEL is None
    assert command_set.decode(store_rq())["CommandField"] == command_set.C_STORE_RQ


# -- requests like the last one --------------------------------------------------------------------

REPEATED = pytest.mark.parametrize(
    "repeated", [repetition.repeated, repetition.repeated_in_python], ids=["kernel", "Python"]
)


def pattern() -> repetition.Pattern:
    encoded = store_rq(7, sop_instance=b"1.2.3")
    found = repetition.pattern_of(CONTEXT, encoded, command_set.decode(encoded))
    assert found is not None
    return found


def like(repeated, body: bytes, found: repetition.Pattern) -> object:
    return repeated(memoryview(body), found.body, found.message_id_at, found.instance_at)


@REPEATED
@pytest.mark.parametrize("message_id", [0, 7, 0x1234, 0xFFFF])
@pytest.mark.parametrize("instance", [b"1.2.3", b"1.2.34", b"9", b"1." * 31 + b"12", b"1.0.01"])
def test_request_like_the_last_one(repeated, message_id: int, instance: bytes) -> None:
    encoded = store_rq(message_id, sop_instance=instance)
    expected = encoded, message_id, instance.decode()
    assert like(repeated, pdv(CONTEXT, 3, encoded), pattern()) == expected


def changed(body: bytes, at: int, value: bytes) -> bytes:
    return body[:at] + value + body[at + len(value) :]


REQUEST = pdv(CONTEXT, 3, store_rq(9, sop_instance=b"1.2.34"))
NOT_LIKE_IT = {
    "nothing": b"",
    "only a header": REQUEST[:6],
    "cut off": REQUEST[:-1],
    "without a UID": REQUEST[:-6],
    "something after it": REQUEST + b"\0",
    "another PDV after it": REQUEST + pdv(CONTEXT, 0, b"ab"),
    "another context": changed(REQUEST, 4, b"\7"),
    "not its last fragment": changed(REQUEST, 5, b"\1"),
    "a data fragment": changed(REQUEST, 5, b"\2"),
    "a PDV length that is wrong": changed(REQUEST, 3, bytes([REQUEST[3] ^ 1])),
    "a group length that is wrong": changed(REQUEST, 14, bytes([REQUEST[14] ^ 1])),
    "another operation": REQUEST.replace(b"\0\0\0\1\2\0\0\0\1\0", b"\0\0\0\1\2\0\0\0\x20\0"),
    "no data set": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"1.2.34", data_set=False)),
    "an empty UID": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"")),
    "a UID of spaces": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"  ")),
    "a UID with a letter": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"1.2.3a")),
    "a UID with an empty component": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"1..2.3")),
    "a UID that ends with a dot": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"1.2.3.")),
    "a path": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"../../")),
    "a UID of 65 characters": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"1" * 65)),
    "two UIDs": pdv(CONTEXT, 3, store_rq(9, sop_instance=b"1.2\\1.3")),
}


@REPEATED
@pytest.mark.parametrize("name", NOT_LIKE_IT)
def test_what_is_not_like_the_last_one_is_judged_anew(repeated, name: str) -> None:
    assert NOT_LIKE_IT[name] != REQUEST
    assert like(repeated, NOT_LIKE_IT[name], pattern()) is None


def a_store(data: bytes, flags: int = 2) -> bytes:
    return p_data(REQUEST) + p_data(pdv(CONTEXT, flags, data))


ASKED = (REQUEST[6:], 9, "1.2.34")


@pytest.mark.parametrize("size", [0, 1, 9000, 16_000])
def test_a_small_store_is_taken_at_once(size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    with reader(KERNEL, Limits()) as (it, peer):
        it._grow()
        peer.sendall(a_store(data) * 3 + RELEASE_RQ)
        it._gather(3 * len(a_store(data)), None)
        for _ in range(3):
            assert it.take_store(pattern(), 16_000, time.monotonic() + 5) == (ASKED, data)
        assert it.take_store(pattern(), 16_000, time.monotonic() + 5) is None
        assert it.read(time.monotonic() + 5)[0] == 5


@pytest.mark.parametrize(
    ("data_set", "length"),
    [
        (fragments(60_000, 4000, 2), 60_000),
        (p_data(pdv(CONTEXT, 0, b"ab")) + p_data(pdv(CONTEXT, 2, b"cd")), 4),
        (p_data(pdv(CONTEXT, 2, bytes(4000))), 4000),
    ],
    ids=["many fragments", "two", "more than there is room"],
)
def test_what_is_no_small_data_set_is_left_to_be_taken(data_set: bytes, length: int) -> None:
    with reader(KERNEL) as (it, peer):
        peer.sendall(p_data(REQUEST) + data_set)
        assert it.take_store(pattern(), 3999, time.monotonic() + 5) == (ASKED, None)
        memory = Memory(60_000)
        assert it.take_fragments(CONTEXT, memory, 5)
        assert memory.filled == length


@pytest.mark.parametrize("step", [1, 5, 11, 12, 13, 100])
def test_a_request_in_pieces_is_known(step: int) -> None:
    with reader(KERNEL) as (it, peer):

        def send() -> None:
            whole = p_data(REQUEST)
            for start in range(0, len(whole), step):
                peer.sendall(whole[start : start + step])
                time.sleep(0.0005)

        thread = threading.Thread(target=send)
        thread.start()
        assert it.take_store(pattern(), 16_000, time.monotonic() + 5) == (ASKED, None)
        thread.join()


@pytest.mark.parametrize("name", NOT_LIKE_IT)
def test_what_is_not_like_it_is_left_to_be_read(name: str) -> None:
    other = p_data(NOT_LIKE_IT[name])
    with reader(KERNEL) as (it, peer):
        peer.sendall(other + RELEASE_RQ)
        assert it.take_store(pattern(), 16_000, time.monotonic() + 5) is None
        assert it._gather(len(other + RELEASE_RQ), None) is None
        assert bytes(it._buffer[it._start : it._end]) == other + RELEASE_RQ


@pytest.mark.parametrize("other", [RELEASE_RQ, b"GET / HTTP/1.1\r\n\r\n", pdu(4, bytes(5))])
def test_another_pdu_is_left_to_be_read(other: bytes) -> None:
    with reader(KERNEL) as (it, peer):
        peer.sendall(other)
        assert it.take_store(pattern(), 16_000, time.monotonic() + 5) is None
        assert bytes(it._buffer[it._start : it._end]) == other


def test_a_request_that_does_not_come_or_does_not_end() -> None:
    with reader(KERNEL, SHORT) as (it, peer):
        with pytest.raises(TimeoutError):
            it.take_store(pattern(), 16_000, time.monotonic() + 0.1)
        peer.sendall(p_data(REQUEST)[:-1])
        with pytest.raises(InvalidPDU, match="in its time"):
            it.take_store(pattern(), 16_000, time.monotonic() + 5)
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionClosed):
            it.take_store(pattern(), 16_000, time.monotonic() + 5)


def test_a_request_that_comes_slowly_has_the_time_of_its_length() -> None:
    slow = Limits(pdu_seconds=0.2, pdu_bytes_per_second=100)
    whole = p_data(REQUEST)
    with reader(KERNEL, slow) as (it, peer):

        def send() -> None:
            peer.sendall(whole[:8])
            time.sleep(0.25)
            peer.sendall(whole[8:20])
            time.sleep(0.5)
            peer.sendall(whole[20:])

        thread = threading.Thread(target=send)
        thread.start()
        assert it.take_store(pattern(), 16_000, time.monotonic() + 5) == (ASKED, None)
        thread.join()


def test_without_the_kernel_no_store_is_taken_so() -> None:
    with reader(None) as (it, peer):
        peer.sendall(a_store(b"ab"))
        assert it.take_store(pattern(), 16_000, time.monotonic() + 5) is None
        assert it.read(time.monotonic() + 5)[1] == REQUEST


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(REQUEST) - 1), st.binary(min_size=1, max_size=4), st.integers(0, 8))
def test_kernel_and_python_see_the_same_likeness(at: int, value: bytes, cut: int) -> None:
    body = changed(REQUEST, at, value)
    body = body[: len(body) - cut]
    found = pattern()
    expected = like(repetition.repeated_in_python, body, found)
    assert like(repetition.repeated, body, found) == expected
    if expected is not None:
        assert command_set.decode(body[6:]) == found.command | {
            "MessageID": expected[1],
            "AffectedSOPInstanceUID": expected[2],
        }


@pytest.mark.parametrize("awake_seconds", [0.0, 2.0])
def test_a_request_like_the_last_is_waited_for_awake_where_that_is_wanted(
    awake_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Alertness, "awake_seconds", awake_seconds)
    with reader(KERNEL) as (it, peer):
        threading.Timer(0.2, peer.sendall, [pdu(4, REQUEST)]).start()
        used = time.thread_time()
        assert it.take_store(pattern(), 0, time.monotonic() + 5) is not None
        used = time.thread_time() - used
    assert (used > 0.01) == (awake_seconds > 0)


def test_a_request_that_comes_late_is_not_waited_for_awake_nor_learnt_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Alertness, "awake_seconds", 2.0)
    noted: list[float] = []
    with reader(KERNEL) as (it, peer):
        it._connection.alertness.note = noted.append  # type: ignore[method-assign]
        for comes_late in (True, False):
            threading.Timer(0.2, peer.sendall, [p_data(REQUEST)]).start()
            used = time.thread_time()
            found = it.take_store(pattern(), 0, time.monotonic() + 5, comes_late)
            assert found == (ASKED, None)
            assert (time.thread_time() - used > 0.01) != comes_late
            assert len(noted) == 1 - comes_late


def test_it_is_learnt_how_long_a_request_like_the_last_was_waited_for() -> None:
    noted: list[float] = []
    with reader(KERNEL) as (it, peer):
        it._connection.alertness.note = noted.append  # type: ignore[method-assign]
        threading.Timer(0.1, peer.sendall, [pdu(4, REQUEST)]).start()
        assert it.take_store(pattern(), 0, time.monotonic() + 5) is not None
    assert len(noted) == 1
    assert 0.05 < noted[0] < 5


def test_offsets_that_do_not_fit_are_refused() -> None:
    for message_id_at, instance_at in [(17, 90), (40, 45), (40, 1000), (-1, 90)]:
        with pytest.raises(ValueError, match="do not fit"):
            KERNEL.repeated(REQUEST, REQUEST, message_id_at, instance_at)
        with pytest.raises(ValueError, match="do not fit"):
            KERNEL.take_store(
                -1,
                bytearray(100),
                0,
                0,
                REQUEST,
                message_id_at,
                instance_at,
                9,
                9,
                1.0,
                1.0,
                1.0,
                0,
            )


def test_no_pattern_where_the_instance_is_not_last_or_something_is_there_twice() -> None:
    encoded = store_rq(7, sop_instance=b"1.2.3")
    command = command_set.decode(encoded)
    originator = struct.pack("<HHIH", 0, 0x1031, 2, 1)
    again = struct.pack("<HHIH", 0, 0x0110, 2, 1)
    for more in (originator, again):
        assert repetition.pattern_of(CONTEXT, encoded + more, command) is None


CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize("instance", ["1.2.3", "1.2.34", "1" * 64])
@pytest.mark.parametrize("number", [0, 0xA700, 0xFFFF])
def test_store_responses_are_the_same(instance: str, number: int) -> None:
    sop_class = "1.2.840.10008.5.1.4.1.1.2"
    arguments = (255, command_set.C_STORE_RSP, sop_class, instance, number, number)
    answer = command_set.response_in_python(*arguments)
    assert KERNEL.response(*arguments) == answer
    assert len(answer) - 12 <= command_set.LONGEST_RESPONSE
    assert answer[12:] == command_set.encode_store_response(sop_class, instance, number, number)
    with pytest.raises(ValueError, match="longer than 64"):
        KERNEL.response(1, command_set.C_STORE_RSP, "1.2", "1" * 65, 1, 0)


@pytest.mark.parametrize("make", [command_set.response, command_set.response_in_python])
@pytest.mark.parametrize("number", [-1, 0x10000, 0x1A700, 1 << 40])
def test_a_number_that_is_too_large_is_not_cut_to_another_one(make, number: int) -> None:
    """A failure must not become Success."""
    for numbers in ((number, 1, 0), (command_set.C_ECHO_RSP, number, 0), (1, 1, number)):
        field, message_id, status = numbers
        with pytest.raises((ValueError, OverflowError, struct.error)):
            make(3, field, "1.2", "", message_id, status)


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.1.1", "1.2", "", "1" * 64])
@pytest.mark.parametrize("number", [0, 0x0122, 0xFFFF])
def test_echo_responses_are_the_same(sop_class: str, number: int) -> None:
    arguments = (3, command_set.C_ECHO_RSP, sop_class, "", number, number)
    answer = command_set.response_in_python(*arguments)
    assert KERNEL.response(*arguments) == answer
    assert answer[12:] == command_set.encode_echo_response(sop_class, number, number)
