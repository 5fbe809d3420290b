"""Which pairs a run confirms, and which rows a later run therefore does not send."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.planning.delta import (
    ConfirmedBy,
    ConfirmedPairs,
    RowDeltaState,
    decode_column,
    encode_column,
    find_unchanged,
    row_delta_states,
)
from telemetron_batch.rows.rows import PLAN_COLUMNS
from telemetron_batch.storage.spill import Scratch, SpillLimits
from tests.support.builders import A, B, C, Row, keys_of, planned, repeated_rows, rows_of, sent_rows

SN, OTHER = "SN-1", "SN-2"
A_HAS, B_HAS, A_LOST = (A, SN, "assign"), (B, SN, "assign"), (A, SN, "unassign")
ROW = st.tuples(
    st.sampled_from([A, B]),
    st.sampled_from([SN, OTHER, "SN-3"]),
    st.sampled_from(["assign", "unassign"]),
    st.sampled_from(["", "", "", "", "EMAIL"]),
)


def known(pairs: Sequence[Row], touched: Sequence[str] = ()) -> ConfirmedPairs:
    """Return confirmed pairs."""
    origin = np.ones(len(pairs), dtype=np.int64)
    return ConfirmedPairs(
        keys_of(pairs).select(PLAN_COLUMNS),
        origin,
        (ConfirmedBy("r1", "2026-01-01T02:00:00Z"),),
        pa.array(touched, pa.string()),
    )


def stays_out(file: Sequence[Row], pairs: Sequence[Row], touched: Sequence[str] = ()) -> list[bool]:
    """Return which rows are unchanged, for several numbers of partitions."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Scratch(Path(folder) / "scratch", SpillLimits(memory=0, parts=3))
        spread = find_unchanged(rows_of(file, scratch=scratch), known(pairs, touched)).tolist()
    numbers = find_unchanged(rows_of(file), known(pairs, touched)).tolist()
    assert spread == numbers
    return [bool(number) for number in numbers]


# What may be left out


@pytest.mark.parametrize("row", [A_HAS, A_LOST])
def test_a_confirmed_row_is_not_sent(row: Row) -> None:
    assert stays_out([row], [row]) == [True]


@pytest.mark.parametrize(
    "pairs",
    [[], [A_LOST], [B_HAS], [(A, OTHER, "assign")], [(A, "sn-1", "assign")]],
    ids=["nothing", "the opposite", "of another customer", "of another device", "of another spelling"],
)
def test_another_pair_or_the_opposite_action_confirms_nothing(pairs: list[Row]) -> None:
    assert stays_out([A_HAS], pairs) == [False]


def test_a_device_that_the_file_assigns_and_unassigns_is_sent() -> None:
    assert stays_out([A_HAS, A_LOST], [A_LOST]) == [False, False]
    assert stays_out([A_LOST, A_HAS], [A_HAS]) == [False, False]


def test_a_device_on_its_way_to_a_new_owner_is_sent_with_both_rows() -> None:
    assert stays_out([A_LOST, B_HAS], [A_HAS]) == [False, False]


def test_neither_row_of_a_confirmed_transfer_is_sent() -> None:
    assert stays_out([A_LOST, B_HAS], [A_LOST, B_HAS]) == [True, True]


def test_a_device_is_sent_with_all_its_rows_when_its_former_owner_may_still_have_it() -> None:
    assert stays_out([A_LOST, B_HAS, (B, OTHER, "assign")], [B_HAS, (B, OTHER, "assign")]) == [False, False, True]


def test_two_owners_of_one_device_are_separate_pairs() -> None:
    assert stays_out([A_HAS, B_HAS], [A_HAS, B_HAS]) == [True, True]
    assert stays_out([A_HAS, B_HAS], [A_HAS]) == [False, False]


def test_a_new_owner_beside_the_old_one_takes_nothing_from_the_pair_that_is_gone_from_the_file() -> None:
    assert stays_out([B_HAS], [A_HAS, B_HAS]) == [True]


def test_a_device_that_another_run_may_have_changed_since_is_sent() -> None:
    assert stays_out([A_HAS, (A, OTHER, "assign")], [A_HAS, (A, OTHER, "assign")], [SN, "SN-9"]) == [False, True]


