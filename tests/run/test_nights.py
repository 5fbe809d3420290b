"""Night after night: what is left out was surely so, and the world is as after a full run, whatever came between."""

import asyncio
import json
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import BrakeError
from telemetron_batch.journal.layout import LOCK_NAME
from telemetron_batch.run import pipeline
from telemetron_batch.run.make_plan import make_plan
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.sharding.report import report_run
from telemetron_batch.storage.lock import Lock, LockOwner
from tests.conftest import KEY, Desk, Ran
from tests.support.scripted import BASE_URL, NIGHTLY_ENDS, NIGHTLY_EVENTS, Hangs, Says, Seen, once

A, B, C = "a@x.com", "b@x.com", "c@x.com"
CUSTOMERS, DEVICES = (A, B, C), ("SN-1", "SN-2", "SN-3")
DAY = 86_400.0
REFUSED = Says(401, {"error": "Unauthorized"})

Row = tuple[str, str, str]


class Death(BaseException):
    """The process is no more."""


@dataclass
class Nights:
    """A desk at which a job runs night after night; counts its calls."""

    desk: Desk
    count: int = 0
    runs: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """Each run's id, its file and its options."""

    def run(self, rows: Sequence[Row], name: str = "erp-{}.csv", **flags: Any) -> Ran:
        """One more run, a day later: a night unless told otherwise."""
        self.count += 1
        self.desk.clock.sleep_blocking(flags.pop("pause", DAY))
        self.desk.server.seen.clear()
        path = self.desk.file(rows, name.format(self.count))
        run = f"n{self.count}"
        self.runs[run] = path, {"run_id": run, "since_last": True, **flags}
        return self.again(run)

    def again(self, run: str, **more: Any) -> Ran:
        """The same command again."""
        path, flags = self.runs[run]
        return self.desk.run(path, **flags, **more)

    def manual(self, rows: Sequence[Row], **flags: Any) -> Ran:
        """A list that somebody runs by hand."""
        return self.run(rows, name="list{}.csv", **{"since_last": False, "pause": 60, **flags})

    def dies(self, rows: Sequence[Row], **flags: Any) -> None:
        """A night whose process dies."""
        with pytest.raises(BaseExceptionGroup):
            self.run(rows, **flags)

    @property
    def calls(self) -> int:
        """Requests of the last run."""
        return len(self.desk.server.seen)

    @property
    def sent(self) -> set[Row]:
        """What the last run asked for."""
        return {(seen.customer, device, seen.action) for seen in self.desk.server.seen for device in seen.devices}


@pytest.fixture
def nights(desk: Desk) -> Nights:
    return Nights(desk)


def export(*customers: str, action: str = "assign", devices: int = 2) -> list[Row]:
    """So many devices for each customer."""
    return [(one, f"{one[0].upper()}-{number}", action) for one in customers for number in range(1, devices + 1)]


def dying(_: Seen) -> None:
    raise Death


# The job


def test_of_the_same_export_again_nothing_is_sent_and_nothing_is_refused(nights: Nights) -> None:
    rows = [*export(A, B), (A, "SN-9", "unassign"), (A, "A-1", "assign")]
    nights.desk.server.fleet.assign(A, ["SN-1"])
    first, second = nights.run(rows), nights.run(rows)
    assert first.outcomes == [*["assigned"] * 4, "skipped", "duplicate"]
    assert second.outcomes == [*["unchanged"] * 5, "duplicate"]
    assert (nights.calls, second.summary.exit_code) == (0, 0)
    assert second.rows[-1]["detail"] == "same as line 2: unchanged"


def test_what_changed_is_sent_and_nothing_else(nights: Nights) -> None:
    nights.run(export(A, B, C))
    moved = [(A, "A-1", "unassign"), (B, "A-1", "assign")]
    second = nights.run([*moved, *export(A, B, C)[1:], (C, "C-9", "assign")])
    assert nights.sent == {*moved, (C, "C-9", "assign")}
    assert second.summary.counts["unchanged"] == 5
    assert nights.desk.server.fleet.owners("A-1") == {B}


