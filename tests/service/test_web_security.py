"""What the status page refuses, over real sockets: other names, other sites, what is too much."""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import conftest
import pytest
from peers import free_port, wait_until
from starlette.datastructures import Headers

from node.events import Event
from node.network.tally import Tally
from node.service import status_server
from node.service.actions import Actions
from node.service.guard import HEADERS, is_from_our_page, is_ours, our_names
from node.service.node import open_spool
from node.service.observer import Observer
from node.service.report import Report
from node.service.status_server import StatusServer
from node.service.web import application
from node.settings import Settings, StatusSettings


class Site:
    """A status page over a spool without a node, and who asks it."""

    def __init__(self, root: Path, **status: Any) -> None:
        self.port = free_port()
        self.settings = conftest.settings_of(
            root / "state", conftest.disk(root / "out"), status={"port": self.port, **status}
        )
        spool = open_spool(self.settings, create=True)
        spool.add_destination("disk")
        self.spool = spool
        self.events: list[Event] = []
        observer = Observer(spool)
        actions = Actions(spool, observer, self.settings, self.events.append)

        def snapshot() -> Any:
            return observer.snapshot(
                self.settings, ("127.0.0.1", 11112), Report(tally=Tally()), is_ready=True
            )

        app = application(self.settings.status, snapshot, observer, actions)
        self.server = StatusServer(self.settings.status, app)
        self.server.start()

    def ask(
        self, path: str = "/", method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()

    def token(self) -> str:
        [token, *_] = re.findall(r'name="token" value="([^"]+)"', self.ask()[2])
        return token

    def press(self, action: str, token: str | None = None, **headers: str) -> int:
        fields = {"action": action, "destination": "disk", "token": token or self.token()}
        return self.ask("/act", "POST", urlencode(fields), **headers)[0]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    running = Site(tmp_path)
    yield running
    running.server.stop()


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/style.css", "/nothing", "/act"])
def test_every_answer_has_the_headers(site: Site, path: str) -> None:
    _, headers, _ = site.ask(path)
    found = {name.lower(): value for name, value in headers.items()}
    for name, value in HEADERS.items():
        assert found[name.lower()] == value
    assert "server" not in found


def test_the_page_names_no_other_host_and_runs_nothing_inline(site: Site) -> None:
    page = site.ask()[2]
    assert re.findall(r'(?:src|href|action)="([^"]*)"', page)
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', page):
        assert address.startswith("/"), address
        assert not address.startswith("//"), address
    assert "style=" not in page
    assert re.findall(r"<script(?! src=)", page) == []
    assert re.findall(r"\son\w+=", page) == []


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8112", 200),
        ("localhost:8112", 200),
        ("LOCALHOST", 200),
        ("[::1]:8112", 200),
        ("10.1.2.3", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8112", 421),
        ("", 421),
    ],
)
def test_only_our_names_are_answered(site: Site, host: str, code: int) -> None:
    for path in ("/", "/metrics", "/api/v1/status", "/healthz"):
        assert site.ask(path, Host=host)[0] == code


def test_a_name_of_a_proxy_can_be_allowed() -> None:
    names = our_names(StatusSettings(name="Dcmpress.example.org"))
    assert is_ours("dcmpress.EXAMPLE.org:443", names)
    assert is_ours("dcmpress.example.org.", names)
    assert not is_ours("example.org", names)


def test_a_button_acts_and_goes_into_the_trail(site: Site) -> None:
    assert site.press("pause") == 303
    assert site.spool.paused("disk")
    [event] = site.events
    assert "action='pause', destination='disk', instances=0, by='status page, 127.0.0.1'" in str(
        event
    )
    assert "disk is paused" in site.ask()[2]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_site_cannot_press_a_button(site: Site, headers: dict[str, str]) -> None:
    assert site.press("pause", **headers) == 403
    assert not site.spool.paused("disk")


def test_our_own_origin_may(site: Site) -> None:
    ours = f"127.0.0.1:{site.port}"
    assert (
        site.press("pause", Host=ours, Origin=f"http://{ours}", Sec_Fetch_Site="same-origin") == 303
    )
    assert not is_from_our_page(Headers({"host": "a", "origin": "http://b"}))


@pytest.mark.parametrize("token", ["x", "", "\x00", "ü"])
def test_without_the_token_nothing_is_done(site: Site, token: str) -> None:
    fields = urlencode({"action": "pause", "destination": "disk", "token": token})
    assert site.ask("/act", "POST", fields)[0] == 403
    assert site.ask("/act", "POST", "%%%\n")[0] == 403
    assert not site.spool.paused("disk")


def test_a_get_does_nothing(site: Site) -> None:
    fields = urlencode({"action": "pause", "destination": "disk", "token": site.token()})
    assert site.ask(f"/act?{fields}")[0] == 405
    assert not site.spool.paused("disk")


