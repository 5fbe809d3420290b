"""Old runs go, and nothing that a later run relies on goes with them."""

import json
import os
import shutil
import sqlite3
import stat
from contextlib import closing

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.config.config import resolve
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.errors import BrakeError, DiskError, JournalError, LockedError, UntrustedRunError
from telemetron_batch.domain.stops import MAKE_ROOM, ExitCode
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME
from telemetron_batch.journal.removed_runs import HISTORY_NAME, read_removed_rows, read_removed_runs
from telemetron_batch.retention import prune as prune_module
from telemetron_batch.retention.prune import PruneRequest, prune
from telemetron_batch.retention.run_files import foreign_files
from telemetron_batch.retention.workplace import WORKPLACE
from telemetron_batch.run.save_plan import save_plan
from telemetron_batch.run.until import FIRST_START_FILE
from telemetron_batch.storage.lock import Lock, LockOwner
from telemetron_batch.verification.answers import open_answers
from tests.conftest import KEY
from tests.retention.conftest import DAY, Archive
from tests.support.scripted import BASE_URL, Says

A, B, C = "a@x.com", "b@x.com", "c@x.com"
HAS, LOST = (A, "SN-1", "assign"), (A, "SN-1", "unassign")
OWNER = LockOwner(os.getpid(), "now", "test")


def test_runs_that_are_older_go_and_the_newest_of_each_job_stays(archive: Archive) -> None:
    for number in range(4):
        archive.run([(A, f"SN-{number}", "assign")])
    archive.run([(B, "SN-8", "assign")], name="list.csv")
    archive.desk.clock.sleep_blocking(1.0)
    result = archive.prune()
    assert archive.runs == ["n4", "n5"]
    assert [one.run_id for one in result.removed] == ["n1", "n2", "n3"]
    assert result.size > 1000
    assert result.kept == {
        "n4": "the newest finished run of the job of erp-#.csv",
        "n5": "the newest finished run of the job of list.csv",
    }
    assert result.exit_code == ExitCode.DONE


def test_runs_that_are_younger_stay(archive: Archive) -> None:
    for number in range(5):
        archive.run([(A, f"SN-{number}", "assign")])
    archive.prune(2.5)
    assert archive.runs == ["n3", "n4", "n5"]


def test_dry_run_changes_nothing_and_says_what_would_go(archive: Archive) -> None:
    for number in range(3):
        archive.run([(A, f"SN-{number}", "assign")])
    result = archive.prune(dry_run=True)
    assert [one.run_id for one in result.removed] == ["n1", "n2"]
    assert archive.runs == ["n1", "n2", "n3"]
    assert not (archive.reports / HISTORY_NAME).exists()


def test_a_no_removes_nothing(archive: Archive) -> None:
    for number in range(2):
        archive.run([(A, f"SN-{number}", "assign")])
    with pytest.raises(BrakeError, match="not confirmed; nothing was removed"):
        prune(PruneRequest(archive.reports, 0), confirm=lambda _: False, clock=archive.desk.clock)
    assert archive.runs == ["n1", "n2"]


def test_what_was_processed_is_not_processed_again_also_under_the_same_run_id(archive: Archive) -> None:
    archive.run([HAS])
    archive.run([(B, "SN-2", "assign")])
    archive.prune()
    for run_id in ("n9", "n1"):
        with pytest.raises(BrakeError, match="run n1 has already processed exactly this content"):
            archive.desk.run(archive.desk.file([HAS], "erp-1.csv"), run_id=run_id)
    assert archive.desk.run(archive.desk.file([HAS], "erp-1.csv"), run_id="n9", again=True).outcomes == [
        "alreadyAssigned"
    ]


def test_an_older_night_is_refused_after_a_newer_one_that_was_removed(archive: Archive) -> None:
    archive.run([HAS], as_of="2026-01-03", job="nightly")
    archive.run([(B, "SN-2", "assign")], as_of="2026-01-02", job="nightly", out_of_order=True)
    archive.prune()
    assert archive.runs == ["n2"]
    with pytest.raises(
        BrakeError, match=r"run n1 of the same job, as of 2026-01-03T00:00:00\.000Z, has sent calls already"
    ):
        archive.run([LOST], as_of="2026-01-02T12:00Z", job="nightly")


