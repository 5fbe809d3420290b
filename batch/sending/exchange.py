"""One request over the wire and what came back: the only module that knows the HTTP library.

Every exception of the library ends here, as a `NoAnswer` that says how the attempt
ended and whether a byte of it can have reached the server. The latter is read off the
transport's own trace, not guessed from the exception: the same `ReadError` comes when
the server never saw the request and when it has long acted on it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final, TypeVar

import httpx2

from batch import __version__, clock
from batch.model import Action, Secret
from batch.sending import wire
from batch.sending.hints import Hint, read_hints
from batch.sending.verdict import Broken, NoAnswer, Refusal, Verdict, WithdrawnError, judge

T = TypeVar("T")

LARGEST_BODY: Final = 64 * 1024 * 1024
_CONNECT_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 4.0
"""Shorter than common servers keep an idle connection, so that few close under a request."""
_ENOUGH_LATENCIES: Final = 5
_BRUSQUE_AT_MOST: Final = 20

ENDINGS: Final[Mapping[type[Exception], Broken]] = {
    httpx2.ConnectError: Broken.CONNECTION,
    httpx2.ConnectTimeout: Broken.CONNECTION,
    httpx2.PoolTimeout: Broken.CONNECTION,
    httpx2.ProxyError: Broken.CONNECTION,
    httpx2.ReadTimeout: Broken.TIMEOUT,
    httpx2.WriteTimeout: Broken.TIMEOUT,
    TimeoutError: Broken.TIMEOUT,
    httpx2.ReadError: Broken.CUT,
    httpx2.WriteError: Broken.CUT,
    httpx2.CloseError: Broken.CUT,
    httpx2.RemoteProtocolError: Broken.CUT,
    httpx2.DecodingError: Broken.UNUSABLE,
    WithdrawnError: Broken.WITHDRAWN,
}
"""How each way to fail ends an attempt. What is not here is a bug of ours and is raised."""

_HEADERS: Final = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "user-agent": f"telemetron-batch/{__version__}",
}

_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""Where a transport keeps no trace, these alone tell that nothing was sent."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one request brought: a body to read, or an ending to judge."""

    ending: NoAnswer | Refusal | None
    """None: a 2xx, whose `body` is whole."""
    body: bytes = b""
    status: int | None = None
    hint: Hint = Hint()  # noqa: RUF009 - frozen

    @property
    def seems_throttled(self) -> bool:
        """Is it a refusal that says nothing of waiting, and is taken for throttling by its haste alone?"""
        hasty = isinstance(self.ending, Refusal) and self.ending.status == 503 and self.ending.asks_to_wait
        return hasty and not self.hint.retry_after

    def at_its_word(self) -> "Exchange":
        """The same, where it seems throttled taken for the server error that its status says."""
        if self.seems_throttled and isinstance(self.ending, Refusal):
            return replace(self, ending=replace(self.ending, asks_to_wait=False))
        return self

    def read(self, reader: Callable[[bytes], T], action: Action) -> T | Verdict:
        """What `reader` makes of the body, or the verdict on what cannot be read.

        `reader` raises `wire.UnusableError` where an answer says nothing usable.
        """
        if self.ending is not None:
            return judge(self.ending, action)
        try:
            return reader(self.body)
        except wire.UnusableError as exc:
            text = f"the answer cannot be used: {exc}"
            return judge(NoAnswer(Broken.UNUSABLE, sent=True, text=text), action)


Left = Callable[[], None]
Post = Callable[[str, bytes, Left], Awaitable[Exchange]]
"""Takes path, body and what is to be called when the request begins to be written; it may raise WithdrawnError."""


class _TooLargeError(Exception):
    """The decoded body exceeds what any honest answer needs."""


class _Trace:
    """Listens to the transport: has it begun to write the request?"""

    def __init__(self, left: Left) -> None:
        self._left = left
        self._heard = False
        self._begun = False
        self.status: int | None = None
        """Of the answer, once its head has come."""

    async def __call__(self, event: str, _: Mapping[str, Any]) -> None:
        self._heard = True
        if event.endswith("send_request_headers.started"):
            self._left()
            self._begun = True

    def sent(self, exc: Exception) -> bool:
        """Can a byte of the request have left, given how it ended?"""
        return self._begun if self._heard else not isinstance(exc, _NEVER_SENT)


