"""`run --run-id ID` without FILE sends the saved plan of that run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from telemetron_batch.cli.commands import main
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.books import reconciliation_of


@pytest.fixture
def base_url() -> Iterator[str]:
    with SandboxState() as fleet, serve_in_thread(fleet) as url:
        fleet.assign("a@x.com", ["D1"], create=True)
        yield url


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELEMETRON_API_KEY", "key-of-the-tests")
    (tmp_path / "rows.csv").write_text("customerEmail,deviceIdentifier,action\na@x.com,D1,unassign\n")
    return tmp_path


def command(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize("more", [[], ["--online"]])
def test_it_sends_exactly_the_plan_also_if_the_file_is_gone(place: Path, base_url: str, more: list[str]) -> None:
    planned = command("plan", "rows.csv", "--save", "--run-id", "r1", "--base-url", base_url)
    assert planned.exit_code == 0, planned.output
    (place / "rows.csv").unlink()
    sent = command("run", "--run-id", "r1", "--base-url", base_url, *more)
    assert sent.exit_code == 0, sent.output
    assert [row["outcome"] for row in reconciliation_of(place / "reports/r1")] == ["unassigned"]


@pytest.mark.usefixtures("place")
def test_other_options_need_the_file(base_url: str) -> None:
    command("plan", "rows.csv", "--save", "--run-id", "r1", "--base-url", base_url)
    refused = command("run", "--run-id", "r1", "--base-url", base_url, "--max-failed", "1")
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert "--max-failed cannot be given to a planned run without its FILE" in refused.output


@pytest.mark.usefixtures("place")
def test_without_such_a_run_the_file_is_missing() -> None:
    refused = command("run", "--run-id", "nobody")
    assert (refused.exit_code, "Missing argument 'FILE...'" in refused.output) == (2, True)
