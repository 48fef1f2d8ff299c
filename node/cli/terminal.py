"""What commands show while they work: a progress bar on a terminal, plain lines anywhere else.

Notes and the bar go to standard error, so that standard output has the result and nothing else.
rich is imported only where there is a terminal to draw on.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Protocol

#: A path and as much as says what is wrong.
_LONGEST_NOTE = 500


class Bar(Protocol):
    """What a command tells its watcher."""

    def advance(self, amount: int = 1) -> None:
        """So much more is done."""

    def note(self, sentence: str) -> None:
        """Something to read; it is shown on one line."""


class PlainBar:
    """No bar: notes only."""

    def advance(self, amount: int = 1) -> None:
        """See `Bar`."""

    def note(self, sentence: str) -> None:
        """See `Bar`."""
        print(f"dcmpress: {_one_line(sentence)}", file=sys.stderr)


class RichBar:
    """A bar that rich draws below the notes."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: int = 1) -> None:
        """See `Bar`."""
        self._progress.advance(self._task, amount)

    def note(self, sentence: str) -> None:
        """See `Bar`."""
        self._progress.console.print(
            f"dcmpress: {_one_line(sentence)}", markup=False, highlight=False, soft_wrap=True
        )


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Bar]:
    """Show how far a command is in `total` steps, for as long as the context lasts."""
    if not sys.stderr.isatty():
        yield PlainBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        yield RichBar(drawn, drawn.add_task(title, total=total))


def _one_line(sentence: str) -> str:
    """Codecs say why they failed on many lines, tracebacks among them."""
    import textwrap  # there is seldom something to say

    return textwrap.shorten(sentence, _LONGEST_NOTE, placeholder=" …")
