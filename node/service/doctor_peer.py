"""What is well on the way to a destination: its name, TCP, TLS, the association, every context.

Steps are taken in order and end at the first that fails, since the next could tell nothing. No
instance is sent. What is asked for are the storage classes that are met most, each in the transfer
syntaxes in which the node would send it.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from pydicom.uid import UID

from node.dicom import status
from node.dicom.contexts import VERIFICATION, Proposal
from node.dicom.uids import EXPLICIT_VR_LE, IMPLICIT_VR_LE, name_of
from node.errors import PeerRefused, PeerUnreachable
from node.network.certificate import Certificate, shown_by
from node.network.store_scu import NothingAccepted, Peer, StoreSCU, connect
from node.network.tls import client_context
from node.service.findings import Finding, fail, ok, warn

#: Computed and digital radiography, CT, MR, ultrasound, … : what modalities send most.
_CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.12.1",
    "1.2.840.10008.5.1.4.1.1.12.2",
    "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.88.33",
)
_UNREACHABLE: Final = "see that it runs, and listens there; then look at its log, and at firewalls"
_NATIVE: Final = (EXPLICIT_VR_LE, IMPLICIT_VR_LE)


def examine_peer(name: str, peer: Peer, compressed_uid: str) -> Iterator[Finding]:
    """Go to `peer`; `compressed_uid` is the transfer syntax we encode in, "" where in none."""
    subject = name
    try:
        yield from _network(subject, peer)
        yield from _association(subject, peer, compressed_uid)
    except NothingAccepted as failure:
        yield fail(subject, PeerRefused, str(failure), "it is no storage SCP, or not for us")
    except PeerRefused as failure:
        yield fail(subject, PeerRefused, str(failure), "see the message; then its own log")
    except PeerUnreachable as failure:
        yield fail(subject, PeerUnreachable, str(failure), _UNREACHABLE)


def _network(subject: str, peer: Peer) -> Iterator[Finding]:
    try:
        found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except OSError as failure:
        raise PeerUnreachable(f"{peer.host} has no address: {failure.strerror}") from failure
    addresses = ", ".join(dict.fromkeys(str(item[4][0]) for item in found))
    yield ok(subject, f"{peer.host} is {addresses}")
    began = time.perf_counter()
    try:
        connection = socket.create_connection((peer.host, peer.port), peer.connect_seconds)
    except OSError as failure:
        raise PeerUnreachable(
            f"no TCP connection to port {peer.port}: {failure.strerror or failure}"
        ) from failure
    with closing(connection):
        yield ok(subject, f"TCP to port {peer.port} in {_since(began)}")
        if peer.tls is not None:
            yield from _handshake(subject, peer, connection)


def _handshake(subject: str, peer: Peer, connection: socket.socket) -> Iterator[Finding]:
    """Yield how TLS goes, and each certificate that the peer shows."""
    assert peer.tls is not None
    began = time.perf_counter()
    try:
        context = client_context(peer.tls)
        secured = context.wrap_socket(connection, server_hostname=peer.tls.name)
    except ssl.SSLCertVerificationError as failure:
        for line in _chain(_shown_without_trust(peer)):
            yield warn(subject, f"{line}, does not verify", "see the failure below")
        raise PeerUnreachable(f"TLS: its certificate: {failure.verify_message}") from failure
    except OSError as failure:
        raise PeerUnreachable(f"TLS: {failure.strerror or failure}") from failure
    with closing(secured):
        cipher = secured.cipher()
        how = f"{secured.version()} with {cipher[0] if cipher else '?'} in {_since(began)}"
        yield ok(subject, how)
        for line in _chain(shown_by(secured)):
            yield ok(subject, f"{line}, verifies")


def _chain(certificates: list[Certificate]) -> Iterator[str]:
    for number, each in enumerate(certificates, 1):
        yield f"certificate {number} of {len(certificates)}: {each}"


def _shown_without_trust(peer: Peer) -> list[Certificate]:
    """Return what a peer shows that is not trusted; nothing is sent to it."""
    assert peer.tls is not None
    context = client_context(peer.tls)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = peer.host, peer.port
    try:
        with (
            socket.create_connection(address, peer.connect_seconds) as connection,
            context.wrap_socket(connection, server_hostname=peer.tls.name) as secured,
        ):
            return shown_by(secured)
    except OSError:
        return []


def _association(subject: str, peer: Peer, compressed_uid: str) -> Iterator[Finding]:
    syntaxes = [uid for uid in (compressed_uid, *_NATIVE) if uid]
    proposals = [Proposal(VERIFICATION, IMPLICIT_VR_LE)]
    proposals += [Proposal(sop_class, uid) for sop_class in _CLASSES for uid in syntaxes]
    began = time.perf_counter()
    with closing(connect(peer, proposals)) as association:
        text = f"association with {peer} as {peer.calling_ae_title} in {_since(began)}"
        yield ok(subject, text)
        yield _echo(subject, association)
        for sop_class in _CLASSES:
            yield _context(subject, association, sop_class, syntaxes)


def _echo(subject: str, association: StoreSCU) -> Finding:
    if not association.accepts(VERIFICATION, IMPLICIT_VR_LE):
        return warn(subject, "it does not take C-ECHO", "every DICOM node should (PS3.2 7)")
    began = time.perf_counter()
    answer = association.echo()
    if answer != status.SUCCESS:
        return warn(subject, f"C-ECHO: {status.describe(answer)}", "look at its log")
    return ok(subject, f"C-ECHO in {_since(began)}")


def _context(subject: str, association: StoreSCU, sop_class: str, syntaxes: list[str]) -> Finding:
    taken = [name_of(uid) for uid in syntaxes if association.accepts(sop_class, uid)]
    refused = [name_of(uid) for uid in syntaxes if not association.accepts(sop_class, uid)]
    name = UID(sop_class).name
    if not taken:
        return warn(
            subject,
            f"{name}: refused in {', '.join(refused)}",
            "instances of this class would be set aside as failed: enable it there",
        )
    but = f"; not in {', '.join(refused)}" if refused else ""
    return ok(subject, f"{name}: accepted in {', '.join(taken)}{but}")


def _since(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.1f} ms"
