"""TLS as acceptor: who gets in, what is said to who does not, and that the node stays up.

Real peers: OpenSSL's s_client, DCMTK's storescu, pynetdicom's requestor and our own.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import instances
import pytest
from conftest import StartNode, disk
from network.raw_peer import RawPeer, associate_rq, context, p_data, pdv, reject, store_rq
from peers import ENVIRONMENT, PATIENCE, need, storescu, wait_until
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from tls.certificates import LONG_AGO, Authority, Pair

from node.events import AuthenticationFailed
from node.network import told
from node.service.audit import Position, open_trail
from node.service.node import Node
from node.settings import Peer

ACCEPTED = "A-ASSOCIATE-AC"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that the node does not know."""
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture(scope="module")
def server(ours: Authority) -> Pair:
    return ours.issue("localhost", "127.0.0.1", common_name="node")


@pytest.fixture(scope="module")
def modality(ours: Authority) -> Pair:
    return ours.issue("ct1.example", common_name="CT One")


def tls(server: Pair, ca: Authority, **more: Any) -> dict[str, Any]:
    return {"certificate": server.certificate, "key": server.key, "ca": ca.file, **more}


def context_of(ca: Authority, own: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.file))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def said(node: Node, context: ssl.SSLContext, request: bytes | None = None) -> str:
    """Ask for an association over TLS and return the answer; "no TLS" where there is none."""
    try:
        with RawPeer(
            node.tls_address,
            wrap=lambda sock: context.wrap_socket(sock, server_hostname="localhost"),
        ) as peer:
            peer.send([request or associate_rq(called=b"DCMPRESS", calling=b"CT1")])
            return peer.receive()
    except (ssl.SSLError, ConnectionError):
        return "no TLS"


def serves(node: Node, context: ssl.SSLContext) -> None:
    assert said(node, context) == ACCEPTED


# -- who gets in -----------------------------------------------------------------------------------

Own = Callable[[Authority, Authority], Pair | None]
CLIENTS: dict[str, tuple[Own, dict[str, str]]] = {
    "a good certificate": (
        lambda ours, _: ours.issue("x.example", common_name="x"),
        {"require": ACCEPTED, "if-present": ACCEPTED, "off": ACCEPTED},
    ),
    "none": (
        lambda *_: None,
        {"require": "no TLS", "if-present": ACCEPTED, "off": ACCEPTED},
    ),
    "one of a CA that we do not know": (
        lambda _, theirs: theirs.issue("x.example", common_name="x"),
        {"require": "no TLS", "if-present": "no TLS", "off": ACCEPTED},
    ),
    "an expired one": (
        lambda ours, _: ours.issue("x.example", common_name="x", not_after=LONG_AGO),
        {"require": "no TLS", "if-present": "no TLS", "off": ACCEPTED},
    ),
}


@pytest.mark.parametrize("verify", ["require", "if-present", "off"])
def test_who_gets_in(
    verify: str,
    tmp_path: Path,
    start_node: StartNode,
    ours: Authority,
    theirs: Authority,
    server: Pair,
    modality: Pair,
) -> None:
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours, verify_peer=verify))
    for name, (own, answers) in CLIENTS.items():
        assert said(node, context_of(ours, own(ours, theirs))) == answers[verify], name
    serves(node, context_of(ours, modality))
    if "no TLS" in [answers[verify] for _, answers in CLIENTS.values()]:
        [event] = _recorded(node)  # one line a minute, however often it is tried
        assert event.address == "127.0.0.1"
        assert "certificate" in event.cause


def _recorded(node: Node) -> list[AuthenticationFailed]:
    lines = open_trail(node.settings).read(Position(1, 0))
    return [line.event for line in lines if isinstance(line.event, AuthenticationFailed)]


def test_handshakes_that_fail_are_one_line_a_minute_and_counted(
    tmp_path: Path,
    start_node: StartNode,
    ours: Authority,
    server: Pair,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(told, "_REPEAT_SECONDS", 1e9)
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours))
    nobody = context_of(ours, None)
    for _ in range(20):
        assert said(node, nobody) == "no TLS"
    wait_until(lambda: node._receiver.associations == 0, "all have ended")
    monkeypatch.setattr(told, "_REPEAT_SECONDS", 0.0)
    assert said(node, nobody) == "no TLS"
    wait_until(lambda: len(_recorded(node)) == 2, "it is told again")
    lines = [line for line in caplog.messages if line.startswith("TLS handshake with")]
    assert len(lines) == 2
    assert lines[1].endswith(" (20 times in a minute)")
    assert [event.times for event in _recorded(node)] == [1, 20]


