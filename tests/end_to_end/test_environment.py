"""System errors are not bugs: exit code 2 or 3, one line that says what to do, and complete files."""

import csv
import errno
import json
import os
import re
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import DiskError, PathError, RunRemovedError, system_error
from telemetron_batch.domain.printable import encodable
from telemetron_batch.reports import write_all
from telemetron_batch.run.listing import list_runs
from telemetron_batch.sending.scheduler import Scheduler
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage import open_files
from telemetron_batch.storage.lease import Lease
from telemetron_batch.storage.lock import Lock, LockOwner
from telemetron_batch.storage.open_files import FILES_NEEDED, require_open_files
from tests.cli.test_commands import call
from tests.conftest import KEY, Desk
from tests.storage.test_trusted_folders import as_root, given_away
from tests.support.scripted import BASE_URL, Says, Seen

ROWS = [("a@x.com", "SN-1", "assign"), ("b@x.com", "SN-2", "assign")]
TEXT = "customerEmail,deviceIdentifier,action\na@x.com,SN-1,assign\nb@x.com,SN-2,assign\n"
LATIN = os.fsdecode(b"caf\xe9")
"""A name that is not UTF-8."""
ROOT = Path(__file__).parents[2]


def in_folder(folder: Path, name: str, text: str = TEXT) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


# Names


def test_a_file_name_that_is_not_utf8_is_accepted(tmp_path: Path) -> None:
    rows, reports = in_folder(tmp_path, f"{LATIN}.csv"), tmp_path / LATIN
    ended = call("run", rows, "--sandbox", "--reports-dir", reports, "--run-id", "r", "--xlsx", "--json")
    assert ended.exit_code in (0, 1)
    told = json.loads(ended.stdout)
    assert told["input"]["name"] == encodable(f"{LATIN}.csv") == r"caf\udce9.csv"
    for name in ("summary.json", "run.log", "report.html", "reconciliation.csv"):
        (reports / "r" / name).read_bytes().decode("utf-8")
    assert json.loads((reports / "r" / "summary.json").read_bytes())["options"]["reports_dir"] == str(reports)
    assert call("report", reports / "r").exit_code == ended.exit_code
    assert [line.run_id for line in list_runs(reports)] == ["r"]
    assert json.loads(call("runs", "--reports-dir", reports, "--json").stdout)[0]["input"] == r"caf\udce9.csv"


def test_the_file_column_escapes_names_that_are_not_utf8(tmp_path: Path) -> None:
    files = in_folder(tmp_path, f"{LATIN}.csv"), in_folder(tmp_path, "b.csv")
    assert call("run", *files, "--sandbox", "--reports-dir", tmp_path / "r", "--run-id", "r").exit_code in (0, 1)
    with (tmp_path / "r" / "r" / "reconciliation.csv").open(newline="", encoding="utf-8") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [r"caf\udce9.csv"] * 2 + ["b.csv"] * 2


@pytest.mark.parametrize("option", ["--job", "--sheet", "--device-type", "--organisation", "--action-word", "--run-id"])
def test_an_option_that_is_not_utf8_is_refused_by_name(tmp_path: Path, option: str) -> None:
    ended = call("plan", in_folder(tmp_path, "a.csv"), "--auto-create-devices", option, f"{LATIN}=assign")
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert f"{option}: " in ended.stderr


def test_shards_are_planned_in_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    flags = {"base_url": BASE_URL, "reports_dir": str(tmp_path / LATIN), "run_id": "r", "shards": "2"}
    config = resolve([in_folder(tmp_path, "a.csv")], flags, {"TELEMETRON_API_KEY": KEY})
    assert [shard.devices for shard in plan_shards(config).shards] == [1, 1]


# Errors of the system


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_system_error_names_the_path_and_the_next_step(number: int) -> None:
    error = system_error(OSError(number, os.strerror(number), "/some/where"))
    assert error.exit_code in (2, 3)
    assert "/some/where" in error.reason
    assert os.strerror(number) in error.reason
    assert error.advice


