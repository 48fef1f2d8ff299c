"""Floods in short, from one address; an honest sender from another goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hostile import floods
from hostile.servers import Server, running
from hostile.usage import usage
from peers import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running("dcmpress") as server:
        floods.connects(server, 500)
        yield server


FLOODS: dict[str, Callable[[Server], str]] = {
    "connects and closes": lambda server: floods.connects(server, 3000),
    "slow clients": lambda server: floods.slow_clients(server, 300),
    "associations": lambda server: floods.associations(server, 3),
}


@pytest.mark.parametrize("name", FLOODS)
def test_an_honest_sender_goes_on(name: str, server: Server, counted: list[str]) -> None:
    before = usage(server.pid, family=True)
    done, met, left = floods.measured(server, lambda: FLOODS[name](server))
    counted.append(f"flood: {done}: honest peer {met}; {left}")
    assert met.failures == 0
    assert len(met.seconds) >= 3
    assert left.startswith("serves")
    wait_until(
        lambda: usage(server.pid, family=True).descriptors <= before.descriptors + 2, "closed"
    )
    wait_until(lambda: usage(server.pid, family=True).threads <= before.threads + 2, "ended")
    assert usage(server.pid, family=True).memory - before.memory < 64 << 20
