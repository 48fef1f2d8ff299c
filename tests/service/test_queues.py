"""What people do with queues, while nobody delivers and while a loop does."""

from __future__ import annotations

from pathlib import Path

import instances
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.part10 import FileMeta
from node.dicom.scan import scan
from node.errors import UsageError
from node.pixels.files import write_file
from node.pixels.policy import Options
from node.service import queues
from node.spool import Disk, Durability, Entry, Spool, State


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", Disk(Durability.NONE))
    for name in ("pacs", "disk"):
        spool.add_destination(name)
    return spool


def put(spool: Spool, uid: str) -> Entry:
    """Queue an instance for pacs."""
    data_set = instances.encoded(instances.image(SOPInstanceUID=uid))
    meta = FileMeta(
        sop_class_uid="1.2", sop_instance_uid=uid, transfer_syntax_uid=ExplicitVRLittleEndian
    )
    with spool.begin() as incoming:
        write_file(scan(data_set, ExplicitVRLittleEndian), meta, incoming.file, Options())
        entry = incoming.commit()
    spool.fan_out([entry], ["pacs"])
    found = spool.find(State.QUEUED, "pacs", entry.name)
    assert found is not None
    return found


@pytest.fixture
def entries(spool: Spool) -> dict[State, Entry]:
    """One entry in each state."""
    made = {
        state: put(spool, f"1.{n}") for n, state in enumerate((State.QUEUED, State.FAILED), start=1)
    }
    made[State.CORRUPT] = put(spool, "1.3")
    spool.refused(made[State.FAILED], "it said 0122", 5)
    spool.damaged(made[State.CORRUPT])
    return made


def states(spool: Spool) -> dict[str, str]:
    """State by SOP Instance UID, of what is listed for pacs."""
    return {one.sop_instance_uid: one.state.value for one in queues.listing(spool, "pacs")}


def test_what_is_listed(spool: Spool, entries: dict[State, Entry]) -> None:
    queued, failed, corrupt = queues.listing(spool, "pacs")
    assert (queued.state, queued.sop_instance_uid, queued.cause) == (State.QUEUED, "1.1", "")
    assert (failed.state, failed.cause, failed.tries) == (State.FAILED, "it said 0122", 5)
    assert (corrupt.state, corrupt.cause[:9]) == (State.CORRUPT, "its bytes")
    assert queued.sop_class_uid == "1.2"
    assert queued.byte_count == entries[State.QUEUED].path.stat().st_size
    assert 0 <= queued.age_seconds < 600
    assert [one.name for one in queues.listing(spool, "pacs", [State.FAILED])] == [failed.name]


def test_a_file_that_says_nothing_is_listed_without_uids(spool: Spool) -> None:
    put(spool, "1.1").path.write_bytes(b"")
    [listed] = queues.listing(spool, "pacs")
    assert (listed.sop_instance_uid, listed.byte_count) == ("", 0)


def test_counts(spool: Spool, entries: dict[State, Entry]) -> None:
    spool.pause("disk")
    assert queues.count(spool, "pacs") == queues.Count(
        destination="pacs", queued=1, failed=1, corrupt=1, paused=False
    )
    assert queues.count(spool, "disk").paused


RETRIED = {
    "all": (None, "queued", 0),
    "the failed one": ([State.FAILED], "queued", 0),
    "one that is queued": ([State.QUEUED], "failed", 1),
    "one that is corrupt": ([State.CORRUPT], "failed", 1),
}


@pytest.mark.parametrize("case", RETRIED)
def test_retry(case: str, spool: Spool, entries: dict[State, Entry]) -> None:
    chosen, becomes, refused = RETRIED[case]
    names = None if chosen is None else [entries[state].name for state in chosen]
    done = queues.retry(spool, "pacs", names)
    assert len(done.refused) == refused
    assert states(spool) == {"1.1": "queued", "1.2": becomes, "1.3": "corrupt"}
    assert len(list((spool.root / "failed" / "pacs").iterdir())) == (
        0 if becomes == "queued" else 2
    )


def test_what_fails_again_has_its_new_reason(spool: Spool, entries: dict[State, Entry]) -> None:
    queues.retry(spool, "pacs")
    again = spool.find(State.QUEUED, "pacs", entries[State.FAILED].name)
    assert again is not None
    spool.refused(again, "now it said 0117")
    assert [failed.cause for failed in spool.failed("pacs")] == ["now it said 0117"]


DROPPED = {
    "all": (None, False, {"1.1": "queued"}, 0),
    "all, queued ones too": (None, True, {}, 0),
    "the failed one": ([State.FAILED], False, {"1.1": "queued", "1.3": "corrupt"}, 0),
    "a queued one without saying so": (
        [State.QUEUED, State.CORRUPT],
        False,
        {"1.1": "queued", "1.2": "failed"},
        1,
    ),
    "a queued one": ([State.QUEUED], True, {"1.2": "failed", "1.3": "corrupt"}, 0),
}


@pytest.mark.parametrize("case", DROPPED)
def test_drop(case: str, spool: Spool, entries: dict[State, Entry]) -> None:
    chosen, queued, left, refused = DROPPED[case]
    names = None if chosen is None else [entries[state].name for state in chosen]
    done = queues.drop(spool, "pacs", names, queued=queued)
    assert len(done.refused) == refused
    assert states(spool) == left
    assert bool(list((spool.root / "failed" / "pacs").iterdir())) == ("failed" in left.values())


@pytest.mark.parametrize(
    "name", ["", ".", "..", "no.dcm", "../pacs/x.dcm", "spool.json", "a\0.dcm"]
)
def test_a_name_that_means_no_entry(name: str, spool: Spool) -> None:
    assert queues.drop(spool, "pacs", [name], queued=True).refused.keys() == {name}
    assert queues.retry(spool, "pacs", [name]).refused.keys() == {name}


@pytest.mark.parametrize("destination", ["", "..", "no", "pacs/..", "../../x"])
def test_a_destination_that_is_none(destination: str, spool: Spool) -> None:
    for act in (queues.count, queues.retry, queues.drop, queues.pause, queues.resume):
        with pytest.raises(UsageError, match="destinations here: disk, pacs"):
            act(spool, destination)
    assert not (spool.root / "paused").exists()


def test_a_pause_holds_over_restarts_and_is_ended_once(spool: Spool) -> None:
    queues.pause(spool, "pacs")
    queues.pause(spool, "pacs")
    assert Spool(spool.root, spool.disk).paused("pacs")
    assert not spool.paused("disk")
    queues.resume(spool, "pacs")
    queues.resume(spool, "pacs")
    assert not spool.paused("pacs")
