"""What a hostile or odd peer sends back, and what is counted and logged of what was refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from network.peers import wait_until
from network.raw_peer import (
    RELEASE_RQ,
    RawPeer,
    associate_rq,
    message,
    reject,
    status,
    store_rq,
)
from pynetdicom import build_context, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from node.errors import PeerRefused
from node.model import Kept, Origin, Received
from node.network import store_scu
from node.network.arena import Pool
from node.network.data_set import Assembly
from node.network.limits import Limits
from node.network.sending import _comment_of
from node.network.server import Server, listen
from node.network.store_scp import Answer, StoreSCP
from node.network.tally import Tally
from node.network.workers import Workers
from node.reasons import KeepReason

LIMITS = Limits(instance_bytes=1000, artim_seconds=2, close_seconds=0.2, refuse_seconds=0.5)


@pytest.fixture
def server(tmp_path: Path):
    running = listen(
        address=("127.0.0.1", 0),
        ae_title="GUARDED",
        handlers=[(evt.EVT_C_STORE, lambda event: 0)],
        contexts=[build_context(Verification), build_context(CTImageStorage)],
        limits=LIMITS,
        spill=tmp_path,
    )
    yield running
    running.shutdown()


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        (None, ""),
        ("disk full", "disk full"),
        ("\x1b[2J" + "\n" * 60_000, "[2J"),
        ("x" * 60_000, "x" * 64),
    ],
)
def test_comment_of_a_peer_is_short_and_printable(comment: str | None, kept: str) -> None:
    assert _comment_of(SimpleNamespace(ErrorComment=comment)) == kept


def test_size_limit_holds_in_memory_too(server: Server, tmp_path: Path) -> None:
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        peer.receive()
        for length, answer in ((1000, 0), (1001, 0xA700)):
            peer.send([message(1, store_rq(), bytes(length))])
            assert peer.receive() == status(answer)
        peer.send([RELEASE_RQ])
        peer.until_closed()
    assembly = Assembly(LIMITS, tmp_path, Pool())
    assembly.write(memoryview(bytes(1001)))
    expected = "instance is larger than limits.instance_bytes, 1000 bytes"
    assert str(assembly.failure) == expected


def test_thread_that_cannot_start_leaves_the_door_open(server: Server, monkeypatch) -> None:
    def fails(_: Workers) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(Workers, "_start_thread", fails)
        for _ in range(2):
            with RawPeer(server.address) as peer:
                peer.send([associate_rq()])
                assert peer.receive() == reject(2, 3, 2)
                assert server.active == 0
                # The first is still there while the next one is served.
                with RawPeer(server.address) as other:
                    other.send([associate_rq()])
                    assert other.receive() == reject(2, 3, 2)
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == "A-ASSOCIATE-AC"


def test_stopping_is_told_apart_from_a_limit(server: Server) -> None:
    server.drain(0)
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == reject(2, 3, 1)
    assert server.turned_away["the node is stopping"] == 1
    assert server.turned_away["association limit"] == 0


@pytest.mark.parametrize("length", [1, 6, 7, 15])
def test_peer_that_takes_hardly_a_byte_is_refused(length: int) -> None:
    server = listen(
        address=("127.0.0.1", 0),
        ae_title="PACS",
        handlers=[],
        contexts=[build_context(Verification)],
        limits=Limits(max_pdu=length),
    )
    host, port = server.address
    peer = store_scu.Peer(ae_title="PACS", host=host, port=port, calling_ae_title="US")
    try:
        with pytest.raises(PeerRefused, match=f"at most {length} bytes"):
            store_scu.connect(peer, [])
        wait_until(lambda: server.active == 0, "the association was aborted")
    finally:
        server.shutdown()


def test_what_no_handler_saw_is_counted_as_refused(tmp_path: Path, caplog) -> None:
    admission = SimpleNamespace(admits=lambda *_: True, hindrance=lambda: None, peer_name=str)
    scp = StoreSCP("GUARDED", lambda received, data: Answer(0xA700), admission)
    server = scp.listen(("127.0.0.1", 0), limits=LIMITS, spill=tmp_path)
    try:
        with RawPeer(server.address) as peer:
            peer.send([associate_rq()])
            peer.receive()
            peer.send([message(1, store_rq(), bytes(2000))])
            assert peer.receive() == status(0xA700)
            peer.send([message(1, store_rq(sop_instance=b"x/y"), bytes(20))])
            assert peer.receive() == status(0x0117)
            assert scp.ledger.tally.refused == 2
            peer.send([RELEASE_RQ])
            peer.until_closed()
    finally:
        server.shutdown()
    assert "1.2.3 answered with A700 (out of resources)" in caplog.text
    assert "operation 0001 answered with 0117" in caplog.text


def test_only_what_was_taken_counts_as_an_instance() -> None:
    origin = Origin(calling_ae_title="A", called_ae_title="B", address="127.0.0.1")
    received = Received(
        sop_class_uid="1",
        sop_instance_uid="1.2",
        transfer_syntax_uid="1.3",
        byte_count=10,
        origin=origin,
    )
    kept = Kept(received=received, reason=KeepReason.NOT_SMALLER)
    tally = Tally()
    for code in (0x0000, 0xB000, 0xA700, 0xC000):
        tally.count(Answer(code, stored=kept).taken)
    assert (tally.instances, tally.refused, tally.bytes_in) == (2, 2, 20)
