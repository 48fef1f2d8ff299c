"""The values that settings are made of: AE titles, hosts, networks, names, transfer syntaxes.

Each `check_*` function takes what a person wrote and returns it in its one proper form, or raises
`Unfit`: a `ValueError` whose message completes the sentence that begins with the setting's name,
with a hint where there is one. `parse_peer` reads the `AET@HOST:PORT` of the command line and
raises `UsageError`. Nothing here opens a file or asks the network; a host name is not resolved.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from node.dicom.uids import ENCODED_IN
from node.errors import UsageError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

NO_COMPRESSION = "none"
#: What `destination.transfer_syntax` may say beside the name of one.
AS_STORED = "stored"
ALWAYS_NATIVE = "native"

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?\Z")
_FINGERPRINT = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE)
_CREDENTIALS = "$CREDENTIALS_DIRECTORY"
_FOLDER_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}\Z")


class Unfit(ValueError):
    """A value that a setting cannot take; the message reads on from the setting's name."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Whom to talk to: `AET@HOST:PORT`."""

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.ae_title}@{join_host_port(self.host, self.port)}"


def quoted(text: str) -> str:
    """Show `text` as a person would write it in the file."""
    return json.dumps(text, ensure_ascii=False)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean "…"?`, or nothing where no known word is near."""
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean {quoted(folded[near[0]])}?" if near else ""


def check_ae_title(text: str) -> str:
    """Return an AE title without its padding (PS3.5 6.2, VR AE)."""
    title = text.strip(" ")
    if not title:
        raise Unfit("is empty; an AE title has 1 to 16 characters")
    if len(title) > 16:
        raise Unfit(f"has {len(title)} characters; an AE title has 1 to 16")
    for character in title:
        if character == "\\" or not " " <= character <= "~":
            raise Unfit(
                f"contains {quoted(character)}; an AE title is made of ASCII letters, digits, "
                "spaces and signs other than the backslash"
            )
    return title


def check_host(text: str) -> str:
    """Return a host name, or an IP address without brackets."""
    host = text.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if is_ip_address(host) or (_HOST_NAME.match(host) and not _looks_like_ipv4(host)):
        return host
    raise Unfit(f"is {quoted(text)}, neither an IP address nor a host name")


def check_network(value: object) -> Network:
    """Return the network of an address (`10.0.0.5`) or of a CIDR block (`10.0.0.0/24`)."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise Unfit("must be text, an IP address or a block of them in CIDR notation")
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        raise Unfit(
            f"is {quoted(value)}, neither an IP address nor a block in CIDR notation",
            hint=_nearest_network(value),
        ) from None


def in_short(network: Network) -> str:
    """Write a network; one of a single address as that address."""
    return str(network.network_address if network.num_addresses == 1 else network)


def check_folder_name(text: str) -> str:
    """Return a name that can stand as a folder's name on any file system, and cannot be a path."""
    if _FOLDER_NAME.match(text):
        return text
    raise Unfit(
        f"is {quoted(text)}; it also names a folder, so it has 1 to 64 letters, digits, "
        "dots, dashes and underscores, and does not begin with a dot"
    )


def check_path(value: object, kind: str = "folder") -> Path:
    """Return an absolute path; a relative one begins in the working directory."""
    if not isinstance(value, str | Path):
        raise Unfit(f"must be text, the path of a {kind}")
    if not str(value) or "\0" in str(value):
        raise Unfit("is not a path")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise Unfit(f"is {quoted(str(value))}, but there is no such home folder") from None


def check_file(value: object) -> Path:
    """Return the absolute path of a file; `$CREDENTIALS_DIRECTORY/…` is one of systemd's."""
    if not isinstance(value, str) or not value.startswith(_CREDENTIALS):
        return check_path(value, "file")
    folder = os.environ.get(_CREDENTIALS[1:])
    if not folder:
        raise Unfit(
            f"begins with {_CREDENTIALS}, which is not set",
            hint="systemd sets it for a service with LoadCredential=",
        )
    return check_path(folder + value[len(_CREDENTIALS) :], "file")


def check_certificate_name(text: str) -> str:
    """Return how a certificate is recognised: `sha256:` and its fingerprint, or a name in it."""
    name = text.strip().casefold()
    if found := _FINGERPRINT.fullmatch(name.replace(":", "").replace("sha256", "sha256:")):
        return f"sha256:{found[1]}"
    if name and name.isprintable() and len(name) <= 253:
        return name
    raise Unfit(
        f"is {quoted(text)}, neither a SHA-256 fingerprint nor a name that a certificate can have"
    )


def check_transfer_syntax(text: str) -> str:
    """Return the keyword of a transfer syntax named by its keyword or its UID, or "none"."""
    return _keyword(text, [NO_COMPRESSION])


def check_destination_syntax(text: str) -> str:
    """Return the same for a destination, or "stored" or "native"."""
    return _keyword(text, [AS_STORED, ALWAYS_NATIVE])


def _keyword(text: str, others: list[str]) -> str:
    for keyword, uid in ENCODED_IN.items():
        if text in (keyword, uid):
            return keyword
    if text in others:
        return text
    known = [*ENCODED_IN, *others]
    raise Unfit(
        f"is {quoted(text)}; it can be {alternatives(map(quoted, known))}, or the UID of one",
        hint=did_you_mean(text, known),
    )


def alternatives(words: Iterable[str]) -> str:
    """Join words as English does: `a`, `a or b`, `a, b or c`."""
    *rest, last = words
    return f"{', '.join(rest)} or {last}" if rest else last


def is_ip_address(host: str) -> bool:
    """Tell whether `host` is a literal IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def source_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address from which somebody calls; IPv4 as itself where a socket on :: sees it."""
    source = ipaddress.ip_address(address)
    mapped = source.ipv4_mapped if isinstance(source, ipaddress.IPv6Address) else None
    return mapped or source


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`. Any other host name counts as reachable."""
    if is_ip_address(host):
        return source_address(host).is_loopback
    return host.rstrip(".").casefold() == "localhost"


def join_host_port(host: str, port: int) -> str:
    """Write a host and a port together, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_host_port(text: str) -> str:
    """Return `HOST:PORT` in its one form; an IPv6 address stands in brackets."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535) or not host:
        raise Unfit(f"is {quoted(text)}, not HOST:PORT", hint='write it as in "10.0.0.9:6514"')
    return join_host_port(check_host(host), int(port))


def split_host_port(text: str) -> tuple[str, int]:
    """Return host and port of what `check_host_port` returned."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def parse_peer(text: str) -> PeerAddress:
    """Read `AET@HOST:PORT`; an IPv6 address stands in brackets."""
    # An AE title may contain an @, a host cannot: the last one divides.
    title, divider, address = text.rpartition("@")
    if not divider:
        raise _not_a_peer(text, "there is no @")
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        raise _not_a_peer(text, "there is no port")
    if ":" in host and not host.startswith("["):
        raise _not_a_peer(text, "an IPv6 address stands in brackets, as in PACS@[fd00::5]:104")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise _not_a_peer(text, f"the port {quoted(port)} is not a number from 1 to 65535")
    return PeerAddress(
        _part_of_peer(text, "the AE title", check_ae_title, title),
        _part_of_peer(text, "the host", check_host, host),
        int(port),
    )


def _part_of_peer(text: str, part: str, check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except Unfit as unfit:
        raise _not_a_peer(text, f"{part} {unfit}") from None


def _not_a_peer(text: str, why: str) -> UsageError:
    return UsageError(
        f"{quoted(text)} names no peer: {why}. Write AET@HOST:PORT, for example PACS@10.0.0.5:104"
    )


def _looks_like_ipv4(host: str) -> bool:
    """Tell a mistyped address (`10.0.0.256`) from a name: no top-level domain is a number."""
    return host.rstrip(".").rpartition(".")[2].isdigit()


def _nearest_network(text: str) -> str:
    """Say which block was meant when an address within it was given: 10.0.0.5/24."""
    try:
        return f"did you mean {quoted(str(ipaddress.ip_network(text, strict=False)))}?"
    except ValueError:
        return "a host name does not do here: a sender is known by its address"
