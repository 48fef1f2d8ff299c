"""A renewed certificate: used from the next handshake after SIGHUP on, and nobody is cut off."""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from network.raw_peer import RELEASE_RQ, RawPeer, associate_rq, echo_rq, message, status
from peers import ENVIRONMENT, free_port, wait_until
from tls.certificates import Authority, Pair

ACCEPTED = "A-ASSOCIATE-AC"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def served(tmp_path: Path, authority: Authority) -> Iterator[subprocess.Popen[bytes]]:
    """`dcmpress serve` with a plain and a TLS port; its log is in tmp_path."""
    pair = authority.issue("localhost", common_name="first")
    use(tmp_path, pair)
    (tmp_path / "node.toml").write_text(
        f"[node]\nport = {free_port()}\nreceivers = 1\nstate_directory = '{tmp_path}/state'\n"
        f"[tls]\ncertificate = '{tmp_path}/node.crt'\nkey = '{tmp_path}/node.key'\n"
        f"ca = '{authority.file}'\nport = {free_port()}\n[status]\nport = 0\n"
        "[spool]\nreserve_bytes = 0\nreserve_percent = 0\n"
    )
    command = [sys.executable, "-m", "node", "serve", str(tmp_path / "node.toml")]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        wait_until(lambda: len(listening(tmp_path)) == 2, "it listens")
        yield process
    finally:
        process.terminate()
        process.wait(60)


def use(folder: Path, pair: Pair) -> None:
    (folder / "node.crt").write_bytes(pair.certificate.read_bytes())
    (folder / "node.key").write_bytes(pair.key.read_bytes())
    (folder / "node.key").chmod(0o600)


def listening(folder: Path) -> dict[str, int]:
    """The ports by what is spoken there."""
    lines = re.findall(r"listening AE=DCMPRESS \S+:(\d+)( TLS)?", (folder / "log").read_text())
    return {secured: int(port) for port, secured in lines}


def fingerprint(folder: Path, context: ssl.SSLContext) -> str:
    """The certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", listening(folder)[" TLS"])) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as secured,
    ):
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint_of(pair: Pair) -> str:
    der = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
    return hashlib.sha256(der).hexdigest()


def test_a_reload(served: subprocess.Popen[bytes], tmp_path: Path, authority: Authority) -> None:
    modality = authority.issue("ct1.example", common_name="ct1")
    context = ssl.create_default_context(cafile=str(authority.file))
    context.load_cert_chain(modality.certificate, modality.key)
    log = tmp_path / "log"
    with RawPeer(
        ("127.0.0.1", listening(tmp_path)[" TLS"]),
        wrap=lambda sock: context.wrap_socket(sock, server_hostname="localhost"),
    ) as running:
        running.send([associate_rq(called=b"DCMPRESS")])
        assert running.receive() == ACCEPTED
        # One that cannot be used changes nothing.
        second = authority.issue("localhost", common_name="second")
        (tmp_path / "node.crt").write_bytes(second.certificate.read_bytes())
        served.send_signal(signal.SIGHUP)
        wait_until(lambda: "do not belong together" in log.read_text(), "it is refused")
        assert "the old ones stay" in log.read_text()
        use(tmp_path, second)
        served.send_signal(signal.SIGHUP)
        wait_until(
            lambda: fingerprint(tmp_path, context) == fingerprint_of(second), "the second is used"
        )
        running.send([message(3, echo_rq()), RELEASE_RQ])
        assert running.receive() == status(0)
        assert running.receive() == "A-RELEASE-RP"
    with RawPeer(("127.0.0.1", listening(tmp_path)[""])) as plain:
        plain.send([associate_rq(called=b"DCMPRESS")])
        assert plain.receive() == ACCEPTED
