"""DIMSE messages, received in a stream and answered at once (PS3.7 section 9, PS3.8 Annex E).

Takes the place of pynetdicom's `DIMSEServiceProvider`. Fragments go from the receive buffer to
their place with one copy. A C-STORE-RQ becomes a `StoreRequest`, whose data set a handler reads
with `received_data(event)`; other messages are decoded by pynetdicom.

The rules of a message are kept here: its fragments in order, on an accepted context, a command
set of at most 64 KiB. A fault is answered with A-ABORT (through `UpperLayer.protest`); a request
that is whole but cannot be served becomes `Refused`, and is answered with its status once the
requestor has sent all of it. Nothing a peer sends raises.
"""

from __future__ import annotations

import struct
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom import evt
from pynetdicom.dimse_primitives import C_CANCEL, N_EVENT_REPORT

from node.errors import InstanceRefused
from node.network import command_set
from node.network.command_set import Command
from node.network.data_set import Assembly, ReceivedData, TooMuch, in_memory_bytes
from node.network.indications import DataTransfer, Mailbox
from node.network.limits import KIB
from node.network.message_sender import LARGEST_PDU, MessageSender
from node.network.messages import (
    Message,
    StoreRequest,
    as_pynetdicom,
    close_data_of,
    primitive_of,
    received_data,
    store_request,
)
from node.network.pdu_reader import INVALID_PARAMETER, UNEXPECTED_PARAMETER, PDUReader
from node.network.repetition import Pattern, Repeated, pattern_of, repeated
from node.network.services import Refused, refusal_of

if TYPE_CHECKING:
    from node.network.association import NodeAssociation

__all__ = ["LARGEST_PDU", "MessageProvider", "StoreRequest", "received_data"]

#: PDV length, presentation context ID, message control header (PS3.8 9.3.5.1 and E.2).
_PDV: Final = struct.Struct(">IBB")
_PDV_HEADER_BYTES: Final = 6
_IS_COMMAND: Final = 1
_IS_LAST: Final = 2

#: After a data set of this size the next request mostly comes with as much, which takes the sender
#: longer to begin with than waiting awake is worth.
_LARGE_BYTES: Final = 64 * KIB
#: A requestor can cancel only what it asked for; pynetdicom keeps as many.
_MOST_CANCELS: Final = 10


