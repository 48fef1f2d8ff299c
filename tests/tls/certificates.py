"""Certificates for the tests, made when they are asked for: good ones and every kind of bad."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in two files."""

    certificate: Path
    key: Path


class Authority:
    """A CA with a folder in which its files lie."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._ca = trustme.CA()
        self.file = folder / f"{name}.crt"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, common_name: str, not_after: datetime | None = None) -> Pair:
        """Issue a certificate with these names."""
        leaf = self._ca.issue_cert(*names, common_name=common_name, not_after=not_after)
        stem = f"{self._name}-{common_name}-{'expired' if not_after else 'good'}"
        pair = Pair(self._folder / f"{stem}.crt", self._folder / f"{stem}.key")
        leaf.cert_chain_pems[0].write_to_path(pair.certificate)
        leaf.private_key_pem.write_to_path(pair.key)
        pair.key.chmod(0o600)
        return pair

    def revoke(self, *pairs: Pair, is_old: bool = False) -> Path:
        """Write the list of what is revoked."""
        issuer = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        now = datetime.now(UTC)
        if is_old:
            now -= timedelta(days=100)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(now - timedelta(hours=1))
            .next_update(now + timedelta(days=30))
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),
                critical=False,
            )
        )
        for pair in pairs:
            revoked = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(revoked.serial_number)
                .revocation_date(now - timedelta(hours=1))
                .build()
            )
        key = load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        path = self._folder / f"{self._name}{'-old' if is_old else ''}.crl"
        path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path
