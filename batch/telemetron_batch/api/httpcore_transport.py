"""Requests over httpcore2, the library under httpx2, which is always there.

Without httpx2's client, its pool and httpcore2's own streams, which do for each request what
is wanted for none: together they cost more than all the rest of a call.
"""

import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import anyio
import httpcore2
import httpx2

from telemetron_batch.api.asyncio_stream import Stream, opened
from telemetron_batch.api.classify import FailureKind
from telemetron_batch.api.transport import (
    HEADERS,
    IDLE_SECONDS,
    KEY_HEADER,
    RequestTrace,
    SpokenError,
    decompress,
    read_limited,
    spoke_first,
    tls_context,
    transport_error,
)
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage import clock

ENDINGS: Final[Mapping[type[Exception], FailureKind]] = {
    httpcore2.ConnectError: FailureKind.CONNECTION,
    httpcore2.ConnectTimeout: FailureKind.CONNECTION,
    httpcore2.ReadError: FailureKind.CUT,
    httpcore2.WriteError: FailureKind.CUT,
    httpcore2.RemoteProtocolError: FailureKind.CUT,
}
"""How each way to fail ends an attempt. What is not here is a bug of ours and is raised."""


class _Backend(httpcore2.AsyncNetworkBackend):
    """How one connection is made: by asyncio, TLS and all."""

    def __init__(self, tls: ssl.SSLContext | None, seconds: float) -> None:
        self._tls = tls
        self._seconds = seconds
        self._is_used = False

    def prepare(self, trip: RequestTrace) -> None:
        """Have the next request written on behalf of this trip."""
        self._trip = trip

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> Stream:
        """A connection. Raises ConnectError or ConnectTimeout."""
        try:
            async with clock.deadline(self._seconds):
                stream = await opened(host, port, self._tls)
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout from exc
        except OSError as exc:
            raise httpcore2.ConnectError(str(exc)) from exc
        stream.leaves = lambda: self._leaves(stream)
        return stream

    def _leaves(self, stream: Stream) -> None:
        """Check the connection before the first byte of each request is written."""
        if self._trip.sent:
            return
        if self._is_used and stream.has_news:
            raise SpokenError
        if not self._is_used and stream.has_unread:
            raise spoke_first()
        self._is_used = True
        self._trip.mark_sending()


class _PooledConnection(NamedTuple):
    """A connection, and how it is made."""

    connection: httpcore2.AsyncHTTPConnection
    way: _Backend


class Plain:
    """Connections of httpcore2 to one host; the one that came free last is taken first.

    HTTP/1.1 only: with HTTP/2 all calls would share the fate of one connection.
    """

    name = f"httpcore2 {httpcore2.__version__}"

    def __init__(self, base_url: str, *, connect: float) -> None:
        """Inside a running event loop."""
        url = httpx2.URL(base_url.rstrip("/"))
        port = url.port or (443 if url.scheme == "https" else 80)
        self._origin = httpcore2.Origin(url.raw_scheme, url.raw_host, port)
        self._path = url.raw_path.rstrip(b"/")
        self._headers = [
            (name.encode(), text.encode()) for name, text in {"host": url.netloc.decode(), **HEADERS}.items()
        ]
        self._trusted = tls_context(base_url)
        if self._trusted is not None:
            self._trusted.set_alpn_protocols(["http/1.1"])
        self._connect_seconds = connect
        self._idle: list[_PooledConnection] = []
        # Loads what the first request would; then the first attempt leaves when it may, and not close to the second.
        anyio.current_time()

    async def post(self, path: str, body: bytes, key: Secret, trip: RequestTrace) -> bytes:
        """Make one request; gives the decoded body of the answer. Raises BrokeOffError."""
        request = self._request(path, body, key)
        try:
            packed = await self._asked(request, trip)
        except tuple(ENDINGS) as exc:
            raise transport_error(exc, ENDINGS) from exc
        return decompress(packed, trip)

    async def close(self) -> None:
        """Close all that is idle, and that is all when nothing is under way."""
        while self._idle:
            await self._idle.pop().connection.aclose()

    async def _asked(self, request: httpcore2.Request, trip: RequestTrace) -> bytes:
        """Return the body of the answer, over the first connection that is fit for the request."""
        while True:
            connection, way = line = await self._checkout()
            way.prepare(trip)
            try:
                return await _answer(connection, request, trip)
            except SpokenError:
                continue  # over another connection
            finally:
                if connection.is_available() and not _is_followed(connection):
                    self._idle.append(line)
                else:
                    await connection.aclose()

    def _request(self, path: str, body: bytes, key: Secret) -> httpcore2.Request:
        headers = [
            *self._headers,
            (b"content-length", b"%d" % len(body)),
            (KEY_HEADER.encode(), key.reveal().encode()),
        ]
        origin = self._origin
        url = httpcore2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=self._path + path.encode())
        return httpcore2.Request("POST", url, headers=headers, content=body)

    async def _checkout(self) -> _PooledConnection:
        """A connection that was kept and still stands, or a new one, not yet connected."""
        while self._idle:
            line = self._idle.pop()
            if not line.connection.has_expired():
                return line
            await line.connection.aclose()
        way = _Backend(self._trusted, self._connect_seconds)
        return _PooledConnection(
            httpcore2.AsyncHTTPConnection(
                self._origin, self._trusted, keepalive_expiry=IDLE_SECONDS, network_backend=way
            ),
            way,
        )


def _is_followed(connection: httpcore2.AsyncHTTPConnection) -> bool:
    """Return whether bytes were read behind the answer, which h11 would take for the next one.

    httpcore2 does not tell. If its parts should have other names one day, no connection is used again.
    """
    h11_state = getattr(getattr(connection, "_connection", None), "_h11_state", None)
    return h11_state is None or h11_state.trailing_data != (b"", False)


async def _answer(connection: httpcore2.AsyncHTTPConnection, request: httpcore2.Request, trip: RequestTrace) -> bytes:
    """The body of the answer as it came; its head goes to the trip."""
    response = await connection.handle_async_request(request)
    try:
        trip.mark_response(
            response.status, ((name.decode(), text.decode("latin-1")) for name, text in response.headers)
        )
        return await read_limited(response.aiter_stream(), trip)
    finally:
        await response.aclose()
