"""Network streams that mark the first byte of a request, and keep what came before it apart from its answer."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

import httpcore2

from telemetron_batch.api.request_trace import CURRENT_TRACE, RequestTrace

METHOD: Final = "POST"
_HEAD_BEGINS: Final = f"{METHOD} ".encode()
"""The first bytes of a request to the API. What goes to a proxy before it begins otherwise: CONNECT, SOCKS, TLS."""
_READ_SIZE: Final = 64 * 1024
_READS_AHEAD: Final = 8
"""Reads that wait for the library before reading pauses."""


class WatchedBackend(httpcore2.AnyIOBackend):
    """Opens connections whose streams are `WatchedStream`s."""

    async def connect_tcp(self, *args: Any, **options: Any) -> "WatchedStream":
        """Open a connection. Raises ConnectError or ConnectTimeout."""
        stream = WatchedStream(await _timed("connect", super().connect_tcp(*args, **options)))
        CURRENT_TRACE.get().opened = stream
        return stream


class WatchedStream(httpcore2.AsyncNetworkStream):
    """A stream of the library that keeps what came before a request apart from the answer to it.

    It reads ahead from the first request on: so whatever the server sends without being asked is noticed
    before the next request leaves, and that connection is not used again.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._ahead: asyncio.Queue[bytes | Exception] = asyncio.Queue(_READS_AHEAD)
        self._reading: asyncio.Task[None] | None = None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore2's
        """Write bytes; if they begin a request, check the connection first and mark the request as sent."""
        if buffer.startswith(_HEAD_BEGINS):
            await self._begin_request(CURRENT_TRACE.get())
        try:
            await self._stream.write(buffer, timeout)
        except httpcore2.WriteError:
            CURRENT_TRACE.get().is_cut_short = True
            raise  # the library ignores it and waits for an answer

    async def _begin_request(self, trace: RequestTrace) -> None:
        """Record that a request begins to leave.

        Raises ConnectionNotAvailable, after which the pool takes another connection, if a used one received
        something or was closed; ReadError if a new one did.
        """
        is_new = self._reading is None
        if is_new:
            self._reading = asyncio.create_task(self._read_ahead())
        had_input = self._has_input(is_new=is_new)
        await asyncio.sleep(0)  # lets `_read_ahead` take what has left the socket already
        if had_input or self._has_input(is_new=is_new):
            if is_new:
                raise httpcore2.ReadError("the server answered or hung up before it was asked")
            raise httpcore2.ConnectionNotAvailable
        trace.mark_sending()
        trace.opened = None  # from here on, the library closes it
        trace.has_read = False

    def _has_input(self, *, is_new: bool) -> bool:
        """Return whether something came, or the connection was closed."""
        if not self._ahead.empty():
            return True
        # A new TLS connection has something to read even when all is well: session tickets.
        return not (is_new and self.get_extra_info("ssl_object")) and bool(self._stream.get_extra_info("is_readable"))

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - httpcore2's
        """Wait for bytes and return them; empty at the end. Raises ReadError."""
        if self._reading is None:  # the answer of a proxy
            return await self._stream.read(max_bytes, CURRENT_TRACE.get().connect_seconds)
        data = await self._ahead.get()
        if not isinstance(data, bytes):
            raise data
        CURRENT_TRACE.get().has_read = True
        return data

    async def _read_ahead(self) -> None:
        data: bytes | Exception = b"-"
        while data and not isinstance(data, Exception):
            try:
                data = await self._stream.read(_READ_SIZE)
            except Exception as exc:  # noqa: BLE001 - `read` raises it
                data = exc
            await self._ahead.put(data)

    async def start_tls(self, *args: Any, **options: Any) -> "WatchedStream":
        """Return this connection as a TLS connection. Raises ConnectError or ConnectTimeout."""
        CURRENT_TRACE.get().handshakes += 1
        try:
            return WatchedStream(await _timed("tls", self._stream.start_tls(*args, **options)))
        except BaseException:
            await self.aclose()  # a handshake that is cancelled would leave its socket open
            raise

    async def aclose(self) -> None:
        """Close the connection at once."""
        if self._reading is not None:
            self._reading.cancel()
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Return what the library asks about a connection; for `is_readable`, whether it must not be used again."""
        if info == "is_readable" and self._reading is not None:
            return not self._ahead.empty()  # what the system still has is asked for when a request begins
        return self._stream.get_extra_info(info)


async def _timed(phase: str, work: Awaitable[httpcore2.AsyncNetworkStream]) -> httpcore2.AsyncNetworkStream:
    """Await the work of connecting, and record its seconds in the trace of the request."""
    trace = CURRENT_TRACE.get()
    trace.phase_seconds.setdefault(phase, 0.0)
    began = trace.now()
    try:
        return await work
    finally:
        trace.phase_seconds[phase] += trace.now() - began
