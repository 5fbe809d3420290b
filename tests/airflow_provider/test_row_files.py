"""Rows of a database or a DataFrame as a file."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from telemetron_batch.airflow_provider.row_files import frame_rows, write_rows
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions

NAMES = ["customerEmail", "deviceIdentifier", "action"]


def test_rows_of_all_batches_are_written_as_texts(tmp_path: Path) -> None:
    batches = [[("a@x.com", 12, "assign"), ("b@x.com", "0012", "assign")], [("c@x.com", Decimal(7), None)]]
    target = tmp_path / "rows.parquet"
    assert write_rows(NAMES, batches, target, InputOptions()) == 3
    assert pq.read_table(target)["deviceIdentifier"].to_pylist() == ["12", "0012", "7"]


@pytest.mark.parametrize("value", [12.0, True, Decimal("1.5"), date(2026, 1, 1), b"x"])
def test_a_key_that_may_not_be_exact_is_refused(tmp_path: Path, value: Any) -> None:
    rows = [("a@x.com", "SN-1", "assign"), ("a@x.com", value, "assign")]
    with pytest.raises(InputError, match=r'row 2 has .* in "deviceIdentifier"'):
        write_rows(NAMES, [rows], tmp_path / "rows.parquet", InputOptions())
    assert not (tmp_path / "rows.parquet").exists()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="deviceIdentifier"):
        write_rows(["customerEmail", "action"], [], tmp_path / "rows.parquet", InputOptions())


def test_a_frame_gives_its_columns_and_rows_without_the_types_of_its_library() -> None:
    frame = pd.DataFrame({"a": ["x", None, "0012"], "b": [1, 2, 3], "c": [1.5, float("nan"), 2.0]})
    frame["d"] = pd.array([1, None, 3], dtype="Int64")
    frame["e"] = pd.to_datetime(["2026-01-01", None, None])
    names, batches = frame_rows(frame)
    rows = [row for batch in batches for row in batch]
    assert names == ["a", "b", "c", "d", "e"]
    assert [row[:4] for row in rows] == [("x", 1, 1.5, 1), (None, 2, None, None), ("0012", 3, 2.0, 3)]
    assert [row[4] is None for row in rows] == [False, True, True]
    assert {type(value).__module__.partition(".")[0] for row in rows for value in row[:4]} == {"builtins"}


def test_what_has_no_rows_is_refused() -> None:
    with pytest.raises(InputError, match="the function returned dict, which has no rows"):
        frame_rows({"a": 1})