@pytest.mark.parametrize(("before", "now"), [("K", "T"), ("", "T"), ("K", "")])
def test_an_assign_for_another_type_of_device_is_sent(before: str, now: str) -> None:
    assert stays_out([(*A_HAS, now)], [(*A_HAS, before)]) == [False]
    assert stays_out([(*A_HAS, before)], [(*A_HAS, before)]) == [True]


def test_device_types_do_not_matter_for_unassigns() -> None:
    assert stays_out([(*A_LOST, "T")], [(*A_LOST, "K")]) == [True]


def test_a_duplicate_follows_its_original() -> None:
    numbers = find_unchanged(rows_of([A_HAS, A_HAS]), known([A_HAS]))
    plan = planned([A_HAS, A_HAS])
    assert (numbers > 0).all()
    assert repeated_rows(plan) == [-1, 0]


def test_an_invalid_row_is_not_unchanged_and_does_not_affect_others() -> None:
    assert stays_out([A_HAS, (A, SN, "lend", "ACTION")], [A_HAS]) == [True, False]


def test_an_empty_file_has_no_unchanged_rows() -> None:
    assert stays_out([], [A_HAS]) == []
    assert stays_out([A_HAS], []) == [False]


@given(st.lists(ROW, max_size=25), st.lists(ROW, max_size=12), st.sets(st.sampled_from([SN, OTHER]), max_size=1))
def test_unchanged_are_just_the_devices_with_only_confirmed_rows_and_no_later_change(
    file: list[Row], said: list[Row], touched: set[str]
) -> None:
    pairs = [*{row[:2]: (*row[:3], "") for row in said}.values()]
    so = {row[:3] for row in pairs}
    moving = touched | {row[1] for row in file if not row[3] and row[:3] not in so}
    assert stays_out(file, pairs, sorted(touched)) == [not row[3] and row[1] not in moving for row in file]


# What is settled surely


def stood(file: Sequence[Row], outcomes: Sequence[Outcome], doubted: Sequence[int] = ()) -> list[RowDeltaState]:
    """Return the states of the rows of a run with these outcomes; `doubted` are rows with an unanswered attempt."""
    codes = np.array([outcome.code for outcome in outcomes], dtype=np.int8)
    in_doubt = np.isin(np.arange(len(file)), doubted)
    return [RowDeltaState(said) for said in row_delta_states(planned(file), codes, in_doubt).tolist()]


@pytest.mark.parametrize(
    ("action", "outcome", "said"),
    [
        ("assign", Outcome.ASSIGNED, RowDeltaState.CONFIRMED),
        ("assign", Outcome.ALREADY_ASSIGNED, RowDeltaState.CONFIRMED),
        ("unassign", Outcome.UNASSIGNED, RowDeltaState.TAKEN),
        ("unassign", Outcome.SKIPPED, RowDeltaState.CONFIRMED),
        ("assign", Outcome.UNCHANGED, RowDeltaState.INHERITED),
        ("assign", Outcome.SKIPPED, RowDeltaState.UNCERTAIN),
        ("assign", Outcome.FAILED, RowDeltaState.UNCERTAIN),
        ("unassign", Outcome.FAILED, RowDeltaState.UNCERTAIN),
        ("assign", Outcome.UNCONFIRMED, RowDeltaState.UNCERTAIN),
        ("assign", Outcome.HELD, RowDeltaState.NOT_SENT),
        ("assign", Outcome.NOT_SENT, RowDeltaState.NOT_SENT),
    ],
)
def test_the_state_of_a_row_follows_from_its_outcome(action: str, outcome: Outcome, said: RowDeltaState) -> None:
    assert stood([(A, SN, action)], [outcome]) == [said]


def test_every_outcome_is_tested() -> None:
    told = test_the_state_of_a_row_follows_from_its_outcome.pytestmark[0].args[1]
    assert {outcome for _, outcome, _ in told} | {Outcome.DUPLICATE, Outcome.INVALID} == set(OUTCOMES)


def test_invalid_rows_and_duplicates_are_not_sent() -> None:
    rows = [A_HAS, A_HAS, (A, OTHER, "assign", "EMAIL")]
    outcomes = [Outcome.ASSIGNED, Outcome.DUPLICATE, Outcome.INVALID]
    assert stood(rows, outcomes) == [RowDeltaState.CONFIRMED, RowDeltaState.NOT_SENT, RowDeltaState.NOT_SENT]


