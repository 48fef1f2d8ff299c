"""A plain `dcmpress compress` command line, read without typer: see `node.cli`.

`read` understands what is right and nothing else. A mistake, a call for help, or anything that is
written in a way it does not know is None, and left to typer, which says what is wrong. Tests hold
the two to the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

from node.dicom.uids import ENCODED_IN

ENCODERS = ("dcmpress", "pylibjpeg", "gdcm", "pydicom")
VERIFY: dict[str, bool | Literal["independent"]] = {
    "true": True,
    "independent": "independent",
    "false": False,
}


class Wanted(NamedTuple):
    """What a `dcmpress compress` is to do; the fields are its arguments and options."""

    paths: tuple[str, ...]
    output: str | None = None
    in_place: bool = False
    jobs: int | None = None
    dry_run: bool = False
    transcode: bool = False
    encoder: str = "dcmpress"
    transfer_syntax: str = "RLELossless"
    verify: str = "true"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError
    return int(text)


def _one_of(known: Collection[str]) -> Callable[[str], str]:
    def chosen(text: str) -> str:
        if text not in known:
            raise ValueError
        return text

    return chosen


_FLAGS = frozenset({"--in-place", "--dry-run", "--transcode"})
_READERS: dict[str, Callable[[str], Any]] = {
    "--output": str,
    "--jobs": _count,
    "--encoder": _one_of(ENCODERS),
    "--transfer-syntax": _one_of(ENCODED_IN),
    "--verify": _one_of(VERIFY),
}


def read(args: list[str]) -> Wanted | None:
    """Return what a command line asks for; None where it is not a plain `compress`."""
    if args[:1] != ["compress"]:
        return None
    paths: list[str] = []
    options: dict[str, Any] = {}
    words = iter(args[1:])
    try:
        for word in words:
            option, equals, value = word.partition("=")
            if not word.startswith("-"):
                paths.append(word)
            elif word in _FLAGS:
                options[_field(word)] = True
            else:
                options[_field(option)] = _READERS[option](value if equals else next(words))
    except (KeyError, StopIteration, ValueError):
        return None
    return Wanted(paths=tuple(paths), **options) if paths else None


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