def test_a_night_of_which_a_hundredth_changed_makes_a_hundredth_of_the_calls(nights: Nights) -> None:
    rows = [(f"user{number}@x.com", f"SN-{number}", "assign") for number in range(400)]
    nights.run(rows)
    full = nights.calls
    nights.run([*rows[:-4], *((customer, f"{device}-new", "assign") for customer, device, _ in rows[-4:])])
    assert (full, nights.calls) == (400, 4)


def test_the_detail_names_the_run_that_settled_it_night_after_night(nights: Nights) -> None:
    first = nights.run(export(A))
    nights.run([*export(A), *export(B)])
    third = nights.run([*export(A), *export(B), *export(C)])
    ended = first.json["endedAt"]
    assert third.outcomes == ["unchanged"] * 4 + ["assigned"] * 2
    assert third.rows[0]["detail"] == f"settled so by run n1, which ended {ended}"
    assert third.rows[2]["detail"].startswith("settled so by run n2")
    assert third.json["since"] == {
        "run": "n2",
        "full": False,
        "told": f"left out is what run n2, which ended {json_of(nights, 'n2')['endedAt']}, knew to be settled",
    }


def json_of(nights: Nights, run: str) -> dict[str, Any]:
    return json.loads((nights.desk.folder / "reports" / run / "summary.json").read_text())


def test_only_the_last_run_is_needed(nights: Nights) -> None:
    for _ in range(3):
        nights.run(export(A, B))
    for run in ("n1", "n2"):
        (nights.desk.folder / "reports" / run).rename(nights.desk.folder / run)
    assert nights.run(export(A, B)).outcomes == ["unchanged"] * 4


@pytest.mark.parametrize(
    ("row", "event"),
    [
        ((A, "UNKNOWN-1", "assign"), None),
        ((B, "SN-1", "unassign"), None),
        ((A, "SN-1", "assign"), Says(400, {"error": "Something is wrong"})),
        ((A, "SN-1", "assign"), Says(500, {"error": "Oops"})),
    ],
    ids=["unknown device", "unknown customer", "refused", "unconfirmed"],
)
def test_what_is_not_surely_so_is_sent_again(nights: Nights, row: Row, event: Any) -> None:
    nights.desk.server.script = lambda _: event
    assert nights.run([row], attempts="4").summary.exit_code == 1
    nights.desk.server.script = lambda _: None
    nights.run([row])
    assert nights.sent == {row}


def test_rows_that_are_gone_from_the_export_mean_nothing(nights: Nights) -> None:
    nights.run(export(A, B))
    nights.run(export(A))
    assert nights.calls == 0
    assert nights.desk.server.fleet.devices_of(B) == ["B-1", "B-2"]


def test_another_device_type_is_sent(nights: Nights) -> None:
    rows = [(A, "UNKNOWN-1", "assign"), (A, "UNKNOWN-2", "assign")]
    created = {"auto_create_devices": True, "device_type": "meter"}
    assert nights.run(rows, **created).outcomes == ["assigned"] * 2
    assert nights.run(rows, **created).outcomes == ["unchanged"] * 2
    assert nights.run(rows, **{**created, "device_type": "tag"}).outcomes == ["alreadyAssigned"] * 2


# Which run is asked


def test_the_first_night_sends_everything_and_says_why(nights: Nights) -> None:
    told = nights.run(export(A)).json["since"]
    assert told == {
        "run": None,
        "full": True,
        "told": "everything is sent: there is no finished run of erp-#.csv without a profile yet",
    }


@pytest.mark.parametrize(
    "flags",
    [{"base_url": f"{BASE_URL}/2"}, {"name": "other.csv"}, {"profile": "nightly"}],
    ids=["another API", "another file", "a profile"],
)
def test_a_run_of_another_job_is_not_asked(nights: Nights, flags: dict[str, Any], monkeypatch: Any) -> None:
    (nights.desk.folder / "telemetron-batch.toml").write_text("[nightly]\n[other]\n")
    monkeypatch.chdir(nights.desk.folder)
    nights.run(export(A))
    assert nights.run(export(A), **flags).json["since"]["run"] is None


