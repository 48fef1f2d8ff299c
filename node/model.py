"""The frozen values that flow through the node, one direction only.

    Received -> Compressed | Kept -> Delivered | Deferred | Failed

What happened to an instance is told by the type of the value, never by a flag or None. Nothing
here opens a file, a socket or a `Dataset`; nothing here imports another room.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from node.reasons import KeepReason


class Origin(NamedTuple):
    """Where an instance came from: the two AE titles of its association and the peer's address."""

    calling_ae_title: str
    called_ae_title: str
    address: str


class Received(NamedTuple):
    """One instance as it arrived; `byte_count` is the length of its encoded data set, `modality`
    what (0008,0060) of it says and `study_instance_uid` (0020,000D), "" where it says nothing
    readable.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    byte_count: int
    origin: Origin
    modality: str = ""
    study_instance_uid: str = ""


class Compressed(NamedTuple):
    """The instance now carries encoded pixel data; `byte_count` is the new data set's length."""

    received: Received
    transfer_syntax_uid: str
    byte_count: int


class Kept(NamedTuple):
    """The instance goes on byte for byte as it was received."""

    received: Received
    reason: KeepReason


Stored: TypeAlias = Compressed | Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The destination has the instance. A warning `status` counts as delivered (PS3.4 B.2.3)."""

    destination: str
    status: int
    detail: str = ""


class Blame(enum.Enum):
    """What a delivery that is to be tried again failed for, as far as its answer tells."""

    INSTANCE = "this instance"
    UNCLEAR = "this instance or the destination: whether others get through tells"
    ROOM = "the destination has no room, for this instance or for any"
    DESTINATION = "the destination, for now"
    SETTINGS = "the destination, until somebody changes something there or here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Not delivered this time; try again. `cause` is a sentence for the administrator."""

    destination: str
    cause: str
    blame: Blame


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The destination will not take this instance; a human must act. It is kept, with `cause`."""

    destination: str
    cause: str


Outcome: TypeAlias = Delivered | Deferred | Failed
