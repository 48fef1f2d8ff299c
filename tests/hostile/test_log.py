"""What a peer does over and over again is a line or a hundred in the log, not a million."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import instances
import pytest
from conftest import StartNode, disk
from network.raw_peer import RELEASE_RQ, RawPeer, associate_rq, context, echo_rq, message, store_rq
from peers import connected, wait_until
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.service.node import Node

REQUEST = associate_rq(called=b"DCMPRESS")
_MOST = 100
_MANY = _MOST + 50


def refused_by_the_room(node: Node) -> None:
    """Data sets that are none."""
    scu = connected(node.address[1], (CTImageStorage, ExplicitVRLittleEndian))
    for number in range(_MANY):
        uids = CTImageStorage, f"{instances.ROOT}.5.{number}"
        assert scu.send(*uids, ExplicitVRLittleEndian, [b"\xff" * 20]).status == 0xC000
    scu.close()


def refused_by_the_line(node: Node) -> None:
    """Commands that cannot be served."""
    with RawPeer(node.address) as peer:
        peer.send([REQUEST, *[message(1, store_rq(sop_instance=b"../x"), bytes(8))] * _MANY])
        for _ in range(_MANY + 1):
            peer.receive()
        peer.send([RELEASE_RQ])
        peer.receive()


@pytest.mark.parametrize("send", [refused_by_the_room, refused_by_the_line])
def test_instances_that_are_refused(
    send: Callable[[Node], None],
    tmp_path: Path,
    start_node: StartNode,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    node = start_node(disk(tmp_path / "disk"))
    send(node)
    wait_until(lambda: node.tally.finished, "it has ended")
    told = [line for line in caplog.messages if "answered with" in line]
    assert len(told) == _MOST
    assert any("is only counted" in line for line in caplog.messages)
    [ended] = [line for line in caplog.messages if " sent " in line]
    assert f"{_MANY} refused" in ended


NOTHING: dict[str, tuple[list[bytes], str, int]] = {
    "an echo": ([REQUEST, message(3, echo_rq()), RELEASE_RQ], "sent a C-ECHO, ", 1),
    "two echoes": ([REQUEST, *[message(3, echo_rq())] * 2, RELEASE_RQ], "sent 2 C-ECHOs, ", 2),
    "nothing": ([REQUEST, RELEASE_RQ], "sent nothing, ", 0),
    "nothing, and gone": ([REQUEST], "sent nothing, ", 0),
    "a query": (
        [
            associate_rq(context(1, [b"1.2.840.10008.5.1.4.1.2.2.1"]), called=b"DCMPRESS"),
            RELEASE_RQ,
        ],
        "sent nothing: it proposed no presentation context that is taken here, ",
        0,
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_an_association_that_brought_no_instance_says_what_it_was(
    case: str, tmp_path: Path, start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pieces, said, echoes = NOTHING[case]
    node = start_node(disk(tmp_path / "disk"))
    with RawPeer(node.address) as peer:
        peer.send(pieces)
        for _ in pieces:
            peer.receive()
            if len(pieces) == 1:
                break
    wait_until(lambda: node.tally.finished, "it has ended")
    [ended] = [line for line in caplog.messages if " sent " in line]
    assert said in ended
    [record] = node.tally.finished
    assert record.echoes == echoes
