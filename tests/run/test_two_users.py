"""Two system users, as root can be both: the planner cannot approve, the approver can, and root does not count."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.two_users import APPROVER, PLANNER, Ended, command_as

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be two users"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

ROWS = "customerEmail,deviceIdentifier,action\na@example.com,A1,assign\nb@example.com,B2,assign\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in which every user can work; pytest's own folders are private to root."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "rows.csv").write_text(ROWS)
        (folder / "rows.csv").chmod(0o644)
        yield folder


def import_everything(folder: Path, url: str) -> None:
    """Run all commands once, so that a forked child has nothing to import."""
    where = ["--reports-dir", str(folder / "reports")]
    file = folder / "rows.csv"
    file.write_text(ROWS)
    for words in (
        ["run", str(file), "--yes", "--run-id", "r1", "--base-url", url, *where],
        ["plan", str(file), "--save", "--approval", "second", *where],
        ["runs", *where],
        ["approve", "--list", *where],
        ["approve", "x", "0000-0000", *where],
    ):
        CliRunner().invoke(main, words, env={"TELEMETRON_API_KEY": "key"})


def test_a_plan_of_one_system_user_is_sent_after_another_has_approved_it(place: Path, tmp_path: Path) -> None:
    with SandboxState() as fleet, serve_in_thread(fleet, api_key="key") as url:
        import_everything(tmp_path, url)

        def told(uid: int, *words: str) -> Ended:
            return command_as(uid, *words, folder=place, environ={"TELEMETRON_API_KEY": "key"})

        run = ("run", "rows.csv", "--run-id", "r1", "--base-url", url)
        saved = told(
            PLANNER, "plan", "rows.csv", "--save", "--run-id", "r1", "--approval", "second", "--base-url", url, "--json"
        )
        fingerprint = json.loads(saved.output)["fingerprint"]
        refused = told(PLANNER, *run)
        assert (refused.exit_code, refused.error.count("\n")) == (2, 1)
        assert f"run r1 needs approval: approve r1 {fingerprint};" in refused.error
        assert told(PLANNER, "approve", "r1", fingerprint).error.startswith(f"Error: user {PLANNER} planned run r1")
        assert "root does not count" in told(0, "approve", "r1", fingerprint).error
        assert told(PLANNER, *run).exit_code == 2

        approved = told(APPROVER, "approve", "r1", fingerprint)
        assert approved.output.startswith(f"Approved: run r1, fingerprint {fingerprint}: 2 devices of 2 customers")
        assert (place / "reports" / "approvals" / "r1.json").stat().st_uid == APPROVER
        assert told(PLANNER, "approve", "--revoke", "r1").exit_code == 0  # its folder
        assert told(APPROVER, "approve", "r1", fingerprint).exit_code == 0
        assert told(PLANNER, *run).exit_code == 0
        [line] = json.loads(told(PLANNER, "runs", "--json").output)
        assert (line["state"], line["approval"]["approvedBy"]) == ("finished", f"user {APPROVER}")


def test_an_approval_that_the_planner_or_root_wrote_does_not_count(place: Path, tmp_path: Path) -> None:
    with SandboxState() as fleet, serve_in_thread(fleet, api_key="key") as url:
        import_everything(tmp_path, url)
        environ = {"TELEMETRON_API_KEY": "key"}
        words = ("plan", "rows.csv", "--save", "--run-id", "r1", "--approval", "second", "--base-url", url, "--json")
        saved = json.loads(command_as(PLANNER, *words, folder=place, environ=environ).output)
        command_as(APPROVER, "approve", "r1", saved["fingerprint"], folder=place)
        file = place / "reports" / "approvals" / "r1.json"
        for owner, why in ((PLANNER, "planned the run and approved it"), (0, "root does not count as a second person")):
            os.chown(file, owner, owner)
            ended = command_as(
                PLANNER, "run", "rows.csv", "--run-id", "r1", "--base-url", url, folder=place, environ=environ
            )
            assert (ended.exit_code, ended.error.count("\n")) == (2, 1)
            assert why in ended.error
