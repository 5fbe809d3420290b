"""When files count as complete."""

import os
from pathlib import Path

from telemetron_batch.airflow_provider.settled_files import SettledFiles, missing_in, observe, seconds_since_change


def test_files_are_settled_once_they_have_looked_the_same_for_long_enough() -> None:
    settled = SettledFiles(60)
    assert not settled.are_settled({"a": (5, 1.0)}, 100)
    assert not settled.are_settled({"a": (5, 1.0)}, 159)
    assert settled.are_settled({"a": (5, 1.0)}, 160)


def test_a_change_of_any_file_begins_anew() -> None:
    settled = SettledFiles(60)
    assert not settled.are_settled({"a": (5, 1.0), "b": (5, 1.0)}, 0)
    assert not settled.are_settled({"a": (5, 1.0), "b": (6, 1.0)}, 59)
    assert not settled.are_settled({"a": (5, 1.0), "b": (6, 1.0)}, 60)
    assert settled.are_settled({"a": (5, 1.0), "b": (6, 1.0)}, 119)


def test_a_missing_file_is_never_settled() -> None:
    settled = SettledFiles(0)
    assert not settled.are_settled({"a": (5, 1.0), "b": None}, 0)
    assert not settled.are_settled({"a": (5, 1.0), "b": None}, 10_000)
    assert missing_in({"a": (5, 1.0), "b": None}) == "b"


def test_without_a_time_to_settle_a_file_need_only_exist() -> None:
    assert SettledFiles(0).are_settled({"a": (0, 1.0)}, 0)


def test_a_file_is_observed_by_path_or_url(tmp_path: Path) -> None:
    file = tmp_path / "a b.csv"
    file.write_text("abc")
    url, path, missing = file.as_uri(), str(file), str(file / "x")
    before = observe([url, path, missing])
    assert before[url] == before[path]
    assert missing_in(before) == missing
    os.utime(file, (7, 7))
    assert observe([path])[path] != before[path]


def test_the_last_change_of_all_files_counts(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b")]
    for at, file in enumerate(files):
        file.write_text("x")
        os.utime(file, (10 + 20 * at, 10 + 20 * at))
    assert seconds_since_change([str(file) for file in files], 100) == 70
    assert seconds_since_change([files[0].as_uri(), "s3://bucket/key"], 100) == 90
    assert seconds_since_change([str(tmp_path / "missing")], 100) == 0
