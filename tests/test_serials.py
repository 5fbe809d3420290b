"""Dates among serials that are no dates, and zeros that went missing."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.input.serials import LostZeros, Neighbours, damage_of

DATES = [
    "12.03.2025",
    "3.12.25",
    "2025-03-12",
    "2025/3/12",
    "3/12/2025",
    "31/12/25",
    "12-03-2025",
    "Mar-12",
    "mar 12",
    "12-Mar",
    "12-Mar-25",
    "12. Mrz",
    "Dez 24",
    "1-août",
    "2025-03-12 00:00:00",
    "12.03.2025 13:05",
]


def strange(serials: list[str], others: list[str]) -> list[str]:
    flags = Neighbours(pa.array([*others, *serials])).strange(pa.array(serials))
    return [serial for serial, flag in zip(serials, flags, strict=True) if flag]


@pytest.mark.parametrize("date", DATES)
def test_a_date_among_other_serials_is_strange(date: str) -> None:
    assert strange([date], ["SN-00012"]) == [date]
    assert strange([date], ["490154203237518", "490154203237519"]) == [date]


@pytest.mark.parametrize("date", DATES)
def test_a_date_among_dates_is_a_serial(date: str) -> None:
    assert strange([date], [date]) == []


@pytest.mark.parametrize(
    "serial",
    ["45.13.2025", "12.03.1025", "2025-13-01", "Foo-12", "12-Foo", "1.2.3", "12.03.2025x", "Mar-1234567", "SN-12", ""],
)
def test_what_is_no_date_is_not_strange(serial: str) -> None:
    assert strange([serial], ["SN-00012"]) == []


def test_a_form_that_serials_which_are_no_dates_have_too_is_their_own() -> None:
    assert strange(["DEC-05"], ["ABC-01", "XYZ-99", "123456"]) == []
    assert strange(["12.03.2025"], ["99.99.1234", "45.77.0001"]) == []
    assert strange(["Dec-05"], ["ABC-01", "XYZ-99", "123456"]) == ["Dec-05"]


def test_a_few_dates_do_not_vouch_for_one_another() -> None:
    assert strange(["12.03.2025", "13.03.2025"], ["SN-1", "SN-2"]) == ["12.03.2025", "13.03.2025"]


def test_the_only_serial_of_a_file_has_nothing_against_it() -> None:
    assert strange(["12.03.2025"], [""]) == []


def test_the_example_is_of_the_most_frequent_shape_and_sound() -> None:
    assert Neighbours(pa.array(["X1Y", "", "SN-1", "SN-02", "Mar-12", "1.2E+5"])).example == "SN-1"
    assert Neighbours(pa.array(["", "#N/A"])).example == ""
    assert Neighbours(pa.array([], pa.string())).example == ""


@pytest.mark.parametrize(
    ("serial", "kind"),
    [("1.2E+5", "exponent"), ("4901542032300000", "digits replaced by zeros"), ("#REF!", "error value"), ("x", "date")],
)
def test_each_damage_has_a_name(serial: str, kind: str) -> None:
    assert damage_of(serial) == kind


def counted(*blocks: list[str]) -> LostZeros:
    zeros, line = LostZeros(), 2
    for block in blocks:
        zeros.add(pa.array(block, pa.string()), np.arange(line, line + len(block)), np.ones(len(block), np.bool_))
        line += len(block)
    return zeros


LONG = [f"{number:06d}" for number in range(100_000, 100_020)]


def test_a_few_shorter_serials_are_counted_with_their_first_line() -> None:
    warning = counted(LONG, ["SN-1", "00777x", "777", "88"]).warning()
    assert warning is not None
    assert warning.startswith("2 serials of digits are shorter than the usual 6 (first on line 24);")


@pytest.mark.parametrize(
    "blocks",
    [
        (LONG,),
        ([],),
        (["SN-1"] * 30,),
        (LONG, ["1000000"]),
        (LONG, ["777", "078"]),
        (LONG, [str(number) for number in range(900, 930)]),
        (LONG[:5], ["777"]),
    ],
    ids=["all alike", "none", "no digits", "a longer one", "short ones with zeros", "many lengths", "too few"],
)
def test_otherwise_nothing_is_said(blocks: tuple[list[str], ...]) -> None:
    assert counted(*blocks).warning() is None


@given(st.lists(st.lists(st.text(alphabet="0123A", max_size=70), max_size=30), max_size=4))
def test_how_the_blocks_are_cut_changes_nothing(blocks: list[list[str]]) -> None:
    assert counted(*blocks).warning() == counted([serial for block in blocks for serial in block]).warning()
