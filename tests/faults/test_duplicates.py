"""One SOP Instance UID from several senders at the same moment, and again and again (P15)."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import instances
import peers
import pytest
from conftest import StartNode, disk
from faults.ledger import visible
from peers import wait_until
from pydicom.dataset import Dataset

from node.pixels.instance import data_set_in
from node.pixels.stored import opened
from node.service.node import Node

SENDERS = 8


def send_together(node: Node, images: list[Dataset]) -> None:
    """Each from a sender of its own, at once; all are told Success."""
    together = threading.Barrier(len(images))
    answers: list[int] = []

    def send(image: Dataset) -> None:
        together.wait(60)
        answers.append(peers.send(node.address[1], image))

    threads = [threading.Thread(target=send, args=(image,)) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [0] * len(images)


def sent_contents(folder: Path) -> list[bytes]:
    """The data sets in a folder as they came."""
    contents = []
    for path in visible(folder):
        with opened(path) as stored:
            contents.append(b"".join(map(bytes, data_set_in(stored, stored.received_syntax))))
    return sorted(contents)


@pytest.mark.parametrize("contents", [1, SENDERS])
def test_one_uid_from_many_at_the_same_moment(
    contents: int, tmp_path: Path, start_node: StartNode
) -> None:
    """The same content is stored once, other content beside it, whoever comes first."""
    folder, rounds = tmp_path / "disk", 5
    node = start_node(disk(folder))
    uid = instances.new_uid()
    images = [
        instances.image(
            seed=number, SOPInstanceUID=uid, StudyInstanceUID="1.2", SeriesInstanceUID="1.3"
        )
        for number in itertools.islice(itertools.cycle(range(1, contents + 1)), SENDERS)
    ]
    for _ in range(rounds):
        send_together(node, images)
    wait_until(
        lambda: node.progress["disk"].delivered == rounds * SENDERS, "everything is delivered"
    )
    wanted = sorted({instances.encoded(image) for image in images})
    assert len(wanted) == contents
    assert sent_contents(folder) == wanted
    assert list(node.spool.queued("disk")) == []


def test_the_same_again_and_again_takes_no_more_room(
    tmp_path: Path, start_node: StartNode, is_long: bool
) -> None:
    folder, count = tmp_path / "disk", 1000 if is_long else 50
    node, image = start_node(disk(folder)), instances.image()
    for _ in range(count):
        assert peers.send(node.address[1], image) == 0
    wait_until(lambda: node.progress["disk"].delivered == count, "everything is delivered")
    assert sent_contents(folder) == [instances.encoded(image)]
    kept = [path for path in (tmp_path / "state").rglob("*.dcm") if path.is_file()]
    assert kept == []
