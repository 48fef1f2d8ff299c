"""The states of a spool entry and the steps between them: one table, nothing else.

A state is a folder and a step is a rename, or one more link: out of ARRIVING and to fan out, since
nothing is removed before its successor is durable. An entry keeps its name in ARRIVING until it is
in every queue. QUEUED, FAILED and CORRUPT exist once per destination.

    INCOMING  being written; nothing was promised, a restart removes it
    ARRIVING  being written under a name that is durable already; what is whole here and has no
              other name may have been acknowledged, so it is taken over
    RECEIVED  durable, here or in ARRIVING; Success was, or is about to be, answered
    QUEUED    waits for one destination
    FAILED    one destination refused it for good; kept with the reason until a human decides
    CORRUPT   not what was written; kept for inspection, never sent
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """Where an entry stands; the value is the name of its folder."""

    INCOMING = "incoming"
    ARRIVING = "arriving"
    RECEIVED = "received"
    QUEUED = "queued"
    FAILED = "failed"
    CORRUPT = "corrupt"


class Step(enum.Enum):
    """What can happen to an entry."""

    COMMIT = "commit"
    QUEUE = "queue"
    DISCARD = "discard"
    FAN_OUT = "fan out"
    DELIVERED = "delivered"
    REFUSED = "refused"
    RETRY = "retry"
    DROP = "drop"
    DAMAGED = "damaged"


#: (state, step) -> next state; None where the entry is gone afterwards.
STEPS: dict[tuple[State, Step], State | None] = {
    (State.INCOMING, Step.COMMIT): State.RECEIVED,
    (State.INCOMING, Step.DISCARD): None,
    # Of a relay that cannot be reached: for some destinations alone, without fan-out.
    (State.INCOMING, Step.QUEUE): State.QUEUED,
    (State.ARRIVING, Step.COMMIT): State.RECEIVED,
    (State.ARRIVING, Step.DISCARD): None,
    (State.RECEIVED, Step.FAN_OUT): State.QUEUED,
    (State.RECEIVED, Step.DAMAGED): State.CORRUPT,
    (State.QUEUED, Step.DELIVERED): None,
    (State.QUEUED, Step.REFUSED): State.FAILED,
    (State.QUEUED, Step.DAMAGED): State.CORRUPT,
    (State.FAILED, Step.RETRY): State.QUEUED,
    (State.FAILED, Step.DROP): None,
    # What a human may also throw away, and only when asked for by name.
    (State.QUEUED, Step.DROP): None,
    (State.CORRUPT, Step.DROP): None,
}


class IllegalStep(Exception):
    """A defect of this program: a step that the table does not have. Nothing was changed."""


def after(state: State, step: Step) -> State | None:
    """Return the state that follows; raises `IllegalStep` where there is none."""
    try:
        return STEPS[state, step]
    except KeyError:
        raise IllegalStep(f"an entry that is {state.value} cannot be: {step.value}") from None