class MessageProvider(MessageSender):
    """The DIMSE half of one association."""

    assoc: NodeAssociation
    msg_queue: Any

    def __init__(self, assoc: NodeAssociation) -> None:
        super().__init__(assoc)
        self._cancels: dict[int, C_CANCEL] = {}
        self.message = None
        self.msg_queue = Mailbox()
        self._limits = assoc.limits
        self._command = bytearray()
        self._context_id = 0
        self._message: Message | None = None
        self._pattern: Pattern | None = None
        self._last_was_large = False

    @property
    def is_receiving(self) -> bool:
        """Tell whether a message has begun and not ended."""
        return self._message is not None or bool(self._command)

    # -- for service classes and the association ----------------------------------------------

    @property
    def cancel_req(self) -> dict[int, C_CANCEL]:
        """Return the C-CANCEL requests, after a look at the connection."""
        self._assoc.dul.pump_what_is_there()
        return self._cancels

    @cancel_req.setter
    def cancel_req(self, value: dict[int, C_CANCEL]) -> None:
        self._cancels = value

    def next_message(self, idle_seconds: float | None, end: float | None = None) -> tuple[Any, Any]:
        """Wait for a message; (None, None) if nothing arrives for so long, or something else, or
        it is later than `end` of the monotonic clock.
        """
        dul, waiting = self._assoc.dul, self.msg_queue
        while not waiting:
            now = time.monotonic()
            if end is not None and now >= end:
                return None, None
            deadline = None if idle_seconds is None else now + idle_seconds
            if end is not None:
                deadline = end if deadline is None else min(end, deadline)
            if dul.to_user_queue or not dul.pump(deadline):
                return None, None
        message: tuple[int, Any] = waiting.popleft()
        return message

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message for a waiting `send_*` method, or (None, None)."""
        if not block:
            self._assoc.dul.pump_what_is_there()
            return (None, None) if self.msg_queue.empty() else self.msg_queue.get()
        return self.get_response(self.dimse_timeout)

    def get_response(self, seconds: float | None, end: float | None = None) -> Any:
        """Wait for a message that answers us; serve what the peer asks meanwhile.

        The time begins anew with every PDU, but does not go beyond `end` of the monotonic clock.
        """
        while True:
            context_id, message = self.next_message(seconds, end)
            is_report = isinstance(message, N_EVENT_REPORT) and message.is_valid_request
            if not is_report and not isinstance(message, Refused):
                if self._assoc.is_acceptor:
                    close_data_of(message)  # a C-STORE is no answer, and is not served here
                return context_id, message
            self._assoc._serve_request(message, context_id)

    def abandon(self) -> None:
        """Forget the message that was being received; the association has ended."""
        if self._message is not None and self._message.assembly is not None:
            self._message.assembly.abandon()
        self._message = None
        self._command.clear()
        while not self.msg_queue.empty():
            close_data_of(self.msg_queue.get()[1])

    # -- receiving -----------------------------------------------------------------------------

    def receive_primitive(self, primitive: Any) -> None:
        """Take the PDVs of a P-DATA indication (DT-2, AR-6)."""
        # PS3.8 7.2.2.5 lets the peer send until it answers; nobody wants it any more.
        if not self._assoc._sent_release:
            self.take_pdvs(cast(DataTransfer, primitive).body)

    def take_pdvs(self, body: memoryview) -> bool:
        """Take the PDVs of a P-DATA-TF PDU; False when one of them ended the association."""
        if self._pattern is not None and self._recognise(self._pattern, body):
            return True
        position, end = 0, len(body)
        while position < end:
            if end - position < _PDV_HEADER_BYTES:
                return self._protest("PDV header reaches beyond its PDU", INVALID_PARAMETER)
            length, context_id, header = _PDV.unpack_from(body, position)
            stop = position + 4 + length
            if length < 2 or stop > end:
                return self._protest(f"PDV of {length} bytes", INVALID_PARAMETER)
            if not self._take(context_id, header, body[position + _PDV_HEADER_BYTES : stop]):
                return False
            position = stop
        return True

    def take_store(self, reader: PDUReader, begin_by: float | None) -> bool:
        """Begin with a C-STORE-RQ that is like the last one; False where something else comes."""
        pattern = self._pattern
        if pattern is None or self._message is not None or self._command:
            return False
        room = in_memory_bytes(self._limits, self._assoc.spill)
        found = reader.take_store(pattern, room, begin_by, self._last_was_large)
        if found is None:
            return False
        request, data = found
        if data is None:
            self._begin_repeated(pattern, request)
        else:
            message = self._message_like(pattern, request)
            self._pass_on(message, ReceivedData(None, data, len(data)))
        return True

    def take_fragments(self, reader: PDUReader) -> bool:
        """Take what comes of a data set, in a run; True when that made its message whole."""
        message = self._message
        if message is None or message.assembly is None or message.assembly.failure is not None:
            return False
        if not reader.take_fragments(
            message.context_id, message.assembly, self._limits.idle_seconds
        ):
            return False
        self._complete(message)
        return True

    def _protest(self, what: str, reason: int) -> bool:
        self._assoc.dul.protest(what, reason)
        return False

    def _take(self, context_id: int, header: int, fragment: memoryview) -> bool:
        """Take one fragment; False when it ended the association."""
        message = self._message
        if header & _IS_COMMAND:
            return self._take_command(context_id, header, fragment)
        if message is None or message.assembly is None or message.context_id != context_id:
            return self._protest("data fragment without its command", UNEXPECTED_PARAMETER)
        try:
            message.assembly.write(fragment)
        except TooMuch:
            return self._protest("data set does not end", INVALID_PARAMETER)
        if header & _IS_LAST:
            return self._complete(message)
        return True

    def _take_command(self, context_id: int, header: int, fragment: memoryview) -> bool:
        if self._message is not None or (self._command and context_id != self._context_id):
            return self._protest("command fragment inside a message", UNEXPECTED_PARAMETER)
        if context_id not in self._assoc._accepted_cx:
            return self._protest(f"context {context_id} is not accepted", UNEXPECTED_PARAMETER)
        if len(self._command) + len(fragment) > self._limits.command_bytes:
            return self._protest("command set does not end", INVALID_PARAMETER)
        self._context_id = context_id
        self._command += fragment
        if not header & _IS_LAST:
            return True
        encoded = bytes(self._command)
        self._command.clear()
        try:
            command = command_set.decode(encoded)
        except command_set.MalformedCommandSet as error:
            return self._protest(f"command set {error}", INVALID_PARAMETER)
        return self._begin(context_id, command, encoded)

    def _recognise(self, pattern: Pattern, body: memoryview) -> bool:
        """Do as `take_store` does, with the body of a PDU that was read."""
        if self._message is not None or self._command:
            return False
        found = repeated(body, pattern.body, pattern.message_id_at, pattern.instance_at)
        if found is None:
            return False
        self._begin_repeated(pattern, found)
        return True

    def _begin_repeated(self, pattern: Pattern, request: Repeated) -> None:
        assembly = Assembly(self._limits, self._assoc.spill, self._assoc.pool)
        self._message = self._message_like(pattern, request, assembly)

    def _message_like(
        self, pattern: Pattern, differs: Repeated, assembly: Assembly | None = None
    ) -> Message:
        """Return a C-STORE request that is as the pattern's, but for what differs."""
        encoded, message_id, instance = differs
        command = {**pattern.command, "MessageID": message_id, "AffectedSOPInstanceUID": instance}
        return self._store_message(pattern.context_id, command, encoded, assembly)

    def _store_message(
        self, context_id: int, command: Command, encoded: bytes, assembly: Assembly | None
    ) -> Message:
        # It must not raise, whatever a peer sends: the command was judged.
        request = store_request(context_id, command, self._assoc._accepted_cx[context_id])
        return Message(context_id, command, encoded, assembly, request)

    def _begin(self, context_id: int, command: Command, encoded: bytes) -> bool:
        """Make ready for the data set that `command` announces, if it does."""
        refusal = refusal_of(command, self._assoc._accepted_cx[context_id])
        if command["CommandDataSetType"] == command_set.NO_DATA_SET:
            return self._complete(Message(context_id, command, encoded, None), refusal)
        assembly = self._assembly_for(command)
        message = Message(context_id, command, encoded, assembly)
        if refusal is not None:
            assembly.refuse(refusal)
        elif command["CommandField"] == command_set.C_STORE_RQ:
            self._pattern = pattern_of(context_id, encoded, command)
            message = self._store_message(context_id, command, encoded, assembly)
        self._message = message
        return True

    def _assembly_for(self, command: Command) -> Assembly:
        limits, pool = self._limits, self._assoc.pool
        if command["CommandField"] == command_set.C_STORE_RQ:
            return Assembly(limits, self._assoc.spill, pool)
        most = limits.message_bytes
        return Assembly(replace(limits, instance_bytes=most, discard_bytes=most), None, pool)

    def _complete(self, message: Message, failure: InstanceRefused | None = None) -> bool:
        """Pass a whole message on, or the failure that answers it."""
        self._message = None
        data = None
        if message.assembly is not None:
            data = message.assembly.finish()
            failure = message.assembly.failure
        if failure is not None:
            refused: Any = Refused(message.command, failure)
            self.msg_queue.put((message.context_id, refused))
            return True
        return self._pass_on(message, data)

    def _pass_on(self, message: Message, data: ReceivedData | None) -> bool:
        """Pass a message on; False where it cannot be understood."""
        request = message.request
        if request is not None:
            request.data = data
        self._last_was_large = data is not None and data.nbytes >= _LARGE_BYTES
        try:
            if self._assoc.watched.message_received:
                self._announce(message)
            primitive = primitive_of(message, data) if request is None else request
        except Exception as error:  # pynetdicom's setters raise whatever they like
            if data is not None:
                data.close()
            return self._protest(f"message cannot be understood: {error}", INVALID_PARAMETER)
        if not isinstance(primitive, C_CANCEL):
            self.msg_queue.put((message.context_id, primitive))
        elif len(self._cancels) < _MOST_CANCELS:
            self._cancels[cast(int, primitive.MessageIDBeingRespondedTo)] = primitive
        return True

    def _announce(self, message: Message) -> None:
        """Trigger `EVT_DIMSE_RECV`, with the command set only for a C-STORE request."""
        decoded = as_pynetdicom(message, b"")
        evt.trigger(self.assoc, evt.EVT_DIMSE_RECV, {"message": decoded})
