"""Dates among other serials, lost leading zeros, and rounded numbers."""

from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.input.serials import (
    EndingInZeros,
    LeadingZeroCheck,
    RoundedSerialDetector,
    SerialStatistics,
    damage_kind,
)

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
    flags = SerialStatistics(pa.array([*others, *serials])).unexpected_dates(pa.array(serials))
    return [serial for serial, flag in zip(serials, flags, strict=True) if flag]


@pytest.mark.parametrize("date", DATES)
def test_a_date_among_other_serials_is_unexpected(date: str) -> None:
    assert strange([date], ["SN-00012"]) == [date]
    assert strange([date], ["490154203237518", "490154203237519"]) == [date]


@pytest.mark.parametrize("date", DATES)
def test_a_date_among_dates_is_a_serial(date: str) -> None:
    assert strange([date], [date]) == []


@pytest.mark.parametrize(
    "serial",
    ["45.13.2025", "12.03.1025", "2025-13-01", "Foo-12", "12-Foo", "1.2.3", "12.03.2025x", "Mar-1234567", "SN-12", ""],
)
def test_a_serial_that_is_no_date_is_not_unexpected(serial: str) -> None:
    assert strange([serial], ["SN-00012"]) == []


def test_a_date_is_expected_if_serials_that_are_no_dates_have_its_shape() -> None:
    assert strange(["DEC-05"], ["ABC-01", "XYZ-99", "123456"]) == []
    assert strange(["12.03.2025"], ["99.99.1234", "45.77.0001"]) == []
    assert strange(["Dec-05"], ["ABC-01", "XYZ-99", "123456"]) == ["Dec-05"]


def test_a_few_dates_are_unexpected_together() -> None:
    assert strange(["12.03.2025", "13.03.2025"], ["SN-1", "SN-2"]) == ["12.03.2025", "13.03.2025"]


def test_the_only_serial_of_a_file_is_not_unexpected() -> None:
    assert strange(["12.03.2025"], [""]) == []


def test_the_example_has_the_most_frequent_shape_and_is_undamaged() -> None:
    assert SerialStatistics(pa.array(["X1Y", "", "SN-1", "SN-02", "Mar-12", "1.2E+5"])).example == "SN-1"
    assert SerialStatistics(pa.array(["", "#N/A"])).example == ""
    assert SerialStatistics(pa.array([], pa.string())).example == ""


@pytest.mark.parametrize(
    ("serial", "kind"),
    [
        ("1.2E+5", "exponent"),
        ("4901542032300000", "digits replaced by zeros"),
        ("#REF!", "error value"),
        ("x", "date"),
        ("1.0", "decimal point of a number column"),
    ],
)
def test_each_damage_has_a_name(serial: str, kind: str) -> None:
    assert damage_kind(serial) == kind


def counted(*blocks: list[str]) -> LeadingZeroCheck:
    zeros, line = LeadingZeroCheck(), 2
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
def test_otherwise_there_is_no_warning(blocks: tuple[list[str], ...]) -> None:
    assert counted(*blocks).warning() is None


@given(st.lists(st.lists(st.text(alphabet="0123A", max_size=70), max_size=30), max_size=4))
def test_the_size_of_blocks_makes_no_difference(blocks: list[list[str]]) -> None:
    assert counted(*blocks).warning() == counted([serial for block in blocks for serial in block]).warning()


def numbers(random: Random, length: int, count: int) -> list[str]:
    return [str(random.randrange(10 ** (length - 1), 10**length)) for _ in range(count)]


def as_excel_leaves(serial: str) -> str:
    return serial[:15] + "0" * (len(serial) - 15)


def rounded(serials: list[str]) -> list[str]:
    flags = RoundedSerialDetector.of(pa.array(serials)).rounded(pa.array(serials))
    return [serial for serial, flag in zip(serials, flags, strict=True) if flag]


@pytest.mark.parametrize("length", range(16, 23))
def test_ten_serials_that_a_spreadsheet_has_rounded_are_all_caught(length: int) -> None:
    random = Random(length)
    for _ in range(200):
        damaged = [*map(as_excel_leaves, numbers(random, length, 10))]
        assert rounded(damaged) == damaged


@pytest.mark.parametrize("length", range(16, 23))
@pytest.mark.parametrize("count", [1, 10, 1_000])
def test_at_most_one_honest_list_in_a_thousand_counts_as_rounded(length: int, count: int) -> None:
    random = Random(count * length)
    amount = 20_000 if count == 1 else 4_000 if count == 10 else 100
    lists = (numbers(random, length, count) for _ in range(amount))
    # Only such a serial can count as rounded, and the rule takes long to ask.
    suspect = (serials for serials in lists if any(as_excel_leaves(serial) == serial for serial in serials))
    alarms = sum(bool(rounded(serials)) for serials in suspect)
    assert alarms <= amount / 1_000 + 3 * (amount / 1_000) ** 0.5


@pytest.mark.parametrize(("count", "others", "caught"), [(1, 0, True), (1, 9, True), (1, 10, False), (2, 400, True)])
def test_few_serials_ending_in_zeros_among_many_may_be_chance(count: int, others: int, caught: bool) -> None:
    ending = [f"8944500102198{number:02d}0000" for number in range(10, 10 + count)]  # one in 10,000 ends so
    serials = [*ending, *(f"89445001021983{number:05d}" for number in range(10_001, 10_001 + others))]
    assert rounded(serials) == (ending if caught else [])


def test_each_length_is_judged_by_itself() -> None:
    damaged = [as_excel_leaves(number) for number in numbers(Random(1), 19, 3)]
    honest = [f"{number:016d}" for number in range(1_000_000_000_000_000, 1_000_000_000_001_000)]
    assert rounded([*damaged, *honest]) == damaged


@pytest.mark.parametrize("serial", ["000000000000100000", "123456789012345", "SN-8944500102198310000", "0" * 20])
def test_padded_and_short_numbers_and_texts_never_count_as_rounded(serial: str) -> None:
    assert rounded([serial] * 10) == []


def test_the_first_reading_refuses_none_and_the_second_counts_none() -> None:
    serials = pa.array(["8944500102198310000", "8944500102198320000"])
    first = RoundedSerialDetector()
    first.count(pa.array(["SN-1", "8944500102198310001"]))
    assert first.rounded_lengths() == frozenset()
    first.count(serials)
    assert not first.rounded(serials).any()
    assert first.rounded_lengths() == {19}
    second = RoundedSerialDetector({19})
    second.count(serials)
    assert second.rounded(serials).all()
    assert second.rounded_lengths() == frozenset()


def test_serials_explained_by_chance_are_counted_with_their_first_line() -> None:
    ending = EndingInZeros()
    assert ending.warning() is None
    serials = pa.array(["1234567890123450", "1234567890123451", "SN-1", "1234567890123460", "0000000000000000"])
    ending.add(serials, np.arange(2, 7), np.array([False, True, True, True, True]))
    ending.add(serials, np.arange(7, 12), np.ones(5, np.bool_))
    warning = ending.warning()
    assert warning is not None
    assert warning.startswith("3 serials of more than 15 digits end in zeros from the 16th digit on (first on line 5)")
