"""Classify failed attempts: retry, wait, split the call, reject it or stop the run.

Pure functions from a failure to a verdict. Waiting, counting and sending happen elsewhere.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import ClassVar, Final

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.domain.stops import Stop, StopReason


class FailureKind(Enum):
    """How an attempt ended without a usable answer."""

    NAME = "host name not found"
    REFUSED = "connection refused"
    CONNECT_TIMEOUT = "no connection in time"
    CONNECTION = "no connection"
    PROXY = "the proxy cannot be reached"
    PROXY_LOGIN = "the proxy wants credentials"
    PROXY_REFUSED = "the proxy refuses this host"
    UNTRUSTED = "a certificate of an unknown authority"
    TLS = "TLS failed"
    TIMEOUT = "no answer in time"
    CUT = "the connection broke"
    UNUSABLE = "unusable answer"
    NOT_THE_API = "an answer that has nothing of the API's shape"
    WITHDRAWN = "withdrawn before it left"

    @property
    def is_before_sending(self) -> bool:
        """Whether it shows by itself that no byte of the request has left."""
        return self in _BEFORE_SENDING

    @property
    def is_refused_connection(self) -> bool:
        """Whether a connection was refused or reset, as a firewall does that limits their number."""
        return self in (FailureKind.REFUSED, FailureKind.CONNECTION, FailureKind.CUT)


_BEFORE_SENDING: Final = frozenset(
    {
        FailureKind.NAME,
        FailureKind.REFUSED,
        FailureKind.CONNECT_TIMEOUT,
        FailureKind.CONNECTION,
        FailureKind.PROXY,
        FailureKind.PROXY_LOGIN,
        FailureKind.PROXY_REFUSED,
    }
)


class WithdrawnError(Exception):
    """Raised by the gate when an attempt is about to leave and must not."""


@dataclass(frozen=True, slots=True)
class NoUsableResponse:
    """An attempt without an HTTP answer, or with a 200 that cannot be used."""

    how: FailureKind
    sent: bool
    """Whether a byte of the request left. If not, the server cannot have acted."""
    text: str


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An HTTP answer other than 2xx."""

    status: int
    text: str
    asks_to_wait: bool = False
    """Whether a Retry-After header or another sign shows throttling."""
    is_api_error: bool = True
    """Whether the body has the form of the API's own errors, `{"error": ...}`; else a gateway may have answered."""
    raw_text: str = field(default="", repr=False, compare=False)
    """The text before redaction, for decisions; never shown or stored. Empty if it equals `text`."""
    is_key_replaced: bool = False
    """Whether the key was refused, and the next attempt has another one."""

    @property
    def words(self) -> str:
        """The text that decisions are based on."""
        return self.raw_text or self.text


class SideEffects(Enum):
    """Whether a failed attempt may have changed something."""

    NOT_DONE = auto()
    """The attempt changed nothing."""
    UNCLEAR = auto()
    """The attempt may have acted, or may still act until its deadline and a margin have passed."""
    UNCLEAR_BUT_OVER = auto()
    """The attempt may have acted. The API has answered it, so it cannot act later."""


@dataclass(frozen=True, slots=True)
class Transient:
    """A failure that a retry may solve."""

    code: ClassVar = "tryAgain"
    side_effects: SideEffects
    reason: Reason
    text: str
    counts_as_down: bool
    """Whether the failure indicates that the whole API is down."""

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether the answer does not have the form of the API's answers."""
        return self.reason is Reason.NOT_THE_API


@dataclass(frozen=True, slots=True)
class Throttled:
    """The rate was refused: all workers wait, and the attempt does not count against its call."""

    code: ClassVar = "throttled"
    reason: ClassVar = Reason.THROTTLED
    side_effects: SideEffects
    text: str


@dataclass(frozen=True, slots=True)
class KeyReplaced:
    """The key was refused, and there is another one now. The attempt does not count against its call."""

    code: ClassVar = Transient.code
    reason: ClassVar = Reason.KEY_REFUSED
    side_effects: ClassVar = SideEffects.NOT_DONE
    text: str


@dataclass(frozen=True, slots=True)
class TooManyDevices:
    """The call contains more devices than the API accepts."""

    code: ClassVar = "tooMany"
    reason: ClassVar = Reason.TOO_MANY_DEVICES
    side_effects: ClassVar = SideEffects.NOT_DONE
    text: str


