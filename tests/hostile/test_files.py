"""Files of the spool that somebody else cuts off, or that the disk cannot give back, in real
processes: nothing that is whole waits for them, and nothing dies of them twice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import instances
import pytest
from delivery.scripted_scp import Part, ScriptedSCP
from peers import connected, wait_until
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from served import Served

from node.delivery.attempt import _IN_MEMORY


@contextlib.contextmanager
def serving(root: Path, *arguments: str) -> Iterator[Served]:
    served = Served(root, *arguments)
    try:
        yield served
    finally:
        served.end()


def put(served: Served, ds: Dataset) -> str:
    uid = str(ds.SOPInstanceUID)
    scu = connected(served.port, (CTImageStorage, ExplicitVRLittleEndian))
    data_set = instances.encoded(ds)
    assert scu.send(CTImageStorage, uid, ExplicitVRLittleEndian, [data_set]).status == 0
    scu.close()
    return uid


def in_queue(spool: Path) -> list[Path]:
    return list((spool / "queued").glob("PACS*/*.dcm"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("frames", [10, 80], ids=["small", "large"])
def test_an_entry_that_is_cut_off_while_it_is_sent(frames: int, tmp_path: Path) -> None:
    """A small one was read before; a large one is mapped, and to look at it is SIGBUS."""
    spool = tmp_path / "state" / "spool"
    cut: list[int] = []

    def cut_off(uid: str, transfer: str) -> int:
        """Done while nothing is read here, so that most of it is still to be sent."""
        if uid == first and not cut:
            [path] = [path for path in in_queue(spool) if path.stat().st_size > 100_000]
            cut.append(path.stat().st_size)
            os.truncate(path, 4096)
        return 0

    archive = ScriptedSCP(
        [Part(takes=lambda _, transfer: transfer == ExplicitVRLittleEndian, deed=cut_off)]
    )
    image = instances.image(rows=512, columns=512, frames=frames, sop_class=CTImageStorage)
    first = str(image.SOPInstanceUID)
    with (
        archive.listening(),
        serving(tmp_path, "--to", f"PACS@127.0.0.1:{archive.port}") as served,
    ):
        [deliverer] = served.children()["deliverer"]
        put(served, image)
        second = put(served, instances.image())
        wait_until(lambda: second in [uid for uid, _, _ in archive.taken], "the next is sent", 120)
        wait_until(lambda: not in_queue(spool), "nothing waits", 120)
        log = served.log.read_text()
        [now] = served.children()["deliverer"]
    [size] = cut
    corrupt = list((spool / "corrupt").glob("PACS*/*.dcm"))
    if size <= _IN_MEMORY:
        assert now == deliverer
        assert [(uid, data) for uid, _, data in archive.taken if uid == first] == [
            (first, instances.encoded(image))
        ]
        assert corrupt == []
    else:
        assert now != deliverer
        assert log.count("SIGBUS") == 1
        assert [path.stat().st_size for path in corrupt] == [4096]
