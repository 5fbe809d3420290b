"""One request and what came back, whole or not: the deadline, the key and the meaning of how it ended.

How a request travels is its carrier's business, and which carrier is the best of those
that are installed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from statistics import median
from typing import Final, TypeVar

import httpx2

from telemetron_batch.api import protocol
from telemetron_batch.api.classify import ErrorResponse, FailureKind, NoResponse, Verdict, WithdrawnError, classify
from telemetron_batch.api.httpx_transport import Given
from telemetron_batch.api.transport import OnSend, RequestTrace, Transport, TransportError
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.printable import printable
from telemetron_batch.rate_limit.headers import ServerHint, read_hints
from telemetron_batch.storage import clock
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.storage.redaction import Redactor

T = TypeVar("T")

_CONNECT_SECONDS: Final = 10.0
_ENOUGH_LATENCIES: Final = 5
_BRUSQUE_AT_MOST: Final = 20
_NO_ROUTE: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class HttpResult:
    """What one request brought: a body to read, or an ending to judge."""

    failure: NoResponse | ErrorResponse | None
    """None: a 2xx, whose `body` is whole."""
    body: bytes = b""
    status: int | None = None
    hint: ServerHint = ServerHint()  # noqa: RUF009 - frozen
    show: protocol.Show = printable
    """Makes texts of the body fit to be stored and shown."""

    @property
    def seems_throttled(self) -> bool:
        """Is it a refusal that says nothing of waiting, and is taken for throttling by its haste alone?"""
        hasty = isinstance(self.failure, ErrorResponse) and self.failure.status == 503 and self.failure.asks_to_wait
        return hasty and not self.hint.retry_after

    def as_server_error(self) -> "HttpResult":
        """The same, where it seems throttled taken for the server error that its status says."""
        if self.seems_throttled and isinstance(self.failure, ErrorResponse):
            return replace(self, failure=replace(self.failure, asks_to_wait=False))
        return self

    def read(self, reader: Callable[[bytes], T], action: Action) -> T | Verdict:
        """What `reader` makes of the body, or the verdict on what cannot be read.

        `reader` raises `wire.UnusableError` where an answer says nothing usable.
        """
        if self.failure is not None:
            return classify(self.failure, action)
        try:
            return reader(self.body)
        except protocol.UnusableError as exc:
            how = FailureKind.NOT_THE_API if isinstance(exc, protocol.NotTheApiError) else FailureKind.UNUSABLE
            text = f"the answer cannot be used: {exc}"
            return classify(NoResponse(how, sent=True, text=text), action)


Post = Callable[[str, bytes, OnSend], Awaitable[HttpResult]]
"""Takes path, body and what is to be called when the request begins to be written; it may raise WithdrawnError."""


class HttpClient:
    """Posts JSON to one host, with one key, each request under one total deadline."""

    def __init__(
        self,
        carrier: Transport,
        key: Secret,
        *,
        timeout: float,
        wall: Callable[[], float],
        secrets: Sequence[Secret] | None = None,
    ) -> None:
        """`secrets` are struck out of all texts that come out of here; None: the key."""
        self._redactor = Redactor(*((key,) if secrets is None else secrets))
        self._carrier = carrier
        self._key = key
        self._timeout = timeout
        self._wall = wall
        self._latencies: deque[float] = deque(maxlen=50)
        self._deadlines: set[asyncio.Timeout] = set()
        self._brusque = 0

    async def post(self, path: str, body: bytes, left: OnSend = lambda: None) -> HttpResult:
        """Make one request; whatever happens to it comes back as a value."""
        trip = RequestTrace(left, clock.now)
        try:
            async with clock.deadline(self._timeout) as limit:
                self._deadlines.add(limit)
                try:
                    received = await self._carrier.post(path, body, self._key, trip)
                finally:
                    self._deadlines.discard(limit)
        except TransportError as exc:
            return self._broken_off(trip, exc)
        except TimeoutError as exc:
            return self._broken_off(trip, TransportError(FailureKind.TIMEOUT, str(exc)))
        except WithdrawnError as exc:
            return self._broken_off(trip, TransportError(FailureKind.WITHDRAWN, str(exc)))
        return self._answered(trip, received)

    def shorten_deadlines(self, seconds: float) -> None:
        """End what is under way in at most so many seconds."""
        latest = clock.now() + seconds
        for limit in self._deadlines:
            when = limit.when()
            limit.reschedule(latest if when is None else min(when, latest))

    def _answered(self, trip: RequestTrace, body: bytes) -> HttpResult:
        """What an answer comes to, given its head and as much of its body as came."""
        status = trip.status or 0
        hint = read_hints(trip.headers, self._wall())
        if not trip.is_refused:
            self._latencies.append(trip.seconds)
            self._brusque = 0
            show = self._redactor.show if self._redactor.may_be_in(body) else printable
            return HttpResult(None, body, status, hint, show)
        waits = hint.retry_after or (status == 503 and self._is_brusque(trip.seconds))
        raw, shown = protocol.read_error(body), protocol.read_error(body, self._redactor.show)
        unredacted = "" if raw == shown else raw.text
        is_api_error = shown.is_api_error and not (status in _NO_ROUTE and _is_phrase(status, raw.text))
        return HttpResult(ErrorResponse(status, shown.text, waits, is_api_error, unredacted), b"", status, hint)

    def _broken_off(self, trip: RequestTrace, exc: TransportError) -> HttpResult:
        """What comes of a request that broke off, and whether that was before it had its answer."""
        if trip.is_refused:
            return self._answered(trip, b"")  # a refusal stands, whatever becomes of its text
        how = exc.kind
        if trip.status is not None and how in (FailureKind.CUT, FailureKind.TLS):
            how = FailureKind.UNUSABLE  # somebody is there, and his answer was cut short
        text = protocol.one_line(_told(how, exc, clock.now() - trip.began), self._redactor.show)
        return HttpResult(NoResponse(how, trip.sent, text), status=trip.status)

    def _is_brusque(self, seconds: float) -> bool:
        """Came a 503 faster than the API ever works? Then a proxy in front of it throttles.

        Unless nothing but such answers comes: then the API behind the proxy is down.
        """
        self._brusque += 1
        fast = len(self._latencies) >= _ENOUGH_LATENCIES and seconds < median(self._latencies) / 2
        return fast and self._brusque <= _BRUSQUE_AT_MOST


@asynccontextmanager
async def open_http(
    base_url: str, *, seconds: float, transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[Transport]:
    """Connections to one host, closed in the end.

    `seconds` is the deadline of an attempt. To connect must take less: a connection that is
    cancelled in its TLS handshake leaks its socket.
    """
    connect = min(_CONNECT_SECONDS, 0.8 * seconds)
    carrier = default_transport(base_url, connect) if transport is None else Given(base_url, transport, connect=connect)
    LOGGER.info("requests travel over %s", carrier.name)
    try:
        yield carrier
    finally:
        await carrier.close()


def default_transport(base_url: str, connect: float) -> Transport:
    """The fastest carrier of those that are installed."""
    try:
        from telemetron_batch.api.aiohttp_transport import AiohttpTransport
    except ImportError:
        from telemetron_batch.api.httpcore_transport import Plain

        return Plain(base_url, connect=connect)
    return AiohttpTransport(base_url, connect=connect)


def _told(how: FailureKind, exc: TransportError, seconds: float) -> str:
    if how is FailureKind.TIMEOUT:
        return f"no answer within {seconds:.0f} s"
    return f"{how.value} ({str(exc).strip() or type(exc.__cause__).__name__})"


def _is_phrase(status: int, text: str) -> bool:
    """Return whether a text says no more than the status: frameworks answer so where they have no route."""
    return text.strip(" .").casefold() == HTTPStatus(status).phrase.casefold()