def test_an_older_file_that_wants_the_opposite_is_refused_after_a_run_that_was_removed(archive: Archive) -> None:
    def run(row: tuple[str, str, str], written: float) -> None:
        archive.count += 1
        archive.desk.clock.sleep_blocking(DAY)
        path = archive.desk.file([row], f"erp-{archive.count}.csv")
        os.utime(path, (written, written))
        archive.desk.run(path, run_id=f"n{archive.count}")

    run(HAS, 2_000_000.0)
    run((B, "SN-2", "assign"), 3_000_000.0)
    archive.prune()
    assert archive.runs == ["n2"]
    with pytest.raises(BrakeError, match=r"run n1.*opposite of what this one wants \(first: line 2\)"):
        run(LOST, 1_000_000.0)


def test_the_owner_of_a_device_is_found_in_removed_runs(archive: Archive) -> None:
    archive.run([HAS, (B, "SN-2", "assign")])
    archive.run([(B, "SN-2", "unassign"), (C, "SN-2", "assign")])
    archive.run([(C, "SN-3", "assign")])
    archive.prune()
    assert archive.runs == ["n3"]
    back = archive.run([("", "SN-1", "unassign"), ("", "SN-2", "unassign")], owners="runs", name="back.csv")
    assert [row["customerEmail"] for row in back.rows] == [A, C]
    assert back.outcomes == ["unassigned", "unassigned"]
    assert back.rows[0]["detail"] == "owner from run n1"


def test_what_a_removed_run_took_is_not_with_its_former_owner(archive: Archive) -> None:
    archive.run([HAS], name="list.csv")
    archive.run([LOST])
    archive.run([(B, "SN-2", "assign")])
    archive.prune()
    assert archive.runs == ["n1", "n3"]
    back = archive.run([("", "SN-1", "unassign")], owners="runs", name="back.csv")
    assert back.outcomes == ["invalid"]


def test_without_the_devices_what_was_given_before_is_unclear(archive: Archive) -> None:
    archive.run([HAS], name="list.csv")
    archive.run([(B, "SN-2", "assign")])
    archive.run([(B, "SN-3", "assign")])
    archive.prune(forget_devices=True)
    assert archive.runs == ["n1", "n3"]
    back = archive.run([("", f"SN-{number}", "unassign") for number in (1, 2, 3)], owners="runs", name="back.csv")
    assert back.outcomes == ["invalid", "invalid", "unassigned"]
    assert "n2, removed with --forget-devices, may have taken it" in back.rows[0]["detail"]
    assert back.rows[1]["detail"].startswith("owner not found")


def test_forget_devices_leaves_no_address_and_no_serial_in_the_history(archive: Archive) -> None:
    archive.run([(A, "SN-0", "assign")])
    archive.run([HAS])
    archive.prune()
    archive.run([(B, "SN-2", "assign")])
    archive.prune(forget_devices=True)
    runs = read_removed_runs(archive.reports)
    assert [(one.run_id, one.has_rows) for one in runs] == [("n1", False), ("n2", False)]
    assert [batch for one in runs for batch in read_removed_rows(archive.reports, one)] == []


def test_the_next_night_sends_only_what_changed(archive: Archive) -> None:
    rows = [(f"user{number}@x.com", f"SN-{number}", "assign") for number in range(50)]
    for number in range(4):
        archive.night([*rows, (A, f"NEW-{number}", "assign")])
    archive.prune()
    assert archive.runs == ["n4"]
    archive.night([*rows, (A, "NEW-9", "assign")])
    assert archive.sent == {(A, "NEW-9", "assign")}


def test_a_device_that_a_removed_run_may_have_changed_is_sent_again(archive: Archive) -> None:
    archive.run([HAS, (B, "SN-2", "assign")])
    archive.run([LOST], name="list1.csv", job="list")
    archive.run([(C, "SN-3", "assign")], name="list2.csv", job="list")
    archive.prune()
    assert archive.runs == ["n1", "n3"], "n1 does not use --since-last, so n2 need not stay"
    archive.night([HAS, (B, "SN-2", "assign")])
    assert archive.sent == {HAS}


