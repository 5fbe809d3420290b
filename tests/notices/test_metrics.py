"""The file for Prometheus: names, values, and what stays from the file before."""

import os
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.notices.ending import Ending
from telemetron_batch.notices.metrics import HELP, MeasuredEnd, write_metrics

FIELDS = {
    "stop": None,
    "attempts": 14,
    "refusals": 3,
    "rateReached": 1.9,
    "seconds": 60.5,
    "counts": {"assigned": 10, "failed": 2},
}


def values(file: Path) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(file.read_text())
    return {
        (sample.name.removeprefix("telemetron_batch_"), *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def write(file: Path, exit_code: int, at: float, profile: str = "night", **more: object) -> None:
    ending = Ending(exit_code=exit_code, fields=more.pop("fields", None))  # type: ignore[arg-type]
    assert write_metrics(file, MeasuredEnd(ending, profile, at, 0.5)) is None


def test_the_names_are_those_that_dashboards_know() -> None:
    names = ["last_run_timestamp_seconds", "last_success_timestamp_seconds", "exit_code", "rows"]
    names += ["attempts", "refusals", "rate_reached", "run_seconds"]
    assert [*HELP] == [f"telemetron_batch_{name}" for name in names]


def test_a_finished_run_writes_its_numbers(tmp_path: Path) -> None:
    file = tmp_path / "t.prom"
    write(file, 1, 1000.0, fields=FIELDS)
    found = values(file)
    assert found["last_run_timestamp_seconds", "night"] == found["last_success_timestamp_seconds", "night"] == 1000
    assert (found["exit_code", "night"], found["attempts", "night"], found["refusals", "night"]) == (1, 14, 3)
    assert (found["rate_reached", "night"], found["run_seconds", "night"]) == (1.9, 60.5)
    rows = {key[1:]: value for key, value in found.items() if key[0] == "rows"}
    assert len(rows) == len(Outcome)
    assert (rows["assigned", "night"], rows["failed", "night"], rows["held", "night"]) == (10, 2, 0)


@pytest.mark.parametrize("exit_code", [2, 3, 4, 5, 7])
def test_the_last_success_stays_after_a_failure(exit_code: int, tmp_path: Path) -> None:
    file = tmp_path / "t.prom"
    write(file, 0, 1_796_094_344.826, fields=FIELDS)
    write(file, exit_code, 1_796_180_744.0)
    found = values(file)
    assert found["last_success_timestamp_seconds", "night"] == 1_796_094_344.826
    assert found["last_run_timestamp_seconds", "night"] == 1_796_180_744.0
    assert (found["exit_code", "night"], found["rows", "assigned", "night"]) == (exit_code, 0)


def test_without_any_success_the_last_one_is_at_zero(tmp_path: Path) -> None:
    write(tmp_path / "t.prom", 2, 1000.0)
    assert values(tmp_path / "t.prom")["last_success_timestamp_seconds", "night"] == 0


def test_other_profiles_in_the_file_keep_their_values(tmp_path: Path) -> None:
    file = tmp_path / "t.prom"
    write(file, 0, 1000.0, profile="night", fields=FIELDS)
    write(file, 3, 2000.0, profile='we"ek\\ly\n')
    found = values(file)
    assert found["exit_code", "night"] == 0
    assert found["rows", "assigned", "night"] == 10
    assert found["exit_code", 'we"ek\\ly\n'] == 3


@pytest.mark.parametrize("content", [b"\xff\xfe garbage", b"not { prometheus", b"", b"other_metric 5\n"])
def test_a_file_that_is_none_of_ours_is_written_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.prom").write_bytes(content)
    write(tmp_path / "t.prom", 0, 1000.0)
    assert {key[0] for key in values(tmp_path / "t.prom")} == {name.removeprefix("telemetron_batch_") for name in HELP}


def test_everybody_may_read_the_file_and_nothing_else_is_left(tmp_path: Path) -> None:
    write(tmp_path / "t.prom", 0, 1000.0)
    assert stat.S_IMODE((tmp_path / "t.prom").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["t.prom"]


def test_a_file_that_cannot_be_written_is_a_problem_in_words(tmp_path: Path) -> None:
    end = MeasuredEnd(Ending(exit_code=0), "", 1.0, 1.0)
    assert write_metrics(tmp_path / "missing" / "t.prom", end) == "cannot be written (No such file or directory)"
    (tmp_path / "folder.prom").mkdir()
    assert write_metrics(tmp_path / "folder.prom", end) == "cannot be written (it is there and is no regular file)"
    assert [path.name for path in tmp_path.iterdir()] == ["folder.prom"]


def test_a_device_a_pipe_or_a_link_at_the_path_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "link", tmp_path / "pipe", Path(os.devnull)):
        before = path.lstat()
        assert write_metrics(path, MeasuredEnd(Ending(exit_code=0), "", 1.0, 1.0)) is not None
        assert os.path.samestat(path.lstat(), before)
