"""Numbers as people write them, in log lines and on the terminal. Pure."""

from __future__ import annotations

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """Write a number of bytes as people do, in powers of 1000: `512 bytes`, `55.2 MB`."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} bytes" if unit == 0 else f"{count:.3g} {_UNITS[unit]}"


def many(count: int, word: str) -> str:
    """Write a count and its noun: `1 file`, `2 files`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
