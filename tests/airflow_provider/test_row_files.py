"""Rows of a database or a DataFrame as a file."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from telemetron_batch.airflow_provider.row_files import frame_rows, value_text, write_rows
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions

NAMES = ["customerEmail", "deviceIdentifier", "action"]


def test_rows_of_all_batches_are_written_as_texts(tmp_path: Path) -> None:
    batches = [[("a@x.com", 12, "assign"), ("b@x.com", "0012", "assign")], [("c@x.com", Decimal("7"), None)]]
    target = tmp_path / "rows.csv"
    assert write_rows(NAMES, batches, target, InputOptions()) == 3
    assert target.read_text().splitlines() == [
        '"customerEmail","deviceIdentifier","action"',
        '"a@x.com","12","assign"',
        '"b@x.com","0012","assign"',
        '"c@x.com","7",""',
    ]


@pytest.mark.parametrize("value", [12.0, True, Decimal("1.5"), date(2026, 1, 1), b"x"])
def test_a_key_that_may_not_be_exact_is_refused(tmp_path: Path, value: Any) -> None:
    rows = [("a@x.com", "SN-1", "assign"), ("a@x.com", value, "assign")]
    with pytest.raises(InputError, match=r'row 2 has .* in "deviceIdentifier"'):
        write_rows(NAMES, [rows], tmp_path / "rows.csv", InputOptions())


def test_another_column_may_hold_anything(tmp_path: Path) -> None:
    row = ("a@x.com", "SN-1", "assign", 1.5, None)
    assert write_rows([*NAMES, "price", "note"], [[row]], tmp_path / "rows.csv", InputOptions()) == 1
    assert (tmp_path / "rows.csv").read_text().endswith('"1.5",""\n')


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="deviceIdentifier"):
        write_rows(["customerEmail", "action"], [], tmp_path / "rows.csv", InputOptions())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0012", "0012"),
        (None, ""),
        (float("nan"), ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        (True, "true"),
        (10**20, "100000000000000000000"),
        (2.0, "2"),
        (0.1, "0.1"),
        (Decimal("1E+3"), "1000"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02 03:00:00+00:00"),
        (b"\x00\xff", "\\x00ff"),
    ],
)
def test_every_value_has_one_text(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_a_frame_gives_its_columns_and_rows() -> None:
    frame = pd.DataFrame({"customerEmail": ["a@x.com"] * 3, "deviceIdentifier": ["1", None, "3"]})
    names, batches = frame_rows(frame)
    assert names == ["customerEmail", "deviceIdentifier"]
    assert [[value_text(one) for one in row] for rows in batches for row in rows] == [
        ["a@x.com", "1"],
        ["a@x.com", ""],
        ["a@x.com", "3"],
    ]


def test_what_has_no_rows_is_refused() -> None:
    with pytest.raises(InputError, match="the function returned dict, which has no rows"):
        frame_rows({"a": 1})
