"""Requests over a real connection: how each ends and whether it may have acted."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.api.classify import ErrorResponse, FailureKind, NoUsableResponse, WithdrawnError
from telemetron_batch.api.http import MAX_BODY_BYTES
from telemetron_batch.api.http_client import HttpClient, HttpResult, open_client
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.api.tls import tls_context
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.domain.model import Secret
from tests.support.listening import reset

KEY = "sk-live-0123456789"
BODY = b'{"customerEmail":"a@b.cc","deviceIdentifiers":["SN-1"]}'
OK = b'{"success": true}'
SOON = 0.2
"""Timeout in seconds of requests that are meant to time out."""

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A loopback server that treats each connection the same way and keeps the request heads."""

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
async def listening(behaviour: Callable[[Server], Behaviour], host: str = "127.0.0.1") -> AsyncIterator[Server]:
    server = Server(lambda _, __: asyncio.sleep(0))
    server.behaviour = behaviour(server)
    under_way: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        await server.serve(reader, writer)

    listener = await asyncio.start_server(accept, host, 0)
    shown = f"[{host}]" if ":" in host else host
    server.url = f"http://{shown}:{listener.sockets[0].getsockname()[1]}/api"
    try:
        yield server
    finally:
        listener.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


@asynccontextmanager
async def exchanging(url: str, *, timeout: float = 5.0, connect: float = 5.0) -> AsyncIterator[HttpClient]:  # noqa: ASYNC109
    wall = lambda: 1_700_000_000.0  # noqa: E731
    async with open_client(ApiTarget(url, Secret(KEY)), timeout=timeout, connect=connect, wall=wall) as client:
        yield client


def answering(
    body: bytes, *headers: str, status: str = "200 OK", length: int | None = None
) -> Callable[[Server], Behaviour]:
    """Read the request, send this answer and close."""
    announced = [f"content-length: {len(body) if length is None else length}", *headers]
    head = "\r\n".join([f"HTTP/1.1 {status}", *announced, "", ""]).encode()
    return saying(head + body)


