"""A node inside a program: a start that fails gives everything back."""

import socket
import threading
from pathlib import Path

import pytest

from node.errors import CannotWrite
from node.service.node import Node
from node.settings import DiskDestination, NodeSettings, Settings, SpoolSettings


def test_a_start_that_fails_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(
            node=NodeSettings(port=taken.getsockname()[1], state_directory=tmp_path / "state"),
            spool=SpoolSettings(reserve_bytes=0, reserve_percent=0),
            destinations=(DiskDestination(name="disk", directory=tmp_path / "out"),),
        )
        node = Node(settings)
        with pytest.raises(CannotWrite):
            node.start()
        assert not set(threading.enumerate()) - before
    with node:
        assert node.address[1] == settings.node.port
    node.stop()
