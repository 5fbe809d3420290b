"""An older night is not carried out after a newer one, unless that is meant; whatever else is as before."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from telemetron_batch.cli.commands import main
from telemetron_batch.config.config import resolve
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.errors import BrakeError, JournalError
from telemetron_batch.run import pipeline
from telemetron_batch.run.listing import list_runs
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage.lock import Lock, LockOwner, key_fingerprint, state_dir
from tests.config.test_config import refused, resolved
from tests.conftest import ENVIRON, KEY, Desk, Ran
from tests.support.scripted import BASE_URL, Says, Seen

A, B, C = "a@x.com", "b@x.com", "c@x.com"
REFUSED = Says(401, {"error": "Unauthorized"})
Row = tuple[str, str, str]
A_HAS, A_LOST, B_HAS, C_HAS = (
    (A, "SN-1", "assign"),
    (A, "SN-1", "unassign"),
    (B, "SN-1", "assign"),
    (C, "SN-9", "assign"),
)


class Listener(RunObserver):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def on_message(self, kind: str, text: str) -> None:
        if kind == "warning":
            self.warnings.append(text)


class Death(BaseException):
    """The process is no more."""


@dataclass
class Job:
    """A job whose nights are run at a desk."""

    desk: Desk
    face: Listener = field(default_factory=Listener)

    def __post_init__(self) -> None:
        self.desk.face = self.face
        self.fleet.assign(A, ["OWN-A"], create=True)
        self.fleet.assign(B, ["OWN-B"], create=True)

    @property
    def fleet(self) -> Any:
        return self.desk.server.fleet

    @property
    def reports(self) -> Path:
        return self.desk.folder / "reports"

    def night(self, number: int, rows: Sequence[Row], *, dated: bool = True, **flags: Any) -> Ran:
        """Run the file of a night, which was written on that day; as of it, if it is `dated`."""
        path = self.desk.file(rows, flags.pop("name", f"erp-{number}.csv"))
        os.utime(path, (number * 86_400, number * 86_400))
        as_of = {"as_of": f"2026-05-{number:02}"} if dated else {}
        self.face.warnings.clear()
        self.desk.server.seen.clear()
        return self.desk.run(path, **{"run_id": f"n{number}", **as_of, **flags})

    def stopped(self, number: int, rows: Sequence[Row], after: int = 0, **flags: Any) -> Ran:
        """Run a night that the API refuses after some requests."""
        self.desk.server.script = lambda seen: None if seen.number <= after else REFUSED
        try:
            return self.night(number, rows, concurrency="1", **flags)
        finally:
            self.desk.server.script = lambda _: None

    def resume(self, number: int, **flags: Any) -> Any:
        """Go on with a night by the command resume."""
        folder, environ = self.reports / f"n{number}", ENVIRON
        with pytest.MonkeyPatch.context() as patch:
            make = pipeline.run
            patch.setattr(pipeline, "run", lambda config, **told: make(config, transport=self.desk.server, **told))
            return pipeline.resume(folder, environ, observer=self.face, clock=self.desk.clock, **flags)


@pytest.fixture
def job(desk: Desk) -> Job:
    return Job(desk)


# The options


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-05-31", "2026-05-31T00:00:00+00:00"),
        ("20260531", "2026-05-31T00:00:00+00:00"),
        ("2026-05-31T02:00:00Z", "2026-05-31T02:00:00+00:00"),
        ("2026-05-31t02:00z", "2026-05-31T02:00:00+00:00"),
        (" 2026-05-31 02:00:00+02:00 ", "2026-05-31T00:00:00+00:00"),
        ("2026-05-31T02:00:00.5-0330", "2026-05-31T05:30:00.500000+00:00"),
        ("20260531T020000+02", "2026-05-31T00:00:00+00:00"),
    ],
)
def test_as_of_is_a_time_with_its_zone_or_a_date_in_utc(text: str, utc: str) -> None:
    as_of = resolved({"as_of": text}).as_of
    assert as_of is not None
    assert as_of.isoformat() == utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-05-31T02:00",
        "2026-05-31T02:00:00",
        "31.05.2026",
        "2026-5-1",
        "2026-02-30",
        "1780000000",
        "2026-05-31T25:00Z",
        "2026-05-31X02:00Z",
        "0001-01-01T00:00+10:00",
        "2026-05-31T02:00Z extra",
    ],
)
def test_anything_else_is_refused_with_how_to_write_it(text: str) -> None:
    assert "write it as 2026-05-31T02:00:00Z, 2026-05-31T02:00:00+02:00 or 2026-05-31" in refused({"as_of": text})


def test_the_options_come_from_environment_and_profile_too(tmp_path: Path) -> None:
    environ = {"TELEMETRON_AS_OF": "2026-05-31", "TELEMETRON_OUT_OF_ORDER": "1"}
    (tmp_path / "p.toml").write_text('job = "erp"\n')
    config = resolve(["f"], {"config": str(tmp_path / "p.toml")}, environ)
    assert (str(config.as_of), config.brakes.out_of_order, config.job) == ("2026-05-31 00:00:00+00:00", True, "erp")


def test_journal_summary_and_list_of_runs_tell_the_time(job: Job) -> None:
    ran = job.night(1, [A_HAS], as_of="2026-05-01T02:00:00+02:00")
    assert ran.json["asOf"] == ran.summary.fields["asOf"] == "2026-05-01T00:00:00.000Z"
    job.night(2, [C_HAS], dated=False)
    shown = CliRunner().invoke(main, ["runs", "--reports-dir", str(job.reports), "--json"]).stdout
    assert {one["runId"]: one["asOf"] for one in json.loads(shown)} == {"n1": "2026-05-01T00:00:00.000Z", "n2": None}


def test_a_run_that_was_killed_is_listed_with_its_time(job: Job) -> None:
    job.desk.server.script = dies
    with pytest.raises(BaseExceptionGroup):
        job.night(1, [A_HAS])
    assert [line.as_of for line in list_runs(job.reports)] == ["2026-05-01T00:00:00.000Z"]


def dies(_: Seen) -> None:
    raise Death


# By as-of


def test_an_older_night_is_refused_and_both_are_named(job: Job) -> None:
    job.night(2, [B_HAS])
    with pytest.raises(BrakeError) as refusal:
        job.night(1, [A_HAS])
    assert refusal.value.exit_code == 2
    assert str(refusal.value) == (
        "run n1 is as of 2026-05-01T00:00:00.000Z, and run n2 of the same job, as of 2026-05-02T00:00:00.000Z, has "
        "sent calls already; nothing is sent; to send the older state after the newer one all the same, say "
        "--out-of-order"
    )
    assert job.desk.server.seen == []
    assert not (job.reports / "n1").exists()


def test_out_of_order_sends_it(job: Job) -> None:
    job.night(2, [B_HAS])
    assert job.night(1, [A_HAS], out_of_order=True).outcomes == ["assigned"]


@pytest.mark.parametrize("number", [2, 3])
def test_the_same_night_again_and_a_newer_one_are_sent(job: Job, number: int) -> None:
    job.night(2, [B_HAS])
    assert job.night(number, [C_HAS], run_id="again").outcomes == ["assigned"]
    assert job.face.warnings == []


def test_a_newer_night_that_sent_nothing_refuses_no_one(job: Job) -> None:
    job.night(2, [("?", "SN-1", "assign")])
    assert job.night(1, [A_HAS]).outcomes == ["assigned"]


def test_a_newer_night_that_stopped_after_its_first_attempt_refuses(job: Job) -> None:
    job.stopped(2, [B_HAS])
    with pytest.raises(BrakeError, match="run n2 of the same job"):
        job.night(1, [A_HAS])


def test_a_newer_night_that_was_killed_refuses(job: Job) -> None:
    job.desk.server.script = dies
    with pytest.raises(BaseExceptionGroup):
        job.night(2, [B_HAS])
    job.desk.server.script = lambda _: None
    with pytest.raises(BrakeError, match="run n2 of the same job"):
        job.night(1, [A_HAS])


def test_a_newer_night_at_work_on_another_host_refuses_and_is_left_alone(job: Job) -> None:
    ran = job.night(2, [B_HAS])
    told = {"host": "elsewhere", "boot": "another", "pid": 7, "run": "n2", "since": "then"}
    (ran.folder / "run.lease.1").write_text(json.dumps(told))
    before = {path.name: path.stat().st_mtime_ns for path in ran.folder.iterdir()}
    with pytest.raises(BrakeError, match="run n2 of the same job"):
        job.night(1, [A_HAS])
    assert {path.name: path.stat().st_mtime_ns for path in ran.folder.iterdir()} == before


def test_the_journal_of_a_finished_run_is_read_without_a_trace(job: Job) -> None:
    ran = job.night(1, [B_HAS])
    before = {path.name: path.stat().st_mtime_ns for path in ran.folder.iterdir()}
    folder = ran.folder.stat().st_mtime_ns
    job.night(2, [A_HAS])
    assert {path.name: path.stat().st_mtime_ns for path in ran.folder.iterdir()} == before
    assert ran.folder.stat().st_mtime_ns == folder


def test_a_journal_that_cannot_be_read_is_a_warning(job: Job) -> None:
    (job.reports / "broken").mkdir(parents=True)
    (job.reports / "broken" / "journal.sqlite3").write_text("?")
    assert job.night(1, [A_HAS]).outcomes == ["assigned"]
    [warning] = job.face.warnings
    assert warning.startswith("run broken is not compared with this one: ")


# Going on


def test_an_older_night_is_not_gone_on_with_either(job: Job) -> None:
    job.stopped(1, [A_LOST, B_HAS], after=1)
    job.night(2, [C_HAS])
    with pytest.raises(BrakeError, match=r"run n1 is as of .* and run n2 of the same job"):
        job.night(1, [A_LOST, B_HAS])
    with pytest.raises(BrakeError, match=r"run n1 is as of .* and run n2 of the same job"):
        job.resume(1)
    assert job.desk.server.seen == []
    assert job.resume(1, out_of_order=True).exit_code == 0


def test_who_said_out_of_order_when_it_was_started_need_not_say_so_again(job: Job) -> None:
    job.night(2, [C_HAS])
    job.stopped(1, [A_HAS], out_of_order=True)
    assert job.resume(1).exit_code == 0


def test_the_command_resume_takes_the_option() -> None:
    assert "--out-of-order" in CliRunner().invoke(main, ["resume", "--help"]).output


def test_a_finished_night_is_merely_repeated(job: Job) -> None:
    first = job.night(1, [A_HAS])
    job.night(2, [A_LOST, B_HAS])
    assert job.night(1, [A_HAS]).summary.fields == first.summary.fields
    assert job.resume(1).exit_code == 0
    assert job.desk.server.seen == []


def test_a_night_that_has_sent_all_may_be_brought_to_its_end(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "finish_run", full)
        with pytest.raises(Death):
            job.night(1, [A_HAS])
    job.night(2, [C_HAS])
    assert job.night(1, [A_HAS]).outcomes == ["assigned"]


def test_another_time_under_an_old_run_id_is_refused(job: Job) -> None:
    job.stopped(1, [A_HAS])
    with pytest.raises(JournalError, match=r"was started with other options \(--as-of\)"):
        job.night(1, [A_HAS], as_of="2026-05-03")
    assert job.night(1, [A_HAS], dated=False).json["asOf"] == "2026-05-01T00:00:00.000Z"


def test_a_report_never_refuses(job: Job) -> None:
    ran = job.stopped(1, [A_HAS])
    job.night(2, [B_HAS])
    assert report_run(ran.folder).exit_code == 4


def shards_of(job: Job, number: int) -> Any:
    """Plan a night in two shards; gives what runs one of them."""
    path = job.desk.file([A_HAS, C_HAS], f"erp-{number}.csv")
    where = {"base_url": BASE_URL, "reports_dir": str(job.reports), "run_id": f"n{number}"}
    environ = {"TELEMETRON_API_KEY": KEY}
    told = {**where, "as_of": f"2026-05-{number:02}", "shards": "2"}
    plan_shards(resolve([path], told, environ), observer=job.face, clock=job.desk.clock)

    def run(shard: int, **flags: Any) -> int:
        config = resolve([], {**where, "shard": str(shard), **flags}, environ)
        return run_shard(config, observer=job.face, transport=job.desk.server, clock=job.desk.clock).exit_code

    return run


def test_a_shard_of_an_older_night_is_refused(job: Job) -> None:
    run = shards_of(job, 1)
    assert run(1) == 0
    job.night(2, [(C, "Y", "assign")], name="erp-1.csv")
    assert run(1) == 0  # it has nothing left to send
    for phase in ({}, {"phase": str(Phase.ASSIGN)}):
        with pytest.raises(BrakeError, match="run n1 is as of"):
            run(2, **phase)
    assert job.desk.server.seen[1:] == []
    assert run(2, out_of_order=True) == 0
    assert report_run(job.reports / "n1").fields["asOf"] == "2026-05-01T00:00:00.000Z"


def test_a_shard_that_waited_for_the_key_while_a_newer_night_sent_is_refused(job: Job) -> None:
    run, pause, newer = shards_of(job, 1), job.desk.clock.sleep_blocking, shards_of(job, 2)
    name = key_fingerprint(BASE_URL, KEY)
    lock = Lock.acquire(state_dir() / f"{name}.lock", LockOwner(1, "now", "n2"), "the key")

    def work_of_the_other(seconds: float) -> None:
        pause(seconds)
        lock.release()
        job.desk.clock.sleep_blocking = pause
        assert newer(1) == 0

    job.desk.clock.sleep_blocking = work_of_the_other
    with pytest.raises(BrakeError, match="run n2 of the same job"):
        run(1, wait="1m")
    assert len(job.desk.server.seen) == 1


def test_a_shard_of_a_newer_night_refuses_before_the_run_is_put_together(job: Job) -> None:
    run = shards_of(job, 2)
    job.night(1, [(C, "Y", "assign")], name="erp-1.csv")
    assert run(1) == 0
    with pytest.raises(BrakeError, match="run n2 of the same job"):
        job.night(1, [(C, "Z", "assign")], run_id="late")


# Which runs are of a job


@pytest.mark.parametrize(
    "flags",
    [
        {"name": "other-1.csv"},
        {"job": "lists"},
        {"base_url": BASE_URL.replace(":9/", ":10/")},
        {"profile": "p"},
    ],
    ids=["other files", "another name", "another API", "a profile"],
)
def test_a_run_of_another_job_is_not_compared(job: Job, flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (job.desk.folder / "telemetron-batch.toml").write_text("[p]\n")
    monkeypatch.chdir(job.desk.folder)
    job.night(2, [B_HAS])
    assert job.night(1, [A_HAS], **flags).summary.fields["state"] == "finished"


def test_a_run_with_another_key_is_not_compared(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.night(2, [B_HAS])
    monkeypatch.setattr("tests.conftest.KEY", "another-key-of-the-tests")
    assert job.night(1, [A_HAS]).outcomes == ["assigned"]


@pytest.mark.parametrize(
    "flags",
    [
        {"name": "erp-20260501.csv"},
        {"job": "erp", "name": "x.csv"},
        {"profile": "p", "name": "y.csv"},
        {"base_url": "http://localhost:9//api/ext-v1/"},
    ],
    ids=["file names but for digits", "name of the job", "profile", "base URL in another spelling"],
)
def test_runs_of_one_job_are_compared(job: Job, flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (job.desk.folder / "telemetron-batch.toml").write_text("[p]\n")
    monkeypatch.chdir(job.desk.folder)
    job.night(2, [B_HAS], **{key: flags[key] for key in flags if key in ("job", "profile")})
    with pytest.raises(BrakeError, match="run n2 of the same job"):
        job.night(1, [A_HAS], **flags)


def test_since_last_knows_a_job_by_its_name_too(job: Job) -> None:
    job.night(1, [A_HAS], job="erp", name="x.csv", since_last=True)
    assert job.night(2, [A_HAS], job="erp", name="y.csv", since_last=True).outcomes == ["unchanged"]
    told = job.night(3, [A_HAS], job="other", since_last=True).json["since"]["told"]
    assert told == "everything is sent: there is no finished run of job other yet"


def test_reports_of_this_program_have_no_order(job: Job) -> None:
    first = job.night(1, [A_HAS, ("?", "SN-8", "assign")], job="erp")
    job.night(3, [C_HAS], job="erp")
    for number, name in enumerate(("undo.csv", "attention.csv")):
        path = shutil.copy(first.folder / name, job.desk.folder / name)
        assert job.desk.run(str(path), run_id=f"fed{number}", as_of="2026-05-02", job="erp").summary.exit_code < 2
    path = shutil.copy(first.folder / "undo.csv", job.desk.folder / "undo.csv")
    job.desk.run(str(path), run_id="future", as_of="2026-05-20", job="erp", again=True)
    assert job.night(4, [A_HAS], job="erp").outcomes == ["assigned"]


def test_runs_of_the_sandbox_have_no_order(job: Job) -> None:
    import asyncio

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job.desk.clock, "run", asyncio.run)  # its sockets are real, and want real time
        job.night(2, [B_HAS], sandbox=True)
        assert job.night(1, [A_HAS], sandbox=True).summary.exit_code == 0
    assert job.night(1, [A_HAS], run_id="real").outcomes == ["assigned"]


# By the age of the files


def test_an_older_file_is_a_warning_where_nothing_opposite_was_sent(job: Job) -> None:
    job.night(2, [C_HAS], dated=False)
    assert job.night(1, [A_HAS], dated=False).outcomes == ["assigned"]
    assert job.face.warnings == [
        "the input of run n1 was written 1970-01-02T00:00:00.000Z, before that of run n2 (1970-01-03T00:00:00.000Z), "
        "which is of the same job and has sent calls already; give both their --as-of, which tells the order of nights "
        "for sure"
    ]


@pytest.mark.parametrize(("ours", "theirs"), [(True, False), (False, True), (False, False)])
def test_an_older_file_is_refused_where_the_opposite_was_sent(job: Job, *, ours: bool, theirs: bool) -> None:
    job.night(2, [A_LOST, B_HAS], dated=theirs)
    with pytest.raises(BrakeError, match=r"has sent calls already, also the opposite .* \(first: line 3\)") as refusal:
        job.night(1, [C_HAS, A_HAS], dated=ours)
    assert refusal.value.exit_code == 2
    assert job.night(1, [C_HAS, A_HAS], dated=ours, out_of_order=True).outcomes == ["assigned"] * 2
    assert job.face.warnings == []


def test_an_older_file_is_not_gone_on_with_where_the_opposite_was_sent(job: Job) -> None:
    job.stopped(1, [A_HAS], dated=False)
    job.night(2, [A_LOST], dated=False)
    with pytest.raises(BrakeError, match="first: line 2"):
        job.resume(1)


def test_only_what_the_newer_run_sent_counts(job: Job) -> None:
    job.fleet.assign(A, ["SN-1"])
    job.stopped(2, [(C, "Z", "unassign"), A_LOST], after=1, dated=False)
    assert job.night(1, [A_HAS], dated=False).outcomes == ["alreadyAssigned"]
    assert len(job.face.warnings) == 1


def test_what_the_newer_run_found_done_already_counts_too(job: Job) -> None:
    job.night(1, [A_HAS], dated=False, since_last=True)
    job.night(3, [A_HAS, C_HAS], dated=False, since_last=True)
    shutil.rmtree(job.reports / "n1")
    with pytest.raises(BrakeError, match="first: line 2"):
        job.night(2, [A_LOST, B_HAS], dated=False)


def test_of_a_killed_run_all_that_it_set_out_to_send_counts(job: Job) -> None:
    job.desk.server.script = dies
    with pytest.raises(BaseExceptionGroup):
        job.night(2, [C_HAS, A_LOST], dated=False, concurrency="1")
    job.desk.server.script = lambda _: None
    with pytest.raises(BrakeError, match="first: line 2"):
        job.night(1, [A_HAS], dated=False)


def test_an_input_of_unknown_age_is_not_compared(job: Job) -> None:
    ran = job.night(2, [A_LOST], dated=False)
    with sqlite3.connect(ran.folder / "journal.sqlite3") as journal:
        [(inputs,)] = journal.execute("SELECT value FROM meta WHERE name = 'inputs'")
        without = json.dumps([{**one, "written": None} for one in json.loads(inputs)])
        journal.execute("UPDATE meta SET value = ? WHERE name = 'inputs'", (without,))
    journal.close()
    assert job.night(1, [A_HAS], dated=False).outcomes == ["assigned"]
    assert job.face.warnings == []


# The law

CUSTOMERS, DEVICES = (A, B, C), ("SN-1", "SN-2", "SN-3")
OWNERS = st.tuples(*[st.sampled_from(CUSTOMERS)] * len(DEVICES))
STEP = st.tuples(
    st.sampled_from(["run", "run", "run", "resume", "resume"]),
    st.integers(1, 4),
    st.sampled_from([99, 99, 0, 1, 2, 3, 4]),
    st.sampled_from(["stops", "dies"]),
)


def export(owners: Sequence[str]) -> list[Row]:
    """A night's file: each device is taken from everybody else and given to its owner."""
    taken = [
        (other, device, "unassign")
        for device, owner in zip(DEVICES, owners, strict=True)
        for other in CUSTOMERS
        if other != owner
    ]
    return [*taken, *((owner, device, "assign") for device, owner in zip(DEVICES, owners, strict=True))]