def test_a_profile_is_asked_whatever_its_files_are_called(nights: Nights, monkeypatch: Any) -> None:
    (nights.desk.folder / "telemetron-batch.toml").write_text("[nightly]\nsince-last = true\n[other]\n")
    monkeypatch.chdir(nights.desk.folder)
    nights.run(export(A), profile="nightly")
    assert nights.run(export(A), profile="other").json["since"]["run"] is None
    assert nights.run(export(A, B), name="x.csv", profile="nightly").json["since"]["run"] == "n1"


def test_another_key_is_not_asked_but_heeded(nights: Nights, monkeypatch: Any) -> None:
    nights.run(export(A, B))
    monkeypatch.setattr("tests.conftest.KEY", "another-key-of-the-tests")
    assert nights.run(export(A)).json["since"]["run"] is None
    monkeypatch.setattr("tests.conftest.KEY", KEY)
    assert nights.run(export(A, B)).outcomes == ["alreadyAssigned"] * 2 + ["unchanged"] * 2


def test_sandbox_runs_know_of_sandbox_runs_alone(nights: Nights) -> None:
    nights.run(export(A))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nights.desk.clock, "run", asyncio.run)  # its sockets are real, and want real time
        first = nights.run(export(A), sandbox=True)
        assert first.json["since"]["run"] is None
        second = nights.run(export(A), sandbox=True)
        assert second.json["since"]["run"] == "n2"
    assert nights.run(export(A)).outcomes == ["unchanged"] * 2


def test_a_full_run_comes_round_and_finds_what_has_drifted(nights: Nights) -> None:
    fleet = nights.desk.server.fleet
    nights.run(export(A))
    fleet.unassign(A, ["A-1"])
    outcomes = [nights.run(export(A), full_every="3d").outcomes for _ in range(4)]
    assert outcomes == [
        ["unchanged"] * 2,
        ["unchanged"] * 2,
        ["assigned", "alreadyAssigned"],
        ["unchanged"] * 2,
    ]
    assert json_of(nights, "n4")["since"]["told"].startswith("everything is sent: the last full run began 20")
    assert fleet.devices_of(A) == ["A-1", "A-2"]


def test_a_full_run_by_hand_counts_as_one(nights: Nights) -> None:
    nights.run(export(A))
    nights.run(export(A), full_every="2d")
    nights.run(export(A), since_last=False, again=True)
    assert nights.run(export(A), full_every="2d").outcomes == ["unchanged"] * 2


def test_a_run_from_the_future_is_not_believed(nights: Nights) -> None:
    nights.run(export(A))
    assert nights.run(export(A), pause=-DAY).json["since"]["told"] == "everything is sent: run n1 began in the future"


def test_a_journal_that_cannot_be_read_makes_everything_unsure(nights: Nights) -> None:
    nights.run(export(A))
    broken = nights.desk.folder / "reports" / "broken"
    broken.mkdir()
    (broken / "journal.sqlite3").write_text("?")
    told = nights.run(export(A)).json["since"]["told"]
    assert told.startswith("everything is sent: ")
    assert "broken/journal.sqlite3 is not a journal of telemetron-batch; move its folder away" in told


@pytest.mark.parametrize("value", ['"|u1:eJw"', '"|u1:"', '"<i8:eJwDAAAAAAE="'])
def test_a_last_run_whose_word_is_damaged_makes_everything_unsure(nights: Nights, value: str) -> None:
    last = nights.run(export(A))
    with sqlite3.connect(last.folder / "journal.sqlite3") as journal:
        journal.execute("UPDATE meta SET value = ? WHERE name = 'standing'", (value,))
    journal.close()
    assert "says of its rows is damaged" in nights.run(export(A)).json["since"]["told"]


