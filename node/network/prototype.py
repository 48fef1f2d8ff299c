"""What all associations of one listening address begin as, and what they share.

pynetdicom validates each UID of a service user again and again, and looks numeric addresses up.
Here the service users are made once, and copied for each association.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.association import Association, ServiceUser
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from node.network.alertness import Alertness
from node.network.answers import Answers, what_we_are
from node.network.arena import Pool
from node.network.indications import like
from node.network.limits import Limits


class Prototype:
    """The acceptor of every association, and its requestor before it has said anything."""

    def __init__(
        self,
        ae: AE,
        ae_title: str,
        address: tuple[str, int],
        contexts: list[PresentationContext],
        limits: Limits,
    ) -> None:
        self.pool = Pool()
        #: Of how soon peers go on. Fast and slow ones share it; the many decide.
        self.alertness = Alertness()
        self.answers = Answers()
        # All that a service user asks of its association while it is made.
        nobody: Any = SimpleNamespace(ae=ae)
        self._requestor = ServiceUser(nobody, MODE_REQUESTOR)
        self._acceptor = ServiceUser(nobody, MODE_ACCEPTOR)
        self._acceptor.maximum_length = limits.max_pdu
        self._acceptor.ae_title = ae_title
        self._acceptor.address_info = AddressInformation.from_tuple(address)
        self._acceptor.implementation_class_uid = ae.implementation_class_uid
        self._acceptor.implementation_version_name = ae.implementation_version_name
        self._acceptor.supported_contexts = contexts
        #: What we are to everybody whose association changes nothing about it; the contexts that
        #: were listened with stay as they are.
        self.is_everybody = what_we_are(self._acceptor)

    def requestor(self, assoc: Association, address: tuple[Any, ...]) -> ServiceUser:
        """Return the requestor of a new association, of which an acceptor changes nothing."""
        mine = like(self._requestor)
        mine.assoc = assoc
        mine.address_info = _numeric(*address[:2])
        mine._common_ext = {}
        return mine

    def acceptor(self, assoc: Association) -> ServiceUser:
        """Return the acceptor of a new association: what we are to everybody."""
        return _copy_of(self._acceptor, assoc)


def _numeric(address: str, port: int) -> AddressInformation:
    """Return an address as the kernel says it: there is nothing to look up."""
    information = AddressInformation.__new__(AddressInformation)
    information._addr, information.port = address, port
    information.flowinfo = information.scope_id = 0
    return information


def _copy_of(user: ServiceUser, assoc: Association) -> ServiceUser:
    """Return a service user like `user`, of `assoc`; its contexts are shared, and only read.

    A handler of EVT_REQUESTED that wants others sets a list of its own.
    """
    mine = like(user)
    mine.assoc = assoc
    mine._user_info = [like(item) for item in user._user_info]
    mine._ext_neg = {kind: list(items) for kind, items in user._ext_neg.items()}
    mine._common_ext = {}
    return mine
