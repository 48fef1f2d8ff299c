"""An A-ASSOCIATE indication from a request that was judged (PS3.8 7.1.1, AE-6).

pynetdicom validates each UID of a request four times, which for the 128 contexts of a common
storage SCU takes longer than everything else in an association. The request has been judged
already, so its values are put where pynetdicom's setters would put them. The user information,
small and of many kinds, is left to pynetdicom's decoder, which raises what it likes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from pydicom import config
from pydicom.uid import UID
from pynetdicom.pdu_items import UserInformationItem
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from node.network.association_request import (
    APPLICATION_CONTEXT,
    PRESENTATION_CONTEXT,
    TRANSFER_SYNTAX,
    JudgedRequest,
    encoded_item,
    items,
)
from node.network.indications import like
from node.network.pdu_reader import ASSOCIATE_FIXED_BYTES

#: Twice the UIDs that the Standard registers; what a peer invents does not stay.
_REMEMBERED_UIDS: Final = 4096


def _uid(name: bytes) -> UID:
    # What pads it is not remembered: it may be long.
    return _remembered_uid(name.rstrip(b"\0 "))


@lru_cache(_REMEMBERED_UIDS)
def _remembered_uid(name: bytes) -> UID:
    return UID(name.decode("ascii"), validation_mode=config.IGNORE)


class JudgedPDU:
    """A judged A-ASSOCIATE-RQ, as the state table's AE-6 takes it, or the upper layer's user.

    It does not change, and may be shared.
    """

    def __init__(self, judged: JudgedRequest) -> None:
        self.judged = judged
        self.protocol_version = judged.body[1] & 1  # PS3.8 Table 9-11: only bit 0 is tested
        self._primitive = _primitive_of(judged.body)
        self.calling_ae_title: str = self._primitive.calling_ae_title
        self.called_ae_title: str = self._primitive.called_ae_title

    def to_primitive(self) -> A_ASSOCIATE:
        """Return the A-ASSOCIATE indication, whose contexts are shared and only read."""
        primitive = like(self._primitive)
        contexts = list(self._primitive._presentation_context_definition_list)
        primitive._presentation_context_definition_list = contexts
        primitive._user_information = [like(item) for item in self._primitive._user_information]
        return primitive


def _primitive_of(body: bytes) -> A_ASSOCIATE:
    primitive = A_ASSOCIATE()
    primitive.called_ae_title = body[4:20].decode("ascii").strip("\0 ")
    primitive.calling_ae_title = body[20:36].decode("ascii").strip("\0 ")
    for kind, value in items(body[ASSOCIATE_FIXED_BYTES:]):
        if kind == APPLICATION_CONTEXT:
            primitive._application_context_name = _uid(value)
        elif kind == PRESENTATION_CONTEXT:
            primitive._presentation_context_definition_list.append(_context(value))
        else:
            information: Any = UserInformationItem()
            information.decode(encoded_item(kind, value))
            primitive._user_information = information.to_primitive()
    return primitive


def _context(value: bytes) -> PresentationContext:
    context = PresentationContext()
    context._context_id = value[0]
    for kind, name in items(value[4:]):
        if kind == TRANSFER_SYNTAX:
            context._transfer_syntax.append(_uid(name))
        else:
            context._abstract_syntax = _uid(name)
    return context