def test_an_unexpected_system_error_is_one_line_and_not_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "/mnt/x")

    monkeypatch.setattr("telemetron_batch.run.make_plan.load_input", broken)
    ended = call("plan", in_folder(tmp_path, "a.csv"), "--json")
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert "/mnt/x (Input/output error)" in ended.stderr
    assert "bug" not in ended.stderr
    assert json.loads(ended.stdout)["exitCode"] == 2


def test_an_error_before_the_first_attempt_exits_with_2_and_later_with_3(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/mnt/x")

    with monkeypatch.context() as patch:
        patch.setattr("telemetron_batch.run.pipeline.send", broken)
        with pytest.raises(PathError, match=r"/mnt/x \(Permission denied\)") as refusal:
            desk.run(ROWS)
    assert (refusal.value.exit_code, desk.server.seen) == (2, [])
    with monkeypatch.context() as patch:
        patch.setattr("telemetron_batch.run.pipeline.finish_run", broken)
        with pytest.raises(PathError, match=r"/mnt/x \(Permission denied\)") as stop:
            desk.run(ROWS)
    assert (stop.value.exit_code, len(desk.server.seen)) == (3, 2)
    assert desk.run(ROWS).outcomes == ["assigned"] * 2
    assert len(desk.server.seen) == 2


@pytest.mark.parametrize("kind", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES])
def test_a_system_error_while_sending_stops_the_run_and_writes_its_files(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    whole = Scheduler.run

    async def broken(self: Scheduler) -> None:
        await whole(self)
        raise OSError(kind, os.strerror(kind), "/mnt/x")

    monkeypatch.setattr(Scheduler, "run", broken)
    ran = desk.run(ROWS)
    assert (ran.summary.exit_code, ran.json["state"]) == (3, "stopped")
    assert "/mnt/x" in ran.json["stop"]["reason"]
    assert ran.outcomes == ["assigned"] * 2


def test_a_clock_at_1970_is_accepted(desk: Desk) -> None:
    desk.clock._epoch = -desk.clock.monotonic
    ran = desk.run(ROWS, since_last=True)
    assert (ran.outcomes, ran.json["startedAt"][:4]) == (["assigned"] * 2, "1970")
    assert desk.run(ROWS, run_id="r2", since_last=True).outcomes == ["unchanged"] * 2
    assert desk.verify(ran).summary.exit_code == 0


# Files of a run that cannot be written


@pytest.mark.parametrize("name", ["reconciliation.csv", "undo.csv", "report.html", "summary.json"])
def test_an_unwritable_file_does_not_prevent_the_others(desk: Desk, name: str) -> None:
    in_the_way = desk.folder / "reports" / "r1" / name
    in_the_way.mkdir(parents=True)
    in_the_way.parent.chmod(0o700)
    ran = desk.run(ROWS)
    assert (ran.summary.exit_code, ran.summary.fields["state"]) == (3, "stopped")
    assert f"{name} (Is a directory)" in ran.summary.fields["stop"]["reason"]
    assert "then run the same command again" in ran.summary.fields["stop"]["advice"]
    others = {"reconciliation.csv", "attention.csv", "undo.csv", "report.html", "summary.json"} - {name}
    assert {one for one in others if (ran.folder / one).is_file()} == others
    if name != "summary.json":
        assert (ran.json["exitCode"], len(ran.json["unwritten"])) == (3, 1)
    in_the_way.rmdir()
    again = desk.run(ROWS)
    assert (again.summary.exit_code, again.outcomes) == (0, ["assigned"] * 2)
    assert len(desk.server.seen) == 2


@pytest.mark.parametrize("writer", ["write_html", "write_xlsx", "write_undo"])
def test_a_bug_in_one_file_does_not_prevent_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(write_all, writer, broken)
    ran = desk.run(ROWS, xlsx=True)
    assert (ran.summary.exit_code, ran.outcomes) == (3, ["assigned"] * 2)
    assert "a bug: KeyError: 'oops'" in ran.json["stop"]["reason"]
    assert (ran.folder / "attention.csv").is_file()


def test_a_stopped_run_keeps_its_reason_if_a_file_is_unwritable(desk: Desk) -> None:
    in_the_way = desk.folder / "reports" / "r1" / "report.html"
    in_the_way.mkdir(parents=True)
    in_the_way.parent.chmod(0o700)
    desk.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    ran = desk.run(ROWS)
    assert (ran.summary.exit_code, ran.json["stop"]["code"]) == (4, "keyRefused")
    assert [re.sub(r"/\S+/", "", one) for one in ran.json["unwritten"]] == ["cannot write report.html (Is a directory)"]


# Open files and streams


def test_a_run_that_cannot_open_a_connection_for_each_call_sends_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "_count_available", lambda enough: enough - 1)
    with pytest.raises(PathError, match=f"only {FILES_NEEDED + 7} more files .* needs {FILES_NEEDED + 8}; .*ulimit"):
        desk.run(ROWS)
    assert desk.server.seen == []
    assert not (desk.folder / "reports" / "r1").exists()


