"""The server of the status page: one thread of the supervisor.

Where its port is taken the node runs without it and says so. Connections are few, those of one
address fewer, and one whose peer makes us wait, for a request, its body, or to read the answer, is
closed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from node.errors import CannotWrite
from node.network.ports import listening_socket
from node.settings import StatusSettings

log = logging.getLogger(__name__)

#: More are answered 503: a page, a scrape and a few people need no more.
_MOST_CONNECTIONS = 64
#: More are closed at once: each costs the supervisor a descriptor.
_MOST_OPEN = 2 * _MOST_CONNECTIONS
#: Of one address: a browser opens six, and a proxy is one address for several people.
_MOST_OF_ONE = _MOST_CONNECTIONS // 2
#: Request line and headers together.
_HEAD_BYTES = 16 * 1024
#: Time for a peer to send a request, and as much to read its answer, in seconds.
_PEER_SECONDS = 10.0
_LOOKS = 4


class _Impatient(H11Protocol):
    """Closes a connection whose peer makes us wait; uvicorn would wait for ever."""

    _waited_for: tuple[object, str] = (None, "")
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        ours = [one for one in self.connections if isinstance(one, _Impatient)]
        of_one = [one for one in ours if one._host == self._host]
        if len(self.connections) > _MOST_OPEN or len(of_one) > _MOST_OF_ONE:
            # Now: until the transport says that it is lost, others would be counted with it.
            self.connections.discard(self)
            transport.abort()
        else:
            self._look()

    @property
    def _host(self) -> str:
        return self.client[0] if self.client else ""

    def _look(self) -> None:
        """Look now and then how long the peer has been owing us the same."""
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        now, waited_for = self.loop.time(), (self.cycle, self._what_we_wait_for())
        if waited_for != self._waited_for:
            self._waited_for, self._since = waited_for, now
        elif waited_for[1] and now - self._since >= _PEER_SECONDS:
            self.transport.abort()
            return
        self.loop.call_later(_PEER_SECONDS / _LOOKS, self._look)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request; in the middle of another answer there is no room for that."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.conn.our_state is not h11.IDLE:
            if self.cycle is not None:
                self.cycle.disconnected = True  # its answer is wanted no more
                self.cycle.message_event.set()
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _what_we_wait_for(self) -> str:
        """Return what the peer has to do next, "" where it is our turn."""
        if self.transport.get_write_buffer_size():
            return "to read"
        if self.cycle is None or self.cycle.response_complete:
            return "to ask"
        return "to send the body" if self.cycle.more_body else ""


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
            timeout_keep_alive=round(_PEER_SECONDS),
            # A line for each bad request would be a flood of them.
            log_level=logging.ERROR,
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
