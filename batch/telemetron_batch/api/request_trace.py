"""What is known of one request: whether a byte of it has left, the head of its answer, and how long each step took."""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol

from telemetron_batch.api.classify import FailureKind

OnSend = Callable[[], None]
"""Called when a request begins to be written; it may raise WithdrawnError."""


class TransportError(Exception):
    """The request got no complete answer. `kind` is the kind of failure; `str()` is the library's text."""

    def __init__(self, kind: FailureKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Closable(Protocol):
    """A connection that can be closed."""

    async def aclose(self) -> None:
        """Close the connection; more than once has no effect."""


class RequestTrace:
    """What is known of one request: whether it began to leave, and the head of its answer."""

    def __init__(self, on_send: OnSend, now: Callable[[], float]) -> None:
        self._on_send = on_send
        self.now = now
        self.began = now()
        self.sent = False
        """Whether a byte of the request may have reached the API."""
        self.is_observed = False
        """Whether the transport tells when the first byte leaves. If not, `sent` is a guess from the error."""
        self.has_read: bool | None = None
        """Whether its connection was read since the request began to leave; None until it has begun."""
        self.is_cut_short = False
        """Whether its connection broke before all of it was written."""
        self.opened: Closable | None = None
        """The connection that was opened for it, until the request begins to leave."""
        self.handshakes = 0
        """TLS handshakes that began, with a proxy or with the API."""
        self.connect_seconds: float | None = None
        """The time limit for each step that opens a connection."""
        self.phase_seconds: dict[str, float] = {}
        """Seconds of `connect` and `tls`, where a connection was opened, and of `answer`, up to its head."""
        self.status: int | None = None
        """Status of the answer; None until its head has come."""
        self.headers: Mapping[str, str] = {}
        """Headers of the answer, with names in lower case."""
        self.seconds = 0.0
        """Seconds until the head of the answer came."""

    def mark_sending(self) -> None:
        """Record that the request begins to be written. If this raises WithdrawnError, no byte may be written."""
        if not self.sent:
            self._on_send()
            self.sent = True

    async def on_event(self, event: str, _: Mapping[str, Any]) -> None:
        """Take an event of httpx2's extension `trace`, which a transport of the caller may support."""
        self.is_observed = True
        if event.endswith("send_request_headers.started"):
            self.mark_sending()

    @property
    def is_refused(self) -> bool:
        """Whether the head of an answer other than 2xx has come."""
        return self.status is not None and not 200 <= self.status < 300

    def mark_response(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Record that the head of the answer has come."""
        self.phase_seconds["answer"] = self.seconds = self.now() - self.began
        self.status = status
        fields: dict[str, str] = {}
        for name, value in headers:
            name = name.lower()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        self.headers = fields


CURRENT_TRACE: Final[ContextVar[RequestTrace]] = ContextVar("request")
"""The trace of the request that the running task makes."""
