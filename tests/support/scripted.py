"""A server in place of the network: the sandbox API with scripted faults."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx2

from telemetron_batch.sandbox.server import sandbox_app
from telemetron_batch.sandbox.state import SandboxState

BASE_URL = "http://127.0.0.1:9/api/ext-v1"


@dataclass(frozen=True)
class Seen:
    """A request as received by the server."""

    number: int
    at: float
    path: str
    body: Mapping[str, object]
    headers: Mapping[str, str]

    @property
    def action(self) -> str:
        return "unassign" if "unassign" in self.path else "assign" if "assign" in self.path else "query"

    @property
    def customer(self) -> str:
        return str(self.body.get("customerEmail"))

    @property
    def devices(self) -> Sequence[str]:
        return list(self.body.get("deviceIdentifiers", []))  # type: ignore[call-overload]


@dataclass(frozen=True)
class Says:
    """The server, or a proxy in front of it, answers this without acting."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refuses:
    """The connection fails."""

    error: type[httpx2.TransportError] = httpx2.ConnectError
    text: str = "connection refused"


@dataclass(frozen=True)
class Loses:
    """The connection breaks before an answer; `acted` is whether the server acted."""

    acted: bool = True


@dataclass(frozen=True)
class Hangs:
    """No answer ever comes; `acted` is whether the server acted."""

    acted: bool = True


@dataclass(frozen=True)
class Rewrites:
    """The server acts, and its answer is changed on the way."""

    how: Callable[[dict[str, object]], object]


Event = Says | Refuses | Loses | Hangs | Rewrites | None


NIGHTLY_EVENTS: tuple[Event, ...] = (
    None,
    None,
    Loses(acted=True),
    Loses(acted=False),
    Hangs(acted=True),
    Says(500, {}),
    Says(400, {"error": "No"}),
)
"""What happens to requests of a night; most succeed."""
NIGHTLY_ENDS = ("well", "well", "well", "refused", "dead")
"""How a process of a night ends."""


class ScriptedServer(httpx2.AsyncBaseTransport):
    """`script` decides for each request what happens to it; None lets it through."""

    def __init__(self, fleet: SandboxState | None = None, script: Callable[[Seen], Event] | None = None) -> None:
        self.fleet = fleet or SandboxState()
        self.seen: list[Seen] = []
        self.script = script or (lambda _: None)
        self.latency = 0.05
        self.in_flight: list[str] = []
        self.most_in_flight = 0
        self.most_for_one_customer = 0
        self._api = httpx2.ASGITransport(app=sandbox_app(self.fleet))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        seen = Seen(
            len(self.seen) + 1,
            asyncio.get_running_loop().time(),
            request.url.path,
            json.loads(body),
            dict(request.headers),
        )
        event = self.script(seen)
        trace = request.extensions["trace"]
        await trace("connection.connect_tcp.started", {})
        if isinstance(event, Refuses):
            raise event.error(event.text)
        self.seen.append(seen)
        await trace("http11.send_request_headers.started", {})
        self.in_flight.append(seen.customer)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        self.most_for_one_customer = max(self.most_for_one_customer, self.in_flight.count(seen.customer))
        try:
            await asyncio.sleep(self.latency)
            return await self._answer(request, event)
        finally:
            self.in_flight.remove(seen.customer)

    async def _answer(self, request: httpx2.Request, event: Event) -> httpx2.Response:
        if isinstance(event, Says):
            return _response(event, request)
        acted = not isinstance(event, Loses | Hangs) or event.acted
        answer = await self._api.handle_async_request(request) if acted else None
        if isinstance(event, Loses):
            raise httpx2.ReadError("connection reset")
        if isinstance(event, Hangs):
            await asyncio.sleep(1e9)
        assert answer is not None
        if isinstance(event, Rewrites):
            content = event.how(json.loads(await answer.aread()))
            return _response(Says(200, content), request)
        return answer


def _response(says: Says, request: httpx2.Request) -> httpx2.Response:
    content = says.body if isinstance(says.body, bytes) else json.dumps(says.body).encode()
    return httpx2.Response(says.status, content=content, headers=dict(says.headers), request=request)


def once(*events: Event) -> Callable[[Seen], Event]:
    """Apply one event to each of the first requests; later requests succeed."""
    left = deque(events)
    return lambda _: left.popleft() if left else None


class Window:
    """A strict sliding window in front of the server."""

    def __init__(self, requests: int, seconds: float, *, retry_after: str | None = None) -> None:
        self._requests, self._seconds = requests, seconds
        self._headers = {} if retry_after is None else {"Retry-After": retry_after}
        self._let_in: deque[float] = deque()
        self.refused = 0

    def __call__(self, seen: Seen) -> Event:
        while self._let_in and seen.at - self._let_in[0] >= self._seconds:
            self._let_in.popleft()
        if len(self._let_in) < self._requests:
            self._let_in.append(seen.at)
            return None
        self.refused += 1
        return Says(429, {"error": "Too many requests"}, self._headers)
