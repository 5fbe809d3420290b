"""What the journals of other runs tell: which content was processed, fast, whatever became of the other files."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import BrakeError
from telemetron_batch.domain.model import InputFile
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.run.history import RecordedRun, previous_run_of_same_content, recorded_runs
from tests.conftest import Desk, Ran
from tests.support.builders import file_of

A = "a@x.com"
ROWS = [(A, "SN-1", "assign"), (A, "SN-2", "assign")]
URL = "https://api.example.com/v1"


def recorded(folder: Path, run: str = "monday", **changed: Any) -> None:
    """Leave a journal as a finished run leaves it, but for what is changed."""
    inputs = [{"name": "rows.csv", "sha256": "hash of rows.csv", "header": ["a"], "written": 1.0}]
    facts = {"baseUrl": URL, "sandbox": False, "inputs": inputs, "endedAt": 1.0, "summary": {"state": "finished"}}
    (folder / run).mkdir()
    JournalDraft(folder / run / "journal.sqlite3").publish({**facts, **changed})


def found(folder: Path, *files: InputFile, url: str = URL) -> str | None:
    """The former run of these files among those of a folder."""
    warnings: list[str] = []
    runs = recorded_runs(folder, folder / "this", warnings.append)
    assert warnings == []
    return previous_run_of_same_content(files or (file_of(),), url, runs)


def hashes(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "sha256": f"hash of {name}", "header": ["a"]} for name in names]


def test_a_finished_run_of_the_same_content_is_found_whatever_the_file_is_called(tmp_path: Path) -> None:
    recorded(tmp_path, inputs=[{**hashes("rows.csv")[0], "name": "yesterday.csv"}])
    assert found(tmp_path) == "monday"


def test_the_spelling_of_the_base_url_does_not_matter(tmp_path: Path) -> None:
    recorded(tmp_path, baseUrl="https://API.example.com:443//v1/")
    assert found(tmp_path) == "monday"


@pytest.mark.parametrize(
    "changed",
    [
        {"summary": {"state": "stopped"}},
        {"summary": None},
        {"endedAt": None},
        {"sandbox": True},
        {"baseUrl": "https://staging.example.com/v1"},
        {"inputs": hashes("another")},
        {"inputs": hashes("rows.csv", "another")},
        {"inputs": []},
    ],
    ids=lambda changed: json.dumps(changed),
)
def test_a_run_that_differs_in_one_respect_is_no_former_run(tmp_path: Path, changed: dict[str, Any]) -> None:
    recorded(tmp_path, **changed)
    assert found(tmp_path) is None


def test_several_files_are_known_together(tmp_path: Path) -> None:
    recorded(tmp_path, inputs=hashes("a.csv", "b.csv"))
    assert found(tmp_path, file_of(name="a.csv"), file_of(name="b.csv")) == "monday"
    assert found(tmp_path, file_of(name="a.csv")) is None


def test_without_a_reports_folder_there_is_no_former_run(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") is None


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    recorded(tmp_path, "this")
    assert found(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"?", b"SQLite format 3\0" + b"\0" * 200])
def test_what_is_no_journal_is_told_and_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "journal.sqlite3").write_bytes(content)
    (tmp_path / "folder" / "journal.sqlite3").mkdir(parents=True)
    recorded(tmp_path)
    warnings: list[str] = []
    runs = recorded_runs(tmp_path, tmp_path / "this", warnings.append)
    assert [run.folder.name for run in runs] == ["monday"]
    assert [warning.split(": ")[0] for warning in warnings] == [
        "run folder is passed over",
        "run broken is not compared with this one",
    ]


def test_a_journal_in_which_another_process_writes_is_read_with_its_log(tmp_path: Path) -> None:
    recorded(tmp_path)
    journal = Journal(tmp_path / "monday" / "journal.sqlite3")
    journal.set_facts(endedAt=None)
    assert found(tmp_path) is None
    journal.set_facts(endedAt=2.0)
    assert found(tmp_path) == "monday"
    journal.close()


def processed(ran: Ran) -> Ran:
    """A run whose files but the journal are gone."""
    for path in ran.folder.iterdir():
        if path.name != "journal.sqlite3":
            path.unlink()
    return ran


def test_content_is_known_to_be_processed_when_only_the_journal_is_left(desk: Desk) -> None:
    processed(desk.run(ROWS))
    with pytest.raises(BrakeError, match=r"^run r1 has already processed exactly this content"):
        desk.run(ROWS, run_id="r2")
    assert desk.run(ROWS, run_id="r2", again=True).outcomes == ["alreadyAssigned"] * 2


def test_content_is_known_to_be_processed_under_another_spelling_of_the_api(desk: Desk) -> None:
    desk.run(ROWS)
    with pytest.raises(BrakeError, match=r"^run r1 has already processed"):
        desk.run(ROWS, run_id="r2", base_url="http://localhost:9/api/./ext-v1/")


@pytest.mark.slow
def test_hundreds_of_runs_are_read_fast(desk: Desk) -> None:
    first = desk.run([(f"u{number}@x.com", f"SN-{number}", "assign") for number in range(500)]).folder
    facts = (first / "journal.sqlite3").read_bytes()
    for number in range(400):
        folder = first.with_name(f"old{number}")
        folder.mkdir()
        (folder / "journal.sqlite3").write_bytes(facts)
    began = time.perf_counter()
    runs = recorded_runs(first.parent, first, pytest.fail)
    seconds = time.perf_counter() - began
    print(f"\n{len(runs)} runs in {seconds:.2f} s")  # noqa: T201
    assert seconds < 4


def test_a_run_by_its_facts() -> None:
    facts = {"baseUrl": URL, "client": "c", "lineage": ["files", "rows.csv"], "inputs": hashes("rows.csv")}
    run = RecordedRun.of(Path("r"), {**facts, "asOf": "2026-05-01T00:00:00.000Z"}.get)
    assert (run.api, run.is_finished, run.has_order, str(run.order.as_of)) == (
        api_identity(URL),
        False,
        True,
        "2026-05-01 00:00:00+00:00",
    )
    assert run.order.written is None
    assert run.is_same_job(run)
    assert not run.is_same_job(RecordedRun.of(Path("r"), {**facts, "client": None}.get))


def test_journals_written_before_there_was_an_as_of_are_read(desk: Desk) -> None:
    ran = desk.run(ROWS)
    with sqlite3.connect(ran.folder / "journal.sqlite3") as journal:
        journal.execute("DELETE FROM meta WHERE name = 'asOf'")
    journal.close()
    [run] = recorded_runs(ran.folder.parent, Path("this"), pytest.fail)
    assert run.order.as_of is None
    assert desk.run(ROWS).summary.fields["runId"] == "r1"
