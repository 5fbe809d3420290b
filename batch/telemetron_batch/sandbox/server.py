"""The sandbox server: the sandbox API over HTTP on loopback, with an optional rate limit.

The answers come from `endpoints`, the customers and devices from `state`.
"""

import asyncio
import math
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from telemetron_batch.domain.base_url import is_loopback
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.signals import END_SIGNALS
from telemetron_batch.sandbox.endpoints import endpoints
from telemetron_batch.sandbox.faults import CUT, FaultMiddleware, Faults
from telemetron_batch.sandbox.state import RequestLog, SandboxState

HOST: Final = "127.0.0.1"
PATH: Final = "/api/ext-v1"
MAX_DEVICES: Final = 1000
_TICK_S: Final = 0.1
"""Seconds between two ticks of uvicorn's server, which counts ten for a second."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A rate limit: at most `calls` requests are accepted within any `seconds`."""

    calls: int
    seconds: float

    def __post_init__(self) -> None:
        if self.calls < 1 or not self.seconds > 0:
            raise ValueError(f"a limit of {self.calls} calls per {self.seconds} s accepts no request")


class SlidingWindow:
    """A sliding window over the accepted requests; refused ones do not count."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._accepted: deque[float] = deque()

    def wait_or_accept(self, now: float) -> float:
        """Return 0.0 if a request at `now` is accepted, else the seconds until one would be."""
        while self._accepted and self._accepted[0] + self._limit.seconds <= now:
            self._accepted.popleft()
        if len(self._accepted) < self._limit.calls:
            self._accepted.append(now)
            return 0.0
        return self._accepted[0] + self._limit.seconds - now


def sandbox_app(
    state: SandboxState,
    *,
    api_key: str | None = None,
    limit: Limit | None = None,
    max_devices: int = MAX_DEVICES,
    faults: Faults | None = None,
) -> ASGIApp:
    """Return the sandbox API as an ASGI application; the arguments are those of `serve_in_thread`."""
    api: ASGIApp = endpoints(PATH, state, api_key, max_devices)
    if faults is not None:
        api = FaultMiddleware(api, faults)
    return RateLimitMiddleware(api, state, limit)


@contextmanager
def serve_in_thread(  # noqa: PLR0913 - how it answers
    state: SandboxState,
    *,
    port: int = 0,
    api_key: str | None = None,
    limit: Limit | None = None,
    max_devices: int = MAX_DEVICES,
    faults: Faults | None = None,
) -> Iterator[str]:
    """Serve `state` in a thread and yield the base URL; port 0 picks a free port.

    If `api_key` is None, any key but an empty one is accepted. Bulk requests of more than
    `max_devices` devices are refused; `faults` says which requests fail. Raises ConfigError if the
    port cannot be opened.
    """
    api = sandbox_app(state, api_key=api_key, limit=limit, max_devices=max_devices, faults=faults)
    with _listener(port) as listener:
        # Requests may arrive from here on; until the thread runs they wait in the backlog.
        base_url = f"http://{HOST}:{listener.getsockname()[1]}{PATH}"
        server = _server(_LoopbackHostsOnly(api))
        thread = threading.Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
        thread.start()
        try:
            yield base_url
        finally:
            server.end()
            thread.join()


def serve_forever(server: AbstractContextManager[str], announce: Callable[[str], None]) -> None:
    """Keep `server`, which `serve_in_thread` returned, open until SIGINT, SIGTERM or, on Windows, SIGBREAK.

    Calls `announce` once with the base URL. Only for the main thread, because only it can handle signals.
    """
    # A list, not an Event: a handler that sets an Event may deadlock with the wait that it interrupts.
    received: list[int] = []
    former_handlers = {
        number: signal.signal(number, lambda number, _: received.append(number)) for number in END_SIGNALS
    }
    try:
        with server as base_url:
            announce(base_url)
            pause = threading.Event()
            while not received:
                pause.wait(0.2)
    finally:
        for number, handler in former_handlers.items():
            signal.signal(number, handler)


def _listener(port: int) -> socket.socket:
    advice = "choose another port, or 0 for any that is free"
    if not 0 <= port <= 65535:
        raise ConfigError(f"{port} is no port", advice)
    try:
        listener = socket.create_server((HOST, port), backlog=2048)
        # asyncio sets TCP_NODELAY only where the protocol is given; without it short answers are delayed by 40 ms.
        return socket.socket(listener.family, listener.type, socket.IPPROTO_TCP, listener.detach())
    except OSError as exc:
        raise ConfigError(f"cannot listen on {HOST}:{port}: {exc}", advice) from exc


class _Server(uvicorn.Server):
    """A server that ends at once if no request is in flight.

    uvicorn's own looks every 0.1 s whether to end, and then sleeps 0.1 s more: half of the time that a few calls take.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()

    def end(self) -> None:
        """End the server, from another thread."""
        self.should_exit = True
        if self._loop is not None:  # else it has not started, and looks at `should_exit` when it does
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._ending.set)

    async def main_loop(self) -> None:
        """Serve until the end; uvicorn's tick keeps the date of the answers."""
        self._loop = asyncio.get_running_loop()
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close listeners and idle connections; wait as uvicorn does where a request is in flight."""
        if not self.server_state.tasks:
            for one in (*self.servers, *(sockets or ())):
                one.close()
            for connection in [*self.server_state.connections]:
                connection.shutdown()
            await asyncio.sleep(0)  # for the callbacks that close the connections
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)


def _reset(transport: asyncio.Transport) -> None:
    """Close a connection with a reset, as a firewall or a process that is killed does."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _CuttableProtocol(H11Protocol):
    """Lets the application cut the connection of a request: its scope's state holds the function."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, CUT: partial(_reset, transport)}


def _server(api: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            api,
            loop="asyncio",
            http=_CuttableProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            # Longer than a slow rate leaves a connection idle: closing a connection just as the
            # client reuses it would look like an outage.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )


class RateLimitMiddleware:
    """Applies the rate limit to every request, and records requests in the state's history."""

    def __init__(self, api: ASGIApp, state: SandboxState, limit: Limit | None) -> None:
        self._api = api
        self._state = state
        self._window = None if limit is None else SlidingWindow(limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429 to a request beyond the limit; pass on any other."""
        now = time.monotonic()
        wait = 0.0 if self._window is None else self._window.wait_or_accept(now)

        async def record_and_send(message: Message) -> None:
            if self._state.history is not None and message["type"] == "http.response.start":
                self._state.history.append(RequestLog(now, scope["path"], message["status"]))
            await send(message)

        try:
            await (_too_many_requests(wait) if wait else self._api)(scope, receive, record_and_send)
        except asyncio.CancelledError:
            # The server stops before the request body is complete, so nothing has been changed.
            await JSONResponse({"error": "Service unavailable"}, 503)(scope, receive, record_and_send)


class _LoopbackHostsOnly:
    """Refuses requests for other hosts, against DNS rebinding by a web page."""

    def __init__(self, api: ASGIApp) -> None:
        self._api = api
        self._refusal = JSONResponse({"error": f"The sandbox answers to loopback hosts only, such as {HOST}"}, 403)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._api if _has_loopback_host(scope) else self._refusal)(scope, receive, send)


def _has_loopback_host(scope: Scope) -> bool:
    (host, *others) = [text.decode("latin-1") for name, text in scope["headers"] if name == b"host"] or [""]
    try:
        return not others and is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _too_many_requests(wait: float) -> JSONResponse:
    return JSONResponse({"error": "Too many requests"}, 429, {"Retry-After": str(math.ceil(wait))})
