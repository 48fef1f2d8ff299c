"""Several destinations of one node: one that is down, slow or choosy delays nobody."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import instances
import peers
import pytest
from conftest import StartNode, disk, pacs
from delivery.scripted_scp import Part, ScriptedSCP
from peers import wait_until
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from node.delivery.circuit import Circuit
from node.service.node import Node

#: Instances sent while something is wrong.
COUNT = 60


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with contextlib.ExitStack() as held:
        server = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))

        def hold() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.enter_context(server.accept()[0])

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def send_many(node: Node, count: int) -> list[str]:
    """Send instances on one association; return their UIDs in order."""
    image = instances.image()
    sop_class, uids = str(image.SOPClassUID), []
    with contextlib.closing(
        peers.connected(node.address[1], (sop_class, ExplicitVRLittleEndian))
    ) as scu:
        while len(uids) < count:
            image.SOPInstanceUID = instances.new_uid()
            uids.append(str(image.SOPInstanceUID))
            data = [instances.encoded(image)]
            response = scu.send(sop_class, uids[-1], ExplicitVRLittleEndian, data)
            assert response.status == 0
    return uids


def uids_of(archive: ScriptedSCP) -> list[str]:
    return [uid for uid, _, _ in archive.taken]


def queued(node: Node, name: str) -> int:
    return sum(1 for _ in node.spool.queued(name))


def test_a_black_hole_and_a_slow_one_do_not_delay_the_others(
    tmp_path: Path, start_node: StartNode
) -> None:
    go_on = threading.Event()

    def slowly(uid: str, _: str) -> int:
        go_on.wait(30)
        return 0

    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(black_hole())
        slow = stack.enter_context(ScriptedSCP([Part(deed=slowly)]).listening())
        healthy = stack.enter_context(ScriptedSCP([Part()]).listening())
        node = start_node(
            pacs(hole, "hole", connect_seconds=2.0),
            pacs(slow.port, "slow"),
            pacs(healthy.port, "healthy"),
            disk(tmp_path / "disk"),
        )
        uids = send_many(node, COUNT)
        wait_until(lambda: len(healthy.taken) == COUNT, "the healthy one has all")
        wait_until(lambda: node.progress["disk"].delivered == COUNT, "the disk has all")
        # The two others have not moved meanwhile.
        assert uids_of(healthy) == uids
        assert len(slow.asked) == 1
        assert queued(node, "slow") == COUNT
        assert queued(node, "hole") == COUNT
        wait_until(lambda: node.progress["hole"].circuit is Circuit.OPEN, "the hole is left alone")
        go_on.set()
        wait_until(lambda: len(slow.taken) == COUNT, "the slow one has all")
        assert uids_of(slow) == uids
        assert queued(node, "hole") == COUNT


def test_an_archive_that_refuses_rle_gets_what_was_received(start_node: StartNode) -> None:
    part = Part(takes=lambda _, transfer: transfer != RLELossless)
    image: Dataset = instances.image()
    with ScriptedSCP([part]).listening() as archive:
        node = start_node(pacs(archive.port))
        peers.send(node.address[1], image)
        wait_until(lambda: archive.taken, "it arrived")
        [(_, syntax, data)] = archive.taken
    assert (syntax, data) == (ExplicitVRLittleEndian, instances.encoded(image))


@pytest.mark.parametrize("associations", [1, 3])
def test_as_many_associations_as_are_set_work_at_the_same_time(
    associations: int, start_node: StartNode
) -> None:
    barrier, met = threading.Barrier(associations), threading.Event()

    def together(uid: str, _: str) -> int:
        if not met.is_set():
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(20)
                met.set()
        return 0

    with ScriptedSCP([Part(deed=together)]).listening() as archive:
        node = start_node(pacs(archive.port, associations=associations))
        for _ in range(2):
            send_many(node, COUNT)
        wait_until(lambda: len(archive.taken) == 2 * COUNT, "all arrived")
        assert archive.associations <= 2 * associations
    assert met.is_set()
    assert len(set(uids_of(archive))) == 2 * COUNT


def test_an_association_is_kept_between_instances_and_released_when_none_come(
    start_node: StartNode,
) -> None:
    with ScriptedSCP([Part()]).listening() as archive:
        node = start_node(pacs(archive.port))
        for count in range(1, 4):
            peers.send(node.address[1], instances.image())
            wait_until(lambda count=count: len(archive.taken) == count, "it arrived")
        assert archive.associations == 1
        wait_until(lambda: archive.released == 1, "it was released", 10)
