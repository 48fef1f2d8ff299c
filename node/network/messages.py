"""DIMSE messages, as the objects that pynetdicom's services take (PS3.7 section 9).

A C-STORE request becomes a `StoreRequest` as soon as its command set has come. Its data set stays
where it was received: a handler of EVT_C_STORE reads it with `received_data(event)`. Other messages
are made when they are whole: responses without a data set of their command set directly, everything
else is decoded by pynetdicom, whose setters raise what they like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any, Final, cast

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext, PresentationContextTuple

from node.network import command_set
from node.network.command_set import Command
from node.network.data_set import Assembly, ReceivedData

#: Message control header, the last fragment of a command set or of a data set (PS3.8 E.2).
_LAST_COMMAND: Final = b"\x03"
_LAST_DATA: Final = b"\x02"

#: Messages without a data set that are worth decoding without pydicom.
_SIMPLE: Final[Mapping[int, type[C_ECHO]]] = {
    command_set.C_ECHO_RSP: C_ECHO,
}


class _LeanStore(C_STORE):
    """A C-STORE message whose parameters are set without its setters, which judge them again."""

    OffendingElement = None
    ErrorComment = None

    # The parent's initialiser sets what is None anyway: not called.
    def __init__(self) -> None:
        pass


class StoreRequest(_LeanStore):
    """A C-STORE request whose data set stays where it was received."""

    data: ReceivedData | None = None

    @property
    def DataSet(self) -> BytesIO | None:
        """Return a copy of the data set, as pynetdicom's `event.dataset` asks for it."""
        return None if self.data is None else self.data.as_stream()

    @DataSet.setter
    def DataSet(self, value: BytesIO | None) -> None:
        pass

    @property
    def is_valid_request(self) -> bool:
        """Return True: what would not be valid was refused."""
        return True


@dataclass(slots=True)
class Message:
    """A message whose command set is complete, and whose data set, if it has one, is arriving."""

    context_id: int
    command: Command
    encoded_command: bytes
    assembly: Assembly | None
    #: A C-STORE request is made before its data set has come, where that is still to come: the
    #: requestor waits for what is done after that.
    request: StoreRequest | None = None


class StoreEvent(evt.Event):
    """An `EVT_C_STORE`, whose attributes are set without asking whether there are such already."""

    # The parent's initialiser takes them from a dictionary: not called.
    def __init__(
        self, assoc: Association, request: StoreRequest, context: PresentationContextTuple
    ) -> None:
        self.assoc = assoc
        self._event = evt.EVT_C_STORE
        self.timestamp = datetime.now()
        self._hash = None
        self._decoded = None
        self.request = request
        self.context = context


def received_data(event: evt.Event) -> ReceivedData:
    """Return the data set of an `EVT_C_STORE`, as it was received."""
    data = cast(StoreRequest, event.request).data
    assert data is not None
    return data


def close_data_of(message: Any) -> None:
    """Give back the data set of a C-STORE request that is served by nobody, or was; of no other."""
    if isinstance(message, StoreRequest) and message.data is not None:
        message.data.close()


def primitive_of(message: Message, data: ReceivedData | None) -> Any:
    """Return `message`, no C-STORE request, with its data set as the primitive that is served."""
    field: Any = message.command["CommandField"]
    encoded = b""
    if data is not None:
        encoded = bytes(data.buffer)
        data.close()
    if field == command_set.C_STORE_RSP:
        return _store_response(message)
    if field == command_set.C_ECHO_RQ:
        return _echo_request(message)
    if field not in _SIMPLE:
        return as_pynetdicom(message, encoded).message_to_primitive()
    primitive = cast(Any, _SIMPLE[field]())
    for keyword, value in message.command.items():
        if value is not None and hasattr(primitive, keyword):
            setattr(primitive, keyword, value)
    primitive._context_id = message.context_id
    return primitive


def store_request(context_id: int, judged: Command, context: PresentationContext) -> StoreRequest:
    """Return a C-STORE request; its parameters were judged, and are not judged again."""
    command: dict[str, Any] = judged
    request = StoreRequest()
    request._context_id = context_id
    request._message_id = command["MessageID"]
    # Equal to the Affected SOP Class UID, or the request would have been refused.
    request._affected_sop_class_uid = context.abstract_syntax
    request._affected_sop_instance_uid = _uid_in(command, "AffectedSOPInstanceUID")
    request._priority = command.get("Priority", 0)
    originator = command.get("MoveOriginatorApplicationEntityTitle")
    request._move_originator_application_entity_title = originator
    request._move_originator_message_id = command.get("MoveOriginatorMessageID")
    return request


def _uid_in(command: dict[str, Any], keyword: str) -> UID | None:
    value = command.get(keyword)
    # Judged already: what UID's own constructor does beyond this is to judge it.
    return None if value is None else str.__new__(UID, value)


def _store_response(message: Message) -> C_STORE:
    """Return the response in `message`, its UIDs as they came."""
    command: dict[str, Any] = message.command
    response = _LeanStore()
    response._context_id = message.context_id
    response._message_id_being_responded_to = command["MessageIDBeingRespondedTo"]
    response._status = command.get("Status")
    response._affected_sop_class_uid = _uid_in(command, "AffectedSOPClassUID")
    response._affected_sop_instance_uid = _uid_in(command, "AffectedSOPInstanceUID")
    if (comment := command.get("ErrorComment")) is not None:
        response.ErrorComment = comment
    return response


def _echo_request(message: Message) -> C_ECHO:
    """Return the request in `message`, which is answered with the class that it names."""
    command: dict[str, Any] = message.command
    request = C_ECHO()
    request._context_id = message.context_id
    request._message_id = command["MessageID"]
    request._affected_sop_class_uid = command.get("AffectedSOPClassUID")
    return request


def as_pynetdicom(message: Message, data: bytes) -> Any:
    """Return `message` as pynetdicom would have decoded it."""
    decoded = DIMSEMessage()
    primitive = P_DATA()
    pdvs = primitive.presentation_data_value_list
    pdvs.append((message.context_id, _LAST_COMMAND + message.encoded_command))
    if message.command["CommandDataSetType"] != command_set.NO_DATA_SET:
        pdvs.append((message.context_id, _LAST_DATA + data))
    decoded.decode_msg(primitive)
    return decoded
