"""A running node for the tests that want one, and who is there for it to talk to."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import peers
import pydicom
import pynetdicom
import pytest

from node.service.node import Node
from node.settings import DiskDestination, NetworkDestination, Settings


def pytest_report_header() -> list[str]:
    """Say with whom the tests were run."""
    found = ", ".join(map(peers.version, ("storescu", "storescp", "dcmsend", "gdcmscu")))
    return [
        f"peers: {found}",
        f"pydicom {pydicom.__version__}, pynetdicom {pynetdicom.__version__}, "
        f"{platform.python_implementation()} {platform.python_version()}",
    ]


# A busy machine is no defect: the time limit of a whole test is enough.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")

#: What tests count, shown at the end of the run whether they pass or not.
COUNTED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="the long forms of the fault tests, some hours"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COUNTED] = []


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Print what was counted."""
    for line in config.stash[COUNTED]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def counted(request: pytest.FixtureRequest) -> list[str]:
    """Lines to be shown at the end of the run."""
    return request.config.stash[COUNTED]


class StartNode(Protocol):
    """Starts a node with these destinations; other keywords are sections of the settings."""

    def __call__(
        self, *destinations: DiskDestination | NetworkDestination, **sections: Any
    ) -> Node: ...


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[StartNode]:
    """A function that starts nodes; they are stopped after the test."""
    with contextlib.ExitStack() as running:

        def start(*destinations: DiskDestination | NetworkDestination, **sections: Any) -> Node:
            return running.enter_context(
                Node(settings_of(tmp_path / "state", *destinations, **sections))
            )

        yield start


def settings_of(
    state: Path, *destinations: DiskDestination | NetworkDestination, **sections: Any
) -> Settings:
    """Settings of a node on a free port with its spool in `state`, without a status page.

    The reserve of disk space is off, because a test must not depend on how full the disk is.
    """
    given = {
        "node": {"port": 0, "state_directory": state},
        "spool": {"reserve_bytes": 0, "reserve_percent": 0.0},
        "status": {"port": 0},
    }
    for name, values in sections.items():
        given[name] = {**given.get(name, {}), **values} if isinstance(values, dict) else values
    return Settings(**given, destinations=destinations)


def disk(directory: Path, name: str = "disk") -> DiskDestination:
    """A disk destination."""
    return DiskDestination(name=name, directory=directory)


def pacs(port: int, name: str = "pacs", **more: Any) -> NetworkDestination:
    """A network destination on this machine that is called again quickly."""
    return NetworkDestination(
        name=name,
        ae_title=peers.DOWNSTREAM,
        host="127.0.0.1",
        port=port,
        **{"retry_seconds": 0.1, "retry_max_seconds": 0.2, **more},
    )
