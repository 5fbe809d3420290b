"""Returns by serial alone, with the customers looked up in the journals of earlier runs (`--owners runs`)."""

import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import ConfigError, JournalError
from telemetron_batch.input.load import BlockSink
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.run import pipeline
from telemetron_batch.run.make_plan import make_plan
from telemetron_batch.run.prepare import load_input
from telemetron_batch.run.save_plan import save_plan
from telemetron_batch.run.undo import configure_undo
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage.lock import Lock, LockOwner
from telemetron_batch.storage.spill import Scratch
from tests.conftest import KEY, Desk, Ran
from tests.support.people import Office
from tests.support.scripted import BASE_URL, NIGHTLY_ENDS, NIGHTLY_EVENTS, Loses, Says, Seen, once

A, B, C = "a@x.com", "b@x.com", "c@x.com"
CUSTOMERS, DEVICES = (A, B, C), ("SN-1", "SN-2", "SN-3")
GIVE_A, GIVE_B, TAKE_A = (A, "SN-1", "assign"), (B, "SN-1", "assign"), (A, "SN-1", "unassign")
REFUSED = Says(401, {"error": "Unauthorized"})

Row = tuple[str, str, str]


class Death(BaseException):
    """The process is no more."""


@dataclass
class History:
    """A desk with earlier runs."""

    desk: Desk
    count: int = 0

    def run(self, *rows: Row, **flags: Any) -> Ran:
        """Make one more run, an hour after the one before."""
        self.count += 1
        self.desk.clock.sleep_blocking(flags.pop("pause", 3600.0))
        return self.desk.run(self.desk.file(rows, f"{self.count}.csv"), run_id=f"n{self.count}", **flags)

    def dies(self, *rows: Row, at: int = 1, **flags: Any) -> None:
        """Make a run whose process dies at a request."""
        before = len(self.desk.server.seen)

        def script(seen: Seen) -> None:
            if seen.number - before >= at:
                raise Death

        self.desk.server.script = script
        with pytest.raises(BaseException):  # noqa: B017, PT011 - a group around the death
            self.run(*rows, **flags)
        self.desk.server.script = lambda _: None

    def found(self, *devices: str, environ: dict[str, str] | None = None, **flags: Any) -> dict[str, tuple[str, str]]:
        """Return customer and detail of returned devices, as they are loaded."""
        self.count += 1
        self.desk.clock.sleep_blocking(3600.0)
        path = self.desk.folder / f"scan{self.count}.csv"
        path.write_text("".join(f"{one}\n" for one in ["Serial", *devices]))
        options = {"base_url": BASE_URL, "reports_dir": str(self.desk.folder / "reports"), **flags}
        config = resolve([str(path)], {**options, "owners": "runs", "action": "unassign"}, environ or {})
        blocks = list[RowBlock]()
        with Scratch() as scratch, tempfile.TemporaryDirectory() as spool:
            load_input(config, path.stat().st_size, Path(spool), scratch, cast(BlockSink, blocks))
        names = ("deviceIdentifier", "customerEmail", "detail")
        columns = [[text for block in blocks for text in block.keys[name].to_pylist()] for name in names]
        return {device: (customer, detail) for device, customer, detail in zip(*columns, strict=True)}

    def folder(self, run: str) -> Path:
        """Return the folder of a run."""
        return self.desk.folder / "reports" / run


@pytest.fixture
def history(desk: Desk) -> History:
    return History(desk)


NOWHERE = ("", "owner not found: no earlier run here has given this device to a customer")


def test_a_device_is_taken_from_whom_it_was_given_to_last(history: History) -> None:
    history.run(GIVE_A, (B, "SN-2", "assign"))
    path = history.desk.file("Serial\nSN-1\nSN-3\n", "scan.csv")
    ran = history.desk.run(path, run_id="r", action="unassign", owners="runs")
    assert [(row["customerEmail"], row["outcome"]) for row in ran.rows] == [(A, "unassigned"), ("", "invalid")]
    assert ran.rows[0]["detail"] == "owner from run n1"
    assert ran.rows[1]["detail"] == NOWHERE[1]
    assert history.desk.server.fleet.owners("SN-1") == set()
    assert (ran.json["ownersFound"], ran.json["ownersNotFound"], ran.json["owners"]["source"]) == (1, 1, "runs")


def test_a_device_that_moved_is_with_its_last_owner(history: History) -> None:
    history.run(GIVE_A)
    history.run(TAKE_A, GIVE_B)
    assert history.found("SN-1") == {"SN-1": (B, "owner from run n2")}


