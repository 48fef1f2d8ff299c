"""A connected socket: deadlines of a peer that takes little, or nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from network.peers import wait_until

from node.network.limits import KIB
from node.network.line import Line, taken_bytes, unsent_bytes

trustme = pytest.importorskip("trustme", reason="trustme makes the certificates")

SENT = memoryview(bytes(1536 * KIB))


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server and of a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


@pytest.fixture(params=["plain", "TLS"])
def connect(
    request: pytest.FixtureRequest, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> Callable[[Callable[[socket.socket], None]], contextlib.AbstractContextManager[Line]]:
    """Return what connects a line to a peer that does as it is told."""
    server, client = contexts

    @contextlib.contextmanager
    def connected(behave: Callable[[socket.socket], None]) -> Iterator[Line]:
        def accept() -> None:
            sock, _ = listening.accept()
            if request.param == "TLS":
                sock = server.wrap_socket(sock, server_side=True)
            with sock, contextlib.suppress(ConnectionError):  # the line may be closed by then
                behave(sock)

        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
            peer = threading.Thread(target=accept)
            peer.start()
            sock = socket.create_connection(listening.getsockname())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
            line = Line(sock)
            if request.param == "TLS":
                line.secure(client, 10, "127.0.0.1")
            yield line
            line.close()
            peer.join(10)

    return connected


def test_who_takes_something_all_the_time_may_take_long(connect) -> None:
    """Several times the deadline in all; what it takes is filled up again meanwhile."""
    taken = []

    def slowly(sock: socket.socket) -> None:
        while received := sock.recv(64 * KIB):
            taken.append(len(received))
            # TLS hands out a record at a time, of a quarter of that.
            threading.Event().wait(0.12 * len(received) / (64 * KIB))

    begun = time.monotonic()
    with connect(slowly) as line:
        line.send_all(SENT, 0.5)
        assert time.monotonic() - begun > 1.5
        wait_until(lambda: sum(taken) == len(SENT), "all was taken")


def test_who_takes_nothing_is_given_up_in_time(connect) -> None:
    done = threading.Event()
    with connect(lambda sock: done.wait(20)) as line:
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match="takes no more data"):
            line.send_all(memoryview(bytes(32 * 1024 * KIB)), 0.4)
        assert 0.3 < time.monotonic() - begun < 3
        done.set()


@pytest.mark.parametrize("is_counted", [True, False])
def test_what_was_taken_grows_as_the_peer_takes_it(monkeypatch, is_counted: bool) -> None:
    if not is_counted:
        monkeypatch.setattr("node.network.line._BYTES_ACKED", slice(8, 8))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
        sender = socket.create_connection(listening.getsockname())
        receiver, _ = listening.accept()
    with sender, receiver:
        sender.sendall(SENT[: 256 * KIB])
        before, unsent = taken_bytes(sender), unsent_bytes(sender)
        assert (before < 0) is not is_counted
        receiver.recv(256 * KIB)
        wait_until(lambda: unsent_bytes(sender) < unsent, "something is acknowledged")
        assert taken_bytes(sender) > before


@pytest.mark.parametrize("is_awake", [True, False])
def test_who_has_sent_all_may_wait_awake_for_the_answer(connect, monkeypatch, is_awake) -> None:
    done, waited, slept = threading.Event(), [], []
    monkeypatch.setattr("node.network.line.unsent_bytes", lambda sock: 1)

    def say_something(sock: socket.socket) -> None:
        sock.send(b"!")
        done.wait(20)

    with connect(say_something) as line:
        monkeypatch.setattr(
            line.alertness, "wait", lambda descriptor: waited.append(descriptor) or is_awake
        )
        monkeypatch.setattr(line.alertness, "note", slept.append)
        line.wait_until_taken(5)
        assert waited == ([] if line.is_tls else [line.descriptor])
        assert len(slept) == (line.is_tls or not is_awake)
        done.set()
