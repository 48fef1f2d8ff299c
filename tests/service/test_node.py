"""A node inside a program: a start that fails gives everything back."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import instances
import pytest
from peers import connected, wait_until
from pydicom.uid import SecondaryCaptureImageStorage

from node import Node, Settings
from node.dicom.contexts import Proposal
from node.dicom.uids import EXPLICIT_VR_LE
from node.errors import CannotWrite
from node.events import AssociationOpened, InstancesReceived
from node.model import Compressed
from node.network.store_scu import Peer, connect
from node.settings import DiskDestination, NodeSettings, SpoolSettings


def settings_in(root: Path, port: int = 0) -> Settings:
    return Settings(
        node=NodeSettings(port=port, state_directory=root / "state"),
        spool=SpoolSettings(reserve_bytes=0, reserve_percent=0),
        destinations=(DiskDestination(name="disk", directory=root / "out"),),
    )


def test_a_start_that_fails_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = settings_in(tmp_path, taken.getsockname()[1])
        node = Node(settings)
        with pytest.raises(CannotWrite):
            node.start()
        assert not set(threading.enumerate()) - before
    with node:
        assert node.address[1] == settings.node.port
    node.stop()


def test_a_program_hears_of_instances_and_associations(tmp_path: Path) -> None:
    heard: list[object] = []

    def listen(event: object) -> None:
        heard.append(event)
        raise RuntimeError("a listener that fails harms nobody")

    ds = instances.image()
    with Node(settings_in(tmp_path), on_event=listen) as node:
        peer = Peer(
            ae_title="DCMPRESS",
            host=node.address[0],
            port=node.address[1],
            calling_ae_title="PROGRAM",
        )
        scu = connect(peer, [Proposal(ds.SOPClassUID, EXPLICIT_VR_LE)])
        data_set = instances.encoded(ds, EXPLICIT_VR_LE)
        response = scu.send(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT_VR_LE, [data_set])
        assert response.status == 0
        scu.close()
    opened, stored, received = heard
    assert isinstance(opened, AssociationOpened)
    assert opened.ae_title == "PROGRAM"
    assert isinstance(stored, Compressed)
    assert stored.received.sop_instance_uid == ds.SOPInstanceUID
    assert isinstance(received, InstancesReceived)
    assert sum(received.studies[ds.StudyInstanceUID].values()) == 1


def test_a_node_that_is_stopped_has_no_file_open(tmp_path: Path) -> None:
    with Node(settings_in(tmp_path)) as node:
        connected(node.address[1], (SecondaryCaptureImageStorage, EXPLICIT_VR_LE)).close()
        wait_until(lambda: node.tally.associations == 1, "an association is on record")
        assert open_below(tmp_path)
    assert not open_below(tmp_path)


def open_below(folder: Path) -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in found if name.startswith(str(folder))]
