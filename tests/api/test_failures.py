"""The kind of failure for each exception of the HTTP libraries, and transports passed by the caller."""

import asyncio
import inspect
import socket
import ssl
from types import ModuleType

import httpcore2
import httpx2
import pytest

from telemetron_batch.api.classify import ErrorResponse, FailureKind, NoUsableResponse
from telemetron_batch.api.failures import ERROR_KINDS, failure_of
from telemetron_batch.api.http_client import HttpClient, HttpResult
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.domain.model import Secret

KEY = "sk-live-0123456789"
BODY = b"{}"


def client_of(transport: httpx2.AsyncBaseTransport) -> HttpClient:
    return HttpClient(ApiTarget("http://h", Secret(KEY), transport=transport), timeout=1, wall=lambda: 0.0)


def test_a_503_that_comes_much_faster_than_answers_do_asks_to_wait() -> None:
    async def main() -> HttpResult:
        waits = iter([0.03] * 5 + [0.0])

        async def respond(_: httpx2.Request) -> httpx2.Response:
            wait = next(waits)
            await asyncio.sleep(wait)
            return httpx2.Response(200 if wait else 503, json={})

        client = client_of(httpx2.MockTransport(respond))
        return [await client.post("/path", BODY) for _ in range(6)][-1]

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
    httpcore2.ConnectionNotAvailable: "the pool takes another connection",
}


def leaves_of(library: ModuleType) -> list[type[Exception]]:
    """Return the exceptions of a library without subclasses."""
    every = {kind for _, kind in inspect.getmembers(library, inspect.isclass) if issubclass(kind, Exception)}
    leaves = {kind for kind in every if not any(other is not kind and issubclass(other, kind) for other in every)}
    return sorted(leaves, key=lambda kind: kind.__name__)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=f"{library.__name__}.{kind.__name__}")
        for library in (httpx2, httpcore2)
        for kind in leaves_of(library)
    ],
)
def test_every_exception_of_a_library_is_an_ending_or_known_to_be_a_bug_of_ours(kind: type[Exception]) -> None:
    assert issubclass(kind, tuple(ERROR_KINDS)) != issubclass(kind, tuple(BUGS_OF_OURS))


def broken(exchange: HttpResult) -> tuple[FailureKind, bool]:
    assert isinstance(exchange.failure, NoUsableResponse)
    return exchange.failure.how, exchange.failure.sent


def raised(kind: type[Exception], *, traced: str | None = None) -> HttpResult:
    """Make one request over a transport that raises this after reporting a step."""

    async def respond(request: httpx2.Request) -> httpx2.Response:
        if traced is not None:
            await request.extensions["trace"](traced, {})
        raise kind("words\nof the library")

    return asyncio.run(client_of(httpx2.MockTransport(respond)).post("/path", BODY))


ENDING_KINDS = pytest.mark.parametrize(
    ("kind", "how"),
    [*ERROR_KINDS.items(), (TimeoutError, FailureKind.TIMEOUT)],
    ids=lambda one: getattr(one, "__name__", ""),
)
NOT_SENT = {
    FailureKind.CONNECTION,
    FailureKind.CONNECT_TIMEOUT,
    FailureKind.PROXY,
}


@pytest.mark.parametrize("kind", ERROR_KINDS)
def test_the_wire_and_not_the_exception_shows_whether_something_was_sent(kind: type[Exception]) -> None:
    assert broken(raised(kind, traced="http11.send_request_headers.started"))[1]
    assert not broken(raised(kind, traced="connection.connect_tcp.started"))[1]


@ENDING_KINDS
def test_without_a_trace_only_a_failed_connection_was_surely_not_sent(kind: type[Exception], how: FailureKind) -> None:
    how = FailureKind.CONNECTION if how is FailureKind.PROXY_REFUSED else how  # the text says nothing of a refusal
    assert broken(raised(kind)) == (how, how not in NOT_SENT)


@ENDING_KINDS
def test_a_failure_text_has_one_line(kind: type[Exception], how: FailureKind) -> None:
    ending = raised(kind).failure
    assert isinstance(ending, NoUsableResponse)
    assert "\n" not in ending.text
    assert ("words" in ending.text) == (how is not FailureKind.TIMEOUT)


@pytest.mark.parametrize("kind", [httpx2.LocalProtocolError, httpx2.UnsupportedProtocol, ValueError])
def test_a_bug_of_ours_is_raised(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        raised(kind)


# The cause behind an exception


def caused(outer: type[Exception], *causes: BaseException) -> Exception:
    """Return an exception of the library with these causes, the last one the innermost."""
    top: BaseException = outer("All connection attempts failed")
    link = top
    for cause in causes:
        link.__cause__ = cause
        link = cause
    assert isinstance(top, Exception)
    return top


UNKNOWN_ISSUER = ssl.SSLCertVerificationError(1, "certificate verify failed")
UNKNOWN_ISSUER.verify_code = 20
EXPIRED = ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired")
EXPIRED.verify_code = 10
REFUSED = ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize(
    ("exc", "at_proxy", "how", "words"),
    [
        (caused(httpcore2.ConnectError, OSError("all failed"), REFUSED), False, FailureKind.REFUSED, "refused"),
        (
            caused(httpcore2.ConnectError, OSError("all failed"), ExceptionGroup("several", [REFUSED, REFUSED])),
            False,
            FailureKind.REFUSED,
            "refused",
        ),
        (caused(httpcore2.ConnectError, REFUSED), True, FailureKind.PROXY, "refused"),
        (
            caused(httpcore2.ConnectError, socket.gaierror(-2, "Name or service not known")),
            False,
            FailureKind.NAME,
            "Name",
        ),
        (caused(httpcore2.ConnectError, OSError(113, "No route to host")), False, FailureKind.CONNECTION, "No route"),
        (httpcore2.ConnectTimeout(), True, FailureKind.PROXY, "does not answer"),
        (caused(httpcore2.ConnectError, UNKNOWN_ISSUER), False, FailureKind.UNTRUSTED, "verify failed"),
        (caused(httpcore2.ConnectError, EXPIRED), False, FailureKind.TLS, "expired"),
        (caused(httpcore2.ReadError, ssl.SSLEOFError(8, "EOF")), False, FailureKind.CUT, "All"),
        (httpcore2.ProxyError("407 Proxy Authentication Required"), True, FailureKind.PROXY_LOGIN, "407"),
        (httpcore2.ProxyError("403 Forbidden"), True, FailureKind.PROXY_REFUSED, "403"),
        (httpcore2.ProxyError("502 Bad Gateway"), True, FailureKind.CONNECTION, "the proxy answered 502"),
        (httpcore2.ProxyError("Invalid username/password"), True, FailureKind.PROXY_LOGIN, "Invalid"),
        (
            httpcore2.ProxyError("Proxy Server could not connect: Host unreachable."),
            True,
            FailureKind.CONNECTION,
            "Host",
        ),
        (httpcore2.ProxyError("Connection not allowed by ruleset"), True, FailureKind.PROXY_REFUSED, "ruleset"),
    ],
)
def test_a_failure_has_the_kind_and_the_words_of_its_cause(
    exc: Exception, at_proxy: bool, how: FailureKind, words: str
) -> None:
    kind, text = failure_of(exc, at_proxy=at_proxy)
    assert kind is how
    assert words in text
