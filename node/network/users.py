"""User identity: who a requestor says its user is, and whether that is so (PS3.7 D.3.3.7).

The file of users has a line for each, `NAME:scrypt:N,R,P:SALT:HASH` as `line_of` makes it, or
`NAME:-` for a name that is taken without a passcode; `#` begins a comment. It is read anew each
time, so that a line that is added or removed counts at once.

A passcode is taken over TLS only. A name that is not there costs as much as a wrong passcode, and
few are checked at a time: guessing is slow, and costs a bounded amount of memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.errors import BadConfiguration

_NO_USER: Final = (
    "it names no user: give the sender one of identity.users, or say identity.required = false"
)
#: User Identity Type (PS3.7 Table D.3-14).
USERNAME, USERNAME_AND_PASSCODE = 1, 2

#: scrypt's cost, block size and parallelization: 32 MiB, some tenths of a second.
_COST: Final = (2**15, 8, 3)
_MOST_MEMORY: Final = 64 * 1024 * 1024
_SALT_BYTES, _HASH_BYTES = 16, 32
#: So many are checked at a time in one process, and others wait for so long.
_AT_ONCE: Final = 2
_WAIT_SECONDS: Final = 10.0
_TOO_OPEN: Final = stat.S_IRWXO | stat.S_IWGRP


@dataclass(frozen=True, slots=True)
class Identity:
    """What a requestor offers; `passcode` is None where the type has none."""

    kind: int
    name: bytes
    passcode: bytes | None = None

    def __repr__(self) -> str:
        return f"Identity({self.kind}, {self.name!r})"  # a passcode is in no log


@dataclass(frozen=True, slots=True)
class _Secret:
    """A hash and how it was made; `hash` is empty where no passcode is asked for."""

    cost: tuple[int, int, int] = _COST
    salt: bytes = bytes(_SALT_BYTES)
    hash: bytes = b""

    def is_of(self, passcode: bytes) -> bool:
        """Tell, at the same cost either way, whether the hash is that of `passcode`."""
        n, r, p = self.cost
        found = hashlib.scrypt(
            passcode, salt=self.salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=_HASH_BYTES
        )
        return hmac.compare_digest(found, self.hash)


class Users:
    """The users in a file."""

    def __init__(self, path: Path, *, required: bool) -> None:
        self._path = path
        self._required = required
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def require_usable(self) -> None:
        """Raise `BadConfiguration` where the file cannot be used."""
        _read(self._path)

    def objection(self, identity: Identity | None, *, secured: bool) -> str | None:
        """Return why the association is refused, None where it is not."""
        if identity is None:
            return _NO_USER if self._required else None
        if identity.kind not in (USERNAME, USERNAME_AND_PASSCODE):
            return f"user identity of type {identity.kind} cannot be checked"
        if identity.kind == USERNAME_AND_PASSCODE and not secured:
            return "a passcode is taken over TLS only"
        try:
            known = _read(self._path)
        except BadConfiguration as failure:
            return str(failure)
        secret = known.get(identity.name)
        if identity.kind == USERNAME:
            is_free = secret is not None and not secret.hash
            return None if is_free else "the user is not known, or has to give a passcode"
        passcode = identity.passcode or b""
        if secret is None or not secret.hash:
            secret = _decoy(known)
        return self._objection_to_passcode(secret, passcode)

    def _objection_to_passcode(self, secret: _Secret, passcode: bytes) -> str | None:
        if not self._turns.acquire(timeout=_WAIT_SECONDS):
            return "too many passcodes are being checked"
        try:
            is_right = secret.is_of(passcode)
        finally:
            self._turns.release()
        return None if is_right else "the user is not known, or the passcode is wrong"


def _decoy(known: dict[bytes, _Secret]) -> _Secret:
    """Return what is nobody's passcode, at the cost of one that is somebody's."""
    return next((_Secret(cost=secret.cost) for secret in known.values() if secret.hash), _Secret())


def line_of(name: str, passcode: str) -> str:
    """Return the line of a user in the file; raises ValueError for a name that no line can have."""
    if not name or name != name.strip() or ":" in name or "#" in name or not name.isprintable():
        raise ValueError("a user's name has printable characters, no colon, no #")
    n, r, p = _COST
    salt = os.urandom(_SALT_BYTES)
    secret = hashlib.scrypt(
        passcode.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=_HASH_BYTES
    )
    encoded = [base64.b64encode(part).decode() for part in (salt, secret)]
    return f"{name}:scrypt:{n},{r},{p}:{':'.join(encoded)}"


def _read(path: Path) -> dict[bytes, _Secret]:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            lines = file.read().splitlines()
    except OSError as failure:
        raise BadConfiguration(f"users: {path}: {failure.strerror or failure}") from failure
    if mode & _TOO_OPEN:
        raise BadConfiguration(
            f"users: {path}: anyone on this machine may read it "
            f"(mode {stat.S_IMODE(mode):04o}); chmod 600 {path}"
        )
    users = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith(b"#"):
            try:
                name, secret = _parsed(line)
            except (ValueError, binascii.Error):
                raise BadConfiguration(
                    f"users: {path}: line {number} is none that `dcmpress user` makes"
                ) from None
            users[name] = secret
    return users


def _parsed(line: bytes) -> tuple[bytes, _Secret]:
    name, kind, *rest = line.strip().split(b":")
    if not name:
        raise ValueError
    if kind == b"-" and not rest:
        return name, _Secret()
    cost, salt, secret = rest
    n, r, p = (int(number) for number in cost.split(b","))
    found = _Secret((n, r, p), base64.b64decode(salt, validate=True), base64.b64decode(secret))
    usable = 1 < n <= 2**20 and not n & (n - 1) and 128 * n * r < _MOST_MEMORY and 0 < p <= 16
    if kind != b"scrypt" or len(found.hash) != _HASH_BYTES or not usable:
        raise ValueError
    return name, found


def offered(item: Any) -> Identity | None:
    """Return what pynetdicom's `UserIdentityNegotiation` of a request says; None for None."""
    if item is None:
        return None
    kind, name = int(item.user_identity_type), bytes(item.primary_field or b"")
    return Identity(
        kind, name, bytes(item.secondary_field or b"") if kind == USERNAME_AND_PASSCODE else None
    )
