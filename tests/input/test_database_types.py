"""Texts of types that are no texts are marked, and marked texts are no keys."""

from pathlib import Path

import pytest

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.database_types import mysql_type_name, typed_text, with_types
from telemetron_batch.input.row_snapshot import value_text, write_snapshot


def test_a_marked_text_is_refused_as_a_key_with_row_column_and_type(tmp_path: Path) -> None:
    rows = with_types([("a@b.cc", None), ("a@b.cc", "12.5")], {1: typed_text("jsonb")})
    with pytest.raises(InputError, match=r'row 2 has 12.5 \(jsonb\) in "serial"'):
        write_snapshot(["email", "serial"], [rows], tmp_path / "q", InputOptions(action=Action.ASSIGN))
    assert list(tmp_path.iterdir()) == []


def test_only_texts_are_marked_and_they_stay_the_same() -> None:
    ((first, second, third),) = with_types([("a", "b", 3)], {1: typed_text("xml"), 2: typed_text("money")})
    assert (type(first), type(second).__name__, type(third)) == (str, "xml", int)
    assert [value_text(one) for one in (first, second, third)] == ["a", "b", "3"]


def test_json_and_dates_of_mysql_are_no_texts() -> None:
    assert [mysql_type_name(code) for code in (245, 10, 253, 254, 3, None)] == ["json", "date", None, None, None, None]