def test_without_the_devices_of_such_a_run_everything_is_sent(archive: Archive) -> None:
    archive.run([HAS, (B, "SN-2", "assign")])
    archive.run([LOST], name="list1.csv", job="list")
    archive.run([(C, "SN-3", "assign")], name="list2.csv", job="list")
    archive.prune(forget_devices=True)
    night = archive.night([HAS, (B, "SN-2", "assign")])
    assert archive.sent == {HAS, (B, "SN-2", "assign")}
    assert "run n2 changed is not known, as it was removed with --forget-devices" in night.json["since"]["told"]


def test_what_since_last_reads_stays(archive: Archive) -> None:
    archive.night([HAS])
    archive.run([LOST], name="list1.csv", job="list")
    archive.run([(C, "SN-3", "assign")], name="list2.csv", job="list")
    result = archive.prune()
    assert archive.runs == ["n1", "n2", "n3"]
    assert result.kept["n2"].startswith("--since-last of the job of erp-#.csv needs it")
    archive.night([HAS])
    archive.prune()
    assert archive.runs == ["n3", "n4"]


def test_unfinished_runs_stay_and_so_do_those_whose_files_they_read(archive: Archive) -> None:
    archive.run([HAS, (B, "", "assign")])
    archive.run([(C, "SN-3", "assign")])
    archive.desk.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    archive.desk.run(str(archive.reports / "n1" / "undo.csv"), run_id="back")
    archive.desk.server.script = lambda _: None
    archive.run([(C, "SN-4", "assign")])
    result = archive.prune()
    assert archive.runs == ["back", "n1", "n3"]
    assert result.kept["n1"] == "run back, which has not finished, reads a file of it"
    assert result.kept["back"] == "it has not finished"


def test_a_saved_plan_stays(archive: Archive) -> None:
    path = archive.desk.file([HAS], "plan.csv")
    options = {"base_url": BASE_URL, "reports_dir": str(archive.reports), "run_id": "saved"}
    save_plan(resolve([path], options, {"TELEMETRON_API_KEY": KEY}), clock=archive.desk.clock)
    archive.run([(B, "SN-2", "assign")])
    assert archive.prune().kept["saved"] == "it has not finished"
    assert archive.runs == ["n1", "saved"]


def test_a_run_that_a_process_works_on_stays(archive: Archive) -> None:
    for number in range(3):
        archive.run([(A, f"SN-{number}", "assign")])
    lock = Lock.acquire(archive.reports / "n1" / LOCK_NAME, OWNER, "run n1")
    result = archive.prune()
    assert archive.runs == ["n1", "n3"]
    assert "in use by" in result.kept["n1"]
    lock.release()
    archive.prune()
    assert archive.runs == ["n3"]


def test_two_commands_do_not_remove_at_the_same_time(archive: Archive) -> None:
    archive.run([HAS])
    (archive.reports / WORKPLACE).mkdir(mode=0o700)
    held = Lock.acquire(archive.reports / WORKPLACE / "lock", OWNER, "x")
    for command in (archive.prune, lambda: archive.forget(A)):
        with pytest.raises(LockedError, match="wait until it has ended, and run the same command again"):
            command()
    held.release()


def test_a_run_whose_files_were_not_published_stays(archive: Archive) -> None:
    target = archive.desk.folder / "target"
    target.write_text("no folder")
    archive.run([HAS], publish=str(target))
    archive.run([(B, "SN-2", "assign")])
    assert "published" in archive.prune().kept["n1"]
    target.unlink()
    archive.desk.run(str(archive.desk.folder / "erp-1.csv"), run_id="n1", publish=str(target))
    archive.prune()
    assert archive.runs == ["n2"]


@pytest.mark.parametrize("name", ["notes.txt", "attention (copy).csv", ".~lock.attention.csv#", "sub/attention.csv"])
def test_a_folder_with_a_file_of_somebody_else_stays_as_it_is(name: str, archive: Archive) -> None:
    for number in range(2):
        archive.run([(A, f"SN-{number}", "assign")])
    own = archive.reports / "n1" / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    before = sorted((archive.reports / "n1").rglob("*"))
    result = archive.prune()
    assert result.exit_code == ExitCode.ATTENTION
    assert name.partition("/")[0] in result.left["n1"]
    assert sorted((archive.reports / "n1").rglob("*")) == before
    shutil.rmtree(own.parent) if "/" in name else own.unlink()
    assert archive.prune().exit_code == ExitCode.DONE
    assert archive.runs == ["n2"]