# What others may have changed since


def test_a_night_that_stopped_loses_nothing_but_what_it_sent(nights: Nights) -> None:
    nights.run(export(A, B))
    nights.desk.server.script = once(None, REFUSED)
    second = [*export(B, C), *((A, f"A-{number}", "unassign") for number in (1, 2))]
    assert nights.run(second, concurrency="1").summary.exit_code == 4
    nights.desk.server.script = lambda _: None
    third = nights.run(export(A, B, C))
    assert third.outcomes == ["assigned"] * 2 + ["unchanged"] * 2 + ["assigned"] * 2


def test_a_night_that_died_makes_unsure_what_it_set_out_to_send(nights: Nights) -> None:
    nights.run(export(A, B))
    nights.desk.server.script = dying
    nights.dies([*export(A), *export(B, action="unassign")])
    nights.desk.server.script = lambda _: None
    assert nights.run(export(A, B)).outcomes == ["unchanged"] * 2 + ["alreadyAssigned"] * 2


def test_a_list_run_by_hand_makes_its_devices_unsure(nights: Nights) -> None:
    nights.run(export(A, B))
    nights.manual([(A, "A-1", "unassign"), (C, "B-2", "assign")])
    third = nights.run(export(A, B))
    assert third.outcomes == ["assigned", "unchanged", "unchanged", "alreadyAssigned"]
    assert nights.run(export(A, B)).outcomes == ["unchanged"] * 4


@pytest.mark.parametrize("url", ["http://localhost:9/api/ext-v1", "http://[::1]:9//api/./ext-v1/"])
def test_one_api_is_one_however_its_base_url_is_spelled(nights: Nights, url: str) -> None:
    nights.run(export(A, B))
    nights.manual([(A, "A-1", "unassign")], base_url=url)
    third = nights.run(export(A, B))
    assert third.outcomes == ["assigned", "unchanged", "unchanged", "unchanged"]
    assert nights.run(export(A, B), base_url=url).outcomes == ["unchanged"] * 4


def test_an_undo_that_was_fed_back_is_such_a_list(nights: Nights) -> None:
    nights.run(export(A))
    second = nights.run(export(A, B))
    undo = second.folder / "undo.csv"
    nights.desk.run(str(undo), run_id="undo")
    assert nights.desk.server.fleet.devices_of(B) == []
    assert nights.run(export(A, B)).outcomes == ["unchanged"] * 2 + ["assigned"] * 2


def test_a_list_run_before_the_last_night_began_changes_nothing(nights: Nights) -> None:
    nights.run(export(A, B))
    nights.manual([(A, "A-1", "unassign")])
    nights.run(export(A, B), pause=60)
    assert nights.run(export(A, B), pause=60).outcomes == ["unchanged"] * 4


def test_an_attempt_that_nobody_heard_of_may_come_after_the_last_night_began(nights: Nights) -> None:
    nights.run(export(A, B))
    nights.desk.server.script = lambda _: Hangs(acted=False)
    nights.manual([(A, "A-1", "unassign")], attempts="1", give_up_after="10s")
    nights.desk.server.script = lambda _: None
    nights.run(export(A, B), pause=60)
    assert nights.run(export(A, B), pause=60).outcomes == ["alreadyAssigned", *["unchanged"] * 3]
    assert [nights.run(export(A, B)).outcomes[0] for _ in range(2)] == ["alreadyAssigned", "unchanged"]


def test_a_stopped_run_that_goes_on_after_the_last_night_counts_from_then_on(nights: Nights) -> None:
    rows = [*export(A, action="unassign"), *export(B)]
    nights.run(export(A, B))
    nights.desk.server.script = lambda _: REFUSED
    nights.manual(rows)
    nights.desk.server.script = lambda _: None
    assert nights.run(export(A, B)).outcomes == ["unchanged"] * 4
    nights.desk.clock.sleep_blocking(60)
    nights.again("n2")
    assert nights.run(export(A, B)).outcomes == ["assigned"] * 2 + ["alreadyAssigned"] * 2


