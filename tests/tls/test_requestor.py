"""TLS towards destinations: whom we trust, and that there is no way back to plain."""

from __future__ import annotations

import contextlib
import re
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import instances
import pytest
from conftest import StartNode, pacs, settings_of
from peers import DOWNSTREAM, ENVIRONMENT, free_port, need, send, wait_until
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from tls.certificates import LONG_AGO, Authority, Pair

from node.errors import PeerUnreachable
from node.network.store_scu import Peer, connect
from node.network.tls import TLS
from node.service.doctor import examine
from node.service.doctor_peer import examine_peer
from node.service.node import Node


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    return authority.issue("node.example", common_name="node")


def context_of(ca: Authority, own: Pair, **changes: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    context.load_verify_locations(ca.file)
    context.verify_mode = ssl.CERT_REQUIRED
    for name, value in changes.items():
        setattr(context, name, value)
    return context


@contextlib.contextmanager
def archive(context: ssl.SSLContext | None) -> Iterator[tuple[int, list[str]]]:
    """Run pynetdicom's SCP, as it comes, and yield its port and the UIDs that it got."""
    received: list[str] = []

    def store(event: evt.Event) -> int:
        received.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    ae = AE(DOWNSTREAM)
    ae.supported_contexts = [build_context(CTImageStorage, [ExplicitVRLittleEndian])]
    ae.add_supported_context("1.2.840.10008.1.1")
    port = free_port()
    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        ssl_context=context,
        evt_handlers=[(evt.EVT_C_STORE, store)],
    )
    try:
        yield port, received
    finally:
        server.shutdown()


def whom(port: int, tls: TLS) -> Peer:
    return Peer(
        ae_title=DOWNSTREAM,
        host="127.0.0.1",
        port=port,
        calling_ae_title="DCMPRESS",
        connect_seconds=5,
        tls=tls,
    )


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_whom_we_trust(tmp_path: Path, authority: Authority, own: Pair) -> None:
    stranger = Authority(tmp_path, "theirs")
    good = authority.issue("127.0.0.1", common_name="pacs")
    revoked = authority.issue("127.0.0.1", common_name="revoked")
    tls = TLS(certificate=own.certificate, key=own.key, ca=authority.file, name="127.0.0.1")
    crl = authority.revoke(revoked)
    with_crl = TLS(**{name: getattr(tls, name) for name in TLS.__slots__} | {"crl": crl})
    cases: list[tuple[str, Pair, dict[str, Any], TLS, str]] = [
        ("good", good, {}, tls, ""),
        ("good, and not revoked", good, {}, with_crl, ""),
        (
            "another CA",
            stranger.issue("127.0.0.1", common_name="p"),
            {},
            tls,
            "unable to get local issuer",
        ),
        (
            "expired",
            authority.issue("127.0.0.1", common_name="p", not_after=LONG_AGO),
            {},
            tls,
            "certificate has expired",
        ),
        ("another name", authority.issue("x.example", common_name="p"), {}, tls, "not valid for"),
        ("revoked", revoked, {}, with_crl, "certificate revoked"),
        (
            "TLS 1.1",
            good,
            {"minimum_version": ssl.TLSVersion.TLSv1_1, "maximum_version": ssl.TLSVersion.TLSv1_1},
            tls,
            "alert",
        ),
    ]
    for name, pair, changes, mine, why in cases:
        with archive(context_of(authority, pair, **changes)) as (port, _):
            if not why:
                scu = connect(whom(port, mine), [])
                assert scu.echo() == 0, name
                scu.close()
                continue
            with pytest.raises(PeerUnreachable, match=why):
                connect(whom(port, mine), [])


def test_there_is_no_way_back_to_plain(authority: Authority, own: Pair) -> None:
    tls = TLS(certificate=own.certificate, key=own.key, ca=authority.file, name="127.0.0.1")
    with archive(None) as (port, _), pytest.raises(PeerUnreachable):
        connect(whom(port, tls), [])


def test_without_our_certificate_we_are_not_let_in(authority: Authority) -> None:
    """TLS 1.3 tells a client so only after its handshake."""
    pair = authority.issue("127.0.0.1", common_name="pacs")
    tls = TLS(ca=authority.file, name="127.0.0.1")
    with archive(context_of(authority, pair)) as (port, _), pytest.raises(PeerUnreachable):
        connect(whom(port, tls), [])