def test_links_are_not_followed(archive: Archive) -> None:
    for number in range(3):
        archive.run([(A, f"SN-{number}", "assign")])
    elsewhere = archive.desk.folder / "elsewhere"
    (archive.reports / "n1").rename(elsewhere)
    (archive.reports / "n1").symlink_to(elsewhere)
    (archive.reports / "n2" / "run.log").unlink()
    (archive.reports / "n2" / "run.log").symlink_to(elsewhere / "run.log")
    result = archive.prune()
    assert "run.log" in result.left["n2"]
    assert len([*elsewhere.iterdir()]) > 5
    assert (archive.reports / "n2" / "journal.sqlite3").exists()


def test_a_folder_that_others_can_write_to_stays(archive: Archive) -> None:
    for number in range(3):
        archive.run([(A, f"SN-{number}", "assign")])
    (archive.reports / "n1").chmod(0o777)
    (archive.reports / "n2" / "undo.csv").chmod(0o666)
    result = archive.prune()
    assert archive.runs == ["n1", "n2", "n3"]
    assert "mode 0777" in result.left["n1"]
    assert "mode 0666" in result.left["n2"]
    assert result.exit_code == ExitCode.ATTENTION


@pytest.mark.parametrize("offset", [0, 4096])
def test_a_run_whose_journal_is_damaged_stays_and_the_others_go(offset: int, archive: Archive) -> None:
    for number in range(4):
        archive.run([(A, f"SN-{number}", "assign")])
    journal = archive.reports / "n2" / JOURNAL_NAME
    with journal.open("r+b") as file:
        file.seek(offset)
        file.write(b"x" * (journal.stat().st_size - offset))
    result = archive.prune()
    assert archive.runs == ["n2", "n4"]
    assert ([*result.left], result.exit_code) == (["n2"], ExitCode.ATTENTION)


def test_a_run_whose_rows_are_damaged_leaves_no_line(archive: Archive) -> None:
    for number in range(4):
        archive.run([(A, f"SN-{number}", "assign")])
    with closing(sqlite3.connect(archive.reports / "n2" / JOURNAL_NAME, isolation_level=None)) as connection:
        connection.execute("UPDATE blocks SET keys = x'00'")
    result = archive.prune()
    assert archive.runs == ["n2", "n4"]
    assert [*result.left] == ["n2"]
    assert [one.run_id for one in read_removed_runs(archive.reports)] == ["n1", "n3"]


