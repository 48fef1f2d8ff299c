"""Children of a node without processes: their reports and the throttle."""

import os
from types import SimpleNamespace

import pytest

from node import __version__
from node.delivery.progress import Progress
from node.service.children import RECEIVER, Child
from node.service.process import Reporter
from node.service.report import Report
from node.service.supervisor import Supervisor
from node.settings import Settings


class Ended:
    """A process, as far as these tests look at one."""

    pid = 1
    stdin = None


def child_and_end() -> tuple[Child, int]:
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    return Child(RECEIVER, Settings(), Ended(), reading, 0.0, 0.0), writing  # type: ignore[arg-type]


def test_a_line_that_is_no_report_is_skipped() -> None:
    child, writing = child_and_end()
    report = Report(active_associations=3).encode()
    for junk in (b"junk\n", b"\xff\n", b"[]\n", b"{}\n", b'{"tally":{"x":1}}\n', b"\n"):
        os.write(writing, report + junk)
        child.read_reports(1.0)
        assert child.report == Report(active_associations=3)
    assert child.heard == 1.0
    os.close(writing)
    child.close()


def test_one_of_a_version_with_other_reports_works_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    child, writing = child_and_end()
    os.write(writing, b'{"version": "9.0", "tally_of_tallies": {}}\n' * 2)
    child.read_reports(1.0)
    assert child.is_ready
    assert (child.heard, child.report, child.other_version) == (1.0, None, "9.0")
    supervisor = SimpleNamespace(_is_upgraded=False)
    for _ in range(2):
        Supervisor._say_what_is_upgraded(supervisor, child)  # type: ignore[arg-type]
    [said] = caplog.messages
    assert said.startswith(f"version 9.0 was installed while {__version__} runs")
    os.close(writing)
    child.close()


def test_a_report_that_fits_no_pipe_does_not_run_into_the_next() -> None:
    child, writing = child_and_end()
    many = {f"destination-{n}": Progress(last_error="x" * 999) for n in range(2000)}
    reporter = Reporter(writing)
    reporter.send(Report(active_associations=1, destinations=many))
    reporter.send(Report(active_associations=2, destinations=many))
    for sent in range(20):
        child.read_reports(1.0)
        reporter.send(Report(active_associations=100 + sent))
    child.read_reports(1.0)
    assert child.report == Report(active_associations=119)
    os.close(writing)
    child.close()


def test_a_report_nobody_reads_is_lost_without_harm() -> None:
    child, writing = child_and_end()
    child.close()
    Reporter(writing).send(Report())
    os.close(writing)


def test_a_long_error_is_cut() -> None:
    report = Report(destinations={"disk": Progress(last_error="x" * 10_000)})
    assert Report.decode(report.encode()).destinations["disk"].last_error == "x" * 200