def saying(text: bytes) -> Callable[[Server], Behaviour]:
    """Read the request, send these bytes and close."""

    def behaviour(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.hear(reader)
            writer.write(text)
            await writer.drain()

        return behave

    return behaviour


async def post_once(url: str, timeout: float = 5.0) -> HttpResult:  # noqa: ASYNC109
    async with exchanging(url, timeout=timeout) as exchanger:
        return await exchanger.post("/path", BODY)


def met_with(behaviour: Callable[[Server], Behaviour], timeout: float = 5.0) -> tuple[HttpResult, Server]:
    """Make one request to a server with this behaviour."""

    async def main() -> tuple[HttpResult, Server]:
        async with listening(behaviour) as server:
            return await post_once(server.url, timeout), server

    return asyncio.run(main())


def broken(exchange: HttpResult) -> tuple[FailureKind, bool]:
    assert isinstance(exchange.failure, NoUsableResponse)
    return exchange.failure.how, exchange.failure.sent


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


# Answers


def test_a_2xx_comes_back_whole() -> None:
    exchange, server = met_with(answering(OK, "RateLimit: x;r=5;t=10"))
    assert (exchange.failure, exchange.body, exchange.status) == (None, OK, 200)
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
    assert exchange.failure == ErrorResponse(429, "slow down", asks_to_wait=True)
    assert (exchange.status, exchange.hint.wait) == (429, 7.0)


def test_a_big_error_page_becomes_one_short_line() -> None:
    page = b"<html><h1>500 Internal Server Error</h1>" + b"<p>sorry " * 200_000
    exchange, _ = met_with(answering(page, status="500 Oh"))
    assert isinstance(exchange.failure, ErrorResponse)
    assert exchange.failure.status == 500
    assert exchange.failure.text.startswith("500 Internal Server Error sorry")
    assert len(exchange.failure.text) <= 300


def test_an_interim_answer_is_passed_over() -> None:
    exchange, _ = met_with(saying(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    assert (exchange.failure, exchange.body) == (None, b"{}")


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


def test_a_connection_that_was_closed_while_idle_is_not_used_again_and_leaves_no_doubt() -> None:
    async def main() -> list[HttpResult]:
        async with listening(answering(OK)) as server, exchanging(server.url) as exchanger:
            answers = []
            for _ in range(3):
                answers.append(await exchanger.post("/path", BODY))
                await asyncio.sleep(0.05)  # the server closes without having said so
            return answers

    assert [answer.body for answer in run(main())] == [OK] * 3


def test_data_on_an_idle_connection_is_no_answer() -> None:
    def talkative(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.hear(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n" + OK)
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            await server.hear(reader)

        return behave

    async def main() -> list[HttpResult]:
        async with listening(talkative) as server, exchanging(server.url) as exchanger:
            answers = []
            for _ in range(3):
                answers.append(await exchanger.post("/path", BODY))
                await asyncio.sleep(0.2)
            return answers

    assert [(answer.status, answer.body) for answer in run(main())] == [(200, OK)] * 3


def test_requests_under_way_have_a_connection_each_and_later_ones_use_these_again() -> None:
    connections: set[Any] = set()

    def patient(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(writer.get_extra_info("peername"))
            while True:
                await server.hear(reader)
                await asyncio.sleep(0.05)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        return behave

    async def main() -> None:
        async with listening(patient) as server, exchanging(server.url) as exchanger:
            for _ in range(3):
                answers = await asyncio.gather(*(exchanger.post("/path", BODY) for _ in range(12)))
                assert {answer.body for answer in answers} == {b"{}"}

    run(main())
    assert len(connections) == 12


def test_a_refusal_before_the_whole_request_was_read_counts() -> None:
    large = b" " * 900_000

    def hasty(_: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
            await writer.drain()
            await reader.read()

        return behave

    async def main() -> HttpResult:
        async with listening(hasty) as server, exchanging(server.url) as exchanger:
            return await exchanger.post("/path", large)

    assert run(main()).failure == ErrorResponse(413, "big", is_api_error=False)


@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
def test_a_request_arrives_whole_however_large(size: int) -> None:
    received: list[bytes] = []

    def hearing(_: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert f"content-length: {size}".encode() in head.lower()
            received.append(await reader.readexactly(size))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        return behave

    async def main() -> HttpResult:
        async with listening(hearing) as server, exchanging(server.url) as exchanger:
            return await exchanger.post("/path", b"x" * size)

    assert run(main()).body == b"{}"
    assert received == [b"x" * size]


def test_a_change_of_protocol_is_no_answer() -> None:
    exchange, _ = met_with(saying(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"))
    assert broken(exchange) == (FailureKind.CUT, True)


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11\r\n" + OK + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\nset-cookie: c=d\r\ncontent-length: 17\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 30_000 + b"\r\ncontent-length: 17\r\n\r\n" + OK,
    ],
    ids=["to the end", "HTTP/1.0", "chunked", "cookies", "a long header"],
)
def test_an_answer_is_understood_however_it_is_framed(text: bytes) -> None:
    exchange, _ = met_with(saying(text))
    assert (exchange.failure, exchange.body) == (None, OK)


def test_cookies_are_not_kept() -> None:
    headers = ("set-cookie: a=b; path=/", "connection: close")

    async def main() -> list[bytes]:
        async with listening(answering(OK, *headers)) as server, exchanging(server.url) as exchanger:
            for _ in range(2):
                await exchanger.post("/path", BODY)
            return server.heads

    heads = run(main())
    assert len(heads) == 2
    assert not any(b"cookie" in head.lower() for head in heads)


def test_several_interim_answers_are_passed_over() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n" * 2
    exchange, _ = met_with(saying(interim + hints + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    assert (exchange.failure, exchange.body) == (None, b"{}")


def test_interim_answers_alone_are_no_answer() -> None:
    exchange, _ = met_with(saying(b"HTTP/1.1 103 Early Hints\r\n\r\n"))
    assert broken(exchange) == (FailureKind.CUT, True)


def test_a_connection_is_used_again_after_an_answer_in_chunks_with_trailers() -> None:
    connections: set[Any] = set()
    chunks = b"8\r\n" + OK[:8] + b"\r\n9;a=b\r\n" + OK[8:] + b"\r\n0\r\nx-checksum: 1\r\nx-more: 2\r\n\r\n"

    def chunked(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(writer.get_extra_info("peername"))
            while True:
                await server.hear(reader)
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum\r\n\r\n" + chunks)

        return behave

    async def main() -> list[bytes]:
        async with listening(chunked) as server, exchanging(server.url) as exchanger:
            return [(await exchanger.post("/path", BODY)).body for _ in range(3)]

    assert run(main()) == [OK] * 3
    assert len(connections) == 1


def answering_unread(answer: bytes) -> Callable[[Server], Behaviour]:
    """Answer after the head, without reading the body, and reset the connection."""

    def behaviour(_: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await asyncio.sleep(0.05)
            reset(writer)

        return behave

    return behaviour


def met_with_a_large_request(behaviour: Callable[[Server], Behaviour]) -> HttpResult:
    async def main() -> HttpResult:
        async with listening(behaviour) as server, exchanging(server.url) as exchanger:
            return await exchanger.post("/path", b" " * 30_000_000)

    result: HttpResult = run(main())
    return result


def test_a_refusal_that_is_followed_by_a_reset_counts() -> None:
    refused = met_with_a_large_request(answering_unread(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig"))
    assert refused.failure == ErrorResponse(413, "big", is_api_error=False)


def test_a_success_for_a_request_that_was_not_read_to_its_end_is_no_answer() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n" + OK
    assert broken(met_with_a_large_request(answering_unread(answer))) == (FailureKind.CUT, True)


def test_a_connection_that_is_closed_when_the_next_request_arrives_leaves_that_one_in_doubt() -> None:
    def once(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.hear(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n" + OK)
            await reader.read(1)

        return behave

    async def main() -> tuple[HttpResult, HttpResult, int]:
        async with listening(once) as server, exchanging(server.url) as exchanger:
            first = await exchanger.post("/path", BODY)
            return first, await exchanger.post("/path", BODY), len(server.heads)

    first, second, heard = run(main())
    assert first.failure is None
    assert broken(second) == (FailureKind.CUT, True)
    assert heard == 1, "the second request is not sent again"


@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.001, 0.002])
def test_a_connection_that_is_closed_about_when_the_next_request_leaves_never_brings_a_false_answer(
    delay: float,
) -> None:
    def once(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.hear(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n" + OK)
            await asyncio.sleep(delay)

        return behave

    async def main() -> None:
        async with listening(once) as server, exchanging(server.url) as exchanger:
            answered = 0
            for _ in range(50):
                exchange = await exchanger.post("/path", BODY)
                answered += exchange.failure is None
                assert exchange.failure is None or broken(exchange) == (FailureKind.CUT, True)
                await asyncio.sleep(delay)
            assert answered == len(server.heads)

    run(main())


# Addresses


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
def test_a_server_is_reached_by_its_ipv6_address() -> None:
    async def main() -> tuple[HttpResult, bytes]:
        async with listening(answering(OK), host="::1") as server:
            return await post_once(server.url), server.heads[0]

    exchange, head = run(main())
    assert exchange.failure is None
    assert b"host: [::1]:" in head.lower()


def resolving(*addresses: str) -> Callable[..., Any]:
    """Return a `getaddrinfo` that gives these addresses for every name."""

    async def getaddrinfo(_: Any, port: Any, **__: Any) -> list[Any]:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, int(port), 0, 0)[: 4 if ":" in address else 2])
            for family, address in zip(families, addresses, strict=True)
        ]

    return getaddrinfo


@pytest.mark.parametrize("first", ["127.0.0.2", "192.0.2.1"], ids=["refuses", "does not answer"])
def test_the_next_address_of_a_host_is_tried_when_the_first_does_not_answer(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> HttpResult:
        async with listening(answering(OK)) as server:
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving(first, "127.0.0.1"))
            return await post_once(server.url.replace("127.0.0.1", "several.example"))

    assert run(main()).failure is None


def test_a_host_of_which_every_address_refuses_is_reported_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> HttpResult:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving("127.0.0.2", "127.0.0.3"))
        return await post_once("http://several.example:9")

    exchange = run(main())
    assert broken(exchange) == (FailureKind.REFUSED, False)
    assert exchange.failure.text == "connection refused (Connection refused)"


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example"])
def test_a_host_that_is_no_name_was_sent_nothing(host: str) -> None:
    assert broken(asyncio.run(post_once(f"http://{host}"))) == (FailureKind.NAME, False)


# Connections that break


def test_a_refused_connection_sent_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        exchange = asyncio.run(post_once(f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert broken(exchange) == (FailureKind.REFUSED, False)


def test_a_connection_refused_without_tls_is_not_put_down_to_tls() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        exchange = asyncio.run(post_once(f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert isinstance(exchange.failure, NoUsableResponse)
    assert "ssl" not in exchange.failure.text.lower()


def test_a_host_without_an_address_was_sent_nothing() -> None:
    assert broken(asyncio.run(post_once("http://no-such-host.invalid"))) == (FailureKind.NAME, False)


@contextmanager
def black_hole() -> Iterator[str]:
    """Return the URL of a port whose backlog is full, so that connections are neither accepted nor refused."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_connection_that_is_never_made_sent_nothing() -> None:
    async def main(url: str) -> HttpResult:
        async with exchanging(url, connect=SOON) as exchanger:
            return await exchanger.post("/path", BODY)

    with black_hole() as url:
        assert broken(run(main(url))) == (FailureKind.CONNECT_TIMEOUT, False)


def test_a_request_that_is_ended_while_connecting_sent_nothing() -> None:
    async def main(url: str) -> HttpResult:
        async with exchanging(url) as exchanger:
            request = asyncio.create_task(exchanger.post("/path", BODY))
            await asyncio.sleep(SOON)
            exchanger.shorten_deadlines(0)
            return await request

    with black_hole() as url:
        assert broken(run(main(url))) == (FailureKind.TIMEOUT, False)


def test_what_is_called_when_a_request_begins_to_leave_is_called_once_and_not_before() -> None:
    async def main(url: str) -> list[int]:
        left: list[int] = []
        async with listening(answering(OK)) as server:
            for base_url in (url, server.url):
                async with exchanging(base_url, connect=SOON) as exchanger:
                    await exchanger.post("/path", BODY, lambda: left.append(len(server.heads)))
        return left

    with black_hole() as url:
        assert run(main(url)) == [0]


def test_a_request_that_is_withdrawn_as_it_begins_to_leave_never_arrives_and_others_do() -> None:
    def withdraw() -> None:
        raise WithdrawnError("not ours any more")

    async def main() -> list[bytes]:
        async with listening(answering(OK)) as server, exchanging(server.url) as exchanger:
            exchange = await exchanger.post("/path", BODY, withdraw)
            assert broken(exchange) == (FailureKind.WITHDRAWN, False)
            assert (await exchanger.post("/path", BODY)).body == OK
            return server.heads

    assert len(run(main())) == 1


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


@pytest.mark.parametrize(
    "behaviour",
    [
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
    assert how is (FailureKind.CUT if exchange.status is None else FailureKind.UNUSABLE)
    assert sent


@pytest.mark.parametrize("behaviour", [closing_on_accept, resetting_on_accept])
def test_a_connection_that_is_closed_when_it_is_accepted_broke(behaviour: Callable[[Server], Behaviour]) -> None:
    exchange, server = met_with(behaviour)
    assert broken(exchange)[0] is FailureKind.CUT  # whether it was closed before the request left is a matter of luck
    assert server.heads == []


# Time


def hanging(server: Server) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await server.hear(reader)
        await asyncio.sleep(60)

    return behave


def dripping_after(head: bytes) -> Callable[[Server], Behaviour]:
    def behaviour(server: Server) -> Behaviour:
        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.hear(reader)
            writer.write(head + b"content-length: 1000\r\n\r\n")
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.01)

        return behave

    return behaviour


dripping = dripping_after(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("behaviour", [hanging, dripping])
def test_no_answer_outlasts_the_deadline_and_a_late_one_may_have_acted(
    behaviour: Callable[[Server], Behaviour],
) -> None:
    exchange, _ = met_with(behaviour, SOON)
    assert broken(exchange) == (FailureKind.TIMEOUT, True)


@pytest.mark.parametrize(
    ("behaviour", "how"),
    [
        (hanging, FailureKind.CONNECT_TIMEOUT),
        (closing_on_accept, FailureKind.CONNECTION),
        (resetting_on_accept, FailureKind.CONNECTION),
    ],
)
def test_a_peer_that_does_not_finish_the_tls_handshake_was_sent_nothing(
    behaviour: Callable[[Server], Behaviour], how: FailureKind
) -> None:
    async def main() -> HttpResult:
        async with (
            listening(behaviour) as server,
            exchanging(server.url.replace("http:", "https:"), connect=SOON) as tls,
        ):
            return await tls.post("/path", BODY)

    assert broken(run(main())) == (how, False)


async def hurried(behaviour: Callable[[Server], Behaviour], timeout: float, seconds: float) -> tuple[HttpResult, float]:  # noqa: ASYNC109
    loop = asyncio.get_running_loop()
    async with listening(behaviour) as server, exchanging(server.url, timeout=timeout) as exchanger:
        request = asyncio.create_task(exchanger.post("/path", BODY))
        await server.heard.wait()
        began = loop.time()
        exchanger.shorten_deadlines(seconds)
        return await request, loop.time() - began


def test_hurry_ends_a_hanging_request_soon() -> None:
    exchange, took = run(hurried(hanging, 60, 0.05))
    assert broken(exchange) == (FailureKind.TIMEOUT, True)
    assert took < 1


def test_hurry_never_gives_a_request_more_time() -> None:
    _, took = run(hurried(hanging, SOON, 60))
    assert took < 1


def test_hurry_leaves_later_requests_alone() -> None:
    async def main() -> HttpResult:
        async with listening(answering(OK)) as server, exchanging(server.url) as exchanger:
            exchanger.shorten_deadlines(0)
            return await exchanger.post("/path", BODY)

    assert run(main()).failure is None


def test_hurry_twice_leaves_requests_alone_whose_time_is_up() -> None:
    async def main() -> HttpResult:
        async with listening(hanging) as server, exchanging(server.url) as exchanger:
            request = asyncio.create_task(exchanger.post("/path", BODY))
            await server.heard.wait()
            while not request.done():
                exchanger.shorten_deadlines(0)
                await asyncio.sleep(0)
            return await request

    assert broken(run(main())) == (FailureKind.TIMEOUT, True)


def test_a_cancelled_request_is_cancelled() -> None:
    async def main() -> None:
        async with listening(hanging) as server, exchanging(server.url) as exchanger:
            request = asyncio.create_task(exchanger.post("/path", BODY))
            await server.heard.wait()
            request.cancel()
            await request

    with pytest.raises(asyncio.CancelledError):
        run(main())


def test_no_secrets_of_tls_are_written_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert tls_context(NetworkOptions()).keylog_filename is None


# Bodies that are not what they say


def test_gzip_that_was_not_requested_is_decompressed() -> None:
    exchange, _ = met_with(answering(gzip.compress(OK), "content-encoding: gzip"))
    assert (exchange.failure, exchange.body) == (None, OK)


def test_a_gzip_bomb_leaves_a_refusal_its_status() -> None:
    bomb = gzip.compress(bytes(MAX_BODY_BYTES + 1), compresslevel=1)
    exchange, _ = met_with(answering(bomb, "content-encoding: gzip", status="500 Oh"))
    assert isinstance(exchange.failure, ErrorResponse)
    assert exchange.failure.status == 500


def test_a_gzip_bomb_is_unusable_and_may_have_acted() -> None:
    bomb = gzip.compress(bytes(MAX_BODY_BYTES + 1), compresslevel=1)
    exchange, _ = met_with(answering(bomb, "content-encoding: gzip"))
    assert broken(exchange) == (FailureKind.UNUSABLE, True)
    assert "MiB" in exchange.failure.text  # type: ignore[union-attr]


@pytest.mark.parametrize(("size", "whole"), [(1 << 20, True), (3 << 20, False)])
def test_an_answer_is_not_unpacked_to_many_times_what_came(size: int, whole: bool) -> None:
    exchange, _ = met_with(answering(gzip.compress(bytes(size)), "content-encoding: gzip"))
    assert exchange.body == (bytes(size) if whole else b"")
    assert whole or broken(exchange) == (FailureKind.UNUSABLE, True)


def test_a_large_answer_of_usual_texts_is_unpacked() -> None:
    body = b"".join(b'{"identifier":"SN-%d","deviceId":"dev_%d"},' % (at, at * 7919) for at in range(100_000))
    exchange, _ = met_with(answering(gzip.compress(body), "content-encoding: gzip"))
    assert exchange.body == body


def test_bad_gzip_is_unusable_and_may_have_acted() -> None:
    exchange, _ = met_with(answering(b"not gzip at all", "content-encoding: gzip"))
    assert broken(exchange) == (FailureKind.UNUSABLE, True)


def test_a_broken_gzip_trailer_is_unusable() -> None:
    packed = gzip.compress(OK)
    exchange, _ = met_with(answering(packed[:-8] + bytes(8), "content-encoding: gzip"))
    assert broken(exchange) == (FailureKind.UNUSABLE, True)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "nonsense"])
def test_a_body_that_cannot_be_decompressed_is_unusable(encoding: str) -> None:
    exchange, _ = met_with(answering(b"\x01\x02", f"content-encoding: {encoding}"))
    assert broken(exchange) == (FailureKind.UNUSABLE, True)


def test_a_refusal_is_a_refusal_even_if_its_body_drips_beyond_the_deadline() -> None:
    exchange, _ = met_with(dripping_after(b"HTTP/1.1 429 No\r\nretry-after: 7\r\n"), SOON)
    assert exchange.failure == ErrorResponse(429, "", asks_to_wait=True, is_api_error=False)


@pytest.mark.parametrize("status", [401, 413, 429])
def test_a_refusal_is_a_refusal_even_if_its_body_breaks_off(status: int) -> None:
    exchange, _ = met_with(answering(b"oh", "Retry-After: 7", status=f"{status} No", length=100))
    assert isinstance(exchange.failure, ErrorResponse)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(status: int) -> None:
    async def main() -> tuple[HttpResult, list[bytes]]:
        async with listening(answering(OK)) as elsewhere:
            moved = answering(b"", f"location: {elsewhere.url}", status=f"{status} Moved")
            async with listening(moved) as server:
                return await post_once(server.url), elsewhere.heads

    exchange, heard_elsewhere = run(main())
    assert exchange.failure == ErrorResponse(status, "", is_api_error=False)
    assert heard_elsewhere == []


@pytest.mark.parametrize("location", ["http://[::1", "https://h:port/"])
def test_a_redirect_to_nowhere_is_a_redirect_all_the_same(location: str) -> None:
    exchange, _ = met_with(answering(b"", f"location: {location}", status="302 Found"))
    assert exchange.failure == ErrorResponse(302, "", is_api_error=False)


# The key, and the environment


def test_the_key_travels_in_its_header_and_nowhere_else() -> None:
    async def main() -> tuple[bytes, str]:
        async with listening(answering(OK)) as server, exchanging(server.url) as exchanger:
            exchange = await exchanger.post("/path", BODY)
            transport = exchanger._target.transport
            shown = [transport, vars(transport), exchanger, vars(exchanger), exchange]
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
    assert exchange.failure is None
    assert b"authorization" not in server.heads[0].lower()


def test_an_answer_can_be_shown_without_its_key_even_when_it_echoes_the_request() -> None:
    exchange, _ = met_with(answering(json.dumps({"error": "no"}).encode(), status="400 Bad"))
    assert KEY not in repr(exchange)
