"""Transports passed by the caller, and the kind of failure for each exception of each library."""

import asyncio
import inspect
from types import ModuleType

import httpcore2
import httpx2
import pytest

from telemetron_batch.api import httpcore_transport, httpx_transport
from telemetron_batch.api.classify import ErrorResponse, FailureKind, NoResponse
from telemetron_batch.api.http_client import HttpClient, HttpResult, open_http
from telemetron_batch.api.httpx_transport import ERROR_KINDS
from telemetron_batch.domain.model import Secret

aiohttp = pytest.importorskip("aiohttp")
fast = pytest.importorskip("telemetron_batch.api.aiohttp_transport")

KEY = "sk-live-0123456789"
BODY = b"{}"


def test_a_503_that_comes_much_faster_than_answers_do_asks_to_wait() -> None:
    async def main() -> HttpResult:
        waits = iter([0.03] * 5 + [0.0])

        async def respond(_: httpx2.Request) -> httpx2.Response:
            wait = next(waits)
            await asyncio.sleep(wait)
            return httpx2.Response(200 if wait else 503, json={})

        transport = httpx2.MockTransport(respond)
        async with open_http("http://h", seconds=1, transport=transport) as http:
            exchanger = HttpClient(http, Secret(KEY), timeout=1, wall=lambda: 0.0)
            return [await exchanger.post("/path", BODY) for _ in range(6)][-1]

    assert asyncio.run(main()).failure == ErrorResponse(503, "{}", asks_to_wait=True, is_api_error=False)


# Every exception of the library

WRONG_REQUEST = "we would have made a request that is none"
BUGS_OF_OURS: dict[type[Exception], str] = {
    httpx2.LocalProtocolError: WRONG_REQUEST,
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
    httpcore2.LocalProtocolError: WRONG_REQUEST,
    httpcore2.UnsupportedProtocol: "the base URL is checked to be http or https",
    httpcore2.ConnectionNotAvailable: "a connection is used for one request at a time",
    httpcore2.PoolTimeout: "there is no pool",
    httpcore2.ProxyError: "there is no proxy",
    httpcore2.ReadTimeout: "to read has no time of its own",
    httpcore2.WriteTimeout: "to write has no time of its own",
    aiohttp.InvalidURL: "paths are constants, and the base URL is checked",
    aiohttp.BadContentDispositionHeader: "nothing comes in several parts",
    aiohttp.BadContentDispositionParam: "nothing comes in several parts",
    aiohttp.EofStream: "a body is read to its end as a whole",
    aiohttp.UploadAbortedError: "no upload is watched",
    aiohttp.WSMessageTypeError: "there are no web sockets",
    aiohttp.NonHttpUrlRedirectClientError: "redirects are never followed",
    aiohttp.WebSocketError: "there are no web sockets",
}


def leaves_of(library: ModuleType) -> list[type[Exception]]:
    """Return the exceptions of a library without subclasses."""
    every = {kind for _, kind in inspect.getmembers(library, inspect.isclass) if issubclass(kind, Exception)}
    leaves = {kind for kind in every if not any(other is not kind and issubclass(other, kind) for other in every)}
    return sorted(leaves, key=lambda kind: kind.__name__)


@pytest.mark.parametrize(
    ("kind", "endings"),
    [
        pytest.param(kind, carrier.ERROR_KINDS, id=f"{library.__name__}.{kind.__name__}")
        for library, carrier in ((httpx2, httpx_transport), (httpcore2, httpcore_transport), (aiohttp, fast))
        for kind in leaves_of(library)
    ],
)
def test_every_exception_of_a_library_is_an_ending_or_known_to_be_a_bug_of_ours(
    kind: type[Exception], endings: dict[type[Exception], FailureKind]
) -> None:
    assert issubclass(kind, tuple(endings)) != issubclass(kind, tuple(BUGS_OF_OURS))


def broken(exchange: HttpResult) -> tuple[FailureKind, bool]:
    assert isinstance(exchange.failure, NoResponse)
    return exchange.failure.how, exchange.failure.sent


def raised(kind: type[Exception], *, traced: str | None = None) -> HttpResult:
    """Make one request over a transport that raises this after reporting a step."""

    async def respond(request: httpx2.Request) -> httpx2.Response:
        if traced is not None:
            await request.extensions["trace"](traced, {})
        raise kind("words\nof the library")

    async def main() -> HttpResult:
        transport = httpx2.MockTransport(respond)
        async with open_http("http://h", seconds=1, transport=transport) as http:
            return await HttpClient(http, Secret(KEY), timeout=1, wall=lambda: 0.0).post("/path", BODY)

    return asyncio.run(main())


ENDING_KINDS = pytest.mark.parametrize(
    ("kind", "how"),
    [*ERROR_KINDS.items(), (TimeoutError, FailureKind.TIMEOUT)],
    ids=lambda one: getattr(one, "__name__", ""),
)


@ENDING_KINDS
def test_the_wire_and_not_the_exception_shows_that_something_was_sent(kind: type[Exception], how: FailureKind) -> None:
    assert broken(raised(kind, traced="http11.send_request_headers.started")) == (how, True)


@ENDING_KINDS
def test_the_wire_and_not_the_exception_shows_that_nothing_was_sent(kind: type[Exception], how: FailureKind) -> None:
    assert broken(raised(kind, traced="connection.connect_tcp.started")) == (how, False)


@ENDING_KINDS
def test_without_a_trace_only_a_failed_connection_was_surely_not_sent(kind: type[Exception], how: FailureKind) -> None:
    assert broken(raised(kind)) == (how, how is not FailureKind.CONNECTION)


@ENDING_KINDS
def test_a_failure_text_has_one_line(kind: type[Exception], how: FailureKind) -> None:
    ending = raised(kind).failure
    assert isinstance(ending, NoResponse)
    assert "\n" not in ending.text
    assert ("words of the library" in ending.text) == (how is not FailureKind.TIMEOUT)


@pytest.mark.parametrize("kind", [httpx2.LocalProtocolError, httpx2.UnsupportedProtocol, ValueError])
def test_a_bug_of_ours_is_raised(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        raised(kind)
