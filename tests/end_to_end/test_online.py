"""A look at the customers before anything is sent: `plan --online` and `run --online`."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import BatchError, BrakeError, JournalError, QueryError
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.preview import EXPECTED_OUTCOMES, PreviewWord
from telemetron_batch.run import pipeline
from telemetron_batch.run.preview import preview_plan
from telemetron_batch.run.save_plan import SavedPlan
from telemetron_batch.sending.session import LOOK_VALID_S
from tests.conftest import ENVIRON, KEY, Desk
from tests.support.scripted import BASE_URL, Loses, Says

A, B, C, NEW = "a@x.com", "b@x.com", "c@x.com", "new@x.com"
Rows = Sequence[tuple[str, str, str]]


class OnlineDesk(Desk):
    """A desk at which plans are looked at before they are sent."""

    def plan(self, rows: str | Rows, **flags: Any) -> SavedPlan:
        options = {"base_url": BASE_URL, "reports_dir": str(self.folder / "reports"), "online": True, **flags}
        path = rows if isinstance(rows, str) and rows.startswith("/") else self.file(rows)
        config = resolve([path], options, {"TELEMETRON_API_KEY": KEY})
        return preview_plan(config, self.face, self.clock, self.server)

    def have(self, *pairs: tuple[str, str]) -> None:
        """Let customers have devices, which exist from then on."""
        for customer, device in pairs:
            self.server.fleet.assign(customer, [device], create=True)

    @property
    def actions(self) -> list[str]:
        return [seen.action for seen in self.server.seen]


@pytest.fixture
def online(tmp_path: Path) -> OnlineDesk:
    return OnlineDesk(tmp_path)


def asked_customers(online: OnlineDesk) -> list[str]:
    return [str(seen.body["email"]) for seen in online.server.seen if seen.action == "query"]


def words_of(folder: Path) -> list[str]:
    with (folder / "preview.csv").open(encoding="utf-8", newline="") as file:
        return [row["preview"] for row in csv.DictReader(file)]


# What it says


def test_each_row_gets_the_word_for_what_will_happen_to_it(online: OnlineDesk) -> None:
    online.server.fleet.seed([])
    online.have((A, "D1"), (A, "D2"))
    saved = online.plan(
        [
            (A, "D1", "assign"),
            (A, "D2", "unassign"),
            (A, "D3", "assign"),
            (A, "D4", "unassign"),
            (NEW, "D5", "assign"),
            (NEW, "D6", "unassign"),
            (NEW, "D5", "assign"),
            ("no address", "D7", "assign"),
        ]
    )
    assert words_of(saved.folder) == [
        "alreadySo",
        "willChange",
        "willChange",
        "notThisCustomers",
        "customerUnknown",
        "customerUnknown",
        "duplicate",
        "invalid",
    ]
    assert saved.summary.preview is not None
    assert saved.summary.preview.customers_to_create == 1
    assert (
        saved.summary.preview.sentence
        == "will change 2, already so 1, not this customer's 1, of unknown customers 2, 1 new customer"
    )


def test_rows_of_one_pair_are_played_in_file_order(online: OnlineDesk) -> None:
    online.have((A, "D1"), (B, "D9"))
    rows = [
        (A, "D1", "unassign"),
        (A, "D1", "assign"),
        (A, "D1", "unassign"),
        (B, "D1", "unassign"),
        (B, "D1", "assign"),
        (NEW, "D1", "assign"),
        (NEW, "D1", "unassign"),
        (C, "D1", "unassign"),
        (C, "D1", "assign"),
    ]
    words = words_of(online.plan(rows).folder)
    assert words[:3] == ["willChange", "willChange", "willChange"]
    assert words[3:5] == ["notThisCustomers", "willChange"]
    assert words[5:7] == ["customerUnknown", "willChange"]
    assert words[7:] == ["customerUnknown", "customerUnknown"]


def test_a_device_in_another_spelling_is_not_known(online: OnlineDesk) -> None:
    online.have((A, "sn-1"))
    assert words_of(online.plan([(A, "SN1", "unassign")]).folder) == ["notKnown"]


def test_the_file_has_the_columns_of_the_input_then_line_and_preview_and_guards_formulas(online: OnlineDesk) -> None:
    path = online.file("note;preview;customerEmail;deviceIdentifier;action\n=1+1;p;a@x.com;D1;assign\n")
    text = (online.plan(path).folder / "preview.csv").read_text()
    header, row = csv.reader(text.splitlines())
    assert header == ["note", "preview (input)", "customerEmail", "deviceIdentifier", "action", "line", "preview"]
    assert row == ["'=1+1", "p", "a@x.com", "D1", "assign", "2", "customerUnknown"]


def test_several_files_are_told_apart(online: OnlineDesk) -> None:
    paths = [online.file([(A, "D1", "assign")], "one.csv"), online.file([(A, "D2", "assign")], "two.csv")]
    options = {"base_url": BASE_URL, "reports_dir": str(online.folder / "reports"), "online": True}
    config = resolve(paths, options, {"TELEMETRON_API_KEY": KEY})
    saved = preview_plan(config, online.face, online.clock, online.server)
    with (saved.folder / "preview.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["file"], row["line"]) for row in csv.DictReader(file)] == [("one.csv", "2"), ("two.csv", "2")]


OWNERS = f"customerEmail,deviceIdentifier\n{A},D1\n{B},D2\n"


def previewed(folder: Path) -> list[list[str]]:
    with (folder / "preview.csv").open(encoding="utf-8", newline="") as file:
        return [*csv.reader(file)]


def test_the_file_says_from_whom_a_device_of_a_list_without_customers_is_taken(online: OnlineDesk) -> None:
    online.have((A, "D1"))
    owners = online.file(OWNERS, "owners.csv")
    saved = online.plan(online.file("Serial,note\nD1,x\nD2,y\nD3,z\n"), action="unassign", owners=owners)
    assert previewed(saved.folder) == [
        ["customerEmail", "Serial", "note", "line", "preview"],
        [A, "D1", "x", "2", "willChange"],
        [B, "D2", "y", "3", "customerUnknown"],
        ["", "D3", "z", "4", "invalid"],
    ]


def test_found_customers_fill_the_empty_cells_of_the_lists_own_customer_column(online: OnlineDesk) -> None:
    owners = online.file(OWNERS, "owners.csv")
    rows = online.file(f"Serial,E-mail\nD1,\nD2,{C.upper()}\nD3,\n")
    saved = online.plan(rows, action="unassign", owners=owners)
    assert [row[:2] for row in previewed(saved.folder)] == [
        ["Serial", "E-mail"],
        ["D1", A],
        ["D2", C.upper()],
        ["D3", ""],
    ]


def test_several_lists_without_customers_get_one_customer_column(online: OnlineDesk) -> None:
    owners = online.file(OWNERS, "owners.csv")
    lists = [online.file(text, f"{n}.csv") for n, text in enumerate(("Serial\nD1\n", "MAC,n\nD2,1\n"))]
    options = {"base_url": BASE_URL, "reports_dir": str(online.folder / "reports"), "online": True}
    config = resolve(lists, {**options, "action": "unassign", "owners": owners}, {"TELEMETRON_API_KEY": KEY})
    header, *rows = previewed(preview_plan(config, online.face, online.clock, online.server).folder)
    assert header == ["file", "customerEmail", "deviceIdentifier", "n", "line", "preview"]
    assert [row[:3] for row in rows] == [["0.csv", A, "D1"], ["1.csv", B, "D2"]]


def test_the_file_of_a_reopened_plan_still_names_the_customers_found(online: OnlineDesk) -> None:
    owners = online.file(OWNERS, "owners.csv")
    flags = {"action": "unassign", "owners": owners}
    rows = online.file("Serial\nD1\n")
    folder = online.plan(rows, **flags).folder
    (folder / "preview.csv").unlink()
    online.plan(rows, **flags)
    assert previewed(folder)[1][:2] == [A, "D1"]


# What it does and does not do


def test_a_look_asks_each_customer_once_and_changes_nothing(online: OnlineDesk) -> None:
    online.have((A, "D1"))
    rows = [(customer, f"D{number}", "assign") for customer in (A, B, C) for number in range(3)]
    saved = online.plan(rows)
    assert online.actions == ["query"] * 3
    assert online.server.fleet.devices_of(B) == []
    assert (saved.info.state, (saved.folder / "reconciliation.csv").exists()) == ("planned", False)


def test_a_stopped_look_goes_on_without_asking_anybody_twice(online: OnlineDesk) -> None:
    rows = [(f"user{number:02}@x.com", "D1", "assign") for number in range(30)]
    with pytest.raises(QueryError, match="nothing was sent"):
        online.plan(rows, deadline="1s")
    asked = asked_customers(online)
    assert 0 < len(asked) < 30
    online.plan(rows)
    assert Counter(asked_customers(online)) == Counter(customer for customer, *_ in rows)


def test_a_customer_whose_query_failed_is_asked_again(online: OnlineDesk) -> None:
    online.have((A, "D1"), (B, "D1"))
    online.server.script = lambda seen: Says(500, {"error": "broken"}) if seen.body.get("email") == B else None
    rows = [(A, "D1", "assign"), (B, "D1", "assign")]
    saved = online.plan(rows, attempts="1")
    assert (words_of(saved.folder), saved.summary.preview and saved.summary.preview.customers_not_known) == (
        ["alreadySo", "notKnown"],
        1,
    )


def test_a_complete_look_is_repeated_once_it_is_old(online: OnlineDesk) -> None:
    rows = [(A, "D1", "assign")]
    online.plan(rows)
    online.plan(rows)
    assert len(online.actions) == 1
    online.clock.monotonic += LOOK_VALID_S
    online.have((A, "D1"))
    assert words_of(online.plan(rows).folder) == ["alreadySo"]
    assert len(online.actions) == 2


def test_a_refused_key_ends_the_look_with_4(online: OnlineDesk) -> None:
    online.server.script = lambda _: Says(401, {"error": "Invalid API key"})
    with pytest.raises(BatchError) as stopped:
        online.plan([(A, "D1", "assign")])
    assert stopped.value.exit_code == 4


def test_a_run_that_has_sent_is_not_looked_at(online: OnlineDesk) -> None:
    rows = [(A, "D1", "assign")]
    saved = online.plan(rows)
    online.run(rows, run_id=saved.folder.name)
    with pytest.raises(JournalError, match="has sent calls already"):
        online.plan(rows)


# Brakes


@pytest.mark.parametrize(
    ("brake", "row"),
    [
        ({"max_new_customers": "0"}, (NEW, "D1", "assign")),
        ({"max_skipped": "0"}, (A, "D2", "unassign")),
        ({"max_skipped": "50%"}, (A, "D2", "unassign")),
    ],
)
@pytest.mark.parametrize("as_run", [False, True])
def test_brakes_hold_before_the_first_write(online: OnlineDesk, brake: dict, row: tuple, as_run: bool) -> None:
    online.have((A, "D1"))
    work = online.run if as_run else online.plan
    with pytest.raises(BrakeError, match="nothing was sent") as held:
        work([row], online=True, **brake)
    assert held.value.exit_code == 2
    assert online.actions == ["query"]


def test_a_brake_on_unassigns_counts_at_the_begin_of_the_run(online: OnlineDesk) -> None:
    online.have((A, "D1"), (A, "D2"))
    rows = [(A, "D1", "unassign"), (A, "D2", "unassign"), (A, "D3", "unassign")]
    saved = online.plan(rows)
    with pytest.raises(BrakeError, match="3 rows are unassigns"):
        online.run(rows, run_id=saved.folder.name, online=True, max_unassign="1")
    assert set(online.actions) == {"query"}


def test_a_brake_that_refused_a_look_still_holds_without_online(online: OnlineDesk) -> None:
    rows = [(NEW, "D1", "assign"), (A, "D1", "assign")]
    for flags in ({"online": True}, {}):
        with pytest.raises(BrakeError, match="2 customers would be created"):
            online.run(rows, max_new_customers="1", **flags)
    assert set(online.actions) == {"query"}


@pytest.mark.parametrize("brake", [{"min_rows": "9"}, {"expect_rows": "9"}, {"max_unassign": "0"}])
def test_brakes_that_are_given_when_a_saved_plan_is_sent_hold(online: OnlineDesk, brake: dict) -> None:
    online.have((A, "D1"))
    rows = [(A, "D1", "unassign")]
    saved = online.plan(rows)
    with pytest.raises(BrakeError):
        online.run(rows, run_id=saved.folder.name, **brake)
    assert "unassign" not in online.actions


# What goes wrong


def test_a_server_that_is_not_the_api_ends_the_look_with_4(online: OnlineDesk) -> None:
    online.server.script = lambda _: Says(404, b"<html>nothing here</html>")
    with pytest.raises(BatchError) as stopped:
        online.plan([(A, "D1", "assign"), (B, "D1", "assign")])
    assert stopped.value.exit_code == 4
    assert "no Telemetron API" in str(stopped.value)


def test_customers_whose_query_failed_are_asked_again_at_once(online: OnlineDesk) -> None:
    online.have((A, "D1"), (B, "D1"))
    online.server.script = lambda seen: Says(500, {"error": "broken"}) if seen.body.get("email") == B else None
    rows = [(A, "D1", "assign"), (B, "D1", "assign")]
    online.plan(rows, attempts="1")
    online.server.script = lambda _: None
    assert words_of(online.plan(rows, attempts="1").folder) == ["alreadySo", "alreadySo"]
    assert asked_customers(online).count(A) == 1


def test_a_look_is_repeated_after_another_run_has_written(online: OnlineDesk) -> None:
    online.have((A, "D1"))
    rows = [(A, "D1", "unassign")]
    online.plan(rows)
    other = online.run([(A, "D1", "unassign"), (A, "D2", "unassign")], run_id="other")
    later = online.clock.wall() + 1
    os.utime(other.folder / "journal.sqlite3", (later, later))
    assert words_of(online.plan(rows).folder) == ["notThisCustomers"]


def test_a_run_that_is_only_planned_has_nothing_to_report_or_verify(online: OnlineDesk) -> None:
    saved = online.plan([(A, "D1", "assign")])
    with pytest.raises(JournalError, match="nothing to report"):
        pipeline.report(saved.folder)
    with pytest.raises(JournalError, match="nothing to verify"):
        pipeline.verify(saved.folder, ENVIRON)
    assert not (saved.folder / "attention.csv").exists()


def test_rows_that_a_saved_plan_leaves_out_must_still_be_settled(online: OnlineDesk) -> None:
    online.have((A, "D1"))
    night = {"since_last": True, "job": "night"}
    first = [(A, "D1", "unassign")]
    online.run(first, run_id="one", **night)
    rows = [*first, (B, "D2", "assign")]
    saved = online.plan(rows, **night)
    assert words_of(saved.folder)[0] == "unchanged"
    online.run([(A, "D1", "assign")], run_id="back")
    with pytest.raises(JournalError, match="have been changed since its plan was saved"):
        online.run(rows, run_id=saved.folder.name, **night)


def test_a_plan_is_not_sent_for_another_organisation(online: OnlineDesk) -> None:
    rows = [(A, "D1", "assign")]
    saved = online.plan(rows, organisation="one")
    with pytest.raises(JournalError, match="planned with another --organisation"):
        online.run(rows, run_id=saved.folder.name, organisation="two")


# The run


def test_a_run_looks_first_then_sends(online: OnlineDesk) -> None:
    online.have((A, "D1"))
    ran = online.run([(A, "D1", "assign"), (B, "D1", "assign")], online=True)
    assert online.actions[:2] == ["query", "query"]
    assert ran.outcomes == ["alreadyAssigned", "assigned"]
    assert (ran.json["preview"]["alreadySo"], ran.json["customersToCreate"], ran.json["rowsChangedByOthers"]) == (
        1,
        1,
        0,
    )
    assert "already so 1" in (ran.folder / "report.html").read_text()


def test_a_planned_run_goes_on_from_its_look(online: OnlineDesk) -> None:
    online.have((A, "D1"))
    rows = [(A, "D1", "assign")]
    saved = online.plan(rows)
    ran = online.run(rows, run_id=saved.folder.name)
    assert online.actions == ["query", "assign"]
    assert ran.json["preview"]["alreadySo"] == 1


def test_a_killed_run_that_has_looked_looks_no_more_once_it_has_sent(online: OnlineDesk) -> None:
    rows = [(f"user{number:02}@x.com", "D1", "assign") for number in range(20)]
    stopped = online.run(rows, online=True, deadline="3s")
    assert stopped.summary.exit_code == 3
    online.run(rows, online=True)
    assert online.actions.count("query") == 20
    assert online.actions.count("assign") == 20


def test_the_look_serves_as_baseline_for_15_minutes_in_the_same_process(online: OnlineDesk) -> None:
    online.have((A, "D9"))
    events = iter([Loses(acted=True)])
    online.server.script = lambda seen: next(events, None) if seen.action == "assign" else None
    ran = online.run([(A, "D1", "assign")], online=True, baseline=True)
    assert (ran.outcomes, online.actions) == (["assigned"], ["query", "assign", "assign"])


def test_in_another_process_the_baseline_is_queried_anew(online: OnlineDesk) -> None:
    rows = [(A, "D1", "assign")]
    saved = online.plan(rows)
    online.run(rows, run_id=saved.folder.name, baseline=True)
    assert online.actions == ["query", "query", "assign"]


def test_what_somebody_else_changed_in_between_is_reported(online: OnlineDesk) -> None:
    online.have((A, "D1"), (A, "D2"))
    rows = [(A, "D1", "unassign"), (A, "D2", "assign"), (B, "D3", "assign")]
    saved = online.plan(rows)
    online.server.fleet.unassign(A, ["D1"])
    ran = online.run(rows, run_id=saved.folder.name)
    assert ran.outcomes[:2] == ["skipped", "alreadyAssigned"]
    assert ran.json["rowsChangedByOthers"] == 1
    page = (ran.folder / "report.html").read_text()
    assert "has changed these customers" in page


# Any world

DEVICES = ("D1", "D2", "D3", "D4")
ROWS = st.lists(
    st.tuples(st.sampled_from((A, B, C, NEW)), st.sampled_from(DEVICES), st.sampled_from(("assign", "unassign"))),
    min_size=1,
    max_size=14,
)
HELD = st.lists(st.tuples(st.sampled_from((A, B, C)), st.sampled_from(DEVICES)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, held=HELD, existing=st.sets(st.sampled_from(DEVICES)), chunk=st.sampled_from("13"))
def test_each_outcome_is_one_that_its_preview_word_allows(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, held: list, existing: set, chunk: str
) -> None:
    online = OnlineDesk(Path(tmp_path_factory.mktemp("online")))
    for device in existing:
        online.have((C, device))
        online.server.fleet.unassign(C, [device])
    online.have(*held)
    ran = online.run(rows, online=True, chunk_size=chunk)
    assert ran.json["rowsChangedByOthers"] == 0
    seen: set[tuple[str, str]] = set()
    for row, word in zip(ran.rows, map(PreviewWord, words_of(ran.folder)), strict=True):
        pair, outcome, action = (row["customerEmail"], row["deviceIdentifier"]), row["outcome"], Action(row["action"])
        if word in (PreviewWord.DUPLICATE, PreviewWord.INVALID):
            assert outcome == word
        elif pair not in seen:
            allowed = EXPECTED_OUTCOMES[word, action] | {Outcome.FAILED, Outcome.HELD}
            assert Outcome(outcome) in allowed
            if (word, action) == (PreviewWord.CUSTOMER_UNKNOWN, Action.UNASSIGN):
                assert outcome in ("failed", "held")
        seen.add(pair)
