"""An asyncio connection with httpcore2's stream interface.

httpcore2's own streams, over anyio, register the socket with the system for each read. That is
two fifths of the processor time of a request.
"""

import asyncio
import fcntl
import ssl
import termios
from collections.abc import Callable
from typing import Any, Final

import httpcore2

_HAPPY_EYEBALLS_DELAY_S: Final = 0.25
"""Seconds after which another address of a host is tried in parallel."""
_ZERO: Final = bytes(4)
"""Zero as a C int."""
_HIGH_WATER: Final = 1 << 19
"""Unread bytes from which reading is paused."""


async def open_stream(host: str, port: int, tls: ssl.SSLContext | None) -> "Stream":
    """Open a new connection. Raises OSError."""
    connecting = asyncio.get_running_loop().create_connection(
        Stream, host, port, ssl=tls, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY_S
    )
    _, stream = await connecting
    return stream


def has_unread_input(transport: asyncio.BaseTransport) -> bool:
    """Return whether bytes wait that the event loop has not read yet, or the connection is closed."""
    if transport.is_closing():
        return True
    unread: bytes = fcntl.ioctl(transport.get_extra_info("socket"), termios.FIONREAD, _ZERO)
    return unread != _ZERO


class Stream(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One connection, for one request at a time."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.before_write: Callable[[], None] = lambda: None
        """Called before bytes are written. If it raises, they are not written."""
        self._buffer = bytearray()
        self._ended = False
        self._fault: Exception | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; called when the connection, including TLS, is open."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - always true for TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Buffer received bytes, and pause reading when too many wait."""
        self._buffer += data
        if len(self._buffer) > _HIGH_WATER:
            self._transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> None:
        """Record that the server has closed its side."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the connection was closed, or broke with an exception."""
        self._end(exc)

    def pause_writing(self) -> None:
        """Block further writes while too many bytes wait to leave."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Allow further writes."""
        self._writable.set()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - httpcore2's
        """Wait for bytes and return at most `max_bytes`; empty at the end. Raises ReadError."""
        while not (self._buffer or self._ended):
            self._readable.clear()
            await self._readable.wait()
        if self._fault is not None and not self._buffer:
            raise httpcore2.ReadError(str(self._fault)) from self._fault
        data = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - httpcore2's
        """Write bytes and wait until the transport accepts more. Raises WriteError."""
        if not buffer:
            return
        self.before_write()
        if self._transport.is_closing():
            raise httpcore2.WriteError("the connection is closed")
        self._transport.write(buffer)
        await self._writable.wait()

    async def start_tls(self, *_: Any, **__: Any) -> "Stream":
        """Return this stream, which was opened with TLS already."""
        return self

    async def aclose(self) -> None:
        """Close the connection at once and discard what was not read or written."""
        self._transport.abort()

    def get_extra_info(self, info: str) -> Any:
        """Return, for `is_readable`, whether bytes wait or the connection is closed; None for any other name."""
        return bool(self._buffer) or self._transport.is_closing() if info == "is_readable" else None

    @property
    def has_unread(self) -> bool:
        """Whether bytes have come that were not read."""
        return bool(self._buffer)

    @property
    def has_unexpected_input(self) -> bool:
        """Whether bytes have come that were not read, or the server has closed the connection."""
        return bool(self._buffer) or self._ended or has_unread_input(self._transport)

    def _end(self, fault: Exception | None) -> None:
        self._ended = True
        self._fault = self._fault or fault
        self._readable.set()
        self._writable.set()
