"""Rows of a cursor become a file of exact texts, which is there as a whole or not at all."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import InputError, SourceError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input import row_snapshot
from telemetron_batch.input.row_snapshot import value_text, write_snapshot

NAMES = ["email", "serial", "other"]
OPTIONS = InputOptions(action=Action.ASSIGN)


def write(folder: Path, *rows: Any, options: InputOptions = OPTIONS) -> list[dict[str, str]]:
    target = folder / "query.parquet"
    assert write_snapshot(NAMES, [rows], target, options) == len(rows)
    return pq.read_table(target).to_pylist()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", ""),
        (" 0012 ", " 0012 "),
        (12345678901234567890, "12345678901234567890"),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        (1e22, "1e+22"),
        (2.0, "2"),
        (Decimal("12.50"), "12.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.0000000001"), "0.0000000001"),
        (Decimal("NaN"), "NaN"),
        (date(2026, 5, 31), "2026-05-31"),
        (time(2, 0), "02:00:00"),
        (datetime(2026, 5, 31, 2, 0, 0, 5), "2026-05-31 02:00:00.000005"),
        (datetime(2026, 5, 31, 2, tzinfo=UTC), "2026-05-31 02:00:00+00:00"),
        (timedelta(days=1, hours=2), "1 day, 2:00:00"),
        (b"\x00\xff", "\\x00ff"),
        (memoryview(b"ab"), "\\x6162"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (["a", None, 1], '["a",null,1]'),
        ({"a": Decimal("1.50"), "ä": [True]}, '{"a":"1.50","ä":[true]}'),
    ],
)
def test_a_value_becomes_exactly_one_text(tmp_path: Path, value: object, text: str) -> None:
    assert value_text(value) == text
    assert write(tmp_path, ("a@b.cc", "S1", value)) == [{"email": "a@b.cc", "serial": "S1", "other": text}]


@pytest.mark.parametrize("key", ["0012", 12, 12345678901234567890, Decimal(12), UUID(int=7), None])
def test_texts_and_whole_numbers_are_keys(tmp_path: Path, key: object) -> None:
    assert write(tmp_path, ("a@b.cc", key, None))[0]["serial"] == value_text(key)


@pytest.mark.parametrize(
    "key",
    [1.0, 12345678901234567.0, float("nan"), True, Decimal("12.0"), Decimal("NaN"), date(2026, 5, 31), b"S1", ["S1"]],
)
def test_any_other_key_ends_the_reading_and_leaves_no_file(tmp_path: Path, key: object) -> None:
    with pytest.raises(InputError, match=r'row 2 has .* in "serial", and texts or whole numbers are expected; cast it'):
        write(tmp_path, ("a@b.cc", "S1", None), ("a@b.cc", key, None))
    assert list(tmp_path.iterdir()) == []


def test_floats_in_other_columns_do_no_harm(tmp_path: Path) -> None:
    assert write(tmp_path, ("a@b.cc", "S1", 0.1))[0]["other"] == "0.1"


def test_missing_and_doubtful_columns_are_refused_before_a_row_is_read(tmp_path: Path) -> None:
    def rows() -> Iterator[list[Any]]:
        raise AssertionError("a row was asked for")
        yield []

    for names in (["email", "x"], ["email", "serial", "serial no"], []):
        with pytest.raises(InputError, match="name the columns in the query"):
            write_snapshot(names, rows(), tmp_path / "q", OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[list[Any]]:
        yield [("a@b.cc", "S1", None)]
        raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(SourceError, match=r"ended early .*; nothing was sent") as stopped:
        write_snapshot(NAMES, rows(), tmp_path / "q", OPTIONS)
    assert stopped.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_the_same_rows_give_the_same_file_however_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_snapshot, "_GROUP_ROWS", 7)
    rows = [("a@b.cc", f"S{number}", None) for number in range(100)]
    for size in (1, 7, 10, 100):
        batches = (rows[at : at + size] for at in range(0, len(rows), size))
        assert write_snapshot(NAMES, batches, tmp_path / str(size), OPTIONS) == 100
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert pq.ParquetFile(tmp_path / "1").metadata.num_row_groups == 15


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write(tmp_path, ("a@b.cc", "S1", None))
    assert (tmp_path / "query.parquet").stat().st_mode & 0o777 == 0o600


def test_half_a_character_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='row 2 has text in "other" that is not Unicode'):
        write(tmp_path, ("a@b.cc", "S1", None), ("a@b.cc", "S2", "\ud83d"))
