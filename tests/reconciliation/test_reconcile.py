"""Books that are closed: one outcome a row, whatever answers came."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.errors import UnbalancedError
from telemetron_batch.domain.model import Answer, DeviceResult, Problem
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import Reason, Unheard
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reconciliation.reconcile import Reconciliation, inverse
from tests.support.builders import A, B, C, Row, block_of, keys_of, planned, settle

GIVEN = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (A, "SN-3", "assign")]
SENT = [Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.UNASSIGNED, Outcome.SKIPPED, Outcome.FAILED, Outcome.HELD]
ROW = st.tuples(
    st.sampled_from([A, B]),
    st.sampled_from(["SN-1", "SN-2", "SN-3", "SN-4"]),
    st.sampled_from(["assign", "unassign"]),
    st.sampled_from(["", "", "", "EMAIL"]),
)

UNSURE = DeviceResult(Outcome.ALREADY_ASSIGNED, unheard=Unheard.WHOSE_WORK)
REFUSED = DeviceResult(Outcome.UNCONFIRMED, reason=Reason.DEVICE_REFUSED, text="locked", unheard=Unheard.WHETHER_DONE)


def answer(*outcomes: Outcome, **told: object) -> Answer:
    """An answer that says so of the first, second, ... device of its call."""
    return Answer({at: DeviceResult(outcome) for at, outcome in enumerate(outcomes)}, **told)


def closed(plan: Plan, *answers: tuple[int, Answer], why: str = "a signal came") -> Reconciliation:
    books = Ledger(plan)
    for call, one in answers:
        settle(books, (call, one))
    return books.close(why)


def told(books: Reconciliation, rows: Sequence[Row], first: int = 0) -> dict[str, list[str]]:
    """What is reported of these rows, by column."""
    columns = books.columns(block_of(keys_of(rows), []), first)
    return {name: column.to_pylist() for name, column in columns.items()}


# One outcome for each row


@given(st.lists(ROW, max_size=25), st.integers(1, 4), st.data())
def test_every_row_has_exactly_one_outcome_whatever_answers_came(
    file: list[Row], chunk: int, data: st.DataObject
) -> None:
    plan = planned(file, chunk_size=chunk)
    books, answered, doubtful = Ledger(plan), {}, []
    for call in range(1, plan.calls + 1):
        rows = plan.rows_of(call).tolist()
        positions = st.sets(st.integers(0, len(rows) - 1))
        results = {at: data.draw(st.sampled_from(SENT)) for at in data.draw(positions)}
        settle(books, (call, Answer({at: DeviceResult(outcome) for at, outcome in results.items()})))
        answered |= {rows[at]: outcome for at, outcome in results.items()}
        doubtful += [(call, one) for one in data.draw(st.lists(st.none() | positions, max_size=2))]
    unheard = {
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
            expected.append(answered.get(row, Outcome.UNCONFIRMED if row in unheard else Outcome.NOT_SENT))
    reconciliation = books.close("the power went", doubtful=doubtful)
    assert [OUTCOMES[code] for code in reconciliation.outcome] == expected
    assert sum(reconciliation.counts().values()) == len(file)
    assert told(reconciliation, file)["outcome"] == [str(outcome) for outcome in expected]


def test_counts_name_every_outcome() -> None:
    counts = closed(planned(GIVEN), (1, answer(Outcome.ASSIGNED, Outcome.ASSIGNED, Outcome.FAILED))).counts()
    assert counts == dict.fromkeys(Outcome, 0) | {Outcome.ASSIGNED: 2, Outcome.FAILED: 1}


def test_an_empty_input_balances() -> None:
    books = closed(planned([]))
    assert set(books.counts().values()) == {0}
    assert books.customers_created == 0


@pytest.mark.parametrize("second", [Outcome.ASSIGNED, Outcome.FAILED])
def test_a_row_settled_twice_unbalances_the_books(second: Outcome) -> None:
    books = Ledger(planned(GIVEN))
    settle(books, (1, answer(Outcome.ASSIGNED)))
    settle(books, (1, answer(second, Outcome.ASSIGNED)))
    with pytest.raises(UnbalancedError, match="0 rows without outcome, 1 settled twice") as caught:
        books.close("")
    assert caught.value.advice == "this is a bug; please report it and keep the run's folder"


def test_a_call_is_settled_when_each_of_its_devices_is_in_however_many_answers() -> None:
    rows = [*GIVEN, (B, "SN-1", "assign"), (C, "SN-1", "assign")]
    first, second = answer(Outcome.ASSIGNED), Answer({1: DeviceResult(Outcome.FAILED), 2: DeviceResult(Outcome.FAILED)})
    assert closed(planned(rows), (1, first), (2, first)).calls_settled == 1
    assert closed(planned(rows), (1, first), (2, first), (1, second)).calls_settled == 2


def test_the_books_take_fourteen_bytes_a_row() -> None:
    books = closed(planned(GIVEN), (1, answer(Outcome.ASSIGNED)))
    columns = [books.outcome, books.call, books.answer, books.detail, books.created]
    assert [column.dtype.name for column in columns] == ["int8", "int32", "int32", "int32", "int8"]


def test_a_row_that_no_answer_reached_has_the_codes_for_none() -> None:
    books = closed(planned([("?", "SN-1", "assign", "EMAIL")]))
    assert (books.call.tolist(), books.answer.tolist()) == ([0], [0])
    assert (books.created.tolist(), books.device_ids.texts(0, 1).to_pylist()) == ([0], [""])


def test_parts_of_a_call_may_be_settled_one_after_another() -> None:
    part = Answer(
        {2: DeviceResult(Outcome.FAILED, reason=Reason.DEVICE_REFUSED, text="no such type")},
        attempts=3,
        http_status=400,
    )
    books = closed(planned(GIVEN), (1, answer(Outcome.ASSIGNED, Outcome.ASSIGNED, attempts=4)), (1, part))
    columns = told(books, GIVEN)
    assert columns["outcome"] == ["assigned", "assigned", "failed"]
    assert columns["attempts"] == ["4", "4", "3"]
    assert columns["httpStatus"] == ["", "", "400"]
    assert columns["detail"] == ["", "", "no such type"]


# What is said of rows


def test_a_row_tells_what_its_answer_told() -> None:
    result = DeviceResult(Outcome.ASSIGNED, device_id="d-1", was_created=True, text="new")
    at = 1_767_225_600.25
    one = Answer({0: result}, "c-1", True, 200, attempts=2, unclear_attempts=1, answered_at=at)
    columns = told(closed(planned(GIVEN[:1]), (1, one)), GIVEN[:1])
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


def test_what_the_answer_did_not_tell_stays_empty() -> None:
    columns = told(closed(planned(GIVEN[:1]), (1, answer(Outcome.FAILED))), GIVEN[:1])
    told_of = {name for name, column in columns.items() if column != [""]}
    assert told_of == {"outcome", "call", "attempts", "unclearAttempts"}


@pytest.mark.parametrize(("was_created", "text"), [(True, "true"), (False, "false"), (None, "")])
def test_created_is_true_false_or_not_told(was_created: bool | None, text: str) -> None:
    result = DeviceResult(Outcome.ASSIGNED, was_created=was_created)
    columns = told(closed(planned(GIVEN[:1]), (1, Answer({0: result}, "", was_created))), GIVEN[:1])
    assert (columns["deviceWasCreated"], columns["customerWasCreated"]) == ([text], [text])


def test_rows_find_their_own_answer_whatever_block_they_stand_in() -> None:
    results = {at: DeviceResult(Outcome.ASSIGNED, device_id=f"d-{at}") for at in range(3)}
    books = closed(planned(GIVEN), (1, Answer(results)))
    assert told(books, GIVEN[:1])["deviceId"] == ["d-0"]
    assert told(books, GIVEN[1:], first=1)["deviceId"] == ["d-1", "d-2"]


def test_a_duplicate_names_line_and_outcome_of_its_original() -> None:
    rows = [GIVEN[0], GIVEN[1], GIVEN[1], (A, "SN-2", "unassign"), (A, "SN-2", "unassign")]
    books = closed(planned(rows), (1, answer(Outcome.ASSIGNED, Outcome.SKIPPED)), (2, answer(Outcome.UNASSIGNED)))
    columns = told(books, rows)
    assert columns["outcome"] == ["assigned", "skipped", "duplicate", "unassigned", "duplicate"]
    assert columns["detail"] == ["", "", "same as line 3: skipped", "", "same as line 5: unassigned"]
    assert columns["call"] == ["1", "1", "", "2", ""]


def test_a_duplicate_finds_its_original_in_an_earlier_block() -> None:
    rows = [GIVEN[0], GIVEN[1], GIVEN[0]]
    assert told(closed(planned(rows)), rows[2:], first=2)["detail"] == ["same as line 2: notSent"]


@pytest.mark.parametrize("names", [(), ("a.csv",)])
def test_a_duplicate_names_no_file_where_there_is_but_one(names: tuple[str, ...]) -> None:
    rows = [GIVEN[0], GIVEN[0]]
    books = Ledger(planned(rows), names).close("a signal came")
    assert told(books, rows)["detail"][1] == "same as line 2: notSent"


def test_a_duplicate_names_the_file_of_its_original_where_there_are_several() -> None:
    first, second = [GIVEN[0], GIVEN[1]], [GIVEN[2], GIVEN[1], GIVEN[2]]
    books = Ledger(planned(first, second), ["a.csv", "b.csv"]).close("a signal came")
    details = ["same as line 3 of a.csv: notSent", "same as line 2 of b.csv: notSent"]
    assert told(books, second, first=2)["detail"][1:] == details


def test_an_invalid_row_tells_the_loaders_words_and_belongs_to_no_call() -> None:
    rows = [("?", "SN-1", "assign", "EMAIL")]
    columns = told(closed(planned(rows)), rows)
    assert (columns["outcome"], columns["detail"], columns["call"]) == (["invalid"], ["wrong: EMAIL"], [""])


# Rows without an answer


def test_rows_never_sent_say_why_the_run_ended() -> None:
    columns = told(closed(planned(GIVEN), why="the deadline has passed"), GIVEN)
    assert columns["outcome"] == ["notSent"] * 3
    assert columns["detail"] == ["the run stopped before it: the deadline has passed"] * 3
    assert columns["attempts"] == columns["unclearAttempts"] == [""] * 3


def test_rows_sent_without_an_answer_are_unconfirmed_and_count_their_attempts() -> None:
    books = Ledger(planned(GIVEN))
    settle(books, (1, answer(Outcome.ASSIGNED)))
    columns = told(books.close("a signal came", doubtful=[(1, None), (1, (1,))]), GIVEN)
    assert columns["outcome"] == ["assigned", "unconfirmed", "unconfirmed"]
    assert columns["detail"][1:] == ["sent, but the run stopped before an answer came"] * 2
    assert columns["unclearAttempts"] == ["0", "2", "1"]
    assert columns["attempts"][1:] == ["2", "1"]


def test_a_doubtful_attempt_says_nothing_of_the_positions_that_it_did_not_ask_for() -> None:
    columns = told(Ledger(planned(GIVEN)).close("a signal came", doubtful=[(1, iter([2]))]), GIVEN)
    assert columns["outcome"] == ["notSent", "notSent", "unconfirmed"]


# What wants attention, and what was changed


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
    books = closed(planned([(A, "SN-1", action)]), (1, answer(outcome)))
    assert books.attention().tolist() == [wanted]
    assert books.attention([outcome]).tolist() == [False]


def test_unsent_and_invalid_rows_want_attention_and_duplicates_do_not() -> None:
    rows = [GIVEN[0], GIVEN[0], ("?", "SN-1", "assign", "EMAIL"), (A, "SN-1", "lend", "ACTION")]
    books = closed(planned(rows))
    assert books.attention().tolist() == [True, False, True, True]
    assert books.attention([Outcome.INVALID]).tolist() == [True, False, False, False]


def test_tolerating_one_outcome_tolerates_no_other() -> None:
    books = closed(planned(GIVEN), (1, answer(Outcome.SKIPPED, Outcome.FAILED, Outcome.ASSIGNED)))
    assert books.attention([Outcome.SKIPPED, Outcome.HELD]).tolist() == [False, True, False]


def test_attention_is_counted_by_outcome() -> None:
    rows = [GIVEN[0], GIVEN[1], (A, "SN-3", "unassign")]
    skipped = answer(Outcome.SKIPPED, Outcome.FAILED)
    books = closed(planned(rows), (1, answer(Outcome.SKIPPED)), (2, skipped))
    wanted = dict.fromkeys(Outcome, 0) | {Outcome.SKIPPED: 1, Outcome.FAILED: 1}
    assert books.attention_counts() == wanted


def test_only_what_was_assigned_and_unassigned_is_surely_changed() -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(len(SENT))]
    books = closed(planned(rows), (1, answer(*SENT)))
    changed = [outcome for outcome, sure in zip(SENT, books.surely_changed(), strict=True) if sure]
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
def test_what_follows_an_unclear_row_on_its_pair_is_no_sure_change_from_before_the_run(
    first: Outcome | DeviceResult, second: Outcome, sure: list[int], left: list[int]
) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-1", "unassign"), (B, "SN-1", "assign")]
    plan = planned(rows)
    ends = {(A, "assign"): first, (A, "unassign"): second, (B, "assign"): Outcome.FAILED}
    calls = [(number, plan.call(number)) for number in range(1, plan.calls + 1)]
    told = [(number, ends[call.customer, str(call.action)]) for number, call in calls]
    results = [(number, one if isinstance(one, DeviceResult) else DeviceResult(one)) for number, one in told]
    books = closed(plan, *((number, Answer({0: result})) for number, result in results))
    assert [at for at, is_sure in enumerate(books.surely_changed()) if is_sure] == sure
    assert [at for at, is_left in enumerate(books.not_undone()) if is_left] == left


def test_a_customer_created_counts_once_however_many_calls_say_so() -> None:
    rows = [*GIVEN, (B, "SN-1", "assign"), (C, "SN-1", "assign")]
    new, old = ((answer(Outcome.ASSIGNED, customer_was_created=created)) for created in (True, False))
    books = closed(planned(rows, chunk_size=1), (1, new), (2, new), (3, old), (4, new), (5, old))
    assert books.customers_created == 2


def test_details_and_identifiers_by_the_thousand_stay_with_their_rows() -> None:
    count = 70_000
    rows = [(A, f"SN-{at}", "assign") for at in range(count)]
    results = {at: DeviceResult(Outcome.ASSIGNED, f"d-{at}", text=f"no. {at}") for at in range(count)}
    columns = told(closed(planned(rows, chunk_size=count), (1, Answer(results))), rows)
    assert columns["deviceId"] == [f"d-{at}" for at in range(count)]
    assert columns["detail"] == [f"no. {at}" for at in range(count)]


@pytest.mark.parametrize(("action", "back"), [("assign", "unassign"), ("unassign", "assign")])
def test_the_inverse_takes_an_action_back(action: str, back: str) -> None:
    call = planned([(A, "SN-1", action)]).call(1)
    assert inverse(call.action) == back


def test_every_problem_of_a_row_makes_it_invalid() -> None:
    problems = [problem for problem in Problem if problem]
    rows = [(A, f"SN-{problem}", "assign", problem.name) for problem in problems]
    assert closed(planned(rows)).counts()[Outcome.INVALID] == len(problems)
