"""Let the sandbox fail as networks and servers do, for rehearsals: `--fail` and `--refuse-key`.

Which requests fail follows from their content, from how often they came before and from a number, not from their
order. So a rehearsal that is repeated meets the same faults, whatever the timing.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CUT: Final = "cut"
"""Name under which the state of a request's scope holds the function that cuts its connection."""
_FRACTIONS: Final = 2**32


class Fault(Enum):
    """How a request fails."""

    ERROR = "error"
    """Answered with 500; nothing is done."""
    UNAVAILABLE = "unavailable"
    """Answered with 503; nothing is done."""
    LOST = "lost"
    """The connection is cut; nothing is done."""
    ANSWER_LOST = "answerLost"
    """Carried out, and the connection is cut instead of an answer."""
    SILENT = "silent"
    """Carried out, and never answered: the client's timeout ends it."""


_FAULTS: Final = tuple(Fault)
_ANSWERS: Final = {
    Fault.ERROR: (500, "Internal server error"),
    Fault.UNAVAILABLE: (503, "Service unavailable"),
}


@dataclass(frozen=True, slots=True)
class Faults:
    """Which requests fail."""

    share: float = 0.0
    """The fraction of the requests that fail."""
    seed: int = 1
    """Another number lets other requests fail."""
    refuse_key: bool = False
    """Whether every key is refused."""

    def choose(self, path: str, body: bytes, repetition: int) -> Fault | None:
        """Return how a request fails, or None; `repetition` is how often the same one came before."""
        text = f"{self.seed} {repetition} {path} ".encode() + body
        digest = blake2b(text, digest_size=8).digest()
        if int.from_bytes(digest[:4]) >= self.share * _FRACTIONS:
            return None
        return _FAULTS[int.from_bytes(digest[4:]) % len(_FAULTS)]


class FaultMiddleware:
    """Lets the chosen requests fail, and passes the others on."""

    def __init__(self, api: ASGIApp, faults: Faults) -> None:
        self._api = api
        self._faults = faults
        self._seen: Counter[bytes] = Counter()
        """How often each request came, by its hash."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or fail it."""
        if self._faults.refuse_key:
            await JSONResponse({"error": "Invalid or missing API key"}, 401)(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return
        identity = blake2b(scope["path"].encode() + b" " + body, digest_size=16).digest()
        fault = self._faults.choose(scope["path"], body, self._seen[identity])
        self._seen[identity] += 1
        await self._answer(fault, _Exchange(scope, receive, send, body))

    async def _answer(self, fault: Fault | None, exchange: "_Exchange") -> None:
        scope, receive, send = exchange.scope, exchange.receive, exchange.send
        if fault is None:
            await self._api(scope, exchange.replay, send)
        elif fault in _ANSWERS:
            status, text = _ANSWERS[fault]
            await JSONResponse({"error": text}, status)(scope, receive, send)
        else:
            if fault is not Fault.LOST:
                await self._api(scope, exchange.replay, _discard)
            if fault is not Fault.SILENT:
                scope["state"][CUT]()
            await _until_disconnected(receive)


@dataclass(slots=True)
class _Exchange:
    """One request whose body was read, and the way to answer it."""

    scope: Scope
    receive: Receive
    send: Send
    body: bytes
    _is_replayed: bool = False

    async def replay(self) -> Message:
        """Return the body as one message, then what comes after it."""
        if self._is_replayed:
            return await self.receive()
        self._is_replayed = True
        return {"type": "http.request", "body": self.body, "more_body": False}


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None if the client has gone before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _discard(_: Message) -> None: ...


async def _until_disconnected(receive: Receive) -> None:
    message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()
