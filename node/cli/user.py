"""`dcmpress user NAME`: make the line of a user for the file that `identity.users` names.

The passcode is asked for twice on a terminal, or read as one line from what is piped in. It is
neither shown nor stored: the line holds a hash of it. Raises `UsageError`.
"""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from node.errors import UsageError
from node.network.users import line_of


def user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")],
) -> None:
    """Print the line of a user: `dcmpress user NAME >> users`, then `chmod 600 users`."""
    passcode = _typed() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not passcode:
        raise UsageError("the passcode is empty")
    try:
        print(line_of(name, passcode))
    except ValueError as failure:
        raise UsageError(str(failure)) from failure


def _typed() -> str:
    first = getpass.getpass("Passcode: ", sys.stderr)
    if first != getpass.getpass("Once more: ", sys.stderr):
        raise UsageError("the two are not the same")
    return first
