"""Each brake refuses beyond its limit and passes at the limit."""

from dataclasses import replace

import pytest

from telemetron_batch.config.config import Brakes
from telemetron_batch.config.option_values import CountOrPercent
from telemetron_batch.domain.errors import BrakeError
from telemetron_batch.planning.brakes import check_age, check_plan, check_rows, check_trailers
from tests.support.builders import A, B, Row, file_of, planned

ASSIGN, UNASSIGN = (A, "SN-1", "assign"), (A, "SN-2", "unassign")


@pytest.mark.parametrize("brakes", [Brakes(), Brakes(expect_rows=2), Brakes(min_rows=2), Brakes(min_rows=1)])
def test_the_required_number_of_rows_passes(brakes: Brakes) -> None:
    check_rows(2, brakes)


@pytest.mark.parametrize(
    ("brakes", "words"),
    [
        (Brakes(expect_rows=3), "the input has 2 rows, --expect-rows says 3"),
        (Brakes(expect_rows=1), "the input has 2 rows, --expect-rows says 1"),
        (Brakes(expect_rows=0), "the input has 2 rows, --expect-rows says 0"),
        (Brakes(min_rows=3), "the input has 2 rows, fewer than --min-rows 3"),
    ],
)
def test_any_other_number_of_rows_is_refused(brakes: Brakes, words: str) -> None:
    with pytest.raises(BrakeError, match=f"^{words}; nothing was sent"):
        check_rows(2, brakes)


def test_a_trailer_with_the_number_of_rows_passes() -> None:
    check_trailers([file_of(rows=3), replace(file_of(rows=3), trailer_count=3)])


def test_a_trailer_with_another_number_is_refused_with_both_numbers() -> None:
    with pytest.raises(BrakeError, match=r"^rows\.csv has 3 rows, its trailer says 5; nothing was sent"):
        check_trailers([file_of(rows=3), replace(file_of(rows=3), trailer_count=5)])


def test_invalid_rows_count_too() -> None:
    check_rows(3, Brakes(expect_rows=3, min_rows=3))


@pytest.mark.parametrize(
    ("rows", "most"),
    [
        ([ASSIGN, UNASSIGN], None),
        ([ASSIGN, UNASSIGN], 1),
        ([ASSIGN], 0),
        ([(A, "SN-1", "unassign", "DAMAGED")], 0),
    ],
    ids=["no brake", "at the limit", "only assigns", "only an invalid one"],
)
def test_as_many_unassigns_as_allowed_pass(rows: list[Row], most: int | None) -> None:
    check_plan(planned(rows), Brakes(max_unassign=None if most is None else CountOrPercent(most, percent=False)))


@pytest.mark.parametrize("most", [0, 1])
def test_one_unassign_more_than_allowed_is_refused(most: int) -> None:
    rows = [(B, f"SN-{number}", "unassign") for number in range(most + 1)]
    with pytest.raises(BrakeError, match=f"^{most + 1} rows are unassigns, more than --max-unassign {most}; nothing"):
        check_plan(planned(rows), Brakes(max_unassign=CountOrPercent(most, percent=False)))


@pytest.mark.parametrize("brakes", [Brakes(), Brakes(max_age=3600.0)])
def test_a_file_just_as_old_as_allowed_passes(brakes: Brakes) -> None:
    check_age([("new.csv", -2.0), ("old.csv", 3600.0)], brakes)


def test_the_file_that_is_too_old_is_named() -> None:
    with pytest.raises(BrakeError, match=r"^old\.csv was written 3601 s ago, longer than --max-age allows \(3600 s\)"):
        check_age([("new.csv", 1.0), ("old.csv", 3601.0)], Brakes(max_age=3600.0))