def test_the_last_row_of_a_pair_decides() -> None:
    assert stood([A_HAS, A_LOST], [Outcome.ASSIGNED, Outcome.UNASSIGNED]) == [
        RowDeltaState.UNCERTAIN,
        RowDeltaState.TAKEN,
    ]
    assert stood([A_HAS, A_LOST], [Outcome.ASSIGNED, Outcome.FAILED]) == [
        RowDeltaState.UNCERTAIN,
        RowDeltaState.UNCERTAIN,
    ]
    assert stood([A_HAS, A_LOST], [Outcome.FAILED, Outcome.SKIPPED]) == [
        RowDeltaState.UNCERTAIN,
        RowDeltaState.CONFIRMED,
    ]


def test_an_unanswered_attempt_at_the_same_action_does_no_harm() -> None:
    assert stood([A_HAS], [Outcome.ALREADY_ASSIGNED], doubted=[0]) == [RowDeltaState.CONFIRMED]


def test_an_unanswered_attempt_at_the_opposite_action_makes_a_pair_uncertain() -> None:
    assert stood([A_HAS, A_LOST], [Outcome.UNCONFIRMED, Outcome.UNASSIGNED], [0])[1] is RowDeltaState.UNCERTAIN
    assert stood([A_HAS, A_LOST, A_HAS], [Outcome.ASSIGNED] * 3, [0])[2] is RowDeltaState.CONFIRMED
    assert stood([A_HAS, A_LOST, A_HAS], [Outcome.ASSIGNED] * 3, [1])[2] is RowDeltaState.UNCERTAIN


def test_an_uncertain_pair_does_not_affect_another() -> None:
    rows = [A_HAS, A_LOST, B_HAS, (C, OTHER, "assign")]
    outcomes = [Outcome.ASSIGNED, Outcome.UNASSIGNED, Outcome.ASSIGNED, Outcome.ASSIGNED]
    assert [said >= RowDeltaState.CONFIRMED for said in stood(rows, outcomes, doubted=[0])] == [
        False,
        False,
        True,
        True,
    ]


@given(st.lists(ROW, max_size=25), st.data())
def test_confirmed_is_just_the_last_sent_row_of_a_pair_without_doubt_about_the_opposite(
    file: list[Row], data: st.DataObject
) -> None:
    plan = planned(file)
    sent = sorted(sent_rows(plan))
    some = st.sampled_from([Outcome.ASSIGNED, Outcome.UNASSIGNED, Outcome.SKIPPED, Outcome.FAILED, Outcome.HELD])
    outcomes = [data.draw(some) if row in sent else Outcome.INVALID for row in range(len(file))]
    doubted = data.draw(st.sets(st.sampled_from(sent))) if sent else set()
    expected = set()
    for pair in {file[row][:2] for row in sent}:
        of_pair = [row for row in sent if file[row][:2] == pair]
        last = of_pair[-1]
        opposed = any(file[row][2] != file[last][2] for row in doubted.intersection(of_pair))
        sure = outcomes[last] in (Outcome.ASSIGNED, Outcome.UNASSIGNED)
        sure |= outcomes[last] is Outcome.SKIPPED and file[last][2] == Action.UNASSIGN
        if sure and not opposed:
            expected.add(last)
    said = stood(file, outcomes, sorted(doubted))
    assert {row for row, one in enumerate(said) if one in (RowDeltaState.CONFIRMED, RowDeltaState.TAKEN)} == expected


# Columns as text


@given(st.lists(st.integers(0, 2**20), max_size=50))
def test_an_encoded_column_is_decoded(numbers: list[int]) -> None:
    assert decode_column(encode_column(np.array(numbers, dtype=np.int64))).tolist() == numbers


def test_a_column_of_few_values_is_encoded_compactly() -> None:
    assert len(encode_column(np.full(1_000_000, 2, dtype=np.int64))) < 10_000


@pytest.mark.parametrize("text", ["", "x", "|u1:", "|u1:!!!!", "|u1:AAAA", "quux:eJwDAAAAAAE="])
def test_a_damaged_column_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_column(text)