@dataclass(frozen=True, slots=True)
class DeviceRejected:
    """The API refuses at least one device of the call, and a search must find out which."""

    code: ClassVar = "suspect"
    reason: ClassVar = Reason.DEVICE_REFUSED
    text: str
    side_effects: SideEffects = SideEffects.NOT_DONE
    """Unclear if something in front of the API refused the call."""

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether the answer does not have the form of the API's answers."""
        return self.side_effects is not SideEffects.NOT_DONE


@dataclass(frozen=True, slots=True)
class CallRejected:
    """The API refuses every device of the call for the same reason."""

    code: ClassVar = "settled"
    side_effects: ClassVar = SideEffects.NOT_DONE
    outcome: Outcome
    reason: Reason
    text: str = ""


@dataclass(frozen=True, slots=True)
class StopRun:
    """The API refuses this client, so further calls are pointless."""

    code: ClassVar = "stopRun"
    side_effects: ClassVar = SideEffects.NOT_DONE
    reason: Reason
    stop: Stop

    @property
    def text(self) -> str:
        """The sentence that explains the stop."""
        return self.stop.sentence


Verdict = Transient | Throttled | KeyReplaced | TooManyDevices | DeviceRejected | CallRejected | StopRun


_NO_VALID_DEVICES: Final = re.compile(
    r"\bno valid (devices?|identifiers?|device[ _]?(id|identifier)s?)\b", re.IGNORECASE
)
_TOO_MANY: Final = re.compile(r"too (many|large|long)", re.IGNORECASE)
_AT_MOST: Final = re.compile(r"\b(maximum|max|at most|limit(ed)? (of|to)|exceed\w*|no more than)\b", re.IGNORECASE)
_MENTIONS_DEVICES: Final = re.compile(r"device|identifier|item|array|payload|request|body", re.IGNORECASE)
_MENTIONS_REQUEST: Final = re.compile(r"request|call|payload|body|array|batch|at once", re.IGNORECASE)
_MENTIONS_CUSTOMER: Final = re.compile(r"e-?mail|customer", re.IGNORECASE)
_THE_CUSTOMER: Final = (
    r"(the )?customer( with (this |that |the )?(e-?mail( address)?|address))?:? ?[\"'(]?(\S*@\S*?)?[\"')]?"
)
_CUSTOMER_NOT_FOUND: Final = re.compile(
    rf"({_THE_CUSTOMER} ?(was |is |does )?(not (found|exist|known)|unknown)|(no such|unknown) customer( \S*@\S*)?)"
    r"( (for|in) (this|your|the) organi[sz]ation)?:?( \S*@\S*)?\.?",
    re.IGNORECASE,
)
"""The complete error text for an unknown customer. A gateway without a route also answers 404, and its text may
contain the same words about a path, a service or a device; that says nothing about a customer."""
_TEMPORARY_REFUSALS: Final = frozenset({409, 425})
_REFUSALS_OF_THE_CLIENT: Final = {
    401: (Reason.KEY_REFUSED, StopReason.KEY_REFUSED),
    403: (Reason.KEY_REFUSED, StopReason.KEY_REFUSED),
    407: (Reason.PROXY_REFUSED, StopReason.PROXY_LOGIN),
}
_NO_ROUTE: Final = frozenset({404, 405})
_ANSWERED_BY_THE_API: Final = frozenset({500})
"""Server errors after which an attempt cannot act later, if the answer comes from the API itself."""


_NOT_AN_OUTAGE: Final = {
    FailureKind.UNUSABLE: Reason.UNUSABLE_ANSWER,
    FailureKind.NOT_THE_API: Reason.NOT_THE_API,
    FailureKind.WITHDRAWN: Reason.WITHDRAWN,
}
"""Failures that do not show whether the API is down: something answered, or nothing was sent."""


def customer_not_found(refusal: ErrorResponse) -> bool:
    """Return whether the API itself says that it does not know the customer."""
    return refusal.status == 404 and refusal.is_api_error and bool(_CUSTOMER_NOT_FOUND.fullmatch(refusal.words.strip()))


def classify(failure: NoUsableResponse | ErrorResponse, action: Action) -> Verdict:
    """Return the verdict on an attempt without a usable answer."""
    if isinstance(failure, NoUsableResponse):
        return _classify_no_response(failure)
    return KeyReplaced(_error_text(failure)) if failure.is_key_replaced else _classify_status(failure, action)