def test_revoked(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    revoked = ours.issue("old.example", common_name="old")
    node = start_node(disk(tmp_path / "d"), tls=tls(server, ours, crl=ours.revoke(revoked)))
    assert said(node, context_of(ours, revoked)) == "no TLS"
    serves(node, context_of(ours, modality))


def test_a_revocation_list_that_is_out_of_date_lets_nobody_in(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    node = start_node(disk(tmp_path / "d"), tls=tls(server, ours, crl=ours.revoke(is_old=True)))
    assert said(node, context_of(ours, modality)) == "no TLS"


def test_a_peer_is_known_by_its_certificate(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    """Name or fingerprint; with an address both must hold; the AE title alone is never enough."""
    other = ours.issue("ct2.example", common_name="CT Two")
    der = ssl.PEM_cert_to_DER_cert(other.certificate.read_text())
    fingerprint = hashlib.sha256(der).hexdigest()
    node = start_node(
        disk(tmp_path / "disk"),
        tls=tls(server, ours, port=0, verify_peer="if-present"),
        peers=(
            Peer(ae_title="CT1", certificate="ct one"),
            Peer(ae_title="CT2", certificate=fingerprint.upper()),
            Peer(ae_title="CT3", certificate="ct1.example", address="10.0.0.0/8"),
            Peer(ae_title="MR1", address="127.0.0.0/8"),
        ),
    )
    refused = reject(1, 1, 3)
    for calling, own, answer in (
        (b"CT1", modality, ACCEPTED),
        (b"CT1", other, refused),
        (b"CT1", None, refused),
        (b"CT2", other, ACCEPTED),
        (b"CT2", modality, refused),
        (b"CT3", modality, refused),
        (b"MR1", None, ACCEPTED),
        (b"XX1", modality, refused),
    ):
        request = associate_rq(called=b"DCMPRESS", calling=calling)
        assert said(node, context_of(ours, own), request) == answer, (calling, own)
    with RawPeer(node.address) as plain:  # without TLS no certificate, and so no CT1
        plain.send([associate_rq(called=b"DCMPRESS", calling=b"CT1")])
        assert plain.receive() == refused
    with RawPeer(node.address) as plain:
        plain.send([associate_rq(called=b"DCMPRESS", calling=b"MR1")])
        assert plain.receive() == ACCEPTED


# -- protocols, suites, and none at all ------------------------------------------------------------

#: What s_client is told, and whether there is a connection in the end.
OFFERS = {
    "TLS 1.3": (["-tls1_3"], True),
    "TLS 1.2": (["-tls1_2"], True),
    "TLS 1.1": (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], False),
    "TLS 1.0": (["-tls1", "-cipher", "ALL:@SECLEVEL=0"], False),
    "RSA key exchange": (["-tls1_2", "-cipher", "AES256-GCM-SHA384:AES128-SHA"], False),
    "CBC": (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA"], False),
    "no encryption": (["-tls1_2", "-cipher", "NULL:@SECLEVEL=0"], False),
    "no authentication": (["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"], False),
    "finite fields": (["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"], False),
    "ChaCha20": (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], False),
}


def s_client(node: Node, own: Pair, ca: Authority, *options: str) -> bool:
    """Connect with OpenSSL's client and tell whether it has a connection that lasts."""
    host, port = node.tls_address
    ended = subprocess.run(
        [
            *(need("openssl"), "s_client", "-connect", f"{host}:{port}", "-CAfile", str(ca.file)),
            *("-cert", str(own.certificate), "-key", str(own.key), "-verify_return_error"),
            *options,
        ],
        input=associate_rq(called=b"ANOTHER"),
        capture_output=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
        check=False,
    )
    return bytes.fromhex("03000000000400010107") in ended.stdout


@pytest.mark.peer
def test_protocols_and_suites(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours))
    for name, (options, works) in OFFERS.items():
        options = [*options, "-no_ign_eof"] if not works else [*options, "-ign_eof"]
        assert s_client(node, modality, ours, *options) is works, name
    serves(node, context_of(ours, modality))


@pytest.mark.peer
def test_the_modified_profile_has_more_suites(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    node = start_node(disk(tmp_path / "d"), tls=tls(server, ours, profile="bcp195-modified"))
    for suite, works in (
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES256-CCM", True),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", True),
        ("ECDHE-ECDSA-AES256-SHA384", False),
    ):
        options = ("-tls1_2", "-cipher", suite, "-ign_eof")
        assert s_client(node, modality, ours, *options) is works, suite


def test_plain_on_the_tls_port_is_closed_without_a_word(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours))
    with RawPeer(node.tls_address) as peer:
        peer.send([associate_rq(called=b"DCMPRESS")])
        assert peer.until_closed() < 5
        assert peer.said == []
    serves(node, context_of(ours, modality))


