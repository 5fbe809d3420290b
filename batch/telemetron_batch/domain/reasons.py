"""Reasons of outcomes as stored codes. The sentences for people are made when a report is written.

To add a reason, add a member and its sentence. Stored codes must never change their meaning.
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
    PROXY_REFUSED = 70


_WITH_OTHERS: Final = "answer to a request with other devices; this one was never sent alone"
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
    Reason.DEVICE_REFUSED_WITH_OTHERS: f"{{}} ({_WITH_OTHERS})",
    Reason.TOO_MANY_DEVICES: "{}",
    Reason.REPEATED_SERVER_ERROR: "{}",
    Reason.REPEATED_SERVER_ERROR_WITH_OTHERS: f"{{}} ({_WITH_OTHERS})",
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
    Reason.PROXY_REFUSED: "{}",
}

WITH_OTHERS: Final[Mapping[Reason, Reason]] = {
    Reason.DEVICE_REFUSED: Reason.DEVICE_REFUSED_WITH_OTHERS,
    Reason.REPEATED_SERVER_ERROR: Reason.REPEATED_SERVER_ERROR_WITH_OTHERS,
}
"""The reason that replaces a refusal for a device that was never sent in a request of its own."""


def sentence(reason: int, text: str = "") -> str:
    """Return the sentence of a reason. `text` completes it: the API's message, a name, or a number."""
    return _SENTENCES[Reason(reason)].format(text)


class OpenQuestion(IntEnum):
    """What an earlier unanswered attempt leaves open about a result. The values are stored."""

    NOTHING = 0
    WHOSE_WORK = 1
    """The API already has the requested state: that attempt may have caused it, or it existed before the run."""
    WHETHER_DONE = 2
    """The repeated attempt was refused, but the unanswered one may have been carried out."""


_OPEN_QUESTIONS: Final[Mapping[OpenQuestion, str]] = {
    OpenQuestion.NOTHING: "",
    OpenQuestion.WHOSE_WORK: "an earlier attempt went unanswered, so this may be this run's own work",
    OpenQuestion.WHETHER_DONE: "but an earlier attempt went unanswered, and may have been carried out",
}


def open_question_text(open_question: int) -> str:
    """Return what an unanswered attempt leaves open, as text; "" for nothing."""
    return _OPEN_QUESTIONS[OpenQuestion(open_question)]


assert _SENTENCES.keys() == {*Reason}, "every reason has a sentence"  # noqa: S101
