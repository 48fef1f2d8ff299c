"""What certificates say of themselves: whose they are, who issued them, until when (RFC 5280 4.1).

Read from files and from connections; nothing is verified here. Raises `BadConfiguration` for a file
that holds none.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from node.errors import BadConfiguration

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _VERSION, _BMP_STRING = 0x17, 0xA0, 0x1E
#: Attribute types of names, DER, as people write them (RFC 4514 3).
_KINDS: Final = {
    b"\x55\x04\x03": "CN",
    b"\x55\x04\x06": "C",
    b"\x55\x04\x07": "L",
    b"\x55\x04\x08": "ST",
    b"\x55\x04\x0a": "O",
    b"\x55\x04\x0b": "OU",
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whose it is, who issued it, and when it expires."""

    subject: str
    issuer: str
    not_after: datetime

    def __str__(self) -> str:
        by = "itself" if self.issuer == self.subject else self.issuer
        return f"{self.subject}, issued by {by}, good until {self.not_after:%Y-%m-%d}"

    @classmethod
    def decode(cls, encoded: bytes) -> Certificate:
        """Read a certificate in DER; raises ValueError or IndexError for what is none."""
        fields = _values(_value(_value(encoded)[1])[1])
        if fields[0][0] == _VERSION:
            fields = fields[1:]
        _serial, _algorithm, (_, issuer), (_, validity), (_, subject), *_ = fields
        return cls(_name(subject), _name(issuer), _time(*_values(validity)[1]))


def in_file(path: Path) -> list[Certificate]:
    """Return the certificates of a PEM file, in their order; raises `BadConfiguration`."""
    try:
        text = path.read_text("ascii", "replace")
        found = [Certificate.decode(ssl.PEM_cert_to_DER_cert(pem)) for pem in _PEM.findall(text)]
    except OSError as failure:
        raise BadConfiguration(f"tls: {path}: {failure.strerror or failure}") from failure
    except (ValueError, IndexError) as failure:
        raise BadConfiguration(f"tls: {path}: holds no certificate") from failure
    if not found:
        raise BadConfiguration(f"tls: {path}: holds no certificate")
    return found


def expiry_of(path: Path) -> datetime:
    """Return when the first certificate of a PEM file expires; raises `BadConfiguration`."""
    return in_file(path)[0].not_after


def days_left(expiry: datetime, now: datetime) -> int:
    """Return the whole days until `expiry`; negative when it has passed."""
    return (expiry - now).days


def shown_by(sock: ssl.SSLSocket) -> list[Certificate]:
    """Return the chain that the peer of a connection has shown, its own certificate first.

    Before Python 3.13 what gives the whole chain is not public; without it there is the first.
    """
    encoded: Iterable[bytes | None]
    if (public := getattr(sock, "get_unverified_chain", None)) is not None:
        encoded = public()
    else:
        private: Any = getattr(sock, "_sslobj", None)
        whole: Any = getattr(private, "get_unverified_chain", list)() or []
        # 2: DER
        encoded = [each.public_bytes(2) for each in whole] or [sock.getpeercert(binary_form=True)]
    return [Certificate.decode(each) for each in encoded if each]


def _name(encoded: bytes) -> str:
    """Return a distinguished name in a line, as `CN=node.example, O=Hospital`."""
    parts = []
    for _, relative in _values(encoded):
        for _, attribute in _values(relative):
            (_, kind), (tag, value) = _values(attribute)
            text = value.decode("utf-16-be" if tag == _BMP_STRING else "utf-8", "replace")
            parts.append(f"{_KINDS[kind]}={text}" if kind in _KINDS else text)
    return ", ".join(parts) or "without a name"


def _time(kind: int, value: bytes) -> datetime:
    pattern = "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(value.decode("ascii"), pattern).replace(tzinfo=UTC)


def _values(data: bytes) -> list[tuple[int, bytes]]:
    """Return the tags and the contents of the values that `data` is a row of."""
    found = []
    while data:
        kind, value, data = _value(data)
        found.append((kind, value))
    return found


def _value(data: bytes) -> tuple[int, bytes, bytes]:
    """Return tag and content of the DER value that `data` begins with, and what follows it."""
    kind, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    return kind, data[start : start + length], data[start + length :]
