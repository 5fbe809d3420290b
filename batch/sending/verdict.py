"""What an attempt's ending means for its call: settle, try again, wait, split, refuse or stop.

One table, read top to bottom. Pure: an ending comes in, a verdict goes out; who waits,
counts and sends is not known here.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from batch.model import Action, ExitCode, Outcome, Stop


class Broken(Enum):
    """How an attempt ended without a usable answer."""

    CONNECTION = "no connection"
    TLS = "TLS failed"
    TIMEOUT = "no answer in time"
    CUT = "the connection broke"
    UNUSABLE = "unusable answer"
    WITHDRAWN = "withdrawn before it left"


class WithdrawnError(Exception):
    """Raised by us where an attempt is about to leave and must not."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """An attempt that brought no HTTP answer, or a 200 that says nothing usable."""

    how: Broken
    sent: bool
    """Did a byte of the request leave? If not, the server cannot have acted."""
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer other than 2xx."""

    status: int
    text: str
    asks_to_wait: bool = False
    """A Retry-After header, or another sign that this is throttling."""
    raw_text: str = field(default="", repr=False, compare=False)
    """The text with the key in it if the API echoes it: for decisions, never shown or stored. Empty: as `text`."""

    @property
    def words(self) -> str:
        """The text to decide by."""
        return self.raw_text or self.text


class Doubt(Enum):
    """May the attempt have acted although we cannot know it?"""

    UNCLEAR = auto()
    NOT_DONE = auto()


@dataclass(frozen=True, slots=True)
class TryAgain:
    """A passing fault of this attempt."""

    doubt: Doubt
    text: str
    counts_as_down: bool
    """Does it speak of the API as a whole being out of reach?"""


@dataclass(frozen=True, slots=True)
class Throttled:
    """Too fast: everybody waits; costs the call nothing."""

    doubt: Doubt
    text: str


@dataclass(frozen=True, slots=True)
class TooMany:
    """The call holds more devices than the API takes."""

    text: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """Some device of the call is refused, and we must find out which."""

    text: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Every device of the call is refused alike."""

    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class StopRun:
    """The API refuses this client: no further call can do better."""

    stop: Stop


Verdict = TryAgain | Throttled | TooMany | Suspect | Settled | StopRun

LONGEST_BACKOFF: Final = 30.0
CUSTOMER_NOT_FOUND: Final = "customer not found"
MAYBE_OURS: Final = "an earlier attempt went unanswered, so this may be this run's own work"
"""Said of what is found done already, where it is not known who did it."""
MAYBE_DONE: Final = "but an earlier attempt went unanswered, and may have been carried out"
"""Said of what is refused now."""

_NO_VALID_DEVICES: Final = re.compile(r"\bno valid (device|identifier)", re.IGNORECASE)
_TOO_MANY: Final = re.compile(r"too (many|large|long)", re.IGNORECASE)
_AT_MOST: Final = re.compile(r"\b(maximum|max|at most|limit(ed)? (of|to)|exceed\w*|no more than)\b", re.IGNORECASE)
_OF_DEVICES: Final = re.compile(r"device|identifier|item|array|payload|request|body", re.IGNORECASE)
_OF_REQUEST: Final = re.compile(r"request|call|payload|body|array|batch|at once", re.IGNORECASE)
_OF_CUSTOMER: Final = re.compile(r"e-?mail|customer", re.IGNORECASE)
_TRANSIENT_4XX: Final = frozenset({408, 409, 425})


def judge(ending: NoAnswer | Refusal, action: Action) -> Verdict:
    """The verdict on an ending that is not a usable answer."""
    if isinstance(ending, NoAnswer):
        doubt = Doubt.UNCLEAR if ending.sent else Doubt.NOT_DONE
        says_nothing = (Broken.UNUSABLE, Broken.WITHDRAWN)  # somebody answered; it was ourselves
        return TryAgain(doubt, ending.text, counts_as_down=ending.how not in says_nothing)
    status = ending.status
    if status == 429:
        return Throttled(Doubt.NOT_DONE, _words(ending))
    if status == 503 and ending.asks_to_wait:
        return Throttled(Doubt.UNCLEAR, _words(ending))
    if status >= 500:
        return TryAgain(Doubt.UNCLEAR, _words(ending), counts_as_down=True)
    if status in _TRANSIENT_4XX:
        return TryAgain(Doubt.NOT_DONE, _words(ending), counts_as_down=False)
    if status < 400:
        return StopRun(_redirected(status))
    if status in (401, 403):
        return StopRun(_key_refused(ending))
    return _judge_refused(ending, action)


def _judge_refused(ending: Refusal, action: Action) -> Verdict:
    """Any other 4xx: the request itself was not liked, and nothing was changed."""
    status, text = ending.status, ending.words
    if status == 404 and action is Action.UNASSIGN:
        return Settled(Outcome.FAILED, CUSTOMER_NOT_FOUND)
    if _NO_VALID_DEVICES.search(text):
        return Settled(Outcome.SKIPPED, _words(ending))
    if status == 413 or _speaks_of_size(text):
        return TooMany(_words(ending))
    if _OF_CUSTOMER.search(text):
        return Settled(Outcome.FAILED, _words(ending))
    return Suspect(_words(ending))


def _speaks_of_size(text: str) -> bool:
    """Is the request too large? A customer's own quota, which no smaller request helps, is not meant."""
    if not _OF_DEVICES.search(text):
        return False
    quota = _OF_CUSTOMER.search(text) and not _OF_REQUEST.search(text)
    return bool(_TOO_MANY.search(text) or (_AT_MOST.search(text) and not quota))


def _words(ending: Refusal) -> str:
    return f"{ending.status}: {ending.text}" if ending.text else f"HTTP {ending.status}"


def _redirected(status: int) -> Stop:
    return Stop(
        ExitCode.CLIENT_REFUSED,
        f"the API redirects elsewhere (HTTP {status}), and redirects are never followed",
        "correct --base-url, then run the same command again",
    )


def _key_refused(ending: Refusal) -> Stop:
    return Stop(
        ExitCode.CLIENT_REFUSED,
        f"the API refuses this key ({_words(ending)})",
        "check TELEMETRON_API_KEY or --api-key-file, then run the same command again",
    )


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait before trying a call again after this many passing faults (from 1).

    Exponential with full jitter: uniform over [0, min(30, 0.5 * 2^(failures - 1))];
    `jitter` is a random number in [0, 1).
    """
    return jitter * min(LONGEST_BACKOFF, 0.5 * 2.0 ** min(failures - 1, 16))
