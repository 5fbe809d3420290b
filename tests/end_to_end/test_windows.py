"""The program on what Python shows of Windows: see `tests/support/windows.py` for what is imitated, and what is not."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from telemetron_batch.sandbox.server import Limit, serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.books import reconciliation_of
from tests.support.windows import CONSOLE_CLOSE, CTRL_BREAK

ROWS = """customerEmail,deviceIdentifier,action
a@example.com,A1,assign
b@example.com,B1,assign
a@example.com,A1,unassign
"""
IN_PROCESS = """
import sys
from tests.support import windows
windows.enter()
"""
IMPORT_ALL = f"""{IN_PROCESS}
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(name)
assert not hasattr(__import__("os"), "getuid")
print(len([name for name in sys.modules if name.startswith("telemetron_batch.")]))
"""
LOCKS = f"""{IN_PROCESS}
from pathlib import Path
from telemetron_batch.domain.errors import LockedError
from telemetron_batch.storage.lock import Lock, LockOwner, is_held, state_dir

path = Path(sys.argv[1])
me, other = LockOwner(1, "now", "mine"), LockOwner(2, "later", "theirs")

def refusal(owner, **how):
    try:
        Lock.acquire(path, owner, "the key", **how).release()
    except LockedError as exc:
        return exc.reason
    return "none"

assert not is_held(path)
alone = Lock.acquire(path, me, "the key")
print(is_held(path), refusal(other), refusal(other, shared=True), sep="|")
alone.release()
assert not is_held(path)
shared = [Lock.acquire(path, me, "the key", shared=True) for _ in range(3)]
print(is_held(path), refusal(other), refusal(other, shared=True), refusal(me, shared=True), refusal(me), sep="|")
for lock in shared[:2]:
    lock.release()
print(refusal(other), refusal(other, shared=True), sep="|")
shared[2].release()
print(refusal(other), refusal(other, shared=True), refusal(me), sep="|")
print(state_dir())
"""
OWNERS = f"""
import os
os.chown(__import__("sys").argv[2], 1234, -1)
{IN_PROCESS}
from pathlib import Path
from telemetron_batch.storage.system_users import SystemUsers
users = SystemUsers()
mine, theirs = (users.author(path, path.stat(), b"") for path in map(Path, sys.argv[1:]))
print(mine == users.current(), mine.is_root, theirs.is_root, theirs.name, theirs.uid == mine.uid)
"""
CALLS_A_MINUTE = Limit(1, 60.0)


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "LOCALAPPDATA": str(folder / "local"), **more}


def python(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    variables = environ(folder)
    del variables["XDG_STATE_HOME"]
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "tests.support.windows", *arguments]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    (tmp_path / "a.csv").write_text(ROWS)
    return tmp_path


def windows(*arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program, as on Windows."""
    return subprocess.run(
        command(*arguments), cwd=folder, env=environ(folder, **more), capture_output=True, text=True, timeout=120
    )


def test_every_module_is_imported_without_what_only_posix_has(folder: Path) -> None:
    ended = python(IMPORT_ALL, folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout) > 250


