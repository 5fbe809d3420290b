"""A server on a real socket whose behaviour is scripted request by request, down to the bytes and resets of TCP.

The sandbox's own API answers where nothing else is scripted. Runs on a thread of its own; scripts
are called there, so they see one request at a time.
"""

import asyncio
import json
import math
import socket
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import httpx2

from telemetron_batch.sandbox.server import HOST, PATH, sandbox_app
from telemetron_batch.sandbox.state import SandboxState
from tests.support.listening import Background, Wire, carried_out, packed, request_from, reset
from tests.support.scripted import Event, Hangs, Loses, Rewrites, Says, Seen

_BYTE_EVERY = 0.2


@dataclass(frozen=True)
class Arrived(Seen):
    """A request as received."""

    connection: int = 0
    nth: int = 1
    """Number of the request in its connection."""


@dataclass(frozen=True)
class Resets:
    """The connection is reset (RST) before an answer; `acted` tells whether the server did its work."""

    acted: bool = True


@dataclass(frozen=True)
class Drips:
    """The answer arrives byte by byte, one every 0.2 s."""

    acted: bool = True


@dataclass(frozen=True)
class Cuts:
    """The server acts, announces its complete answer, sends a part of it and closes."""

    share: float = 0.5


@dataclass(frozen=True)
class Raw:
    """The server sends these bytes and closes, without acting."""

    content: bytes


@dataclass(frozen=True)
class ActsLate:
    """No answer; the server acts some seconds later, even if the client has gone."""

    seconds: float


@dataclass(frozen=True)
class Adds:
    """Success, with these additional headers."""

    headers: Mapping[str, str]


@dataclass(frozen=True)
class Leaves:
    """Success, but the connection is closed after the answer without notice."""


Fault = Event | Resets | Drips | Cuts | Raw | ActsLate | Adds | Leaves
Script = Callable[[Arrived], Fault]


def bomb(megabytes: int) -> Says:
    """A 200 of a few hundred kB that decompresses to many megabytes."""
    packing = zlib.compressobj(wbits=31)  # one gzip member: of several, decoders may take the first only
    packed = b"".join(packing.compress(b" " * (1 << 20)) for _ in range(megabytes)) + packing.flush()
    return Says(200, packed, {"content-encoding": "gzip", "content-type": "application/json"})


