"""What a destination did not take, remembered for a while so that it is not proposed every time.

Shared by the associations of one destination, in one process: a reload forgets it. Bounded: the
oldest goes first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from node.dicom.contexts import Proposal

#: Then it is proposed again: somebody may have changed the destination.
FORGET_SECONDS = 3600.0
#: SOP classes times transfer syntaxes, and more than any destination is ever sent.
MOST_REFUSALS = 1024


class Refusals:
    """Presentation contexts that one destination refused, and others of the same class it took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: OrderedDict[Proposal, float] = OrderedDict()

    def note(self, proposals: Iterable[Proposal], now: float) -> None:
        """Remember refused contexts from now on."""
        with self._lock:
            for proposal in proposals:
                self._until[proposal] = now + FORGET_SECONDS
                self._until.move_to_end(proposal)
            while len(self._until) > MOST_REFUSALS:
                self._until.popitem(last=False)

    def note_answer(
        self, proposed: Iterable[Proposal], accepted: set[Proposal], now: float
    ) -> None:
        """Remember what was refused of a class of which something else was accepted.

        Where all of a class was refused nothing is: its instances fail, and when a human has them
        tried again everything is proposed.
        """
        classes = {one.sop_class_uid for one in accepted}
        refused = [one for one in proposed if one not in accepted and one.sop_class_uid in classes]
        self.note(refused, now)

    def without(
        self, sop_class_uid: str, transfer_syntax_uids: Iterable[str], now: float
    ) -> tuple[str, ...]:
        """Return the transfer syntaxes that are worth proposing; all where none is."""
        syntaxes = tuple(dict.fromkeys(transfer_syntax_uids))
        with self._lock:
            left = tuple(
                uid for uid in syntaxes if self._until.get(Proposal(sop_class_uid, uid), now) <= now
            )
        return left or syntaxes
