"""What `dcmpress doctor` has to say: one finding for each thing that was looked at."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from node.errors import BadConfiguration, CannotWrite, NodeError, PeerRefused, PeerUnreachable


class Verdict(enum.StrEnum):
    """How a thing is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `mend` is what to do next, `exit_code` that of a failure."""

    verdict: Verdict
    subject: str
    text: str
    mend: str = ""
    exit_code: int = 0


def ok(subject: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(Verdict.OK, subject, text)


def warn(subject: str, text: str, mend: str) -> Finding:
    """Return that it works, and that it could be better."""
    return Finding(Verdict.WARN, subject, text, mend)


def fail(subject: str, failure: type[NodeError], text: str, mend: str) -> Finding:
    """Return that it does not work."""
    return Finding(Verdict.FAIL, subject, text, mend, failure.exit_code)


#: The code of the gravest failure is the exit code, in this order.
_GRAVEST = (BadConfiguration, CannotWrite, PeerRefused, PeerUnreachable)


def exit_code(findings: list[Finding]) -> int:
    """Return 0, or the exit code of the gravest failure."""
    found = {finding.exit_code for finding in findings}
    return next((kind.exit_code for kind in _GRAVEST if kind.exit_code in found), 0)
