"""What the fault tests share: how long they are, and the archives that nodes forward to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
from faults.serving import Downstream


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the long form was asked for."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def downstream(tmp_path: Path) -> Iterator[tuple[Downstream, Path]]:
    """DCMTK's storescp, which writes the native data sets that it gets bit for bit."""
    folder = tmp_path / "downstream"
    # A process for each association and a file for each instance: it mixes nothing up.
    with peers.storescp(folder, "--fork", "--unique-filenames") as port:
        yield Downstream(port), folder