def test_a_device_that_was_taken_since_has_no_owner(history: History) -> None:
    history.run(GIVE_A)
    history.run(TAKE_A)
    assert history.found("SN-1") == {"SN-1": ("", f"owner not found: not with {A} since run n2")}


def test_after_an_undo_the_device_has_no_owner(history: History) -> None:
    ran = history.run(GIVE_A, (B, "SN-2", "assign"))
    history.desk.clock.sleep_blocking(60)
    flags = {"run_id": "back", "base_url": BASE_URL, "reports_dir": str(ran.folder.parent)}
    config = configure_undo(ran.folder, flags, {"TELEMETRON_API_KEY": KEY})
    pipeline.run(config, transport=history.desk.server, clock=history.desk.clock)
    found = history.found("SN-1", "SN-2")
    assert [customer for customer, _ in found.values()] == ["", ""]
    assert "since run back" in found["SN-1"][1]


def test_a_return_takes_the_owner_from_the_history(history: History) -> None:
    history.run(GIVE_A)
    path = history.desk.file("Serial\nSN-1\n", "scan.csv")
    history.desk.run(path, run_id="r", action="unassign", owners="runs")
    assert history.found("SN-1")["SN-1"][1] == f"owner not found: not with {A} since run r"


def test_two_owners_are_none(history: History) -> None:
    history.run(GIVE_A)
    history.run(GIVE_B)
    assert history.found("SN-1") == {"SN-1": ("", f"two owners: {A} (run n1), {B} (run n2)")}


def test_a_refused_row_changes_nothing(history: History) -> None:
    history.run(GIVE_A)
    history.desk.server.script = once(Says(400, {"error": "Customer is locked"}))
    assert history.run(TAKE_A).outcomes == ["failed"]
    assert history.found("SN-1") == {"SN-1": (A, "owner from run n1")}


@pytest.mark.parametrize(("row", "word"), [(TAKE_A, "unassign"), (GIVE_B, "assign")])
def test_an_unconfirmed_last_word_is_unclear(row: Row, word: str, history: History) -> None:
    history.run(GIVE_A)
    history.desk.server.script = lambda _: Loses(acted=True)
    assert history.run(row, attempts="1").outcomes == ["unconfirmed"]
    ((customer, detail),) = history.found("SN-1").values()
    assert customer == ""
    assert detail.startswith(f"owner unclear: {row[0]} (run n2: {word} unconfirmed)")


def test_a_later_answer_makes_an_unconfirmed_word_clear(history: History) -> None:
    history.desk.server.script = lambda _: Loses(acted=True)
    history.run(GIVE_A, attempts="1")
    history.desk.server.script = lambda _: None
    assert history.run(GIVE_A, again=True).outcomes == ["alreadyAssigned"]
    assert history.found("SN-1") == {"SN-1": (A, "owner from run n2")}


def test_a_verification_that_contradicts_makes_the_word_unclear(history: History) -> None:
    ran = history.run(GIVE_A)
    history.desk.server.fleet.unassign(A, ["SN-1"])
    assert history.desk.verify(ran).rows[0]["verified"] == "no"
    assert history.found("SN-1")["SN-1"] == ("", f"owner unclear: {A} (run n1: assign unconfirmed)")


def test_rows_that_a_stopped_run_settled_count_and_its_others_are_unclear(history: History) -> None:
    history.run((A, "SN-2", "assign"))
    history.desk.server.script = once(None, REFUSED)
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "assign")]
    ran = history.run(*rows, concurrency="1")
    assert ran.outcomes == ["assigned", "notSent"]
    history.desk.server.script = lambda _: None
    assert history.found("SN-1", "SN-2") == {
        "SN-1": (A, "owner from run n2"),
        "SN-2": ("", f"owner unclear: {B} (run n2: assign not sent yet); surely with {A} (run n1)"),
    }
    history.desk.run(history.desk.file(rows, "2.csv"), run_id="n2", concurrency="1")
    assert history.found("SN-2")["SN-2"][1].startswith("two owners")


def test_rows_that_a_killed_run_settled_count_and_its_others_are_unclear(history: History) -> None:
    history.dies((A, "SN-1", "assign"), (B, "SN-2", "assign"), (C, "SN-3", "assign"), at=2, concurrency="1")
    found = history.found("SN-1", "SN-2", "SN-3", "SN-4")
    assert found["SN-1"] == (A, "owner from run n1")
    assert found["SN-2"] == ("", f"owner unclear: {B} (run n1: assign unconfirmed)")
    assert found["SN-3"] == ("", f"owner unclear: {C} (run n1: assign not sent yet)")
    assert found["SN-4"] == NOWHERE


