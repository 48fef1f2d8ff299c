"""Folders of any size: order, bounded memory, counts that are cheap and right."""

from __future__ import annotations

import contextlib
import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.spool import listing
from node.spool.listing import Count, Counts, oldest_first


def fill(folder: Path, count: int) -> list[str]:
    """Make entries in an order that is not theirs; return their names in order."""
    names = [f"{number:020d}-0000001-aabbccddeeff-{number:09d}.dcm" for number in range(count)]
    for name in random.Random(1).sample(names, count):
        os.close(os.open(folder / name, os.O_CREAT))
    return names


@pytest.mark.parametrize("window", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 350])
def test_names_come_in_order(
    count: int, window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_CHUNK", 30)
    names = fill(tmp_path, count)
    assert list(oldest_first(tmp_path, window)) == names


def test_what_is_removed_and_added_meanwhile(tmp_path: Path) -> None:
    names = fill(tmp_path, 30)
    seen = []
    for name in oldest_first(tmp_path, 10):
        seen.append(name)
        (tmp_path / name).unlink()
        if len(seen) == 5:
            (tmp_path / f"{10**19}-late.dcm").touch()
    assert seen == [*names, f"{10**19}-late.dcm"]


def test_what_is_no_entry_is_left_out(tmp_path: Path) -> None:
    names = fill(tmp_path, 2)
    (tmp_path / "reason.dcm.json").touch()
    (tmp_path / "folder.dcm").mkdir()
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "link.dcm").symlink_to(tmp_path / names[0])
    assert list(oldest_first(tmp_path)) == names
    assert Counts().of(tmp_path) == Count(2, names[0])


def test_none_comes_before_one_that_was_linked_earlier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names are linked in order while the folder is read, and only the later one is shown."""
    first, passed_over, shown = fill(tmp_path, 3)
    for name in (passed_over, shown):
        (tmp_path / name).unlink()
    real = os.scandir

    class Found(contextlib.AbstractContextManager):
        """What is linked meanwhile may be shown or not (readdir(3p))."""

        def __init__(self, folder: Path) -> None:
            monkeypatch.setattr(os, "scandir", real)
            for name in (passed_over, shown):
                (folder / name).touch()
            self._found = real(folder)

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            return (item for item in self._found if item.name != passed_over)

        def __exit__(self, *_: object) -> None:
            self._found.close()

    monkeypatch.setattr(os, "scandir", Found)
    assert list(oldest_first(tmp_path)) == [first, passed_over, shown]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert list(oldest_first(tmp_path / "no")) == []
    assert Counts().of(tmp_path / "no") == Count()


def test_memory_does_not_grow_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_CHUNK", 50)
    fill(tmp_path, 5000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in oldest_first(tmp_path, 100)) == 5000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000  # 5000 names alone are half a megabyte


def test_a_count_follows_what_changes(tmp_path: Path) -> None:
    counts = Counts()
    names = fill(tmp_path, 3)
    assert counts.of(tmp_path) == Count(3, names[0])
    (tmp_path / names[0]).unlink()
    assert counts.of(tmp_path) in (Count(3, names[0]), Count(2, names[1]))
    while counts.of(tmp_path) != Count(2, names[1]):
        os.sched_yield()


def test_a_folder_that_did_not_change_is_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = Counts()
    fill(tmp_path, 3)
    os.utime(tmp_path, (1, 1))
    first = counts.of(tmp_path)
    monkeypatch.setattr(listing, "_count", lambda _: pytest.fail("counted again"))
    assert counts.of(tmp_path) == first


def test_what_is_costly_to_count_is_counted_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def slowly(folder: Path) -> Count:
        clock[0] += 1.0
        return Count(len(os.listdir(folder)))

    monkeypatch.setattr(listing.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(listing, "_count", slowly)
    counts = Counts()
    fill(tmp_path, 1)
    assert counts.of(tmp_path).entries == 1
    (tmp_path / "2.dcm").touch()
    clock[0] += 19
    assert counts.of(tmp_path).entries == 1
    clock[0] += 2
    assert counts.of(tmp_path).entries == 2
