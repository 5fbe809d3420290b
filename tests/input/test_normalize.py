"""What normalizing removes from cells; `test_validation` tests what it means for key cells."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetron_batch.input.normalize import (
    FORMULA,
    FORMULA_BYTES,
    guard_apostrophes,
    guarded,
    is_blank,
    normalize,
    normalize_fast,
    unguarded,
)

AROUND = st.text(alphabet="aÉ=@-'\" \u00a0\u200b\0\t", max_size=12)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_normalizing_twice_changes_only_wrapped_cells(texts: list[str]) -> None:
    plain = pa.array([text for text in texts if not text.strip().startswith(("=", "'"))], pa.string())
    once = normalize(plain)
    again = pa.array([text for text in once.to_pylist() if not text.startswith(("=", "'"))], pa.string())
    assert normalize(again).equals(again)


@given(st.lists(AROUND, max_size=8))
@example(["plain", " padded ", "\u200bÉ ", '="00""12"', "'=1", "'\t x", "' x"])
def test_normalize_fast_gives_the_result_of_normalize(texts: list[str]) -> None:
    cells = pa.array(texts, pa.string())
    quick, _ = normalize_fast(cells)
    assert quick.equals(normalize(cells))


HOSTILE = st.text(alphabet="aÉ15=@-+'\" \u00a0\u200b\0\t\n\v\uff1d\uff20", max_size=12) | st.text(max_size=6)


@given(st.lists(HOSTILE, max_size=8))
@example(["'=x", "''=x", '="\'-SN2"', "-5", "'-5", " =x", "\u200b=x", "\uff1dx", "\0x", "'", "''5", "'-5'", "' x"])
def test_unguarded_reverses_guarded(texts: list[str]) -> None:
    cells = pa.array(texts, pa.string())
    assert unguarded(guarded(cells)).equals(cells)


@given(st.lists(HOSTILE, max_size=8))
@example(["'=x", "''=x", '="\'-SN2"', "-5", "'-5", "=x'", "\uff1dx", "\0x", "''5", "'-5'", '="=""x"""'])
def test_a_normalized_value_survives_writing_with_a_guard(texts: list[str]) -> None:
    read = normalize(pa.array(texts, pa.string()))
    assert normalize(guarded(read)).equals(read)


@pytest.mark.parametrize("white", ["", " ", "\u00a0", "\v", "\u200b", "\ufeff"])
@pytest.mark.parametrize("sign", [*"=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20"])
def test_every_text_that_a_spreadsheet_may_run_is_guarded(white: str, sign: str) -> None:
    cell = f"{white}{sign}x"
    assert guarded(pa.array([cell]))[0].as_py() == f"'{cell}"
    assert cell.encode()[0] in FORMULA_BYTES


def test_no_cell_that_is_guarded_begins_with_another_byte() -> None:
    signs = [*map(chr, (*range(0xD800), *range(0xE000, 0x110000)))]
    cells = pa.array([f"{sign}=" for sign in signs])
    runs = pc.match_substring_regex(cells, FORMULA).to_pylist()
    first = {sign.encode()[0] for sign, one in zip(signs, runs, strict=True) if one}
    assert {*b"' +\xc2\xd8\xe2\xf3"} <= first <= {*FORMULA_BYTES}


@given(st.lists(HOSTILE, max_size=8))
@example(["=x", "'=x", "''=x", "-5", "'-5", "''", "'x", "' \u200b@"])
def test_escaped_leaves_formulas_and_unguarded_reverses_it(texts: list[str]) -> None:
    cells = pa.array(texts, pa.string())
    assert unguarded(guard_apostrophes(cells)).equals(cells)
    plain = pa.array([text for text in texts if not text.startswith("'")], pa.string())
    assert guard_apostrophes(plain).equals(plain)


@pytest.mark.parametrize("pairs", [1, 99, 101, 127, 250])
def test_a_short_cell_is_unwrapped_to_its_end(pairs: int) -> None:
    cell = "'" * pairs + "x" + "'" * pairs
    assert normalize(pa.array([cell])).to_pylist() == ["x"]


@pytest.mark.parametrize(
    ("cell", "blank"), [("", True), (" \t\u00a0\ufeff", True), ("\0", False), ("'", False), (" x", False)]
)
def test_a_cell_is_blank_if_normalizing_leaves_nothing(cell: str, blank: bool) -> None:
    assert is_blank(cell) is blank
    assert (normalize(pa.array([cell]))[0].as_py() == "") is blank