def test_the_soft_limit_of_open_files_is_raised_if_allowed() -> None:
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = len([*Path("/proc/self/fd").iterdir()]) + 4
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, former[1]))
    try:
        require_open_files(8)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= low + 4
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)


def started(*arguments: object, limit: int | None = None, **streams: object) -> subprocess.CompletedProcess[str]:
    """Run the program in its own process."""

    def narrow() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    command = [sys.executable, "-m", "telemetron_batch", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(command, cwd=ROOT, text=True, preexec_fn=narrow, check=False, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("limit", [8, 12, 20])
def test_too_few_open_files_are_an_error_at_the_start(tmp_path: Path, limit: int) -> None:
    ended = started("run", in_folder(tmp_path, "a.csv"), "--sandbox", "--reports-dir", tmp_path / "r", limit=limit)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "ulimit -n" in ended.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("arguments", [("--version",), ("run", "--help"), ("plan", "nowhere.csv", "--json")])
def test_a_full_standard_output_is_a_one_line_error(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = started(*arguments, stdout=full)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "standard output cannot be written (No space left on device)" in ended.stderr


def test_json_is_valid_on_an_ascii_standard_output(tmp_path: Path) -> None:
    rows = in_folder(tmp_path, "zürich.csv")
    ended = started("plan", rows, "--json", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (ended.returncode, "zürich.csv" in json.dumps(json.loads(ended.stdout), ensure_ascii=False)) == (0, True)


# Inputs that are not files


def test_a_device_or_a_socket_is_refused_as_input(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in ("/dev/zero", "/dev/full", str(tmp_path / "socket")):
            ended = call("plan", path)
            assert (ended.exit_code, "is a device or a socket" in ended.stderr) == (2, True)


@pytest.mark.parametrize("name", ["run.lock", "run.log", "journal.sqlite3"])
def test_a_folder_with_the_name_of_a_run_file_is_an_error(desk: Desk, name: str) -> None:
    (desk.folder / "reports" / "r1" / name / "x").mkdir(parents=True)
    (desk.folder / "reports" / "r1").chmod(0o700)
    with pytest.raises(PathError, match=name) as refusal:
        desk.run(ROWS)
    assert (refusal.value.exit_code, desk.server.seen) == (2, [])


def test_a_name_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    for folder in ("x" * 300, "x/" * 3000):
        reports = tmp_path / folder
        ended = call("run", in_folder(tmp_path, "a.csv"), "--sandbox", "--reports-dir", reports, "--run-id", "r")
        assert (ended.exit_code, "File name too long" in ended.stderr) == (2, True)


# Runs of other users


@as_root
def test_unreadable_runs_are_listed_as_warnings(desk: Desk) -> None:
    given_away(desk.run(ROWS).folder)
    listed = call("runs", "--reports-dir", desk.folder / "reports")
    assert listed.stdout == "No runs here but 1 other that could not be read.\n"
    assert "r1 belongs to user 12002" in listed.stderr


@as_root
def test_an_unreadable_run_that_may_have_processed_the_content_is_a_warning(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_away(desk.run(ROWS).folder)
    warnings: list[str] = []
    monkeypatch.setattr(desk.face, "on_message", lambda _, text: warnings.append(text))
    desk.run(ROWS, run_id="r2")
    assert [one for one in warnings if "r1 belongs to user 12002" in one and "(--again) cannot be checked" in one]
    told = desk.run(ROWS, run_id="r3", since_last=True).json["since"]["told"]
    assert "what it settled or changed since is not known" in told


# Another user

NOBODY = 65_534
OtherUser = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def open_desk() -> Iterator[Desk]:
    """A desk in a folder that other users can reach, unlike the folders of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Desk(Path(folder))


@pytest.fixture
def other_user(open_desk: Desk) -> OtherUser:
    """Start the program as another user, with an interpreter of our version that this user can access."""
    libraries = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": os.pathsep.join(libraries)}
    environ |= {"PYTHONDONTWRITEBYTECODE": "1", "TELEMETRON_API_KEY": KEY, "TMPDIR": str(open_desk.folder)}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"

    def start(python: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [python, *map(str, arguments)]
        ids = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        return subprocess.run(command, env=environ, cwd="/", text=True, capture_output=True, check=False, **ids)  # type: ignore[call-overload,no-any-return]

    for python in (sys.executable, f"/usr/bin/{version}"):
        try:
            if start(python, "-c", "import telemetron_batch.cli.commands, pyarrow, pandas").returncode == 0:
                return lambda *arguments: start(python, "-m", "telemetron_batch", *arguments)
        except OSError:
            continue
    pytest.skip("no interpreter of this version that another user can start")


def closed_folder(folder: Path) -> Path:
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0o755)
    return folder / "closed"


@as_root
def test_another_users_run_is_refused_naming_its_owner(open_desk: Desk, other_user: OtherUser) -> None:
    path = open_desk.file(ROWS)
    ran = open_desk.run(path)
    ran.folder.parent.chmod(0o1777)
    where = ("--reports-dir", ran.folder.parent)
    same = other_user("run", path, "--base-url", BASE_URL, *where, "--run-id", "r1")
    assert (same.returncode, same.stderr.count("\n")) == (2, 1)
    assert re.search(r"r1 belongs to root .*run as root, or name another --run-id", same.stderr)
    listed = other_user("runs", *where)
    assert listed.stdout == "No runs here but 1 other that could not be read.\n"
    given = other_user("run", path, "--base-url", BASE_URL, "--reports-dir", closed_folder(open_desk.folder))
    assert (given.returncode, given.stderr.count("\n")) == (2, 1)
    assert "(Permission denied; " in given.stderr
    assert "closed belongs to root)" in given.stderr
    for command in ("report", "verify", "resume"):
        assert other_user(command, "r1", *where).returncode == 2


@as_root
@pytest.mark.parametrize("mode", [0o2770, 0o1777])
def test_two_users_of_one_key_take_turns_with_a_common_lock_dir(
    open_desk: Desk, other_user: OtherUser, mode: int
) -> None:
    locks = open_desk.folder / "locks"
    locks.mkdir()
    os.chown(locks, 0, NOBODY)
    locks.chmod(mode)
    path, seen = open_desk.file(ROWS), []
    theirs = ("run", path, "--base-url", BASE_URL, "--reports-dir", open_desk.folder / "theirs", "--run-id", "b")

    def meanwhile(_: Seen) -> None:
        if not seen:
            seen.append(other_user(*theirs, "--lock-dir", locks, "--again"))

    open_desk.server.script = meanwhile
    open_desk.run(path, lock_dir=str(locks))
    assert seen[0].returncode == 6
    assert "this base URL and key is in use by process" in seen[0].stderr
    assert {stat.S_IMODE(one.stat().st_mode) for one in locks.iterdir()} == {0o660 if mode == 0o2770 else 0o666}


# Missing folders and files


def test_a_run_whose_folder_was_removed_exits_with_3(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = desk.folder / "reports" / "r1"
    leases: list[Lease] = []
    taken = Lease.__init__

    def remembered(self: Lease, *arguments: Any) -> None:
        taken(self, *arguments)
        leases.append(self)

    def remove(_: Seen) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        leases[0].renew()

    monkeypatch.setattr(Lease, "__init__", remembered)
    desk.server.script = remove
    with pytest.raises(RunRemovedError, match=r"r1, the folder of run r1, was removed while the run went on") as stop:
        desk.run(ROWS)
    assert stop.value.exit_code == 3


def test_a_lock_that_is_not_a_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises((DiskError, PathError), match="no regular file"):
        Lock.acquire(tmp_path / "lock", LockOwner(1, "now", "mine"), "this")
