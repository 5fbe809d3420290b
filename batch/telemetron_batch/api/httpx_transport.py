"""Transport over an httpx2 transport passed by the caller, such as an API inside this process or a test's script."""

from collections.abc import Mapping
from typing import Any, Final

import httpx2

from telemetron_batch.api.classify import FailureKind
from telemetron_batch.api.transport import HEADERS, KEY_HEADER, RequestTrace, read_limited, transport_error
from telemetron_batch.domain.model import Secret

ERROR_KINDS: Final[Mapping[type[Exception], FailureKind]] = {
    httpx2.ConnectError: FailureKind.CONNECTION,
    httpx2.ConnectTimeout: FailureKind.CONNECTION,
    httpx2.PoolTimeout: FailureKind.CONNECTION,
    httpx2.ProxyError: FailureKind.CONNECTION,
    httpx2.ReadTimeout: FailureKind.TIMEOUT,
    httpx2.WriteTimeout: FailureKind.TIMEOUT,
    httpx2.ReadError: FailureKind.CUT,
    httpx2.WriteError: FailureKind.CUT,
    httpx2.CloseError: FailureKind.CUT,
    httpx2.RemoteProtocolError: FailureKind.CUT,
    httpx2.DecodingError: FailureKind.UNUSABLE,
}
"""The kind of failure for each exception of the library. Any other exception is a bug and is raised."""

_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""Exceptions that show that nothing was sent, for transports that do not support the trace extension."""


class HttpxTransport:
    """Makes requests over an httpx2 transport."""

    def __init__(self, base_url: str, transport: httpx2.AsyncBaseTransport, *, connect: float) -> None:
        self.name = f"httpx2 {httpx2.__version__}, {type(transport).__name__}"
        self._base_url = base_url.rstrip("/")
        self._transport = transport
        self._timeout = {"connect": connect, "read": None, "write": None, "pool": None}

    async def post(self, path: str, body: bytes, key: Secret, trace: RequestTrace) -> bytes:
        """Make one request and return the decoded body of the answer. Raises TransportError."""
        listener = _TraceListener(trace)
        request = httpx2.Request(
            "POST",
            self._base_url + path,
            headers={**HEADERS, KEY_HEADER: key.reveal()},
            content=body,
            extensions={"timeout": self._timeout, "trace": listener},
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                trace.mark_response(response.status_code, response.headers.multi_items())
                return await read_limited(response.aiter_bytes(), trace)
            finally:
                await response.aclose()
        except tuple(ERROR_KINDS) as exc:
            trace.sent |= not (listener.was_called or isinstance(exc, _NEVER_SENT))
            raise transport_error(exc, ERROR_KINDS) from exc
        except BaseException:
            trace.sent |= not listener.was_called
            raise

    async def close(self) -> None:
        """Close the transport."""
        await self._transport.aclose()


class _TraceListener:
    """Receives the transport's trace events and marks when the request begins to be written."""

    def __init__(self, trace: RequestTrace) -> None:
        self._trace = trace
        self.was_called = False

    async def __call__(self, event: str, _: Mapping[str, Any]) -> None:
        self.was_called = True
        if event.endswith("send_request_headers.started"):
            self._trace.mark_sending()
