"""Command sets, encoded and decoded (PS3.7 6.3 and Annex E). Pure functions.

A command set is Implicit VR Little Endian, of group 0000 only, and small. Every C-STORE needs one
each way, so this is the hot path: 20 microseconds where a `Dataset` takes 400.

`decode` raises `MalformedCommandSet` where no answer can be given. A parameter that is there but
has the wrong length, VM or characters is returned as `MISTYPED`, since that can be answered
(0212). Unknown elements of group 0000 are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, TypeAlias

from node.network.kernel import KERNEL

Value: TypeAlias = int | str | None
Command: TypeAlias = dict[str, Value]

#: Stands for a value that is there but cannot be what its element holds.
MISTYPED: Final = None

#: Command Data Set Type (0000,0800) of a message without a data set (PS3.7 9.3).
NO_DATA_SET: Final = 0x0101
#: The same of a message that has one: any other value.
_WITH_DATA_SET: Final = 0x0001

C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
C_ECHO_RQ: Final = 0x0030
C_ECHO_RSP: Final = 0x8030
C_CANCEL_RQ: Final = 0x0FFF
#: Set in the Command Field of every response (PS3.7 9.3).
RESPONSE: Final = 0x8000

#: Element number, keyword and VR, in the order they are sent (PS3.7 Table E.1-1).
_ELEMENTS: Final = (
    (0x0002, "AffectedSOPClassUID", "UI"),
    (0x0003, "RequestedSOPClassUID", "UI"),
    (0x0100, "CommandField", "US"),
    (0x0110, "MessageID", "US"),
    (0x0120, "MessageIDBeingRespondedTo", "US"),
    (0x0600, "MoveDestination", "AE"),
    (0x0700, "Priority", "US"),
    (0x0800, "CommandDataSetType", "US"),
    (0x0900, "Status", "US"),
    (0x0902, "ErrorComment", "LO"),
    (0x0903, "ErrorID", "US"),
    (0x1000, "AffectedSOPInstanceUID", "UI"),
    (0x1001, "RequestedSOPInstanceUID", "UI"),
    (0x1002, "EventTypeID", "US"),
    (0x1008, "ActionTypeID", "US"),
    (0x1030, "MoveOriginatorApplicationEntityTitle", "AE"),
    (0x1031, "MoveOriginatorMessageID", "US"),
)
#: What each element is received as: its keyword, and whether it is a US.
_DECODERS: Final = {element: (keyword, vr == "US") for element, keyword, vr in _ELEMENTS}

#: The longest a UI, AE or LO can be (PS3.5 Table 6.2-1); an Error Comment may be cut.
_MOST_TEXT: Final = 64

_HEADER: Final = struct.Struct("<HHI")
_NUMBER: Final = struct.Struct("<HHIH")
#: Four elements that hold a number each.
_FOUR_NUMBERS: Final = struct.Struct("<HHIHHHIHHHIHHHIH")
#: How each keyword is sent: its element, whether it is a US, and its padding (PS3.5 6.2).
_ENCODERS: Final = {
    keyword: (element, vr == "US", b"\0" if vr == "UI" else b" ")
    for element, keyword, vr in _ELEMENTS
}
#: Headers of a P-DATA-TF PDU and its PDV (PS3.8 9.3.5), and the flags of a whole command set (E.2).
_PDU: Final = struct.Struct(">BxIIBB")
_P_DATA_TF: Final = 4
_LAST_COMMAND: Final = 3
LONGEST_UID: Final = 64  # PS3.5 9.1
#: No C-STORE-RSP without a comment is longer, and no C-ECHO-RSP: two UIDs and four numbers.
LONGEST_RESPONSE: Final = 12 + 2 * (8 + LONGEST_UID) + 4 * 10
_UNSIGNED_SHORT: Final = struct.Struct("<H")
_UNSIGNED_LONG: Final = struct.Struct("<I")
_GROUP_LENGTH_BYTES: Final = 12


class MalformedCommandSet(ValueError):
    """The bytes are no command set, or one that cannot be answered."""


def _text(value: bytes) -> Value:
    """Return the one value of a UI, AE or LO element without its padding."""
    if b"\\" in value or not value.isascii():
        return MISTYPED
    return value.decode("ascii").strip(" \0")


def decode(encoded: bytes | bytearray | memoryview) -> Command:
    """Return the parameters of a command set by keyword."""
    data = bytes(encoded)
    _check_group_length(data)
    command = _decode(data, _GROUP_LENGTH_BYTES, _DECODERS)
    if command is None:
        raise MalformedCommandSet("an element of another group, or longer than the command set")
    _check_identity(command)
    return command


def decode_in_python(
    data: bytes, position: int, table: Mapping[int, tuple[str, bool]]
) -> Command | None:
    """Return the parameters in `data` from `position`; None where it is no command set."""
    command: Command = {}
    end = len(data)
    while position < end:
        if end - position < _HEADER.size:
            return None
        group, element, length = _HEADER.unpack_from(data, position)
        start = position + _HEADER.size
        position = start + length
        if group != 0 or position > end:
            return None
        known = table.get(element)
        if known is None:
            continue
        keyword, is_number = known
        if not is_number:
            command[keyword] = _text(data[start:position])
        elif length == _UNSIGNED_SHORT.size:
            command[keyword] = _UNSIGNED_SHORT.unpack_from(data, start)[0]
        else:
            command[keyword] = MISTYPED
    return command


_decode: Final = decode_in_python if KERNEL is None else KERNEL.decode


def _check_group_length(data: bytes) -> None:
    """PS3.7 E.1: (0000,0000) comes first and counts the bytes after it."""
    if len(data) < _GROUP_LENGTH_BYTES or data[:8] != b"\0\0\0\0\4\0\0\0":
        raise MalformedCommandSet("does not begin with its group length")
    if _UNSIGNED_LONG.unpack_from(data, 8)[0] != len(data) - _GROUP_LENGTH_BYTES:
        raise MalformedCommandSet("group length is wrong")


def _check_identity(command: Command) -> None:
    """A message that says not what it is, or has no number, cannot be answered."""
    field = command.get("CommandField")
    if not isinstance(field, int):
        raise MalformedCommandSet("no Command Field")
    answers = field & RESPONSE or field == C_CANCEL_RQ
    identity = "MessageIDBeingRespondedTo" if answers else "MessageID"
    if not isinstance(command.get(identity), int):
        raise MalformedCommandSet(f"no {identity}")
    if not isinstance(command.get("CommandDataSetType"), int):
        raise MalformedCommandSet("does not say whether a data set follows")


def _text_element(element: int, value: str, pad: bytes) -> bytes:
    encoded = value[:_MOST_TEXT].encode("ascii", "replace")
    if len(encoded) % 2:
        encoded += pad
    return _HEADER.pack(0, element, len(encoded)) + encoded


def encode(command: Mapping[str, Value]) -> bytes:
    """Return `command` as a command set; a value of None is left out."""
    parts = []
    for keyword, (element, is_number, pad) in _ENCODERS.items():
        value = command.get(keyword)
        if value is None:
            continue
        if is_number:
            parts.append(_NUMBER.pack(0, element, 2, value))
        else:
            parts.append(_text_element(element, str(value), pad))
    return _whole(b"".join(parts))


def in_one_pdu(context_id: int, encoded: bytes) -> bytes:
    """Return the P-DATA-TF PDU of a command set in one PDV (PS3.8 9.3.5)."""
    length = len(encoded)
    return _PDU.pack(_P_DATA_TF, length + 6, length + 2, context_id, _LAST_COMMAND) + encoded


def response_in_python(
    context_id: int,
    command_field: int,
    sop_class_uid: str,
    sop_instance_uid: str,
    message_id: int,
    status: int,
) -> bytes:
    """Return the PDU of a C-STORE-RSP without an Error Comment, or of a C-ECHO-RSP.

    That has no SOP instance. A UID may be 64 characters long.
    """
    named = _text_element(0x1000, sop_instance_uid, b"\0") if sop_instance_uid else b""
    encoded = _response(command_field, sop_class_uid, message_id, status, named)
    return in_one_pdu(context_id, encoded)


#: Does what `response_in_python` does.
response: Final = response_in_python if KERNEL is None else KERNEL.response


def encode_store_response(
    sop_class_uid: str, sop_instance_uid: str, message_id: int, status: int, comment: str = ""
) -> bytes:
    """Return a C-STORE-RSP (PS3.7 Table 9.3-2), as `encode` would."""
    said = _text_element(0x0902, comment, b" ") if comment else b""
    named = _text_element(0x1000, sop_instance_uid, b"\0")
    return _response(C_STORE_RSP, sop_class_uid, message_id, status, said + named)


def encode_echo_response(sop_class_uid: str | None, message_id: int, status: int) -> bytes:
    """Return a C-ECHO-RSP (PS3.7 Table 9.3-13), as `encode` would."""
    return _response(C_ECHO_RSP, sop_class_uid, message_id, status, b"")


def _response(
    field: int, sop_class_uid: str | None, message_id: int, status: int, more: bytes
) -> bytes:
    body = b"" if sop_class_uid is None else _text_element(0x0002, sop_class_uid, b"\0")
    body += _FOUR_NUMBERS.pack(
        *(0, 0x0100, 2, field),
        *(0, 0x0120, 2, message_id),
        *(0, 0x0800, 2, NO_DATA_SET),
        *(0, 0x0900, 2, status),
    )
    return _whole(body + more)


def encode_store_request(
    sop_class_uid: str,
    sop_instance_uid: str,
    message_id: int,
    priority: int,
    move_originator: tuple[str, int] | None,
) -> bytes:
    """Return a C-STORE-RQ (PS3.7 Table 9.3-1), as `encode` would."""
    body = _text_element(0x0002, sop_class_uid, b"\0") + _FOUR_NUMBERS.pack(
        *(0, 0x0100, 2, C_STORE_RQ),
        *(0, 0x0110, 2, message_id),
        *(0, 0x0700, 2, priority),
        *(0, 0x0800, 2, _WITH_DATA_SET),
    )
    body += _text_element(0x1000, sop_instance_uid, b"\0")
    if move_originator is not None:
        title, number = move_originator
        body += _text_element(0x1030, title, b" ") + _NUMBER.pack(0, 0x1031, 2, number)
    return _whole(body)


def _whole(body: bytes) -> bytes:
    """Return the elements of a command set with their group length before them (PS3.7 E.1)."""
    return _HEADER.pack(0, 0, 4) + _UNSIGNED_LONG.pack(len(body)) + body
