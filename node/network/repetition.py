"""C-STORE requests that differ from one judged before only in what is different each time.

A modality sends the same command set for every instance but for its Message ID and its Affected SOP
Instance UID. So the first one is decoded and judged, and those that follow are compared with it,
byte by byte: one that is equal in all else, whose lengths fit and whose instance UID is a UID, is
as good as the first. Anything else is decoded and judged as the first was. Pure functions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

from node.dicom.uids import is_uid
from node.network.command_set import Command
from node.network.kernel import KERNEL

#: PDV length, context ID, control header (PS3.8 9.3.5.1, E.2); group length (PS3.7 E.1).
_PDV: Final = struct.Struct(">IBB")
_GROUP_LENGTH_AT: Final = 14
_COMMAND_AT: Final = 18
_ELEMENT: Final = struct.Struct("<HHI")
_MESSAGE_ID: Final = 0x0110
_SOP_INSTANCE: Final = 0x1000
#: The last fragment, here the only one, of a command set.
_LAST_COMMAND: Final = 3


#: The command set, and what differs in it: Message ID and SOP Instance UID.
Repeated: TypeAlias = tuple[bytes, int, str]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A C-STORE-RQ in one PDV, and where in the body of its PDU the values lie that change."""

    body: bytes
    message_id_at: int
    instance_at: int
    context_id: int
    command: Command


def pattern_of(context_id: int, encoded: bytes, command: Command) -> Pattern | None:
    """Return the pattern of a C-STORE-RQ that was judged good; None where there is none in it.

    The instance UID has to be its last element, and no element may be there twice.
    """
    body = _PDV.pack(len(encoded) + 2, context_id, _LAST_COMMAND) + encoded
    found: dict[int, tuple[int, int]] = {}
    position = _COMMAND_AT
    while position < len(body):
        _, element, value_length = _ELEMENT.unpack_from(body, position)
        position += _ELEMENT.size
        if element in found:
            return None
        found[element] = position, value_length
        position += value_length
    message_id_at, _ = found[_MESSAGE_ID]
    instance_at, instance_length = found[_SOP_INSTANCE]
    if instance_at + instance_length != len(body) or message_id_at > instance_at:
        return None
    return Pattern(body, message_id_at, instance_at, context_id, command)


def repeated_in_python(
    body: memoryview, model: bytes, message_id_at: int, instance_at: int
) -> Repeated | None:
    """Return a request like `model`; None if it is not."""
    length = len(body)
    if (
        length <= instance_at
        or body[4:_GROUP_LENGTH_AT] != model[4:_GROUP_LENGTH_AT]
        or body[_COMMAND_AT:message_id_at] != model[_COMMAND_AT:message_id_at]
        or body[message_id_at + 2 : instance_at - 4] != model[message_id_at + 2 : instance_at - 4]
        or int.from_bytes(body[:4], "big") != length - 4
        or int.from_bytes(body[_GROUP_LENGTH_AT:_COMMAND_AT], "little") != length - _COMMAND_AT
        or int.from_bytes(body[instance_at - 4 : instance_at], "little") != length - instance_at
    ):
        return None
    instance = bytes(body[instance_at:]).rstrip(b" \0").decode("ascii", "replace")
    if not is_uid(instance):
        return None
    message_id = int.from_bytes(body[message_id_at : message_id_at + 2], "little")
    return bytes(body[_PDV.size :]), message_id, instance


#: Does what `repeated_in_python` does.
repeated: Final = repeated_in_python if KERNEL is None else KERNEL.repeated
