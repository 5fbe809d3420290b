"""Hundreds of requests to a server with every bad habit: what the client claims agrees with what the server saw."""

import asyncio
import json
import math
import random
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from telemetron_batch.api.classify import ErrorResponse
from telemetron_batch.api.http_client import HttpClient, HttpResult, open_client
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.domain.model import Secret
from tests.support.listening import Background, Wire, reset
from tests.support.tls import Authority, needs_openssl, server_context

KEY = "sk-live-0123456789"
REQUESTS, AT_ONCE = 400, 8
TIMEOUT = 0.25
THREADS_APART = 0.02
"""Seconds within which the threads of client and server may read the time in another order than they act."""


def answer(number: object, status: str = "200 OK", *fields: str, version: str = "1.1") -> bytes:
    body = json.dumps({"error": f"<{number}>"} if status[0] in "45" else {"number": number}).encode()
    lines = "".join(f"{line}\r\n" for line in [f"content-length: {len(body)}", *fields])
    return f"HTTP/{version} {status}\r\n{lines}\r\n".encode() + body


def in_chunks(number: int) -> bytes:
    body = json.dumps({"number": number}).encode()
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


STRAY = answer("stray")
KEPT = (
    answer,
    in_chunks,
    lambda number: b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(number),
    lambda number: answer(number, "200 OK", "connection: keep-alive", version="1.0"),
    lambda number: answer(number, "400 Bad Request"),
    lambda number: answer(number, "429 Too Many Requests"),
    lambda number: answer(number, "500 Internal Server Error"),
    lambda _: b"HTTP/1.1 204 No Content\r\n\r\n",
    lambda _: b"HTTP/1.1 304 Not Modified\r\n\r\n",
    lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
)
"""Answers after which the connection stays open."""
CLOSED = (
    lambda number: answer(number, "200 OK", "connection: close"),
    lambda number: answer(number, version="1.0"),
    lambda number: b'HTTP/1.0 200 OK\r\n\r\n{"number": %d}' % number,
    lambda number: answer(number)[:-3],
    lambda number: answer(number)[:20],
    lambda _: b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n" + STRAY,
    lambda _: b"\x00 no HTTP\r\n\r\n",
    lambda _: b"",
)
"""Answers after which the server closes."""


@dataclass
class EvilServer:
    """Treats each request in a way that depends on its number and a seed."""

    seed: int
    tls: ssl.SSLContext | None
    heard: set[int] = field(default_factory=set)
    """Numbers of requests of which a byte arrived."""
    acted: set[int] = field(default_factory=set)
    strayed: dict[int, float] = field(default_factory=dict)
    """When something was sent without being asked, by the port of the client."""
    strayed_before: dict[int, float] = field(default_factory=dict)
    """When that was, by the number of the request that followed over the connection."""
    connections: int = 0
    wrong: list[AssertionError] = field(default_factory=list)

    async def listen(self) -> int:
        self.listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self.listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self.listener.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        chance = random.Random(f"{self.seed} connection {self.connections}")
        transport = writer.transport
        try:
            if await self._greets(chance, writer):
                while await self._serve((reader, writer)):
                    pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except AssertionError as exc:
            self.wrong.append(exc)
        finally:
            if not writer.transport.is_closing() and chance.random() < 0.5:
                reset(writer)
            writer.close()
            if transport is not writer.transport:
                transport.close()

    async def _greets(self, chance: random.Random, writer: asyncio.StreamWriter) -> bool:
        habit = chance.randrange(20)
        if habit == 0:
            return False
        if habit == 1:
            await asyncio.sleep(chance.choice([0.001, 0.01, 2 * TIMEOUT]))
            return False
        if self.tls is not None:
            await writer.start_tls(self.tls)
        if habit == 2:
            writer.write(answer("stray", "503 Service Unavailable"))
            return False
        return True

    async def _serve(self, wire: Wire) -> bool:
        """Treat one request, and return whether another one may follow over the connection."""
        reader, writer = wire
        head = await reader.readuntil(b"\r\n\r\n")
        number = int(head.split()[1].rpartition(b"/")[2])
        assert number not in self.heard, "a request came twice"
        self.heard.add(number)
        if (port := (writer.get_extra_info("peername") or (0, 0))[1]) in self.strayed:
            self.strayed_before[number] = self.strayed[port]
            return False  # or each later answer would be the one to the request before
        chance = random.Random(f"{self.seed} request {number}")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        habit = chance.randrange(12)
        if habit == 0:  # answers before the request has come to its end
            self.acted.add(number)
            writer.write(answer(number, chance.choice(["200 OK", "400 Bad Request"])))
            if chance.random() < 0.5:
                return False
        body = await reader.readexactly(chance.randrange(size) if habit == 1 else size)
        if habit == 1:
            return False
        assert json.loads(body)["number"] == number
        if habit == 0:
            return True
        self.acted.add(number)
        if habit == 2:
            await asyncio.sleep(chance.choice([0.01, 2 * TIMEOUT]))
        if habit == 3:
            writer.write(chance.choice(CLOSED)(number))
            return False
        writer.write(chance.choice(KEPT)(number))
        await writer.drain()
        if habit in (4, 5, 6):
            await self._stray(chance, writer)
        if habit == 7:  # closes while idle, or while the next request is under way
            await asyncio.sleep(chance.choice([0, 0.0003, 0.001, 0.003]))
            return False
        return True

    async def _stray(self, chance: random.Random, writer: asyncio.StreamWriter) -> None:
        """Send what belongs to no request: at once, in a record or packet of its own, or later."""
        delay = chance.choice([None, 0, 0.0002, 0.0005, 0.001, 0.005, 0.05])
        if delay is not None:
            await asyncio.sleep(delay)
        if not writer.transport.is_closing():
            writer.write(chance.choice([STRAY, STRAY, STRAY, STRAY[:20], b"GET /\x00", b"\r\n"]))
            self.strayed[writer.get_extra_info("peername")[1]] = time.monotonic()


