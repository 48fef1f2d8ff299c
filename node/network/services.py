"""What is asked of us, and who answers it (PS3.7 9.1 and 10.1, PS3.4 Annexes A and B).

Pure judgement of a command set against its presentation context, and the hand-over of requests
to pynetdicom's service classes. A request that cannot be served becomes `Refused` and is answered
here with the status that PS3.7 Annex C has for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_messages import _MESSAGE_TYPES
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass, VerificationServiceClass
from pynetdicom.sop_class import uid_to_service_class

from node.dicom import status
from node.dicom.uids import is_uid
from node.errors import DataSetMismatch, InstanceRefused, InvalidSOPInstance
from node.network import command_set
from node.network.command_set import Command
from node.network.messages import StoreEvent, StoreRequest

if TYPE_CHECKING:
    from node.network.association import NodeAssociation

LOGGER = logging.getLogger(__name__)

#: Operations of the services we know; a C-ECHO is harmless on a storage context, and seen there.
_OPERATIONS: Final = {
    StorageServiceClass: frozenset({command_set.C_STORE_RQ, command_set.C_ECHO_RQ}),
    VerificationServiceClass: frozenset({command_set.C_ECHO_RQ}),
}

#: pynetdicom's own, which answers that all is well.
_DEFAULT_ECHO_HANDLER: Final = evt.get_default_handler(evt.EVT_C_ECHO)

#: Refused requests of one association that have a log line each.
_MOST_REFUSALS_TOLD: Final = 100
#: More than the Standard has; private ones that a peer invents do not stay.
_REMEMBERED_CLASSES: Final = 512


class UnrecognisedOperation(InstanceRefused):
    """The Command Field is unknown, or is none of this SOP class (PS3.7 C.5.9)."""

    dimse_status = status.UNRECOGNISED_OPERATION


class MistypedArgument(InstanceRefused):
    """A parameter is missing, or has the wrong VR or VM (PS3.7 C.5.15)."""

    dimse_status = status.MISTYPED_ARGUMENT


@dataclass(frozen=True, slots=True)
class Refused:
    """A whole request that is answered with a failure, without being looked at further."""

    command: Command
    failure: InstanceRefused


def refusal_of(command: Command, context: PresentationContext) -> InstanceRefused | None:
    """Return why the request in `command` cannot be served on `context`; None if it can."""
    field = command["CommandField"]
    assert isinstance(field, int)
    if field & command_set.RESPONSE or field == command_set.C_CANCEL_RQ:
        return None
    operations = _operations_of(str(context.abstract_syntax))
    if field not in operations:
        return UnrecognisedOperation(f"operation {field:04X} not supported here")
    if field == command_set.C_STORE_RQ:
        return _refusal_of_store(command, context)
    return None


@lru_cache(_REMEMBERED_CLASSES)
def _operations_of(abstract_syntax: str) -> frozenset[int]:
    """Return the Command Fields that are an operation of this SOP class."""
    return _OPERATIONS.get(uid_to_service_class(abstract_syntax), frozenset(_MESSAGE_TYPES))


def _refusal_of_store(command: Command, context: PresentationContext) -> InstanceRefused | None:
    sop_class = command.get("AffectedSOPClassUID")
    sop_instance = command.get("AffectedSOPInstanceUID")
    if not isinstance(sop_class, str) or not isinstance(sop_instance, str) or not sop_instance:
        return MistypedArgument("Affected SOP Class or Instance UID missing")
    if command["CommandDataSetType"] == command_set.NO_DATA_SET:
        return MistypedArgument("C-STORE without a data set")
    if sop_class != context.abstract_syntax:
        return DataSetMismatch("SOP class is not that of the presentation context")
    if not is_uid(sop_instance):
        return InvalidSOPInstance("Affected SOP Instance UID is no UID")
    return None


def serve_request(assoc: NodeAssociation, message: Any, context_id: int) -> bool:
    """Serve or answer one request; False where that is left to pynetdicom."""
    if isinstance(message, StoreRequest):
        _serve_store(assoc, message, context_id)
    elif isinstance(message, Refused):
        _answer(assoc, message, context_id)
    elif isinstance(message, C_ECHO) and message.MessageIDBeingRespondedTo is None:
        _serve_echo(assoc, message, context_id)
    else:
        return False
    return True


def _serve_store(assoc: NodeAssociation, request: StoreRequest, context_id: int) -> None:
    """Serve a C-STORE for any SOP class, private and unknown ones too (PS3.4 B.2).

    What pynetdicom's `StorageServiceClass` does, without validating each UID four times.
    """
    data = request.data
    try:
        outcome = _outcome_of(assoc, request, context_id)
        if data is not None and data.path is not None:
            data.close()  # of what was refused nothing is left when that is told
        if assoc.is_established:
            assoc.dimse.send_store_response(request, context_id, *outcome)
    finally:
        # Memory goes back when the requestor has its answer.
        if data is not None:
            data.close()


def _outcome_of(assoc: NodeAssociation, request: StoreRequest, context_id: int) -> tuple[int, str]:
    """Return what the handler makes of an instance."""
    try:
        handler, more = assoc.get_handlers(evt.EVT_C_STORE)
        event = StoreEvent(assoc, request, assoc.context_as_tuple(context_id))
        return _status_of(handler(event, *more) if more else handler(event))
    except Exception:
        LOGGER.exception("handler of EVT_C_STORE failed")
        return status.PROCESSING_FAILURE, "internal error"


def _serve_echo(assoc: NodeAssociation, request: C_ECHO, context_id: int) -> None:
    """Serve a C-ECHO (PS3.4 A.4), as pynetdicom's `VerificationServiceClass` does."""
    answer = status.SUCCESS
    if assoc.get_handlers(evt.EVT_C_ECHO)[0] is not _DEFAULT_ECHO_HANDLER:
        answer = _what_the_handler_says(assoc, request, context_id)
    if assoc.is_established:
        assoc.dimse.send_echo_response(request, context_id, answer)
        if assoc.on_echo is not None:
            assoc.on_echo()


