"""A connection of asyncio as httpcore2 writes to it and reads from it.

httpcore2's own, over anyio, goes round the event loop and has the system watch the socket
anew for each piece: two fifths of what a request costs. Knows no HTTP and no deadlines.
"""

import asyncio
import fcntl
import ssl
import termios
from collections.abc import Callable
from typing import Any, Final

import httpcore2

_NEXT_ADDRESS: Final = 0.25
"""Seconds after which another address of a host is tried beside the one that does not answer."""
_NO_BYTES: Final = bytes(4)
"""Zero as a C int."""
_HIGH_WATER: Final = 1 << 19
"""Bytes that have come and wait to be read, from which on no more are taken in."""


async def opened(host: str, port: int, tls: ssl.SSLContext | None) -> "Stream":
    """A new connection. Raises OSError."""
    connecting = asyncio.get_running_loop().create_connection(
        Stream, host, port, ssl=tls, happy_eyeballs_delay=_NEXT_ADDRESS
    )
    _, stream = await connecting
    return stream


def has_news(transport: asyncio.BaseTransport) -> bool:
    """Return whether bytes have come that the event loop has not read yet, or the connection is closed."""
    if transport.is_closing():
        return True
    unread: bytes = fcntl.ioctl(transport.get_extra_info("socket"), termios.FIONREAD, _NO_BYTES)
    return unread != _NO_BYTES


class Stream(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One connection, for one request at a time."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.leaves: Callable[[], None] = lambda: None
        """Called before bytes are written; what it raises keeps them from it."""
        self._buffer = bytearray()
        self._ended = False
        self._fault: Exception | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands, also as far as TLS goes."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of TCP it is
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        self._buffer += data
        if len(self._buffer) > _HIGH_WATER:
            self._transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> None:
        """The other side says no more."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed; or it broke, and there is an exception."""
        self._end(exc)

    def pause_writing(self) -> None:
        """Much is written that has not left."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has left."""
        self._writable.set()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - httpcore2's
        """What came, as soon as something does; nothing once all was read. Raises ReadError."""
        while not (self._buffer or self._ended):
            self._readable.clear()
            await self._readable.wait()
        if self._fault is not None and not self._buffer:
            raise httpcore2.ReadError(str(self._fault)) from self._fault
        piece = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self._transport.resume_reading()
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - httpcore2's
        """Write, and wait while there is no room for more. Raises WriteError."""
        if not buffer:
            return
        self.leaves()
        if self._transport.is_closing():
            raise httpcore2.WriteError("the connection is closed")
        self._transport.write(buffer)
        await self._writable.wait()

    async def start_tls(self, *_: Any, **__: Any) -> "Stream":
        """It has been opened with TLS."""
        return self

    async def aclose(self) -> None:
        """Close it at once: whatever is still to come or to leave, nobody wants it."""
        self._transport.abort()

    def get_extra_info(self, info: str) -> Any:
        """`is_readable`: has something come that no request asked for, or has the other side closed it?"""
        return bool(self._buffer) or self._transport.is_closing() if info == "is_readable" else None

    @property
    def has_unread(self) -> bool:
        """Whether bytes have come that nobody has read."""
        return bool(self._buffer)

    @property
    def has_news(self) -> bool:
        """Whether bytes have come that nobody has read, or the other side has closed the connection."""
        return bool(self._buffer) or self._ended or has_news(self._transport)

    def _end(self, fault: Exception | None) -> None:
        self._ended = True
        self._fault = self._fault or fault
        self._readable.set()
        self._writable.set()
