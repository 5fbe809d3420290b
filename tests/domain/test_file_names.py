"""Names that a folder cannot have on Windows."""

import sys

import pytest

from telemetron_batch.config.option_values import parse_run_id
from telemetron_batch.domain.file_names import is_reserved


@pytest.mark.parametrize(
    "name", ["con", "NUL", "Aux", "prn", "com1", "LPT9", "com¹", "con.csv", "nul.2026-05-31", "night."]
)
def test_devices_and_names_that_end_with_a_full_stop_are_reserved(name: str) -> None:
    assert is_reserved(name)


@pytest.mark.parametrize("name", ["console", "com10", "nulls", "night", "lpt", "night.csv", "my-con"])
def test_names_that_only_look_like_them_are_not(name: str) -> None:
    assert not is_reserved(name)


@pytest.mark.parametrize("name", ["con", "nul.csv", "night."])
def test_a_run_cannot_have_them_on_any_system(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a folder on Windows"):
        parse_run_id(name)


def test_a_run_has_a_colon_in_its_name_on_posix_only(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "scheduled__2026-05-31T02:00:00+00:00"  # as Airflow names its runs
    assert parse_run_id(name) == name
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ValueError, match="has a colon, which no name has on Windows"):
        parse_run_id(name)