def _what_the_handler_says(assoc: NodeAssociation, request: C_ECHO, context_id: int) -> int:
    attributes = {"request": request, "context": assoc.context_as_tuple(context_id)}
    try:
        return _status_of(evt.trigger(assoc, evt.EVT_C_ECHO, attributes))[0]
    except Exception:
        LOGGER.exception("handler of EVT_C_ECHO failed")
        return status.PROCESSING_FAILURE


def _status_of(answer: Any) -> tuple[int, str]:
    """Return the status and Error Comment in what a handler returned.

    A number, both as a tuple, or a `Dataset` as pynetdicom has it.
    """
    if isinstance(answer, int):
        return answer, ""
    if isinstance(answer, tuple):
        return answer
    if isinstance(answer, Dataset) and "Status" in answer:
        return int(answer.Status), str(answer.get("ErrorComment", ""))
    raise TypeError(f"a status was expected, not {answer!r}")


def _answer(assoc: NodeAssociation, refused: Refused, context_id: int) -> None:
    command, failure = refused.command, refused.failure
    field = command["CommandField"]
    assert isinstance(field, int)
    tell_of_refusal(assoc, _subject_of(command), failure.dimse_status, str(failure))
    if field == command_set.C_STORE_RQ and assoc.on_refused is not None:
        assoc.on_refused()
    assoc.dimse.send_command(
        {
            "CommandField": field | command_set.RESPONSE,
            "MessageIDBeingRespondedTo": command["MessageID"],
            "CommandDataSetType": command_set.NO_DATA_SET,
            "Status": failure.dimse_status,
            "ErrorComment": str(failure),
        },
        context_id,
    )


def tell_of_refusal(assoc: NodeAssociation, subject: str, code: int, why: str) -> None:
    """Log what was answered with a failure: the first of an association, which may do it for ever.

    How many there were is in the line that its end is told in.
    """
    assoc.refusals_told += 1
    if assoc.refusals_told > _MOST_REFUSALS_TOLD:
        return
    answer = status.describe(code)
    LOGGER.warning("%s: %s answered with %s: %s", assoc.peer_name, subject, answer, why)
    if assoc.refusals_told == _MOST_REFUSALS_TOLD:
        LOGGER.warning("%s: what else it is refused is only counted", assoc.peer_name)


def _subject_of(command: Command) -> str:
    """Return which instance a request is about, or which request it is, for the log."""
    sop_instance = command.get("AffectedSOPInstanceUID")
    if isinstance(sop_instance, str) and is_uid(sop_instance):
        return sop_instance
    return f"operation {command['CommandField']:04X}"
