"""A server as quick as Python makes one: what a bench measures shall be the client.

Grants every device that a request names, in the API's own shape. Run as a program it
prints its port and serves until its standard input closes.
"""

# ruff: noqa: T201 - the port is what its owner waits for

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

_LISTS = {b"assignDevicesToOwner": "assignedDevices", b"unassignDevicesFromOwner": "unassignedDevices"}


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while True:
            head, end, rest = self._held.partition(b"\r\n\r\n")
            if not end:
                return
            size = int(next(line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")))
            if len(rest) < size:
                return
            self._held = rest[size:]
            self._transport.write(_answer(head, rest[:size]))


def _answer(head: bytes, body: bytes) -> bytes:
    devices = msgspec.json.decode(body)["deviceIdentifiers"]
    name = next(name for path, name in _LISTS.items() if path in head)
    said = [{"deviceId": f"id-{device}", "identifier": device, "wasCreated": False} for device in devices]
    answer = msgspec.json.encode({"success": True, "customerId": "c-1", "customerWasCreated": False, name: said})
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer)


@contextmanager
def served() -> Iterator[str]:
    """Base URL of such a server in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.swift"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
