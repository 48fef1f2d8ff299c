"""User identity (PS3.7 D.3.3.7): passcodes over TLS only, and nobody learns more than yes or no."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import StartNode, disk
from network.raw_peer import RawPeer, associate_rq, item, reject, user_information
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification
from tls.certificates import Authority, Pair

from node.errors import BadConfiguration
from node.network import users
from node.network.users import Identity, Users, line_of
from node.service.node import Node

ACCEPTED = "A-ASSOCIATE-AC"
REFUSED = reject(1, 1, 1)
NAME, PASSCODE = "Dr. Bräuer", "s3cret: no!"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    return authority.issue("localhost", common_name="node")


@pytest.fixture(scope="module", autouse=True)
def cheap() -> None:
    """The same at a small fraction of the cost."""
    users._COST = (2**10, 8, 1)  # type: ignore[misc]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"# who may send\n\n{line_of(NAME, PASSCODE)}\nrouter:-\n")
    path.chmod(0o600)
    return path


def identity(kind: int, name: bytes, passcode: bytes = b"", answer: bool = False) -> bytes:
    """The user identity sub-item (PS3.7 Table D.3-14)."""
    fields = b"".join(len(field).to_bytes(2, "big") + field for field in (name, passcode))
    return item(0x58, bytes([kind, answer]) + fields)


def request(sub_item: bytes = b"") -> bytes:
    return associate_rq(called=b"DCMPRESS", user=user_information(more=sub_item))


def asked(node: Node, authority: Authority, sub_item: bytes) -> tuple[str, bool]:
    """Return the answer over TLS, and whether it has a response to the identity (item 59H)."""
    context = ssl.create_default_context(cafile=str(authority.file))
    with RawPeer(
        node.tls_address, wrap=lambda sock: context.wrap_socket(sock, server_hostname="localhost")
    ) as peer:
        peer.send([request(sub_item)])
        answer = peer.receive()
        return answer, item(0x59, b"\0\0") in peer.accept_body


RIGHT = (NAME.encode(), PASSCODE.encode())
TABLE = {
    "name and passcode": (identity(2, *RIGHT), True),
    "another passcode": (identity(2, RIGHT[0], b"guess"), False),
    "no passcode": (identity(2, RIGHT[0]), False),
    "an unknown name": (identity(2, b"nobody", RIGHT[1]), False),
    "an empty name": (identity(2, b"", b""), False),
    "the name alone": (identity(1, RIGHT[0]), False),
    "a name that needs no passcode": (identity(1, b"router"), True),
    "a passcode that nobody has": (identity(2, b"router", b""), False),
    "Kerberos": (identity(3, b"ticket"), False),
    "SAML": (identity(4, b"<x/>"), False),
    "a web token": (identity(5, b"a.b.c"), False),
    "no such type": (identity(99, b"x"), False),
}


def test_who_may_send(
    tmp_path: Path, start_node: StartNode, authority: Authority, own: Pair, file: Path
) -> None:
    tls = {"certificate": own.certificate, "key": own.key, "verify_peer": "off", "port": 0}
    node = start_node(disk(tmp_path / "disk"), tls=tls, identity={"users": file})
    for name, (sub_item, is_good) in TABLE.items():
        answer, _ = asked(node, authority, sub_item)
        if name == "no such type":
            assert answer != ACCEPTED, name
        else:
            assert answer == (ACCEPTED if is_good else REFUSED), name
    assert asked(node, authority, b"") == (REFUSED, False)
    assert asked(node, authority, identity(2, *RIGHT)) == (ACCEPTED, False)
    assert asked(node, authority, identity(2, *RIGHT, answer=True)) == (ACCEPTED, True)
    assert asked(node, authority, identity(1, b"router", answer=True)) == (ACCEPTED, True)
    for sub_item in (b"", identity(2, *RIGHT)):
        with RawPeer(node.address) as plain:
            plain.send([request(sub_item)])
            assert plain.receive() == REFUSED


def test_a_line_that_is_removed_counts_at_once(
    tmp_path: Path, start_node: StartNode, authority: Authority, own: Pair, file: Path
) -> None:
    tls = {"certificate": own.certificate, "key": own.key, "verify_peer": "off"}
    node = start_node(disk(tmp_path / "disk"), tls=tls, identity={"users": file, "required": False})
    assert asked(node, authority, b"")[0] == ACCEPTED
    assert asked(node, authority, identity(2, *RIGHT))[0] == ACCEPTED
    file.write_text("router:-\n")
    assert asked(node, authority, identity(2, *RIGHT))[0] == REFUSED
    file.write_text("not a line\n")
    assert asked(node, authority, identity(1, b"router"))[0] == REFUSED


def test_where_nobody_asks_there_is_no_response(
    tmp_path: Path, start_node: StartNode, authority: Authority, own: Pair
) -> None:
    tls = {"certificate": own.certificate, "key": own.key, "verify_peer": "off"}
    node = start_node(disk(tmp_path / "disk"), tls=tls)
    assert asked(node, authority, identity(2, *RIGHT, answer=True)) == (ACCEPTED, False)


def test_pynetdicom_understands_the_response(
    tmp_path: Path, start_node: StartNode, authority: Authority, own: Pair, file: Path
) -> None:
    tls = {"certificate": own.certificate, "key": own.key, "verify_peer": "off"}
    node = start_node(disk(tmp_path / "disk"), tls=tls, identity={"users": file})
    mine = UserIdentityNegotiation()
    mine.user_identity_type, mine.primary_field, mine.secondary_field = 2, *RIGHT
    mine.positive_response_requested = True
    ae = AE("CT1")
    ae.add_requested_context(Verification)
    host, port = node.tls_address
    context = ssl.create_default_context(cafile=str(authority.file))
    assoc = ae.associate(
        host, port, ae_title="DCMPRESS", ext_neg=[mine], tls_args=(context, "localhost")
    )
    assert assoc.is_established
    assert assoc.acceptor.user_identity.server_response == b""
    assoc.release()


def test_a_passcode_is_in_no_log(
    tmp_path: Path,
    start_node: StartNode,
    authority: Authority,
    own: Pair,
    file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tls = {"certificate": own.certificate, "key": own.key, "verify_peer": "off"}
    node = start_node(disk(tmp_path / "disk"), tls=tls, identity={"users": file})
    with caplog.at_level("DEBUG"):
        asked(node, authority, identity(2, RIGHT[0], b"hunter2"))
        asked(node, authority, identity(2, *RIGHT))
    assert "user identity" in caplog.text
    assert "hunter2" not in caplog.text
    assert PASSCODE not in caplog.text
    assert "hunter2" not in repr(Identity(2, b"x", b"hunter2"))


# -- the file --------------------------------------------------------------------------------------


def test_an_unknown_name_costs_as_much_as_a_wrong_passcode(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[object] = []
    real = users.hashlib.scrypt
    monkeypatch.setattr(
        users.hashlib,
        "scrypt",
        lambda *args, **cost: hashed.append({**cost, "salt": None}) or real(*args, **cost),
    )
    known = Users(file, required=True)
    for name in (RIGHT[0], b"nobody", b"router"):
        assert known.objection(Identity(2, name, b"guess"), secured=True)
    assert len(hashed) == 3
    assert hashed[0] == hashed[1] == hashed[2]


def test_few_are_checked_at_a_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, at_once, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def slow(*_: object, **__: object) -> bytes:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        go.wait(10)
        with lock:
            at_once[0] -= 1
        return bytes(32)

    monkeypatch.setattr(users.hashlib, "scrypt", slow)
    known = Users(file, required=True)
    guess = Identity(2, RIGHT[0], b"guess")
    threads = [
        threading.Thread(target=known.objection, args=(guess,), kwargs={"secured": True})
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 2


SPOILED: dict[str, Callable[[Path], object]] = {
    "gone": lambda path: path.unlink(),
    "others may read it": lambda path: path.chmod(0o644),
    "a password in the clear": lambda path: path.write_text("me:secret\n"),
    "another hash": lambda path: path.write_text("me:md5:1,1,1:AAAA:AAAA\n"),
    "no hash": lambda path: path.write_text("me:scrypt:1024,8,1:AAAA:\n"),
    "a cost that is none": lambda path: path.write_text(
        line_of("a", "b").replace("1024", "1000") + "\n"
    ),
    "a cost beyond all memory": lambda path: path.write_text(
        line_of("a", "b").replace("1024", str(2**20)) + "\n"
    ),
    "no name": lambda path: path.write_text(":-\n"),
    "noise": lambda path: path.write_bytes(os.urandom(100) + b"\n:"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_file_that_cannot_be_used(case: str, file: Path) -> None:
    SPOILED[case](file)
    with pytest.raises(BadConfiguration, match="users: "):
        Users(file, required=True).require_usable()


def test_the_command_makes_a_line(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "node", "user", NAME],
        input=PASSCODE + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert PASSCODE not in made.stdout
    path = tmp_path / "users"
    path.write_text(made.stdout)
    path.chmod(0o600)
    known = Users(path, required=True)
    assert known.objection(Identity(2, *RIGHT), secured=True) is None
    assert known.objection(Identity(2, RIGHT[0], b"guess"), secured=True)


@pytest.mark.parametrize("name", ["", "a:b", " a", "#a", "a\nb"])
def test_names_that_no_line_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        line_of(name, "x")
