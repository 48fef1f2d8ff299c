"""What every request to the status page has to pass, and what every answer carries.

A browser is made to load nothing from elsewhere, to run no script but ours and to be framed by
nobody. A request for a name that is not ours is refused, so that no page of another site can read
this one under a name of its own (DNS rebinding). A request that changes something comes from our
own page: `is_from_our_page` says so of its headers, and the token in the form of its body.
"""

from __future__ import annotations

import ipaddress
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.settings import StatusSettings

#: A form of ours is far smaller.
LARGEST_BODY = 4096

#: `same-origin`, not `no-referrer`: with that, browsers hide the origin of our own forms.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Stands in front of an application."""

    def __init__(self, app: ASGIApp, settings: StatusSettings) -> None:
        self._app = app
        self._names = our_names(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on; either way the answer gets its headers."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        if not is_ours(headers.get("host", ""), self._names):
            return _plain(
                421, "this page is not known by that name: set status.name to use it by one"
            )
        if method not in ("GET", "HEAD", "POST"):
            return _plain(405, "only GET, HEAD and POST are understood")
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal():
            return _plain(411, "the length of the body is not said")
        if int(length) > LARGEST_BODY or (method != "POST" and int(length)):
            return _plain(413, "the body is too large")
        return None


def _plain(code: int, text: str) -> PlainTextResponse:
    return PlainTextResponse(text + "\n", code)


def our_names(settings: StatusSettings) -> frozenset[str]:
    """Return the host names under which the page may be asked for, beside every address."""
    names = {"localhost", socket.gethostname(), settings.host, settings.name or "localhost"}
    return frozenset(name.lower() for name in names)


def is_ours(host: str, names: frozenset[str]) -> bool:
    """Tell whether the Host header names us. Whoever rebinds a name cannot rebind an address."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.lower().removesuffix(".")
    if name in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def is_from_our_page(headers: Headers) -> bool:
    """Tell whether a browser says that a request comes from our own page.

    Other programs say nothing of it, and have no user whose rights a page could borrow.
    """
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    host, origin = headers.get("host", ""), headers.get("origin")
    return origin is None or origin in (f"http://{host}", f"https://{host}")


def is_local(address: str) -> bool:
    """Tell whether a request came from this machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
