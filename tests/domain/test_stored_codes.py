"""Stored codes never change their meaning: a new one gets a new number, and no number is used twice.

A failing test means that existing journals would be misread. To add a code, add it to the table.
"""

from typing import get_args

from telemetron_batch.api.classify import Verdict
from telemetron_batch.domain.actions import ACTIONS, UNKNOWN_ACTION, Action, Phase
from telemetron_batch.domain.model import Problem
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.preview import PreviewWord
from telemetron_batch.domain.reasons import OpenQuestion, Reason
from telemetron_batch.domain.stops import ExitCode, StopReason
from telemetron_batch.journal.schema import EndState
from telemetron_batch.owners.last_words import OwnerWord
from telemetron_batch.planning.delta import RowDeltaState
from telemetron_batch.planning.held_rows import HoldReason
from telemetron_batch.sending.call_executor import PersistentServerError
from telemetron_batch.sending.call_state import ANSWERED


def test_outcomes() -> None:
    assert {outcome.value: outcome.code for outcome in Outcome} == {
        "assigned": 0,
        "alreadyAssigned": 1,
        "unassigned": 2,
        "skipped": 3,
        "duplicate": 4,
        "unchanged": 5,
        "invalid": 6,
        "failed": 7,
        "unconfirmed": 8,
        "held": 9,
        "notSent": 10,
    }
    assert [outcome.code for outcome in OUTCOMES] == [*range(11)]


def test_actions() -> None:
    assert {action.value: action.code for action in Action} == {"assign": 0, "unassign": 1}
    assert ([action.code for action in ACTIONS], UNKNOWN_ACTION) == ([0, 1], -1)


def test_preview_words() -> None:
    words = "willChange alreadySo notThisCustomers customerUnknown notKnown invalid duplicate unchanged held"
    assert {word.value: word.code for word in PreviewWord} == {word: at for at, word in enumerate(words.split())}


def test_phases() -> None:
    assert [phase.value for phase in Phase] == ["unassign", "assign"]


def test_reasons_of_holds() -> None:
    assert {reason.name: reason.value for reason in HoldReason} == {"INVALID_ROW": 1, "OTHER_SPELLING": 2}


def test_reasons() -> None:
    assert {reason.name: reason.value for reason in Reason} == {
        "NONE": 0,
        "UNKNOWN_DEVICE": 1,
        "NOT_WITH_CUSTOMER": 2,
        "NO_VALID_DEVICES": 3,
        "DONE_BY_LOST_ATTEMPT": 4,
        "UNASSIGN_WITHOUT_EFFECT": 5,
        "CUSTOMER_NOT_FOUND": 10,
        "CUSTOMER_REFUSED": 11,
        "DEVICE_REFUSED": 12,
        "DEVICE_REFUSED_WITH_OTHERS": 13,
        "TOO_MANY_DEVICES": 14,
        "REPEATED_SERVER_ERROR": 15,
        "REPEATED_SERVER_ERROR_WITH_OTHERS": 16,
        "ATTEMPTS_SPENT": 20,
        "LEFT_OUT_OF_ANSWER": 21,
        "FORMER_OWNER": 30,
        "INVALID_ROW_MAY_UNASSIGN": 31,
        "UNASSIGNED_IN_OTHER_SPELLING": 32,
        "STOPPED_AFTER_SENDING": 40,
        "STOPPED_BEFORE": 41,
        "STOPPED_AFTER_REFUSAL": 42,
        "RECORDS_LOST": 43,
        "SETTLED_BY_EARLIER_RUN": 50,
        "NO_CONNECTION": 60,
        "NO_ANSWER": 61,
        "UNUSABLE_ANSWER": 62,
        "WITHDRAWN": 63,
        "THROTTLED": 64,
        "SERVER_ERROR": 65,
        "TEMPORARY_REFUSAL": 66,
        "NOT_THE_API": 67,
        "KEY_REFUSED": 68,
        "REDIRECTED": 69,
        "PROXY_REFUSED": 70,
    }


def test_what_unanswered_attempts_leave_open() -> None:
    assert {one.name: one.value for one in OpenQuestion} == {
        "NOTHING": 0,
        "WHOSE_WORK": 1,
        "WHETHER_DONE": 2,
    }


def test_problems_of_rows() -> None:
    assert {one.name: one.value for one in Problem} == {
        "NONE": 0,
        "CELL_COUNT": 1,
        "EMPTY_KEY": 2,
        "EMAIL": 3,
        "ACTION": 4,
        "DEVICE_TYPE": 5,
        "DAMAGED": 6,
        "FORMULA": 7,
        "CONTROL": 8,
        "TOO_LONG": 9,
        "ENCODING": 10,
        "TRAILER": 11,
        "BROKEN_RECORD": 12,
        "LONG_NUMBER": 20,
        "CELL_VALUE": 21,
        "NO_VALUE": 22,
        "MISPLACED_CHARACTERS": 40,
        "DECODED_TWICE": 41,
        "SEVERAL_IDENTIFIERS": 42,
        "PLACEHOLDER": 43,
        "TAKEN_FOR_DATE": 45,
        "OWNER_NOT_FOUND": 60,
        "OWNER_SPELLED_OTHERWISE": 61,
        "SEVERAL_OWNERS": 62,
        "OWNER_UNCLEAR": 63,
        "OWNER_ROW_INVALID": 64,
    }


def test_standings_of_rows() -> None:
    assert {one.name: one.value for one in RowDeltaState} == {
        "NOT_SENT": 0,
        "UNCERTAIN": 1,
        "CONFIRMED": 2,
        "INHERITED": 3,
        "TAKEN": 4,
    }


def test_exit_codes() -> None:
    assert {one.name: one.value for one in ExitCode} == {
        "DONE": 0,
        "ATTENTION": 1,
        "NOT_STARTED": 2,
        "STOPPED": 3,
        "CLIENT_REFUSED": 4,
        "BRAKE": 5,
        "LOCKED": 6,
        "UNBALANCED": 7,
    }


def test_endings_of_attempts() -> None:
    assert [one.value for one in EndState] == [
        "answered",
        "refused",
        "unsent",
        "unclear",
    ]


def test_stops() -> None:
    assert [one.value for one in StopReason] == [
        "processEnded",
        "deadline",
        "interrupted",
        "runLost",
        "error",
        "recordsLost",
        "diskFull",
        "apiUnreachable",
        "apiDown",
        "apiInTrouble",
        "apiAsksToWait",
        "keyRefused",
        "redirected",
        "notTheApi",
        "proxyLogin",
        "proxyRefused",
        "maxFailed",
        "maxSkipped",
        "maxNewCustomers",
        "shardsOpen",
        "shardNotBegun",
        "shardAssignsOpen",
        "shardHoldsEnded",
        "otherShardsUnassign",
        "notPublished",
    ]


def test_verdicts() -> None:
    assert {ANSWERED, PersistentServerError.code, *(verdict.code for verdict in get_args(Verdict))} == {
        "answered",
        "stubborn",
        "tryAgain",
        "throttled",
        "tooMany",
        "suspect",
        "settled",
        "stopRun",
    }


def test_words_about_owners() -> None:
    assert {word.name: word.value for word in OwnerWord} == {
        "NOTHING": 0,
        "GIVEN": 1,
        "TAKEN": 2,
        "MAY_BE_GIVEN": 3,
        "MAY_BE_TAKEN": 4,
        "TO_BE_GIVEN": 5,
        "TO_BE_TAKEN": 6,
    }
