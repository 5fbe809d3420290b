"""What an attempt's ending means for its call: settle, try again, wait, split, refuse or stop.

One table, read top to bottom. Pure: an ending comes in, a verdict goes out; who waits,
counts and sends is not known here.
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

    CONNECTION = "no connection"
    TLS = "TLS failed"
    TIMEOUT = "no answer in time"
    CUT = "the connection broke"
    UNUSABLE = "unusable answer"
    NOT_THE_API = "an answer that has nothing of the API's shape"
    WITHDRAWN = "withdrawn before it left"


class WithdrawnError(Exception):
    """Raised by us where an attempt is about to leave and must not."""


@dataclass(frozen=True, slots=True)
class NoResponse:
    """An attempt that brought no HTTP answer, or a 200 that says nothing usable."""

    how: FailureKind
    sent: bool
    """Did a byte of the request leave? If not, the server cannot have acted."""
    text: str


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An HTTP answer other than 2xx."""

    status: int
    text: str
    asks_to_wait: bool = False
    """A Retry-After header, or another sign that this is throttling."""
    is_api_error: bool = True
    """Has its body the shape of the API's own errors, `{"error": ...}`? Else a gateway may have answered."""
    raw_text: str = field(default="", repr=False, compare=False)
    """The text with the key in it if the API echoes it: for decisions, never shown or stored. Empty: as `text`."""

    @property
    def words(self) -> str:
        """The text to decide by."""
        return self.raw_text or self.text


class SideEffects(Enum):
    """May the attempt have acted although we cannot know it?"""

    NOT_DONE = auto()
    """Surely nothing was done."""
    UNCLEAR = auto()
    """It may have acted, or may still act until its deadline and a margin have passed."""
    UNCLEAR_BUT_OVER = auto()
    """It may have acted; the API has answered it, so it cannot act any more."""


@dataclass(frozen=True, slots=True)
class Transient:
    """A passing fault of this attempt."""

    code: ClassVar = "tryAgain"
    doubt: SideEffects
    reason: Reason
    text: str
    counts_as_down: bool
    """Does it speak of the API as a whole being out of reach?"""

    @property
    def is_from_elsewhere(self) -> bool:
        """Has the answer nothing of the API's shape?"""
        return self.reason is Reason.NOT_THE_API


@dataclass(frozen=True, slots=True)
class Throttled:
    """Too fast: all workers wait; costs the call nothing."""

    code: ClassVar = "throttled"
    reason: ClassVar = Reason.THROTTLED
    doubt: SideEffects
    text: str


@dataclass(frozen=True, slots=True)
class PayloadTooLarge:
    """The call holds more devices than the API takes."""

    code: ClassVar = "tooMany"
    reason: ClassVar = Reason.TOO_MANY_DEVICES
    doubt: ClassVar = SideEffects.NOT_DONE
    text: str


@dataclass(frozen=True, slots=True)
class DeviceRejected:
    """Some device of the call is refused, and we must find out which."""

    code: ClassVar = "suspect"
    reason: ClassVar = Reason.DEVICE_REFUSED
    text: str
    doubt: SideEffects = SideEffects.NOT_DONE
    """Unclear where not the API itself has refused the call, but something before it."""

    @property
    def is_from_elsewhere(self) -> bool:
        """Has the answer nothing of the API's shape?"""
        return self.doubt is not SideEffects.NOT_DONE


@dataclass(frozen=True, slots=True)
class CallRejected:
    """Every device of the call is refused alike."""

    code: ClassVar = "settled"
    doubt: ClassVar = SideEffects.NOT_DONE
    outcome: Outcome
    reason: Reason
    text: str = ""


@dataclass(frozen=True, slots=True)
class StopRun:
    """The API refuses this client: no further call can do better."""

    code: ClassVar = "stopRun"
    doubt: ClassVar = SideEffects.NOT_DONE
    reason: Reason
    stop: Stop

    @property
    def text(self) -> str:
        """The stop in words."""
        return self.stop.sentence


Verdict = Transient | Throttled | PayloadTooLarge | DeviceRejected | CallRejected | StopRun

LONGEST_BACKOFF: Final = 30.0

_NO_VALID_DEVICES: Final = re.compile(
    r"\bno valid (devices?|identifiers?|device[ _]?(id|identifier)s?)\b", re.IGNORECASE
)
_TOO_MANY: Final = re.compile(r"too (many|large|long)", re.IGNORECASE)
_AT_MOST: Final = re.compile(r"\b(maximum|max|at most|limit(ed)? (of|to)|exceed\w*|no more than)\b", re.IGNORECASE)
_OF_DEVICES: Final = re.compile(r"device|identifier|item|array|payload|request|body", re.IGNORECASE)
_OF_REQUEST: Final = re.compile(r"request|call|payload|body|array|batch|at once", re.IGNORECASE)
_OF_CUSTOMER: Final = re.compile(r"e-?mail|customer", re.IGNORECASE)
_WHO: Final = r"(the )?customer( with (this |that |the )?(e-?mail( address)?|address))?:? ?[\"'(]?(\S*@\S*?)?[\"')]?"
_CUSTOMER_NOT_FOUND: Final = re.compile(
    rf"({_WHO} ?(was |is |does )?(not (found|exist|known)|unknown)|(no such|unknown) customer( \S*@\S*)?)"
    r"( (for|in) (this|your|the) organi[sz]ation)?:?( \S*@\S*)?\.?",
    re.IGNORECASE,
)
"""The whole of what the API says of an unknown customer. A gateway without a route says 404 too, and may name
a path, a service or a device in which these words stand as well: that tells nothing of any customer."""
_TEMPORARY_REFUSALS: Final = frozenset({409, 425})
_NO_ROUTE: Final = frozenset({404, 405})
_ANSWERED_BY_THE_API: Final = frozenset({500})
"""Server errors after which an attempt cannot act any more, if the API itself has said so."""


