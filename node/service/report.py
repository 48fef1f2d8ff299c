"""What the processes of a node tell their supervisor, and what it makes of it.

Each child writes one JSON line a second; the supervisor adds them up. Reports are totals since
the child's start, so a lost line is no loss; the totals of a child that ended are kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from node import __version__
from node.delivery.progress import Progress
from node.network.tally import Tally, merge

#: A destination's last error is cut to so many characters, which keeps a report short.
_ERROR_LENGTH = 200


@dataclass(slots=True)
class Report:
    """One child's totals."""

    tally: Tally = field(default_factory=Tally)
    active_associations: int = 0
    at_work: int = 0
    has_room: bool = True
    #: What is wrong with the spool's disk.
    disk_failure: str = ""
    turned_away: dict[str, int] = field(default_factory=dict)
    destinations: dict[str, Progress] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return one line; the destinations' last errors are cut to `_ERROR_LENGTH`."""
        short = {
            name: progress.shortened(_ERROR_LENGTH) for name, progress in self.destinations.items()
        }
        fields = asdict(replace(self, destinations=short)) | {"version": __version__}
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Report:
        """Return what `encode` made a line of; raises ValueError for any other line."""
        try:
            fields = json.loads(line)
            return cls(
                tally=Tally.decode(fields["tally"]),
                active_associations=fields["active_associations"],
                at_work=fields["at_work"],
                has_room=fields["has_room"],
                disk_failure=fields["disk_failure"],
                turned_away=fields["turned_away"],
                destinations={
                    name: Progress.from_fields(progress)
                    for name, progress in fields["destinations"].items()
                },
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as failure:
            raise ValueError(f"not a report: {failure!r}") from failure


def version_in(line: bytes) -> str:
    """Return which version wrote a line that is no report of ours; "" where it does not say."""
    try:
        return str(json.loads(line)["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def total(reports: Iterable[Report]) -> Report:
    """Return the sum of what several processes reported."""
    result = Report()
    each = list(reports)
    result.tally = merge(report.tally for report in each)
    for report in each:
        result.active_associations += report.active_associations
        result.at_work += report.at_work
        result.has_room &= report.has_room
        result.disk_failure = result.disk_failure or report.disk_failure
        result.turned_away = dict(Counter(result.turned_away) + Counter(report.turned_away))
        for name, progress in report.destinations.items():
            known = result.destinations.get(name, Progress())
            result.destinations[name] = known.plus(progress)
    return result


def ended(report: Report) -> Report:
    """Return what stays of the last report of a process that is gone: all that it had done."""
    left = {name: progress.ended() for name, progress in report.destinations.items()}
    return replace(
        report,
        active_associations=0,
        at_work=0,
        has_room=True,
        disk_failure="",
        destinations=left,
    )
