"""Connections that are over: read to their end, closed in time, and with a reset where need be."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest
from network.peers import wait_until

from node.network.departures import Departures
from node.network.limits import Limits
from node.network.visitor import Visitor

LIMITS = Limits(close_seconds=10, refuse_seconds=5, closing_bytes=1000, leaving=3)


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    with select.epoll() as epoll:
        yield epoll


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return our side of a connection and the peer's, who takes only a little."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        peer.connect(listening.getsockname())
        ours, _ = listening.accept()
        yield ours, peer
        ours.close()


def fill(ours: socket.socket) -> int:
    """Send until the peer takes no more; return how many bytes."""
    sent = 0
    try:
        while True:
            sent += ours.send(bytes(65536), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return sent


def read_all(peer: socket.socket) -> int:
    """Read to the end; raises ConnectionResetError where that is a reset."""
    count = 0
    peer.settimeout(10)
    while data := peer.recv(65536):
        count += len(data)
    return count


def test_one_that_has_closed_is_closed_at_the_next_look_without_being_watched(epoll, pair) -> None:
    departures, (ours, peer) = Departures(epoll, LIMITS, lambda: None), pair
    departures.see_off(ours, 100.0)
    peer.close()
    assert departures.next_deadline() < 101
    departures.attend_to_deadlines(100.0)
    assert len(departures) == 1
    departures.attend_to_deadlines(departures.next_deadline())
    assert len(departures) == 0
    assert ours.fileno() == -1
    assert epoll.poll(0) == []


def test_one_that_stays_is_watched_then_and_closed_in_the_end(epoll, pair) -> None:
    departures, (ours, peer) = Departures(epoll, LIMITS, lambda: None), pair
    departures.see_off(ours, 100.0)
    departures.attend_to_deadlines(101.0)
    assert departures.next_deadline() == 110.0
    peer.sendall(b"more")
    [(descriptor, _)] = epoll.poll(5)
    departures.attend(descriptor)
    assert len(departures) == 1
    departures.attend_to_deadlines(110.0)
    assert len(departures) == 0
    assert read_all(peer) == 0


def test_one_that_says_too_much_is_closed(epoll, pair) -> None:
    departures, (ours, peer) = Departures(epoll, LIMITS, lambda: None), pair
    departures.refuse(Visitor(ours), b"last words", 100.0)
    peer.sendall(bytes(1001))
    time.sleep(0.05)
    [(descriptor, _)] = epoll.poll(5)
    departures.attend(descriptor)
    assert len(departures) == 0


def test_one_that_has_said_its_last_may_take_what_it_was_sent(epoll, pair) -> None:
    """A reset would take from it what is still under way."""
    departures, (ours, peer) = Departures(epoll, LIMITS, lambda: None), pair
    sent = fill(ours)
    peer.shutdown(socket.SHUT_WR)
    time.sleep(0.05)
    departures.see_off(ours, 100.0)
    departures.attend_to_deadlines(101.0)
    assert len(departures) == 1
    peer.settimeout(10)
    received = 0
    while received < sent:
        received += len(peer.recv(65536))
    wait_until(lambda: departures.attend_to_deadlines(110.0) is None and not departures, "closed")
    assert read_all(peer) == 0


def test_one_that_takes_nothing_is_reset(epoll, pair) -> None:
    departures, (ours, peer) = Departures(epoll, LIMITS, lambda: None), pair
    sent = fill(ours)
    departures.see_off(ours, 100.0)
    departures.attend_to_deadlines(110.0)
    assert len(departures) == 0
    with pytest.raises(ConnectionResetError):
        assert read_all(peer) < sent


def test_it_is_told_when_none_is_left_whose_association_was_released(epoll) -> None:
    """However the last one goes: by itself, in the end, for another one, or with all."""
    told: list[int] = []
    departures = Departures(epoll, LIMITS, lambda: told.append(departures.released))

    def see_off(count: int = 1) -> None:
        told.clear()
        for _ in range(count):
            ours, peer = socket.socketpair()
            departures.see_off(ours, 100.0)
            peers.append(peer)
            seen_off.append(ours)

    peers: list[socket.socket] = []
    seen_off: list[socket.socket] = []
    see_off()
    peers.pop().close()
    departures.attend_to_deadlines(departures.next_deadline())
    assert told == [0]
    see_off()
    departures.attend_to_deadlines(110.0)
    assert told == [0]
    see_off()
    departures.dismiss_one()
    assert told == [0]
    see_off(2)
    assert told == []
    departures.dismiss_one()
    assert told == []
    departures.close()
    assert told == [0]
    assert len(departures) == 0
    assert {ours.fileno() for ours in seen_off} == {-1}  # looked at or not
    for peer in peers:
        peer.close()


def test_no_more_leave_at_a_time_than_may(epoll) -> None:
    departures = Departures(epoll, LIMITS, lambda: None)
    pairs = [socket.socketpair() for _ in range(5)]
    for number, (ours, _) in enumerate(pairs):
        departures.refuse(Visitor(ours), b"", 100.0 + number)
    assert len(departures) == 3
    assert [ours.fileno() >= 0 for ours, _ in pairs] == [False, False, True, True, True]
    departures.see_off(socket.socketpair()[0], 105.0)  # the oldest where most wait goes
    assert [ours.fileno() >= 0 for ours, _ in pairs] == [False, False, False, True, True]
    departures.close()
    assert len(departures) == 0
    for _, peer in pairs:
        peer.close()
