"""`dcmpress queue`: what waits for destinations, what they refused, and what to do about it.

    list      what is queued, failed or corrupt, and why
    retry     queue failed entries again
    drop      remove entries for good
    pause     let a destination rest; resume lets it go on

It works on the files of the state directory, whether the node runs or not. Raises `InputMissing`
where there is no spool, `UsageError` for a destination that has no queue there.
"""

from __future__ import annotations

import getpass
import itertools
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from node.dicom.uids import name_of
from node.errors import CannotWrite, InputMissing, NodeError, UsageError
from node.events import QueueAction
from node.service import queues
from node.service.audit import open_trail
from node.service.node import open_spool
from node.service.queues import Count, Done, Listed
from node.settings import load
from node.spool import Spool, State
from node.words import age, size

app = typer.Typer(help="What waits for destinations, what they refused.", no_args_is_help=True)

Destination: TypeAlias = Annotated[
    str, typer.Argument(metavar="DESTINATION", help="The destination's name in the settings.")
]
Entries: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="[ENTRY]...", help="Names of entries, as listed.")
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option("--config", metavar="CONFIG", help="The node's settings file.")
]
StateDirectory: TypeAlias = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="The node's state directory.")
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="All entries of the destination.")]


class SomeNotDone(NodeError):
    """Some of the entries that were named could not be changed."""


