"""Requests over a transport that is handed in: an API inside this process, a script of a test, a proxy of one's own."""

from collections.abc import Mapping
from typing import Any, Final

import httpx2

from telemetron_batch.api.classify import FailureKind
from telemetron_batch.api.transport import HEADERS, KEY_HEADER, RequestTrace, read_limited, transport_error
from telemetron_batch.domain.model import Secret

ENDINGS: Final[Mapping[type[Exception], FailureKind]] = {
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
"""How each way to fail ends an attempt. What is not here is a bug of ours and is raised."""

_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""Where a transport keeps no trace, these alone tell that nothing was sent."""


class Given:
    """Makes requests over a transport of httpx2."""

    def __init__(self, base_url: str, transport: httpx2.AsyncBaseTransport, *, connect: float) -> None:
        self.name = f"httpx2 {httpx2.__version__}, {type(transport).__name__}"
        self._base_url = base_url.rstrip("/")
        self._transport = transport
        self._timeout = {"connect": connect, "read": None, "write": None, "pool": None}

    async def post(self, path: str, body: bytes, key: Secret, trip: RequestTrace) -> bytes:
        """Make one request; gives the decoded body of the answer. Raises BrokeOffError."""
        trace = _Trace(trip)
        request = httpx2.Request(
            "POST",
            self._base_url + path,
            headers={**HEADERS, KEY_HEADER: key.reveal()},
            content=body,
            extensions={"timeout": self._timeout, "trace": trace},
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                trip.mark_response(response.status_code, response.headers.multi_items())
                return await read_limited(response.aiter_bytes(), trip)
            finally:
                await response.aclose()
        except tuple(ENDINGS) as exc:
            trip.sent |= not (trace.heard or isinstance(exc, _NEVER_SENT))
            raise transport_error(exc, ENDINGS) from exc
        except BaseException:
            trip.sent |= not trace.heard
            raise

    async def close(self) -> None:
        """Close the transport."""
        await self._transport.aclose()


class _Trace:
    """Listens to the transport: has it begun to write the request?"""

    def __init__(self, trip: RequestTrace) -> None:
        self._trip = trip
        self.heard = False

    async def __call__(self, event: str, _: Mapping[str, Any]) -> None:
        self.heard = True
        if event.endswith("send_request_headers.started"):
            self._trip.mark_sending()
