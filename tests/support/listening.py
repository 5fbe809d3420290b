"""Basis of the test servers: an event loop in a thread, and a minimal HTTP/1.1 parser."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self, TypeVar

import httpx2

from telemetron_batch.sandbox.server import HOST
from tests.support.scripted import Says, Seen

_REASONS = {200: "OK", 307: "Temporary Redirect", 401: "Unauthorized", 429: "Too Many Requests", 502: "Bad Gateway"}

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
T = TypeVar("T")


class Background:
    """An event loop in a thread; closing it cancels its tasks."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.do(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def request_from(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], Any]:
    """Return path, headers (names in lower case) and body of the next request on a connection.

    Raises asyncio.IncompleteReadError where none comes any more.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): text.strip() for name, _, text in fields}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return head[0].split()[1], headers, json.loads(body or b"{}")


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def is_listening(port: int) -> bool:
    """Return whether something accepts connections on a loopback port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection (RST) instead of closing it."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def carried_out(api: httpx2.AsyncBaseTransport, seen: Seen) -> Says:
    """Let an API in this process handle a request, and return its answer."""
    key = {"x-api-key": seen.headers.get("x-api-key", "")}
    request = httpx2.Request("POST", f"http://{HOST}{seen.path}", json=seen.body, headers=key)
    answer = await api.handle_async_request(request)
    return Says(answer.status_code, await answer.aread())


def packed(says: Says) -> bytes:
    """Return the bytes of an answer; JSON unless its headers give another type."""
    content = says.body if isinstance(says.body, bytes) else json.dumps(says.body).encode()
    fields = {"content-type": "application/json", **says.headers, "content-length": str(len(content))}
    lines = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
    return f"HTTP/1.1 {says.status} {_REASONS.get(says.status, 'Status')}\r\n{lines}\r\n".encode() + content
