"""What trimming takes away; what becomes of a key cell that was written so is told with the judging of cells."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch.input.trimming import is_blank, lowered, normalised, trimmed

AROUND = st.text(alphabet="aÉ=@-'\" \u00a0\u200b\0\t", max_size=12)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_normalising_twice_changes_nothing_but_what_was_wrapped(texts: list[str]) -> None:
    plain = pa.array([text for text in texts if not text.strip().startswith(("=", "'"))], pa.string())
    once = normalised(plain)
    again = pa.array([text for text in once.to_pylist() if not text.startswith(("=", "'"))], pa.string())
    assert normalised(again).equals(again)


@given(st.lists(AROUND, max_size=8))
@example(["plain", " padded ", "\u200bÉ ", '="00""12"', "'=1", "'\t x", "' x"])
def test_the_quick_way_trims_as_the_long_one_does(texts: list[str]) -> None:
    cells = pa.array(texts, pa.string())
    quick, odd = trimmed(cells)
    assert quick.equals(normalised(cells))
    assert lowered(quick, odd).equals(pc.utf8_lower(quick))


@pytest.mark.parametrize(
    ("cell", "blank"), [("", True), (" \t\u00a0\ufeff", True), ("\0", False), ("'", False), (" x", False)]
)
def test_a_cell_is_blank_if_trimming_leaves_nothing(cell: str, blank: bool) -> None:
    assert is_blank(cell) is blank
    assert (normalised(pa.array([cell]))[0].as_py() == "") is blank
