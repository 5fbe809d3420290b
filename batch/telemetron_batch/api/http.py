"""The path of a request: one POST over httpx2, which never guesses whether a byte of it left for the API.

Pool, streams, TLS and proxies are those of httpx2 and its core. Added are limits on what is read, and the watched
streams, which know the first byte. No redirect is followed and no cookie is stored. `docs/design.md` has the reasons.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

import httpcore2
import httpx2

from telemetron_batch import __version__
from telemetron_batch.api.classify import FailureKind
from telemetron_batch.api.failures import ERROR_KINDS, failure_of
from telemetron_batch.api.request_trace import CURRENT_TRACE, RequestTrace, TransportError
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.api.tls import tls_context
from telemetron_batch.api.watched_stream import METHOD, WatchedBackend
from telemetron_batch.config.network import ChosenProxy, NetworkOptions

LIBRARY: Final = f"httpx2 {httpx2.__version__}"
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Bytes of an answer at most. No valid answer is larger."""
LARGEST_ERROR: Final = 1024 * 1024
"""Bytes of an error body that are read at most."""
IDLE_SECONDS: Final = 4.0
"""Seconds for which an idle connection is kept. Common servers close theirs later, so few close under a request."""
KEY_HEADER: Final = "x-api-key"
_HEADERS: Final[Mapping[str, str]] = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "content-type": "application/json",
    "user-agent": f"telemetron-batch/{__version__}",
}
logging.getLogger("httpcore2.socks").setLevel(logging.INFO)  # at DEBUG it writes the password of the proxy
_ENCODINGS: Final = ("identity", "gzip", "deflate")
_UNCHECKED_BYTES: Final = 1024 * 1024
"""Bytes up to which an answer is decompressed at any ratio."""
_MAX_COMPRESSION_RATIO: Final = 100
"""Ratio at which decompression stops beyond `_UNCHECKED_BYTES`. No valid answer compresses better."""


@lru_cache(maxsize=64)
def _url(base_url: str, path: str) -> httpx2.URL:
    """Return the URL of a path; to parse it takes longer than to read a short answer."""
    return httpx2.URL(base_url.rstrip("/") + path)


async def post(target: ApiTarget, path: str, body: bytes, trace: RequestTrace, connect: float) -> bytes:
    """Make one request and return the decoded body of its answer; the head goes to `trace`.

    `connect` is the time limit in seconds for a connection. Raises TransportError.
    """
    transport = target.transport
    assert transport is not None  # noqa: S101 - `open_client` has opened it
    is_ours = isinstance(transport, PooledTransport)
    request = httpx2.Request(
        METHOD,
        _url(target.base_url, path),
        headers={**_HEADERS, KEY_HEADER: target.key.reveal()},
        content=body,
        extensions={"timeout": {"connect": connect}, **({} if is_ours else {"trace": trace.on_event})},
    )
    trace.is_observed = is_ours
    trace.connect_seconds = connect
    CURRENT_TRACE.set(trace)
    try:
        response = await transport.handle_async_request(request)
        try:
            return await _read_response(response, trace)
        finally:
            await response.aclose()
    except tuple(ERROR_KINDS) as exc:
        kind, text = failure_of(exc, at_proxy=isinstance(transport, PooledTransport) and transport.is_at_proxy(trace))
        trace.sent |= not (trace.is_observed or kind.is_before_sending)
        raise TransportError(kind, text) from exc
    except BaseException:
        trace.sent |= not trace.is_observed
        raise


async def _read_response(response: httpx2.Response, trace: RequestTrace) -> bytes:
    trace.sent = True
    if trace.has_read is False:
        raise TransportError(FailureKind.CUT, "an answer was there before its request")
    if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        raise TransportError(FailureKind.CUT, "the server switched to another protocol")
    if trace.is_cut_short and response.is_success:
        raise TransportError(FailureKind.CUT, "the server answered without reading the request to its end")
    trace.mark_response(response.status_code, response.headers.multi_items())
    if (encoding := response.headers.get("content-encoding", "identity")) not in _ENCODINGS:
        raise TransportError(FailureKind.UNUSABLE, f"content-encoding {encoding}")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        limit = _largest_body(response)
        if len(body) > limit and trace.is_refused:
            return bytes(body[:LARGEST_ERROR])
        if len(body) > limit:
            size = len(body) >> 20
            body.clear()  # the exception would keep it in memory while the connection is closed
            raise TransportError(FailureKind.UNUSABLE, f"an answer of over {size} MiB")
    return bytes(body)


def _largest_body(response: httpx2.Response) -> int:
    """Return the bytes of the decoded body that are read at most: less for an error, and for a high compression."""
    limit = MAX_BODY_BYTES if response.is_success else LARGEST_ERROR
    if "content-encoding" not in response.headers:
        return limit
    return min(limit, max(_UNCHECKED_BYTES, _MAX_COMPRESSION_RATIO * response.num_bytes_downloaded))


class PooledTransport(httpx2.AsyncBaseTransport):
    """The connection pool of httpx2's core, whose streams mark the first byte of each request.

    HTTP/1.1 only, because with HTTP/2 one broken connection would fail all calls.
    """

    def __init__(self, base_url: str, network: NetworkOptions, proxy: ChosenProxy | None) -> None:
        """Prepare connections; none is opened yet. Raises ConfigError if a file of `network` cannot be used."""
        self._handshakes_with_proxy = 1 if proxy is not None and proxy.url.reveal().startswith("https:") else 0
        self._is_proxied = proxy is not None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls_context(network) if base_url.startswith("https:") else None,
            proxy=None if proxy is None else _core_proxy(proxy, network),
            max_connections=None,  # as many as there are requests in flight
            keepalive_expiry=IDLE_SECONDS,
            network_backend=WatchedBackend(),
        )

    def is_at_proxy(self, trace: RequestTrace) -> bool:
        """Return whether a request got no further than to a proxy, which has opened no way to the API yet."""
        return self._is_proxied and not trace.sent and trace.handshakes <= self._handshakes_with_proxy

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make one request. Raises exceptions of httpcore2."""
        url = request.url
        core_request = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            response = await self._pool.handle_async_request(core_request)
        except BaseException:
            opened = CURRENT_TRACE.get().opened
            if opened is not None:
                await opened.aclose()  # the library leaves a connection open that a SOCKS proxy refused
            raise
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close all connections; call this when no request is in flight."""
        await self._pool.aclose()


def _core_proxy(proxy: ChosenProxy, network: NetworkOptions) -> httpcore2.Proxy:
    parts = urlsplit(proxy.url.reveal())
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return httpcore2.Proxy(
        proxy.shown,
        auth=(user.encode(), password.encode()) if user or password else None,
        ssl_context=tls_context(replace(network, client_cert=None)) if parts.scheme == "https" else None,
    )


class _Body(httpx2.AsyncByteStream):
    """The body of a response of the core, as httpx2 takes it."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._response.aiter_stream())

    async def aclose(self) -> None:
        await self._response.aclose()
