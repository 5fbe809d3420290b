"""Transport over aiohttp, used automatically if aiohttp is installed (`telemetron-batch[fast]`).

Its parser and writer are not written in Python: a request costs three fifths of what it costs with httpcore2.
"""

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from telemetron_batch.api.asyncio_stream import has_unread_input
from telemetron_batch.api.classify import FailureKind
from telemetron_batch.api.transport import (
    HEADERS,
    IDLE_SECONDS,
    KEY_HEADER,
    RequestTrace,
    StaleConnectionError,
    TransportError,
    decompress,
    read_limited,
    tls_context,
    transport_error,
    unexpected_data_error,
)
from telemetron_batch.domain.model import Secret

ERROR_KINDS: Final[Mapping[type[Exception], FailureKind]] = {
    aiohttp.ClientConnectorError: FailureKind.CONNECTION,
    aiohttp.ConnectionTimeoutError: FailureKind.CONNECTION,
    aiohttp.ClientPayloadError: FailureKind.CUT,
    aiohttp.ClientResponseError: FailureKind.CUT,
    aiohttp.ClientConnectionError: FailureKind.CUT,
}
"""The kind of failure for each exception of the library; the first match counts. Any other exception is a bug."""

_MAX_HEADER_BYTES: Final = 100 * 1024
"""Bytes of a header at most. No valid answer has a longer one."""

_MAX_SINGLE_WRITE: Final = 1 << 20
"""Bytes from which a request is written in chunks, so that it does not block the event loop."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_TAIL_LENGTH: Final = len(_LAST_CHUNK)
_NO_SIZE: Final = -1


class _AnswerMeter:
    """Counts the bytes of an answer before aiohttp gets them, because aiohttp silently drops bytes behind an answer.

    It replaces a connection's `data_received`, so a connection that has a meter was used before.
    """

    __slots__ = ("_head", "_head_size", "_pass_on", "_size", "_tail", "count")

    def __init__(self, protocol: ResponseHandler) -> None:
        self._pass_on = protocol.data_received
        self.begin()

    def begin(self) -> None:
        """Reset the counts for the next answer."""
        self.count = self._head_size = 0
        self._size = _NO_SIZE
        self._head = self._tail = b""

    def __call__(self, data: bytes) -> None:
        """Count received bytes and pass them on."""
        self.count += len(data)
        # Keeps copies: a reference to the data would make the event loop allocate a new 256 KiB buffer each time.
        self._tail = (self._tail + data[-_TAIL_LENGTH:])[-_TAIL_LENGTH:]
        if not self._head_size:
            self._find_end_of_head(data)
        self._pass_on(data)

    def _find_end_of_head(self, data: bytes) -> None:
        text = self._head + data if self._head else data
        at = text.find(_END_OF_HEAD)
        if at < 0:
            self._head = text
        else:
            self._head, self._head_size = b"", at + len(_END_OF_HEAD)

    def end(self, headers: Mapping[str, str]) -> None:
        """Record that the answer with these headers was read to its end."""
        if (length := headers.get("content-length", "")).isdecimal():
            self._size = self._head_size + int(length)
        elif "transfer-encoding" not in headers:
            self._size = self._head_size
        elif self._tail.endswith(_LAST_CHUNK):  # an answer with trailers ends otherwise; its connection is not reused
            self._size = self.count

    @property
    def has_more(self) -> bool:
        """Whether bytes came behind the last answer, or that answer was not read to its end."""
        return self.count != self._size


@dataclass(slots=True)
class _RequestContext:
    """The trace of a request and the meter of its answer."""

    trace: RequestTrace
    meter: _AnswerMeter | None = None


_CONTEXT: Final[ContextVar[_RequestContext]] = ContextVar("request")


class _Request(aiohttp.ClientRequest):
    """Marks its trace when it begins to be written. aiohttp's own tracing would cost as much as reading an answer."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request to a connection, which aiohttp closes if this raises."""
        protocol, transport = conn.protocol, conn.transport
        if protocol is None or transport is None:
            raise StaleConnectionError
        meter = protocol.data_received
        if isinstance(meter, _AnswerMeter):
            if meter.has_more or protocol.should_close or has_unread_input(transport):
                raise StaleConnectionError
            meter.begin()
        elif protocol.should_close:
            raise unexpected_data_error()
        else:
            meter = _AnswerMeter(protocol)
            protocol.data_received = meter  # type: ignore[method-assign]
        context = _CONTEXT.get()
        context.meter = meter
        context.trace.mark_sending()
        return await super().send(conn)


class AiohttpTransport:
    """Connections of aiohttp to one host."""

    name = f"aiohttp {aiohttp.__version__}"

    def __init__(self, base_url: str, *, connect: float) -> None:
        """Open a session; needs a running event loop. `connect` is the time limit in seconds for a connection."""
        self._base_url = base_url.rstrip("/")
        self._urls: dict[str, URL] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # as many as there are requests in flight
                keepalive_timeout=IDLE_SECONDS,
                ssl=tls_context(base_url) or True,
                use_dns_cache=False,
                resolver=aiohttp.ThreadedResolver(),
            ),
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect),
            trust_env=False,
            auto_decompress=False,  # `decompress` limits the size
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            request_class=_Request,
        )

    async def post(self, path: str, body: bytes, key: Secret, trace: RequestTrace) -> bytes:
        """Make one request and return the decoded body of the answer. Raises TransportError."""
        if path not in self._urls:
            self._urls[path] = URL(self._base_url + path)
        _CONTEXT.set(context := _RequestContext(trace))
        try:
            async with await self._send(path, body, key) as response:
                if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
                    raise TransportError(FailureKind.CUT, "the server switched to another protocol")
                trace.mark_response(response.status, response.headers.items())
                raw_body = await read_limited(response.content.iter_any(), trace)
                if context.meter is not None:
                    context.meter.end(trace.headers)
        except tuple(ERROR_KINDS) as exc:
            raise transport_error(exc, ERROR_KINDS, _error_text(exc)) from exc
        return decompress(raw_body, trace)

    async def _send(self, path: str, body: bytes, key: Secret) -> aiohttp.ClientResponse:
        """Send the request over the first usable connection and return the head of the answer."""
        while True:
            with suppress(StaleConnectionError):  # try another connection
                return await self._session.post(
                    self._urls[path],
                    data=body if len(body) <= _MAX_SINGLE_WRITE else BytesIO(body),
                    headers={KEY_HEADER: key.reveal()},
                    allow_redirects=False,
                )

    async def close(self) -> None:
        """Close all idle connections; call this when no request is in flight."""
        await self._session.close()


def _error_text(exc: Exception) -> str:
    if isinstance(exc, aiohttp.ClientResponseError):
        return exc.message  # `str` would include the request with its headers, and so the key
    if isinstance(exc, aiohttp.ClientConnectorError) and not isinstance(exc, aiohttp.ClientSSLError):
        return str(exc.os_error)  # aiohttp's own text mentions ssl even without TLS
    return str(exc)
