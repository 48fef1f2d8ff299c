"""Which port speaks what, by the settings and by what systemd opened."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import settings_of
from peers import free_port

from node.errors import CannotWrite
from node.service.doors import Doors
from node.settings import Settings


@pytest.fixture
def opened() -> Iterator[dict[str, socket.socket]]:
    """Two sockets as systemd hands them over: one by its unit's name, one named for TLS."""
    with contextlib.ExitStack() as sockets:
        yield {
            name: sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
            for name in ("dcmpress.socket", "tls")
        }


def with_tls(folder: Path, **more: object) -> Settings:
    tls = {"certificate": folder / "a.crt", "verify_peer": "off", **more}
    return settings_of(folder, tls=tls)


def port_of(door: socket.socket | None) -> int | None:
    return None if door is None else int(door.getsockname()[1])


@pytest.mark.parametrize("names", [(), ("dcmpress.socket",), ("tls",), ("dcmpress.socket", "tls")])
def test_what_systemd_opened_is_used(
    names: tuple[str, ...], tmp_path: Path, opened: dict[str, socket.socket]
) -> None:
    given = {name: opened[name] for name in names}
    main, for_tls = (port_of(given.get(name)) for name in ("dcmpress.socket", "tls"))

    doors = Doors.open(settings_of(tmp_path), given)
    assert doors.secured is None
    assert main is None or port_of(doors.plain) == main

    doors = Doors.open(with_tls(tmp_path), given)
    assert doors.plain is None
    wanted = for_tls or main
    assert wanted is None or port_of(doors.secured) == wanted

    doors = Doors.open(with_tls(tmp_path, port=0), given)
    assert doors.plain is not None
    assert doors.secured is not None
    assert main is None or port_of(doors.plain) == main
    assert for_tls is None or port_of(doors.secured) == for_tls
    assert [secured for *_, secured in doors.addresses] == [False, True]
    doors.close()


def test_a_tls_port_that_is_taken_gives_the_plain_one_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = with_tls(tmp_path, port=taken.getsockname()[1])
        plain = free_port()
        settings = settings.model_copy(
            update={"node": settings.node.model_copy(update={"port": plain})}
        )
        with pytest.raises(CannotWrite):
            Doors.open(settings, {})
    socket.create_server(("127.0.0.1", plain)).close()
