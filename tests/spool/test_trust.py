"""After a failed fsync nothing is taken until a new file can be written and synced."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

import pytest

from node.spool import Disk, Spool
from node.spool.durable import SyncFailed
from node.spool.trust import PROBE_EVERY, Trust


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Failing:
    """fsync fails while `error` is set; counts what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error, self.asked = 0, 0
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        self.asked += 1
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self._fsync(descriptor)


@pytest.fixture
def fsync(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(monkeypatch)


def test_a_failed_fsync_is_final_until_a_new_file_can_be_synced(
    tmp_path: Path, fsync: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    trust = Trust(tmp_path, Disk(), clock)
    assert trust.failure() == ""
    trust.doubt(SyncFailed(errno.ENOSPC, "No space left on device"))
    fsync.error = errno.EIO
    assert trust.failure() == "No space left on device"
    assert fsync.asked == 0
    clock.now += PROBE_EVERY
    assert trust.failure() == "Input/output error"
    assert fsync.asked == 1
    assert trust.failure() == "Input/output error"
    assert fsync.asked == 1
    fsync.error = 0
    clock.now += PROBE_EVERY
    assert trust.failure() == ""
    assert trust.failure() == ""
    assert list(tmp_path.iterdir()) == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (errno.EIO, True),
        (errno.EROFS, True),
        (errno.ENODEV, True),
        # These are of the moment; space has its reserve.
        (errno.ENOSPC, False),
        (errno.EDQUOT, False),
        (errno.EMFILE, False),
        (errno.EACCES, False),
    ],
)
def test_a_call_that_fails_says_something_of_the_disk_or_not(
    error: int, is_final: bool, tmp_path: Path
) -> None:
    trust = Trust(tmp_path, Disk(), Clock())
    trust.doubt(OSError(error, os.strerror(error)))
    assert bool(trust.failure()) is is_final


def test_a_probe_that_cannot_even_make_a_file(tmp_path: Path, fsync: Failing) -> None:
    clock = Clock()
    trust = Trust(tmp_path / "gone", Disk(), clock)
    trust.doubt(SyncFailed(errno.EIO, "Input/output error"))
    clock.now += PROBE_EVERY
    assert trust.failure() == "No such file or directory"
    (tmp_path / "gone").mkdir()
    clock.now += PROBE_EVERY
    assert trust.failure() == ""


def test_every_sync_that_fails_says_so_by_its_class(tmp_path: Path, fsync: Failing) -> None:
    spool = Spool(tmp_path / "spool", Disk())
    fsync.error = errno.ENOSPC
    with pytest.raises(SyncFailed):
        spool.arrive()
    with pytest.raises(SyncFailed):
        spool.disk.sync_folder(tmp_path)
    fsync.error = 0
    incoming = spool.arrive()
    fsync.error = errno.EIO
    with pytest.raises(SyncFailed):
        incoming.commit()
    with contextlib.suppress(OSError), incoming:
        pass
    assert list(spool.received()) == []