@dataclass
class FaultyServer:
    """The sandbox API on a free loopback port; `script` decides what happens to each request."""

    script: Script = field(default=lambda _: None)
    api_key: str | None = None
    latency: float = 0.0
    fleet: SandboxState = field(default_factory=SandboxState)
    seen: list[Arrived] = field(default_factory=list)
    refusals: int = 0
    """Requests answered 429."""
    told: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Action, customer and device of everything in complete, unchanged 200 answers."""
    in_flight: int = 0
    most_in_flight: int = 0
    connections: int = 0
    open_connections: int = 0
    most_open: int = 0
    slam: int = 0
    """Number of the next connections to reset when they are established."""
    firewall: "Limit | None" = None
    """How many connections it lets through; it resets all others when they are established."""
    reset_by_firewall: int = 0

    def __enter__(self) -> Self:
        self._api = httpx2.ASGITransport(app=sandbox_app(self.fleet, api_key=self.api_key))
        self._working: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()
        listener = socket.create_server((HOST, 0), backlog=256)
        self.port = listener.getsockname()[1]
        self._background = Background().__enter__()
        self._background.do(self._open_port(listener))
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse_connections()
        self._background.__exit__()
        self.fleet.close()

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}{PATH}"

    def refuse_connections(self) -> None:
        """Close the port and all connections; the kernel refuses new ones."""
        self._background.do(self._close_port())

    def accept_connections(self) -> None:
        """Open the same port again."""
        self._background.do(self._open_port(socket.create_server((HOST, self.port), backlog=256)))

    async def _open_port(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._connected, sock=listener)

    async def _close_port(self) -> None:
        self._server.close()
        for task in (working := [*self._working]):
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._working.add(task)
        self.connections += 1
        self.open_connections += 1
        self.most_open = max(self.most_open, self.open_connections)
        try:
            if self.slam > 0:
                self.slam -= 1
                reset(writer)
            elif self.firewall is not None and self.firewall.take(time.monotonic()) > 0:
                self.reset_by_firewall += 1
                reset(writer)
            else:
                await self._serve((reader, writer), self.connections)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.open_connections -= 1
            self._working.discard(task)
            writer.close()

    async def _serve(self, wire: Wire, connection: int) -> None:
        nth, goes_on = 0, True
        while goes_on:
            path, headers, body = await request_from(wire[0])
            nth += 1
            arrived = Arrived(len(self.seen) + 1, time.monotonic(), path, body, headers, connection, nth)
            self.seen.append(arrived)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                goes_on = await self._carry_out(self.script(arrived), arrived, wire)
            finally:
                self.in_flight -= 1

    async def _carry_out(self, fault: Fault, arrived: Arrived, wire: Wire) -> bool:
        """Process one request as scripted. Return whether its connection stays open."""
        writer = wire[1]
        await asyncio.sleep(self.latency)
        if isinstance(fault, Hangs | Loses | Resets | ActsLate | Drips):
            await self._break_off(fault, arrived, wire)
            return False
        match fault:
            case Says():
                self.refusals += fault.status == 429
                writer.write(packed(fault))
            case Raw(content):
                writer.write(content)
            case Cuts(share):
                whole = packed(await carried_out(self._api, arrived))
                writer.write(whole[: math.ceil(len(whole) * share)])
            case _:
                await self._answer(fault, arrived, writer)
        await writer.drain()
        return not isinstance(fault, Raw | Cuts | Leaves)

    async def _break_off(self, fault: Fault, arrived: Arrived, wire: Wire) -> None:
        """Act or not, and never finish an answer."""
        reader, writer = wire
        if isinstance(fault, ActsLate):
            self._late.add(asyncio.create_task(self._act_late(arrived, fault.seconds)))
        elif isinstance(fault, Hangs | Loses | Resets | Drips) and fault.acted:
            await carried_out(self._api, arrived)
        if isinstance(fault, Hangs | ActsLate):
            await reader.read()  # until the other side hangs up
        elif isinstance(fault, Resets):
            reset(writer)
        elif isinstance(fault, Drips):
            for byte in packed(Says(200, b" " * 10_000)):
                if reader.at_eof():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(_BYTE_EVERY)

    async def _answer(self, fault: Fault, arrived: Arrived, writer: asyncio.StreamWriter) -> None:
        says = await carried_out(self._api, arrived)
        if isinstance(fault, Rewrites):
            says = replace(says, body=fault.how(json.loads(says.body)))
        elif says.status == 200:
            self.told.update((arrived.action, arrived.customer, device) for device in arrived.devices)
        writer.write(packed(replace(says, headers=fault.headers) if isinstance(fault, Adds) else says))

    async def _act_late(self, arrived: Arrived, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await carried_out(self._api, arrived)


class Limit:
    """An undocumented limit; refuses with 429, with or without Retry-After."""

    def __init__(self, calls: int, seconds: float, *, retry_after: bool) -> None:
        self.calls, self.seconds, self.retry_after = calls, seconds, retry_after

    def __call__(self, arrived: Arrived) -> Fault:
        wait = self.take(arrived.at)
        if wait <= 0:
            return None
        headers = {"Retry-After": f"{math.ceil(wait)}"} if self.retry_after else {}
        return Says(429, {"error": "Too many requests"}, headers)

    def take(self, now: float) -> float:
        """Return 0 to accept an arrival, or the seconds until one would be accepted."""
        raise NotImplementedError

    def shortest(self, calls: int) -> float:
        """Return the minimum seconds for a number of calls."""
        return (calls - 1) // self.calls * self.seconds


class FixedWindow(Limit):
    """A fixed window: a number of calls in each of consecutive windows."""

    _window, _let_in = -1, 0

    def take(self, now: float) -> float:
        window = int(now // self.seconds)
        if window != self._window:
            self._window, self._let_in = window, 0
        if self._let_in >= self.calls:
            return (window + 1) * self.seconds - now
        self._let_in += 1
        return 0.0


class SlidingWindow(Limit):
    """A sliding window: a number of calls in any window."""

    def __init__(self, calls: int, seconds: float, *, retry_after: bool) -> None:
        super().__init__(calls, seconds, retry_after=retry_after)
        self._let_in: deque[float] = deque()

    def take(self, now: float) -> float:
        while self._let_in and now - self._let_in[0] >= self.seconds:
            self._let_in.popleft()
        if len(self._let_in) >= self.calls:
            return self._let_in[0] + self.seconds - now
        self._let_in.append(now)
        return 0.0


class Bucket(Limit):
    """A bucket of `burst` tokens, initially full, that gains `calls` tokens every `seconds`."""

    def __init__(self, calls: int, seconds: float, *, retry_after: bool, burst: int = 20) -> None:
        super().__init__(calls, seconds, retry_after=retry_after)
        self._burst, self._tokens, self._at = burst, float(burst), 0.0

    def take(self, now: float) -> float:
        rate = self.calls / self.seconds
        self._tokens = min(self._burst, self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / rate
        self._tokens -= 1
        return 0.0

    def shortest(self, calls: int) -> float:
        return (calls - self._burst) * self.seconds / self.calls
