"""Bad input, one case a row: what is sent, what is answered, and how soon the connection closes.

The rows are those of the table of bad input, tests/hostile/rows.py.
"""

from __future__ import annotations

import random
import threading
import time

import pytest
from hostile.rows import ACCEPTED, IN_ASSOCIATION, LIMITS, RELEASED, REQUESTS, ROWS, SUCCESS, Row
from network.raw_peer import (
    RELEASE_RQ,
    RawPeer,
    abort,
    associate_rq,
    echo_rq,
    message,
    pdu,
)
from pynetdicom import build_context, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from node.network.limits import GIB, Limits
from node.network.server import Server, listen


def store(event: evt.Event) -> int:
    return 0x0000


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    spill = tmp_path_factory.mktemp("spill")
    server = listen(
        address=("127.0.0.1", 0),
        ae_title="GUARDED",
        handlers=[(evt.EVT_C_STORE, store)],
        contexts=[build_context(Verification), build_context(CTImageStorage)],
        limits=LIMITS,
        spill=spill,
        require_called_aet=True,
    )
    yield server
    server.shutdown()
    assert not list(spill.iterdir())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_input(node: Server, row: Row) -> None:
    with RawPeer(node.address) as peer:
        peer.send(row.send)
        seconds = peer.until_closed()
        assert peer.said == row.answers
        assert seconds < row.within
        if row.context_results:
            assert peer.context_results() == row.context_results


@pytest.mark.parametrize("row", IN_ASSOCIATION, ids=lambda row: row.name)
def test_bad_input_without_the_kernel(node: Server, row: Row, without_kernel: None) -> None:
    test_bad_input(node, row)


@pytest.mark.parametrize("row", REQUESTS[:3] + IN_ASSOCIATION[:4], ids=lambda row: row.name)
def test_answer_does_not_depend_on_how_the_bytes_arrive(node: Server, row: Row) -> None:
    whole = b"".join(row.send)
    for size in (1, 7):
        with RawPeer(node.address) as peer:
            peer.send(whole[start : start + size] for start in range(0, len(whole), size))
            peer.until_closed()
            assert peer.said == row.answers


def test_one_abort_and_no_more(node: Server) -> None:
    """In Sta13 nothing is answered: ten bad PDUs get one A-ABORT."""
    with RawPeer(node.address) as peer:
        peer.send([associate_rq(), *[pdu(0x09, bytes(4))] * 10])
        peer.until_closed()
        assert peer.said == [ACCEPTED, abort(2, 1)]


def _send_for_ever(peer: RawPeer, data: bytes) -> None:
    """Send until the connection breaks, but no longer than a test may last."""
    begun = time.monotonic()
    while time.monotonic() - begun < 10:
        peer.sock.sendall(data)


def test_peer_that_keeps_sending_after_the_abort_is_cut_off(node: Server) -> None:
    """64 KiB are discarded, no more; then the connection is closed on the peer."""
    with RawPeer(node.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
        peer.send([pdu(0x09, bytes(4))])
        begun = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            _send_for_ever(peer, bytes(65536))
        assert time.monotonic() - begun < 1


def test_one_byte_at_a_time_in_a_pdu_meets_the_deadline(node: Server) -> None:
    with RawPeer(node.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
        dribble = threading.Event()

        def send_bytes() -> None:
            peer.send([pdu(4, b"", 1000)])
            while not dribble.wait(0.05):
                peer.send([b"\0"])

        thread = threading.Thread(target=send_bytes)
        thread.start()
        seconds = peer.until_closed()
        dribble.set()
        thread.join()
        assert peer.said == [ACCEPTED, abort(2, 0)]
        assert seconds < 1.5


def test_peer_that_never_reads_is_given_up(node: Server) -> None:
    """Requests without end, answers never read: the send deadline ends it."""
    with RawPeer(node.address) as peer:
        peer.sock.setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF
        peer.sock.settimeout(5)
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            _send_for_ever(peer, message(3, echo_rq()) * 500)


def test_noise_gets_an_answer_or_a_close(node: Server) -> None:
    """Whatever comes, before and in an association, the node closes and lives on."""
    noise = random.Random(4)
    for case in range(60):
        data = bytes(noise.randrange(256) for _ in range(noise.randrange(1, 400)))
        opening = [associate_rq()] if case % 2 else []
        framed = pdu(noise.choice((1, 4, 4, 4, 5)), data) if case % 3 else data
        with RawPeer(node.address) as peer:
            peer.send([*opening, framed, pdu(0x0A, bytes(4))])
            assert peer.until_closed() < 2
    with RawPeer(node.address) as peer:
        peer.send([associate_rq(), message(3, echo_rq()), RELEASE_RQ])
        peer.until_closed()
        assert peer.said == [ACCEPTED, SUCCESS, RELEASED]


def test_limits_of_the_card_are_the_defaults() -> None:
    limits = Limits()
    assert (limits.associations, limits.associations_per_peer) == (100, 20)
    assert (limits.artim_seconds, limits.idle_seconds) == (10, 60)
    assert (limits.command_bytes, limits.instance_bytes) == (65536, 4 * GIB)
    assert limits.max_pdu == 131072
