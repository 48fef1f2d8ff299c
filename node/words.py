"""Numbers as people write them, in log lines and on the terminal. Pure."""

from __future__ import annotations

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """Write a number of bytes as people do, in powers of 1000: `512 bytes`, `55.2 MB`."""
    unit = 0
    while abs(count) >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} bytes" if unit == 0 else f"{count:.3g} {_UNITS[unit]}"


def age(seconds: float) -> str:
    """Write a duration in its largest unit, in two where the first is small: `3 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if hours < 10 else f"{hours} h"
    return f"{hours // 24} d"


def many(count: int, word: str) -> str:
    """Write a count and its noun: `1 file`, `2 files`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
