"""The command `dcmpress`, as the installed script runs it: `main`.

It gives the exit code: a `NodeError` is shown in one sentence on standard error and ends with its
own code, an interruption with 130, an unusable command line with 2. Anything else is a bug and
shows its traceback.

What there is to call is in `commands`. A plain `dcmpress compress` is read by `plain` and begins at
once: to import what reads all other command lines takes longer than to compress a hundred images.
"""

from __future__ import annotations

import gc
import sys

from node.cli import plain
from node.errors import NodeError

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


def main(args: list[str] | None = None) -> int:
    """Run one command line, that of the program where none is given; return the exit code."""
    args = sys.argv[1:] if args is None else args
    try:
        return _run(args)
    except NodeError as failure:
        print(_told(str(failure)), file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))


def _run(args: list[str]) -> int:
    wanted = plain.read(args)
    if wanted is not None:
        gc.disable()  # nothing of what is imported is garbage; looking for it takes its time
        from node.cli import compressing

        gc.enable()
        return compressing.run(wanted)
    from node.cli import commands

    commands.run(args)
    return 0


def _told(message: str) -> str:
    """Name the program before a sentence; a report of many lines begins with a file's name."""
    return message if "\n" in message else f"dcmpress: {message}"
