"""What associations tell an audit: studies and their instances counted, repeated refusals folded.

Both are bounded: `StudyCount` is told in parts, `Repeats` forgets who was quiet longest.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from node.events import Studies

#: Studies that are told in one event: an audit message of them fits into a datagram.
_MOST_STUDIES: Final = 50
#: One who does the same again is told of once in so many seconds.
_REPEAT_SECONDS: Final = 60.0
_MOST_REPEATERS: Final = 256


class StudyCount:
    """Instances that were transferred, by study and SOP class."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}

    def add(self, study_instance_uid: str, sop_class_uid: str) -> Studies:
        """Count one instance; return what is to be told now because there is much of it."""
        told: Studies = {}
        if len(self._counts) >= _MOST_STUDIES and study_instance_uid not in self._counts:
            told = self.take()
        classes = self._counts.setdefault(study_instance_uid, {})
        classes[sop_class_uid] = classes.get(sop_class_uid, 0) + 1
        return told

    def take(self) -> Studies:
        """Return what was counted, and begin anew."""
        counts, self._counts = self._counts, {}
        return counts


class Repeats:
    """Tells the first of many from the others. Not safe to share between threads."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[object, ...], tuple[float, int]] = OrderedDict()

    def times(self, key: tuple[object, ...], now: float) -> int:
        """Return how often it happened since it was last told; 0 where it is too soon to tell."""
        since, count = self._seen.pop(key, (-math.inf, 0))
        if now - since < _REPEAT_SECONDS:
            self._seen[key] = (since, count + 1)
            return 0
        self._seen[key] = (now, 0)
        if len(self._seen) > _MOST_REPEATERS:
            self._seen.popitem(last=False)
        return count + 1
