"""Requests over httpcore2, the library under httpx2, which is always there.

Without httpx2's client and its pool, which do for each request what is wanted for none:
together they cost as much as all the rest of a call.
"""

from collections.abc import Mapping
from typing import Any, Final

import anyio
import httpcore2
import httpx2

from batch.model import Secret
from batch.sending.carriage import HEADERS, IDLE_SECONDS, KEY_HEADER, Trip, broke_off, trusted, unpacked, whole
from batch.sending.verdict import Broken

ENDINGS: Final[Mapping[type[Exception], Broken]] = {
    httpcore2.ConnectError: Broken.CONNECTION,
    httpcore2.ConnectTimeout: Broken.CONNECTION,
    httpcore2.ReadError: Broken.CUT,
    httpcore2.WriteError: Broken.CUT,
    httpcore2.RemoteProtocolError: Broken.CUT,
}
"""How each way to fail ends an attempt. What is not here is a bug of ours and is raised."""


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
        self._trusted = trusted(base_url)
        self._timeout = {"connect": connect}
        self._idle: list[httpcore2.AsyncHTTPConnection] = []
        # Loads what the first connection would; then the first attempt leaves when it may, and not close to the second.
        anyio.connect_tcp, anyio.current_time()

    async def post(self, path: str, body: bytes, key: Secret, trip: Trip) -> bytes:
        """Make one request; gives the decoded body of the answer. Raises BrokeOffError."""
        connection = await self._connection()
        try:
            response = await connection.handle_async_request(self._request(path, body, key, trip))
            try:
                trip.answered(
                    response.status, ((name.decode(), text.decode("latin-1")) for name, text in response.headers)
                )
                packed = await whole(response.aiter_stream())
            finally:
                await response.aclose()
        except tuple(ENDINGS) as exc:
            raise broke_off(exc, ENDINGS) from exc
        finally:
            if connection.is_available():
                self._idle.append(connection)
            else:
                await connection.aclose()
        return unpacked(packed, trip.headers.get("content-encoding", ""))

    async def close(self) -> None:
        """Close all that is idle, and that is all when nothing is under way."""
        while self._idle:
            await self._idle.pop().aclose()

    def _request(self, path: str, body: bytes, key: Secret, trip: Trip) -> httpcore2.Request:
        async def trace(event: str, _: Mapping[str, Any]) -> None:
            if event == "http11.send_request_headers.started":
                trip.leaves()

        headers = [
            *self._headers,
            (b"content-length", b"%d" % len(body)),
            (KEY_HEADER.encode(), key.reveal().encode()),
        ]
        origin = self._origin
        url = httpcore2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=self._path + path.encode())
        extensions = {"timeout": self._timeout, "trace": trace}
        return httpcore2.Request("POST", url, headers=headers, content=body, extensions=extensions)

    async def _connection(self) -> httpcore2.AsyncHTTPConnection:
        """A connection that was kept and still stands, or a new one, not yet connected."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return httpcore2.AsyncHTTPConnection(self._origin, self._trusted, keepalive_expiry=IDLE_SECONDS)