def test_locks_exclude_and_are_shared_as_on_posix_and_their_owner_can_be_read(folder: Path) -> None:
    ended = python(LOCKS, str(folder / "x.lock"), folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    held = "the key is in use by process 1 (run mine, since now)"
    assert ended.stdout.splitlines() == [
        f"True|{held}|{held}",
        f"False|{held}|{held}|none|{held}",
        f"{held}|{held}",
        "none|none|none",
        str(folder / "local" / "telemetron-batch"),
    ]


def test_a_plan_and_a_run_in_the_sandbox_from_end_to_end(folder: Path) -> None:
    planned = windows("plan", "a.csv", "--json", folder=folder)
    assert (planned.returncode, json.loads(planned.stdout)["calls"]) == (0, 3)
    run = ("run", "a.csv", "--sandbox", "--run-id", "r1", "--xlsx", "--json")
    ended = windows(*run, folder=folder)
    assert (ended.returncode, ended.stderr.count("Error")) == (0, 0)
    summary = json.loads(ended.stdout)
    assert summary["balanced"] is True
    assert summary["counts"]["assigned"] == 2
    rows = reconciliation_of(folder / "reports" / "r1")
    assert [row["outcome"] for row in rows] == ["assigned", "assigned", "unassigned"]
    assert (folder / "local").exists() is False  # a sandbox has no key to lock
    again = windows(*run, folder=folder)
    assert (again.returncode, json.loads(again.stdout)["attempts"]) == (0, summary["attempts"])


@pytest.fixture
def slow_api() -> Iterator[str]:
    """Yield an API that lets one call pass and then asks to wait."""
    with SandboxState() as fleet, serve_in_thread(fleet, limit=CALLS_A_MINUTE) as url:
        yield url


def stopped_run(folder: Path, url: str, number: signal.Signals) -> tuple[int, str]:
    """Send a signal to a run that waits; return its exit code and what it wrote to standard error."""
    run = ("run", "a.csv", "--base-url", url, "--run-id", "r1", "--yes", "--rate", "100/s", "--no-progress")
    variables = environ(folder, TELEMETRON_API_KEY="key-of-the-tests")
    process = subprocess.Popen(command(*run), cwd=folder, env=variables, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "waiting" in line or "429" in line or "asks" in line:
            process.send_signal(number)
            break
    rest = process.communicate(timeout=60)[1]
    return process.returncode, "".join(lines) + rest


@pytest.mark.slow
def test_ctrl_break_ends_a_run_and_the_same_command_continues_it(folder: Path, slow_api: str) -> None:
    code, errors = stopped_run(folder, slow_api, CTRL_BREAK)
    assert code == 3, errors
    summary = json.loads((folder / "reports" / "r1" / "summary.json").read_text())
    assert (summary["stop"]["code"], summary["state"]) == ("interrupted", "stopped")
    assert summary["counts"]["notSent"] > 0


@pytest.mark.slow
def test_a_closed_console_ends_a_run_before_the_system_does(folder: Path, slow_api: str) -> None:
    code, errors = stopped_run(folder, slow_api, CONSOLE_CLOSE)
    summary = json.loads((folder / "reports" / "r1" / "summary.json").read_text())
    assert summary["stop"]["code"] == "interrupted", errors
    assert "the closing of the console" in summary["stop"]["reason"]
    assert code == 3, errors


@pytest.mark.slow
def test_a_file_that_a_spreadsheet_has_open_stops_the_run_and_nothing_is_lost(folder: Path) -> None:
    run = ("run", "a.csv", "--sandbox", "--run-id", "r1")
    assert windows(*run, folder=folder).returncode == 0
    script = f"""{IN_PROCESS}
kept = open("reports/r1/undo.csv")
from telemetron_batch.cli.commands import main
main(["report", "r1"], prog_name="telemetron-batch")
"""
    ended = python(script, folder=folder)
    assert ended.returncode == 3
    assert "undo.csv" in ended.stderr
    assert windows("report", "r1", folder=folder).returncode == 0


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file away")
def test_the_author_of_a_file_is_its_owner_and_administrators_are_no_person(folder: Path) -> None:
    (folder / "mine").write_text("")
    (folder / "theirs").write_text("")
    ended = python(OWNERS, "mine", "theirs", folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split() == ["True", "True", "False", r"HOST\user1234", "False"]


@pytest.mark.slow
def test_who_has_planned_does_not_approve(folder: Path) -> None:
    plan = ("plan", "a.csv", "--save", "--run-id", "r1", "--approval", "second", "--sandbox", "--json")
    planned = windows(*plan, folder=folder)
    assert planned.returncode == 0, planned.stderr
    ended = windows("approve", "r1", json.loads(planned.stdout)["fingerprint"], folder=folder)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert windows("run", "--run-id", "r1", folder=folder).returncode == 2
