"""A plan that needs a second person is sent only if another user has approved exactly this plan, in time."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.domain.errors import ApprovalError, BatchError, ConfigError, JournalError
from telemetron_batch.journal.journal import Journal
from telemetron_batch.run import pipeline
from telemetron_batch.run.approve import list_approvals, revoke
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from tests.conftest import KEY, Desk
from tests.support.people import PAUL, PETRA, ROOT, RUTH, Office
from tests.support.scripted import BASE_URL, Says

A, B = "a@x.com", "b@x.com"
ROWS = [(A, "SN-1", "assign"), (B, "SN-2", "assign")]
HOUR = 3600.0


@pytest.fixture
def office(desk: Desk) -> Office:
    return Office(desk)


@pytest.fixture
def path(office: Office) -> str:
    return office.desk.file(ROWS)


def saved(office: Office, path: str, **flags: Any) -> str:
    """Save a plan that needs an approval; return its fingerprint."""
    return office.save(path, approval="second", **flags).short_fingerprint


def refuses_to_send(office: Office, path: str, why: str, **flags: Any) -> None:
    """Check that the run is refused with one line and nothing is sent."""
    sent = office.sent
    with pytest.raises(ApprovalError, match=why) as refused:
        office.run(path, **flags)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    assert office.sent == sent


# With an approval


def test_a_plan_that_another_user_approved_is_sent(office: Office, path: str) -> None:
    fingerprint = saved(office, path)
    assert office.line().state == "awaitingApproval"
    assert office.line().next_step == f"as another user: telemetron-batch approve {office.reports / 'r1'} {fingerprint}"
    refuses_to_send(office, path, f"^run r1 needs approval: approve r1 {fingerprint}; let another user than petra run ")
    approved = office.approve(fingerprint)
    assert (approved.planned_by, approved.approved_by, approved.counts) == (
        "petra",
        "paul",
        {"rows": 2, "calls": 2, "devices": 2, "customers": 2},
    )
    assert office.line().state == "approved"
    ran = office.run(path)
    who = {"plannedBy": "petra", "approvedBy": "paul", "approvedAt": "2026-01-01T00:00:00.000Z"}
    assert (ran.summary.exit_code, ran.json["approval"], ran.json["fingerprint"]) == (0, who, fingerprint)
    assert (office.line().state, office.line().approval) == ("finished", who)
    page = (ran.folder / "report.html").read_text()
    assert [text in page for text in (fingerprint, "petra", "paul")] == [True] * 3


def test_the_file_of_an_approval_names_run_journal_and_full_fingerprint(office: Office, path: str) -> None:
    plan = office.save(path, approval="second")
    office.approve(plan.fingerprint)
    file = office.place() / "r1.json"
    fields = json.loads(file.read_text())
    with closing(Journal(plan.folder / "journal.sqlite3")) as journal:
        assert fields == {
            "runId": "r1",
            "fingerprint": plan.fingerprint,
            "journalId": journal.fact("journalId"),
            "approvedAt": "2026-01-01T00:00:00.000Z",
            "approvedBy": "paul",
        }
    assert file.stat().st_mode & 0o777 == 0o644


def test_run_with_approval_saves_the_plan_and_the_same_command_sends_it_after_the_approval(
    office: Office, path: str
) -> None:
    refuses_to_send(office, path, "needs approval: approve rows-", approval="second", run_id=None)
    [folder] = [one for one in office.reports.iterdir() if one.name.startswith("rows-")]
    line = office.line(folder.name)
    assert line.state == "awaitingApproval"
    office.approve(str(line.fingerprint), run=folder.name)
    assert office.run(path, by=PETRA, approval="second", run_id=None).folder == folder


def test_an_interrupted_run_that_has_sent_needs_no_second_approval(office: Office, path: str) -> None:
    office.approve(saved(office, path))
    office.desk.server.script = lambda seen: None if seen.number == 1 else Says(401)
    assert office.run(path, concurrency="1").summary.exit_code == 4
    revoke(office.reports / "r1")
    office.desk.clock.monotonic += 100 * HOUR
    office.desk.server.script = lambda _: None
    ran = office.run(path, approval="second")
    assert (ran.summary.exit_code, ran.json["approval"]["approvedBy"]) == (0, "paul")


def test_a_run_that_stopped_before_its_first_attempt_still_needs_its_approval(office: Office, path: str) -> None:
    office.approve(saved(office, path))
    with pytest.raises(ConfigError, match="there is no API key"):
        pipeline.run(office.config(path, environ={}), users=office.users)
    revoke(office.reports / "r1")
    refuses_to_send(office, path, "needs approval: approve r1")


def test_a_finished_run_does_nothing_with_or_without_its_approval(office: Office, path: str) -> None:
    office.approve(saved(office, path))
    office.run(path)
    sent = office.sent
    revoke(office.reports / "r1")
    assert office.run(path, approval="second").summary.exit_code == 0
    assert office.sent == sent


def test_the_folder_of_approvals_can_be_elsewhere(office: Office, path: str, tmp_path: Path) -> None:
    place = tmp_path / "approvals of the office"
    fingerprint = saved(office, path, approvals_dir=str(place))
    assert f"--approvals-dir '{place}'" in office.line().next_step
    office.approve(fingerprint, place=place)
    assert office.line().state == "approved"
    assert not (office.reports / "approvals").exists()
    assert office.run(path).summary.exit_code == 0  # the plan has recorded the folder


# A requirement is never lowered


@pytest.mark.parametrize("flags", [{}, {"approval": "none"}, {"approval_expires": "9d"}])
def test_a_required_approval_is_not_lowered_later(office: Office, path: str, flags: dict[str, str]) -> None:
    fingerprint = saved(office, path, approval_expires="1h")
    office.save(path, **flags)
    refuses_to_send(office, path, "needs approval", **flags)
    office.approve(fingerprint)
    office.desk.clock.monotonic += 2 * HOUR
    refuses_to_send(office, path, "it has expired", **flags)


def test_a_saved_plan_can_come_to_need_an_approval(office: Office, path: str) -> None:
    office.save(path)
    assert office.line().state == "planned"
    refuses_to_send(office, path, "needs approval", approval="second")
    assert office.line().state == "awaitingApproval"
    refuses_to_send(office, path, "needs approval")


def test_a_run_that_has_sent_cannot_come_to_need_an_approval(office: Office, path: str) -> None:
    office.run(path)
    with pytest.raises(ApprovalError, match="has sent calls already"):
        office.save(path, approval="second")
    assert office.save(path).info.state == "finished"


def test_the_requirement_can_stand_in_a_profile(office: Office, path: str, tmp_path: Path) -> None:
    profile = tmp_path / "telemetron-batch.toml"
    profile.write_text('approval = "second"\napproval-expires = "2h"\n')
    refuses_to_send(office, path, "needs approval", config=str(profile))


# Approvals that do not count


@pytest.mark.parametrize(
    ("approver", "why"),
    [
        (PETRA, "petra planned the run and approved it"),
        (RUTH, "ruth approved it and runs it"),
        (ROOT, "root wrote it, and root does not count as a second person"),
    ],
)
def test_an_approval_that_belongs_to_planner_runner_or_root_does_not_count(
    office: Office, path: str, approver: Any, why: str
) -> None:
    office.approve(saved(office, path))
    office.users.give(office.place() / "r1.json", approver)
    refuses_to_send(office, path, why)


def test_an_approval_of_another_run_does_not_count_under_its_name(office: Office, path: str) -> None:
    saved(office, path)
    office.approve(saved(office, path, run_id="r2"), run="r2")
    shutil.copy(office.place() / "r2.json", office.place() / "r1.json")
    office.users.give(office.place() / "r1.json", PAUL)
    refuses_to_send(office, path, "it is for run r2")
    assert office.line().state == "awaitingApproval"


def test_an_approval_does_not_count_for_a_later_plan_of_the_same_run_id(office: Office, path: str) -> None:
    office.approve(saved(office, path))
    shutil.rmtree(office.reports / "r1")
    saved(office, path)
    refuses_to_send(office, path, "it is for another plan that had this run id")
    shutil.rmtree(office.reports / "r1")
    other = office.desk.file([*ROWS, (A, "SN-3", "assign")], "other.csv")
    saved(office, other)
    refuses_to_send(office, other, "it is for the fingerprint ")


def test_an_approval_expires_before_the_first_attempt(office: Office, path: str) -> None:
    office.approve(saved(office, path))
    office.desk.clock.monotonic += 24 * HOUR + 1
    refuses_to_send(office, path, "it has expired: it is of 2026-01-01T00:00:00.000Z and counted for 24 h")
    assert office.line().state == "awaitingApproval"


def test_an_approval_counts_until_it_expires(office: Office, path: str) -> None:
    office.approve(saved(office, path, approval_expires="2h"))
    office.desk.clock.monotonic += 2 * HOUR - 1
    assert office.run(path).summary.exit_code == 0


def test_an_approval_of_the_future_does_not_count(office: Office, path: str) -> None:
    office.approve(saved(office, path))
    office.desk.clock.monotonic -= HOUR
    refuses_to_send(office, path, "which is in the future")


def test_a_revoked_approval_does_not_count(office: Office, path: str) -> None:
    fingerprint = saved(office, path)
    office.approve(fingerprint)
    revoke(office.reports / "r1")
    refuses_to_send(office, path, "needs approval: approve r1")
    with pytest.raises(ApprovalError, match="run r1 has no approval"):
        revoke(office.reports / "r1")
    office.approve(fingerprint)
    assert office.run(path).summary.exit_code == 0


def link(file: Path) -> None:
    file.rename(file.with_suffix(".kept"))
    file.symlink_to(file.with_suffix(".kept"))


def second_name(file: Path) -> None:
    os.link(file, file.with_suffix(".kept"))


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda file: file.chmod(0o664), r"others than its owner can write to .*\(mode 0664\)"),
        (lambda file: file.chmod(0o646), r"others than its owner can write to .*\(mode 0646\)"),
        (link, "cannot be read"),
        (second_name, "is no regular file with one name"),
        (pipe, "is no regular file with one name"),
        (folder, "is no regular file with one name"),
        (lambda file: file.write_text(""), "its file cannot be read as an approval"),
        (lambda file: file.write_text("[" * 5000), "its file cannot be read as an approval"),
        (lambda file: file.write_bytes(b"\xff\x00"), "its file cannot be read as an approval"),
        (lambda file: file.write_text('{"runId": "r1"}'), "its file cannot be read as an approval"),
        (lambda file: file.write_text(file.read_text().replace("Z", "")), "its time has no zone"),
        (lambda file: file.write_text("null"), "its file cannot be read as an approval"),
        (lambda file: file.write_text(file.read_text().replace("Z", "")[:-40]), "its file cannot be read"),
    ],
)
def test_a_file_that_others_can_have_written_or_that_is_damaged_is_no_approval(
    office: Office, path: str, change: Callable[[Path], None], why: str
) -> None:
    office.approve(saved(office, path))
    change(office.place() / "r1.json")
    refuses_to_send(office, path, why)
    assert office.line().state == "awaitingApproval"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda place: place.chmod(0o777), "all users can replace files in it"),
        (lambda place: place.rename(place.with_name("moved")), "cannot be used"),
        (lambda place: place.rename(place.with_name("m")) and place.symlink_to(place.with_name("m")), "symbolic link"),
        (lambda place: place.rename(place.with_name("m")) and place.write_text(""), "is no folder"),
    ],
)
def test_a_folder_in_which_all_can_replace_files_or_a_link_is_refused(
    office: Office, path: str, change: Callable[[Path], object], why: str
) -> None:
    office.approve(saved(office, path))
    change(office.place())
    with pytest.raises(BatchError, match=why) as refused:
        office.run(path)
    assert (refused.value.exit_code, office.sent) == (2, 0)


def test_the_folder_is_made_sticky_for_all_or_writable_for_the_group(office: Office, path: str, tmp_path: Path) -> None:
    saved(office, path)
    assert office.place().stat().st_mode & 0o7777 == 0o1777
    place = tmp_path / "for the group"
    office.save(path, run_id="r2", approval="second", approvals_dir=str(place), shared_reports_dir=True)
    assert place.stat().st_mode & 0o7777 == 0o2770


# The command approve


@pytest.mark.parametrize(
    ("approver", "fingerprint", "why"),
    [
        (PETRA, None, "petra planned run r1; let another user approve it"),
        (ROOT, None, "root does not count as a second person"),
        (PAUL, "0000-0000", "the plan of run r1 has another fingerprint than 0000-0000"),
        (PAUL, "0" * 64, "the plan of run r1 has another fingerprint than 0000-0000"),
        (PAUL, "yes", "'yes' is not a fingerprint such as 7f3a-92c1"),
    ],
)
def test_approve_refuses_author_root_and_a_wrong_fingerprint(
    office: Office, path: str, approver: Any, fingerprint: str | None, why: str
) -> None:
    right = saved(office, path)
    with pytest.raises(BatchError, match=why) as refused:
        office.approve(fingerprint or right, by=approver)
    assert refused.value.exit_code == 2
    assert not (office.place() / "r1.json").exists()


def test_a_plan_is_approved_once(office: Office, path: str) -> None:
    fingerprint = saved(office, path)
    office.approve(fingerprint)
    before = (office.place() / "r1.json").read_bytes()
    with pytest.raises(ApprovalError, match="run r1 has been approved already by paul"):
        office.approve(fingerprint, by=RUTH)
    assert (office.place() / "r1.json").read_bytes() == before


def test_a_plan_that_needs_no_approval_or_is_not_there_cannot_be_approved(office: Office, path: str) -> None:
    fingerprint = office.save(path).short_fingerprint
    with pytest.raises(BatchError, match="cannot be used"):
        office.approve(fingerprint)
    saved(office, path, run_id="r2")
    for run in ("r1", "no-such-run"):
        with pytest.raises(ApprovalError, match=f"no plan of a run {run} waits for an approval"):
            office.approve(fingerprint, run=run)


def test_a_plan_that_has_begun_waits_for_no_approval(office: Office, path: str) -> None:
    fingerprint = saved(office, path)
    office.approve(fingerprint)
    office.run(path, by=RUTH)
    revoke(office.reports / "r1")
    with pytest.raises(ApprovalError, match="no plan of a run r1 waits"):
        office.approve(fingerprint)


def test_a_forged_note_leads_to_an_approval_that_does_not_count(office: Office, path: str) -> None:
    saved(office, path)
    note = office.place() / "r1.plan"
    fields = json.loads(note.read_text())
    note.write_text(json.dumps({**fields, "fingerprintFull": "0" * 64}))
    office.approve("0000-0000")
    refuses_to_send(office, path, "it is for the fingerprint 0000-0000")


@pytest.mark.parametrize("content", ["", "[]", '{"rows": 1}', "[" * 5000])
def test_a_damaged_note_is_refused_and_written_again_by_the_planner(office: Office, path: str, content: str) -> None:
    fingerprint = saved(office, path)
    (office.place() / "r1.plan").write_text(content)
    with pytest.raises(ApprovalError, match="cannot be read; let the planner save the plan again"):
        office.approve(fingerprint)
    assert saved(office, path) == fingerprint
    office.approve(fingerprint)
    assert office.run(path).summary.exit_code == 0


def test_what_waits_and_what_is_approved_is_listed_without_reading_the_runs(office: Office, path: str) -> None:
    assert list_approvals(office.reports) == []
    first, second = saved(office, path), saved(office, path, run_id="r2")
    office.approve(second, run="r2")
    (office.place() / "r3.json").write_text("?")
    (office.reports / "r1").chmod(0)
    warnings: list[str] = []
    lines = list_approvals(office.reports, users=office.users, warn=warnings.append)
    (office.reports / "r1").chmod(0o700)
    assert [(line.run_id, line.fingerprint, line.planned_by, line.approved_by) for line in lines] == [
        ("r1", first, "petra", None),
        ("r2", second, "petra", "paul"),
    ]
    assert len(warnings) == 1
    assert "run r3" in warnings[0]


# Shards


def test_a_run_in_shards_can_neither_need_nor_get_round_an_approval(office: Office, path: str) -> None:
    with pytest.raises(ConfigError, match="--approval cannot be combined with --shards"):
        plan_shards(office.config(path, shards="2", approval="second"))
    saved(office, path)
    with pytest.raises(JournalError, match="was started without shards"):
        plan_shards(office.config(path, shards="2"), clock=office.desk.clock)
    with pytest.raises(JournalError, match="was started without shards"):
        run_shard(office.config(shard="1"), transport=office.desk.server, clock=office.desk.clock)
    plan_shards(office.config(path, shards="2", run_id="r2"), clock=office.desk.clock)
    with pytest.raises(ConfigError, match="a shard cannot need an approval"):
        run_shard(office.config(shard="1", run_id="r2", approval="second"), transport=office.desk.server)
    with pytest.raises(JournalError, match="is planned in shards"):
        office.save(path, run_id="r2")
    assert office.sent == 0


# The command line


def command(*words: object) -> Any:
    return CliRunner().invoke(
        main, [*map(str, words)], env={"TELEMETRON_API_KEY": KEY, "TELEMETRON_BASE_URL": BASE_URL}
    )


def test_the_commands_say_what_they_did_and_what_to_do_next(office: Office, path: str, monkeypatch: Any) -> None:
    from telemetron_batch.storage import system_users

    monkeypatch.setattr(system_users, "_ROOT", -7)  # these tests may run as root
    monkeypatch.setattr(os, "geteuid", lambda: 61_201)
    where = ("--reports-dir", office.reports)
    planned = command("plan", path, "--save", "--approval", "second", "--run-id", "r1", *where)
    fingerprint = office.line().fingerprint
    assert f"Saved as run r1, fingerprint {fingerprint}: it waits for the approval" in planned.stdout
    assert f"telemetron-batch approve {office.reports / 'r1'} {fingerprint}" in planned.stdout
    as_json = json.loads(command("plan", path, "--save", "--json", "--run-id", "r1", *where).stdout)
    assert (as_json["fingerprint"], as_json["state"], as_json["runId"]) == (fingerprint, "awaitingApproval", "r1")
    assert as_json["fingerprintFull"].startswith(str(fingerprint).replace("-", ""))
    listed = command("approve", "--list", *where)
    assert f"r1  {fingerprint}  not approved: 2 devices of 2 customers in 2 calls" in listed.stdout
    approved = command("approve", "r1", fingerprint, *where)
    assert f"Approved: run r1, fingerprint {fingerprint}: 2 devices of 2 customers in 2 calls" in approved.stdout
    assert json.loads(command("approve", "--list", "--json", *where).stdout)[0]["runId"] == "r1"
    assert "Revoked: the approval of run r1" in command("approve", "--revoke", "r1", *where).stdout
    assert "No approvals" not in command("approve", "--list", *where).stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("approve",), "Missing argument 'RUN'"),
        (("approve", "r1"), "Missing argument 'FINGERPRINT'"),
        (("approve", "--revoke"), "Missing argument 'RUN'"),
        (("approve", "--list", "r1"), "--list takes no RUN"),
        (("plan", "rows.csv", "--save", "--shards", "2"), "--save cannot be combined with --shards"),
        (("plan", "rows.csv", "--save", "--approval", "third"), "'third' is neither second nor none"),
        (("plan", "rows.csv", "--save", "--approval-expires", "0"), "must be longer than 0 seconds"),
    ],
)
def test_a_wrong_use_is_one_line(words: tuple[str, ...], error: str) -> None:
    ended = command(*words)
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert error in ended.stderr