class Exchanger:
    """Posts JSON to one host, with one key, each request under one total deadline."""

    def __init__(self, connections: "Connections", key: Secret, *, timeout: float, wall: Callable[[], float]) -> None:
        self._connections = connections
        self._key = key
        self._timeout = timeout
        self._wall = wall
        self._latencies: deque[float] = deque(maxlen=50)
        self._deadlines: set[asyncio.Timeout] = set()
        self._brusque = 0

    async def post(self, path: str, body: bytes, left: Left = lambda: None) -> Exchange:
        """Make one request; whatever happens to it comes back as a value."""
        trace = _Trace(left)
        began = clock.now()
        try:
            async with self._deadline():
                return await self._request(path, body, trace)
        except tuple(ENDINGS) as exc:
            how = next(ending for kind, ending in ENDINGS.items() if isinstance(exc, kind))
            if trace.status is not None and how is Broken.CUT:
                how = Broken.UNUSABLE  # somebody is there, and his answer was cut short
            text = _told(how, exc, clock.now() - began)
            return Exchange(NoAnswer(how, trace.sent(exc), text), status=trace.status)
        except _TooLargeError:
            text = f"an answer of over {LARGEST_BODY >> 20} MiB"
            return Exchange(NoAnswer(Broken.UNUSABLE, sent=True, text=text), status=trace.status)

    def hurry(self, seconds: float) -> None:
        """End what is under way in at most so many seconds."""
        latest = clock.now() + seconds
        for limit in self._deadlines:
            when = limit.when()
            limit.reschedule(latest if when is None else min(when, latest))

    async def _request(self, path: str, body: bytes, trace: _Trace) -> Exchange:
        began = clock.now()
        # Set for each request rather than on what lasts: that could be printed.
        headers = {"x-api-key": self._key.reveal(), "content-type": "application/json"}
        async with self._connections.post(path, body, headers, trace) as response:
            seconds = clock.now() - began
            trace.status = response.status_code
            hint = read_hints(response.headers, self._wall())
            if response.is_success:
                self._latencies.append(seconds)
                self._brusque = 0
                return Exchange(None, self._without_key(await _whole(response)), response.status_code, hint)
            text = wire.read_error(self._without_key(await _as_far_as_it_comes(response)))
            waits = hint.retry_after or (response.status_code == 503 and self._is_brusque(seconds))
            return Exchange(Refusal(response.status_code, text, waits), b"", response.status_code, hint)

    def _without_key(self, body: bytes) -> bytes:
        """What a server echoes of our key goes no further."""
        return body.replace(self._key.reveal().encode(), b"***")

    def _is_brusque(self, seconds: float) -> bool:
        """Came a 503 faster than the API ever works? Then a proxy in front of it throttles.

        Unless nothing but such answers comes: then the API behind the proxy is down.
        """
        self._brusque += 1
        fast = len(self._latencies) >= _ENOUGH_LATENCIES and seconds < median(self._latencies) / 2
        return fast and self._brusque <= _BRUSQUE_AT_MOST

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        async with clock.deadline(self._timeout) as limit:
            self._deadlines.add(limit)
            try:
                yield
            finally:
                self._deadlines.discard(limit)


class Connections:
    """Kept connections to one host: no redirects, no cookies, no proxies or credentials from the environment.

    Each has a transport of its own, and the one that came free last is taken first. A
    pool for all would look at every idle connection whenever one is wanted, and a client
    on top would do for each request what is wanted for none: together that is more than
    all else that a call costs.
    """

    def __init__(self, base_url: str, open_one: Callable[[], httpx2.AsyncBaseTransport], *, connect: float) -> None:
        self._base_url = base_url.rstrip("/")
        self._open_one = open_one
        self._timeout = {"connect": connect, "read": None, "write": None, "pool": None}
        self._urls: dict[str, httpx2.URL] = {}
        self._idle: list[httpx2.AsyncBaseTransport] = []

    @asynccontextmanager
    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], trace: _Trace
    ) -> AsyncIterator[httpx2.Response]:
        """The response to one request, its body not yet read."""
        if path not in self._urls:
            self._urls[path] = httpx2.URL(self._base_url + path)
        extensions = {"timeout": self._timeout, "trace": trace}
        request = httpx2.Request(
            "POST", self._urls[path], headers={**_HEADERS, **headers}, content=body, extensions=extensions
        )
        transport = self._idle.pop() if self._idle else self._open_one()
        try:
            response = await transport.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            self._idle.append(transport)

    async def close(self) -> None:
        """Close all that is idle, and that is all when nothing is under way."""
        while self._idle:
            await self._idle.pop().aclose()


@asynccontextmanager
async def connected(
    base_url: str, *, seconds: float, transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[Connections]:
    """Connections to one host, closed in the end.

    `seconds` is the deadline of an attempt. To connect must take less: a connection that is
    cancelled in its TLS handshake leaks its socket.
    HTTP/1.1 only: with HTTP/2 all calls would share the fate of one connection.
    """
    limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS)
    trusted = httpx2.create_ssl_context()  # what the system trusts, or SSL_CERT_FILE where that is set

    def open_one() -> httpx2.AsyncBaseTransport:
        return transport or httpx2.AsyncHTTPTransport(verify=trusted, trust_env=False, limits=limits)

    connections = Connections(base_url, open_one, connect=min(_CONNECT_SECONDS, 0.8 * seconds))
    try:
        yield connections
    finally:
        await connections.close()


async def _whole(response: httpx2.Response) -> bytes:
    """The decoded body, unless it is absurdly large."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > LARGEST_BODY:
            body.clear()  # or the exception would keep it alive while the connection is closed
            raise _TooLargeError
    return bytes(body)


async def _as_far_as_it_comes(response: httpx2.Response) -> bytes:
    """The body of a refusal: its status stands, whatever becomes of its text."""
    try:
        return await _whole(response)
    except (httpx2.HTTPError, _TooLargeError):
        return b""


def _told(how: Broken, exc: Exception, seconds: float) -> str:
    if how is Broken.TIMEOUT:
        return f"no answer within {seconds:.0f} s"
    return f"{how.value} ({' '.join(str(exc).split()) or type(exc).__name__})"