@app.command("list")
def list_entries(
    destination: Annotated[
        str | None, typer.Argument(metavar="[DESTINATION]", help="Only this destination's.")
    ] = None,
    only: Annotated[
        list[State] | None,
        typer.Option("--only", metavar="queued|failed|corrupt", help="Only those in this state."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Entries shown of one destination.")] = 100,
    config: Config = None,
    state: StateDirectory = None,
) -> None:
    """Show what waits for destinations and what they refused, the oldest first."""
    states = _states(only)
    spool = _spool(config, state)
    names = spool.destinations() if destination is None else [destination]
    shown = {
        name: (
            queues.count(spool, name),
            list(itertools.islice(queues.listing(spool, name, states), limit)),
        )
        for name in names
    }
    if as_json:
        fields = {
            name: asdict(count) | {"entries": [*map(asdict, entries)]}
            for name, (count, entries) in shown.items()
        }
        print(json.dumps(fields, indent=2))
        return
    if not shown:
        print("no destination has a queue here yet")
    for count, entries in shown.values():
        _print_queue(count, entries, states)


@app.command()
def retry(
    destination: Destination,
    entries: Entries = None,
    everything: All = False,
    config: Config = None,
    state: StateDirectory = None,
) -> None:
    """Queue failed entries again. A running node takes them up, and tries the destination now."""
    names = _named(entries, everything)
    done = queues.retry(_spool(config, state), destination, names)
    _record("retry", destination, done.changed, config, state)
    _tell(done, f"queued again for {destination}")


@app.command()
def drop(
    destination: Destination,
    entries: Entries = None,
    everything: All = False,
    queued: Annotated[
        bool, typer.Option("--queued", help="Entries too that still wait to be delivered.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    state: StateDirectory = None,
) -> None:
    """Remove failed and corrupt entries for good. Their instances are gone from this node."""
    names = _named(entries, everything)
    spool = _spool(config, state)
    queues.require(spool, destination)
    if not yes:
        _ask(_question(spool, destination, names, queued=queued))
    done = queues.drop(spool, destination, names, queued=queued)
    _record("drop", destination, done.changed, config, state)
    _tell(done, f"removed from {destination}")


@app.command()
def pause(destination: Destination, config: Config = None, state: StateDirectory = None) -> None:
    """Let a destination rest, until `resume`; what is received goes on being queued for it."""
    queues.pause(_spool(config, state), destination)
    _record("pause", destination, 0, config, state)
    print(
        f"{destination} rests; what is received waits. "
        f"Go on with: dcmpress queue resume {destination}"
    )


@app.command()
def resume(destination: Destination, config: Config = None, state: StateDirectory = None) -> None:
    """Let a destination go on after a pause."""
    queues.resume(_spool(config, state), destination)
    _record("resume", destination, 0, config, state)
    print(f"{destination} goes on")


def _spool(config: Path | None, state: Path | None) -> Spool:
    """Open the spool of the node that has these settings; it is never made here."""
    settings = load(config, {"node.state_directory": state}, os.environ).settings
    try:
        return open_spool(settings)
    except CannotWrite as failure:
        if isinstance(failure.__cause__, FileNotFoundError):
            raise InputMissing(
                f"no node has kept anything in {settings.node.state_directory}: name its settings "
                "file (--config CONFIG) or its state directory (--state DIR)"
            ) from None
        raise


def _record(
    action: str, destination: str, count: int, config: Path | None, state: Path | None
) -> None:
    """Write into the audit trail who did what."""
    settings = load(config, {"node.state_directory": state}, os.environ).settings
    by = f"{os.environ.get('SUDO_USER') or _user()} (command line)"
    event = QueueAction(action=action, destination=destination, instances=count, by=by)
    open_trail(settings).record(event)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container users need not have a name
        return f"user {os.getuid()}"


def _states(only: list[State] | None) -> tuple[State, ...]:
    states = tuple(only or queues.STATES)
    if not set(states) <= set(queues.STATES):
        raise UsageError(f"--only takes one of: {', '.join(queues.STATES)}")
    return states


def _named(entries: list[str] | None, everything: bool) -> list[str] | None:
    """Return the names that were given, None for all of them."""
    if bool(entries) == everything:
        raise UsageError("name the entries, or say --all")
    return None if everything else entries


def _question(spool: Spool, destination: str, names: list[str] | None, *, queued: bool) -> str:
    if names is not None:
        return f"Remove {_entries(len(names))} of {destination} for good?"
    count = queues.count(spool, destination)
    waiting = f", {count.queued:,} queued" if queued else ""
    return (
        f"Remove what {destination} has for good: "
        f"{count.failed:,} failed, {count.corrupt:,} corrupt{waiting}?"
    )


def _ask(question: str) -> None:
    """Have a person agree; without one at the terminal, `--yes` is asked for."""
    if not sys.stdin.isatty():
        raise UsageError("nothing was removed: say --yes, there is nobody here to ask")
    typer.confirm(question, abort=True)


def _tell(done: Done, what: str) -> None:
    print(f"{_entries(done.changed)} {what}")
    for name, why in done.refused.items():
        print(f"dcmpress: {name}: {why}", file=sys.stderr)
    if done.refused:
        raise SomeNotDone(f"{_entries(len(done.refused))} left as they were")


def _print_queue(count: Count, entries: list[Listed], states: tuple[State, ...]) -> None:
    rests = ", paused" if count.paused else ""
    print(
        f"{count.destination}: {count.queued:,} queued, {count.failed:,} failed, "
        f"{count.corrupt:,} corrupt{rests}"
    )
    for entry in entries:
        _print_entry(entry)
    more = sum(getattr(count, state.value) for state in states) - len(entries)
    if more > 0:
        print(f"  and {more:,} more (--limit shows more)")


def _print_entry(entry: Listed) -> None:
    tried = f", tried {entry.tries} times" if (entry.tries or 1) > 1 else ""
    again = "" if (due := entry.retry_in_seconds) is None else f", again {_in(due)}"
    print(f"  {entry.name}  {entry.state.value}, {age(entry.age_seconds)} old{tried}{again}")
    if entry.sop_instance_uid:
        print(
            f"    {name_of(entry.sop_class_uid)}, {name_of(entry.transfer_syntax_uid)}, "
            f"{size(entry.byte_count)}, {entry.sop_instance_uid}"
        )
    else:
        print(f"    {size(entry.byte_count)}, not readable")
    if entry.cause:
        print(f"    {entry.cause}")


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _in(seconds: float) -> str:
    return f"in {age(seconds)}" if seconds else "now"