def test_what_an_active_run_has_not_settled_is_unclear(history: History) -> None:
    history.run(GIVE_A, (B, "SN-2", "assign"))
    history.dies(TAKE_A, at=1)
    history.run(GIVE_A)
    assert history.found("SN-1") == {"SN-1": (A, "owner from run n3")}
    lock = Lock.acquire(history.folder("n2") / LOCK_NAME, LockOwner(1, "now", "n2"), "run n2")
    try:
        found = history.found("SN-1", "SN-2")
    finally:
        lock.release()
    assert found["SN-1"][0] == ""
    assert "unassign unconfirmed" in found["SN-1"][1]
    assert found["SN-2"] == (B, "owner from run n1")


def test_a_sharded_run_that_was_not_put_together_is_unclear(history: History) -> None:
    path = history.desk.file([GIVE_A], "s.csv")
    options = {"base_url": BASE_URL, "reports_dir": str(history.desk.folder / "reports"), "run_id": "s", "shards": "2"}
    plan_shards(resolve([path], options, {"TELEMETRON_API_KEY": KEY}), clock=history.desk.clock)
    assert history.found("SN-1") == {"SN-1": ("", f"owner unclear: {A} (run s: assign not sent yet)")}


# Saved plans


def save(history: History, *rows: Row, **flags: Any) -> str:
    """Save a plan as run `p`; return the path of its input."""
    path = history.desk.file(rows, "p.csv")
    options = {"base_url": BASE_URL, "reports_dir": str(history.desk.folder / "reports"), "run_id": "p", **flags}
    save_plan(resolve([path], options, {"TELEMETRON_API_KEY": KEY}), clock=history.desk.clock)
    return path


@pytest.mark.parametrize("row", [TAKE_A, GIVE_B])
def test_a_plan_that_was_saved_and_not_sent_says_nothing(row: Row, history: History) -> None:
    history.run(GIVE_A)
    save(history, row)
    assert history.found("SN-1") == {"SN-1": (A, "owner from run n1")}


def test_a_saved_return_does_not_keep_the_same_list_from_being_run_under_another_id(history: History) -> None:
    history.run(GIVE_A)
    path = history.desk.file("Serial\nSN-1\n", "scan.csv")
    flags = {"base_url": BASE_URL, "reports_dir": str(history.desk.folder / "reports"), "action": "unassign"}
    save_plan(resolve([path], {**flags, "owners": "runs"}, {"TELEMETRON_API_KEY": KEY}), clock=history.desk.clock)
    assert history.desk.run(path, run_id="r", action="unassign", owners="runs").outcomes == ["unassigned"]


@pytest.mark.parametrize("state", ["awaitingApproval", "approved"])
def test_a_plan_that_waits_for_an_approval_or_for_its_run_says_nothing(state: str, history: History) -> None:
    history.run(GIVE_A)
    office = Office(history.desk)
    saved = office.save(history.desk.file([TAKE_A], "p.csv"), run_id="p", approval="second")
    if state == "approved":
        office.approve(saved.fingerprint, run="p")
    assert office.line("p").state == state
    assert history.found("SN-1") == {"SN-1": (A, "owner from run n1")}


def test_a_saved_plan_that_began_and_stopped_leaves_its_other_rows_unclear(history: History) -> None:
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "assign")]
    path = save(history, *rows)
    history.desk.server.script = once(None, REFUSED)
    assert history.desk.run(path, run_id="p", concurrency="1").outcomes == ["assigned", "notSent"]
    assert history.found("SN-1", "SN-2") == {
        "SN-1": (A, "owner from run p"),
        "SN-2": ("", f"owner unclear: {B} (run p: assign not sent yet)"),
    }


def test_a_saved_plan_that_began_and_was_killed_leaves_its_rows_unclear(history: History) -> None:
    path = save(history, (A, "SN-1", "assign"), (B, "SN-2", "assign"))

    def die(_: Seen) -> None:
        raise Death

    history.desk.server.script = die
    with pytest.raises(BaseException):  # noqa: B017, PT011 - a group around the death
        history.desk.run(path, run_id="p", concurrency="1")
    assert [detail for _, detail in history.found("SN-1", "SN-2").values()] == [
        f"owner unclear: {A} (run p: assign unconfirmed)",
        f"owner unclear: {B} (run p: assign not sent yet)",
    ]


