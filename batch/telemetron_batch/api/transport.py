"""How a request travels, whatever library carries it: what its carrier tells, and what may be read of an answer.

A carrier keeps connections to one host and makes one POST after another, nothing more:
no redirects, no cookies, no proxies or credentials from the environment, no retries. What
its library raises ends in it, as a `TransportError`; whether the request has begun to
leave is read off the wire and told by the `RequestTrace`, never guessed from an exception: the
same broken connection comes when the server never saw the request and when it has long
acted on it.
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
"""Bytes: more than any honest answer needs."""
LARGEST_ERROR: Final = 1024 * 1024
"""Bytes of an error's body; what comes after them is not read."""
IDLE_SECONDS: Final = 4.0
"""Shorter than common servers keep an idle connection, so that few close under a request."""
HEADERS: Final[Mapping[str, str]] = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "content-type": "application/json",
    "user-agent": f"telemetron-batch/{__version__}",
}
KEY_HEADER: Final = "x-api-key"
"""Set for each request rather than on what lasts: that could be printed."""

_ZLIB_OR_GZIP: Final = 47
_UNPACKED_ANYWAY: Final = 1024 * 1024
_RATIO: Final = 100
"""How many times as large as it came an answer of more than `_UNPACKED_ANYWAY` bytes is unpacked."""
_PIECE: Final = 1 << 20

OnSend = Callable[[], None]


class TransportError(Exception):
    """The request came to no whole answer; `how` it ended, and what the library said of it."""

    def __init__(self, how: FailureKind, words: str) -> None:
        super().__init__(words)
        self.kind = how


class SpokenError(Exception):
    """A used connection brought bytes before the next request left; they would pass for that request's answer."""


def spoke_first() -> TransportError:
    """Return the end of a request whose new connection brought bytes before it: another would be no better."""
    return TransportError(FailureKind.CUT, "the server answered or hung up before it was asked")


def transport_error(
    exc: Exception, endings: Mapping[type[Exception], FailureKind], words: str | None = None
) -> TransportError:
    """What a library has raised, by the first of the carrier's endings that fits; in its words, or in others."""
    how = next(ending for kind, ending in endings.items() if isinstance(exc, kind))
    if how in (FailureKind.CONNECTION, FailureKind.CUT) and _is_of_tls(exc):
        how = FailureKind.TLS
    return TransportError(how, str(exc) if words is None else words)


def _is_of_tls(exc: BaseException | None) -> bool:
    """Return whether the exception or one of its causes is a failure of TLS, other than an end of the connection."""
    while exc is not None:
        if isinstance(exc, ssl.SSLError):
            return not isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        exc = exc.__cause__
    return False


class RequestTrace:
    """One request on its way, as its carrier sees it: has it begun to leave, has an answer begun to come?"""

    __slots__ = ("_left", "_now", "began", "headers", "seconds", "sent", "status")

    def __init__(self, left: OnSend, now: Callable[[], float]) -> None:
        self._left = left
        self._now = now
        self.began = now()
        self.sent = False
        """Can a byte of the request have reached the server?"""
        self.status: int | None = None
        """Of the answer, once its head has come."""
        self.headers: Mapping[str, str] = {}
        """Of the answer, their names in lower case."""
        self.seconds = 0.0
        """Until the head of the answer came."""

    def mark_sending(self) -> None:
        """The request begins to be written. May raise WithdrawnError: then nothing of it may be."""
        if not self.sent:
            self._left()
            self.sent = True

    @property
    def is_refused(self) -> bool:
        """Whether the head of an answer other than 2xx has come."""
        return self.status is not None and not 200 <= self.status < 300

    @property
    def largest_body(self) -> int:
        """Bytes of the answer's body that are read at most."""
        return LARGEST_ERROR if self.is_refused else MAX_BODY_BYTES

    def mark_response(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """The head of the answer has come."""
        self.seconds = self._now() - self.began
        self.status = status
        fields: dict[str, str] = {}
        for name, value in headers:
            name = name.lower()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        self.headers = fields


class Transport(Protocol):
    """Connections to one host, one for each request under way; kept, and used again."""

    name: str
    """The library, as it is told to the user."""

    async def post(self, path: str, body: bytes, key: Secret, trip: RequestTrace) -> bytes:
        """Make one request; gives the decoded body of the answer, whose head `trip` has. Raises BrokeOffError."""

    async def close(self) -> None:
        """Close all that is idle, and that is all when nothing is under way."""


async def read_limited(pieces: AsyncIterable[bytes], trip: RequestTrace) -> bytes:
    """Return the body of the trip's answer; of an error only as much as is read. Raises BrokeOffError if too large."""
    body, most = bytearray(), trip.largest_body
    async for piece in pieces:
        body += piece
        if len(body) > most:
            return _cut(body, trip)
    return bytes(body)


def _cut(body: bytearray, trip: RequestTrace) -> bytes:
    """Return as much of a body as is read of an error. Raises BrokeOffError if it is no error's."""
    if trip.is_refused:
        return bytes(body[:LARGEST_ERROR])
    size = len(body) >> 20
    body.clear()  # or the exception would keep it alive while the connection is closed
    raise TransportError(FailureKind.UNUSABLE, f"an answer of over {size} MiB")


def decompress(body: bytes, trip: RequestTrace) -> bytes:
    """Return a body decompressed if the answer's head says that it is compressed. Raises BrokeOffError."""
    encoding = trip.headers.get("content-encoding", "")
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise TransportError(FailureKind.UNUSABLE, f"content-encoding {encoding}")
    most = min(trip.largest_body, max(_UNPACKED_ANYWAY, _RATIO * len(body)))
    unpacker, text = zlib.decompressobj(_ZLIB_OR_GZIP), bytearray()
    try:
        while body and not unpacker.eof:
            text += unpacker.decompress(body, _PIECE)
            body = unpacker.unconsumed_tail
            if len(text) > most:
                return _cut(text, trip)
    except zlib.error as exc:
        raise TransportError(FailureKind.UNUSABLE, str(exc)) from exc
    if not unpacker.eof:
        raise TransportError(FailureKind.UNUSABLE, f"{encoding} that breaks off")
    return bytes(text)


def tls_context(base_url: str) -> ssl.SSLContext | None:
    """What the system trusts, or SSL_CERT_FILE where that is set; None for a base URL without TLS."""
    if httpx2.URL(base_url).scheme != "https":
        return None
    context = httpx2.create_ssl_context()
    context.keylog_filename = None  # type: ignore[assignment]  # whoever sets SSLKEYLOGFILE could read the key off the network
    return context
