"""`dcmpress echo AET@HOST:PORT`: ask a peer whether it is there, and tell how long it took.

One association, one C-ECHO (PS3.7 9.1.5). Raises `PeerUnreachable` where nobody answers,
`PeerRefused` where the peer rejects the association, does not offer Verification, or answers with
a failure.
"""

from __future__ import annotations

import time
from typing import Annotated, TypeAlias

import typer

from node.dicom import status
from node.dicom.contexts import VERIFICATION, Proposal
from node.dicom.uids import IMPLICIT_VR_LE
from node.errors import PeerRefused
from node.network.store_scu import Peer, connect
from node.settings import parse_peer
from node.settings.values import Unfit, check_ae_title


def calling_ae_title(text: str) -> str:
    """Check what `--calling` says."""
    try:
        return check_ae_title(text)
    except Unfit as unfit:
        raise typer.BadParameter(f"the AE title {unfit}") from None


Calling: TypeAlias = Annotated[
    str, typer.Option(metavar="AET", help="Our own AE title.", callback=calling_ae_title)
]


def peer_of(address: str, calling: str) -> Peer:
    """Return whom `AET@HOST:PORT` names; raises `UsageError`."""
    peer = parse_peer(address)
    return Peer(ae_title=peer.ae_title, host=peer.host, port=peer.port, calling_ae_title=calling)


def echo(
    address: Annotated[str, typer.Argument(metavar="AET@HOST:PORT", help="Whom to ask.")],
    calling: Calling = "DCMPRESS",
) -> None:
    """Ask a peer whether it is there (C-ECHO)."""
    peer = peer_of(address, calling)
    began = time.perf_counter()
    association = connect(peer, [Proposal(VERIFICATION, IMPLICIT_VR_LE)])
    established = time.perf_counter()
    try:
        answer = association.echo()
    finally:
        association.close()
    answered = time.perf_counter()
    if answer != status.SUCCESS:
        raise PeerRefused(f"{peer} answered the C-ECHO with {status.describe(answer)}")
    print(
        f"{peer} answered in {_milliseconds(answered - began)} "
        f"(association {_milliseconds(established - began)}, "
        f"C-ECHO {_milliseconds(answered - established)})"
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
