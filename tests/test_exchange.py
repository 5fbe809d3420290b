"""What becomes of a request on a real wire: how it ended, and whether it can have acted."""

import asyncio
import gzip
import inspect
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from batch.model import Secret
from batch.sending.exchange import ENDINGS, LARGEST_BODY, Exchange, Exchanger, connected
from batch.sending.verdict import Broken, NoAnswer, Refusal

KEY = "sk-live-0123456789"
BODY = b'{"customerEmail":"a@b.c","deviceIdentifiers":["SN-1"]}'
OK = b'{"success": true}'
SOON = 0.2
"""Seconds that a request may take that is meant to take too long."""

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A loopback server that does one thing to each connection, and keeps the heads it has read."""

    behaviour: Behaviour
    heads: list[bytes] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.behaviour(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def hear(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(len(BODY)))
        self.heard.set()


@asynccontextmanager
async def listening(behaviour: Callable[[Server], Behaviour]) -> AsyncIterator[Server]:
    server = Server(lambda _, __: asyncio.sleep(0))
    server.behaviour = behaviour(server)
    under_way: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        await server.serve(reader, writer)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/api"
    try:
        yield server
    finally:
        listener.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


@asynccontextmanager
async def exchanging(url: str, *, timeout: float = 5.0, connect: float = 5.0) -> AsyncIterator[Exchanger]:  # noqa: ASYNC109
    async with connected(url, seconds=connect) as http:
        yield Exchanger(http, Secret(KEY), timeout=timeout, wall=lambda: 1_700_000_000.0)


def answering(
    body: bytes, *headers: str, status: str = "200 OK", length: int | None = None
) -> Callable[[Server], Behaviour]:
    """Hear the request, answer so, close."""
    announced = [f"content-length: {len(body) if length is None else length}", *headers]
    head = "\r\n".join([f"HTTP/1.1 {status}", *announced, "", ""]).encode()
    return saying(head + body)


def saying(text: bytes) -> Callable[[Server], Behaviour]:
    """Hear the request, say this, close."""

    def behaviour(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.hear(reader)
            writer.write(text)
            await writer.drain()

        return behave

    return behaviour


async def post_once(url: str, timeout: float = 5.0) -> Exchange:  # noqa: ASYNC109
    async with exchanging(url, timeout=timeout) as exchanger:
        return await exchanger.post("/path", BODY)


def met_with(behaviour: Callable[[Server], Behaviour], timeout: float = 5.0) -> tuple[Exchange, Server]:
    """One request to a server that behaves so."""

    async def main() -> tuple[Exchange, Server]:
        async with listening(behaviour) as server:
            return await post_once(server.url, timeout), server

    return asyncio.run(main())


def broken(exchange: Exchange) -> tuple[Broken, bool]:
    assert isinstance(exchange.ending, NoAnswer)
    return exchange.ending.how, exchange.ending.sent


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


# Answers


def test_a_2xx_comes_back_whole() -> None:
    exchange, server = met_with(answering(OK, "RateLimit: x;r=5;t=10"))
    assert (exchange.ending, exchange.body, exchange.status) == (None, OK, 200)
    assert exchange.hint.quotas == ((5, 10.0),)
    assert server.bodies == [BODY]


def test_a_request_is_a_json_post_under_the_base_url() -> None:
    _, server = met_with(answering(OK))
    lines = server.heads[0].decode().lower().split("\r\n")
    assert lines[0] == "post /api/path http/1.1"
    assert {"content-type: application/json", "accept: application/json", "accept-encoding: identity"} < set(lines)
    assert any(line.startswith("user-agent: telemetron-batch/") for line in lines)


def test_a_refusal_brings_its_text_and_its_hint() -> None:
    exchange, _ = met_with(answering(b'{"error": "slow down"}', "Retry-After: 7", status="429 Too Many"))
    assert exchange.ending == Refusal(429, "slow down", asks_to_wait=True)
    assert (exchange.status, exchange.hint.wait) == (429, 7.0)


def test_a_big_error_page_becomes_one_short_line() -> None:
    page = b"<html><h1>500 Internal Server Error</h1>" + b"<p>sorry " * 200_000
    exchange, _ = met_with(answering(page, status="500 Oh"))
    assert isinstance(exchange.ending, Refusal)
    assert exchange.ending.status == 500
    assert exchange.ending.text.startswith("500 Internal Server Error sorry")
    assert len(exchange.ending.text) <= 300


def test_an_interim_answer_is_passed_over() -> None:
    exchange, _ = met_with(saying(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    assert (exchange.ending, exchange.body) == (None, b"{}")


def test_a_connection_is_used_again() -> None:
    def patient(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.hear(reader)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        return behave

    async def main() -> list[bytes]:
        async with listening(patient) as server, exchanging(server.url) as exchanger:
            answers = [await exchanger.post("/path", BODY) for _ in range(3)]
            assert len(server.heads) == 3
            return [answer.body for answer in answers]

    assert run(main()) == [b"{}"] * 3


def test_a_503_that_comes_much_faster_than_answers_do_asks_to_wait() -> None:
    async def main() -> Exchange:
        waits = iter([0.03] * 5 + [0.0])

        async def respond(_: httpx2.Request) -> httpx2.Response:
            wait = next(waits)
            await asyncio.sleep(wait)
            return httpx2.Response(200 if wait else 503, json={})

        transport = httpx2.MockTransport(respond)
        async with connected("http://h", seconds=1, transport=transport) as http:
            exchanger = Exchanger(http, Secret(KEY), timeout=1, wall=lambda: 0.0)
            return [await exchanger.post("/path", BODY) for _ in range(6)][-1]

    assert run(main()).ending == Refusal(503, "{}", asks_to_wait=True)


# Connections that break


def test_a_refused_connection_sent_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        exchange = asyncio.run(post_once(f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert broken(exchange) == (Broken.CONNECTION, False)


def test_a_host_without_an_address_was_sent_nothing() -> None:
    assert broken(asyncio.run(post_once("http://no-such-host.invalid"))) == (Broken.CONNECTION, False)


def closing_on_accept(_: Server) -> Behaviour:
    return lambda _, __: asyncio.sleep(0)


def resetting_on_accept(_: Server) -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    return behave


def resetting_after_the_request(server: Server) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.hear(reader)
        reset(writer)

    return behave


def reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize(
    "behaviour",
    [
        closing_on_accept,
        resetting_on_accept,
        resetting_after_the_request,
        saying(b""),
        saying(b"HTTP/1.1 200"),
        saying(b"HTTP/1.1 200 OK\r\ncontent-le"),
        answering(OK, length=100),
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11\r\n" + OK),
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        saying(b"SSH-2.0-OpenSSH_9.6\r\n"),
        saying(b"HTTP/1.1 OK 200\r\n\r\n"),
        saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n"),
    ],
    ids=[
        "closes on accept",
        "resets on accept",
        "resets after the request",
        "closes after the request",
        "cuts the status line",
        "cuts the head",
        "cuts the body",
        "cuts a chunk",
        "garbage chunk",
        "another protocol",
        "garbage status line",
        "endless header",
    ],
)
def test_a_connection_that_breaks_may_have_carried_the_request(behaviour: Callable[[Server], Behaviour]) -> None:
    exchange, _ = met_with(behaviour)
    how, sent = broken(exchange)
    # Once the head of the answer has come, somebody is there: what breaks then is the answer.
    assert how is (Broken.CUT if exchange.status is None else Broken.UNUSABLE)
    assert sent


# Time


def hanging(server: Server) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await server.hear(reader)
        await asyncio.sleep(60)

    return behave


def dripping(server: Server) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.hear(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.01)

    return behave


@pytest.mark.parametrize("behaviour", [hanging, dripping])
def test_no_answer_outlasts_the_deadline_and_a_late_one_may_have_acted(
    behaviour: Callable[[Server], Behaviour],
) -> None:
    exchange, _ = met_with(behaviour, SOON)
    assert broken(exchange) == (Broken.TIMEOUT, True)


@pytest.mark.parametrize("behaviour", [hanging, closing_on_accept, resetting_on_accept])
def test_a_peer_that_does_not_finish_the_tls_handshake_was_sent_nothing(
    behaviour: Callable[[Server], Behaviour],
) -> None:
    # The library leaks the connection when our deadline comes before its own time to connect.
    async def main() -> Exchange:
        async with (
            listening(behaviour) as server,
            exchanging(server.url.replace("http:", "https:"), connect=SOON) as tls,
        ):
            return await tls.post("/path", BODY)

    assert broken(run(main())) == (Broken.CONNECTION, False)


async def hurried(behaviour: Callable[[Server], Behaviour], timeout: float, seconds: float) -> tuple[Exchange, float]:  # noqa: ASYNC109
    loop = asyncio.get_running_loop()
    async with listening(behaviour) as server, exchanging(server.url, timeout=timeout) as exchanger:
        request = asyncio.create_task(exchanger.post("/path", BODY))
        await server.heard.wait()
        began = loop.time()
        exchanger.hurry(seconds)
        return await request, loop.time() - began


def test_hurry_ends_a_hanging_request_soon() -> None:
    exchange, took = run(hurried(hanging, 60, 0.05))
    assert broken(exchange) == (Broken.TIMEOUT, True)
    assert took < 1


def test_hurry_never_gives_a_request_more_time() -> None:
    _, took = run(hurried(hanging, SOON, 60))
    assert took < 1


def test_hurry_leaves_later_requests_alone() -> None:
    async def main() -> Exchange:
        async with listening(answering(OK)) as server, exchanging(server.url) as exchanger:
            exchanger.hurry(0)
            return await exchanger.post("/path", BODY)

    assert run(main()).ending is None


def test_a_cancelled_request_is_cancelled() -> None:
    async def main() -> None:
        async with listening(hanging) as server, exchanging(server.url) as exchanger:
            request = asyncio.create_task(exchanger.post("/path", BODY))
            await server.heard.wait()
            request.cancel()
            await request

    with pytest.raises(asyncio.CancelledError):
        run(main())


# Bodies that are not what they say


def test_gzip_that_nobody_asked_for_is_unpacked() -> None:
    exchange, _ = met_with(answering(gzip.compress(OK), "content-encoding: gzip"))
    assert (exchange.ending, exchange.body) == (None, OK)


def test_a_gzip_bomb_leaves_a_refusal_its_status() -> None:
    bomb = gzip.compress(bytes(LARGEST_BODY + 1), compresslevel=1)
    exchange, _ = met_with(answering(bomb, "content-encoding: gzip", status="500 Oh"))
    assert exchange.ending == Refusal(500, "")


def test_a_gzip_bomb_is_unusable_and_may_have_acted() -> None:
    bomb = gzip.compress(bytes(LARGEST_BODY + 1), compresslevel=1)
    exchange, _ = met_with(answering(bomb, "content-encoding: gzip"))
    assert broken(exchange) == (Broken.UNUSABLE, True)
    assert "64 MiB" in exchange.ending.text  # type: ignore[union-attr]


def test_bad_gzip_is_unusable_and_may_have_acted() -> None:
    exchange, _ = met_with(answering(b"not gzip at all", "content-encoding: gzip"))
    assert broken(exchange) == (Broken.UNUSABLE, True)


def test_a_broken_gzip_trailer_is_unusable() -> None:
    packed = gzip.compress(OK)
    exchange, _ = met_with(answering(packed[:-8] + bytes(8), "content-encoding: gzip"))
    assert broken(exchange) == (Broken.UNUSABLE, True)


@pytest.mark.parametrize("status", [401, 413, 429])
def test_a_refusal_is_a_refusal_even_if_its_body_breaks_off(status: int) -> None:
    exchange, _ = met_with(answering(b"oh", "Retry-After: 7", status=f"{status} No", length=100))
    assert isinstance(exchange.ending, Refusal)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(status: int) -> None:
    async def main() -> tuple[Exchange, list[bytes]]:
        async with listening(answering(OK)) as elsewhere:
            moved = answering(b"", f"location: {elsewhere.url}", status=f"{status} Moved")
            async with listening(moved) as server:
                return await post_once(server.url), elsewhere.heads

    exchange, heard_elsewhere = run(main())
    assert exchange.ending == Refusal(status, "")
    assert heard_elsewhere == []


@pytest.mark.parametrize("location", ["http://[::1", "https://h:port/"])
def test_a_redirect_to_nowhere_is_a_redirect_all_the_same(location: str) -> None:
    exchange, _ = met_with(answering(b"", f"location: {location}", status="302 Found"))
    assert exchange.ending == Refusal(302, "")


# The key, and the environment


def test_the_key_travels_in_its_header_and_nowhere_else() -> None:
    async def main() -> tuple[bytes, str]:
        async with listening(answering(OK)) as server, connected(server.url, seconds=1) as http:
            exchanger = Exchanger(http, Secret(KEY), timeout=1, wall=lambda: 0.0)
            exchange = await exchanger.post("/path", BODY)
            shown = [http, vars(http), exchanger, vars(exchanger), exchange]
            return server.heads[0], repr(shown)

    head, shown = run(main())
    assert head.count(KEY.encode()) == 1
    assert f"x-api-key: {KEY}".encode() in head
    assert KEY not in shown


def test_proxies_and_credentials_of_the_environment_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    exchange, server = met_with(answering(OK))
    assert exchange.ending is None
    assert b"authorization" not in server.heads[0].lower()


# Every exception of the library

BUGS_OF_OURS = {
    httpx2.LocalProtocolError: "we would have made a request that is none",
    httpx2.UnsupportedProtocol: "the base URL is checked to be http or https",
    httpx2.TooManyRedirects: "redirects are never followed",
    httpx2.HTTPStatusError: "raise_for_status is never called",
    httpx2.InvalidURL: "paths are constants, and the base URL is checked",
    httpx2.CookieConflict: "no cookie is read by name",
    httpx2.StreamConsumed: "a body is read once",
    httpx2.StreamClosed: "a body is read inside its context",
    httpx2.ResponseNotRead: "a body is read before it is looked at",
    httpx2.RequestNotRead: "a request's body is bytes",
    httpx2.SSEError: "no stream of events is asked for",
}
ALL = {kind for _, kind in inspect.getmembers(httpx2, inspect.isclass) if issubclass(kind, Exception)}
LEAVES = {kind for kind in ALL if not any(other is not kind and issubclass(other, kind) for other in ALL)}


@pytest.mark.parametrize("kind", sorted(LEAVES, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_exception_of_the_library_is_an_ending_or_known_to_be_a_bug_of_ours(kind: type[Exception]) -> None:
    assert (kind in ENDINGS) != (kind in BUGS_OF_OURS)


def raised(kind: type[Exception], *, traced: str | None = None) -> Exchange:
    """One request over a transport that raises this, after telling that a step has begun."""

    async def respond(request: httpx2.Request) -> httpx2.Response:
        if traced is not None:
            await request.extensions["trace"](traced, {})
        raise kind("words\nof the library")

    async def main() -> Exchange:
        transport = httpx2.MockTransport(respond)
        async with connected("http://h", seconds=1, transport=transport) as http:
            return await Exchanger(http, Secret(KEY), timeout=1, wall=lambda: 0.0).post("/path", BODY)

    return asyncio.run(main())


ENDING_KINDS = pytest.mark.parametrize(("kind", "how"), ENDINGS.items(), ids=lambda one: getattr(one, "__name__", ""))


@ENDING_KINDS
def test_the_wire_and_not_the_exception_tells_that_something_was_sent(kind: type[Exception], how: Broken) -> None:
    assert broken(raised(kind, traced="http11.send_request_headers.started")) == (how, True)


@ENDING_KINDS
def test_the_wire_and_not_the_exception_tells_that_nothing_was_sent(kind: type[Exception], how: Broken) -> None:
    assert broken(raised(kind, traced="connection.connect_tcp.started")) == (how, False)


@ENDING_KINDS
def test_without_a_trace_only_a_failed_connection_was_surely_not_sent(kind: type[Exception], how: Broken) -> None:
    assert broken(raised(kind)) == (how, how is not Broken.CONNECTION)


@ENDING_KINDS
def test_an_ending_is_told_in_one_line(kind: type[Exception], how: Broken) -> None:
    ending = raised(kind).ending
    assert isinstance(ending, NoAnswer)
    assert "\n" not in ending.text
    assert ("words of the library" in ending.text) == (how is not Broken.TIMEOUT)


@pytest.mark.parametrize("kind", [httpx2.LocalProtocolError, httpx2.UnsupportedProtocol, ValueError])
def test_a_bug_of_ours_is_raised(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        raised(kind)


def test_an_answer_can_be_shown_without_its_key_even_when_it_echoes_the_request() -> None:
    exchange, _ = met_with(answering(json.dumps({"error": "no"}).encode(), status="400 Bad"))
    assert KEY not in repr(exchange)
