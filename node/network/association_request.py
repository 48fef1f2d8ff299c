"""Judging an A-ASSOCIATE-RQ before anything else looks at it (PS3.8 9.3.2, PS3.7 Annex D.3).

Pure: bytes in, a `JudgedRequest` out. Every item's length is checked against what holds it before
its value is touched. What the Standard tells an acceptor to skip is left out of the body that
goes on to pynetdicom, whose decoder stops at anything it does not know. What cannot be negotiated
but does not spoil the rest (a context whose name is no UID) is set aside with its result.

Raises `InvalidPDU` for a request that is answered with A-ABORT; one that is to be rejected is
returned with its `rejection`, since that is said by the service user (PS3.8 9.2, AE-6 and AE-8).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

from node.dicom.uids import is_uid
from node.network.pdu_reader import (
    ASSOCIATE_FIXED_BYTES,
    INVALID_PARAMETER,
    LEAST_MAXIMUM_LENGTH,
    InvalidPDU,
)

APPLICATION_CONTEXT: Final = 0x10
PRESENTATION_CONTEXT: Final = 0x20
ABSTRACT_SYNTAX: Final = 0x30
TRANSFER_SYNTAX: Final = 0x40
USER_INFORMATION: Final = 0x50
MAXIMUM_LENGTH: Final = 0x51
USER_IDENTITY: Final = 0x58
#: Items of which a request has one (PS3.8 Table 9-11).
_ONCE: Final = frozenset({APPLICATION_CONTEXT, USER_INFORMATION})
#: User information sub-items that a requestor may send (PS3.7 D.3.3).
_USER_ITEMS: Final = frozenset({0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58})
#: Maximum length, implementation class UID and version name.
_PLAIN_ITEMS: Final = frozenset({0x51, 0x52, 0x55})
#: Of these, the ones that are names: class UID, roles of a SOP class, version name.
_TEXT_ITEMS: Final = frozenset({0x52, 0x54, 0x55})

#: The only application context there is (PS3.7 A.2.1).
DICOM_APPLICATION_CONTEXT: Final = b"1.2.840.10008.3.1.1.1"
#: Context IDs are odd numbers between 1 and 255 (PS3.8 9.3.2.2).
_MOST_CONTEXTS: Final = 128
#: PS3.5 9.1.
_MOST_UID_BYTES: Final = 64
#: User identity types that carry a passcode (PS3.7 D.3.3.7.1).
_WITH_PASSCODE: Final = 2

#: Result, source and reason of A-ASSOCIATE-RJ (PS3.8 9.3.4).
CONTEXT_NAME_NOT_SUPPORTED: Final = (1, 1, 2)
CALLING_AE_TITLE_NOT_RECOGNIZED: Final = (1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED: Final = (1, 1, 7)
NO_REASON_GIVEN: Final = (1, 1, 1)

#: Results of a presentation context (PS3.8 Table 9-18).
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

_ITEM: Final = struct.Struct(">BxH")
#: A fixed part to decode in place of one whose AE titles are none (PS3.8 Table 9-11).
_UNREADABLE_TITLES: Final = struct.pack(">H2x16s16s32x", 1, b"?".ljust(16), b"?".ljust(16))


#: Abstract syntaxes, and the transfer syntaxes that are proposed for each.
Proposed: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class JudgedRequest:
    """What is left of an A-ASSOCIATE-RQ: its body, and what was decided already.

    It is plain where its user information says only who asks and how long a PDU may be.
    `proposed` are the abstract syntaxes of its usable contexts, each with its transfer syntaxes.
    """

    body: bytes
    rejection: tuple[int, int, int] | None
    unusable_contexts: tuple[tuple[int, int], ...]
    is_plain: bool
    proposed: Proposed = field(compare=False)


def readable_by_pynetdicom(body: bytes, secured: bool) -> JudgedRequest:
    """Judge the body of an A-ASSOCIATE-RQ, received over TLS if `secured`."""
    rejection = _judge_titles(body[4:20], body[20:36])
    kept = [body[:ASSOCIATE_FIXED_BYTES] if rejection is None else _UNREADABLE_TITLES]
    contexts: dict[int, int] = {}
    proposed: list[tuple[str, tuple[str, ...]]] = []
    application_context = b""
    is_plain = True
    seen: set[int] = set()
    for kind, value in items(body[ASSOCIATE_FIXED_BYTES:]):
        if kind in _ONCE and kind in seen:
            raise _invalid(f"item {kind:02X} is there twice")
        seen.add(kind)
        if kind == APPLICATION_CONTEXT:
            application_context = value.rstrip(b"\0 ")
            value = DICOM_APPLICATION_CONTEXT
        elif kind == PRESENTATION_CONTEXT:
            value, result = _judge_context(value, contexts)
            contexts[value[0]] = result
            if result:
                continue
            proposed.append(_names_in(value))
        elif kind == USER_INFORMATION:
            value, refused = _judge_user_information(value, secured)
            rejection = rejection or refused
            is_plain = all(kind in _PLAIN_ITEMS for kind, _ in items(value))
        else:
            continue  # PS3.8 9.3.1: unrecognized items are ignored
        kept.append(encoded_item(kind, value))
    if application_context != DICOM_APPLICATION_CONTEXT:
        rejection = CONTEXT_NAME_NOT_SUPPORTED
    unusable = tuple((context_id, result) for context_id, result in contexts.items() if result)
    return JudgedRequest(b"".join(kept), rejection, unusable, is_plain, tuple(proposed))


def _names_in(context: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the abstract syntax of a usable presentation context, and its transfer syntaxes."""
    abstract, *transfer = (name.rstrip(b"\0 ").decode("ascii") for _, name in items(context[4:]))
    return abstract, tuple(transfer)


