"""Transport over httpcore2, the library under httpx2, which is always installed.

It uses neither httpx2's client and pool nor httpcore2's streams: together they cost more processor
time than the rest of a call, for features that are not needed here.
"""

import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import anyio
import httpcore2
import httpx2

from telemetron_batch.api.asyncio_stream import Stream, open_stream
from telemetron_batch.api.classify import FailureKind
from telemetron_batch.api.transport import (
    HEADERS,
    IDLE_SECONDS,
    KEY_HEADER,
    RequestTrace,
    StaleConnectionError,
    decompress,
    read_limited,
    tls_context,
    transport_error,
    unexpected_data_error,
)
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage import clock

ERROR_KINDS: Final[Mapping[type[Exception], FailureKind]] = {
    httpcore2.ConnectError: FailureKind.CONNECTION,
    httpcore2.ConnectTimeout: FailureKind.CONNECTION,
    httpcore2.ReadError: FailureKind.CUT,
    httpcore2.WriteError: FailureKind.CUT,
    httpcore2.RemoteProtocolError: FailureKind.CUT,
}
"""The kind of failure for each exception of the library. Any other exception is a bug and is raised."""


class _Backend(httpcore2.AsyncNetworkBackend):
    """Opens one connection with asyncio, including TLS, and checks it before each request."""

    def __init__(self, tls: ssl.SSLContext | None, connect_timeout_s: float) -> None:
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._is_used = False

    def prepare(self, trace: RequestTrace) -> None:
        """Set the trace of the next request."""
        self._trace = trace

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> Stream:
        """Open a connection. Raises ConnectError or ConnectTimeout."""
        try:
            async with clock.deadline(self._connect_timeout_s):
                stream = await open_stream(host, port, self._tls)
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout from exc
        except OSError as exc:
            raise httpcore2.ConnectError(str(exc)) from exc
        stream.before_write = lambda: self._check_before_write(stream)
        return stream

    def _check_before_write(self, stream: Stream) -> None:
        """Check the connection before the first byte of each request is written."""
        if self._trace.sent:
            return
        if self._is_used and stream.has_unexpected_input:
            raise StaleConnectionError
        if not self._is_used and stream.has_unread:
            raise unexpected_data_error()
        self._is_used = True
        self._trace.mark_sending()


class _PooledConnection(NamedTuple):
    """A connection and its backend."""

    connection: httpcore2.AsyncHTTPConnection
    backend: _Backend


class HttpcoreTransport:
    """Connections of httpcore2 to one host; the most recently used one is taken first.

    HTTP/1.1 only, because with HTTP/2 one broken connection would fail all calls.
    """

    name = f"httpcore2 {httpcore2.__version__}"

    def __init__(self, base_url: str, *, connect: float) -> None:
        """Prepare connections; needs a running event loop. `connect` is the time limit in seconds for opening one."""
        url = httpx2.URL(base_url.rstrip("/"))
        port = url.port or (443 if url.scheme == "https" else 80)
        self._origin = httpcore2.Origin(url.raw_scheme, url.raw_host, port)
        self._path = url.raw_path.rstrip(b"/")
        self._headers = [
            (name.encode(), text.encode()) for name, text in {"host": url.netloc.decode(), **HEADERS}.items()
        ]
        self._tls = tls_context(base_url)
        if self._tls is not None:
            self._tls.set_alpn_protocols(["http/1.1"])
        self._connect_timeout_s = connect
        self._idle: list[_PooledConnection] = []
        # Loads modules that the first request needs. Otherwise it would leave late, close to the second one.
        anyio.current_time()

    async def post(self, path: str, body: bytes, key: Secret, trace: RequestTrace) -> bytes:
        """Make one request and return the decoded body of the answer. Raises TransportError."""
        request = self._request(path, body, key)
        try:
            raw_body = await self._send(request, trace)
        except tuple(ERROR_KINDS) as exc:
            raise transport_error(exc, ERROR_KINDS) from exc
        return decompress(raw_body, trace)

    async def close(self) -> None:
        """Close all idle connections; call this when no request is in flight."""
        while self._idle:
            await self._idle.pop().connection.aclose()

    async def _send(self, request: httpcore2.Request, trace: RequestTrace) -> bytes:
        """Send the request over the first usable connection and return the body of the answer."""
        while True:
            connection, backend = pooled = await self._checkout()
            backend.prepare(trace)
            try:
                return await _answer(connection, request, trace)
            except StaleConnectionError:
                continue  # with another connection
            finally:
                if connection.is_available() and not _has_trailing_data(connection):
                    self._idle.append(pooled)
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
        """Return an idle connection that is still open, or a new one that is not yet connected."""
        while self._idle:
            pooled = self._idle.pop()
            if not pooled.connection.has_expired():
                return pooled
            await pooled.connection.aclose()
        backend = _Backend(self._tls, self._connect_timeout_s)
        return _PooledConnection(
            httpcore2.AsyncHTTPConnection(
                self._origin, self._tls, keepalive_expiry=IDLE_SECONDS, network_backend=backend
            ),
            backend,
        )


def _has_trailing_data(connection: httpcore2.AsyncHTTPConnection) -> bool:
    """Return whether bytes were read behind the answer, which h11 would take for the next answer.

    httpcore2 has no public way to ask. If its private names change, no connection is used again.
    """
    h11_state = getattr(getattr(connection, "_connection", None), "_h11_state", None)
    return h11_state is None or h11_state.trailing_data != (b"", False)


async def _answer(connection: httpcore2.AsyncHTTPConnection, request: httpcore2.Request, trace: RequestTrace) -> bytes:
    """Return the raw body of the answer; its head goes to `trace`."""
    response = await connection.handle_async_request(request)
    try:
        trace.mark_response(
            response.status, ((name.decode(), text.decode("latin-1")) for name, text in response.headers)
        )
        return await read_limited(response.aiter_stream(), trace)
    finally:
        await response.aclose()
