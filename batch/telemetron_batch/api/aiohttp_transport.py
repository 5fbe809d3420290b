"""Requests over aiohttp, whose parser and writer are not Python: three fifths of what httpcore2 costs a request.

Used by itself where aiohttp is installed (`telemetron-batch[fast]`).
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

from telemetron_batch.api.asyncio_stream import has_news
from telemetron_batch.api.classify import FailureKind
from telemetron_batch.api.transport import (
    HEADERS,
    IDLE_SECONDS,
    KEY_HEADER,
    RequestTrace,
    SpokenError,
    TransportError,
    decompress,
    read_limited,
    spoke_first,
    tls_context,
    transport_error,
)
from telemetron_batch.domain.model import Secret

ENDINGS: Final[Mapping[type[Exception], FailureKind]] = {
    aiohttp.ClientConnectorError: FailureKind.CONNECTION,
    aiohttp.ConnectionTimeoutError: FailureKind.CONNECTION,
    aiohttp.ClientPayloadError: FailureKind.CUT,
    aiohttp.ClientResponseError: FailureKind.CUT,
    aiohttp.ClientConnectionError: FailureKind.CUT,
}
"""How each way to fail ends an attempt; the first that fits. What is not here is a bug of ours and is raised."""

_MAX_HEADER_BYTES: Final = 100 * 1024
"""Bytes of a header; no head of any honest answer is as long."""

_LARGE: Final = 1 << 20
"""Bytes of a request that is written piece by piece, so that the event loop is not kept waiting."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_LEAST_TAIL: Final = len(_LAST_CHUNK)
_NO_SIZE: Final = -1


class _Meter:
    """Counts the bytes of an answer on their way to aiohttp, whose parser drops some that follow one.

    In the place of a connection's `data_received`, so that a connection has one if it was used.
    """

    __slots__ = ("_head", "_head_size", "_pass_on", "_size", "_tail", "count")

    def __init__(self, protocol: ResponseHandler) -> None:
        self._pass_on = protocol.data_received
        self.begin()

    def begin(self) -> None:
        """Expect the next answer."""
        self.count = self._head_size = 0
        self._size = _NO_SIZE
        self._head = self._tail = b""

    def __call__(self, data: bytes) -> None:
        """Receive bytes."""
        self.count += len(data)
        # Copies: to keep the data itself would cost the loop a new buffer of 256 KiB for each piece.
        self._tail = (self._tail + data[-_LEAST_TAIL:])[-_LEAST_TAIL:]
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
        """Take note that the answer with this head was read to its end."""
        if (length := headers.get("content-length", "")).isdecimal():
            self._size = self._head_size + int(length)
        elif "transfer-encoding" not in headers:
            self._size = self._head_size
        elif self._tail.endswith(_LAST_CHUNK):  # with trailers it is not, and the connection not used again
            self._size = self.count

    @property
    def has_more(self) -> bool:
        """Whether more has come than the last answer, or whether that was not read to its end."""
        return self.count != self._size


@dataclass(slots=True)
class _Way:
    """A trip, and what measures its answer."""

    trip: RequestTrace
    meter: _Meter | None = None


_WAY: Final[ContextVar[_Way]] = ContextVar("way")


class _Request(aiohttp.ClientRequest):
    """Tells the trip that it begins to be written; aiohttp's own tracing would cost as much as to read an answer."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write it to a connection, which is closed where this raises."""
        protocol, transport = conn.protocol, conn.transport
        if protocol is None or transport is None:
            raise SpokenError
        meter = protocol.data_received
        if isinstance(meter, _Meter):
            if meter.has_more or protocol.should_close or has_news(transport):
                raise SpokenError
            meter.begin()
        elif protocol.should_close:
            raise spoke_first()
        else:
            meter = _Meter(protocol)
            protocol.data_received = meter  # type: ignore[method-assign]
        way = _WAY.get()
        way.meter = meter
        way.trip.mark_sending()
        return await super().send(conn)


class AiohttpTransport:
    """Connections of aiohttp to one host."""

    name = f"aiohttp {aiohttp.__version__}"

    def __init__(self, base_url: str, *, connect: float) -> None:
        """Inside a running event loop."""
        self._base_url = base_url.rstrip("/")
        self._urls: dict[str, URL] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # as many as there are requests under way
                keepalive_timeout=IDLE_SECONDS,
                ssl=tls_context(base_url) or True,
                use_dns_cache=False,
                resolver=aiohttp.ThreadedResolver(),
            ),
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect),
            trust_env=False,
            auto_decompress=False,  # or what unpacks to too much would be known too late
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            request_class=_Request,
        )

    async def post(self, path: str, body: bytes, key: Secret, trip: RequestTrace) -> bytes:
        """Make one request; gives the decoded body of the answer. Raises BrokeOffError."""
        if path not in self._urls:
            self._urls[path] = URL(self._base_url + path)
        _WAY.set(way := _Way(trip))
        try:
            async with await self._send(path, body, key) as response:
                if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
                    raise TransportError(FailureKind.CUT, "another protocol than we asked in")
                trip.mark_response(response.status, response.headers.items())
                packed = await read_limited(response.content.iter_any(), trip)
                if way.meter is not None:
                    way.meter.end(trip.headers)
        except tuple(ENDINGS) as exc:
            raise transport_error(exc, ENDINGS, _words(exc)) from exc
        return decompress(packed, trip)

    async def _send(self, path: str, body: bytes, key: Secret) -> aiohttp.ClientResponse:
        """The head of an answer."""
        while True:
            with suppress(SpokenError):  # then over another connection
                return await self._session.post(
                    self._urls[path],
                    data=body if len(body) <= _LARGE else BytesIO(body),
                    headers={KEY_HEADER: key.reveal()},
                    allow_redirects=False,
                )

    async def close(self) -> None:
        """Close all that is idle, and that is all when nothing is under way."""
        await self._session.close()


def _words(exc: Exception) -> str:
    if isinstance(exc, aiohttp.ClientResponseError):
        return exc.message  # of an unreadable head; the rest tells what was asked, with its headers
    if isinstance(exc, aiohttp.ClientConnectorError) and not isinstance(exc, aiohttp.ClientSSLError):
        return str(exc.os_error)  # aiohttp's own words speak of ssl also where there was none
    return str(exc)
