"""Asking a peer for an association (PS3.8 section 7.1).

`associate` does what pynetdicom's `AE.associate` does, over this room's transport: the returned
association has no thread, and the caller's thread does the work. What came of it is told as
pynetdicom tells it, by `is_established`, `is_rejected` and `is_aborted`; a peer that cannot be
reached at all raises `PeerUnreachable`, and one that takes no PDU worth sending `PeerRefused`.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from copy import copy
from typing import Any, Final, cast

from pynetdicom import AE
from pynetdicom._globals import MODE_REQUESTOR
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from node.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.errors import PeerRefused, PeerUnreachable
from node.network.alertness import Alertness
from node.network.association import NodeAssociation
from node.network.connection import Connection
from node.network.limits import Limits
from node.network.pdu_reader import LEAST_MAXIMUM_LENGTH

#: A peer on this machine or in its rack has answered by then, if it keeps what it gets in memory.
_AWAKE_SECONDS: Final = 100e-6


def associate(
    *,
    address: tuple[str, int],
    calling_ae_title: str,
    called_ae_title: str,
    contexts: Sequence[PresentationContext],
    limits: Limits | None = None,
    ssl_context: ssl.SSLContext | None = None,
    server_name: str | None = None,
    connect_seconds: float = 10,
    answer_seconds: float = 30,
    response_seconds: float = 60,
    handlers: Sequence[Any] = (),
    extended_negotiation: Sequence[Any] = (),
    local_address: tuple[str, int] | None = None,
) -> NodeAssociation:
    """Return an association with `called_ae_title` at `address`, established or not."""
    limits = limits or Limits()
    ae = _application_entity(calling_ae_title, connect_seconds, answer_seconds, response_seconds)
    assoc = NodeAssociation(ae, MODE_REQUESTOR, limits)
    tls = (ssl_context, server_name or address[0]) if ssl_context is not None else None
    alertness = Alertness(_AWAKE_SECONDS)
    connection = Connection(assoc, tls=tls, local_address=local_address, alertness=alertness)
    assoc.set_socket(connection)
    try:
        assoc.acceptor.address_info = AddressInformation.from_tuple(address)
    except OSError as error:
        raise PeerUnreachable(f"{address[0]}: {error.strerror}") from error
    assoc.acceptor.ae_title = called_ae_title
    requestor = assoc.requestor
    requestor.ae_title = calling_ae_title
    requestor.maximum_length = limits.max_pdu
    requestor.implementation_class_uid = ae.implementation_class_uid
    requestor.implementation_version_name = ae.implementation_version_name
    for item in extended_negotiation:
        requestor.add_negotiation_item(item)
    requestor.requested_contexts = _numbered(contexts)
    for handler in handlers:
        assoc.bind(*handler)
    assoc.request()
    if connection.failure is not None:
        raise PeerUnreachable(
            f"{address[0]}:{address[1]}: {connection.failure.strerror or connection.failure}"
        ) from connection.failure
    _require_room(assoc)
    return assoc


def _require_room(assoc: NodeAssociation) -> None:
    """Raise `PeerRefused` where the peer takes PDUs too short for a fragment (PS3.8 D.1)."""
    if not assoc.is_established:
        return
    most = assoc.dimse.maximum_pdu_size
    if most < LEAST_MAXIMUM_LENGTH:
        assoc.abort()
        raise PeerRefused(
            f"{assoc.peer_name} takes PDUs of at most {most} bytes, fewer than "
            f"{LEAST_MAXIMUM_LENGTH}"
        )


def _application_entity(
    ae_title: str, connect_seconds: float, answer_seconds: float, response_seconds: float
) -> AE:
    ae = AE(ae_title)
    ae.implementation_class_uid = cast(Any, IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = connect_seconds
    ae.acse_timeout = answer_seconds
    ae.dimse_timeout = response_seconds
    return ae


def _numbered(contexts: Sequence[PresentationContext]) -> list[PresentationContext]:
    """Return copies of `contexts` with their IDs, odd numbers from 1 (PS3.8 9.3.2.2)."""
    numbered = []
    for index, context in enumerate(contexts):
        mine = copy(context)
        mine.context_id = 2 * index + 1
        numbered.append(mine)
    return numbered
