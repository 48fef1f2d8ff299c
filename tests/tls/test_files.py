"""The files of TLS and what is said of them: permissions, mistakes, expiry, credentials."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import settings_of
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from peers import free_port
from tls.certificates import Authority, Pair

from node.errors import BadConfiguration
from node.network.certificate import days_left, expiry_of
from node.network.tls import TLS, server_context
from node.service.exposure import expiries, notices
from node.settings import Peer, Settings, load

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def own(authority: Authority) -> Pair:
    return authority.issue("node.example", common_name="node")


def encrypt(pair: Pair) -> None:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )


SPOILED: dict[str, tuple[Callable[[Pair], object], str]] = {
    "others may read the key": (lambda own: own.key.chmod(0o644), "chmod 600"),
    "the group may write the key": (lambda own: own.key.chmod(0o660), "chmod 600"),
    "no key": (lambda own: own.key.unlink(), "No such file"),
    "no certificate": (lambda own: own.certificate.unlink(), "No such file"),
    "the key is a folder": (lambda own: (own.key.unlink(), own.key.mkdir(0o700)), r"\.key|\.crt"),
    "the certificate is text": (lambda own: own.certificate.write_text("hello"), r"\.crt"),
    "the key is encrypted": (encrypt, "without a password"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_files_that_cannot_be_used_are_named(case: str, own: Pair) -> None:
    spoil, said = SPOILED[case]
    spoil(own)
    with pytest.raises(BadConfiguration, match=said) as caught:
        server_context(TLS(certificate=own.certificate, key=own.key))
    assert str(own.certificate) in str(caught.value) or str(own.key) in str(caught.value)


def test_a_key_of_another_certificate(authority: Authority, own: Pair) -> None:
    other = authority.issue("x.example", common_name="other")
    with pytest.raises(BadConfiguration, match="do not belong together"):
        server_context(TLS(certificate=own.certificate, key=other.key))


def test_a_key_that_the_group_may_read_is_fine(own: Pair) -> None:
    """As systemd's credentials are, which have an ACL, and those of Debian's group ssl-cert."""
    own.key.chmod(0o440)
    server_context(TLS(certificate=own.certificate, key=own.key))


def test_expiry(authority: Authority) -> None:
    for when in (
        NOW,
        datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2051, 6, 1, tzinfo=UTC),
    ):
        assert expiry_of(authority.issue(common_name="x", not_after=when).certificate) == when
    assert days_left(NOW + timedelta(days=3, hours=1), NOW) == 3
    assert days_left(NOW - timedelta(hours=1), NOW) == -1


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_expiry_of_what_is_no_certificate(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.crt"
    path.write_text(text + "-----END CERTIFICATE-----\n" * bool(text))
    with pytest.raises(BadConfiguration, match=r"x\.crt"):
        expiry_of(path)


def peers(**more: Any) -> dict[str, Any]:
    return {"peers": (Peer(ae_title="CT1", address="10.0.0.0/8"),), **more}


ANYWHERE = {"host": "0.0.0.0"}


def test_what_is_said_of_access(tmp_path: Path, own: Pair, authority: Authority) -> None:
    tls = {"certificate": own.certificate, "key": own.key, "ca": authority.file}
    anyone = {"node": {**ANYWHERE, "any_peer": True}}
    table: list[tuple[dict[str, Any], list[str]]] = [
        ({}, []),
        ({"node": {"any_peer": True}}, []),
        (anyone, ["OPEN TO EVERYONE", "without TLS"]),
        (peers(node=ANYWHERE), ["without TLS"]),
        (peers(node=ANYWHERE, tls=tls), []),
        (peers(node=ANYWHERE, tls={**tls, "port": free_port()}), ["without TLS"]),
        ({**anyone, "tls": tls}, ["OPEN TO EVERYONE"]),
        (peers(node=ANYWHERE, tls={**tls, "verify_peer": "off"}), ["not proven"]),
    ]
    for sections, said in table:
        found = notices(settings_of(tmp_path, **sections), {}, NOW)
        assert len(found) == len(said), (sections, found)
        assert all(part in notice for part, notice in zip(said, found, strict=True))


def test_what_is_said_of_certificates(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    table = {-1: "expired on", 0: "expires in 0 days", 29: "expires in 29 days", 31: ""}
    for days, said in table.items():
        expiry = NOW + timedelta(days=days, hours=1)
        found = notices(settings, {"node": expiry}, NOW)
        assert bool(found) is bool(said)
        assert all(said in notice for notice in found)


def test_expiries_are_those_of_the_files(tmp_path: Path, own: Pair, authority: Authority) -> None:
    tls = {"certificate": own.certificate, "key": own.key, "ca": authority.file}
    settings = settings_of(tmp_path, tls=tls)
    assert expiries(settings) == {"node": expiry_of(own.certificate)}
    own.certificate.unlink()
    assert expiries(settings) == {}


# -- settings --------------------------------------------------------------------------------------

WRONG = {
    "[tls]\nkey = 'a'": "tls.key is given without tls.certificate",
    "[tls]\nport = 2762": "tls.port is given without tls.certificate",
    "[tls]\ncertificate = 'a'": "no CA says whose certificates are good",
    "[tls]\ncertificate = 'a'\nverify_peer = 'if-present'": "no CA says",
    "[tls]\ncrl = 'a'": "tls.crl is given without tls.ca",
    "[tls]\ncertificate = 'a'\nca = 'a'\nport = 11112": "node.port and tls.port are both 11112",
    "[tls]\ncertificate = 'a'\nca = 'a'\nport = 8112": "status.port and tls.port are both 8112",
    "[tls]\nverify_peer = 'no'": "must be",
    "[[peer]]\nae_title = 'CT1'": "neither an address nor a certificate",
    "[[peer]]\nae_title = 'CT1'\ncertificate = 'ct1'": "no certificate of a sender is verified",
    "[[peer]]\nae_title = 'CT1'\ncertificate = ''": "neither a SHA-256 fingerprint nor a name",
    "[[destination]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\nport = 1\ntls_ca = 'x'": (
        "given without TLS"
    ),
    "[[destination]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\nport = 1\ntls = true": "has no CA",
}


@pytest.mark.parametrize("text", WRONG)
def test_nobody_gets_less_than_was_asked_for(text: str, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(BadConfiguration, match=WRONG[text]):
        load(path)


def test_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        "[tls]\ncertificate = 'a.crt'\nca = 'a'\nkey = '$CREDENTIALS_DIRECTORY/node.key'"
    )
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(BadConfiguration, match="which is not set"):
        load(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/dcmpress.service")
    settings = load(path).settings
    assert settings.tls.key == Path("/run/credentials/dcmpress.service/node.key")
    assert Settings.decode(settings.encode()) == settings