PROXY_STOPS: Final = {
    FailureKind.PROXY_LOGIN: StopReason.PROXY_LOGIN,
    FailureKind.PROXY_REFUSED: StopReason.PROXY_REFUSED,
}
"""Failures after which no further request can succeed: the proxy refuses this client."""


def _classify_no_response(failure: NoUsableResponse) -> Transient | StopRun:
    if failure.how in PROXY_STOPS:
        return StopRun(Reason.PROXY_REFUSED, Stop(PROXY_STOPS[failure.how], failure.text))
    side_effects = SideEffects.UNCLEAR if failure.sent else SideEffects.NOT_DONE
    reason = Reason.NO_ANSWER if failure.sent else Reason.NO_CONNECTION
    counts_as_down = failure.how not in _NOT_AN_OUTAGE
    return Transient(side_effects, _NOT_AN_OUTAGE.get(failure.how, reason), failure.text, counts_as_down)


def _classify_status(error: ErrorResponse, action: Action) -> Verdict:
    status, text = error.status, _error_text(error)
    if status == 429:
        return Throttled(SideEffects.NOT_DONE, text)
    if status == 503 and error.asks_to_wait:
        return Throttled(SideEffects.UNCLEAR, text)
    if status >= 500:
        is_over = error.is_api_error and status in _ANSWERED_BY_THE_API
        side_effects = SideEffects.UNCLEAR_BUT_OVER if is_over else SideEffects.UNCLEAR
        return Transient(side_effects, Reason.SERVER_ERROR, text, counts_as_down=True)
    if status == 408:  # a gateway may send it for a request that it has already passed on
        return Transient(SideEffects.UNCLEAR, Reason.NO_ANSWER, text, counts_as_down=False)
    if status in _TEMPORARY_REFUSALS:
        side_effects = SideEffects.NOT_DONE if error.is_api_error else SideEffects.UNCLEAR
        return Transient(side_effects, Reason.TEMPORARY_REFUSAL, text, counts_as_down=False)
    if status < 300:  # HTTP/1.1 has no such status that ends an exchange
        return Transient(SideEffects.UNCLEAR, Reason.UNUSABLE_ANSWER, text, counts_as_down=False)
    if status < 400:
        return StopRun(Reason.REDIRECTED, Stop(StopReason.REDIRECTED, str(status)))
    if status in _REFUSALS_OF_THE_CLIENT:
        reason, stop_reason = _REFUSALS_OF_THE_CLIENT[status]
        return StopRun(reason, Stop(stop_reason, text))
    if status in _NO_ROUTE and not error.is_api_error:
        return Transient(SideEffects.UNCLEAR, Reason.NOT_THE_API, text, counts_as_down=False)
    return _classify_refusal(error, action)


def _classify_refusal(error: ErrorResponse, action: Action) -> Verdict:
    """Return the verdict on any other 4xx: the API did not accept the request and changed nothing."""
    full_text, text = error.words, _error_text(error)
    if error.status == 413:
        return TooManyDevices(text)
    if not error.is_api_error:
        return DeviceRejected(text, SideEffects.UNCLEAR)
    if not action.facts.may_create and customer_not_found(error):
        return CallRejected(Outcome.FAILED, Reason.CUSTOMER_NOT_FOUND)
    if _NO_VALID_DEVICES.search(full_text):
        return CallRejected(Outcome.SKIPPED, Reason.NO_VALID_DEVICES, text)
    if _is_about_request_size(full_text):
        return TooManyDevices(text)
    if _MENTIONS_CUSTOMER.search(full_text):
        return CallRejected(Outcome.FAILED, Reason.CUSTOMER_REFUSED, text)
    return DeviceRejected(text)


def _is_about_request_size(text: str) -> bool:
    """Return whether the request is too large. A customer's own quota does not count: smaller requests do not help."""
    if not _MENTIONS_DEVICES.search(text):
        return False
    is_quota = _MENTIONS_CUSTOMER.search(text) and not _MENTIONS_REQUEST.search(text)
    return bool(_TOO_MANY.search(text) or (_AT_MOST.search(text) and not is_quota))


def _error_text(error: ErrorResponse) -> str:
    return f"{error.status}: {error.text}" if error.text else f"HTTP {error.status}"
