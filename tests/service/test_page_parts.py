"""What the page is made of, without a page: history, charts, verdict, numbers for people."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from node import words
from node.service import page
from node.service.charts import HEIGHT, rounded_up, throughput
from node.service.history import POINTS, History, Rate, Ring, Totals
from node.service.verdict import ALL_GOOD, Level, problems, verdict

MB = 1_000_000


def test_a_ring_turns_totals_into_rates() -> None:
    ring = Ring(1.0)
    for second in range(4):
        ring.note(100.0 + second, Totals(second * 10, second * 5, second))
    assert list(ring.rates) == [Rate(10, 5, 1)] * 3


def test_what_a_late_note_brings_is_spread_over_the_steps_it_missed() -> None:
    ring = Ring(1.0)
    ring.note(0.0, Totals())
    ring.note(0.9, Totals(1, 1, 1))
    ring.note(4.5, Totals(40, 20, 4))
    assert list(ring.rates) == [Rate(10, 5, 1)] * 4


def test_a_ring_is_bounded_and_totals_that_fall_are_no_rate() -> None:
    ring = Ring(1.0)
    ring.note(0.0, Totals(10 * MB))
    ring.note(1e9, Totals(0))
    assert len(ring.rates) == POINTS
    assert set(ring.rates) == {Rate()}


def test_the_history_of_a_day_and_the_mean_of_seconds() -> None:
    history = History()
    for second in range(601):
        history.note(float(second), Totals(second * 100, second * 50, second))
    assert [len(history.rates(span)) for span in History.SPANS] == [POINTS] * 3
    assert history.mean(5) == Rate(100, 50, 1)
    assert history.rates("1 h")[-1] == Rate(100, 50, 1)
    assert history.rates("1 h")[0] == Rate()


def test_a_mean_of_a_node_that_just_began_counts_the_seconds_before_as_nothing() -> None:
    history = History()
    history.note(0.0, Totals())
    history.note(1.0, Totals(100, 50, 1))
    assert history.mean(5) == Rate(20, 10, 0.2)


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, MB), (MB, MB), (1.1 * MB, 2 * MB), (2.5 * MB, 5 * MB), (7 * MB, 10 * MB), (1e9, 1e9)],
)
def test_the_upper_edge_is_a_round_number(value: float, top: float) -> None:
    assert rounded_up(value) == pytest.approx(top)


def test_a_chart_stays_within_its_edges() -> None:
    chart = throughput([Rate(0, 0), Rate(10 * MB, 5 * MB), Rate(2 * MB, 3 * MB)])
    heights = [float(point.split()[1]) for point in chart.received.strip("MZ").split("L")]
    assert (min(heights), max(heights)) == (0, HEIGHT)
    assert not chart.is_empty
    assert throughput([Rate()] * 3).is_empty


def destination(**facts: Any) -> Any:
    usual = {"name": "pacs", "state": "up", "queued": 0, "failed": 0, "corrupt": 0}
    return SimpleNamespace(**{**usual, "last_error": "", **facts})


FACTS: dict[str, Any] = {
    "is_ready": True,
    "has_room": True,
    "disk_failure": "",
    "verify_failures": 0,
    "encoder_failures": 0,
    "full_in_seconds": None,
    "rejected_lately": 0,
}


@pytest.mark.parametrize(
    ("destinations", "facts", "level", "line"),
    [
        ([destination()], {}, None, ALL_GOOD),
        ([destination(queued=9)], {}, None, ALL_GOOD),
        (
            [],
            {"encoder_failures": 3},
            Level.WATCH,
            "3 instances could not be encoded and were kept as they came",
        ),
        ([], {"is_ready": False}, Level.WATCH, "starting: not every process is at work"),
        (
            [],
            {"has_room": False},
            Level.ACT,
            "refusing instances: free disk space is below the reserve",
        ),
        (
            [],
            {"disk_failure": "Input/output error"},
            Level.ACT,
            "refusing instances: the spool's disk failed: Input/output error",
        ),
        (
            [destination(state="down", queued=1)],
            {},
            Level.ACT,
            "destination pacs is not answering; 1 instance is safe and waits",
        ),
        (
            [destination(failed=1200)],
            {},
            Level.WATCH,
            "destination pacs refused 1,200 instances, which wait for a decision",
        ),
        (
            [destination(state="paused", queued=2)],
            {},
            Level.WATCH,
            "destination pacs is paused; 2 instances queued",
        ),
        (
            [],
            {"rejected_lately": 2},
            Level.WATCH,
            "2 senders were turned away in the last ten minutes",
        ),
        ([], {"full_in_seconds": 7200}, Level.WATCH, "the disk is full in about 2 h at this rate"),
        ([], {"full_in_seconds": 1e6}, None, ALL_GOOD),
        (
            [destination(failed=1), destination(name="vna", state="down")],
            {"rejected_lately": 1},
            Level.ACT,
            "destination vna is not answering (and 2 more)",
        ),
    ],
)
def test_the_verdict(
    destinations: list[Any], facts: dict[str, Any], level: Level | None, line: str
) -> None:
    found = problems(destinations, **{**FACTS, **facts})
    assert verdict(found) == line
    assert (found[0].level if found else None) == level
    assert all(each.mend for each in found)


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (words.size(-2e6), "-2 MB"),
        (words.size(0), "0 bytes"),
        (words.size(999), "999 bytes"),
        (words.size(1000), "1 kB"),
        (words.size(999_600), "1 MB"),
        (words.size(53.24e6), "53.2 MB"),
        (words.size(412e9), "412 GB"),
        (words.size(2.5e15), "2.5 PB"),
        (words.age(0.4), "0 s"),
        (words.age(61), "1 min"),
        (words.age(3 * 3600 + 300), "3 h 5 min"),
        (words.age(20 * 3600), "20 h"),
        (words.age(12.5 * 86400), "12 d"),
        (page.milliseconds(None), "\N{EN DASH}"),
        (page.milliseconds(0.0025), "2.5 ms"),
        (page.milliseconds(2.5), "2.5 s"),
        (page.milliseconds(float("inf")), "over 10 s"),
        (page.ratio(1.943), "1.94"),
        (page.ratio(None), "\N{EN DASH}"),
    ],
)
def test_numbers_are_as_people_read_them(shown: str, wanted: str) -> None:
    assert shown == wanted