def test_files_that_are_gone_are_a_reason_to_wait(tmp_path: Path) -> None:
    tls = TLS(ca=tmp_path / "gone.crt", name="127.0.0.1")
    with pytest.raises(PeerUnreachable, match=r"gone\.crt"):
        connect(whom(1, tls), [])


@pytest.mark.peer
def test_dcmtk_gets_what_is_forwarded(
    tmp_path: Path, start_node: StartNode, authority: Authority, own: Pair
) -> None:
    pair = authority.issue("pacs.example", common_name="pacs")
    port = free_port()
    (tmp_path / "out").mkdir()
    command = [
        *(need("storescp"), "-aet", DOWNSTREAM, "-od", str(tmp_path / "out"), "+B", "+xa"),
        *("+tls", str(pair.key), str(pair.certificate), "+cf", str(authority.file), str(port)),
    ]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        try:
            node = start_node(
                pacs(
                    port,
                    tls=True,
                    tls_name="pacs.example",
                    tls_ca=authority.file,
                    tls_certificate=own.certificate,
                    tls_key=own.key,
                )
            )
            assert send(node.address[1], instances.image()) == 0
            wait_until(lambda: node.progress["pacs"].delivered == 1, "forwarded")
        finally:
            process.kill()


def test_an_archive_that_lost_its_certificate_gets_nothing_and_later_everything(
    tmp_path: Path, start_node: StartNode, authority: Authority, own: Pair
) -> None:
    wrong = authority.issue("x.example", common_name="wrong")
    right = authority.issue("127.0.0.1", common_name="right")

    def failing(node: Node) -> bool:
        return "not valid for" in node.progress["pacs"].last_error

    context = context_of(authority, wrong)
    with archive(context) as (port, received):
        node = start_node(
            pacs(
                port,
                tls=True,
                tls_ca=authority.file,
                tls_certificate=own.certificate,
                tls_key=own.key,
            )
        )
        ds = instances.image()
        assert send(node.address[1], ds) == 0
        wait_until(lambda: failing(node), "the name is refused")
        assert received == []
        context.load_cert_chain(right.certificate, right.key)
        wait_until(lambda: node.progress["pacs"].delivered == 1, "forwarded")
        assert received == [str(ds.SOPInstanceUID)]


def test_doctor_says_whose_certificate_it_is(authority: Authority, own: Pair) -> None:
    theirs = authority.issue("127.0.0.1", common_name="pacs")
    tls = TLS(certificate=own.certificate, key=own.key, ca=authority.file, name="127.0.0.1")
    with archive(context_of(authority, theirs)) as (port, _):
        findings = list(examine_peer("pacs", whom(port, tls), ""))
        stranger = Authority(authority.file.parent, "stranger")
        untrusting = list(examine_peer("pacs", whom(port, replace(tls, ca=stranger.file)), ""))
    assert any("TLSv1" in finding.text for finding in findings)
    [said, *others] = [each.text for each in findings if "certificate " in each.text]
    assert all("issued by itself" in other for other in others)  # OpenSSL sends its CA too
    assert re.search(r"CN=pacs.*, issued by .*O=trustme.*, good until \d{4}-.*, verifies$", said)
    *_, failed = untrusting
    shown = [each.text for each in untrusting if "certificate " in each.text]
    assert "CN=pacs" in shown[0]
    assert all(text.endswith("does not verify") for text in shown[:-1])
    assert "TLS: its certificate: " in failed.text
    assert failed.exit_code == PeerUnreachable.exit_code


@pytest.mark.parametrize("is_known", [True, False])
def test_doctor_shows_our_own_chain(is_known: bool, authority: Authority, tmp_path: Path) -> None:
    own = authority.issue("node.example", common_name=f"chain-{is_known}")
    ca = authority if is_known else Authority(tmp_path, "stranger")
    own.certificate.write_bytes(own.certificate.read_bytes() + authority.file.read_bytes())
    files = {"certificate": own.certificate, "key": own.key, "ca": ca.file}
    findings = [each for each in examine(settings_of(tmp_path, tls=files)) if each.subject == "TLS"]
    texts = [finding.text for finding in findings]
    assert texts[0] == "certificate and key of node fit"
    assert texts[1].startswith("certificate 1 of 2 of node: ")
    assert texts[2].startswith("certificate 2 of 2 of node: ")
    assert "issued by itself" in texts[2]
    assert ("verifies" in texts[3]) is is_known
