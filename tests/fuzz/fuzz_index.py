"""Fuzz what the spool remembers beside its entries: the index, the reasons, the marker.

Whatever lies under their names, the deliverer starts, knows what waits, and writes an index that
can be read again; no entry is touched. The rows of an index that is sound are anybody's too.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import harness  # first: it sets the path

with harness.instrumented("node.spool", "node.delivery"):
    from node.delivery.memory import Remembered
    from node.delivery.worklist import Worklist
    from node.errors import CannotWrite
    from node.service import queues
    from node.spool import Disk, Durability, Entry, Indexer, Spool, State, Tried, index, marker

_LONGEST = 300.0


def _made() -> tuple[Spool, Entry, Entry]:
    """A spool with an entry that waits and one that was refused."""
    folder = tempfile.mkdtemp(prefix="index-", dir=os.environ.get("FUZZ_MEMORY"))
    spool = Spool(Path(folder) / "spool", Disk(Durability.NONE))
    spool.add_destination("pacs")
    for number in range(2):
        with spool.begin() as incoming:
            incoming.file.write(b"entry %d" % number)
            entry = incoming.commit()
        spool.fan_out([entry], ["pacs"])
    waiting, refused = spool.queued("pacs")
    spool.refused(refused, "it said 0122", 5)
    [failed] = spool.failed("pacs")
    return spool, waiting, failed.entry


SPOOL, WAITING, FAILED = _made()
INDEX = SPOOL.root / index.NAME


def one(content: bytes) -> None:
    """The first byte chooses what the rest is."""
    if content:
        KINDS[content[0] % len(KINDS)](content[1:])


def image(data: bytes) -> None:
    """The file of the index, as bytes."""
    _clear()
    INDEX.write_bytes(data)
    starts()


def patched(data: bytes) -> None:
    """A sound index with other bytes at some places: two bytes of offset, one to put there."""
    content = bytearray(_SOUND)
    for at in range(0, len(data) - 2, 3):
        content[int.from_bytes(data[at : at + 2], "big") % len(content)] = data[at + 2]
    image(bytes(content))


def log(data: bytes) -> None:
    """What SQLite would take for changes to a sound index."""
    _clear()
    INDEX.write_bytes(_SOUND)
    INDEX.with_name(f"{INDEX.name}{index.COMPANIONS[len(data) % 3]}").write_bytes(data)
    starts()


def rows(data: bytes) -> None:
    """A sound file, in whose rows stands anything."""
    _clear()
    INDEX.write_bytes(_SOUND)
    cells: list[object] = [_cell(part) for part in data.split(b"\xff")][:6]
    cells += [None] * (6 - len(cells))
    connection = sqlite3.connect(INDEX, isolation_level=None)
    # The name of an entry that is there, or any.
    cells[0] = WAITING.name if data[:1] < b"\x80" else cells[0]
    marks = ", ".join("?" * 7)
    try:
        connection.execute(f"INSERT OR REPLACE INTO tried VALUES ({marks})", ("pacs", *cells))
    except (sqlite3.Error, OverflowError):
        pass  # the table takes no NULL
    finally:
        connection.close()
    starts()


def _cell(part: bytes) -> object:
    """Return a value of one of SQLite's types."""
    kind, rest = part[:1], part[1:]
    if kind == b"i":
        return int.from_bytes(rest[:8], "big", signed=True)
    if kind == b"f":
        try:
            return float(rest)
        except ValueError:
            return 0.5
    return rest if kind == b"b" else part.decode("utf-8", "replace")


def reason(data: bytes) -> None:
    """Why an entry failed."""
    _clear()
    beside = FAILED.path.with_name(f"{FAILED.name}.json")
    beside.write_bytes(data)
    starts()
    beside.unlink()


def identity(data: bytes) -> None:
    """The marker of the spool: understood, or refused with what to do."""
    place = SPOOL.root / marker.NAME
    kept = place.read_bytes()
    place.write_bytes(data)
    try:
        marker.identity(SPOOL.root)
    except CannotWrite:
        pass
    finally:
        place.write_bytes(kept)


def starts() -> None:
    """Do what a deliverer does that starts, sees an entry fail, and stops; then what people do."""
    writing = Indexer(SPOOL, again_seconds=0.001)
    Remembered("pacs", writing).restore(Worklist(), SPOOL, _LONGEST)
    tried = Tried(
        destination="pacs", name=WAITING.name, state=State.QUEUED, tries=2, due=1.5, cause="C000"
    )
    writing.note(tried)
    writing.close()
    assert writing._thread is not None
    writing._thread.join()
    assert tried in index.read(SPOOL.root, "pacs")
    listed = [(each.name, each.state) for each in queues.listing(SPOOL, "pacs")]
    assert listed == [(WAITING.name, State.QUEUED), (FAILED.name, State.FAILED)]
    assert (WAITING.path.read_bytes(), FAILED.path.read_bytes()) == (b"entry 0", b"entry 1")


def _clear() -> None:
    for path in INDEX.parent.glob(f"{INDEX.name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sound() -> bytes:
    """A sound index, nothing of which is beside it."""
    opened = index.Index(SPOOL.root)
    opened.apply(
        {
            ("pacs", name): Tried(
                destination="pacs", name=name, state=State.QUEUED, tries=1, due=9.5, cause="x"
            )
            for name in (WAITING.name, "gone.dcm")
        }
    )
    opened.close()
    return INDEX.read_bytes()


_SOUND = _sound()
KINDS = (image, log, rows, reason, identity, patched)


def seeds() -> list[bytes]:
    """A sound index and parts of it, rows of all types, a reason, a marker."""
    found = [b"\0" + _SOUND, b"\0" + _SOUND[:4096], b"\0" + _SOUND[:100], b"\1" + _SOUND[:200]]
    found += [b"\2\0name\xffqueued\xffi\0\0\0\3\xfff1e300\xffcause\xff1.2", b"\2\xffx\xff\xff\xff"]
    found += [b"\2\0\xffqueued\xffi" + b"\x7f" * 8 + b"\xfffnan\xffb\0\xff1.2"]
    found += [b'\3{"cause": "C000", "tries": Infinity}', b"\3[]", b'\4{"format": 1, "uuid": "x"}']
    found += [b"\5\0\x1b\1", b"\5\x10\0\x0a\x10\x05\xff"]
    return found


if __name__ == "__main__":
    logging.disable()
    harness.run(one, seeds())
