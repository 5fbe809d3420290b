"""The ledger and its result: exactly one outcome for every row."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.errors import UnbalancedError
from telemetron_batch.domain.model import Problem
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import OpenQuestion, Reason
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reconciliation.reconcile import Reconciliation
from tests.support.builders import A, B, C, Row, block_of, keys_of, planned, settle

GIVEN = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (A, "SN-3", "assign")]
SENT = [Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.UNASSIGNED, Outcome.SKIPPED, Outcome.FAILED, Outcome.HELD]
ROW = st.tuples(
    st.sampled_from([A, B]),
    st.sampled_from(["SN-1", "SN-2", "SN-3", "SN-4"]),
    st.sampled_from(["assign", "unassign"]),
    st.sampled_from(["", "", "", "EMAIL"]),
)

UNSURE = DeviceResult(Outcome.ALREADY_ASSIGNED, open_question=OpenQuestion.WHOSE_WORK)
REFUSED = DeviceResult(
    Outcome.UNCONFIRMED, reason=Reason.DEVICE_REFUSED, text="locked", open_question=OpenQuestion.WHETHER_DONE
)


def answer(*outcomes: Outcome, **fields: object) -> Answer:
    """Return an answer with these outcomes for the first, second, ... device of its call."""
    return Answer({at: DeviceResult(outcome) for at, outcome in enumerate(outcomes)}, **fields)


def reconcile(plan: Plan, *answers: tuple[int, Answer], why: str = "a signal came") -> Reconciliation:
    ledger = Ledger(plan)
    for call, one in answers:
        settle(ledger, (call, one))
    return ledger.close(why)


def columns_of(result: Reconciliation, rows: Sequence[Row], first: int = 0) -> dict[str, list[str]]:
    """Return the result columns of these rows."""
    columns = result.columns(block_of(keys_of(rows), []), first)
    return {name: column.to_pylist() for name, column in columns.items()}


# One outcome for each row


@given(st.lists(ROW, max_size=25), st.integers(1, 4), st.data())
def test_every_row_has_exactly_one_outcome_for_any_answers(file: list[Row], chunk: int, data: st.DataObject) -> None:
    plan = planned(file, chunk_size=chunk)
    ledger, answered, doubtful = Ledger(plan), {}, []
    for call in range(1, plan.calls + 1):
        rows = plan.rows_of(call).tolist()
        positions = st.sets(st.integers(0, len(rows) - 1))
        results = {at: data.draw(st.sampled_from(SENT)) for at in data.draw(positions)}
        settle(ledger, (call, Answer({at: DeviceResult(outcome) for at, outcome in results.items()})))
        answered |= {rows[at]: outcome for at, outcome in results.items()}
        doubtful += [(call, one) for one in data.draw(st.lists(st.none() | positions, max_size=2))]
    unanswered = {
        row
        for call, positions in doubtful
        for at, row in enumerate(plan.rows_of(call).tolist())
        if positions is None or at in positions
    }
    expected = []
    for row, (_, _, _, problem) in enumerate(file):
        if problem:
            expected.append(Outcome.INVALID)
        elif plan.original_of(row, row + 1)[0] >= 0:
            expected.append(Outcome.DUPLICATE)
        else:
            expected.append(answered.get(row, Outcome.UNCONFIRMED if row in unanswered else Outcome.NOT_SENT))
    reconciliation = ledger.close("the power went", unclear_attempts=doubtful)
    assert [OUTCOMES[code] for code in reconciliation.outcome] == expected
    assert sum(reconciliation.counts().values()) == len(file)
    assert columns_of(reconciliation, file)["outcome"] == [str(outcome) for outcome in expected]


def test_counts_name_every_outcome() -> None:
    counts = reconcile(planned(GIVEN), (1, answer(Outcome.ASSIGNED, Outcome.ASSIGNED, Outcome.FAILED))).counts()
    assert counts == dict.fromkeys(Outcome, 0) | {Outcome.ASSIGNED: 2, Outcome.FAILED: 1}


def test_an_empty_input_balances() -> None:
    result = reconcile(planned([]))
    assert set(result.counts().values()) == {0}
    assert result.customers_created == 0


@pytest.mark.parametrize("second", [Outcome.ASSIGNED, Outcome.FAILED])
def test_a_row_settled_twice_raises_unbalanced_error(second: Outcome) -> None:
    ledger = Ledger(planned(GIVEN))
    settle(ledger, (1, answer(Outcome.ASSIGNED)))
    settle(ledger, (1, answer(second, Outcome.ASSIGNED)))
    with pytest.raises(UnbalancedError, match="0 rows without outcome, 1 settled twice") as caught:
        ledger.close("")
    assert caught.value.advice == "this is a bug; please report it and keep the run's folder"


def test_a_call_is_settled_when_every_device_has_an_answer() -> None:
    rows = [*GIVEN, (B, "SN-1", "assign"), (C, "SN-1", "assign")]
    first, second = answer(Outcome.ASSIGNED), Answer({1: DeviceResult(Outcome.FAILED), 2: DeviceResult(Outcome.FAILED)})
    assert reconcile(planned(rows), (1, first), (2, first)).calls_settled == 1
    assert reconcile(planned(rows), (1, first), (2, first), (1, second)).calls_settled == 2


def test_the_result_takes_fourteen_bytes_per_row() -> None:
    result = reconcile(planned(GIVEN), (1, answer(Outcome.ASSIGNED)))
    columns = [result.outcome, result.call, result.answer, result.detail, result.created]
    assert [column.dtype.name for column in columns] == ["int8", "int32", "int32", "int32", "int8"]


def test_a_row_without_an_answer_has_the_codes_for_none() -> None:
    result = reconcile(planned([("?", "SN-1", "assign", "EMAIL")]))
    assert (result.call.tolist(), result.answer.tolist()) == ([0], [0])
    assert (result.created.tolist(), result.device_ids.texts(0, 1).to_pylist()) == ([0], [""])


def test_parts_of_a_call_may_be_settled_one_after_another() -> None:
    part = Answer(
        {2: DeviceResult(Outcome.FAILED, reason=Reason.DEVICE_REFUSED, text="no such type")},
        attempts=3,
        http_status=400,
    )
    result = reconcile(planned(GIVEN), (1, answer(Outcome.ASSIGNED, Outcome.ASSIGNED, attempts=4)), (1, part))
    columns = columns_of(result, GIVEN)
    assert columns["outcome"] == ["assigned", "assigned", "failed"]
    assert columns["attempts"] == ["4", "4", "3"]
    assert columns["httpStatus"] == ["", "", "400"]
    assert columns["detail"] == ["", "", "no such type"]


# Columns of rows


def test_a_row_reports_every_field_of_its_answer() -> None:
    result = DeviceResult(Outcome.ASSIGNED, device_id="d-1", was_created=True, text="new")
    at = 1_767_225_600.25
    one = Answer({0: result}, "c-1", True, 200, attempts=2, unclear_attempts=1, answered_at=at)
    columns = columns_of(reconcile(planned(GIVEN[:1]), (1, one)), GIVEN[:1])
    assert {name: column[0] for name, column in columns.items()} == {
        "outcome": "assigned",
        "detail": "new",
        "customerId": "c-1",
        "deviceId": "d-1",
        "customerWasCreated": "true",
        "deviceWasCreated": "true",
        "call": "1",
        "attempts": "2",
        "unclearAttempts": "1",
        "httpStatus": "200",
        "answeredAt": "2026-01-01T00:00:00.250Z",
        "devicesRemaining": "",
    }


def test_fields_missing_in_the_answer_stay_empty() -> None:
    columns = columns_of(reconcile(planned(GIVEN[:1]), (1, answer(Outcome.FAILED))), GIVEN[:1])
    told_of = {name for name, column in columns.items() if column != [""]}
    assert told_of == {"outcome", "call", "attempts", "unclearAttempts"}


@pytest.mark.parametrize(("was_created", "text"), [(True, "true"), (False, "false"), (None, "")])
def test_created_is_true_false_or_empty(was_created: bool | None, text: str) -> None:
    result = DeviceResult(Outcome.ASSIGNED, was_created=was_created)
    columns = columns_of(reconcile(planned(GIVEN[:1]), (1, Answer({0: result}, "", was_created))), GIVEN[:1])
    assert (columns["deviceWasCreated"], columns["customerWasCreated"]) == ([text], [text])


def test_rows_find_their_answer_in_any_block() -> None:
    results = {at: DeviceResult(Outcome.ASSIGNED, device_id=f"d-{at}") for at in range(3)}
    result = reconcile(planned(GIVEN), (1, Answer(results)))
    assert columns_of(result, GIVEN[:1])["deviceId"] == ["d-0"]
    assert columns_of(result, GIVEN[1:], first=1)["deviceId"] == ["d-1", "d-2"]


def test_a_duplicate_names_line_and_outcome_of_its_original() -> None:
    rows = [GIVEN[0], GIVEN[1], GIVEN[1], (A, "SN-2", "unassign"), (A, "SN-2", "unassign")]
    result = reconcile(planned(rows), (1, answer(Outcome.ASSIGNED, Outcome.SKIPPED)), (2, answer(Outcome.UNASSIGNED)))
    columns = columns_of(result, rows)
    assert columns["outcome"] == ["assigned", "skipped", "duplicate", "unassigned", "duplicate"]
    assert columns["detail"] == ["", "", "same as line 3: skipped", "", "same as line 5: unassigned"]
    assert columns["call"] == ["1", "1", "", "2", ""]


def test_a_duplicate_finds_its_original_in_an_earlier_block() -> None:
    rows = [GIVEN[0], GIVEN[1], GIVEN[0]]
    assert columns_of(reconcile(planned(rows)), rows[2:], first=2)["detail"] == ["same as line 2: notSent"]


@pytest.mark.parametrize("names", [(), ("a.csv",)])
def test_a_duplicate_names_no_file_if_there_is_only_one(names: tuple[str, ...]) -> None:
    rows = [GIVEN[0], GIVEN[0]]
    result = Ledger(planned(rows), names).close("a signal came")
    assert columns_of(result, rows)["detail"][1] == "same as line 2: notSent"


def test_a_duplicate_names_the_file_of_its_original_if_there_are_several() -> None:
    first, second = [GIVEN[0], GIVEN[1]], [GIVEN[2], GIVEN[1], GIVEN[2]]
    result = Ledger(planned(first, second), ["a.csv", "b.csv"]).close("a signal came")
    details = ["same as line 3 of a.csv: notSent", "same as line 2 of b.csv: notSent"]
    assert columns_of(result, second, first=2)["detail"][1:] == details


def test_an_invalid_row_has_the_loaders_text_and_no_call() -> None:
    rows = [("?", "SN-1", "assign", "EMAIL")]
    columns = columns_of(reconcile(planned(rows)), rows)
    assert (columns["outcome"], columns["detail"], columns["call"]) == (["invalid"], ["wrong: EMAIL"], [""])


# Rows without an answer


def test_rows_never_sent_name_the_reason_why_the_run_ended() -> None:
    columns = columns_of(reconcile(planned(GIVEN), why="the deadline has passed"), GIVEN)
    assert columns["outcome"] == ["notSent"] * 3
    assert columns["detail"] == ["the run stopped before it: the deadline has passed"] * 3
    assert columns["attempts"] == columns["unclearAttempts"] == [""] * 3


def test_rows_sent_without_an_answer_are_unconfirmed_and_count_their_attempts() -> None:
    ledger = Ledger(planned(GIVEN))
    settle(ledger, (1, answer(Outcome.ASSIGNED)))
    columns = columns_of(ledger.close("a signal came", unclear_attempts=[(1, None), (1, (1,))]), GIVEN)
    assert columns["outcome"] == ["assigned", "unconfirmed", "unconfirmed"]
    assert columns["detail"][1:] == ["sent, but the run stopped before an answer came"] * 2
    assert columns["unclearAttempts"] == ["0", "2", "1"]
    assert columns["attempts"][1:] == ["2", "1"]


def test_an_unclear_attempt_affects_only_the_positions_it_contained() -> None:
    columns = columns_of(Ledger(planned(GIVEN)).close("a signal came", unclear_attempts=[(1, iter([2]))]), GIVEN)
    assert columns["outcome"] == ["notSent", "notSent", "unconfirmed"]


# Rows that want attention, and sure changes


@pytest.mark.parametrize(
    ("action", "outcome", "wanted"),
    [
        ("assign", Outcome.ASSIGNED, False),
        ("assign", Outcome.ALREADY_ASSIGNED, False),
        ("unassign", Outcome.UNASSIGNED, False),
        ("assign", Outcome.SKIPPED, True),
        ("unassign", Outcome.SKIPPED, False),
        ("assign", Outcome.UNCHANGED, False),
        ("assign", Outcome.FAILED, True),
        ("unassign", Outcome.FAILED, True),
        ("unassign", Outcome.UNCONFIRMED, True),
        ("assign", Outcome.HELD, True),
    ],
)
def test_whether_a_row_wants_attention(action: str, outcome: Outcome, wanted: bool) -> None:
    result = reconcile(planned([(A, "SN-1", action)]), (1, answer(outcome)))
    assert result.attention().tolist() == [wanted]
    assert result.attention([outcome]).tolist() == [False]


def test_unsent_and_invalid_rows_want_attention_and_duplicates_do_not() -> None:
    rows = [GIVEN[0], GIVEN[0], ("?", "SN-1", "assign", "EMAIL"), (A, "SN-1", "lend", "ACTION")]
    result = reconcile(planned(rows))
    assert result.attention().tolist() == [True, False, True, True]
    assert result.attention([Outcome.INVALID]).tolist() == [True, False, False, False]


def test_tolerating_one_outcome_tolerates_no_other() -> None:
    result = reconcile(planned(GIVEN), (1, answer(Outcome.SKIPPED, Outcome.FAILED, Outcome.ASSIGNED)))
    assert result.attention([Outcome.SKIPPED, Outcome.HELD]).tolist() == [False, True, False]


def test_attention_is_counted_by_outcome() -> None:
    rows = [GIVEN[0], GIVEN[1], (A, "SN-3", "unassign")]
    skipped = answer(Outcome.SKIPPED, Outcome.FAILED)
    result = reconcile(planned(rows), (1, answer(Outcome.SKIPPED)), (2, skipped))
    wanted = dict.fromkeys(Outcome, 0) | {Outcome.SKIPPED: 1, Outcome.FAILED: 1}
    assert result.attention_counts() == wanted


def test_only_assigned_and_unassigned_rows_are_surely_changed() -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(len(SENT))]
    result = reconcile(planned(rows), (1, answer(*SENT)))
    changed = [outcome for outcome, sure in zip(SENT, result.surely_changed(), strict=True) if sure]
    assert changed == [Outcome.ASSIGNED, Outcome.UNASSIGNED]


@pytest.mark.parametrize(
    ("first", "second", "sure", "left"),
    [
        (UNSURE, Outcome.UNASSIGNED, [], [0, 1]),
        (Outcome.ALREADY_ASSIGNED, Outcome.UNASSIGNED, [1], []),
        (Outcome.ASSIGNED, Outcome.UNCONFIRMED, [0], [1]),
        (Outcome.FAILED, Outcome.UNASSIGNED, [1], []),
        (REFUSED, Outcome.UNASSIGNED, [], [0, 1]),
    ],
)
def test_a_change_that_follows_an_unclear_row_of_its_pair_is_not_sure(
    first: Outcome | DeviceResult, second: Outcome, sure: list[int], left: list[int]
) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-1", "unassign"), (B, "SN-1", "assign")]
    plan = planned(rows)
    ends = {(A, "assign"): first, (A, "unassign"): second, (B, "assign"): Outcome.FAILED}
    calls = [(number, plan.call(number)) for number in range(1, plan.calls + 1)]
    ends_of_calls = [(number, ends[call.customer, str(call.action)]) for number, call in calls]
    results = [(number, one if isinstance(one, DeviceResult) else DeviceResult(one)) for number, one in ends_of_calls]
    result = reconcile(plan, *((number, Answer({0: result})) for number, result in results))
    assert [at for at, is_sure in enumerate(result.surely_changed()) if is_sure] == sure
    assert [at for at, is_left in enumerate(result.not_undone()) if is_left] == left


def test_a_created_customer_counts_once_if_several_calls_report_it() -> None:
    rows = [*GIVEN, (B, "SN-1", "assign"), (C, "SN-1", "assign")]
    new, old = ((answer(Outcome.ASSIGNED, customer_was_created=created)) for created in (True, False))
    result = reconcile(planned(rows, chunk_size=1), (1, new), (2, new), (3, old), (4, new), (5, old))
    assert result.customers_created == 2


def test_thousands_of_details_and_device_ids_stay_with_their_rows() -> None:
    count = 70_000
    rows = [(A, f"SN-{at}", "assign") for at in range(count)]
    results = {at: DeviceResult(Outcome.ASSIGNED, f"d-{at}", text=f"no. {at}") for at in range(count)}
    columns = columns_of(reconcile(planned(rows, chunk_size=count), (1, Answer(results))), rows)
    assert columns["deviceId"] == [f"d-{at}" for at in range(count)]
    assert columns["detail"] == [f"no. {at}" for at in range(count)]


@pytest.mark.parametrize(("action", "back"), [("assign", "unassign"), ("unassign", "assign")])
def test_inverse_returns_the_opposite_action(action: str, back: str) -> None:
    call = planned([(A, "SN-1", action)]).call(1)
    assert call.action.facts.inverse == back


def test_every_problem_of_a_row_makes_it_invalid() -> None:
    problems = [problem for problem in Problem if problem]
    rows = [(A, f"SN-{problem}", "assign", problem.name) for problem in problems]
    assert reconcile(planned(rows)).counts()[Outcome.INVALID] == len(problems)
