"""The web server: uvicorn, with bounds on connections that bring no request or take no answer."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.signals import END_SIGNALS
from telemetron_batch.web.options import ServeOptions

MAX_CONNECTIONS: Final = 512
"""Beyond them, connections that have brought no request are closed, the oldest first."""
_HEAD_S: Final = 10.0
"""Seconds for the head of a request, from the moment when the connection or the last answer is complete."""
_STALLED_S: Final = 30.0
"""Seconds in which a client must take some of an answer."""
_HANDSHAKE_S: Final = 10.0
_KEEP_ALIVE_S: Final = 8
_GRACE_S: Final = 3
_BACKLOG: Final = 512


class BoundedProtocol(H11Protocol):
    """A connection that is closed if it brings no complete head of a request in time, or takes no answer."""

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for the connection if there are too many, and wait for the head of its request."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS and not self._make_room():
            transport.abort()
            return
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Read; the timer of the head ends when the head is complete."""
        super().data_received(data)
        if self._is_busy():
            self._head_timer = _cancel(self._head_timer)

    def on_response_complete(self) -> None:
        """Wait for the head of the next request, unless it is there already."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self._is_busy():
            self._expect_head()

    def pause_writing(self) -> None:
        """The client takes the answer slowly: give it some time to continue."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(_STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken some of the answer."""
        self._write_timer = _cancel(self._write_timer)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._head_timer, self._write_timer = _cancel(self._head_timer), _cancel(self._write_timer)
        super().connection_lost(exc)

    def is_waiting(self) -> bool:
        """Return whether the connection has not brought a request, or not yet the next one."""
        return self._head_timer is not None

    def drop(self) -> None:
        """Close the connection at once."""
        self._head_timer = _cancel(self._head_timer)
        self.transport.abort()

    def _expect_head(self) -> None:
        _cancel(self._head_timer)
        self._head_timer = self.loop.call_later(_HEAD_S, self.drop)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _make_room(self) -> bool:
        waiting = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_waiting()]
        if waiting:
            min(waiting, key=BoundedProtocol.deadline).drop()
        return bool(waiting)

    def deadline(self) -> float:
        """Return when the head must be complete, on the clock of the loop."""
        return 0.0 if self._head_timer is None else self._head_timer.when()


def _cancel(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer. Return what takes its place: nothing."""
    if timer is not None:
        timer.cancel()
    return None


class DeskServer(uvicorn.Server):
    """uvicorn on sockets that are open already; ends on SIGINT and SIGTERM, and then ends the desk too."""

    def __init__(self, app: ASGIApp, tls: ssl.SSLContext | None, on_end: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._tls = tls
        self._on_end = on_end
        self.on_enter: Callable[[], None] | None = None
        """Called when Enter is pressed on the terminal of the server."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        handshake = None if self._tls is None else _HANDSHAKE_S
        self.servers = [
            await loop.create_server(
                self._protocol, sock=one, ssl=self._tls, backlog=_BACKLOG, ssl_handshake_timeout=handshake
            )
            for one in sockets or []
        ]
        if self.on_enter is not None and _is_on_terminal():
            loop.add_reader(sys.stdin.fileno(), self._read_terminal, loop)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, end the desk, and give open requests some seconds."""
        for one in self.servers:
            one.close()
        desk = asyncio.create_task(asyncio.to_thread(self._on_end))
        await super().shutdown(sockets)
        await desk

    def run_until_signal(self, listener: socket.socket) -> None:
        """Serve until SIGINT or SIGTERM. Only for the main thread, because only it can handle signals."""
        former = {number: signal.signal(number, self.handle_exit) for number in END_SIGNALS}
        try:
            asyncio.run(self._serve([listener]))
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _protocol(self) -> asyncio.Protocol:
        return BoundedProtocol(self.config, self.server_state, {})

    def _read_terminal(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read a line from the terminal; not in the background, where reading would stop the process."""
        text = os.read(sys.stdin.fileno(), 4096) if _is_on_terminal() else b""
        if not text:
            loop.remove_reader(sys.stdin.fileno())
        elif self.on_enter is not None:
            self.on_enter()


def _is_on_terminal() -> bool:
    try:
        return sys.platform != "win32" and sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


def listen(options: ServeOptions) -> socket.socket:
    """Return a listening socket. Raises ConfigError if the address cannot be used."""
    advice = "choose another --host or --port"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        with suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen(_BACKLOG)
        except OSError:
            opened.close()
            raise
        return opened
    except (OSError, UnicodeError) as exc:
        what = getattr(exc, "strerror", None) or exc
        raise ConfigError(f"cannot listen on {options.host} port {options.port} ({what})", advice) from exc


def tls_context(options: ServeOptions) -> ssl.SSLContext | None:
    """Return the context of the certificate; None without one. Raises ConfigError if it cannot be used."""
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key, password=lambda: "")
    except (OSError, ValueError) as exc:
        what = getattr(exc, "strerror", None) or getattr(exc, "reason", None) or exc
        advice = "give PEM files, the key without a passphrase"
        raise ConfigError(f"--tls-cert {options.tls_cert} and --tls-key cannot be used ({what})", advice) from exc
    return context