def test_a_saved_plan_that_a_process_works_on_is_unclear(history: History) -> None:
    history.run(GIVE_A)
    save(history, TAKE_A)
    lock = Lock.acquire(history.folder("p") / LOCK_NAME, LockOwner(1, "now", "p"), "run p")
    try:
        found = history.found("SN-1")
    finally:
        lock.release()
    assert found["SN-1"][1].startswith(f"owner unclear: {A} (run p: unassign not sent yet)")


def test_a_saved_plan_whose_journal_lost_records_is_unclear(history: History) -> None:
    history.run(GIVE_A)
    history.desk.run(save(history, TAKE_A), run_id="p")
    with closing(sqlite3.connect(history.folder("p") / JOURNAL_NAME)) as journal, journal:
        for table in ("results", "attempts"):
            journal.execute(f"DELETE FROM {table}")
        journal.execute("DELETE FROM meta WHERE name = ?", (Fact.SUMMARY,))
    assert history.found("SN-1")["SN-1"][1].startswith(f"owner unclear: {A} (run p: unassign unconfirmed)")


def test_an_unsent_plan_under_another_key_does_not_mix_accounts(history: History) -> None:
    history.run(GIVE_A, organisation="one")
    save(history, TAKE_A, organisation="two")
    assert history.found("SN-1") == {"SN-1": (A, "owner from run n1")}


def test_a_row_left_out_by_since_last_keeps_the_earlier_word(history: History) -> None:
    history.run(GIVE_A, job="j")
    assert history.run(GIVE_A, job="j", since_last=True).outcomes == ["unchanged"]
    assert history.found("SN-1") == {"SN-1": (A, "owner from run n1")}


def test_runs_of_an_earlier_version_count_by_their_row_states(history: History) -> None:
    history.run(GIVE_A, (B, "SN-2", "assign"), (C, "SN-3", "unassign"))
    history.run((B, "SN-2", "unassign"))
    for run in ("n1", "n2"):
        with closing(sqlite3.connect(history.folder(run) / JOURNAL_NAME)) as journal, journal:
            journal.execute("DELETE FROM meta WHERE name = ?", (Fact.OWNER_WORDS,))
    found = history.found("SN-1", "SN-2", "SN-3")
    assert found["SN-1"] == (A, "owner from run n1")
    assert found["SN-2"] == ("", f"owner not found: not with {B} since run n2")


# Which runs count


def test_runs_against_another_api_and_sandbox_runs_do_not_count(history: History) -> None:
    history.run(GIVE_A, base_url="http://127.0.0.1:10/api/ext-v1")
    history.run((A, "SN-2", "assign"), sandbox=True)
    assert history.found("SN-1", "SN-2") == {"SN-1": NOWHERE, "SN-2": NOWHERE}


def test_runs_with_another_key_or_organisation_do_not_count(history: History) -> None:
    history.run(GIVE_A, organisation="one")
    assert history.found("SN-1", organisation="one")["SN-1"][0] == A
    assert history.found("SN-1", organisation="two") == {"SN-1": NOWHERE}
    history.run((B, "SN-2", "assign"))
    path = history.desk.file("Serial\nSN-1\nSN-2\n", "scan.csv")
    ran = history.desk.run(path, run_id="r", action="unassign", owners="runs")
    assert [row["customerEmail"] for row in ran.rows] == ["", B]


def test_a_rehearsal_in_the_sandbox_finds_the_owners_of_the_real_runs(history: History) -> None:
    history.run(GIVE_A, organisation="one")
    assert history.found("SN-1", sandbox=True, organisation="one")["SN-1"][0] == A
    assert history.found("SN-1", sandbox=True, organisation="two") == {"SN-1": NOWHERE}


def test_without_a_key_the_runs_of_several_accounts_are_not_mixed(history: History) -> None:
    history.run(GIVE_A, organisation="one")
    assert history.found("SN-1")["SN-1"][0] == A
    history.run(GIVE_B, organisation="two")
    with pytest.raises(ConfigError, match="several keys or organisations"):
        history.found("SN-1")


def test_a_run_that_cannot_be_read_stops_the_lookup(history: History) -> None:
    history.run(GIVE_A)
    (history.folder("n1") / JOURNAL_NAME).write_bytes(b"no journal")
    with pytest.raises(JournalError, match="who has the devices of run n1 is not known"):
        history.found("SN-1")


