"""Requests over aiohttp, whose parser and writer are not Python: three fifths of what httpcore2 costs a request.

Used by itself where aiohttp is installed (`telemetron-batch[fast]`).
"""

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from http import HTTPStatus
from io import BytesIO
from typing import Final

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from batch.model import Secret
from batch.sending.carriage import (
    HEADERS,
    IDLE_SECONDS,
    KEY_HEADER,
    BrokeOffError,
    Trip,
    broke_off,
    trusted,
    unpacked,
    whole,
)
from batch.sending.verdict import Broken

ENDINGS: Final[Mapping[type[Exception], Broken]] = {
    aiohttp.ClientConnectorError: Broken.CONNECTION,
    aiohttp.ConnectionTimeoutError: Broken.CONNECTION,
    aiohttp.ClientPayloadError: Broken.CUT,
    aiohttp.ClientResponseError: Broken.CUT,
    aiohttp.ClientConnectionError: Broken.CUT,
}
"""How each way to fail ends an attempt; the first that fits. What is not here is a bug of ours and is raised."""

_LONGEST_HEAD: Final = 100 * 1024
"""Bytes of a header; no head of any honest answer is as long."""

_LARGE: Final = 1 << 20
"""Bytes of a request that is written piece by piece, so that the event loop is not kept waiting."""

_TRIP: Final[ContextVar[Trip]] = ContextVar("trip")


class _SpokenError(Exception):
    """An idle connection brought something that nobody asked for: it would pass for the next request's answer."""


class _Request(aiohttp.ClientRequest):
    """Tells the trip that it begins to be written; aiohttp's own tracing would cost as much as to read an answer."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write it to a connection, which is closed where this raises."""
        if conn.protocol is None or conn.protocol.should_close:
            raise _SpokenError
        _TRIP.get().leaves()
        return await super().send(conn)


class Fast:
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
                ssl=trusted(base_url) or True,
                use_dns_cache=False,
                resolver=aiohttp.ThreadedResolver(),
            ),
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect),
            trust_env=False,
            auto_decompress=False,  # or what unpacks to too much would be known too late
            max_line_size=_LONGEST_HEAD,
            max_field_size=_LONGEST_HEAD,
            request_class=_Request,
        )

    async def post(self, path: str, body: bytes, key: Secret, trip: Trip) -> bytes:
        """Make one request; gives the decoded body of the answer. Raises BrokeOffError."""
        if path not in self._urls:
            self._urls[path] = URL(self._base_url + path)
        _TRIP.set(trip)
        try:
            async with await self._asked(path, body, key) as response:
                if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
                    raise BrokeOffError(Broken.CUT, "another protocol than we asked in")
                trip.answered(response.status, response.headers.items())
                packed = await whole(response.content.iter_any())
        except tuple(ENDINGS) as exc:
            raise broke_off(exc, ENDINGS, _words(exc)) from exc
        return unpacked(packed, trip.headers.get("content-encoding", ""))

    async def _asked(self, path: str, body: bytes, key: Secret) -> aiohttp.ClientResponse:
        """The head of an answer."""
        while True:
            with suppress(_SpokenError):  # then over another connection
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