@dataclass
class World:
    """Nights carried out in any order, against what the order of nights must make of them."""

    job: Job
    owners: Sequence[Sequence[str]]
    """Of each device, night by night."""
    dated: Sequence[bool]
    since_last: bool = False
    guarded: bool = True
    runs: list[int] = field(default_factory=list)
    """The night of each run."""
    finished: set[int] = field(default_factory=set)

    def step(self, kind: str, number: int, after: int, end: str) -> None:
        """Run a night, or go on with a run; it stops or dies after some requests. Refusals change nothing."""
        script = REFUSED if end == "stops" else None
        self.job.desk.server.script = lambda seen: None if seen.number <= after else script or dies(seen)
        run = number % max(1, len(self.runs)) if kind == "resume" and self.runs else len(self.runs)
        night = self.runs[run] if run < len(self.runs) else number
        self.runs += [night] * (run == len(self.runs))
        try:
            if self._carry_out(run, night).summary.fields["state"] == "finished":
                self.finished.add(night)
        except (BrakeError, BaseExceptionGroup):
            pass

    def _carry_out(self, run: int, night: int) -> Ran:
        flags = {"again": True, "since_last": self.since_last, "concurrency": "1", "chunk_size": "2"}
        return self.job.night(
            night,
            export(self.owners[night - 1]),
            dated=self.dated[night - 1],
            run_id=f"r{run}",
            out_of_order=not self.guarded,
            **flags,
        )

    def check(self) -> None:
        """No device has two owners; when the newest night has finished, all are where it wants them."""
        fleet = self.job.fleet
        owned = {device: set(fleet.owners(device)) for device in DEVICES}
        assert all(len(owners) <= 1 for owners in owned.values()), owned
        if self.finished and max(self.finished) == max(self.runs):
            wanted = self.owners[max(self.finished) - 1]
            assert owned == {device: {owner} for device, owner in zip(DEVICES, wanted, strict=True)}