def test_of_a_run_under_way_everything_that_it_sets_out_to_send_is_unsure(nights: Nights) -> None:
    nights.run(export(A, B))
    nights.desk.server.script = lambda _: REFUSED
    nights.manual(export(A))
    nights.desk.server.script = lambda _: None
    lock = Lock.acquire(nights.desk.folder / "reports" / "n2" / LOCK_NAME, LockOwner(1, "now", "n2"), "run n2")
    try:
        assert nights.run(export(A, B)).outcomes == ["alreadyAssigned"] * 2 + ["unchanged"] * 2
    finally:
        lock.release()


def test_a_night_is_not_made_unsure_by_the_nights_before_the_last(nights: Nights) -> None:
    for _ in range(3):
        nights.run(export(A), pause=1)
    assert nights.run(export(A), pause=0).outcomes == ["unchanged"] * 2


# Going on, reporting, planning, braking


def test_a_stopped_night_that_goes_on_leaves_out_what_it_left_out(nights: Nights) -> None:
    nights.run(export(A))
    nights.desk.server.script = once(None, REFUSED)
    rows = export(A, B, C)
    assert nights.run(rows, concurrency="1").summary.exit_code == 4
    nights.manual([(A, "A-1", "assign")])
    again = nights.again("n2")
    assert again.outcomes == ["unchanged"] * 2 + ["assigned"] * 4
    assert again.summary.exit_code == 0


def test_a_finished_night_is_not_gone_on_with_as_a_full_one(nights: Nights) -> None:
    ran = nights.run(export(A))
    with pytest.raises(Exception, match="was started with other options \\(--since-last\\)"):
        nights.desk.run(nights.desk.file(export(A), "erp-1.csv"), run_id=ran.folder.name)


def test_the_files_are_written_again_from_the_journal_alone(nights: Nights) -> None:
    nights.run(export(A))
    second = nights.run(export(A, B))
    names = [name for name in second.json["files"] if name != "report.html"]
    before = {name: (second.folder / name).read_bytes() for name in names}
    (nights.desk.folder / "reports" / "n1").rename(nights.desk.folder / "n1")
    summary = report_run(second.folder)
    assert {name: (second.folder / name).read_bytes() for name in names} == before
    assert summary.fields["since"] == second.json["since"]


@pytest.mark.parametrize("key", [{}, {"TELEMETRON_API_KEY": KEY}])
def test_the_plan_tells_what_would_be_left_out_without_any_network(nights: Nights, key: dict[str, str]) -> None:
    nights.run(export(A))
    reports = str(nights.desk.folder / "reports")
    path = nights.desk.file(export(A, B), "erp-2.csv")
    flags = {"base_url": BASE_URL, "reports_dir": reports, "since_last": True}
    told = make_plan(resolve([path], flags, key), nights.desk.clock)
    assert (told.rows, told.unchanged, told.devices, told.calls) == (4, 2, 2, 1)
    assert told.as_json()["since"]["run"] == "n1"


def test_most_unassigns_is_about_those_that_are_not_done_yet(nights: Nights) -> None:
    nights.desk.server.fleet.assign(A, ["SN-1", "SN-2", "SN-3"])
    two, three = ([(A, f"SN-{number}", "unassign") for number in range(1, last)] for last in (3, 4))
    nights.run(two, max_unassign="2")
    assert nights.run(three, max_unassign="1").outcomes == ["unchanged"] * 2 + ["unassigned"]
    full = nights.run(three, max_unassign="0", full_every="1s")
    assert full.outcomes == ["skipped"] * 3
    with pytest.raises(BrakeError, match=r"^1 rows are unassigns, more than --max-unassign 0"):
        nights.run([*three, (A, "SN-4", "unassign")], max_unassign="0")


