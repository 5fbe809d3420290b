"""Transport interface: send one POST, report when its first byte leaves, return a size-limited body.

A transport keeps connections to one host. It follows no redirects, stores no cookies, takes no
proxies or credentials from the environment and never retries. It translates its library's
exceptions to `TransportError`. `RequestTrace` records whether the request began to leave; this is
never derived from an exception, because the same error comes before and after the server has
seen the request.
"""

import ssl
import zlib
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Final, Protocol

import httpx2

from telemetron_batch import __version__
from telemetron_batch.api.classify import FailureKind
from telemetron_batch.domain.model import Secret

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Bytes of an answer at most. No valid answer is larger."""
LARGEST_ERROR: Final = 1024 * 1024
"""Bytes of an error body that are read at most."""
IDLE_SECONDS: Final = 4.0
"""Seconds for which an idle connection is kept. Common servers close theirs later, so few close under a request."""
HEADERS: Final[Mapping[str, str]] = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "content-type": "application/json",
    "user-agent": f"telemetron-batch/{__version__}",
}
KEY_HEADER: Final = "x-api-key"
"""Set on each request instead of the session, whose headers could be printed."""

_ZLIB_OR_GZIP: Final = 47
"""The wbits value with which zlib detects both formats."""
_MAX_UNCHECKED_BYTES: Final = 1024 * 1024
"""Bytes up to which an answer is decompressed at any ratio."""
_MAX_COMPRESSION_RATIO: Final = 100
"""Ratio at which decompression stops beyond `_MAX_UNCHECKED_BYTES`. No valid answer compresses better."""
_DECOMPRESS_STEP: Final = 1 << 20
"""Bytes that are decompressed at a time."""

OnSend = Callable[[], None]
"""Called when a request begins to be written; it may raise WithdrawnError."""


class TransportError(Exception):
    """The request got no complete answer. `kind` is the kind of failure; `str()` is the library's text."""

    def __init__(self, kind: FailureKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class StaleConnectionError(Exception):
    """A used connection received bytes before the next request. They would be taken for that request's answer."""


def unexpected_data_error() -> TransportError:
    """Return the error for a new connection that received bytes, or was closed, before the first request."""
    return TransportError(FailureKind.CUT, "the server answered or hung up before it was asked")


def transport_error(
    exc: Exception, error_kinds: Mapping[type[Exception], FailureKind], text: str | None = None
) -> TransportError:
    """Translate a library's exception by the first kind that fits; `text` replaces the exception's text."""
    kind = next(kind for error, kind in error_kinds.items() if isinstance(exc, error))
    if kind in (FailureKind.CONNECTION, FailureKind.CUT) and _is_tls_failure(exc):
        kind = FailureKind.TLS
    return TransportError(kind, str(exc) if text is None else text)


def _is_tls_failure(exc: BaseException | None) -> bool:
    """Return whether the exception or one of its causes is a TLS failure other than a closed connection."""
    while exc is not None:
        if isinstance(exc, ssl.SSLError):
            return not isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        exc = exc.__cause__
    return False


class RequestTrace:
    """What a transport observes of one request: whether it began to leave and whether an answer began to come."""

    __slots__ = ("_now", "_on_send", "began", "headers", "seconds", "sent", "status")

    def __init__(self, on_send: OnSend, now: Callable[[], float]) -> None:
        self._on_send = on_send
        self._now = now
        self.began = now()
        self.sent = False
        """Whether a byte of the request may have reached the server."""
        self.status: int | None = None
        """Status of the answer; None until its head has come."""
        self.headers: Mapping[str, str] = {}
        """Headers of the answer, with names in lower case."""
        self.seconds = 0.0
        """Seconds until the head of the answer came."""

    def mark_sending(self) -> None:
        """Record that the request begins to be written. If this raises WithdrawnError, no byte may be written."""
        if not self.sent:
            self._on_send()
            self.sent = True

    @property
    def is_refused(self) -> bool:
        """Whether the head of an answer other than 2xx has come."""
        return self.status is not None and not 200 <= self.status < 300

    @property
    def largest_body(self) -> int:
        """Bytes of the answer's body that are read at most: less for an error."""
        return LARGEST_ERROR if self.is_refused else MAX_BODY_BYTES

    def mark_response(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Record that the head of the answer has come."""
        self.seconds = self._now() - self.began
        self.status = status
        fields: dict[str, str] = {}
        for name, value in headers:
            name = name.lower()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        self.headers = fields


class Transport(Protocol):
    """Connections to one host, one for each request in flight; idle ones are used again."""

    name: str
    """Name and version of the library."""

    async def post(self, path: str, body: bytes, key: Secret, trace: RequestTrace) -> bytes:
        """Make one request and return the decoded body; the head goes to `trace`. Raises TransportError."""

    async def close(self) -> None:
        """Close all idle connections; call this when no request is in flight."""


async def read_limited(chunks: AsyncIterable[bytes], trace: RequestTrace) -> bytes:
    """Return the answer's body; an error's body is cut. Raises TransportError if another body is too large."""
    body, limit = bytearray(), trace.largest_body
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            return _cut(body, trace)
    return bytes(body)


def _cut(body: bytearray, trace: RequestTrace) -> bytes:
    """Return the beginning of an error's body. Raises TransportError for another body."""
    if trace.is_refused:
        return bytes(body[:LARGEST_ERROR])
    size = len(body) >> 20
    body.clear()  # the exception would keep it in memory while the connection is closed
    raise TransportError(FailureKind.UNUSABLE, f"an answer of over {size} MiB")


def decompress(body: bytes, trace: RequestTrace) -> bytes:
    """Return the body, decompressed according to the answer's headers. Raises TransportError."""
    encoding = trace.headers.get("content-encoding", "")
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise TransportError(FailureKind.UNUSABLE, f"content-encoding {encoding}")
    limit = min(trace.largest_body, max(_MAX_UNCHECKED_BYTES, _MAX_COMPRESSION_RATIO * len(body)))
    decompressor, text = zlib.decompressobj(_ZLIB_OR_GZIP), bytearray()
    try:
        while body and not decompressor.eof:
            text += decompressor.decompress(body, _DECOMPRESS_STEP)
            body = decompressor.unconsumed_tail
            if len(text) > limit:
                return _cut(text, trace)
    except zlib.error as exc:
        raise TransportError(FailureKind.UNUSABLE, str(exc)) from exc
    if not decompressor.eof:
        raise TransportError(FailureKind.UNUSABLE, f"incomplete {encoding} data")
    return bytes(text)


def tls_context(base_url: str) -> ssl.SSLContext | None:
    """Return a context that trusts SSL_CERT_FILE, or else the system's store; None for a base URL without TLS."""
    if httpx2.URL(base_url).scheme != "https":
        return None
    context = httpx2.create_ssl_context()
    # With SSLKEYLOGFILE, the API key could be read from recorded network traffic.
    context.keylog_filename = None  # type: ignore[assignment]
    return context
