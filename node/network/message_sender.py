"""DIMSE messages on their way out (PS3.7 section 9, PS3.8 Annex E).

The answers of every day, a C-STORE-RSP and a C-ECHO-RSP, are encoded without a `Dataset`; others
go pynetdicom's way. A command set that fits goes out in one PDU and one system call.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.pdu_primitives import P_DATA

from node.network import command_set
from node.network.command_set import Command
from node.network.limits import KIB

if TYPE_CHECKING:
    from node.network.association import NodeAssociation

_PDV_HEADER_BYTES: Final = 6
_IS_COMMAND: Final = 1
_IS_LAST: Final = 2

#: To a peer that sets no limit (PS3.8 D.1), and instead of an absurd one.
LARGEST_PDU: Final = 128 * KIB


class MessageSender(DIMSEServiceProvider):
    """The sending half of a DIMSE provider."""

    # The parent's initialiser makes a locked queue: not called.
    def __init__(self, assoc: NodeAssociation) -> None:
        self._assoc: NodeAssociation = assoc

    @cached_property
    def maximum_pdu_size(self) -> int:
        """Return the length of the longest PDU to send; it stays as it was first looked up."""
        return min(super().maximum_pdu_size or LARGEST_PDU, LARGEST_PDU)

    def forget_maximum_pdu_size(self) -> None:
        """Called when the peer has said what it takes: who asked before was told a default."""
        self.__dict__.pop("maximum_pdu_size", None)

    def send_store_response(
        self, request: C_STORE, context_id: int, status: int, comment: str
    ) -> None:
        """Answer a C-STORE request."""
        if self._assoc.watched.message_sent:
            response = C_STORE()
            response.MessageIDBeingRespondedTo = request.MessageID
            response.AffectedSOPClassUID = request.AffectedSOPClassUID
            response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
            response.Status = status
            response.ErrorComment = cast(Any, comment or None)
            self.send_msg(response, context_id)
            return
        sop_class: Any = request._affected_sop_class_uid
        sop_instance: Any = request._affected_sop_instance_uid
        message_id: Any = request._message_id
        named = sop_class, sop_instance, message_id, status
        if comment or not self._responds_at_once(context_id, command_set.C_STORE_RSP, *named):
            self.send_encoded(command_set.encode_store_response(*named, comment), context_id)

    def send_echo_response(self, request: C_ECHO, context_id: int, status: int) -> None:
        """Answer a C-ECHO request."""
        if self._assoc.watched.message_sent:
            response = C_ECHO()
            response.MessageIDBeingRespondedTo = request.MessageID
            response.AffectedSOPClassUID = request.AffectedSOPClassUID
            response.Status = status
            self.send_msg(response, context_id)
            return
        sop_class: Any = request._affected_sop_class_uid
        message_id: Any = request._message_id
        if not self._responds_at_once(
            context_id, command_set.C_ECHO_RSP, sop_class, "", message_id, status
        ):
            encoded = command_set.encode_echo_response(sop_class, message_id, status)
            self.send_encoded(encoded, context_id)

    def _responds_at_once(
        self,
        context_id: int,
        command_field: int,
        sop_class_uid: str | None,
        sop_instance_uid: str,
        message_id: int,
        status: int,
    ) -> bool:
        """Send a response that is made in one step, where it can be and fits into one PDU."""
        dul, room = self._assoc.dul, self.maximum_pdu_size - _PDV_HEADER_BYTES
        if (
            room < command_set.LONGEST_RESPONSE
            or sop_class_uid is None
            or len(sop_class_uid) > command_set.LONGEST_UID
            or not dul.is_next("Evt9", "DT-1")
        ):
            return False
        dul.send_encoded(
            command_set.response(
                context_id, command_field, sop_class_uid, sop_instance_uid, message_id, status
            )
        )
        return True

    def send_command(self, command: Command, context_id: int) -> None:
        """Send a command set in as many P-DATA as the peer's maximum length asks for."""
        self.send_encoded(command_set.encode(command), context_id)

    def command_pdu(self, encoded: bytes, context_id: int) -> bytes | None:
        """Return the one PDU of a command set, None where it has to go another way."""
        if len(encoded) > self.maximum_pdu_size - _PDV_HEADER_BYTES:
            return None
        return self._assoc.dul.command_pdu(context_id, encoded)

    def send_encoded(self, encoded: bytes, context_id: int) -> None:
        """Send a command set that was encoded, as `send_command` does."""
        dul = self._assoc.dul
        if (pdu := self.command_pdu(encoded, context_id)) is not None:
            dul.send_encoded(pdu)
            return
        step = self.maximum_pdu_size - _PDV_HEADER_BYTES
        for start in range(0, len(encoded), step):
            header = _IS_COMMAND | (_IS_LAST if start + step >= len(encoded) else 0)
            primitive = P_DATA()
            fragment = bytes([header]) + encoded[start : start + step]
            primitive.presentation_data_value_list.append((context_id, fragment))
            dul.send_pdu(primitive)
