"""HTTP client: one request under one deadline, whose result is always a value.

The client adds the key, redacts secrets and reads rate limit hints. `api.http` does the I/O.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from statistics import median
from typing import Any, Final, TypeVar

from telemetron_batch.api import protocol
from telemetron_batch.api.classify import (
    ErrorResponse,
    FailureKind,
    NoUsableResponse,
    Verdict,
    WithdrawnError,
    classify,
)
from telemetron_batch.api.http import LIBRARY, PooledTransport, post
from telemetron_batch.api.key_renewal import KeyRenewal
from telemetron_batch.api.request_trace import OnSend, RequestTrace, TransportError
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.config.network import choose_proxy
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.printable import printable
from telemetron_batch.rate_limit.headers import ServerHint, read_hints
from telemetron_batch.storage import clock
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.storage.redaction import Redactor

T = TypeVar("T")

_MAX_CONNECT_S: Final = 10.0
"""Longest time for opening a connection, in seconds."""
_MIN_LATENCY_SAMPLES: Final = 5
"""Minimum number of answers before the usual response time is known."""
_MAX_FAST_503: Final = 20
"""Answers of status 503 in a row that may count as throttling. After more, the API is taken for down."""
_NO_ROUTE: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class HttpResult:
    """The result of one request: a body to read, or a failure to classify."""

    failure: NoUsableResponse | ErrorResponse | None
    """None for a 2xx with a complete `body`."""
    body: bytes = b""
    status: int | None = None
    hint: ServerHint = ServerHint()  # noqa: RUF009 - frozen
    sanitize: protocol.Sanitizer = printable
    """Makes texts of the body safe to store and show."""
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    """Seconds of `connect` and `tls`, where a connection was opened, and of `answer`, from the start to its head."""

    @property
    def seems_throttled(self) -> bool:
        """Whether this is a 503 that counts as throttling only because it came much faster than usual."""
        asks = isinstance(self.failure, ErrorResponse) and self.failure.status == 503 and self.failure.asks_to_wait
        return asks and not self.hint.retry_after

    def as_server_error(self) -> "HttpResult":
        """Return the result, with a 503 that seems throttled turned into a plain server error."""
        if self.seems_throttled and isinstance(self.failure, ErrorResponse):
            return replace(self, failure=replace(self.failure, asks_to_wait=False))
        return self

    def read(self, reader: Callable[[bytes], T], action: Action) -> T | Verdict:
        """Return what `reader` makes of the body, or the verdict on a failure or an unusable body.

        `reader` raises `protocol.UnusableError` for a body that it cannot use.
        """
        if self.failure is not None:
            return classify(self.failure, action)
        try:
            return reader(self.body)
        except protocol.UnusableError as exc:
            kind = FailureKind.NOT_THE_API if isinstance(exc, protocol.NotTheApiError) else FailureKind.UNUSABLE
            text = f"the answer cannot be used: {exc}"
            return classify(NoUsableResponse(kind, sent=True, text=text), action)


Post = Callable[[str, bytes, OnSend], Awaitable[HttpResult]]
"""Takes the path, the body and the function to call when the request begins to be written."""


class HttpClient:
    """Posts JSON to one host with one key, each request under one total deadline."""

    def __init__(
        self,
        target: ApiTarget,
        *,
        timeout: float,
        wall: Callable[[], float],
        connect: float | None = None,
        secrets: Sequence[Secret] | None = None,
    ) -> None:
        """Redact `secrets`, by default the key, in all texts of results.

        `timeout` is the deadline of a request in seconds, and `connect` that of a connection, by default less:
        a failure to connect says more than a request that took too long.
        """
        self._renewal = KeyRenewal(target.key_source, target.current_key)
        later = None if target.key_source is None else target.key_source.known_keys
        self._redactor = Redactor(*((target.key,) if secrets is None else secrets), later=later)
        self._target = replace(target, key=self._renewal.key)
        self._connect = min(_MAX_CONNECT_S, 0.8 * timeout) if connect is None else connect
        self._timeout = timeout
        self._wall = wall
        self._latencies: deque[float] = deque(maxlen=50)
        self._deadlines: set[asyncio.Timeout] = set()
        self._consecutive_503 = 0

    async def post(self, path: str, body: bytes, on_send: OnSend = lambda: None) -> HttpResult:
        """Make one request and return its result; failures are results, not exceptions.

        If the API refuses the key and its source gives another one, the next requests have that key.
        """
        used = self._target.key
        result = await self._post(path, body, on_send)
        if isinstance(result.failure, ErrorResponse) and result.failure.status == HTTPStatus.UNAUTHORIZED:
            return replace(result, failure=await self._renew_key(used, result.failure))
        return result

    async def _renew_key(self, refused: Secret, failure: ErrorResponse) -> ErrorResponse:
        """Return the refusal of a key, with the mark that there is another key, or the words why there is none."""
        if await self._renewal.replace(refused):
            self._target = replace(self._target, key=self._renewal.key)
            return replace(failure, is_key_replaced=True)
        words = "; ".join(filter(None, (failure.text, self._redactor.show(self._renewal.problem))))
        return replace(failure, text=words)

    async def _post(self, path: str, body: bytes, on_send: OnSend) -> HttpResult:
        trace = RequestTrace(on_send, clock.now)
        try:
            async with clock.deadline(self._timeout) as limit:
                self._deadlines.add(limit)
                try:
                    received = await post(self._target, path, body, trace, self._connect)
                finally:
                    self._deadlines.discard(limit)
        except TransportError as exc:
            return self._failed(trace, exc)
        except TimeoutError as exc:
            return self._failed(trace, TransportError(FailureKind.TIMEOUT, str(exc)))
        except WithdrawnError as exc:
            return self._failed(trace, TransportError(FailureKind.WITHDRAWN, str(exc)))
        return self._answered(trace, received)

    def shorten_deadlines(self, seconds: float) -> None:
        """Limit the time that requests in flight still have, in seconds from now."""
        asyncio.get_running_loop().call_later(seconds, self._renewal.abort)
        latest = clock.now() + seconds
        for limit in self._deadlines:
            when = limit.when()
            if not limit.expired():
                limit.reschedule(latest if when is None else min(when, latest))

    def _answered(self, trace: RequestTrace, body: bytes) -> HttpResult:
        """Return the result of an answer with this body, of which an error's may be incomplete."""
        status = trace.status or 0
        hint = read_hints(trace.headers, self._wall())
        if not trace.is_refused:
            self._latencies.append(trace.seconds)
            self._consecutive_503 = 0
            sanitize = self._redactor.show if self._redactor.may_be_in(body) else printable
            return HttpResult(None, body, status, hint, sanitize, trace.phase_seconds)
        waits = hint.retry_after or (status == 503 and self._is_suspiciously_fast_503(trace.seconds))
        raw, shown = protocol.read_error(body), protocol.read_error(body, self._redactor.show)
        unredacted = "" if raw == shown else raw.text
        is_api_error = shown.is_api_error and not (status in _NO_ROUTE and _is_phrase(status, raw.text))
        failure = ErrorResponse(status, shown.text, waits, is_api_error, unredacted)
        return HttpResult(failure, b"", status, hint, seconds=trace.phase_seconds)

    def _failed(self, trace: RequestTrace, exc: TransportError) -> HttpResult:
        """Return the result of a request without a complete answer."""
        if trace.is_refused:
            return self._answered(trace, b"")  # the status alone decides; the text may be missing
        kind = exc.kind
        if trace.status is not None and kind in (FailureKind.CUT, FailureKind.TLS):
            kind = FailureKind.UNUSABLE  # the server is up, and its answer was cut short
        text = protocol.one_line(_failure_text(kind, exc, clock.now() - trace.began), self._redactor.show)
        return HttpResult(NoUsableResponse(kind, trace.sent, text), status=trace.status, seconds=trace.phase_seconds)

    def _is_suspiciously_fast_503(self, seconds: float) -> bool:
        """Return whether a 503 came much faster than normal answers: then a proxy throttles.

        After many such answers in a row, the API behind the proxy is taken for down instead.
        """
        self._consecutive_503 += 1
        fast = len(self._latencies) >= _MIN_LATENCY_SAMPLES and seconds < median(self._latencies) / 2
        return fast and self._consecutive_503 <= _MAX_FAST_503


@asynccontextmanager
async def open_client(target: ApiTarget, **options: Any) -> AsyncIterator[HttpClient]:
    """Open a client, and close its connections at the end. `options` are those of `HttpClient`. Raises ConfigError."""
    transport = target.transport
    if transport is None:
        proxy = choose_proxy(target.base_url, target.network.proxy)
        LOGGER.info("HTTP library: %s; proxy: %s", LIBRARY, "none" if proxy is None else proxy.shown)
        transport = PooledTransport(target.base_url, target.network, proxy)
    try:
        yield HttpClient(replace(target, transport=transport), **options)
    finally:
        await transport.aclose()


def _failure_text(kind: FailureKind, exc: TransportError, seconds: float) -> str:
    if kind is FailureKind.TIMEOUT:
        return f"no answer within {seconds:.0f} s"
    if kind in (FailureKind.PROXY_LOGIN, FailureKind.PROXY_REFUSED):
        return str(exc)  # the stop says what it means
    return f"{kind.value} ({str(exc).strip() or type(exc.__cause__).__name__})"


def _is_phrase(status: int, text: str) -> bool:
    """Return whether a text only repeats the status, as web frameworks answer for a path without a route."""
    return text.strip(" .").casefold() == HTTPStatus(status).phrase.casefold()