def test_a_full_disk_ends_it_at_once(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        archive.run([(A, f"SN-{number}", "assign")])

    def refuse(_: object) -> None:
        raise DiskError("the journal cannot be opened (disk I/O error)", MAKE_ROOM)

    monkeypatch.setattr(prune_module, "read_run_facts", refuse)
    ended = CliRunner().invoke(main, ["prune", "--keep", "0d", "--reports-dir", str(archive.reports)])
    assert (ended.exit_code, archive.runs) == (3, ["n1", "n2", "n3"])
    assert "make room" in ended.stderr


def test_an_attention_file_that_was_edited_stays_until_it_was_fed_back(archive: Archive) -> None:
    archive.run([(A, "", "assign")])
    archive.run([HAS])
    archive.run([HAS], again=True)
    edited = archive.reports / "n1" / "attention.csv"
    edited.write_bytes(edited.read_bytes().replace(b'""', b'"SN-7"', 1) + b"\n")
    for dry_run in (True, False):
        result = archive.prune(dry_run=dry_run)
        assert "attention.csv was edited" in result.left["n1"]
        assert result.exit_code == ExitCode.ATTENTION
    assert archive.runs == ["n1", "n3"]
    archive.desk.run(str(edited), run_id="back")
    archive.prune()
    assert "n1" not in archive.runs


@pytest.mark.parametrize("harm", ["mode", "link", "damage"])
def test_no_run_starts_with_a_history_that_cannot_be_believed(harm: str, archive: Archive) -> None:
    archive.run([HAS], as_of="2026-05-01")
    archive.run([(B, "SN-2", "assign")], as_of="2026-05-03")
    archive.prune()
    archive.desk.clock.skip(DAY)
    history = archive.reports / HISTORY_NAME
    if harm == "mode":
        history.chmod(0o660)
    elif harm == "link":
        history.symlink_to(history.rename(archive.desk.folder / "elsewhere"))
    else:
        history.write_bytes(b"SQLite format 3\0" + b"x" * 4096)
    advice = {"mode": "chmod", "link": "run: mv", "damage": r"mv .*history\.sqlite3\.damaged"}[harm]
    for flags in ({"as_of": "2026-05-04"}, {"again": True}, {"out_of_order": True}, {"since_last": True}):
        with pytest.raises((JournalError, UntrustedRunError), match=advice) as refused:
            archive.run([(C, "SN-1", "assign")], **flags)
        assert refused.value.exit_code == ExitCode.NOT_STARTED
        assert archive.sent == set()
    archive.run([(C, "SN-1", "assign")], again=True, out_of_order=True)
    assert archive.sent == {(C, "SN-1", "assign")}
    for command in (archive.prune, lambda: archive.forget(A)):
        with pytest.raises((JournalError, UntrustedRunError), match=advice):
            command()


def test_the_history_is_private_and_one_of_somebody_else_is_not_believed(archive: Archive) -> None:
    archive.run([HAS])
    archive.run([(B, "SN-2", "assign")])
    archive.prune()
    history = archive.reports / HISTORY_NAME
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    history.chmod(0o666)
    with pytest.raises(UntrustedRunError):
        read_removed_runs(archive.reports)
    with pytest.raises(UntrustedRunError):
        archive.run([("", "SN-1", "unassign")], owners="runs")
    history.chmod(0o600)
    history.write_bytes(b"SQLite format 3\0" + b"x" * 4096)
    with pytest.raises(JournalError, match="damaged"):
        read_removed_runs(archive.reports)
    night = archive.night([(B, "SN-2", "assign")], out_of_order=True)
    assert "damaged" in night.json["since"]["told"]


def test_a_history_of_a_newer_version_is_left_as_it_is(archive: Archive) -> None:
    for number in range(3):
        archive.run([(A, f"SN-{number}", "assign")])
        if number == 1:
            archive.prune()
    with sqlite3.connect(archive.reports / HISTORY_NAME) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(JournalError, match="newer version"):
        archive.prune()
    assert archive.runs == ["n2", "n3"]


@pytest.mark.parametrize("boundary", ["removal_line", "move_here", "after move", "finish_removals"])
def test_a_kill_leaves_a_whole_run_or_a_line(boundary: str, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    archive.run([HAS])
    archive.run([(B, "SN-2", "assign")])
    with monkeypatch.context() as patched:
        place = prune_module.Workplace
        if boundary == "removal_line":
            patched.setattr(prune_module, "removal_line", kill)
        elif boundary == "after move":
            patched.setattr(prune_module, "_remove_plan_view", kill)
        elif boundary == "move_here":
            patched.setattr(place, "move_here", kill)
        else:
            finish, calls = place.finish_removals, []
            patched.setattr(place, "finish_removals", lambda self: kill() if calls else (calls.append(1), finish(self)))
        with pytest.raises(Killed):
            archive.prune()
    with pytest.raises(BrakeError, match="run n1 has already processed exactly this content"):
        archive.desk.run(archive.desk.file([HAS], "erp-1.csv"), run_id="n9")
    back = archive.run([("", "SN-1", "unassign")], owners="runs", name="back.csv", run_id="back")
    assert back.rows[0]["detail"] == "owner from run n1"
    archive.prune()
    assert archive.runs == ["back", "n2"]
    assert [one.run_id for one in read_removed_runs(archive.reports)] == ["n1"]
    assert [path.name for path in (archive.reports / WORKPLACE).iterdir() if path.name != "lock"] == []


def test_a_new_run_of_a_removed_id_counts_beside_the_old_one(archive: Archive) -> None:
    archive.run([HAS])
    archive.run([(B, "SN-2", "assign")])
    archive.prune()
    archive.run([(C, "SN-3", "assign")], run_id="n1")
    with pytest.raises(BrakeError, match="run n1 has already processed exactly this content"):
        archive.desk.run(archive.desk.file([HAS], "erp-1.csv"), run_id="n9")
    archive.run([(C, "SN-4", "assign")])
    archive.prune()
    assert [one.run_id for one in read_removed_runs(archive.reports)] == ["n1", "n2", "n1"]


def test_a_job_that_sends_everything_each_night_keeps_each_device_once(archive: Archive) -> None:
    rows = [(f"user{number}@x.com", f"SN-{number}", "assign") for number in range(20)]
    for number in range(5):
        archive.run(rows, again=True)
        if number == 2:
            archive.run([LOST, HAS, LOST], name="list.csv", run_id="list")
    archive.prune()
    kept = {
        one.run_id: sum(batch.num_rows for batch in read_removed_rows(archive.reports, one))
        for one in read_removed_runs(archive.reports)
    }
    assert kept == {"n1": 0, "n2": 0, "n3": 0, "n5": 20}


def test_a_removed_run_explains_unassigns_without_effect(archive: Archive) -> None:
    archive.run([(A, f"SN-{number}", "assign") for number in range(3)])
    archive.run([(A, f"SN-{number}", "unassign") for number in range(3)])
    archive.run([(B, "SN-9", "assign")])
    archive.prune()
    assert archive.runs == ["n3"]
    again = archive.run([(A, f"SN-{number}", "unassign") for number in range(3)], again=True)
    assert (again.outcomes, again.summary.exit_code) == (["skipped"] * 3, 0)
    others = archive.run([(C, f"SN-{number}", "unassign") for number in range(3)])
    assert others.summary.exit_code == 1


def test_answers_that_have_expired_go(archive: Archive) -> None:
    archive.run([HAS])
    folder = archive.reports / ".answers"
    folder.mkdir(mode=0o700)
    with open_answers(archive.reports, "name", archive.desk.clock.wall) as store:
        store.begin("f", 60.0)
        store.put(CustomerHoldings(A, archive.desk.clock.wall(), frozenset({"SN-1"})))
        store.complete(60.0)
    assert [path.name for path in folder.iterdir()] == ["name.sqlite3"]
    archive.desk.clock.sleep_blocking(120.0)
    archive.prune(90)
    assert [*folder.iterdir()] == []


def test_every_file_of_a_run_is_known_as_ours(archive: Archive) -> None:
    ran = archive.run([HAS, (B, "", "assign")], xlsx=True, online=True, baseline=True, verify=True)
    (ran.folder / "attention.csv").write_text("edited")
    (ran.folder / "attention.xlsx").write_text("edited")
    archive.desk.verify(ran)
    (ran.folder / ".told-1767225600000").touch()  # of a killed process whose end was told
    (ran.folder / FIRST_START_FILE).touch()
    names = {path.name for path in ran.folder.iterdir()}
    assert {"attention.new.csv", "attention.new.xlsx", "preview.csv", "reconciliation.xlsx"} <= names
    assert foreign_files(ran.folder) == []


def test_the_command_asks_on_a_terminal_only(archive: Archive) -> None:
    for number in range(2):
        archive.run([(A, f"SN-{number}", "assign")])
    arguments = ["prune", "--keep", "0s", "--reports-dir", str(archive.reports)]
    shown = CliRunner().invoke(main, [*arguments, "--dry-run", "--json"])
    assert json.loads(shown.stdout)["removed"][0]["runId"] == "n1"
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout.startswith("Removed 1 run (")) == (0, True)
    assert archive.runs == ["n2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--keep", "soon"], "is not a duration"), ([], "Missing option '--keep'")],
)
def test_what_the_command_cannot_use_is_one_line(arguments: list[str], message: str) -> None:
    ended = CliRunner().invoke(main, ["prune", *arguments])
    assert ended.exit_code == 2
    assert message in ended.stderr
    missing = CliRunner().invoke(main, ["prune", "--keep", "1d", "--reports-dir", "/nowhere"])
    assert (missing.exit_code, "there is no folder /nowhere" in missing.stderr) == (2, True)