@pytest.mark.parametrize(
    ("destination", "entry"),
    [
        ("../failed", ""),
        ("disk/..", ""),
        ("nobody", ""),
        ("disk", "../../spool.json"),
        ("disk", "x"),
    ],
)
def test_nothing_from_the_wire_becomes_a_path(site: Site, destination: str, entry: str) -> None:
    fields = {"action": "drop", "destination": destination, "entry": entry, "token": site.token()}
    assert site.ask("/act", "POST", urlencode(fields))[0] == 303
    assert (site.spool.root / "spool.json").exists()
    assert 'class="notice bad"' in site.ask()[2]


def test_what_is_shown_is_escaped(site: Site) -> None:
    fields = {"action": "<script>alert(1)</script>", "destination": "x", "token": site.token()}
    site.ask("/act", "POST", urlencode(fields))
    assert "<script>alert" not in site.ask()[2]


@pytest.mark.parametrize(
    ("control", "allowed"), [("local", True), ("anyone", True), ("nobody", False)]
)
def test_who_may_press(tmp_path: Path, control: str, allowed: bool) -> None:
    site = Site(tmp_path, control=control)
    try:
        assert ('name="token"' in site.ask()[2]) is allowed
        assert site.press("pause", "x") == 403
    finally:
        site.server.stop()


def test_bodies_are_small_and_their_length_is_said(site: Site) -> None:
    assert site.ask("/act", "POST", "x" * 5000)[0] == 413
    assert site.ask("/", "GET", "x")[0] == 413
    assert site.ask("/", "GET", Content_Length="x")[0] in (400, 411)
    assert site.ask("/act", "POST", "0\r\n\r\n", Transfer_Encoding="chunked")[0] == 411
    assert site.ask("/", "PUT")[0] == 405
    # The answer may be lost in the reset of what was not read.
    with contextlib.suppress(ConnectionError):
        assert site.ask("/?" + "x" * 200_000)[0] == 400
    assert site.ask("/healthz")[0] == 200


A_POST = b"POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4000\r\n\r\n"
A_GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
#: What is said at once; then a byte now and then, and nothing is read.
DAWDLERS: dict[str, bytes] = {
    "nothing": b"",
    "half a request": b"GET / HTTP/1.1\r\nHost: 127",
    "a body that does not come": A_POST,
    "half a body": A_POST + b"token=",
    "half a second request": A_GET + b"GET",
    "a body that nobody wants": A_POST.replace(b"POST /act", b"POST /healthz") + b"x",
    "more answers than are read": b"GET /style.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 4000,
}


@pytest.mark.parametrize("case", DAWDLERS)
def test_a_peer_that_makes_us_wait_is_closed(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may press the buttons: a slow body is waited for no longer than a slow request."""
    monkeypatch.setattr(status_server, "_PEER_SECONDS", 0.4)
    site = Site(tmp_path, control="anyone")
    try:
        with socket.create_connection(("127.0.0.1", site.port), 30) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(DAWDLERS[case])

            def is_closed() -> bool:
                try:
                    sock.send(b"x", socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return False
                except OSError:
                    return True
                return False

            wait_until(lambda: is_closed() or time.sleep(0.05), "it is closed")
        assert site.ask("/healthz")[0] == 200
    finally:
        site.server.stop()


@pytest.mark.parametrize("ask", [A_GET, A_POST + b"x" * 4000, A_POST])
@pytest.mark.parametrize("more", [b"\xff\xff\r\n\r\n", b"GET / HTTP/9\r\n\r\n", A_GET[:-2] + b"\0"])
def test_noise_behind_a_request_is_no_error_of_ours(
    ask: bytes, more: bytes, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", site.port), 30) as sock:
            sock.sendall(ask + more)
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while sock.recv(65536):
                    pass
    assert site.ask("/healthz")[0] == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_work_of_ours_is_not_held_against_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An echo to a slow archive takes longer than a peer may."""
    monkeypatch.setattr(status_server, "_PEER_SECONDS", 0.2)
    monkeypatch.setattr(Actions, "do", lambda *_, **__: time.sleep(1))
    site = Site(tmp_path)
    try:
        assert site.press("pause") == 303
    finally:
        site.server.stop()


def connections(site: Site, count: int, address: str) -> contextlib.ExitStack:
    opened = contextlib.ExitStack()
    for _ in range(count):
        with contextlib.suppress(ConnectionError):
            one = socket.create_connection(("127.0.0.1", site.port), 30, (address, 0))
            opened.enter_context(contextlib.closing(one))
    return opened


def test_one_connection_too_many_is_told_so(site: Site) -> None:
    with (
        connections(site, 32, "127.0.0.1"),
        connections(site, 32, "127.0.0.2"),
        socket.create_connection(("127.0.0.1", site.port), 30, ("127.0.0.3", 0)) as one_more,
    ):
        one_more.sendall(A_GET)
        assert one_more.recv(100).startswith(b"HTTP/1.1 503")
    wait_until(lambda: site.ask("/healthz")[0] == 200, "it answers again")


def test_one_address_cannot_have_all_connections(site: Site) -> None:
    with connections(site, 300, "127.0.0.66"):
        assert site.ask("/healthz")[0] == 200


def test_settings_keep_the_page_on_this_machine() -> None:
    assert Settings().status.host == "127.0.0.1"
    assert Settings().status.control == "local"
