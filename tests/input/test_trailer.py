"""Which lines are trailers; `test_load` tests how they are read."""

import pytest

from telemetron_batch.input.trailer import is_trailer


@pytest.mark.parametrize(
    "cells", [["Total", "2", ""], ["", "TOTAL:", "", "", "10,700.74"], ["T1", "63"], ["F", "12"], ["eof"]]
)
def test_a_closing_line_is_a_trailer(cells: list[str]) -> None:
    assert is_trailer(cells)


@pytest.mark.parametrize("cells", [["a@b.cc", "S1", "assign"], ["", ""], ["Total", "S1"], ["63", "T1"]])
def test_another_line_is_no_trailer(cells: list[str]) -> None:
    assert not is_trailer(cells)
