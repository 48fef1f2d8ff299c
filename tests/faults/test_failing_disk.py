"""A disk whose fsync fails: refused and said at once, until a new file can be synced (P4)."""

from __future__ import annotations

import itertools
import urllib.error
import urllib.request
from pathlib import Path

import peers
import pytest
from faults.ledger import Ledger, in_archive, visible
from faults.made import made
from faults.modality import Modality
from faults.serving import RECEIVER, served
from faults.strace import attached, need_strace
from peers import wait_until

from node.dicom.status import OUT_OF_RESOURCES

pytestmark = pytest.mark.peer

_FSYNC = "inject=fsync,fdatasync:error=EIO"


def readiness(port: int) -> tuple[int, str]:
    """What /readyz answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as failure:
        return failure.code, failure.read().decode()


def test_nothing_is_taken_until_a_new_file_can_be_synced(tmp_path: Path) -> None:
    need_strace()
    ledger, numbers, port = Ledger(tmp_path / "ledger"), itertools.count(), peers.free_port()
    with served(tmp_path / "node", status_port=port) as node:
        modality = Modality(node.port, ledger)
        assert modality.send(made(next(numbers))) == 0
        refused = made(next(numbers))
        with attached(node.one(RECEIVER), tmp_path / "strace", "trace=fsync,fdatasync", _FSYNC):
            assert modality.send(refused) == OUT_OF_RESOURCES
            wait_until(lambda: readiness(port)[0] == 503, "it says that it is not ready")
            assert "the spool's disk failed: Input/output error" in readiness(port)[1]
            assert "dmesg" in node.log.read_text()
            # On the association that is open, and on another one.
            assert modality.send(made(next(numbers))) == OUT_OF_RESOURCES
            modality.close()
            assert modality.send(made(next(numbers))) is None
        # Of itself, without an instance that tries.
        wait_until(lambda: readiness(port)[0] == 200, "it is ready again")
        modality.send_until_taken(made(next(numbers)))
        modality.close()
        told = ledger.read()
        assert len(told.acknowledged) == 2
        wait_until(lambda: not in_archive(node.archive, told).lost, "it is delivered")
        assert in_archive(node.archive, told).is_well
        wait_until(lambda: node.is_drained, "nothing is under way")
        assert {path.stem for path in visible(node.archive)} == told.acknowledged
        assert node.set_aside() == []


def test_an_fsync_that_fails_once_and_would_then_succeed_is_not_tried_again(tmp_path: Path) -> None:
    """The file is given up: the kernel may have dropped what it says is there."""
    need_strace()
    ledger = Ledger(tmp_path / "ledger")
    with served(tmp_path / "node") as node:
        modality = Modality(node.port, ledger)
        assert modality.send(made(0)) == 0
        log = tmp_path / "strace"
        with attached(node.one(RECEIVER), log, "trace=fsync,fdatasync", f"{_FSYNC}:when=1") as seen:
            assert modality.send(made(1)) == OUT_OF_RESOURCES
            synced = [line for line in seen.lines() if "/arriving/" in line]
        assert [line.endswith("(INJECTED)") for line in synced] == [True]
        modality.send_until_taken(made(1))
        modality.close()
        told = ledger.read()
        wait_until(lambda: node.is_drained, "delivered")
        assert in_archive(node.archive, told).is_well