def test_tls_on_the_plain_port_is_no_tls(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    """Both ports side by side: each speaks one of the two, and never the other."""
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours, port=0))
    assert node.address != node.tls_address
    context = context_of(ours, modality)
    with socket.create_connection(node.address) as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock, server_hostname="localhost")
    serves(node, context)
    with RawPeer(node.address) as peer:
        peer.send([associate_rq(called=b"DCMPRESS")])
        assert peer.receive() == ACCEPTED


def test_ports_share_the_limits(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    limits = {"associations_per_peer": 1}
    node = start_node(disk(tmp_path / "d"), tls=tls(server, ours, port=0), limits=limits)
    with RawPeer(node.address) as plain:
        plain.send([associate_rq(called=b"DCMPRESS")])
        assert plain.receive() == ACCEPTED
        assert said(node, context_of(ours, modality)) in ("closed", "no TLS")
    wait_until(lambda: said(node, context_of(ours, modality)) == ACCEPTED, "room again")


def test_silence_after_the_tcp_handshake_holds_up_nobody(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours))
    silent = [socket.create_connection(node.tls_address) for _ in range(30)]
    half = [socket.create_connection(node.tls_address) for _ in range(5)]
    for sock in half:
        sock.sendall(bytes.fromhex("1603010200010001fc0303"))
    serves(node, context_of(ours, modality))
    for sock in (*silent, *half):
        sock.close()


# -- instances over it -----------------------------------------------------------------------------


@pytest.mark.peer
def test_dcmtk_stores_over_tls(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours))
    ds = instances.image()
    file = instances.as_file(tmp_path / "in.dcm", ds)
    options = ["+tls", modality.key, modality.certificate, "+cf", ours.file]
    sent = storescu(node.tls_address[1], file, options=options)
    assert sent.returncode == 0, sent.stderr
    wait_until(lambda: node.progress["disk"].delivered == 1, "on disk")
    assert list(instances.data_sets_in(tmp_path / "disk")) == [str(ds.SOPInstanceUID)]
    plain = storescu(node.tls_address[1], file)
    assert plain.returncode != 0


def test_pynetdicom_stores_over_tls(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours))
    ae = AE("CT1")
    ae.add_requested_context(CTImageStorage)
    host, port = node.tls_address
    context = context_of(ours, modality)
    assoc = ae.associate(host, port, ae_title="DCMPRESS", tls_args=(context, "localhost"))
    assert assoc.is_established
    file = instances.as_file(tmp_path / "in.dcm", instances.image(rows=400, columns=400))
    assert assoc.send_c_store(file).Status == 0
    assoc.release()
    wait_until(lambda: node.progress["disk"].delivered == 1, "on disk")


def test_a_connection_that_is_cut_without_a_farewell_leaves_nothing(
    tmp_path: Path, start_node: StartNode, ours: Authority, server: Pair, modality: Pair
) -> None:
    node = start_node(disk(tmp_path / "disk"), tls=tls(server, ours))
    secured = context_of(ours, modality)
    with RawPeer(
        node.tls_address,
        wrap=lambda sock: secured.wrap_socket(sock, server_hostname="localhost"),
    ) as peer:
        peer.send([associate_rq(context(1), called=b"DCMPRESS")])
        assert peer.receive() == ACCEPTED
        peer.send([p_data(pdv(1, 3, store_rq())), p_data(pdv(1, 0, bytes(10_000)))])
        socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
    wait_until(lambda: not list(node.spool.incoming_folder.iterdir()), "nothing is left")
    assert node.tally.instances == 0
    serves(node, secured)
