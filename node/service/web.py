"""The status page, health checks, metrics and API: views of one `Snapshot`, over HTTP.

    /               the page, for people; works without JavaScript and asks no other host
    /healthz        200 while the supervisor runs
    /readyz         200 while the node takes instances, 503 otherwise
    /metrics        for Prometheus
    /api/v1/status  the snapshot as JSON

Read-only, without patient data. It runs in a thread of the supervisor; where its port is taken the
node runs without it and says so.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from node.errors import CannotWrite
from node.network.ports import listening_socket
from node.service.metrics import exposition
from node.service.status import Snapshot
from node.settings import StatusSettings

log = logging.getLogger(__name__)

_TEMPLATES = Path(__file__).parent / "templates"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def application(get: Callable[[], Snapshot]) -> Starlette:
    """Return the web application over whatever `get` returns."""
    page = _page_template()

    def status_page(_: Request) -> Response:
        return HTMLResponse(page.render(s=get()), headers=_HEADERS)

    def style(_: Request) -> Response:
        text = (_TEMPLATES / "style.css").read_text("utf-8")
        return Response(text, media_type="text/css", headers=_HEADERS)

    def healthy(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_HEADERS)

    def ready(_: Request) -> Response:
        snapshot = get()
        code = 200 if snapshot.is_ready else 503
        return PlainTextResponse(f"{snapshot.verdict}\n", code, headers=_HEADERS)

    def metrics(_: Request) -> Response:
        body, media_type = exposition(get())
        return Response(body, headers={**_HEADERS, "Content-Type": media_type})

    def api(_: Request) -> Response:
        return JSONResponse(asdict(get()), headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/", status_page),
            Route("/style.css", style),
            Route("/healthz", healthy),
            Route("/readyz", ready),
            Route("/metrics", metrics),
            Route("/api/v1/status", api),
        ]
    )


def _page_template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["size"] = in_units
    return environment.get_template("status.html")


def in_units(count: float) -> str:
    """Return a number of bytes as people read it, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class StatusServer:
    """Serves the application in a thread, where the settings ask for it."""

    def __init__(self, settings: StatusSettings, get: Callable[[], Snapshot]) -> None:
        self._settings = settings
        self._get = get
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._listening: socket.socket | None = None

    def start(self) -> None:
        """Begin to serve; a port that is taken is logged, and the node runs without the page."""
        if not self._settings.port:
            return
        try:
            self._listening = listening_socket(self._settings.host, self._settings.port)
        except CannotWrite as failure:
            log.error("no status page: %s", str(failure).replace("--port", "--status-port"))
            return
        config = uvicorn.Config(
            application(self._get), log_config=None, access_log=False, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        # Signals are the supervisor's.
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listening],), name="status", daemon=True
        )
        self._thread.start()
        log.info("status page on http://%s:%d/", self._settings.host, self._settings.port)

    def stop(self) -> None:
        """Stop serving."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(5)
        if self._listening is not None:
            self._listening.close()
