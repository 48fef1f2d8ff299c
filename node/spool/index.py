"""The spool's index: how often an entry was tried, when it is due and why, in one SQLite file.

It lies beside the folders, and they are the truth: it can be thrown away at any time, and costs
only what it says. It has a row for entries that failed at least once, the latest `ROWS` of them.
One process writes it (`Index`, for `indexer`), any may read it (`read`) meanwhile or later; a row
may speak of an entry that is no longer there.

Raises `Unusable` for whatever is wrong with the file, before anything in it is trusted: it has to
be a file of bounded size with no pipe beside it, and in its schema our table and nothing else: a
view or a trigger is a program of whoever put it there. Nothing in it is synced.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import stat
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from node.spool.durable import FILE_MODE
from node.spool.states import State

NAME = "index.sqlite3"
#: What SQLite may put beside it.
COMPANIONS = ("-wal", "-shm", "-journal")
#: Another one is thrown away.
FORMAT = 1
#: Entries that are remembered: some 10 MB.
ROWS = 20_000
#: Characters of a cause; the reason beside a failed entry has all of it.
_CAUSE = 300
#: How long somebody else's lock is waited for, in seconds.
_BUSY_SECONDS = 0.2
_WAL_BYTES = 1 << 20
#: A larger file is not ours: `ROWS` of the longest rows are 40 MB.
_FILE_BYTES = 64 << 20
#: A longer row is not ours either.
_ROW_BYTES = 8192
#: Tries of an entry that are told apart.
_MOST_TRIES = 1 << 31
#: Reading it takes milliseconds; pages that refer to each other could keep SQLite for ever.
_READ_SECONDS = 10.0
#: How often that is looked at, in instructions of SQLite's.
_INSTRUCTIONS = 100_000

_TABLE = """\
CREATE TABLE tried (
    destination TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    tries INTEGER NOT NULL,
    due REAL NOT NULL,
    cause TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    PRIMARY KEY (destination, name)
)"""
_READ = """
SELECT destination, name, state, tries, due, cause, sop_instance_uid FROM tried
WHERE destination = ? ORDER BY name LIMIT ?"""
# What is noted again keeps its rowid, so that those of the entries that failed first are lowest.
_NOTE = """
INSERT INTO tried VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
state = excluded.state, tries = excluded.tries, due = excluded.due, cause = excluded.cause,
sop_instance_uid = excluded.sop_instance_uid"""
_FORGET = "DELETE FROM tried WHERE destination = ? AND name = ?"
_BOUND = "DELETE FROM tried WHERE rowid <= (SELECT max(rowid) FROM tried) - ?"


class Unusable(Exception):
    """The index is damaged, locked, of another format, or cannot be read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What is known of an entry that failed: QUEUED until it is tried again, or FAILED for good.

    `due` is Unix time, 0 for an entry that is not tried again; `sop_instance_uid` may be empty.
    """

    destination: str
    name: str
    state: State
    tries: int
    due: float = 0.0
    cause: str = ""
    sop_instance_uid: str = ""


#: What is to be written: an entry by destination and name, None for one that is gone.
Changes = Mapping[tuple[str, str], Tried | None]


def read(root: Path, destination: str) -> list[Tried]:
    """Return what the index of the spool at `root` has of a destination, the oldest entry first."""
    path = root / NAME
    if not os.path.lexists(path):
        return []
    try:
        _found(path)
        connection = _connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(connection):
            until = time.monotonic() + _READ_SECONDS
            connection.set_progress_handler(lambda: time.monotonic() > until, _INSTRUCTIONS)
            connection.execute("BEGIN")
            if _is_empty(connection):
                return []  # it is being made
            _require_ours(connection)
            return [_tried(row) for row in connection.execute(_READ, (destination, ROWS))]
    except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as failure:
        raise Unusable(str(failure)) from failure


def _tried(row: tuple[object, ...]) -> Tried:
    destination, name, state, tries, due, cause, uid = row
    if not (isinstance(tries, int) and isinstance(due, float) and math.isfinite(due)):
        raise ValueError("a row that nobody wrote")
    return Tried(
        destination=str(destination),
        name=str(name),
        state=State(str(state)),
        tries=min(max(0, tries), _MOST_TRIES),
        due=due,
        cause=str(cause),
        sop_instance_uid=str(uid),
    )


class Index:
    """The file, open to be written by one thread; made where it is missing or empty."""

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        try:
            with contextlib.suppress(FileExistsError):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                os.close(os.open(self._path, flags, FILE_MODE))
            _found(self._path)
            self._connection = _connect(str(self._path))
        except (sqlite3.Error, OSError) as failure:
            raise Unusable(str(failure)) from failure
        try:
            self._prepare()
            self._left = _found(self._path)
        except BaseException:
            self.close()
            raise

    def apply(self, changes: Changes) -> None:
        """Write what changed, all or nothing; the oldest rows above `ROWS` go."""
        try:
            # SQLite would go on for long with what it remembers of a file.
            if _found(self._path) != self._left:
                raise Unusable("somebody else has changed it")
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            _require_ours(connection)
            connection.executemany(_NOTE, (_row(each) for each in changes.values() if each))
            connection.executemany(_FORGET, (key for key, each in changes.items() if not each))
            connection.execute(_BOUND, (ROWS,))
            connection.execute("COMMIT")
            self._left = _found(self._path)
        except (sqlite3.Error, OSError, UnicodeError, OverflowError) as failure:
            raise Unusable(str(failure)) from failure

    def close(self) -> None:
        """Let go of the file, whatever is wrong with it."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _prepare(self) -> None:
        try:
            connection = self._connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            if _is_empty(connection):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                connection.execute("COMMIT")
            _require_ours(connection)
            # Not the quick one: it does not see a key that leads to the row of another. 20,000 rows
            # take 16 ms.
            if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                raise Unusable("it is damaged")
        except (sqlite3.Error, UnicodeError) as failure:
            raise Unusable(str(failure)) from failure


def _row(tried: Tried) -> tuple[object, ...]:
    destination, name, state, tries, due, cause, uid = astuple(tried)
    return destination, name, state.value, tries, float(due), cause[:_CAUSE], uid


def _connect(database: str, *, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None, uri=uri)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ROW_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _found(path: Path) -> tuple[int, ...]:
    """Return which file it is and when it was changed; SQLite writes beside it for a while."""
    try:
        found = os.lstat(path)
        for ending in COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                # To open a pipe would be to wait for whoever writes to it.
                if not stat.S_ISREG(os.lstat(f"{path}{ending}").st_mode):
                    raise Unusable(f"what lies beside it as {ending} is not a file")
    except OSError as failure:
        raise Unusable(str(failure)) from failure
    if not stat.S_ISREG(found.st_mode):
        raise Unusable("it is not a file")
    if found.st_size > _FILE_BYTES:
        raise Unusable("it is too large")
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


def _require_ours(connection: sqlite3.Connection) -> None:
    """Raise where the file has another format, or more or other things than our table."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != FORMAT:
        raise Unusable(f"it has format {version}, not {FORMAT}")
    schema = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    if connection.execute(schema).fetchmany(2) != [("table", "tried", _TABLE)]:
        raise Unusable("it has another table")
