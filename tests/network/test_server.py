"""The door and the limits: floods, silent peers, TLS, draining, inherited sockets, descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from network.peers import wait_until
from network.raw_peer import (
    RELEASE_RQ,
    RawPeer,
    abort,
    associate_rq,
    command_set,
    context,
    echo_rq,
    message,
    p_data,
    pdv,
    reject,
    status,
    store_rq,
    ui,
    us,
)
from pynetdicom import build_context, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from node.errors import PeerUnreachable
from node.network import entrance
from node.network.alertness import Alertness
from node.network.association import NodeAssociation
from node.network.association_handler import new_association
from node.network.dimse import received_data
from node.network.kernel import KERNEL
from node.network.limits import Limits
from node.network.request_primitive import JudgedPDU
from node.network.requestor import associate
from node.network.sending import send_store
from node.network.server import Server, listen

trustme = pytest.importorskip("trustme", reason="trustme makes the certificates")

ACCEPTED = "A-ASSOCIATE-AC"
TOO_MANY = reject(2, 3, 2)
STOPPING = reject(2, 3, 1)
LIMITS = Limits(
    artim_seconds=1.5, idle_seconds=20, close_seconds=0.3, refuse_seconds=0.2, waiting=1200
)
#: Long forms of the floods: set it to run a thousand silent peers, a scan of 100,000.
LONG = os.environ.get("DCMPRESS_LONG_TESTS") == "1"


@pytest.fixture
def serve(tmp_path: Path):
    servers = []

    def start(limits: Limits = LIMITS, address=("127.0.0.1", 0), handlers=(), **options) -> Server:
        server = listen(
            address=address,
            ae_title="DOOR",
            handlers=list(handlers),
            contexts=[build_context(Verification), build_context(CTImageStorage)],
            limits=limits,
            spill=tmp_path,
            **options,
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        assert (server.active, server.waiting, server._next) == (0, 0, None)
    assert not list(tmp_path.glob("*.part"))


@pytest.fixture(scope="module")
def certificates():
    """Return the contexts of a server that asks for a client certificate, and of such a client."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("client@example.org").configure_cert(client)
    authority.configure_trust(client)
    return server, client


def secured(client: ssl.SSLContext):
    return lambda sock: client.wrap_socket(sock, server_hostname="127.0.0.1")


def echo_works(server: Server, wrap=None) -> float:
    """Be an honest peer; return how long association and echo took."""
    begun = time.monotonic()
    with RawPeer(server.address, wrap) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
        peer.send([message(3, echo_rq())])
        assert peer.receive() == status(0x0000)
        seconds = time.monotonic() - begun
        peer.send([RELEASE_RQ])
        assert peer.receive() == "A-RELEASE-RP"
    return seconds


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def nothing_stays_behind(server: Server):
    """Assert that threads, descriptors and connections come back to what they were."""
    echo_works(server)
    wait_until(lambda: server.active == 0, "warmed up")
    threads, descriptors = threading.active_count(), open_descriptors()
    yield
    wait_until(lambda: server.active == server.waiting == 0, "all gone")
    wait_until(lambda: threading.active_count() <= threads, "threads gone")
    wait_until(lambda: open_descriptors() <= descriptors, "descriptors closed")


# -- floods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_words", [b"", b"\x01", associate_rq()[:40]])
def test_silent_peers_cost_no_thread_and_hold_up_nobody(serve, first_words) -> None:
    server = serve()
    count = 1000 if LONG or first_words == b"" else 200
    with nothing_stays_behind(server), contextlib.ExitStack() as stack:
        before = set(threading.enumerate())
        for _ in range(count):
            peer = stack.enter_context(RawPeer(server.address))
            peer.send([first_words])
        wait_until(lambda: server.waiting == count, "all at the door", 10)
        assert not set(threading.enumerate()) - before
        assert echo_works(server) < 1
        wait_until(lambda: server.waiting == 0, "closed by ARTIM")
    assert server.turned_away["said nothing in time"] == count


def test_scan_of_the_port(serve) -> None:
    server = serve()
    with nothing_stays_behind(server):
        for _ in range(100_000 if LONG else 3000):
            socket.create_connection(server.address).close()
        assert echo_works(server) < 1