@dataclass
class Claim:
    """What the client says of a request."""

    left_at: float | None = None
    """When it began to leave."""
    result: HttpResult | None = None
    """None if the request was cancelled."""


async def make_requests(client: HttpClient, seed: int) -> dict[int, Claim]:
    claims = {number: Claim() for number in range(REQUESTS)}
    waiting = iter(claims)

    async def work() -> None:
        for number in waiting:
            await one(client, number, claims[number], random.Random(f"{seed} client {number}"))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return claims


async def one(client: HttpClient, number: int, claim: Claim, chance: random.Random) -> None:
    def on_send() -> None:
        assert claim.left_at is None
        claim.left_at = time.monotonic()

    pad = "x" * chance.choice([0, 0, 0, 100_000, 3_000_000])
    body = json.dumps({"number": number, "pad": pad}).encode()
    request = asyncio.create_task(client.post(f"/{number}", body, on_send))
    if chance.random() < 0.2:
        await asyncio.wait([request], timeout=chance.choice([0, 0.0003, 0.001, 0.003, 0.01]))
        request.cancel()
    if chance.random() < 0.02:
        client.shorten_deadlines(0.001)
    with suppress(asyncio.CancelledError):
        claim.result = await request
    await asyncio.sleep(chance.choice([0, 0, 0.0005, 0.001]))


def check(number: int, claim: Claim, server: EvilServer) -> None:
    if claim.left_at is None:
        assert number not in server.heard
    if claim.result is None:
        return
    failure = claim.result.failure
    if failure is None and claim.result.body:
        claimed = str(json.loads(claim.result.body)["number"])
    elif isinstance(failure, ErrorResponse) and failure.text:
        claimed = failure.text.strip("<>")
    else:
        claimed = str(number)
        assert isinstance(failure, ErrorResponse) or failure is None or failure.sent is (claim.left_at is not None)
    if claimed == "stray":  # no client can tell what comes after a request has left from its answer
        assert claim.left_at is not None
        assert server.strayed_before.get(number, math.inf) > claim.left_at - THREADS_APART
        return
    assert claimed == str(number)
    if failure is None:
        assert number in server.acted


@pytest.mark.slow
@needs_openssl
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_the_client_claims_agrees_with_what_an_evil_server_saw(tmp_path: Path, scheme: str, seed: int) -> None:
    authority = Authority(tmp_path)
    server = EvilServer(seed, server_context(authority.signs("localhost")) if scheme == "https" else None)

    async def main(port: int) -> dict[int, Claim]:
        network = NetworkOptions(ca_file=str(authority.certificate))
        target = ApiTarget(f"{scheme}://localhost:{port}", Secret(KEY), network)
        async with open_client(target, timeout=TIMEOUT, wall=lambda: 0.0) as client:
            return await make_requests(client, seed)

    with Background() as background:
        claims = asyncio.run(main(background.do(server.listen())))
        background.do(server.close())
    for number, claim in claims.items():
        check(number, claim, server)
    assert server.wrong == []
    assert sum(one.result is not None and one.result.failure is None for one in claims.values()) > REQUESTS / 10
