"""Why something ended as it did, as stored codes; the sentences for people are made from them when they are written.

To add a reason, add a member and its sentence. A code that was ever stored keeps its meaning.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class Reason(IntEnum):
    """Why a device, an attempt or a row has its outcome. The values are stored."""

    NONE = 0

    UNKNOWN_DEVICE = 1
    NOT_WITH_CUSTOMER = 2
    NO_VALID_DEVICES = 3
    DONE_BY_LOST_ATTEMPT = 4
    UNASSIGN_WITHOUT_EFFECT = 5

    CUSTOMER_NOT_FOUND = 10
    CUSTOMER_REFUSED = 11
    DEVICE_REFUSED = 12
    DEVICE_REFUSED_WITH_OTHERS = 13
    TOO_MANY_DEVICES = 14
    REPEATED_SERVER_ERROR = 15
    REPEATED_SERVER_ERROR_WITH_OTHERS = 16

    ATTEMPTS_SPENT = 20
    LEFT_OUT_OF_ANSWER = 21

    FORMER_OWNER = 30
    INVALID_ROW_MAY_UNASSIGN = 31
    UNASSIGNED_IN_OTHER_SPELLING = 32

    STOPPED_AFTER_SENDING = 40
    STOPPED_BEFORE = 41
    STOPPED_AFTER_REFUSAL = 42
    RECORDS_LOST = 43

    SETTLED_BY_EARLIER_RUN = 50

    NO_CONNECTION = 60
    NO_ANSWER = 61
    UNUSABLE_ANSWER = 62
    WITHDRAWN = 63
    THROTTLED = 64
    SERVER_ERROR = 65
    TEMPORARY_REFUSAL = 66
    NOT_THE_API = 67
    KEY_REFUSED = 68
    REDIRECTED = 69


_SENTENCES: Final[Mapping[Reason, str]] = {
    Reason.NONE: "{}",
    Reason.UNKNOWN_DEVICE: "Telemetron does not know this device",
    Reason.NOT_WITH_CUSTOMER: "the customer did not have this device",
    Reason.NO_VALID_DEVICES: "{}",
    Reason.DONE_BY_LOST_ATTEMPT: "done by an earlier attempt, whose answer was lost",
    Reason.UNASSIGN_WITHOUT_EFFECT: "no effect: this customer does not have it",
    Reason.CUSTOMER_NOT_FOUND: "customer not found",
    Reason.CUSTOMER_REFUSED: "{}",
    Reason.DEVICE_REFUSED: "{}",
    Reason.DEVICE_REFUSED_WITH_OTHERS: "{} (said of a request with others; not asked for alone)",
    Reason.TOO_MANY_DEVICES: "{}",
    Reason.REPEATED_SERVER_ERROR: "{}",
    Reason.REPEATED_SERVER_ERROR_WITH_OTHERS: "{} (said of a request with others; not asked for alone)",
    Reason.ATTEMPTS_SPENT: "no usable answer in {}",
    Reason.LEFT_OUT_OF_ANSWER: "twice the answer left this device out, or contradicted itself about it",
    Reason.FORMER_OWNER: "may still be with {}: its unassign did not succeed",
    Reason.INVALID_ROW_MAY_UNASSIGN: "may still be with another customer: an invalid row may take this device away",
    Reason.UNASSIGNED_IN_OTHER_SPELLING: "may still be with another customer: "
    "another row unassigns this device in another spelling",
    Reason.STOPPED_AFTER_SENDING: "sent, but the run stopped before an answer came",
    Reason.STOPPED_BEFORE: "the run stopped before it: {}",
    Reason.STOPPED_AFTER_REFUSAL: "refused each time, and the run stopped before it could be done: {}",
    Reason.RECORDS_LOST: "{}",
    Reason.SETTLED_BY_EARLIER_RUN: "settled so by {}",
    Reason.NO_CONNECTION: "{}",
    Reason.NO_ANSWER: "{}",
    Reason.UNUSABLE_ANSWER: "{}",
    Reason.WITHDRAWN: "{}",
    Reason.THROTTLED: "{}",
    Reason.SERVER_ERROR: "{}",
    Reason.TEMPORARY_REFUSAL: "{}",
    Reason.NOT_THE_API: "{}",
    Reason.KEY_REFUSED: "{}",
    Reason.REDIRECTED: "{}",
}

WITH_OTHERS: Final[Mapping[Reason, Reason]] = {
    Reason.DEVICE_REFUSED: Reason.DEVICE_REFUSED_WITH_OTHERS,
    Reason.REPEATED_SERVER_ERROR: Reason.REPEATED_SERVER_ERROR_WITH_OTHERS,
}
"""What a refusal becomes for a device that never stood alone in a request."""


def sentence(reason: int, text: str = "") -> str:
    """Return a reason in words. `text` completes it: the API's own words, a name, a number."""
    return _SENTENCES[Reason(reason)].format(text)


class Unheard(IntEnum):
    """What an earlier attempt without an answer leaves open about a result. The values are stored."""

    NOTHING = 0
    WHOSE_WORK = 1
    """The wish was found fulfilled: perhaps by that attempt, perhaps before the run."""
    WHETHER_DONE = 2
    """The repeat was refused: that attempt may have been carried out all the same."""


_OPEN_QUESTIONS: Final[Mapping[Unheard, str]] = {
    Unheard.NOTHING: "",
    Unheard.WHOSE_WORK: "an earlier attempt went unanswered, so this may be this run's own work",
    Unheard.WHETHER_DONE: "but an earlier attempt went unanswered, and may have been carried out",
}


def open_question(unheard: int) -> str:
    """Return what an unanswered attempt leaves open, in words; empty for nothing."""
    return _OPEN_QUESTIONS[Unheard(unheard)]


def detail(reason: int, unheard: int, text: str) -> str:
    """Return the whole text of a result for people."""
    return "; ".join(filter(None, (sentence(reason, text), open_question(unheard))))


assert _SENTENCES.keys() == {*Reason}, "every reason has a sentence"  # noqa: S101
