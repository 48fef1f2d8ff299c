"""The ledger: what a sender was told, line by line, and the judge that holds a node to it.

A line is written with one write(2) when the answer to an instance is there, or when none comes:

    SOP Instance UID, SHA-256 of the data set as it was sent, status in hex or "cut"

The sender is never the one that is killed and the machine stays up, so a written line stays.
The judge restores every file that can be seen and compares the SHA-256 with the ledger's:
whatever restores it, another content cannot have that sum.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import instances
from faults.made import Instance

from node.dicom.status import Category, category
from node.pixels.instance import data_set_in
from node.pixels.stored import opened

CUT = "cut"
_TAKEN = {Category.SUCCESS, Category.WARNING, Category.DUPLICATE}


@dataclass(frozen=True)
class Told:
    """A ledger, read: the sum of what was sent, what was acknowledged, how answers spread."""

    sent: Mapping[str, str]
    acknowledged: frozenset[str]
    answers: Counter[str]


class Ledger:
    """Written by a sender, of one thread or many."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def write(self, instance: Instance, answer: int | None) -> None:
        """Note what the sender of `instance` was told; None where nothing was."""
        said = CUT if answer is None else f"{answer:04X}"
        line = f"{instance.sop_instance_uid} {instance.sha256} {said}\n".encode()
        assert os.write(self._descriptor, line) == len(line)

    def read(self) -> Told:
        """What was written until now, by whatever process."""
        lines = [line.split() for line in self.path.read_text("ascii").splitlines()]
        return Told(
            sent={uid: sha256 for uid, sha256, _ in lines},
            acknowledged=frozenset(
                uid for uid, _, said in lines if said != CUT and category(int(said, 16)) in _TAKEN
            ),
            answers=Counter(said for _, _, said in lines),
        )


@dataclass
class Seen:
    """What the judge found in one place."""

    whole: set[str] = field(default_factory=set)
    half_written: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """One place against the ledger. It is well if every list is empty."""

    told: Told
    seen: Seen

    @property
    def lost(self) -> set[str]:
        return set(self.told.acknowledged - self.seen.whole)

    @property
    def is_well(self) -> bool:
        seen = self.seen
        return not (self.lost or seen.half_written or seen.different or seen.twice)

    def __str__(self) -> str:
        told, seen = self.told, self.seen
        return (
            f"{len(told.sent)} sent ({told.answers[CUT]} times cut off), "
            f"{len(told.acknowledged)} acknowledged, {len(seen.whole)} whole"
            f" and equal; {len(self.lost)} lost, {len(seen.half_written)} half-written,"
            f" {len(seen.different)} different, {len(seen.twice)} stored twice"
        )


def in_archive(folder: Path, told: Told) -> Verdict:
    """Judge a folder that the node writes to: every file that has a name which is no draft's."""
    return Verdict(told, _judged(visible(folder), told, _as_it_was_sent, once=True))


def at_downstream(folder: Path, told: Told) -> Verdict:
    """Judge what a DCMTK storescp wrote bit for bit; the same again is no fault (at least once)."""
    return Verdict(told, _judged(folder.iterdir(), told, _as_it_is, once=False))


def visible(folder: Path) -> list[Path]:
    """The files below a folder that is written to; a draft's name begins with a dot."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


def _judged(paths: Iterable[Path], told: Told, read: object, *, once: bool) -> Seen:
    assert callable(read)
    seen = Seen()
    for path in paths:
        try:
            uid, sha256 = read(path)
        except Exception as failure:
            seen.half_written.append(f"{path.name}: {failure!r}")
            continue
        if told.sent.get(uid) != sha256:
            seen.different.append(path.name)
        elif once and uid in seen.whole:
            seen.twice.append(path.name)
        else:
            seen.whole.add(uid)
    return seen


def _as_it_was_sent(path: Path) -> tuple[str, str]:
    """UID and sum of the data set that the modality sent, out of a file that the node wrote."""
    with opened(path) as instance:
        assert instance.meta.record is not None
        came = instance.meta.record.as_received
        syntax = came.transfer_syntax_uid if came else instance.meta.transfer_syntax_uid
        digest = hashlib.sha256()
        for chunk in data_set_in(instance, syntax):
            digest.update(chunk)
        return instance.meta.sop_instance_uid, digest.hexdigest()


def _as_it_is(path: Path) -> tuple[str, str]:
    meta, data_set = instances.parts_of(path)
    return str(meta.MediaStorageSOPInstanceUID), hashlib.sha256(data_set).hexdigest()
