"""The page for people: a snapshot as HTML, and numbers as people read them.

Pure but for the failed list, which is read from the spool when the page is asked for.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

import jinja2

from node.dicom.uids import name_of
from node.service.actions import Notice
from node.service.charts import HEIGHT, WIDTH, throughput
from node.service.history import History
from node.service.observer import Observer
from node.service.queues import Listed
from node.service.status import Snapshot
from node.words import age, size

#: So many failed instances are shown; `dcmpress queue list` shows all.
MOST_LISTED = 20
#: What stands where there is no number.
_NONE = "\N{EN DASH}"
_TEMPLATES = Path(__file__).parent / "templates"


class Page:
    """Renders the page; `token` goes into its forms."""

    def __init__(self, observer: Observer, token: str) -> None:
        self._observer = observer
        self._token = token
        self._template = _template()

    def render(self, snapshot: Snapshot, span: str, notice: Notice | None, *, may_act: bool) -> str:
        """Return the page; `span` names a span of `History`, else the shortest is shown."""
        shown = span if span in History.SPANS else next(iter(History.SPANS))
        return self._template.render(
            s=snapshot,
            now=time.time(),
            notice=notice,
            token=self._token if may_act else "",
            span=shown,
            spans=list(History.SPANS),
            chart=throughput(self._observer.history.rates(shown)),
            chart_width=WIDTH,
            chart_height=HEIGHT,
            failed=self._failed(snapshot),
            most_listed=MOST_LISTED,
        )

    def _failed(self, snapshot: Snapshot) -> list[Listed]:
        wanted = [each.name for each in snapshot.destinations if each.failed or each.corrupt]
        found = (entry for name in wanted for entry in self._observer.unwanted(name))
        return list(islice(found, MOST_LISTED))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size,
        "count": count,
        "age": age,
        "clock": clock,
        "stamp": stamp,
        "ratio": ratio,
        "ms": milliseconds,
        "uid_name": name_of,
    }
    return environment.get_template("status.html")


def count(number: int) -> str:
    """Return a count with its thousands apart."""
    return f"{number:,}"


def clock(at: float) -> str:
    """Return a time of day on this machine."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def stamp(at: float) -> str:
    """Return a time as ISO 8601 has it, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def ratio(value: float | None) -> str:
    """Return a compression ratio, a dash where there is none."""
    return _NONE if value is None else f"{value:.2f}"


def milliseconds(seconds: float | None) -> str:
    """Return a short time."""
    if seconds is None:
        return _NONE
    if seconds == float("inf"):
        return "over 10 s"
    return f"{seconds:g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
