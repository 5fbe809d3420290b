"""A run in shards has the same result as a run in one process, also if shards fail or die."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.errors import ConfigError, InputError, JournalError, LockedError
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME
from telemetron_batch.reports.summary import ShardSummary
from telemetron_batch.run import pipeline
from telemetron_batch.run.listing import list_runs
from telemetron_batch.sharding.barrier import UNRELEASED_FILE, collect_unreleased_by_shard
from telemetron_batch.sharding.partition import CALLS
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import ShardedPlan, plan_shards
from telemetron_batch.storage.lock import Lock, LockOwner
from tests.conftest import ENVIRON, KEY, Desk, Ran
from tests.support.listeners import listening
from tests.support.scripted import BASE_URL, Event, Loses, Rewrites, Says, ScriptedServer, Seen

A, B, C, D = "a@x.com", "b@x.com", "c@x.com", "d@x.com"
UNASSIGN, ASSIGN = Phase
EXAMPLES = int(os.environ.get("TESTS_EXAMPLES", settings.default.max_examples * 8 // 100))
Rows = Sequence[tuple[str, ...]]


def configuration(desk: Desk, *files: str, **flags: Any) -> RunConfig:
    """Return the configuration of a command at a desk."""
    where = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "r1"}
    return resolve(files, {**where, **flags}, {"TELEMETRON_API_KEY": KEY})


class Shards:
    """A run in shards at a desk."""

    def __init__(self, desk: Desk, rows: Rows, shards: int, **flags: Any) -> None:
        self.desk = desk
        self.path = desk.file(rows)
        self.flags = {"shards": str(shards), **flags}
        self.plan = self.planned()

    def planned(self, **flags: Any) -> ShardedPlan:
        return plan_shards(configuration(self.desk, self.path, **{**self.flags, **flags}), clock=self.desk.clock)

    def run(self, shard: int, phase: Phase | None = None, **flags: Any) -> ShardSummary:
        config = configuration(self.desk, shard=str(shard), **({} if phase is None else {"phase": str(phase)}), **flags)
        return run_shard(config, observer=self.desk.face, transport=self.desk.server, clock=self.desk.clock)

    def run_all(self, *phases: Phase, but: int = 0) -> list[int]:
        """Run the phases (default: both) of all shards; return their exit codes."""
        numbers = [shard.number for shard in self.plan.shards if shard.number != but]
        return [self.run(number, phase).exit_code for phase in phases or Phase for number in numbers]

    def shard_of(self, customer: str) -> int:
        """Return the shard that sends to a customer."""
        for shard in self.plan.shards:
            content = (self.plan.folder / "shards" / str(shard.number) / "calls.arrow").read_bytes()
            if customer.encode() in content:
                return shard.number
        raise AssertionError(customer)

    def report(self) -> Ran:
        return Ran(report_run(self.plan.folder), self.plan.folder, self.desk.server)


def desk_with(folder: Path, rows: Rows, script: Callable[[Seen], Event] | None = None) -> Desk:
    """Return a desk whose customers have the devices that their first row unassigns."""
    folder.mkdir(parents=True)
    desk = Desk(folder)
    first: dict[tuple[str, str], str] = {}
    for customer, device, action in rows:
        first.setdefault((customer, device), action)
    for (customer, device), action in first.items():
        if action == "unassign" and not customer.startswith("nobody"):
            desk.server.fleet.assign(customer, [device], create=True)
    if script is not None:
        desk.server.script = script
    return desk


def comparable_rows(ran: Ran, *but: str) -> list[dict[str, str]]:
    """Return the reconciliation without columns that differ between runs."""
    return [{**row, **dict.fromkeys(("answeredAt", *but), "")} for row in ran.rows]


def remaining_totals(ran: Ran) -> tuple[int, int]:
    return ran.json["customersWithoutDevices"], ran.json["customersStillHolding"]


def passed_on(number: int) -> Rows:
    """Return rows of customers each of whom passes a device to the next."""
    names = [f"c{at}@x.com" for at in range(number)]
    pairs = zip(names, [*names[1:], names[0]], strict=True)
    rows = [((one, f"SN-{at}", "unassign"), (other, f"SN-{at}", "assign")) for at, (one, other) in enumerate(pairs)]
    return [row for both in rows for row in both]


# Results


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_shards_have_the_result_of_one_process(tmp_path: Path, shards: int) -> None:
    rows = [*passed_on(7), (A, "SN-0", "assign"), (A, "SN-0", "unassign"), (B, "SN-0", "assign"), ("?", "x", "assign")]
    one = desk_with(tmp_path / "one", rows).run(rows)
    many = Shards(desk_with(tmp_path / "many", rows), rows, shards)
    assert set(many.run_all()) == {0}
    ran = many.report()
    assert comparable_rows(ran) == comparable_rows(one)
    assert ran.summary.exit_code == one.summary.exit_code == 1
    same = ("state", "counts", "calls", "callsSettled", "attempts", "customersCreated", "attention", "rows", "balanced")
    assert {name: ran.json[name] for name in same} == {name: one.json[name] for name in same}
    assert remaining_totals(ran) == remaining_totals(one) == (1, 0)
    for name in ("attention.csv", "undo.csv"):
        assert (ran.folder / name).read_bytes() == (one.folder / name).read_bytes()


CUSTOMER = st.sampled_from([A, B, C, D, "nobody@x.com", "mute@x.com"])
DEVICE = st.sampled_from(["SN-1", "SN-2", "SN-3", "SN-4", "POISON-1", "UNKNOWN-1"])
ROW = st.tuples(CUSTOMER, DEVICE, st.sampled_from(["assign", "unassign"]))


def troubled(seen: Seen) -> Event:
    """Fail by content, not by time: poison is refused, and one customer gets unusable answers."""
    if any(device.startswith("POISON") for device in seen.devices):
        return Says(400, {"error": "Something about a device is wrong"})
    if seen.customer == "mute@x.com" and seen.action == "unassign":
        return Rewrites(lambda _: {"success": False})
    return None


@given(st.lists(ROW, min_size=1, max_size=25), st.integers(1, 4), st.integers(1, 3))
@example([(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (B, "SN-1", "unassign"), (C, "SN-1", "assign")], 3, 1)
@example([("mute@x.com", "SN-1", "unassign"), (A, "SN-1", "assign"), (A, "SN-2", "assign")], 2, 5)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_any_input_in_any_number_of_shards_has_the_result_of_one_process(rows: Rows, shards: int, chunk: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        flags = {"chunk_size": str(chunk), "rate": "1000/s", "attempts": "2"}
        one = desk_with(Path(folder) / "one", rows, troubled)
        single = one.run(rows, **flags)
        many = Shards(desk_with(Path(folder) / "many", rows, troubled), rows, shards, **flags)
        many.run_all()
        ran = many.report()
        assert comparable_rows(ran) == comparable_rows(single)
        assert ran.summary.exit_code == single.summary.exit_code
        assert remaining_totals(ran) == remaining_totals(single)
        assert everything_in(many.desk) == everything_in(one)


@given(
    st.lists(ROW, min_size=1, max_size=25),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from([UNASSIGN, ASSIGN])), max_size=5),
)
@example(
    [(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (B, "SN-1", "unassign"), (C, "SN-1", "assign")], 1, [(1, ASSIGN)]
)
@example([(A, "SN-1", "unassign"), (A, "SN-1", "assign")], 1, [(1, ASSIGN)])
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_any_order_of_phases_leaves_every_device_where_one_process_does(
    rows: Rows, shards: int, before: Sequence[tuple[int, Phase]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        flags = {"rate": "1000/s", "attempts": "2"}
        one = desk_with(Path(folder) / "one", rows, troubled)
        one.run(rows, **flags)
        many = Shards(desk_with(Path(folder) / "many", rows, troubled), rows, shards, **flags)
        for shard, phase in before:
            if shard <= len(many.plan.shards):
                many.run(shard, phase)
        many.run_all()
        assert many.report().json["balanced"]
        assert everything_in(many.desk) == everything_in(one)


def everything_in(desk: Desk) -> dict[str, set[str]]:
    """Return the owner of each device at the end."""
    devices = {device for seen in desk.server.seen for device in seen.devices}
    return {device: set(desk.server.fleet.owners(device)) for device in devices}


def test_devices_to_be_created_stay_with_one_shard(tmp_path: Path) -> None:
    rows = [(one, device, "assign") for device, pair in (("UNKNOWN-1", (A, B)), ("UNKNOWN-2", (B, C))) for one in pair]
    flags = {"auto_create_devices": True, "device_type": "sensor"}
    many = Shards(desk_with(tmp_path / "many", rows), rows, 3, **flags)
    assert len({many.shard_of(customer) for customer in (A, B, C)}) == 1
    many.run_all()
    assert comparable_rows(many.report()) == comparable_rows(desk_with(tmp_path / "one", rows).run(rows, **flags))


def test_an_input_without_rows_can_be_run_in_shards(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", []), [], 2, allow_empty=True)
    assert many.run_all() == [0, 0, 0, 0]
    assert many.report().summary.exit_code == 0


def test_more_shards_than_customers_leave_some_with_nothing_to_do(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign")]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 3)
    assert many.run_all() == [0] * 6
    assert many.report().outcomes == ["assigned"]


def test_the_baseline_of_shards_is_merged(tmp_path: Path) -> None:
    rows = passed_on(4)
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2, baseline=True)
    many.run_all()
    ran = many.report()
    one = desk_with(tmp_path / "one", rows).run(rows, baseline=True)
    assert comparable_rows(ran) == comparable_rows(one)
    record = Journal(ran.folder / JOURNAL_NAME)
    assert len([*record.all_holdings()]) == 4
    record.close()


# Continuing


def test_the_merge_of_the_shards_is_told_once_and_no_shard_is(tmp_path: Path) -> None:
    desk, rows = desk_with(tmp_path / "d", passed_on(3)), passed_on(3)
    with listening() as listener:
        environ = {
            "TELEMETRON_NOTIFY": f"json://{listener.host}",
            "TELEMETRON_NOTIFY_ON": "finished,attention,stopped",
            "TELEMETRON_PING": f"http://{listener.host}/p",
        }
        urls = {"notify": (environ["TELEMETRON_NOTIFY"],), "ping": environ["TELEMETRON_PING"]}
        sharded = Shards(desk, rows, 2)
        sharded.run(1, Phase.UNASSIGN, **urls)
        report_run(sharded.plan.folder, environ=environ)
        assert len(listener.titles) == 1
        assert " stopped: " in listener.titles[0]
        sharded.run_all()
        for _ in range(2):
            summary = report_run(sharded.plan.folder, environ=environ)
        assert (summary.fields["state"], len(listener.titles)) == ("finished", 2)
        assert [path for path, _ in listener.pings] == ["/p/start", "/p/fail", *["/p/start", "/p"] * 2]


def test_repeating_a_finished_shard_sends_nothing(tmp_path: Path) -> None:
    rows = passed_on(5)
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2)
    many.run_all()
    first = many.report()
    sent = len(many.desk.server.seen)
    assert set(many.run_all()) == {0}
    assert {many.run(shard).exit_code for shard in (1, 2)} == {0}
    again = many.report()
    assert len(many.desk.server.seen) == sent
    assert again.rows == first.rows
    assert many.planned().as_json() == many.plan.as_json()


def test_without_a_phase_a_shard_waits_for_the_others(tmp_path: Path) -> None:
    rows = passed_on(6)
    many = Shards(desk_with(tmp_path / "many", rows), rows, 3)
    early = many.run(1, wait="30s")
    assert early.exit_code == 3
    assert early.fields["stop"]["reason"] == "shards 2 and 3 have not made all unassign calls yet"
    assert early.fields["stop"]["advice"] == f"run the same command again with --base-url {BASE_URL} when they have"
    assert {seen.action for seen in many.desk.server.seen} == {"unassign"}
    assert many.run(2).fields["stop"]["reason"] == "shard 3 has not made all unassign calls yet"
    assert many.run(3).exit_code == 0
    assert [many.run(shard).exit_code for shard in (1, 2)] == [0, 0]
    assert set(many.report().outcomes) == {"assigned", "unassigned"}


def test_the_deadline_covers_both_phases(tmp_path: Path) -> None:
    rows = [("c@x.com", f"SN-{at}", action) for at in range(20) for action in ("unassign", "assign")]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 1, chunk_size="1", rate="1/s")
    stopped = many.run(1, deadline="30s")
    assert (stopped.exit_code, stopped.fields["stop"]["reason"]) == (3, "the deadline has passed")
    assert 29 <= stopped.fields["attempts"] <= 31
    assert many.run(1, deadline="30s").exit_code == 0


def test_rows_settled_by_an_earlier_run_are_in_no_shard(tmp_path: Path) -> None:
    desk = desk_with(tmp_path / "many", [])
    desk.run([(A, "SN-1", "assign"), (B, "SN-2", "assign")], run_id="night-1")
    many = Shards(desk, [(A, "SN-1", "assign"), (B, "SN-3", "assign")], 2, since_last=True)
    assert many.plan.summary.calls == 1
    many.run_all()
    assert many.report().outcomes == ["unchanged", "assigned"]


def test_shards_do_not_wait_for_one_without_unassigns(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "assign"), (B, "SN-3", "assign")]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2)
    assert many.run(many.shard_of(B)).exit_code == 0
    assert collect_unreleased_by_shard(many.plan.folder, clock=many.desk.clock).complete
    assert many.report().outcomes == ["notSent", "assigned", "assigned"]


def test_options_of_run_shard_override_those_of_the_plan(tmp_path: Path) -> None:
    rows = [(f"c{at}@x.com", "POISON-1", "assign") for at in range(9)]
    many = Shards(desk_with(tmp_path / "many", rows, troubled), rows, 1, max_failed="1", concurrency="1")
    stopped = many.run(1)
    assert stopped.exit_code == 5
    ran = many.report()
    assert ran.summary.exit_code == 5
    assert many.run(1, max_failed="10").exit_code == 0
    assert set(many.report().outcomes) == {"failed"}


def test_options_that_change_the_plan_are_refused(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(2)), passed_on(2), 2)
    with pytest.raises(JournalError, match="started with other options"):
        many.run(1, chunk_size="7")


def test_the_stop_of_the_unassigns_is_reported_after_the_assigns_too(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(6)), passed_on(6), 2)
    refused = ("c0@x.com", "unassign")
    many.desk.server.script = lambda seen: Says(401) if (seen.customer, seen.action) == refused else None
    assert sorted(many.run_all()) == [0, 0, 0, 4]
    ran = many.report()
    assert (ran.summary.exit_code, "refuses this key" in ran.json["stop"]["reason"]) == (4, True)


def test_a_shard_that_must_wait_reports_until_when(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(6)), passed_on(6), 2)
    many.desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "600"}) if seen.number == 2 else None
    stopped = many.run(1, UNASSIGN, longest_wait="5m")
    assert (stopped.exit_code, stopped.fields["stop"]["reason"][-9:-1]) == (3, stopped.fields["resumeAt"][11:19])


# Shards that die


def test_devices_that_a_dead_shard_did_not_unassign_are_held_by_others(tmp_path: Path) -> None:
    rows = passed_on(6)
    many = Shards(desk_with(tmp_path / "many", rows), rows, 3)
    assert many.run_all(UNASSIGN, but=2) == [0, 0]
    state = collect_unreleased_by_shard(many.plan.folder, clock=many.desk.clock)
    assert (state.complete, state.unfinished, state.as_json()["unassignsLeft"]) == (False, (2,), 2)
    assert many.run_all(ASSIGN, but=2) == [0, 0]
    ran = many.report()
    assert ran.summary.exit_code == 3
    assert ran.json["stop"]["reason"] == "shard 2: it has not begun"
    assert "then report again" in ran.json["stop"]["advice"]
    held = [row for row in ran.rows if row["outcome"] == "held"]
    assert held
    assert all(many.shard_of(row["customerEmail"]) != 2 for row in held)
    assert all("its unassign did not succeed" in row["detail"] for row in held)
    left = {row["customerEmail"] for row in ran.rows if row["outcome"] == "notSent"}
    assert left == {row["customerEmail"] for row in ran.rows if many.shard_of(row["customerEmail"]) == 2}


def test_after_a_dead_shard_is_run_again_nothing_stays_held(tmp_path: Path) -> None:
    rows = passed_on(6)
    many = Shards(desk_with(tmp_path / "many", rows), rows, 3)
    many.run_all(UNASSIGN, but=2)
    many.run_all(ASSIGN, but=2)
    assert many.run(2).exit_code == 0
    between = many.report()
    assert "held" not in between.outcomes
    assert between.summary.exit_code == 3
    assert between.json["stop"]["reason"] == "shard 3: devices that it held are free by now"
    assert many.run_all(ASSIGN) == [0, 0, 0]
    ran = many.report()
    assert comparable_rows(ran) == comparable_rows(desk_with(tmp_path / "one", rows).run(rows))
    assert ran.summary.exit_code == 0


def test_a_permanent_hold_stays_when_others_are_released(tmp_path: Path) -> None:
    rows = [
        (A, "SN-1", "unassign"),
        ("mute@x.com", "SN-2", "unassign"),
        (C, "SN-1", "assign"),
        (C, "SN-2", "assign"),
        (C, "SN-3", "assign"),
    ]
    many = Shards(desk_with(tmp_path / "many", rows, troubled), rows, 3)
    dead = many.shard_of(A)
    many.run_all(UNASSIGN, but=dead)
    many.run_all(ASSIGN, but=dead)
    assert many.report().outcomes == ["notSent", "unconfirmed", "held", "held", "assigned"]
    many.run_all()
    ran = many.report()
    assert ran.outcomes == ["unassigned", "unconfirmed", "assigned", "held", "assigned"]
    assert many.report().outcomes == ran.outcomes


def test_a_shard_whose_unassigns_were_not_made_holds_dependent_assigns(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (B, "SN-2", "assign")]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 1)
    assert many.run(1, ASSIGN).exit_code == 0
    assert many.report().outcomes == ["notSent", "held", "assigned"]
    assert many.run(1).exit_code == 0
    assert many.report().outcomes == ["unassigned", "assigned", "assigned"]


def test_stages_after_a_held_assign_wait_for_it(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (B, "SN-1", "unassign"), (C, "SN-1", "assign")]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 1)
    summary = many.run(1, ASSIGN)
    assert summary.exit_code == 3
    assert summary.fields["stop"]["reason"] == "shard 1 has not made all unassign calls yet"
    assert many.report().outcomes == ["notSent", "held", "notSent", "notSent"]
    assert many.run_all() == [0, 0]
    assert comparable_rows(many.report()) == comparable_rows(desk_with(tmp_path / "one", rows).run(rows))
    assert {*many.desk.server.fleet.owners("SN-1")} == {C}


def test_a_device_is_not_assigned_before_it_is_unassigned_from_the_same_customer(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "unassign"), (A, "SN-1", "assign")]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 1)
    assert many.run(1, ASSIGN).exit_code == 0
    assert many.report().outcomes == ["notSent", "held"]
    assert many.run_all() == [0, 0]
    assert many.report().outcomes == ["unassigned", "assigned"]
    assert {*many.desk.server.fleet.owners("SN-1")} == {A}


def test_with_no_hold_a_dead_shard_delays_no_other(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "unassign"), (B, "SN-1", "assign")]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2, no_hold=True)
    assert many.run(many.shard_of(B), ASSIGN).exit_code == 0
    assert many.report().outcomes == ["notSent", "assigned"]


class Death(BaseException):
    """The process has died."""


def dying(requests: int) -> Callable[[Seen], Event]:
    """Let the process die after this number of requests; the last one is carried out."""
    left = [requests]

    def script(_: Seen) -> Event:
        left[0] -= 1
        if left[0] < 0:
            raise Death
        return Loses() if left[0] == 0 else None

    return script


STEP = st.tuples(st.integers(1, 3), st.sampled_from([UNASSIGN, ASSIGN, None]), st.integers(1, 4))


@given(st.lists(STEP, max_size=8), st.integers(0, 5))
@example([(1, UNASSIGN, 1), (2, ASSIGN, 2), (1, ASSIGN, 3)], 2)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_shards_that_die_at_any_moment_finish_correctly(steps: list[Any], report_after: int) -> None:
    rows = [*passed_on(5), (A, "SN-9", "assign"), (B, "SN-8", "unassign"), (C, "SN-8", "assign")]
    assert asked_for_again(rows, steps, report_after) <= len(steps)


@given(st.lists(STEP, max_size=8), st.integers(0, 5))
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_dying_shards_finish_correctly_if_devices_move_back_and_forth(steps: list[Any], report_after: int) -> None:
    rows = [*passed_on(5), (C, "SN-6", "unassign"), (C, "SN-6", "assign")]
    rows += [(D, "SN-7", "unassign"), (A, "SN-7", "assign"), (A, "SN-7", "unassign"), (B, "SN-7", "assign")]
    assert asked_for_again(rows, steps, report_after) <= sum(requests for *_, requests in steps)


def asked_for_again(rows: Rows, steps: list[Any], report_after: int) -> int:
    """Return the number of requests beyond one for each row, in a run whose three shards die in these steps."""
    with tempfile.TemporaryDirectory() as folder:
        many = Shards(desk_with(Path(folder) / "many", rows), rows, 3, rate="1000/s")
        shared: list[str] = []
        for at, (shard, phase, requests) in enumerate(steps):
            many.desk.server.script = watching(many.desk.server, shared, dying(requests))
            with suppress(Death, LockedError, BaseExceptionGroup):
                many.run(shard, phase)
            if at == report_after:
                assert many.report().json["balanced"]
        many.desk.server.script = watching(many.desk.server, shared, lambda _: None)
        assert set(many.run_all()) == {0}
        ran = many.report()
        assert ran.summary.exit_code == 0
        assert set(ran.outcomes) <= {"assigned", "unassigned", "alreadyAssigned", "skipped"}
        assert shared == []
        owners = {row["deviceIdentifier"]: {row["customerEmail"]} for row in ran.rows if row["action"] == "assign"}
        assert {device: set(many.desk.server.fleet.owners(device)) for device in owners} == owners
        asked = [(seen.action, seen.customer, device) for seen in many.desk.server.seen for device in seen.devices]
        return len(asked) - len(rows)


def watching(server: ScriptedServer, shared: list[str], script: Callable[[Seen], Event]) -> Callable[[Seen], Event]:
    """Record each device that has two owners when a request arrives."""

    def watch(seen: Seen) -> Event:
        shared.extend(device for device in seen.devices if len(server.fleet.owners(device)) > 1)
        return script(seen)

    return watch


# Refusals


def test_a_repeated_plan_must_be_the_same(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2)
    for flags, words in (
        ({"shards": "3"}, "was planned in 2 shards, 2 at once"),
        ({"shards_at_once": "1"}, "was planned in 2 shards, 2 at once"),
        ({"chunk_size": "3"}, "started with other options"),
    ):
        with pytest.raises(JournalError, match=words):
            many.planned(**flags)
    many.desk.file(passed_on(4))
    with pytest.raises(JournalError, match="started with another input"):
        many.planned()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"shards": None}, "the number of shards is missing"),
        ({"rate": "3/s"}, "3/s cannot be shared by 4 processes at once; give --rate 180/min"),
        ({"rate": "auto"}, "auto cannot be divided"),
        ({"verify": True}, "--verify cannot be done by shards"),
        ({"sandbox": True}, "--sandbox is for one process"),
    ],
)
def test_options_that_cannot_be_divided_are_refused_and_leave_no_files(
    desk: Desk, flags: dict[str, Any], words: str
) -> None:
    config = configuration(desk, desk.file(passed_on(3)), **{"shards": "4", **flags})
    with pytest.raises(ConfigError, match=words):
        plan_shards(config, clock=desk.clock)
    assert not (desk.folder / "reports").exists()


def test_a_refused_input_leaves_no_files(desk: Desk) -> None:
    with pytest.raises(InputError):
        Shards(desk, [], 4)
    assert [*(desk.folder / "reports").iterdir()] == []


def test_rate_auto_is_allowed_with_one_shard_at_a_time(desk: Desk) -> None:
    assert Shards(desk, passed_on(3), 4, rate="auto", shards_at_once="1").plan.layout.shards_at_once == 1


def test_a_rate_shared_over_redis_is_not_divided(desk: Desk) -> None:
    many = Shards(desk, passed_on(3), 4, rate="auto", limit_url="redis://:secret@localhost:1/0")
    with pytest.raises(ConfigError, match="set TELEMETRON_LIMIT_URL"):
        many.run(1)


def test_a_sharded_run_cannot_be_run_by_one_process(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2)
    with pytest.raises(JournalError, match="is made in shards; say which with --shard"):
        many.desk.run(many.path, run_id="r1")
    with pytest.raises(JournalError, match="is made in shards"):
        pipeline.resume(many.plan.folder, ENVIRON, clock=many.desk.clock)
    with pytest.raises(JournalError, match="was made in shards; report it first"):
        pipeline.verify(many.plan.folder, ENVIRON, clock=many.desk.clock)


def test_a_run_without_shards_refuses_shard_commands(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    many = Shards(desk, passed_on(3), 2, run_id="other")
    with pytest.raises(JournalError, match="was started without shards; run it without --shard"):
        many.run(1)
    with pytest.raises(JournalError, match="was started without shards"):
        many.planned(run_id="r1")
    with pytest.raises(JournalError, match="there is nothing to wait for"):
        collect_unreleased_by_shard(ran.folder, clock=desk.clock)


def test_a_shard_number_out_of_range_is_refused(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2)
    with pytest.raises(ConfigError, match="there is no shard 3; the run has shards 1 to 2"):
        many.run(3)


def test_a_shard_checks_the_way_to_the_api_before_it_begins(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2)
    with pytest.raises(ConfigError, match="--ca-file: cannot read"):
        many.run(1, ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match="--client-cert: cannot read"):
        many.run(1, client_cert=str(tmp_path / "missing.pem"))
    assert many.desk.server.seen == []


def test_a_shard_takes_no_certificates_from_the_plan(tmp_path: Path) -> None:
    foreign = str(tmp_path / "foreign.pem")
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2, ca_file=foreign)
    many.run(1, UNASSIGN)  # would be refused, since there is no such file


def test_shards_of_a_run_without_journal_are_not_reused_for_another_run(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2)
    many.run(1, UNASSIGN)
    (many.plan.folder / JOURNAL_NAME).unlink()
    with pytest.raises(JournalError, match="is of a run whose journal is gone"):
        many.planned()


# Locks and the rate


ME = LockOwner(1, "now", "r1")


def test_a_working_shard_is_locked(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2)
    lock = Lock.acquire(many.plan.folder / "shards" / "2" / LOCK_NAME, ME, "it")
    with pytest.raises(LockedError, match="shard 2 of run r1 is in use"):
        many.run(2, UNASSIGN)
    with pytest.raises(LockedError, match="shard 2 of run r1 is in use"):
        many.report()
    with pytest.raises(LockedError, match="shard 2 of run r1 is in use"):
        collect_unreleased_by_shard(many.plan.folder, clock=many.desk.clock)
    lock.release()
    assert many.run_all() == [0] * 4


def test_the_report_of_a_shard_is_readable_while_it_continues(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2)
    many.run_all(UNASSIGN)
    lock = Lock.acquire(many.plan.folder / "shards" / "2" / LOCK_NAME, ME, "it")
    assert collect_unreleased_by_shard(many.plan.folder, clock=many.desk.clock).complete
    assert many.run(1, ASSIGN).exit_code == 0
    lock.release()


def test_no_more_shards_run_at_once_than_share_the_rate(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(4)), passed_on(4), 3, shards_at_once="2")
    places = [Lock.acquire(many.plan.folder / "shards" / f"place-{number}.lock", ME, "it") for number in (1, 2)]
    with pytest.raises(LockedError, match="each of the 2 rate slots of this run is in use"):
        many.run(1, UNASSIGN)
    places[1].release()
    assert many.run(1, UNASSIGN).exit_code == 0


def test_a_shard_keeps_to_its_part_of_the_rate(tmp_path: Path) -> None:
    rows = [(f"c{at}@x.com", "SN-1", "assign") for at in range(40)]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2, rate="3/s")
    assert many.run(1, ASSIGN).exit_code == 0
    at = [seen.at for seen in many.desk.server.seen]
    assert len(at) == 20
    assert (len(at) - 1) / (at[-1] - at[0]) <= Rate.parse("3/s").share(2, 0).per_second
    assert (many.plan.folder / "shards" / "place-1.json").exists()


def test_shards_of_one_run_use_a_key_together_and_no_other_run_does(tmp_path: Path) -> None:
    many = Shards(desk_with(tmp_path / "many", passed_on(3)), passed_on(3), 2)
    came_to: list[object] = []

    def beside() -> None:
        beside_it = Desk(many.desk.folder)
        beside_it.server.fleet = many.desk.server.fleet
        config = configuration(beside_it, shard="2", phase="unassign")
        ended = run_shard(config, transport=beside_it.server, clock=beside_it.clock)
        came_to.append(ended.exit_code)
        try:
            beside_it.run([(D, "SN-1", "assign")], run_id="r2")
        except LockedError as exc:
            came_to.append(exc.reason)

    def meanwhile(_: Seen) -> Event:
        if not came_to:
            thread = Thread(target=beside)
            thread.start()
            thread.join()
        return None

    many.desk.server.script = meanwhile
    assert many.run(1, UNASSIGN).exit_code == 0
    assert came_to[0] == 0
    assert str(came_to[1]).startswith("this base URL and key is in use by process")
    assert many.desk.run([(D, "SN-1", "assign")], run_id="r2").outcomes == ["assigned"]


# Summaries and lists


def test_runs_shows_the_progress_of_a_sharded_run(tmp_path: Path) -> None:
    rows = passed_on(3)
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2)
    reports = many.plan.folder.parent

    def line() -> tuple[str, str]:
        [one] = list_runs(reports)
        return one.state, one.next_step.replace(str(reports), "reports")

    command = f"telemetron-batch run --run-id r1 --shard N --reports-dir reports --base-url {BASE_URL}"
    assert line() == ("planned", command)
    many.run_all(UNASSIGN)
    assert line() == ("in shards", "telemetron-batch report reports/r1")
    lock = Lock.acquire(many.plan.folder / "shards" / "2" / LOCK_NAME, ME, "it")
    assert line() == ("running", "wait for its shards")
    lock.release()
    many.report()
    assert line() == ("stopped", "its shards again, then telemetron-batch report reports/r1")
    many.run_all(ASSIGN)
    many.report()
    assert line() == ("finished", "nothing")


def test_a_shard_has_a_summary(tmp_path: Path) -> None:
    rows = passed_on(4)
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2)
    fields = many.run(1, UNASSIGN).fields
    shard = many.plan.shards[0]
    assert (fields["shard"], fields["shards"], fields["phase"], fields["state"]) == (1, 2, "unassign", "finished")
    assert fields["callsSettled"] == fields["attempts"] == shard.calls[UNASSIGN]
    assert fields["calls"] == sum(shard.calls.values())
    assert fields["counts"] == {"unassigned": shard.calls[UNASSIGN]}
    assert (many.plan.folder / "shards" / "1" / "summary.json").exists()
    assert (many.plan.folder / "shards" / "1" / UNRELEASED_FILE).exists()


def test_a_sharded_run_can_be_verified_after_its_report(tmp_path: Path) -> None:
    rows = passed_on(4)
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2)
    many.run_all()
    ran = many.desk.verify(many.report())
    assert {row["verified"] for row in ran.rows} == {"yes"}
    assert {row["verified"] for row in many.report().rows} == {"yes"}


def test_the_next_run_knows_what_shards_have_settled(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "assign")]
    many = Shards(desk_with(tmp_path / "many", rows), rows, 2)
    many.run_all()
    many.report()
    assert many.desk.run(rows, run_id="night-2", since_last=True).outcomes == ["unchanged", "unchanged"]


def test_rows_of_shards_without_a_report_do_not_count_as_settled(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "assign")]
    desk = desk_with(tmp_path / "many", rows)
    desk.run(rows, run_id="night-1")
    desk.clock.sleep_blocking(86_400)
    many = Shards(desk, [(A, "SN-1", "unassign")], 1)
    many.run_all()
    desk.clock.sleep_blocking(3_600)
    assert desk.run(rows, run_id="night-3", since_last=True).outcomes == ["assigned", "unchanged"]


# Shards that were gathered


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a run without those of its shards and its lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != LOCK_NAME}


def gone(folder: Path) -> None:
    (folder / JOURNAL_NAME).unlink()


def all_gone(folder: Path) -> None:
    shutil.rmtree(folder.parent)


def of_another_plan(folder: Path) -> None:
    with closing(Journal(folder / JOURNAL_NAME)) as journal:
        journal.set_facts(calls="others")


def begun_anew(folder: Path) -> None:
    with closing(Journal(folder / JOURNAL_NAME)) as journal:
        facts = {name: journal.fact(name) for name in ("runId", "shard", "calls")}
    gone(folder)
    JournalDraft(folder / JOURNAL_NAME).publish(facts)


def without_calls(folder: Path) -> None:
    (folder / CALLS).unlink()


def with_other_calls(folder: Path) -> None:
    (folder / CALLS).write_bytes(b"?")


LOSSES = [gone, all_gone, of_another_plan, begun_anew, without_calls, with_other_calls]


def six(tmp_path: Path) -> Shards:
    rows = [
        (A, "SN-0", "unassign"),
        (B, "SN-0", "assign"),
        *((f"u{at}@x.com", f"SN-{at}", "assign") for at in range(4)),
    ]
    return Shards(desk_with(tmp_path / "many", rows), rows, 2)


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("put_together_by_an_earlier_version", [False, True])
def test_a_shard_that_lost_gathered_records_is_refused(
    tmp_path: Path, lose: Callable[[Path], None], *, put_together_by_an_earlier_version: bool
) -> None:
    many = six(tmp_path)
    many.run_all()
    many.report()
    folder = many.plan.folder
    if put_together_by_an_earlier_version:
        if lose is begun_anew:
            return  # cannot be told from a shard that was never begun
        with closing(Journal(folder / JOURNAL_NAME)) as journal:
            journal.set_facts(gathered=None)
    lose(folder / "shards" / "2")
    before = files_of(folder)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"shard \d.*(restore the folder of the shard)") as refusal:
            many.report()
        assert refusal.value.exit_code == 2
        assert files_of(folder) == before


@pytest.mark.parametrize("lose", [gone, of_another_plan, begun_anew])
def test_a_lost_shard_that_was_gathered_is_not_sent_again(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    many = six(tmp_path)
    many.run_all()
    many.report()
    lose(many.plan.folder / "shards" / "2")
    sent = len(many.desk.server.seen)
    with pytest.raises(JournalError, match="restore the folder of the shard"):
        many.run(2)
    assert len(many.desk.server.seen) == sent


def test_a_restored_shard_is_gathered_again(tmp_path: Path) -> None:
    many = six(tmp_path)
    many.run_all()
    rows = comparable_rows(many.report())
    aside = tmp_path / "aside"
    (many.plan.folder / "shards" / "2").rename(aside)
    with pytest.raises(JournalError):
        many.report()
    shutil.rmtree(many.plan.folder / "shards" / "2", ignore_errors=True)
    aside.rename(many.plan.folder / "shards" / "2")
    assert comparable_rows(many.report()) == rows


def test_an_unreadable_unreleased_file_is_replaced_from_the_journal(tmp_path: Path) -> None:
    many = six(tmp_path)
    many.run_all()
    for shard in ("1", "2"):
        (many.plan.folder / "shards" / shard / UNRELEASED_FILE).write_bytes(b"?")
    assert many.report().summary.exit_code == 0


def test_shards_that_continue_after_a_report_are_gathered_again(tmp_path: Path) -> None:
    many = six(tmp_path)
    many.run(1, UNASSIGN)
    many.report()
    many.run(2, UNASSIGN)
    many.report()
    many.run_all()
    assert many.report().summary.exit_code == 0


def test_a_shard_whose_journal_lost_records_is_not_continued(tmp_path: Path) -> None:
    many = six(tmp_path)
    many.run_all(UNASSIGN)
    path = many.plan.folder / "shards" / "2" / JOURNAL_NAME
    older = path.read_bytes()
    many.run(2, ASSIGN)
    path.write_bytes(older)
    sent = len(many.desk.server.seen)
    with pytest.raises(JournalError, match="rows may have been sent without a record"):
        many.run(2, ASSIGN)
    assert len(many.desk.server.seen) == sent
    many.run(1, ASSIGN)
    for _ in range(2):
        ran = many.report()
        assert set(ran.outcomes) == {"assigned", "unassigned", "unconfirmed"}
        assert (ran.json["state"], ran.summary.exit_code) == ("stopped", 3)
        assert "has lost at least" in ran.json["stop"]["reason"]
    with pytest.raises(JournalError, match="rows may have been sent"):
        many.desk.verify(ran)
