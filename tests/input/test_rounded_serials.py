"""Serials that a spreadsheet has rounded, by thousands of random lists: all are caught, and honest ones let through.

The bulk asks the rule itself; some lists of each kind go through files.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from telemetron_batch.domain.model import InputOptions, Problem
from telemetron_batch.input.load import load
from telemetron_batch.input.number_formats import GENERAL, CellKind, format_number
from telemetron_batch.input.serials import RoundedSerialDetector
from telemetron_batch.rows.rows import RowBlock
from tests.support.sheets import book, device

# ruff: noqa: T201 - how often chance strikes is worth a look

LENGTHS = range(16, 23)
TEN = 10
DAMAGED_LISTS = 4_000
HONEST_LISTS = {1: 20_000, 10: 20_000, 1_000: 10_000, 100_000: 250}
LISTS_IN_FILES = 50
HEADER = "customerEmail,deviceIdentifier,action\n"


def numbers(random: np.random.Generator, length: int, count: int) -> pa.Array:
    """Return numbers of this length without leading zeros."""
    first = pa.array(random.integers(10**14, 10**15, count)).cast(pa.string())
    last = pa.array(random.integers(0, 10 ** (length - 15), count)).cast(pa.string())
    return pc.binary_join_element_wise(first, pc.utf8_lpad(last, length - 15, "0"), "")


def consecutive(random: np.random.Generator, length: int, count: int) -> pa.Array:
    """Return consecutive numbers."""
    first = int(numbers(random, length, 1)[0].as_py())
    return pa.array([str(min(first, 10**length - count) + at) for at in range(count)])


def as_excel_leaves(serials: pa.Array, length: int) -> pa.Array:
    return pc.utf8_rpad(pc.utf8_slice_codeunits(serials, 0, 15), length, "0")


def lists_of(serials: pa.Array, size: int) -> Iterator[pa.Array]:
    for first in range(0, len(serials), size):
        yield serials.slice(first, size)


def rounded(serials: pa.Array) -> int:
    """Return how many serials of a file count as rounded."""
    return int(np.count_nonzero(RoundedSerialDetector.of(serials).rounded(serials)))


def ends_in_zeros(serials: pa.Array) -> bool:
    """Return whether a serial ends in zeros from the 16th digit on, as without one none of the list is refused."""
    return bool(pc.any(pc.match_substring_regex(serials, "^[0-9]{15}0+$")).as_py())


def alarms(lists: Iterator[pa.Array]) -> int:
    """Return how many lists have a serial that counts as rounded. Asks the rule only where it can say so."""
    return sum(ends_in_zeros(serials) and bool(rounded(serials)) for serials in lists)


def most_by_chance(lists: int) -> float:
    """Return a number of alarms that a rate of one in a thousand hardly ever exceeds."""
    return lists / 1_000 + 3.5 * (lists / 1_000) ** 0.5


def problems_of(path: Path) -> list[tuple[str, int]]:
    """Return the serial and problem of each row."""
    blocks: list[RowBlock] = []
    load([str(path)], InputOptions(), spool=path.parent, sink=blocks)
    keys = [block.keys for block in blocks]
    return [(row["deviceIdentifier"], row["problem"]) for block in keys for row in block.to_pylist()]


def as_csv(folder: Path, serials: list[str]) -> Path:
    path = folder / "list.csv"
    path.write_text(HEADER + "".join(f"a@b.cc,{serial},assign\n" for serial in serials))
    return path


def as_texts(folder: Path, serials: list[str]) -> Path:
    cells = (f'<c t="inlineStr"><is><t>{serial}</t></is></c>' for serial in serials)
    return book(folder / "list.xlsx", *(device(line, cell) for line, cell in enumerate(cells, start=2)))


def as_numbers(folder: Path, serials: list[str]) -> Path:
    """Write a workbook with values as a spreadsheet stores them: 17 digits at most."""
    cells = (f"<c><v>{float(serial):.17G}</v></c>" for serial in serials)
    return book(folder / "list.xlsx", *(device(line, cell) for line, cell in enumerate(cells, start=2)))


def all_are_invalid(folder: Path, serials: list[str]) -> bool:
    in_csv, in_texts = (problems_of(put(folder, serials)) for put in (as_csv, as_texts))
    in_numbers = [problem for _, problem in problems_of(as_numbers(folder, serials))]
    return in_csv == in_texts == [(serial, Problem.DAMAGED) for serial in serials] and (
        in_numbers == [Problem.LONG_NUMBER] * len(serials)
    )


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS)
def test_lists_of_ten_that_a_spreadsheet_has_rounded_are_all_caught(length: int) -> None:
    honest = numbers(np.random.default_rng(length), length, TEN * DAMAGED_LISTS)
    damaged = as_excel_leaves(honest, length)
    assert [rounded(serials) for serials in lists_of(damaged, TEN)] == [TEN] * DAMAGED_LISTS
    stored = [f"{float(serial):.17G}" for serial in honest.to_pylist()]
    kinds = {format_number(value, GENERAL)[1] for value in stored}
    assert kinds == {CellKind.LONG_NUMBER}


@pytest.mark.parametrize("length", LENGTHS)
def test_a_list_without_a_serial_that_ends_in_zeros_is_never_refused(length: int) -> None:
    random = np.random.default_rng(3 * length)
    lists = [serials for size in (1, 10, 100) for serials in lists_of(numbers(random, length, size * 200), size)]
    assert not any(rounded(serials) for serials in lists if not ends_in_zeros(serials))


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("size", "lists"), HONEST_LISTS.items())
def test_at_most_one_honest_list_in_a_thousand_is_refused(length: int, size: int, lists: int) -> None:
    random = np.random.default_rng(size + length)
    refused = alarms(numbers(random, length, size) for _ in range(lists))
    print(f"{refused} of {lists:,} honest lists of {size:,} serials of {length} digits refused")
    assert refused <= most_by_chance(lists)


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("size", "lists"), [(10, 20_000), (1_000, 2_000)])
def test_at_most_one_list_of_consecutive_serials_in_a_thousand_is_refused(length: int, size: int, lists: int) -> None:
    random = np.random.default_rng(size * length)
    refused = alarms(consecutive(random, length, size) for _ in range(lists))
    print(f"{refused} of {lists:,} lists of {size:,} consecutive serials of {length} digits refused")
    assert refused <= most_by_chance(lists)


@pytest.mark.parametrize(
    "lists", [pytest.param(1, id="one"), pytest.param(LISTS_IN_FILES, marks=pytest.mark.slow, id="many")]
)
@pytest.mark.parametrize("length", LENGTHS)
def test_rounded_serials_are_invalid_in_files_of_each_form(tmp_path: Path, length: int, lists: int) -> None:
    honest = numbers(np.random.default_rng(7 * length), length, TEN * lists)
    for serials in lists_of(as_excel_leaves(honest, length), TEN):
        assert all_are_invalid(tmp_path, serials.to_pylist())


@pytest.mark.parametrize(
    "lists", [pytest.param(1, id="one"), pytest.param(LISTS_IN_FILES, marks=pytest.mark.slow, id="many")]
)
@pytest.mark.parametrize("length", LENGTHS)
def test_honest_serials_are_valid_as_text_in_files_of_each_form(tmp_path: Path, length: int, lists: int) -> None:
    honest = numbers(np.random.default_rng(9 * length), length, TEN * lists)
    refused = 0
    for serials in lists_of(honest, TEN):
        valid = [(serial, Problem.NONE) for serial in serials.to_pylist()]
        refused += problems_of(as_csv(tmp_path, serials.to_pylist())) != valid
        refused += problems_of(as_texts(tmp_path, serials.to_pylist())) != valid
    assert refused <= (2 if lists > 1 else 0)  # one list, which is in two files


@pytest.mark.parametrize("put", [as_csv, as_texts])
def test_serials_with_leading_zeros_never_count_as_rounded(
    tmp_path: Path, put: Callable[[Path, list[str]], Path]
) -> None:
    padded = [f"{100_000 * number:0{length}d}" for length in LENGTHS for number in range(1, 11)]
    assert "000000000000100000" in padded
    assert problems_of(put(tmp_path, padded)) == [(serial, Problem.NONE) for serial in padded]


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS)
def test_serials_with_leading_zeros_never_count_as_rounded_in_random_lists(length: int) -> None:
    random = np.random.default_rng(11 * length)
    digits = random.integers(1, 16, TEN * DAMAGED_LISTS)
    values = random.integers(10 ** (digits - 1), 10**digits)
    values -= values % 10 ** (digits // 2)
    padded = pc.utf8_lpad(pa.array(values).cast(pa.string()), length, "0")
    damaged = as_excel_leaves(numbers(random, length, TEN), length)
    for serials in lists_of(padded, TEN):
        assert rounded(serials) == 0
        assert rounded(pa.concat_arrays([serials, damaged])) == TEN