def test_the_number_of_rows_is_that_of_the_whole_export(nights: Nights) -> None:
    nights.run(export(A, B))
    assert nights.run(export(A, B), min_rows="4", expect_rows="4").summary.exit_code == 0
    with pytest.raises(BrakeError, match="the input has 2 rows, fewer than --min-rows 4"):
        nights.run(export(A), min_rows="4")


def test_a_share_of_failures_is_of_the_whole_export_as_in_a_full_night(nights: Nights) -> None:
    rows = [*export(A, devices=18), (B, "SN-1", "unassign"), (C, "SN-1", "unassign")]
    assert nights.run(rows, max_failed="10%").summary.exit_code == 1
    second = nights.run(rows, max_failed="10%")
    assert second.summary.counts["unchanged"] == 18
    assert second.summary.exit_code == 1
    assert nights.run(rows, max_failed="5%").summary.exit_code == 5


# The law

ROWS = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(DEVICES), st.sampled_from(["assign", "unassign"])),
    min_size=1,
    max_size=8,
)
FAULTS = st.lists(st.sampled_from(NIGHTLY_EVENTS), max_size=6)
ENDS = st.sampled_from(NIGHTLY_ENDS)
PAUSES = st.sampled_from([0.0, 60.0, 1000.0, DAY])
STEP = st.tuples(st.sampled_from(["night", "night", "night", "manual", "undo", "resume"]), ROWS, FAULTS, ENDS, PAUSES)


class World(Nights):
    """Nights with everything that can go wrong between them."""

    def state(self) -> set[tuple[str, str]]:
        """Who has what."""
        fleet = self.desk.server.fleet
        return {(customer, device) for customer in CUSTOMERS for device in fleet.devices_of(customer)}

    def step(self, kind: str, rows: Sequence[Row], faults: Sequence[Any], end: str, pause: float) -> None:
        """Something happens to the world, by a run of ours."""
        self.desk.server.script = self._script(faults, end)
        try:
            if kind == "night":
                self._judge(self.run(rows, pause=pause, attempts="3"))
            elif kind == "manual":
                self.manual(rows, pause=pause, attempts="3", again=True)
            elif self.runs:
                self._old(kind, [*self.runs][len(rows) % len(self.runs)])
        except BaseExceptionGroup:
            pass
        self.desk.server.script = lambda _: None

    def _script(self, faults: Sequence[Any], end: str) -> Any:
        left = list(faults)

        def script(_: Seen) -> Any:
            if left:
                return left.pop(0)
            if end == "dead":
                raise Death
            return REFUSED if end == "refused" else None

        return script

    def _old(self, kind: str, run: str) -> None:
        folder = self.desk.folder / "reports" / run
        if kind == "undo" and (folder / "undo.csv").exists():
            self.count += 1
            self.desk.run(str(folder / "undo.csv"), run_id=f"undo{self.count}", allow_empty=True, again=True)
        elif kind == "resume":
            self.again(run, out_of_order=True)

    def _judge(self, ran: Ran) -> None:
        """Whatever is called unchanged is so."""
        state = self.state()
        for row in ran.rows:
            if row["outcome"] == "unchanged":
                assert ((row["customerEmail"], row["deviceIdentifier"]) in state) == (row["action"] == "assign")


