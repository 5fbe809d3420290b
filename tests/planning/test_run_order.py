"""Which run is newer, and which rows ask for the opposite of another run's."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.planning.run_order import (
    KeyBatches,
    RowLocation,
    RunOrder,
    find_opposite_action,
    orders_with_later_as_of,
    orders_with_newer_files,
)
from tests.support.builders import A, B, Row, keys_of

DAYS = [datetime(2026, 5, day, tzinfo=UTC) for day in (1, 2, 3)]
A_HAS, A_LOST, B_HAS = (A, "SN-1", "assign"), (A, "SN-1", "unassign"), (B, "SN-1", "assign")


def night(run_id: str, as_of: int | None = None, written: float | None = None) -> RunOrder:
    return RunOrder(run_id, None if as_of is None else DAYS[as_of - 1], written)


def input_of(*files: Sequence[Row]) -> Callable[[], KeyBatches]:
    """Yield the key columns of files, in blocks of two rows."""

    def blocks() -> KeyBatches:
        for file, rows in enumerate(files):
            for first in range(0, len(rows), 2):
                yield file, keys_of(rows[first : first + 2], first + 2)

    return blocks


def test_only_a_later_as_of_makes_a_run_newer() -> None:
    others = [night("same", 2), night("older", 1), night("newer", 3), night("unknown")]
    assert orders_with_later_as_of(night("this", 2), others) == [night("newer", 3)]
    assert orders_with_later_as_of(night("this"), others) == []


def test_the_newest_run_comes_first() -> None:
    assert [one.run_id for one in orders_with_later_as_of(night("this", 1), [night("b", 2), night("c", 3)])] == [
        "c",
        "b",
    ]
    written = orders_with_newer_files(night("this", None, 1.0), [night("b", None, 2.0), night("c", None, 3.0)])
    assert [one.run_id for one in written] == ["c", "b"]


def test_files_are_compared_if_one_of_two_runs_has_no_as_of() -> None:
    newer = [night("undated", None, 9.0), night("dated", 1, 9.0)]
    assert orders_with_newer_files(night("this", None, 5.0), newer) == newer
    assert orders_with_newer_files(night("this", 3, 5.0), newer) == newer[:1]


def test_files_that_are_as_old_or_of_unknown_age_are_not_newer() -> None:
    others = [night("same", None, 5.0), night("older", None, 4.0), night("unknown")]
    assert orders_with_newer_files(night("this", None, 5.0), others) == []
    assert orders_with_newer_files(night("this"), [night("newer", None, 9.0)]) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "line"),
    [
        ([A_HAS], [A_LOST], 2),
        ([A_LOST], [A_HAS], 2),
        ([A_HAS], [A_HAS], None),
        ([A_HAS], [(A, "SN-2", "unassign"), (B, "SN-1", "unassign")], None),
        ([A_HAS], [(A, "sn-1", "unassign")], None),
        ([A_HAS, A_LOST], [A_HAS, A_LOST], None),
        ([A_HAS, A_LOST], [A_LOST], None),
        ([A_LOST, A_HAS], [A_HAS, A_LOST], 3),
        ([B_HAS, A_LOST, A_HAS, B_HAS], [A_HAS, B_HAS, A_LOST], 4),
        ([], [A_LOST], None),
        ([A_HAS], [], None),
    ],
)
def test_the_last_action_of_customer_and_device_matters(ours: list[Row], theirs: list[Row], line: int | None) -> None:
    found = find_opposite_action(input_of(ours), input_of(theirs))
    assert found == (None if line is None else RowLocation(0, line))


def test_a_row_of_a_second_file_is_found_there() -> None:
    assert find_opposite_action(input_of([B_HAS], [B_HAS, A_HAS]), input_of([A_LOST])) == RowLocation(1, 3)


ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["1", "2", "a1"]), st.sampled_from(["assign", "unassign"])),
    max_size=12,
)


@given(ROWS, ROWS)
def test_an_opposite_is_found_exactly_where_last_actions_differ(ours: list[Row], theirs: list[Row]) -> None:
    lasts = [{row[:2]: row[2] for row in rows} for rows in (ours, theirs)]
    differ = any(lasts[1].get(pair, action) != action for pair, action in lasts[0].items())
    assert (find_opposite_action(input_of(ours), input_of(theirs)) is not None) == differ
