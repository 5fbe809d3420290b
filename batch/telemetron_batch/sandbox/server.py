"""The embedded stand-in for the Telemetron API: a real HTTP server on loopback, with a rate limit in front.

Knows nothing of the client that calls it. What it says is in `endpoints.py`; what exists
and who owns what is kept by `fleet.py`.
"""

import asyncio
import math
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetron_batch.domain.base_url import is_loopback
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.sandbox.endpoints import endpoints
from telemetron_batch.sandbox.state import RequestLog, SandboxState

HOST: Final = "127.0.0.1"
PATH: Final = "/api/ext-v1"
MAX_DEVICES: Final = 1000


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` requests let in within any `seconds`."""

    calls: int
    seconds: float

    def __post_init__(self) -> None:
        if self.calls < 1 or not self.seconds > 0:
            raise ValueError(f"a limit of {self.calls} calls per {self.seconds} s lets nobody in")


class SlidingWindow:
    """A strict sliding window over arrivals; a refused one does not count."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._let_in: deque[float] = deque()

    def take(self, now: float) -> float:
        """0.0 lets the arrival in; otherwise the seconds until one would be let in."""
        while self._let_in and self._let_in[0] + self._limit.seconds <= now:
            self._let_in.popleft()
        if len(self._let_in) < self._limit.calls:
            self._let_in.append(now)
            return 0.0
        return self._let_in[0] + self._limit.seconds - now


def stand_in(
    fleet: SandboxState, *, api_key: str | None = None, limit: Limit | None = None, max_devices: int = MAX_DEVICES
) -> ASGIApp:
    """The API as an ASGI application; the arguments are those of `serve_in_thread`."""
    return RateLimitMiddleware(endpoints(PATH, fleet, api_key, max_devices), fleet, limit)


@contextmanager
def serve_in_thread(
    fleet: SandboxState,
    *,
    port: int = 0,
    api_key: str | None = None,
    limit: Limit | None = None,
    max_devices: int = MAX_DEVICES,
) -> Iterator[str]:
    """Serves `fleet` from a thread of its own and gives the base URL; port 0 picks a free one.

    `api_key` None accepts any key that is not empty. A bulk request of more than
    `max_devices` devices is refused. Raises ConfigError if the port cannot be had.
    """
    api = stand_in(fleet, api_key=api_key, limit=limit, max_devices=max_devices)
    with _listener(port) as listener:
        # Requests may come from here on: those that beat the thread wait in the backlog.
        base_url = f"http://{HOST}:{listener.getsockname()[1]}{PATH}"
        server = _server(_ForThisMachine(api))
        thread = threading.Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
        thread.start()
        try:
            yield base_url
        finally:
            server.should_exit = True
            thread.join()


def serve_forever(opened: AbstractContextManager[str], announce: Callable[[str], None]) -> None:
    """Keeps `opened` (made by `serve_in_thread`) open until SIGINT or SIGTERM, then closes it and returns.

    `announce` is given the base URL once. Only for the main thread: only there may
    signals be caught.
    """
    # A list, as a handler that set an Event could deadlock with the wait it interrupts.
    caught: list[int] = []
    former = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with opened as base_url:
            announce(base_url)
            pause = threading.Event()
            while not caught:
                pause.wait(0.2)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _listener(port: int) -> socket.socket:
    advice = "choose another port, or 0 for any that is free"
    if not 0 <= port <= 65535:
        raise ConfigError(f"{port} is no port", advice)
    try:
        listener = socket.create_server((HOST, port), backlog=2048)
        # Told that it is TCP, asyncio has short answers leave at once; else each waits 40 ms for an acknowledgement.
        return socket.socket(listener.family, listener.type, socket.IPPROTO_TCP, listener.detach())
    except OSError as exc:
        raise ConfigError(f"cannot listen on {HOST}:{port}: {exc}", advice) from exc


def _server(api: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            api,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            # Longer than a slow pace leaves a connection idle: closing one just as the
            # client takes it up again would look like an outage.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )


class RateLimitMiddleware:
    """What stands before every endpoint: the rate limit, and the note of who came."""

    def __init__(self, api: ASGIApp, fleet: SandboxState, limit: Limit | None) -> None:
        self._api = api
        self._fleet = fleet
        self._window = None if limit is None else SlidingWindow(limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429 to a request beyond the limit; pass on any other."""
        now = time.monotonic()
        wait = 0.0 if self._window is None else self._window.take(now)

        async def noted(message: Message) -> None:
            if self._fleet.history is not None and message["type"] == "http.response.start":
                self._fleet.history.append(RequestLog(now, scope["path"], message["status"]))
            await send(message)

        try:
            await (_too_many_requests(wait) if wait else self._api)(scope, receive, noted)
        except asyncio.CancelledError:
            # The server stops while a body is still on its way, so nothing has been changed.
            await JSONResponse({"error": "Service unavailable"}, 503)(scope, receive, noted)


class _ForThisMachine:
    """Refuses requests that name another host: a page of the web may have a name that leads here."""

    def __init__(self, api: ASGIApp) -> None:
        self._api = api
        self._refusal = JSONResponse({"error": f"The sandbox answers to loopback hosts only, such as {HOST}"}, 403)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._api if _names_this_machine(scope) else self._refusal)(scope, receive, send)


def _names_this_machine(scope: Scope) -> bool:
    (host, *others) = [text.decode("latin-1") for name, text in scope["headers"] if name == b"host"] or [""]
    try:
        return not others and is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _too_many_requests(wait: float) -> JSONResponse:
    return JSONResponse({"error": "Too many requests"}, 429, {"Retry-After": str(math.ceil(wait))})