@settings(
    max_examples=settings.default.max_examples * 25 // 100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    owned=st.sets(st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(DEVICES))),
    steps=st.lists(STEP, max_size=6),
    rows=ROWS,
)
def test_after_any_nights_one_that_left_out_leaves_the_world_as_a_full_one(
    owned: set[tuple[str, str]], steps: list[Any], rows: list[Row], tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as here, tempfile.TemporaryDirectory(dir=tmp_path) as there:
        world, full = World(Desk(Path(here))), World(Desk(Path(there)))
        for customer, device in owned:
            world.desk.server.fleet.assign(customer, [device])
        for step in steps:
            world.step(*step)
        for customer, device in world.state():
            full.desk.server.fleet.assign(customer, [device])
        world.run(rows)
        full.manual(rows)
        assert world.state() == full.state()
        assert world.sent <= full.sent


# A real night


@pytest.mark.slow
def test_a_second_night_in_real_time_makes_few_of_the_calls(tmp_path: Path) -> None:
    size = int(os.environ.get("TESTS_ROWS", "5000"))
    rows = [(f"user{row // 2}@x.com", f"SN-{row}", "assign") for row in range(size)]
    changed = {row: ("new", "assign") if row % 2 else ("", "unassign") for row in range(0, size, 101)}
    later = [
        (customer, f"{device}{changed[row][0]}", changed[row][1]) if row in changed else (customer, device, action)
        for row, (customer, device, action) in enumerate(rows)
    ]
    desk = Desk(tmp_path)
    calls = []
    with SandboxState(tmp_path / "fleet.sqlite3") as fleet, serve_in_thread(fleet) as base_url:
        for night, file in enumerate((rows, later), 1):
            flags = {
                "base_url": base_url,
                "reports_dir": str(tmp_path / "reports"),
                "since_last": True,
                "rate": "2000/s",
            }
            path = desk.file(file, f"erp-{night}.csv")
            summary = pipeline.run(resolve([path], {**flags, "run_id": f"n{night}"}, {"TELEMETRON_API_KEY": KEY}))
            assert summary.exit_code == 0
            calls.append(summary.fields["attempts"])
    print(f"\n{len(changed)} of {size:,} rows changed: {calls[0]:,} calls, then {calls[1]:,}")  # noqa: T201
    assert calls[1] <= 0.03 * calls[0]
    assert summary.fields["counts"]["unchanged"] == len(rows) - len(changed)


# Whose account it is


def with_key(desk: Desk, key: str, run_id: str, **flags: Any) -> Ran:
    options = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": run_id, **flags}
    config = resolve([desk.file([ROW])], {"since_last": True, **options}, {"TELEMETRON_API_KEY": key})
    summary = pipeline.run(config, transport=desk.server, clock=desk.clock)
    return Ran(summary, summary.folder, desk.server)


ROW = ("a@x.com", "SN-1", "assign")


def test_with_an_organisation_a_new_key_is_no_reason_for_a_full_run(desk: Desk) -> None:
    with_key(desk, "key-of-may", "n1", organisation="acme")
    ran = with_key(desk, "key-of-june", "n2", organisation="acme")
    assert (ran.outcomes, ran.json["since"]["run"]) == (["unchanged"], "n1")


def test_without_one_a_full_run_says_that_the_key_is_another(desk: Desk) -> None:
    with_key(desk, "key-of-may", "n1")
    ran = with_key(desk, "key-of-june", "n2", again=True)
    assert ran.outcomes == ["alreadyAssigned"]
    reason = "the last run of rows.csv without a profile (n1) used another key"
    assert reason in ran.json["since"]["told"]
    assert "there is no finished run" not in ran.json["since"]["told"]


@pytest.mark.parametrize(("before", "now"), [("acme", None), (None, "acme"), ("acme", "other")])
def test_a_full_run_says_that_the_organisation_is_another(desk: Desk, before: str | None, now: str | None) -> None:
    with_key(desk, "key-of-may", "n1", organisation=before)
    told = with_key(desk, "key-of-may", "n2", organisation=now, again=True).json["since"]["told"]
    assert f"--organisation is {now or 'none'}, and that of the last run of rows.csv" in told
    assert told.endswith(f"(n1) is {before or 'none'}")


def test_the_order_of_nights_holds_for_all_keys_of_an_organisation(desk: Desk) -> None:
    with_key(desk, "key-of-may", "n1", organisation="acme", as_of="2026-05-31", since_last=False)
    with pytest.raises(BrakeError, match="n1 of the same job"):
        with_key(desk, "key-of-june", "n2", organisation="acme", as_of="2026-05-30", since_last=False, again=True)
    with_key(desk, "key-of-june", "n3", organisation="other", as_of="2026-05-30", since_last=False, again=True)