def _invalid(what: str) -> InvalidPDU:
    return InvalidPDU(f"A-ASSOCIATE-RQ: {what}", INVALID_PARAMETER)


def items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the items in `data`, none of which may reach beyond its end."""
    position = 0
    while position < len(data):
        if len(data) - position < _ITEM.size:
            raise _invalid("ends inside an item header")
        kind, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if length > len(data) - position:
            raise _invalid(f"item {kind:02X} is longer than what holds it")
        yield kind, data[position : position + length]
        position += length


def encoded_item(kind: int, value: bytes) -> bytes:
    """Return an item with its header."""
    return _ITEM.pack(kind, len(value)) + value


def _judge_titles(called: bytes, calling: bytes) -> tuple[int, int, int] | None:
    """AE titles are printable ASCII without backslash, and not only spaces (PS3.5 6.2)."""
    for title, rejection in (
        (called, CALLED_AE_TITLE_NOT_RECOGNIZED),
        (calling, CALLING_AE_TITLE_NOT_RECOGNIZED),
    ):
        if not title.isascii():
            raise _invalid("AE title is not ASCII")
        text = title.rstrip(b"\0").decode("ascii")
        if not text.strip() or "\\" in text or not text.isprintable():
            return rejection
    return None


def _judge_context(value: bytes, known: dict[int, int]) -> tuple[bytes, int]:
    """Return a proposed context without unknown sub-items, and its result if decided, else 0."""
    if len(value) < 4:
        raise _invalid("presentation context without a body")
    context_id = value[0]
    if not context_id % 2 or context_id in known:
        raise _invalid(f"presentation context ID {context_id} is even or there twice")
    if len(known) >= _MOST_CONTEXTS:
        raise _invalid("more than 128 presentation contexts")
    syntaxes: dict[int, list[bytes]] = {ABSTRACT_SYNTAX: [], TRANSFER_SYNTAX: []}
    for kind, name in items(value[4:]):
        if kind in syntaxes:
            syntaxes[kind].append(name)
    abstract, transfer = syntaxes.values()
    if len(abstract) != 1 or not transfer:
        raise _invalid("presentation context without its one abstract and a transfer syntax")
    if not _names_uid(abstract[0]):
        return value, ABSTRACT_SYNTAX_NOT_SUPPORTED
    if not all(map(_names_uid, transfer)):
        return value, TRANSFER_SYNTAXES_NOT_SUPPORTED
    kept = [encoded_item(kind, name) for kind, names in syntaxes.items() for name in names]
    return value[:4] + b"".join(kept), 0


def _names_uid(name: bytes) -> bool:
    """Tell whether `name` is a UID; some peers pad it (PS3.8 Annex F says not to)."""
    stripped = name.rstrip(b"\0 ")
    return len(stripped) <= _MOST_UID_BYTES and _is_uid(stripped)


@lru_cache(1024)
def _is_uid(name: bytes) -> bool:
    return is_uid(name.decode("ascii", "replace"))


def _judge_user_information(
    value: bytes, secured: bool
) -> tuple[bytes, tuple[int, int, int] | None]:
    """Return the sub-items that pynetdicom knows, and a rejection if one is a reason for it."""
    kept: list[bytes] = []
    rejection = None
    for kind, item in items(value):
        if kind not in _USER_ITEMS:
            continue
        if kind in _TEXT_ITEMS and not item.isascii():
            raise _invalid(f"user information item {kind:02X} is not ASCII")
        if kind == MAXIMUM_LENGTH:
            _check_maximum_length(item)
        if kind == USER_IDENTITY and item[:1] == bytes([_WITH_PASSCODE]) and not secured:
            # A passcode that everyone on the line can read proves nothing, and must not be
            # encouraged by accepting it.
            rejection = NO_REASON_GIVEN
        kept.append(encoded_item(kind, item))
    return b"".join(kept), rejection


def _check_maximum_length(item: bytes) -> None:
    if len(item) != 4:
        raise _invalid("maximum length is not four bytes")
    length = int.from_bytes(item, "big")
    if 0 < length < LEAST_MAXIMUM_LENGTH:
        raise _invalid(f"maximum length of {length} bytes leaves no room for data")
