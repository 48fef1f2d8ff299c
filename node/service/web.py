"""The status page, health checks, metrics and API: views of one `Snapshot`, over HTTP.

    /               the page, for people; works without JavaScript and asks no other host
    /act            its buttons: POST, from the page itself, from whom `status.control` allows
    /healthz        200 while the supervisor runs
    /readyz         200 while the node takes instances, 503 otherwise
    /metrics        for Prometheus
    /api/v1/status  the snapshot as JSON

No patient data. `guard` stands in front of all of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route
from starlette.types import ASGIApp

from node.service.actions import Actions
from node.service.guard import Guard, is_from_our_page, is_local
from node.service.metrics import exposition
from node.service.observer import Observer
from node.service.page import Page
from node.service.status import Snapshot
from node.settings import StatusSettings

_FILES: Final = Path(__file__).parent / "templates"
_STATIC: Final = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
#: A form of ours has four fields.
_MOST_FIELDS: Final = 8


def application(
    settings: StatusSettings, get: Callable[[], Snapshot], observer: Observer, actions: Actions
) -> ASGIApp:
    """Return the web application over whatever `get` returns."""
    # Bound to this process: a form of an earlier run is not taken.
    token = secrets.token_urlsafe(32)
    page = Page(observer, token)

    def may_act(request: Request) -> bool:
        is_here = request.client is not None and is_local(request.client.host)
        return settings.control == "anyone" or (settings.control == "local" and is_here)

    def status_page(request: Request) -> Response:
        span = request.query_params.get("span", "")
        notice = actions.notice
        return HTMLResponse(page.render(get(), span, notice, may_act=may_act(request)))

    async def act(request: Request) -> Response:
        if not may_act(request):
            return PlainTextResponse("see status.control: this may not be done from here\n", 403)
        try:
            form = _form(await request.body())
        except ClientDisconnect:
            return PlainTextResponse("the body did not come\n", 400)  # to nobody
        given = form.get("token", "").encode()
        if not (
            is_from_our_page(request.headers) and secrets.compare_digest(given, token.encode())
        ):
            return PlainTextResponse("not from this page: load it anew and press again\n", 403)
        by = f"status page, {request.client.host if request.client else 'unknown'}"
        names = (form.get("action", ""), form.get("destination", ""), form.get("entry", ""))
        await run_in_threadpool(actions.do, *names, by=by)
        return RedirectResponse("/", 303)

    def ready(_: Request) -> Response:
        snapshot = get()
        return PlainTextResponse(f"{snapshot.verdict}\n", 200 if snapshot.is_ready else 503)

    def metrics(_: Request) -> Response:
        body, media_type = exposition(get())
        return Response(body, headers={"Content-Type": media_type})

    app = Starlette(
        routes=[
            Route("/", status_page),
            Route("/act", act, methods=["POST"]),
            Route("/healthz", lambda _: PlainTextResponse("ok\n")),
            Route("/readyz", ready),
            Route("/metrics", metrics),
            Route("/api/v1/status", lambda _: JSONResponse(get().as_fields())),
            *(_static(name, media_type) for name, media_type in _STATIC.items()),
        ]
    )
    return Guard(app, settings)


def _static(name: str, media_type: str) -> Route:
    body = (_FILES / name).read_bytes()
    return Route(f"/{name}", lambda _: Response(body, media_type=media_type))


def _form(body: bytes) -> dict[str, str]:
    """Return the fields of a form; none where it is not one."""
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}