def world_in(folder: Path, owners: Sequence[Sequence[str]], dated: Sequence[bool], **more: bool) -> World:
    """A world in which every customer is known."""
    world = World(Job(Desk(folder)), owners, dated, **more)
    world.job.fleet.assign(C, ["OWN-C"], create=True)
    return world


STOPPED_BETWEEN: Sequence[Any] = [("run", 1, 4, "stops"), ("run", 2, 99, "stops"), ("resume", 0, 99, "stops")]
"""Night 1 has taken, and gives after night 2 has given."""


@pytest.mark.parametrize("dated", [True, False])
def test_without_the_guard_a_device_has_two_owners(tmp_path: Path, *, dated: bool) -> None:
    world = world_in(tmp_path, [[A] * 3, [B] * 3], [dated] * 2, guarded=False)
    for step in STOPPED_BETWEEN:
        world.step(*step)
    assert world.job.fleet.owners("SN-1") == {A, B}


@settings(
    max_examples=settings.default.max_examples * 15 // 100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    owners=st.lists(OWNERS, min_size=4, max_size=4),
    dated=st.lists(st.booleans(), min_size=4, max_size=4),
    steps=st.lists(STEP, min_size=3, max_size=7),
    since_last=st.booleans(),
)
@example(owners=[(A,) * 3, (B,) * 3], dated=[True] * 2, steps=STOPPED_BETWEEN, since_last=False)
@example(owners=[(A,) * 3, (B,) * 3], dated=[False] * 2, steps=STOPPED_BETWEEN, since_last=False)
def test_no_device_ends_with_two_owners_because_an_older_night_came_after_a_newer_one(
    owners: list[tuple[str, ...]], dated: list[bool], steps: list[Any], tmp_path: Path, *, since_last: bool
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        world = world_in(Path(folder), owners, dated, since_last=since_last)
        for step in steps:
            world.step(*step)
            world.check()