def test_a_door_that_fell_shut_is_noticed(serve, monkeypatch) -> None:
    server = serve()
    assert server.is_serving

    def broken(*_: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(server._doorman, "attend_to_call", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    server._doorman._workers.call()
    wait_until(lambda: not server.is_serving, "the door fell shut")


def test_one_who_sends_byte_by_byte_is_looked_at_no_closer_than_need_be(serve, monkeypatch) -> None:
    """The kernel would go through all that has come, for each byte of it."""
    server = serve()
    looked = []
    look = server._doorman._is_done_with

    def noted(visitor: object, most: int) -> bool:
        looked.append(most)
        return look(visitor, most)

    monkeypatch.setattr(server._doorman, "_is_done_with", noted)
    with RawPeer(server.address) as peer:
        for byte in associate_rq():
            peer.send([bytes([byte])])
        assert peer.receive() == ACCEPTED
    assert max(looked[1:]) == 6


def test_a_default_timeout_of_the_program_does_not_hold_up_the_door(serve) -> None:
    server = serve()
    socket.setdefaulttimeout(5)
    try:
        with socket.create_connection(server.address):
            wait_until(lambda: server.waiting == 1, "one who is silent")
            assert echo_works(server) < 2
    finally:
        socket.setdefaulttimeout(None)


def test_every_wait_of_a_short_association_may_begin_awake(serve, monkeypatch) -> None:
    waited: set[Alertness] = set()
    wait = Alertness.wait

    def noted(alertness: Alertness, descriptor: int) -> bool:
        waited.add(alertness)
        return wait(alertness, descriptor)

    monkeypatch.setattr(Alertness, "wait", noted)
    server = serve()
    with RawPeer(server.address) as peer:
        wait_until(lambda: server.waiting == 1, "at the door")
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
    doorman = server._doorman
    assert waited == {doorman._workers._alertness, doorman._alertness, server.prototype.alertness}


@pytest.mark.parametrize("sop_class", [None, b"", b"1" * 66, b"1.2\xe9", b"1.2"])
def test_an_echo_is_answered_whatever_it_names(serve, sop_class) -> None:
    server = serve()
    named = [] if sop_class is None else [ui(0x0002, sop_class)]
    numbers = us(0x0100, 0x0030), us(0x0110, 7), us(0x0800, 0x0101)
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
        peer.send([message(3, command_set(*named, *numbers))] * 2)
        assert [peer.receive(), peer.receive()] == [status(0x0000)] * 2


def test_who_comes_when_no_descriptor_is_left_gets_that_of_one_who_is_silent(
    serve, monkeypatch
) -> None:
    server = serve()
    way_in = server._doorman._entrance
    accept = way_in.accept

    def no_room() -> None:
        monkeypatch.setattr(way_in, "accept", accept)
        raise entrance.NoRoom

    with RawPeer(server.address) as silent:
        wait_until(lambda: server.waiting == 1, "at the door")
        monkeypatch.setattr(way_in, "accept", no_room)
        assert echo_works(server) < 2
        assert silent.until_closed() < 2
    assert server.turned_away["no descriptor left"] == 1


def test_several_associations_are_a_crowd_and_one_is_none(serve) -> None:
    server = serve()
    alertness = server.prototype.alertness
    with RawPeer(server.address) as first, RawPeer(server.address) as second:
        for peer, is_crowded in ((first, False), (second, True)):
            peer.send([associate_rq()])
            assert peer.receive() == ACCEPTED
            assert alertness.is_crowded is is_crowded
        second.send([RELEASE_RQ])
        assert second.receive() == "A-RELEASE-RP"
        wait_until(lambda: not alertness.is_crowded, "one is left")


def test_the_door_learns_how_long_peers_take_to_ask(serve, monkeypatch) -> None:
    noted: list[float] = []
    server = serve()
    monkeypatch.setattr(server._doorman._alertness, "note", noted.append)
    with RawPeer(server.address) as peer:
        wait_until(lambda: server.waiting == 1, "at the door")
        time.sleep(0.1)
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
    assert len(noted) == 1
    assert 0.1 <= noted[0] < 5


def test_over_tls_nobody_waits_awake(serve, certificates, monkeypatch) -> None:
    """Half a record can be read, and is nothing yet: the deadline is that of a secured read."""
    waited: set[Alertness] = set()
    monkeypatch.setattr(Alertness, "wait", lambda alertness, _: waited.add(alertness))
    server = serve(ssl_context=certificates[0])
    echo_works(server, secured(certificates[1]))
    assert server._doorman._workers._alertness in waited
    assert server.prototype.alertness not in waited


def test_who_asks_is_told_from_the_request_and_by_the_connection(serve) -> None:
    """The requestor is made when somebody wants it; what it says is there before."""
    seen = []

    def requested(event: evt.Event) -> None:
        assoc = event.assoc
        told = (assoc.calling_ae_title, assoc.called_ae_title, assoc.peer_address)
        requestor = assoc.requestor
        primitive = requestor.primitive
        assert requestor.ae_title == primitive.calling_ae_title
        seen.append((told, (requestor.ae_title, primitive.called_ae_title, requestor.address)))
        assert assoc.requestor is requestor
        assert requestor.port == peer.sock.getsockname()[1]

    server = serve(handlers=[(evt.EVT_REQUESTED, requested)])
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
    assert seen == [(("PEER", "GUARDED", "127.0.0.1"),) * 2]


def test_where_two_threads_make_the_requestor_the_first_one_stays(serve, monkeypatch) -> None:
    """What a handler changes about it must not be lost to one who only names the association."""
    found = []

    def requested(event: evt.Event) -> None:
        make = server.prototype.requestor

        def interrupted(assoc, address):
            monkeypatch.setattr(server.prototype, "requestor", make)
            found.append(assoc.requestor)
            return make(assoc, address)

        monkeypatch.setattr(server.prototype, "requestor", interrupted)
        found.append(event.assoc.requestor)

    server = serve(handlers=[(evt.EVT_REQUESTED, requested)])
    echo_works(server)
    first, second = found
    assert first is second
    assert first.primitive.calling_ae_title == "PEER"


def test_the_requestor_is_whole_when_another_thread_has_just_made_it(serve, monkeypatch) -> None:
    held, go_on = threading.Event(), threading.Event()
    to_primitive = JudgedPDU.to_primitive
    seen = []

    def slow(request: JudgedPDU):
        if threading.current_thread().name == "other":
            held.set()
            assert go_on.wait(10)
        return to_primitive(request)

    monkeypatch.setattr(JudgedPDU, "to_primitive", slow)

    def requested(event: evt.Event) -> None:
        other = threading.Thread(target=repr, args=(event.assoc,), name="other")
        other.start()
        assert held.wait(10)
        requestor = event.assoc.requestor
        seen.append((requestor.ae_title, requestor.primitive.calling_ae_title))
        go_on.set()
        other.join(10)
        assert event.assoc.requestor is requestor

    echo_works(serve(handlers=[(evt.EVT_REQUESTED, requested)]))
    assert seen == [("PEER", "PEER")]


@pytest.mark.skipif(KERNEL is None, reason="nobody waits awake")
def test_nobody_is_waited_for_awake_at_the_door_after_some_who_did_not_ask(serve) -> None:
    """It is waited with the lock of the door held: a crowd that says nothing would cost others."""
    server = serve()
    alertness = server._doorman._alertness
    alertness._can_be_awake = True
    for _ in range(100):
        alertness.note(0.0)
    assert alertness.awake_seconds
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(RawPeer(server.address))
        wait_until(lambda: server.waiting == 10, "all at the door", 10)
        assert not alertness.awake_seconds
        assert echo_works(server) < 1


def test_others_may_come_to_the_door_while_it_is_left_to_another_process(
    serve, monkeypatch
) -> None:
    server = serve()
    monkeypatch.setattr(server._census, "others_have_fewer", lambda over: True)
    taken = []

    def sleep(_: float) -> None:
        if server._doorman._workers.lock.acquire(timeout=5):
            server._doorman._workers.lock.release()
            taken.append(True)

    monkeypatch.setattr(entrance.time, "sleep", sleep)
    echo_works(server)
    assert taken


def test_who_takes_nothing_and_is_released_leaves_nothing_to_the_kernel(serve) -> None:
    server = serve(Limits(close_seconds=0.3, max_pdu=16384))
    port = f":{server.address[1]:04X}"

    def connections() -> list[str]:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # Of our side, but for the listener and what the kernel only remembers (TIME_WAIT).
        return [f[3] for f in lines if f[1].endswith(port) and f[3] not in ("0A", "06")]

    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect(server.address)
        sock.sendall(associate_rq())
        sock.sendall(message(3, echo_rq()) * 1000 + RELEASE_RQ)
        wait_until(lambda: server.active == 0 and not connections(), "nothing is left")


def test_an_abort_before_the_request_has_come_is_done_at_once(serve) -> None:
    server = serve(Limits(artim_seconds=60))
    many = [b"1.2.%d" % number for number in range(200)]
    request = associate_rq(*(context(1 + 2 * number, transfer=many) for number in range(20)))
    with RawPeer(server.address) as peer:
        peer.send([request[:33_000]])
        wait_until(lambda: server.active == 1, "a long request is read in a thread")
        server.active_associations[0].abort()
        wait_until(lambda: server.active == 0, "ended", 5)


def test_a_handler_may_ask_the_server_and_end_it(serve) -> None:
    """None of them runs while the door is attended to."""
    asked = []

    def opened(event: evt.Event) -> None:
        asked.append((server.waiting, server.active))

    def echo(event: evt.Event) -> int:
        server.shutdown()
        return 0x0000

    server = serve(handlers=[(evt.EVT_CONN_OPEN, opened), (evt.EVT_C_ECHO, echo)])
    with RawPeer(server.address) as peer:
        peer.send([associate_rq(), message(3, echo_rq())])
        assert peer.receive() == ACCEPTED
        assert asked == [(0, 1)]
        assert peer.until_closed() < 10
    assert not server.is_serving


def test_what_is_changed_after_an_association_was_made_counts_for_who_gets_it(serve) -> None:
    server = serve()
    wait_until(lambda: server._next is not None, "made before somebody asks")
    made, asked = server._next, []
    assert "nobody yet" in repr(made)
    server.ae.acse_timeout = 7
    server.bind(evt.EVT_C_ECHO, lambda event: asked.append(event.assoc) or 0x0000)
    echo_works(server)
    assert asked == [made]
    assert "127.0.0.1" in repr(made)
    assert made.acse_timeout == 7
    wait_until(lambda: server._next not in (None, made), "the next one is made")


def test_an_association_that_cannot_be_made_before_is_made_when_it_is_asked_for(
    serve, monkeypatch
) -> None:
    tried = []

    def one_fails(server: Server) -> NodeAssociation:
        tried.append(server)
        if len(tried) == 1:
            raise MemoryError
        return new_association(server)

    monkeypatch.setattr("node.network.server.new_association", one_fails)
    server = serve()
    wait_until(lambda: tried, "tried")
    assert server._next is None
    echo_works(server)
    assert server.is_serving


def test_an_association_that_fails_at_its_end_gives_its_place_back(serve, monkeypatch) -> None:
    server = serve()

    def failing() -> None:
        raise OSError("no ledger")

    def established(event: evt.Event) -> None:
        event.assoc.on_over = failing

    server.bind(evt.EVT_ESTABLISHED, established)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    echo_works(server)
    wait_until(lambda: server.active == 0, "its place is free")


def test_noise_at_the_port_is_logged_once(serve, caplog) -> None:
    server = serve()
    for _ in range(20):
        with RawPeer(server.address) as peer:
            peer.send([b"GET / HTTP/1.0\r\n\r\n"])
            peer.until_closed()
    assert server.turned_away["not a DICOM request"] == 20
    assert len([record for record in caplog.records if "not a DICOM" in record.message]) == 1


def test_door_that_is_full_lets_the_oldest_go(serve) -> None:
    server = serve(Limits(waiting=5, artim_seconds=30, refuse_seconds=0.2))
    with contextlib.ExitStack() as stack:
        oldest = stack.enter_context(RawPeer(server.address))
        for _ in range(20):
            stack.enter_context(RawPeer(server.address))
        assert oldest.until_closed() < 5
        assert echo_works(server) < 1
        wait_until(lambda: server.waiting <= 5, "no more than may wait")


# -- limits ----------------------------------------------------------------------------------------


def test_who_may_ask_is_asked_also_where_the_answer_is_remembered(serve) -> None:
    server = serve()
    echo_works(server)
    echo_works(server)
    server.ae.require_calling_aet = ["SOMEBODY"]
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == reject(1, 1, 3)
    server.ae.require_calling_aet = []
    echo_works(server)


def test_one_association_too_many_for_a_peer_and_in_all(serve) -> None:
    for limits in (Limits(associations_per_peer=3), Limits(associations=3)):
        server = serve(limits)
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(RawPeer(server.address)) for _ in range(5)]
            for peer in peers:
                peer.send([associate_rq()])
                peer.receive()
            assert [peer.said[0] for peer in peers] == [ACCEPTED] * 3 + [TOO_MANY] * 2
            assert peers[4].until_closed() < 2
            peers[0].send([RELEASE_RQ])
            peers[0].receive()
            peers[0].sock.close()
            wait_until(lambda server=server: server.active == 2, "one has ended")
            echo_works(server)


def test_descriptors_above_1024(serve) -> None:
    """`select` ends at 1,024; nothing here uses it."""
    server = serve()
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        assert echo_works(server) < 1
        assoc = associate(
            address=server.address,
            calling_ae_title="HIGH",
            called_ae_title="DOOR",
            contexts=[build_context(Verification)],
        )
        assert assoc.dul.connection.descriptor > 1024
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


# -- several processes, inherited sockets ----------------------------------------------------------


def test_inherited_socket(serve) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    server = serve(address=listening)
    assert server.address == listening.getsockname()
    echo_works(server)


def test_two_servers_on_one_inherited_socket(serve) -> None:
    """As two processes would, each with its own copy of the descriptor."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    first = serve(address=listening.dup())
    second = serve(address=listening)
    for _ in range(20):
        echo_works(first)
    first.close()
    wait_until(lambda: first._listening.fileno() < 0, "first stopped listening")
    for _ in range(5):
        echo_works(second)


def test_an_association_that_is_over_costs_no_thread_and_no_place(serve) -> None:
    """Its peer may be slow to close, or ask for the next one before it does."""
    server = serve(limits=Limits(associations=1, close_seconds=0.5))
    for _ in range(2):
        peer = RawPeer(server.address)
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
        peer.send([RELEASE_RQ])
        assert peer.receive() == "A-RELEASE-RP"
        wait_until(lambda: server.active == 0, "over")
        assert server.waiting
        assert peer.until_closed() < 3
    wait_until(lambda: server.waiting == 0, "closed")


def test_peers_that_never_close_are_let_go_when_there_are_too_many(serve) -> None:
    server = serve(limits=Limits(leaving=5, close_seconds=30))
    with contextlib.ExitStack() as stack:
        peers = []
        for _ in range(8):
            peer = stack.enter_context(RawPeer(server.address))
            peers.append(peer)
            peer.send([associate_rq(), RELEASE_RQ])
            assert [peer.receive(), peer.receive()] == [ACCEPTED, "A-RELEASE-RP"]
        assert peers[0].until_closed() < 3
        wait_until(lambda: server.waiting == 5, "the others wait")


def test_what_is_said_after_the_end_is_discarded(serve) -> None:
    """PS3.8 Sta13: the peer that goes on gets no reset before it has read the last PDU."""
    server = serve(limits=Limits(close_seconds=30, closing_bytes=100_000))
    with RawPeer(server.address) as peer:
        peer.send([associate_rq(), RELEASE_RQ])
        assert [peer.receive(), peer.receive()] == [ACCEPTED, "A-RELEASE-RP"]
        peer.send([message(1, store_rq(), bytes(10_000))])
        wait_until(lambda: server.active == 0, "over")
        echo_works(server)
        with contextlib.suppress(OSError):
            peer.send([bytes(200_000)])
        assert peer.until_closed() < 3


def test_an_association_over_tls_that_is_over_counts_no_more_where_processes_share_the_work(
    serve, certificates
) -> None:
    server_context, client_context = certificates
    server = serve(limits=Limits(close_seconds=300), ssl_context=server_context)
    with RawPeer(server.address, secured(client_context)) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
        assert server.over == 0
        peer.send([RELEASE_RQ])
        assert peer.receive() == "A-RELEASE-RP"
        wait_until(lambda: server.over == 1, "over")
        assert server.active == 1


#: A process that listens on an inherited socket; its C-ECHO status tells which one answered.
_PROCESS = """
import socket, sys, threading
from pynetdicom import build_context, evt
from pynetdicom.sop_class import Verification
from node.network.census import Census
from node.network.limits import Limits
from node.network.server import listen
listen(
    address=socket.socket(fileno=int(sys.argv[1])),
    ae_title="DOOR",
    handlers=[(evt.EVT_C_ECHO, lambda event: int(sys.argv[3]))],
    contexts=[build_context(Verification)],
    census=Census(Limits(), int(sys.argv[2])),
)
print("listening", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("at_once", [False, True], ids=["one after the other", "all at a time"])
def test_associations_spread_over_the_processes_on_one_socket(at_once: bool) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    shared = listening.fileno(), os.memfd_create("associations")
    with contextlib.ExitStack() as stack:
        for number in (1, 2):
            command = [sys.executable, "-c", _PROCESS, *map(str, shared), str(number)]
            process = subprocess.Popen(command, pass_fds=shared, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.enter_context(process.stdout)
            assert process.stdout.readline() == "listening\n"
        answers = []

        def ask(peer: RawPeer) -> None:
            peer.send([associate_rq(), message(3, echo_rq())])
            assert peer.receive() == ACCEPTED
            answers.append(peer.receive())

        peers = []
        for _ in range(8):
            peers.append(stack.enter_context(RawPeer(listening.getsockname())))
            if not at_once:
                ask(peers[-1])
        if at_once:
            for peer in peers:
                ask(peer)
    assert len(answers) == 8
    # Half of them each where both processes have a core; one at least where they have to wait.
    assert set(answers) == {status(1), status(2)}
    listening.close()
    os.close(shared[1])


def test_a_connection_is_left_to_a_process_with_less_to_do(serve, monkeypatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = serve(address=listening.dup())
    taken = []

    def others_have_fewer(over: int) -> bool:
        if asked.wait(0) and not taken:
            taken.append(listening.accept()[0])
        asked.set()
        return not taken

    asked = threading.Event()
    monkeypatch.setattr(server._census, "others_have_fewer", others_have_fewer)
    with RawPeer(listening.getsockname()) as peer:
        wait_until(lambda: taken, "taken by another")
        peer.send([associate_rq()])
        assert taken[0].recv(1) == b"\1"
        assert server._doorman.accepted == 0
        taken[0].close()
    echo_works(server)
    listening.close()


def test_what_a_process_with_less_to_do_does_not_take_is_taken(serve, monkeypatch) -> None:
    server = serve()
    asked: list[int] = []
    monkeypatch.setattr(
        server._census, "others_have_fewer", lambda over: asked.append(over) or True
    )
    for _ in range(5):
        echo_works(server)
    assert asked


def test_a_door_that_is_shut_is_woken_no_more(serve, tmp_path) -> None:
    """What it was woken by may be another file by then."""
    server = serve()
    echo_works(server)
    woken_by = server._doorman._workers._called
    server.shutdown()
    with contextlib.ExitStack() as stack:
        opened = -1
        while opened < woken_by:  # the lowest number that is free is the next
            other = stack.enter_context((tmp_path / f"{opened}").open("wb"))
            opened = other.fileno()
        server.close()
        assert os.fstat(opened).st_size == 0


class Full:
    """An epoll that watches what it watches, and nothing more."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll

    def __getattr__(self, name: str) -> object:
        return getattr(self._epoll, name)

    def register(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, "no watch left")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n"], ids=["nothing", "nonsense"])
def test_a_connection_that_cannot_be_watched_is_closed_and_the_door_stays_open(
    serve, said: bytes
) -> None:
    server = serve()
    echo_works(server)
    visitors = server._doorman._visitors
    epoll = visitors._epoll
    visitors._epoll = Full(epoll)
    with RawPeer(server.address) as peer:
        with contextlib.suppress(OSError):
            peer.send([said])
        assert peer.receive() in ("closed", abort(0, 0))
    visitors._epoll = epoll
    echo_works(server)
    wait_until(lambda: server.waiting == 0, "the last one has closed")


# -- ending ----------------------------------------------------------------------------------------


def test_drain_rejects_new_ones_and_lets_running_ones_finish(serve) -> None:
    server = serve()
    drained = []
    with RawPeer(server.address) as running, RawPeer(server.address) as late:
        running.send([associate_rq()])
        assert running.receive() == ACCEPTED
        drain = threading.Thread(target=lambda: drained.append(server.drain(60)))
        drain.start()
        wait_until(lambda: server._draining, "draining")
        late.send([associate_rq()])
        assert late.receive() == STOPPING
        running.send([message(1, store_rq(), bytes(100)), RELEASE_RQ])
        assert [running.receive(), running.receive()] == [status(0x0110), "A-RELEASE-RP"]
        running.sock.close()
        drain.join(10)
    assert drained == [True]


@contextlib.contextmanager
def released_but_reads_nothing(server: Server):
    """A peer whose association is over, and whose answers are still under way."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect(server.address)
        sock.settimeout(10)
        sock.sendall(associate_rq() + message(3, echo_rq()) * 200 + RELEASE_RQ)
        wait_until(lambda: server.active == 0 and server.waiting == 1, "released")
        yield sock


def test_a_stop_gives_those_who_are_released_time_to_take_their_answers(serve) -> None:
    """They would send again what is safe: a reset takes what is still under way."""
    server = serve(Limits(close_seconds=20))
    with released_but_reads_nothing(server) as sock:
        drained = []
        drain = threading.Thread(target=lambda: drained.append(server.drain(20)))
        drain.start()
        received = b""
        while not received.endswith(bytes.fromhex("06000000000400000000")):
            received += sock.recv(65536)
        assert drain.is_alive()
        sock.close()
        drain.join(10)
        assert drained == [True]
    assert server.waiting == 0


def test_a_stop_that_cannot_wait_still_leaves_them_their_answers(serve) -> None:
    server = serve(Limits(close_seconds=20))
    with released_but_reads_nothing(server) as sock:
        server.drain(0.05)
        server.shutdown()
        received = b""
        while data := sock.recv(65536):
            received += data
        assert received.endswith(bytes.fromhex("06000000000400000000"))


def test_drain_tells_when_it_was_not_done_in_time(serve) -> None:
    server = serve()
    with RawPeer(server.address) as running:
        running.send([associate_rq()])
        assert running.receive() == ACCEPTED
        assert server.drain(0.1) is False
        server.shutdown()
        running.until_closed()
        assert running.said[-1] == "A-ABORT(0,0)"


def test_shutdown_while_an_instance_arrives_leaves_nothing(serve, tmp_path) -> None:
    server = serve(Limits(memory_bytes=1000, close_seconds=0.2))
    with RawPeer(server.address) as peer:
        peer.send([associate_rq(), p_data(pdv(1, 3, store_rq()))])
        peer.send([p_data(pdv(1, 0, bytes(10_000)))] * 10)
        wait_until(lambda: bool(list(tmp_path.glob("*.part"))), "spilling")
        server.shutdown()
    assert not list(tmp_path.glob("*.part"))


# -- TLS -------------------------------------------------------------------------------------------


def test_tls_in_both_roles(serve, certificates) -> None:
    server_context, client_context = certificates
    stored = []

    def store(event: evt.Event) -> int:
        stored.append(bytes(received_data(event).buffer))
        return 0x0000

    server = serve(ssl_context=server_context, handlers=[(evt.EVT_C_STORE, store)])
    echo_works(server, secured(client_context))
    assoc = associate(
        address=server.address,
        calling_ae_title="TLS",
        called_ae_title="DOOR",
        contexts=[build_context(CTImageStorage, "1.2.840.10008.1.2")],
        ssl_context=client_context,
    )
    data = os.urandom(3_000_000)
    context = assoc.accepted_contexts[0]
    assert send_store(assoc, context, CTImageStorage, "1.2.3", [data]).status == 0x0000
    assoc.release()
    assert stored == [data]


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x00\xc8"], ids=["silent", "half a hello"])
def test_tls_clients_that_say_nothing_hold_up_nobody(serve, certificates, hello) -> None:
    server_context, client_context = certificates
    server = serve(ssl_context=server_context)
    with contextlib.ExitStack() as stack:
        before = set(threading.enumerate())
        for _ in range(50):
            stack.enter_context(RawPeer(server.address)).send([hello])
        wait_until(lambda: server.waiting == 50, "all at the door")
        assert not set(threading.enumerate()) - before
        assert echo_works(server, secured(client_context)) < 1
        wait_until(lambda: server.waiting == server.active == 0, "closed by ARTIM")


def test_tls_handshake_that_stops_half_way_meets_artim(serve, certificates) -> None:
    """A whole ClientHello, then nothing: it got a thread, and loses it."""
    server_context, client_context = certificates
    server = serve(ssl_context=server_context)
    outgoing = ssl.MemoryBIO()
    hello = client_context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    with RawPeer(server.address) as peer:
        peer.send([outgoing.read()])
        wait_until(lambda: server.active == 1, "handshake begun")
        echo_works(server, secured(client_context))
        wait_until(lambda: server.active == 0, "given up", 5)


def test_plain_dicom_to_a_tls_port_is_closed(serve, certificates) -> None:
    server = serve(ssl_context=certificates[0])
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.until_closed() < 1
        assert peer.said == []


def test_client_without_a_certificate_is_refused(serve, certificates) -> None:
    server = serve(ssl_context=certificates[0])
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(ssl.SSLError, OSError),
        RawPeer(server.address, secured(stranger)) as peer,
    ):
        peer.send([associate_rq()])
        assert peer.receive() == "closed"


def test_server_that_is_not_trusted_is_unreachable(serve, certificates) -> None:
    server = serve(ssl_context=certificates[0])
    with pytest.raises(PeerUnreachable, match="certificate"):
        associate(
            address=server.address,
            calling_ae_title="TLS",
            called_ae_title="DOOR",
            contexts=[build_context(Verification)],
            ssl_context=ssl.create_default_context(),
        )


def test_cut_without_close_notify_inside_an_instance_discards_it(
    serve, certificates, tmp_path
) -> None:
    """What an attacker on the line can do to TLS: end it early."""
    server_context, client_context = certificates
    stored = []
    server = serve(
        Limits(memory_bytes=1000, close_seconds=0.2),
        ssl_context=server_context,
        handlers=[(evt.EVT_C_STORE, lambda event: stored.append(1) or 0x0000)],
    )
    with RawPeer(server.address, secured(client_context)) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == ACCEPTED
        peer.send([p_data(pdv(1, 3, store_rq())), *[p_data(pdv(1, 0, bytes(9000)))] * 9])
        wait_until(lambda: bool(list(tmp_path.glob("*.part"))), "spilling")
        os.close(peer.sock.detach())
        wait_until(lambda: server.active == 0, "association ended")
    assert not list(tmp_path.glob("*.part"))
    assert stored == []


# -- cost ------------------------------------------------------------------------------------------


def test_idle_associations_use_no_processor(serve) -> None:
    """Fifty idle associations, both ends here, for half a second: next to nothing."""
    server = serve(Limits(associations_per_peer=100))
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            peer = stack.enter_context(RawPeer(server.address))
            peer.send([associate_rq()])
            assert peer.receive() == ACCEPTED
        used = time.process_time()
        threading.Event().wait(0.5)
        assert time.process_time() - used < 0.05


def test_importing_the_network_starts_no_thread() -> None:
    code = "import threading, node.network.server; print(threading.active_count())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "1"