_SAYS_NOTHING: Final = {
    FailureKind.UNUSABLE: Reason.UNUSABLE_ANSWER,
    FailureKind.NOT_THE_API: Reason.NOT_THE_API,
    FailureKind.WITHDRAWN: Reason.WITHDRAWN,
}
"""Endings that do not tell whether the API is down: something answered, or nothing was asked."""


def customer_not_found(refusal: ErrorResponse) -> bool:
    """Return whether the API itself says that it does not know the customer."""
    return refusal.status == 404 and refusal.is_api_error and bool(_CUSTOMER_NOT_FOUND.fullmatch(refusal.words.strip()))


def classify(ending: NoResponse | ErrorResponse, action: Action) -> Verdict:
    """Return the verdict on an ending that is not a usable answer."""
    return _judge_silence(ending) if isinstance(ending, NoResponse) else _judge_status(ending, action)


def _judge_silence(ending: NoResponse) -> Transient:
    doubt = SideEffects.UNCLEAR if ending.sent else SideEffects.NOT_DONE
    reason = Reason.NO_ANSWER if ending.sent else Reason.NO_CONNECTION
    return Transient(doubt, _SAYS_NOTHING.get(ending.how, reason), ending.text, ending.how not in _SAYS_NOTHING)


def _judge_status(ending: ErrorResponse, action: Action) -> Verdict:
    status, words = ending.status, _error_text(ending)
    if status == 429:
        return Throttled(SideEffects.NOT_DONE, words)
    if status == 503 and ending.asks_to_wait:
        return Throttled(SideEffects.UNCLEAR, words)
    if status >= 500:
        over = ending.is_api_error and status in _ANSWERED_BY_THE_API
        doubt = SideEffects.UNCLEAR_BUT_OVER if over else SideEffects.UNCLEAR
        return Transient(doubt, Reason.SERVER_ERROR, words, counts_as_down=True)
    if status == 408:  # a gateway may say so of a request that it has handed on
        return Transient(SideEffects.UNCLEAR, Reason.NO_ANSWER, words, counts_as_down=False)
    if status in _TEMPORARY_REFUSALS:
        doubt = SideEffects.NOT_DONE if ending.is_api_error else SideEffects.UNCLEAR
        return Transient(doubt, Reason.TEMPORARY_REFUSAL, words, counts_as_down=False)
    if status < 300:  # no status of HTTP/1.1 that could end an exchange
        return Transient(SideEffects.UNCLEAR, Reason.UNUSABLE_ANSWER, words, counts_as_down=False)
    if status < 400:
        return StopRun(Reason.REDIRECTED, Stop(StopReason.REDIRECTED, str(status)))
    if status in (401, 403):
        return StopRun(Reason.KEY_REFUSED, Stop(StopReason.KEY_REFUSED, words))
    if status in _NO_ROUTE and not ending.is_api_error:
        return Transient(SideEffects.UNCLEAR, Reason.NOT_THE_API, words, counts_as_down=False)
    return _judge_refused(ending, action)


def _judge_refused(ending: ErrorResponse, action: Action) -> Verdict:
    """Return the verdict on any other 4xx: the API did not accept the request, and changed nothing."""
    text, words = ending.words, _error_text(ending)
    if ending.status == 413:
        return PayloadTooLarge(words)
    if not ending.is_api_error:
        return DeviceRejected(words, SideEffects.UNCLEAR)
    if action is Action.UNASSIGN and customer_not_found(ending):
        return CallRejected(Outcome.FAILED, Reason.CUSTOMER_NOT_FOUND)
    if _NO_VALID_DEVICES.search(text):
        return CallRejected(Outcome.SKIPPED, Reason.NO_VALID_DEVICES, words)
    if _speaks_of_size(text):
        return PayloadTooLarge(words)
    if _OF_CUSTOMER.search(text):
        return CallRejected(Outcome.FAILED, Reason.CUSTOMER_REFUSED, words)
    return DeviceRejected(words)


def _speaks_of_size(text: str) -> bool:
    """Is the request too large? A customer's own quota, which no smaller request helps, is not meant."""
    if not _OF_DEVICES.search(text):
        return False
    quota = _OF_CUSTOMER.search(text) and not _OF_REQUEST.search(text)
    return bool(_TOO_MANY.search(text) or (_AT_MOST.search(text) and not quota))


def _error_text(ending: ErrorResponse) -> str:
    return f"{ending.status}: {ending.text}" if ending.text else f"HTTP {ending.status}"


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait before trying a call again after this many passing faults (from 1).

    Exponential with full jitter: uniform over [0, min(30, 0.5 * 2^(failures - 1))];
    `jitter` is a random number in [0, 1).
    """
    return jitter * min(LONGEST_BACKOFF, 0.5 * 2.0 ** min(failures - 1, 16))
