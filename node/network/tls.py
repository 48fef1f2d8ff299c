"""TLS for associations: PS3.15 B.12 and B.13, which are BCP 195 (RFC 8996 and RFC 9325).

TLS 1.2 and 1.3 and nothing older; forward secrecy and authenticated encryption only; no
compression, no renegotiation, no tickets. A connection is secured from its first byte or it is not
made: there is no upgrade from a plain one and no fall back to it.

`server_context` and `client_context` read their files anew each time and raise `BadConfiguration`
with the file that cannot be used. A context in use is never changed: who wants other certificates
makes another. `identities` are the names that the peer's certificate proves.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from node.errors import BadConfiguration
from node.network.certificate import expiry_of

#: RFC 9325 4.2: what is recommended, and what every TLS 1.2 peer has to have.
_BCP195: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
#: PS3.15 B.13: these too, as far as OpenSSL has them, and no others.
_MODIFIED: Final = (
    *_BCP195,
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES256-CCM8",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
)
#: The TLS 1.2 suites by profile. Those of TLS 1.3 are OpenSSL's, all of which B.13 permits.
PROFILES: Final = {"bcp195": _BCP195, "bcp195-modified": _MODIFIED}

_VERIFY: Final = {
    "require": ssl.CERT_REQUIRED,
    "if-present": ssl.CERT_OPTIONAL,
    "off": ssl.CERT_NONE,
}
_OPTIONS: Final = (
    ssl.OP_NO_COMPRESSION
    | ssl.OP_NO_RENEGOTIATION
    | ssl.OP_NO_TICKET
    | ssl.OP_CIPHER_SERVER_PREFERENCE
    | ssl.OP_SINGLE_ECDH_USE
)
#: A handshake is over after so many turns of both sides.
_FLIGHTS: Final = 4
#: A key that others than its owner and group can read, or that the group can write, is no secret.
_TOO_OPEN: Final = stat.S_IRWXO | stat.S_IWGRP


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """The files and rules of one side of TLS. `name` is what the peer's certificate must say."""

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    crl: Path | None = None
    verify_peer: str = "require"
    profile: str = "bcp195"
    name: str = ""


def server_context(tls: TLS) -> ssl.SSLContext:
    """Return what a listener secures connections with."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls)
    context.num_tickets = 0
    context.verify_mode = _VERIFY[tls.verify_peer]
    return context


def client_context(tls: TLS) -> ssl.SSLContext:
    """Return what a requestor secures connections with; the peer's name is always checked."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, tls)


def _context(protocol: Any, tls: TLS) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= _OPTIONS
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_ciphers(":".join(PROFILES[tls.profile]))
    for load in _loads(context, tls):
        load()
    if tls.crl is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def faults(tls: TLS) -> list[str]:
    """Return what is wrong with the files, all of it; nothing where they can be used."""
    found = []
    for load in _loads(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls):
        try:
            load()
        except BadConfiguration as failure:
            found.append(str(failure))
    return found


def _loads(context: ssl.SSLContext, tls: TLS) -> Iterator[Callable[[], object]]:
    """Yield what reads each file into `context`; each raises `BadConfiguration`."""
    if tls.certificate is not None:
        certificate, key = tls.certificate, tls.key or tls.certificate
        yield partial(_require_private, key)
        # Where the key cannot be read that is told, and here only what is wrong beside it.
        yield partial(
            _read if os.access(key, os.R_OK) else _read_alone,
            certificate,
            lambda: context.load_cert_chain(str(certificate), str(key), _ask),
        )
    for path in (tls.ca, tls.crl):
        if path is not None:
            yield partial(_read, path, partial(context.load_verify_locations, str(path)))


def _read_alone(certificate: Path, _: object) -> None:
    """Look at a certificate without its key."""
    expiry_of(certificate)


def _ask() -> str:
    """Stand where OpenSSL would ask on the terminal for the key's password."""
    raise ValueError("the key is encrypted: store it without a password, readable by us alone")


def _read(path: Path, load: Any) -> None:
    try:
        load()
    except ssl.SSLError as failure:
        why = failure.reason or "is not PEM"
        if why == "KEY_VALUES_MISMATCH":
            why = "certificate and key do not belong together"
        raise BadConfiguration(f"tls: {path}: {why}") from failure
    except OSError as failure:
        raise BadConfiguration(f"tls: {path}: {failure.strerror or failure}") from failure
    except ValueError as failure:
        raise BadConfiguration(f"tls: {path}: {failure}") from failure


def _require_private(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as failure:
        raise BadConfiguration(f"tls: {key}: {failure.strerror or failure}") from failure
    if mode & _TOO_OPEN:
        raise BadConfiguration(
            f"tls: {key}: anyone on this machine may read it (mode {stat.S_IMODE(mode):04o}); "
            f"chmod 600 {key}, and think about a new key"
        )


def identities(sock: Any) -> frozenset[str]:
    """Return what the verified certificate of the peer proves; nothing without one.

    The common name and the DNS names in lower case, IP addresses, and `sha256:` with the
    certificate's fingerprint in hexadecimal.
    """
    if not isinstance(sock, ssl.SSLSocket):
        return frozenset()
    fields: Any = sock.getpeercert()
    encoded = sock.getpeercert(binary_form=True)
    if not fields or encoded is None:  # none was sent, or none was asked for
        return frozenset()
    subject = dict(pair for part in fields.get("subject", ()) for pair in part)
    names = [value for kind, value in fields.get("subjectAltName", ()) if kind != "DirName"]
    if "commonName" in subject:
        names.append(subject["commonName"])
    fingerprint = f"sha256:{hashlib.sha256(encoded).hexdigest()}"
    return frozenset(str(name).casefold() for name in names) | {fingerprint}


def objection_to(tls: TLS, roots: Path | None) -> str:
    """Return why the chain in our certificate's file leads to no CA that is known here; "" if so.

    Known are the CAs in `roots` and those that this machine trusts. Both ends of a handshake are
    played in memory; no name is looked at.
    """
    server, client = server_context(replace(tls, verify_peer="off")), ssl.create_default_context()
    client.check_hostname = False
    if roots is not None:
        client.load_verify_locations(str(roots))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(_FLIGHTS):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as failure:
                return failure.verify_message
    return ""