def test_a_run_of_another_user_is_passed_over_with_a_warning(history: History) -> None:
    history.run(GIVE_A)
    history.folder("n1").chmod(0o777)
    plan = planned(history, "SN-1")
    assert [warning for warning in plan["warnings"] if "run n1 is passed over" in warning]
    assert plan["ownersFound"] == 0


def test_a_run_whose_journal_lost_records_is_unclear(history: History) -> None:
    history.run(GIVE_A)
    with closing(sqlite3.connect(history.folder("n1") / JOURNAL_NAME)) as journal, journal:
        journal.execute("DELETE FROM results")
    assert history.found("SN-1") == {"SN-1": ("", f"owner unclear: {A} (run n1: assign unconfirmed)")}


def planned(history: History, *devices: str) -> dict[str, Any]:
    """Return the plan of a list of devices as JSON."""
    path = history.desk.file("".join(f"{one}\n" for one in ["Serial", *devices]), "scan.csv")
    flags = {"base_url": BASE_URL, "reports_dir": str(history.desk.folder / "reports")}
    config = resolve([path], {**flags, "owners": "runs", "action": "unassign"}, {"TELEMETRON_API_KEY": KEY})
    return make_plan(config, history.desk.clock).as_json()


def test_the_plan_needs_no_network_and_writes_nothing(history: History) -> None:
    history.run(GIVE_A)
    before = {path: path.stat().st_mtime_ns for path in history.folder("n1").iterdir()}
    seen = len(history.desk.server.seen)
    assert planned(history, "SN-1", "SN-2")["ownersFound"] == 1
    assert len(history.desk.server.seen) == seen
    assert {path: path.stat().st_mtime_ns for path in history.folder("n1").iterdir()} == before


def test_a_stopped_lookup_run_resumes_without_the_other_journals(history: History) -> None:
    history.run(GIVE_A)
    history.desk.server.script = once(REFUSED)
    path = history.desk.file("Serial\nSN-1\n", "scan.csv")
    ran = history.desk.run(path, run_id="r", action="unassign", owners="runs")
    assert ran.outcomes == ["notSent"]
    shutil.rmtree(history.folder("n1"))
    again = history.desk.run(path, run_id="r", action="unassign", owners="runs")
    assert [(row["outcome"], row["detail"]) for row in again.rows] == [("unassigned", "owner from run n1")]


# The law

ROWS = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(DEVICES), st.sampled_from(["assign", "unassign"])),
    min_size=1,
    max_size=6,
)
FAULTS = st.lists(st.sampled_from(NIGHTLY_EVENTS), max_size=6)
RUN = st.tuples(ROWS, FAULTS, st.sampled_from(NIGHTLY_ENDS), st.sampled_from([60.0, 3600.0]))


def act(history: History, rows: Sequence[Row], faults: Sequence[Any], end: str, pause: float) -> None:
    """Make a run whose calls meet these faults, and then the end."""
    events, server = [*faults], history.desk.server
    before = len(server.seen)

    def script(seen: Seen) -> Any:
        at = seen.number - before - 1
        if at < len(events):
            return events[at]
        if end == "dead":
            raise Death
        return REFUSED if end == "refused" else None

    server.script = script
    try:
        history.run(*rows, attempts="2", give_up_after="1m", pause=pause, again=True)
    except (Death, BaseExceptionGroup):
        pass
    finally:
        server.script = lambda _: None


@given(runs=st.lists(RUN, min_size=1, max_size=3))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_whoever_is_found_is_the_only_one_who_has_the_device(runs: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Desk(Path(folder)))
        history.desk.server.fleet.seed([(one, "SEED", "assign") for one in CUSTOMERS])
        for run in runs:
            act(history, *run)
        fleet = history.desk.server.fleet
        is_plain = all(end == "well" and not any(faults) for _, faults, end, _ in runs)
        given_once = {device for rows, *_ in runs for _, device, action in rows if action == "assign"}
        for device, (customer, detail) in history.found(*DEVICES).items():
            owners = fleet.owners(device)
            if customer:
                assert owners == {customer}, detail
            elif detail.startswith("owner not found"):
                assert owners == set(), detail
            elif is_plain:
                assert detail.startswith("two owners"), detail
                assert len(owners) > 1
            if is_plain and device in given_once and len(owners) == 1:
                assert {customer} == owners
