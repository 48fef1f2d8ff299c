"""The index of the spool: what it remembers, what is wrong with its file, and that nobody waits."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers import wait_until

from node.spool import Disk, Durability, Entry, Indexer, Spool, State, Tried, index, indexer
from node.spool.index import FORMAT, NAME, Index, Unusable, read


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    for name in ("pacs", "disk"):
        spool.add_destination(name)
    return spool


@pytest.fixture
def writing(spool: Spool) -> Iterator[Indexer]:
    """An indexer that is stopped after the test."""
    writing = Indexer(spool, again_seconds=0.05)
    yield writing
    writing.close()


def put(spool: Spool) -> Entry:
    """Queue an entry for pacs."""
    with spool.begin() as incoming:
        entry = incoming.commit()
    spool.fan_out([entry], ["pacs"])
    found = spool.find(State.QUEUED, "pacs", entry.name)
    assert found is not None
    return found


def tried(entry: Entry | str, tries: int = 2, state: State = State.QUEUED) -> Tried:
    name = entry if isinstance(entry, str) else entry.name
    return Tried(
        destination="pacs",
        name=name,
        state=state,
        tries=tries,
        due=1234.5,
        cause="C000",
        sop_instance_uid="1.2.3",
    )


def has(spool: Spool, *rows: Tried) -> Callable[[], bool]:
    """Tell whether the file has these rows of pacs and no others."""

    def look() -> bool:
        try:
            return read(spool.root, "pacs") == sorted(rows, key=lambda each: each.name)
        except Unusable:
            return False

    return look


def test_what_is_noted_is_read_by_anyone_and_forgotten(spool: Spool, writing: Indexer) -> None:
    first, second = put(spool), put(spool)
    writing.note(tried(first))
    writing.note(tried(second))
    wait_until(has(spool, tried(first), tried(second)), "both are there")
    writing.note(tried(first, 3))
    writing.forget("pacs", second.name)
    wait_until(has(spool, tried(first, 3)), "the second is forgotten")
    assert read(spool.root, "disk") == []
    files = [path for path in spool.root.iterdir() if path.name.startswith(NAME)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_it_is_there_after_a_stop_and_names_what_waits(spool: Spool) -> None:
    waits, gone, failed, dropped = (put(spool) for _ in range(4))
    first = Indexer(spool)
    spool.refused(failed, "0122", 1)
    for each in (waits, gone, dropped):
        first.note(tried(each))
    first.note(tried(failed, 1, State.FAILED))
    first.close()
    assert has(spool, *map(tried, (waits, gone, dropped)), tried(failed, 1, State.FAILED))(), (
        "a stop writes what is left"
    )
    spool.delivered(gone)
    spool.drop(dropped)
    second = Indexer(spool)
    try:
        assert second.recall("pacs") == [tried(waits)]
        wait_until(
            has(spool, tried(waits), tried(failed, 1, State.FAILED)), "what left is forgotten"
        )
    finally:
        second.close()


def test_where_nothing_failed_there_is_no_file(spool: Spool, writing: Indexer) -> None:
    put(spool)
    assert writing.recall("pacs") == []
    writing.close()
    assert not (spool.root / NAME).exists()


def test_it_is_bounded_and_keeps_the_latest(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "ROWS", 10)
    opened = Index(spool.root)
    for number in range(25):
        opened.apply({("pacs", f"{number:02}.dcm"): tried(f"{number:02}.dcm")})
        opened.apply({("pacs", "24.dcm"): None})
    opened.close()
    assert has(spool, *(tried(f"{number:02}.dcm") for number in range(15, 24)))()


def test_word_that_cannot_be_written_is_bounded(
    spool: Spool, writing: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "ROWS", 10)
    monkeypatch.setattr(spool, "is_mounted", lambda: False)
    for number in range(100):
        writing.note(tried(f"{number:03}.dcm"))
    assert len(writing._pending) <= 10
    monkeypatch.undo()
    wait_until(lambda: len(read(spool.root, "pacs")) >= 10, "it is written when it can be")


def random_bytes(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def one_page_of_noise(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = os.urandom(4096)
    path.write_bytes(content)


def a_key_that_leads_to_no_row(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # Before the text of a key, the last in the file: the type of its rowid, "1" (SQLite 2.1).
    at = content.rindex(b"pacs") - 1
    assert content[at] == 9
    content[at] = 8
    path.write_bytes(content)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def cut_to_some_bytes(path: Path) -> None:
    os.truncate(path, 50)


def another_format(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()


def another_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tried (name TEXT)")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.close()


def an_empty_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_folder_with_something(path: Path) -> None:
    an_empty_folder(path)
    (path / "kept.txt").write_text("kept")


def a_link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_row_that_nobody_wrote(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tried SET state = 'elsewhere', tries = 'many'")
    connection.close()


def a_row_larger_than_any(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tried SET cause = printf('%.*c', 100000, 'x')")
    connection.close()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def beside_a_pipe(ending: str) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        beside = path.with_name(path.name + ending)
        beside.unlink(missing_ok=True)
        os.mkfifo(beside)

    return put


def with_program(program: str) -> Callable[[Path], None]:
    """The table in the place of ours, or beside it, does something of its own."""

    def put(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.executescript(program)
        connection.close()

    return put


#: Rows without end, in order.
A_VIEW = """
DROP TABLE tried;
CREATE VIEW tried AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)
SELECT 'pacs' AS destination, n AS name, 'queued' AS state, n AS tries, 1.5 AS due, '' AS cause,
'' AS sop_instance_uid FROM c;"""
A_TRIGGER = """
CREATE TRIGGER t AFTER INSERT ON tried BEGIN DELETE FROM tried; END;"""


def larger_than_any(path: Path) -> None:
    os.truncate(path, (64 << 20) + 1)


WRONG: dict[str, Callable[[Path], None]] = {
    "random bytes": random_bytes,
    "one page of noise": one_page_of_noise,
    "a key that leads to no row": a_key_that_leads_to_no_row,
    "truncated by a page": truncated,
    "cut to some bytes": cut_to_some_bytes,
    "another format": another_format,
    "another table": another_table,
    "an empty folder": an_empty_folder,
    "a folder with something": a_folder_with_something,
    "a link to nowhere": a_link_to_nowhere,
    "a pipe": a_pipe,
    "a pipe as its journal": beside_a_pipe("-journal"),
    "a pipe as its log": beside_a_pipe("-wal"),
    "a view without end": with_program(A_VIEW),
    "a trigger": with_program(A_TRIGGER),
    "larger than any": larger_than_any,
    "missing": Path.unlink,
}
#: Sound to SQLite: only who reads it can tell.
SOUND = {
    "a row that nobody wrote": a_row_that_nobody_wrote,
    "a row larger than any": a_row_larger_than_any,
}


@pytest.fixture
def failed(spool: Spool) -> Tried:
    """An entry that failed, with its reason, and an index that has it."""
    entry = put(spool)
    spool.refused(entry, "it said 0122", 5)
    opened = Index(spool.root)
    opened.apply({("pacs", entry.name): tried(entry)})
    opened.close()
    return Tried(
        destination="pacs", name=entry.name, state=State.FAILED, tries=5, cause="it said 0122"
    )


@pytest.mark.parametrize("case", WRONG | SOUND)
def test_what_is_wrong_at_the_start_is_made_anew_from_the_reasons(
    case: str, spool: Spool, failed: Tried, writing: Indexer, caplog: pytest.LogCaptureFixture
) -> None:
    (WRONG | SOUND)[case](spool.root / NAME)
    caplog.set_level(logging.INFO)
    assert writing.recall("pacs") == []
    wait_until(has(spool, failed), "the index is back")
    entry = put(spool)
    writing.note(tried(entry))
    wait_until(has(spool, failed, tried(entry)), "it is written")
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == (case != "missing")
    kept = list(spool.root.glob(f"{NAME}.*/kept.txt"))
    assert len(kept) == (case == "a folder with something")


def test_a_key_that_leads_to_the_row_of_another_is_seen(spool: Spool) -> None:
    """It could be read; but who then forgot the one would have forgotten the other."""
    opened = Index(spool.root)
    opened.apply({("pacs", name): tried(name) for name in ("a.dcm", "b.dcm")})
    opened.close()
    path = spool.root / NAME
    content = bytearray(path.read_bytes())
    at = content.rindex(b"pacsb.dcm") - 1
    assert content[at] == 1  # the type of its rowid: a byte, here 2 (SQLite 2.1)
    content[at] = 9  # the type of "1"
    path.write_bytes(content)
    with pytest.raises(Unusable, match="damaged"):
        Index(spool.root)


@pytest.mark.parametrize("case", WRONG)
def test_what_goes_wrong_while_it_is_open_is_made_anew(
    case: str, spool: Spool, failed: Tried, writing: Indexer
) -> None:
    """What SQLite still knows may do for a while; the next one that looks must find it right."""
    writing.note(tried("before.dcm"))
    wait_until(lambda: len(read(spool.root, "pacs")) == 2, "it is open")
    WRONG[case](spool.root / NAME)
    entry = put(spool)

    def is_written() -> bool:
        writing.note(tried(entry))
        try:
            return tried(entry) in read(spool.root, "pacs")
        except Unusable:
            return False

    wait_until(is_written, "it is written again", 10)
    assert writing._thread is not None
    assert writing._thread.is_alive()


def test_one_that_is_locked_is_replaced(spool: Spool, failed: Tried, writing: Indexer) -> None:
    other = sqlite3.connect(spool.root / NAME, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        entry = put(spool)
        writing.note(tried(entry))
        wait_until(has(spool, failed, tried(entry)), "another one is written")
    finally:
        other.close()


@pytest.mark.parametrize("first", ["unable to open database file", "database or disk is full"])
def test_while_it_cannot_be_made_it_is_said_once_and_comes_back(
    first: str,
    spool: Spool,
    failed: Tried,
    writing: Indexer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A read-only folder and a full disk, which root is not told of."""
    caplog.set_level(logging.INFO)
    refusals = []

    def refusing(*_: object, **__: object) -> None:
        refusals.append(1)
        raise sqlite3.OperationalError(first)

    (spool.root / NAME).unlink()
    with monkeypatch.context() as broken:
        broken.setattr(sqlite3, "connect", refusing)
        entry = put(spool)
        writing.note(tried(entry))
        wait_until(lambda: len(refusals) >= 6, "it was tried again and again")
        assert writing.recall("pacs") == []
    wait_until(has(spool, failed, tried(entry)), "the index is back")
    said = [record for record in caplog.records if record.name == indexer.__name__]
    wait_until(lambda: len(said) == 2 or len(caplog.records) >= 2, "both were said")
    said = [record for record in caplog.records if record.name == indexer.__name__]
    assert [record.levelname for record in said] == ["WARNING", "INFO"]
    assert first in said[0].getMessage()


def test_a_full_disk(failed: Tried, spool: Spool, writing: Indexer) -> None:
    """A real one: the file may not grow."""
    entry = put(spool)
    opened = Index(spool.root)
    opened._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(Unusable, match="full"):
        opened.apply({("pacs", str(n)): tried(str(n) + entry.name) for n in range(1000)})
    opened.close()
    writing.note(tried(entry))
    wait_until(lambda: tried(entry) in read(spool.root, "pacs"), "it is written")


def test_nothing_is_made_below_a_mount_point_whose_disk_is_gone(
    spool: Spool, writing: Indexer
) -> None:
    shutil.move(spool.root, spool.root.with_name("elsewhere"))
    spool.root.mkdir()
    writing.note(tried("a.dcm"))
    wait_until(lambda: not writing._works, "it was tried")
    assert list(spool.root.iterdir()) == []
    spool.root.rmdir()
    shutil.move(spool.root.with_name("elsewhere"), spool.root)
    wait_until(has(spool, tried("a.dcm")), "it is written when the disk is back")
