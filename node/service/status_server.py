"""The server of the status page: one thread of the supervisor.

Where its port is taken the node runs without it and says so. Connections are few, and one on which
no request arrives is closed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from node.errors import CannotWrite
from node.network.ports import listening_socket
from node.settings import StatusSettings

log = logging.getLogger(__name__)

#: More are answered 503: a page, a scrape and a few people need no more.
_MOST_CONNECTIONS = 64
#: Request line and headers together.
_HEAD_BYTES = 16 * 1024
#: Time for the first request, and between two on one connection, in seconds.
_REQUEST_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 10


class _Impatient(H11Protocol):
    """Closes a connection whose first request does not come; uvicorn would wait for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_REQUEST_SECONDS, self._require_request)

    def _require_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class StatusServer:
    """Serves an application in a thread, where the settings ask for it."""

    def __init__(self, settings: StatusSettings, app: ASGIApp) -> None:
        self._settings = settings
        self._app = app
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
            self._app,
            http=_Impatient,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
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
