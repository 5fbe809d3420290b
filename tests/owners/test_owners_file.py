"""Returns by serial alone, with the customers looked up in a file (`--owners FILE`)."""

import gzip
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.domain.errors import BatchError, ConfigError, InputError, JournalError
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.run import pipeline
from telemetron_batch.run.feed_back import attention_config
from telemetron_batch.run.make_plan import make_plan
from telemetron_batch.run.preview import preview_plan
from telemetron_batch.run.save_plan import SavedPlan, save_plan
from telemetron_batch.sending.observer import RunObserver
from tests.conftest import ENVIRON, KEY, Desk, Ran
from tests.support.scripted import BASE_URL, Says, once

A, B, C = "a@x.com", "b@x.com", "c@x.com"
OWNERS = f"customerEmail,deviceIdentifier\n{A},SN-1\n{B},SN-2\n{A},SN-3\n"


def workbook_bytes(rows: Sequence[Sequence[str]]) -> bytes:
    """Return a workbook with one sheet."""
    book, packed = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.worksheets[0].append(row)
    book.save(packed)
    return packed.getvalue()


@pytest.fixture
def returns(desk: Desk) -> "Returns":
    return Returns(desk)


class Returns:
    """A returns desk with a list of owners."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        for customer, device in ((A, "SN-1"), (B, "SN-2"), (A, "SN-3"), (C, "SN-9")):
            desk.server.fleet.assign(customer, [device])

    def run(self, rows: str, owners: str | Path = OWNERS, **flags: Any) -> Ran:
        """Run a list; `owners` is the text of the owners file, or its path."""
        path = self.desk.file(owners, "owners.csv") if isinstance(owners, str) else os.path.join(".", owners)  # noqa: PTH118
        return self.desk.run(self.desk.file(rows), **{"action": "unassign", "owners": path, **flags})

    def details(self, rows: str, owners: str | Path = OWNERS, **flags: Any) -> list[tuple[str, str, str]]:
        """Return customer, outcome and detail of each row."""
        ran = self.run(rows, owners, **flags)
        return [(row["customerEmail"], row["outcome"], row["detail"]) for row in ran.rows]


def test_a_list_of_serials_alone_is_taken_from_the_owners_in_the_file(returns: Returns) -> None:
    found = returns.details("Serial\nSN-1\nSN-2\n")
    assert found == [
        (A, "unassigned", "owner from owners.csv line 2"),
        (B, "unassigned", "owner from owners.csv line 3"),
    ]
    assert returns.desk.server.fleet.owners("SN-1") == returns.desk.server.fleet.owners("SN-2") == set()
    assert returns.desk.server.fleet.owners("SN-3") == {A}


def test_an_owner_cell_that_the_row_has_wins(returns: Returns) -> None:
    found = returns.details(f"customerEmail,deviceIdentifier\n{C},SN-1\n,SN-2\n")
    assert found == [
        (C, "skipped", "the customer did not have this device"),
        (B, "unassigned", "owner from owners.csv line 3"),
    ]


def test_the_source_follows_the_reason_of_a_row(returns: Returns) -> None:
    (_, outcome, detail), again = returns.details("Serial\nSN-9\nSN-9\n", f"{OWNERS}{B},SN-9\n")
    assert (outcome, detail) == ("skipped", "the customer did not have this device; owner from owners.csv line 5")
    assert again == (B, "duplicate", "same as line 2: skipped; owner from owners.csv line 5")


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ("", "owner not found: owners.csv does not list this device"),
        (f"{A},sn-7\n", 'owner not found under this spelling: owners.csv line 5 has "sn-7"; two spellings may be'),
        (f"{A},SN 7\n", 'owner not found under this spelling: owners.csv line 5 has "SN 7"; two spellings may be'),
        (f"{A},SN-7\n{B},SN-7\n", f"two owners: {A} (owners.csv line 5), {B} (owners.csv line 6)"),
        ("nobody,SN-7\n", 'invalid owner row: owners.csv line 5: customerEmail "nobody" is not an email address'),
        (",SN-7\n", "invalid owner row: owners.csv line 5: customerEmail is empty"),
        (f"{A},SN-7\nnobody,SN-7\n", "invalid owner row: owners.csv line 6: "),
        (f"{A},SN-7,x\n", "invalid owner row: owners.csv line 5: "),
    ],
    ids=[
        "nowhere",
        "other case",
        "other sign",
        "two",
        "no address",
        "no owner",
        "one is no address",
        "a cell too many",
    ],
)
def test_a_row_without_one_clear_owner_is_invalid_and_says_what_was_found(
    more: str, detail: str, returns: Returns
) -> None:
    ((customer, outcome, told),) = returns.details("Serial\nSN-7\n", OWNERS + more)
    assert (customer, outcome) == ("", "invalid")
    assert told.startswith(detail)
    assert returns.desk.server.seen == []


def test_the_same_owner_twice_is_one_owner(returns: Returns) -> None:
    assert returns.details("Serial\nSN-1\n", f"{OWNERS}{A.upper()},SN-1\n") == [
        (A, "unassigned", "owner from owners.csv line 2")
    ]


def test_an_exact_spelling_counts_although_another_is_listed(returns: Returns) -> None:
    owners = f"customerEmail,deviceIdentifier\n{B},sn-1\n{A},SN-1\n"
    assert returns.details("Serial\nSN-1\n", owners) == [(A, "unassigned", "owner from owners.csv line 3")]


def test_an_assign_without_a_customer_is_not_looked_up(returns: Returns) -> None:
    found = returns.details("Serial,action\nSN-1,assign\nSN-2,unassign\nSN-3,\n", action=None)
    assert found[0] == ("", "invalid", "customerEmail is empty; --owners looks up owners for unassign only")
    assert found[1] == (B, "unassigned", "owner from owners.csv line 3")
    assert found[2][:2] == ("", "invalid")
    assert found[2][2].startswith("action is empty")


def test_an_assign_is_held_if_the_owner_of_the_same_device_was_not_found(returns: Returns) -> None:
    rows = f"customerEmail,deviceIdentifier,action\n,SN-7,unassign\n{B},SN-7,assign\n"
    ran = returns.run(rows, action=None)
    assert ran.outcomes == ["invalid", "held"]
    assert returns.desk.server.seen == []


def test_a_move_to_the_next_owner_takes_the_device_from_the_owner_found(returns: Returns) -> None:
    rows = f"customerEmail,deviceIdentifier,action\n,SN-1,unassign\n{B},SN-1,assign\n"
    assert returns.run(rows, action=None).outcomes == ["unassigned", "assigned"]
    assert returns.desk.server.fleet.owners("SN-1") == {B}


def test_damaged_serials_are_not_looked_up(returns: Returns) -> None:
    (_, _, detail), _ = returns.details("Serial\n1.23457E+11\nSN-1\n")
    assert "was damaged by a spreadsheet" in detail


def test_a_file_named_runs_is_said_as_a_path(returns: Returns, monkeypatch: pytest.MonkeyPatch) -> None:
    (returns.desk.folder / "runs").write_text(OWNERS)
    monkeypatch.chdir(returns.desk.folder)
    assert returns.details("Serial\nSN-1\n", Path("./runs")) == [(A, "unassigned", "owner from runs line 2")]


# Forms of the two files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("o.csv", b"\xef\xbb\xbfOwner Email;x;Serial No\r\na@x.com;1;SN-1\r\n"),
        ("o.tsv", "List of owners\n\nSerial\tEmail\nSN-1\ta@x.com\n".encode("utf-16")),
        ("o.csv.gz", gzip.compress(OWNERS.encode())),
        ("o.xlsx", workbook_bytes([["Serial", "Customer Email"], ["SN-1", "A@x.com"]])),
    ],
    ids=["semicolons", "utf-16", "gzip", "workbook"],
)
def test_the_owners_file_may_have_any_form_that_an_input_may_have(name: str, content: bytes, returns: Returns) -> None:
    path = returns.desk.folder / name
    path.write_bytes(content)
    ((customer, outcome, _),) = returns.details("Serial\nSN-1\n", path)
    assert (customer, outcome) == (A, "unassigned")


def test_a_workbook_of_serials_alone_is_read(returns: Returns) -> None:
    path = returns.desk.folder / "scan.xlsx"
    path.write_bytes(workbook_bytes([["Serial"], ["SN-1"], ["SN-7"]]))
    owners = returns.desk.file(OWNERS, "owners.csv")
    assert returns.desk.run(str(path), action="unassign", owners=owners).outcomes == ["unassigned", "invalid"]


def test_columns_are_named_for_the_file_that_has_them(returns: Returns) -> None:
    flags = {"column": ["deviceIdentifier=Nummer", "customerEmail=Kunde"]}
    found = returns.details("Nummer\nSN-1\n", f"Kunde,Email,Geraet,Serial\n{A},{B},x,SN-1\n", **flags)
    assert found == [(A, "unassigned", "owner from owners.csv line 2")]


def test_a_customer_column_that_no_file_has_is_refused(returns: Returns) -> None:
    with pytest.raises(ConfigError, match="neither the input nor the owners file has"):
        returns.run("Serial,Email\nSN-1,\n", column=["customerEmail=Kude"])


def test_both_files_may_be_given_by_groups_and_lists(returns: Returns) -> None:
    rows = f'customerEmail,deviceIdentifier\n,SN-2\n{A},SN-1\n,"SN-3,SN-9"\n'
    found = returns.details(rows, fill_down=["customerEmail"], split="deviceIdentifier")
    assert [(customer, outcome) for customer, outcome, _ in found] == [
        (B, "unassigned"),
        (A, "unassigned"),
        (A, "unassigned"),
        (A, "skipped"),
    ]


def test_each_piece_of_a_cell_has_its_own_owner(returns: Returns) -> None:
    found = returns.details('Serial\n"SN-1;SN-2;SN-7"\n', split="deviceIdentifier")
    assert [(customer, outcome) for customer, outcome, _ in found] == [
        (A, "unassigned"),
        (B, "unassigned"),
        ("", "invalid"),
    ]


def test_a_quote_that_swallowed_rows_of_serials_is_refused(returns: Returns) -> None:
    rows = 'Serial,note\nSN-1,"5 inch\nSN-2,x\nSN-3,"y"\n'
    with pytest.raises(InputError, match="swallowed whole rows"):
        returns.run(rows)
    assert returns.run('Serial,note\nSN-1,"two\nlines"\n').outcomes == ["unassigned"]


def test_titles_repeated_headers_and_footers_are_no_rows(returns: Returns) -> None:
    rows = "Scanned today\n\nSerial\nSN-1\nSerial\nSN-2\n(2 rows affected)\n"
    assert [outcome for _, outcome, _ in returns.details(rows)] == ["unassigned", "unassigned"]
    assert [outcome for _, outcome, _ in returns.details("Serial,n\nSN-3,1\nTotal,1\n", run_id="r2")] == ["unassigned"]


@pytest.mark.parametrize("serial", ["T1", "F", "Z01", "12"])
def test_a_last_serial_that_looks_like_a_trailer_is_a_row(serial: str, returns: Returns) -> None:
    owners = f"{OWNERS}{A},{serial}\n"
    found = returns.details(f"Serial\nSN-1\n{serial}\n", owners)
    assert found[1] == (A, "skipped", "the customer did not have this device; owner from owners.csv line 5")


@pytest.mark.parametrize(
    ("owners", "reason"),
    [
        ("customerEmail,deviceIdentifier\n", "has no data rows"),
        ("Serial\nSN-1\n", "no header with customerEmail"),
        (f"customerEmail,deviceIdentifier,action\n{A},SN-1,assign\n{B},SN-1,unassign\n", "it lists movements"),
        (
            f"customerEmail,deviceIdentifier,outcome,detail,sourceLine\n{A},SN-1,failed,x,2\n",
            "a report of this program",
        ),
        (f"line,customerEmail,deviceIdentifier,action,outcome,detail\n2,{A},SN-1,assign,assigned,\n", "a report of"),
    ],
    ids=["no rows", "no customers", "movements", "attention", "reconciliation"],
)
def test_a_file_that_does_not_say_who_has_what_is_refused(owners: str, reason: str, returns: Returns) -> None:
    with pytest.raises(InputError, match=reason):
        returns.run("Serial\nSN-1\n", owners)
    assert returns.desk.server.seen == []


def test_what_an_owners_file_says_to_do_with_its_devices_does_not_matter(returns: Returns) -> None:
    owners = f"customerEmail,deviceIdentifier,action\n{A},SN-1,unassign\n{B},SN-2,whatever\n"
    assert [customer for customer, _, _ in returns.details("Serial\nSN-1\nSN-2\n", owners)] == [A, B]


def test_a_missing_owners_file_is_refused_before_anything_is_sent(returns: Returns) -> None:
    with pytest.raises(BatchError, match=r"nowhere\.csv"):
        returns.run("Serial\nSN-1\n", returns.desk.folder / "nowhere.csv")


def test_a_list_and_owners_from_one_standard_input_are_refused() -> None:
    config = resolve(["-"], {"owners": "-", "action": "unassign"}, {})
    with pytest.raises(InputError, match="named twice"):
        make_plan(config)


def test_an_owners_file_is_not_read_if_every_row_names_its_customer(returns: Returns) -> None:
    nowhere = returns.desk.folder / "nowhere.csv"
    found = returns.details(f"customerEmail,deviceIdentifier\n{A},SN-1\n", nowhere)
    assert found == [(A, "unassigned", "")]


def test_without_owners_the_message_about_a_missing_customer_column_proposes_them(returns: Returns) -> None:
    with pytest.raises(InputError) as error:
        returns.desk.run(returns.desk.file("Serial\nSN-1\n"), action="unassign")
    assert "--owners" in error.value.advice


# The plan is fixed


def test_the_plan_counts_owners_and_names_their_source(returns: Returns) -> None:
    owners, rows = returns.desk.file(OWNERS, "owners.csv"), returns.desk.file("Serial\nSN-1\nSN-7\n")
    plan = make_plan(resolve([rows], {"owners": owners, "action": "unassign"}, {}))
    fields = plan.as_json()
    assert (fields["ownersFound"], fields["ownersNotFound"]) == (1, 1)
    assert fields["owners"]["name"] == "owners.csv"
    assert plan.owner_sentences == ["1 owner found in owners.csv, 1 not found"]
    assert fields["problems"] == [{"problem": "owner not found", "rows": 1, "firstLines": [3]}]


SAVERS = {
    "save": lambda returns, config: save_plan(config, returns.desk.face, returns.desk.clock),
    "online": lambda returns, config: preview_plan(config, returns.desk.face, returns.desk.clock, returns.desk.server),
}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_a_saved_plan_counts_owners_as_a_plan_does_also_once_it_is_reopened(
    save: Callable[[Returns, RunConfig], SavedPlan], returns: Returns
) -> None:
    owners = returns.desk.file(f"{OWNERS}Total,3\n", "owners.csv")
    rows, reports = returns.desk.file("Serial\nSN-1\nSN-7\n"), str(returns.desk.folder / "reports")
    options = {"owners": owners, "action": "unassign", "reports_dir": reports, "base_url": BASE_URL}
    config = resolve([rows], options, {"TELEMETRON_API_KEY": KEY})
    plain = make_plan(config).as_json()
    assert (plain["ownersFound"], plain["ownersNotFound"], len(plain["warnings"])) == (1, 1, 1)
    for saved in (save(returns, config), save(returns, config)):
        assert plain.items() <= saved.as_json().items()
        assert saved.summary.owner_sentences == ["1 owner found in owners.csv, 1 not found"]


class PlansShown(RunObserver):
    """Keeps the plans that it is asked to confirm."""

    def __init__(self) -> None:
        self.sentences: list[Sequence[str]] = []

    def confirm_plan(self, plan: PlanSummary) -> bool:
        self.sentences.append(plan.owner_sentences)
        return True


def test_a_run_that_looks_first_shows_the_owners_with_its_plan(returns: Returns) -> None:
    returns.desk.face = shown = PlansShown()
    ran = returns.run("Serial\nSN-1\nSN-7\n", online=True)
    assert shown.sentences == [["1 owner found in owners.csv, 1 not found"]]
    assert (ran.json["ownersFound"], ran.json["ownersNotFound"]) == (1, 1)


def stopped(returns: Returns) -> Ran:
    """Return a run that stopped before it sent anything."""
    returns.desk.server.script = once(Says(401, {"error": "Unauthorized"}))
    ran = returns.run("Serial\nSN-1\nSN-2\n")
    assert set(ran.outcomes) <= {"notSent"}
    return ran


def test_resume_needs_no_owners_file(returns: Returns) -> None:
    ran = stopped(returns)
    (returns.desk.folder / "owners.csv").unlink()
    summary = returns_resume(returns, ran)
    assert summary["counts"]["unassigned"] == 2
    assert summary["ownersFound"] == 2


def returns_resume(returns: Returns, ran: Ran) -> Mapping[str, Any]:
    """Continue a run without its input."""
    options = {"reports_dir": str(ran.folder.parent), "run_id": ran.folder.name, "action": "unassign"}
    config = resolve(
        [], {**options, "owners": "gone.csv", "base_url": ENVIRON["TELEMETRON_BASE_URL"]}, {"TELEMETRON_API_KEY": KEY}
    )
    return pipeline.run(config, transport=returns.desk.server, clock=returns.desk.clock).fields


def test_the_same_command_with_other_owners_is_refused(returns: Returns) -> None:
    stopped(returns)
    with pytest.raises(JournalError, match="another content of the owners file"):
        returns.run("Serial\nSN-1\nSN-2\n", OWNERS.replace(A, C))
    with pytest.raises(JournalError, match=r"other options \(--owners\)"):
        returns.desk.run(returns.desk.file("Serial\nSN-1\nSN-2\n"), action="unassign", owners="runs")
    assert returns.run("Serial\nSN-1\nSN-2\n").outcomes == ["unassigned", "unassigned"]


def test_report_writes_the_same_files_without_the_owners_file(returns: Returns) -> None:
    ran = returns.run("Serial\nSN-1\nSN-7\n")
    before = (ran.folder / "reconciliation.csv").read_bytes()
    (returns.desk.folder / "owners.csv").unlink()
    assert pipeline.report(ran.folder).fields["ownersNotFound"] == 1
    assert (ran.folder / "reconciliation.csv").read_bytes() == before


# Fed back


def feed(returns: Returns, ran: Ran, run_id: str, **flags: Any) -> Ran:
    """Run the attention file of a run from its folder."""
    path = str(ran.folder / "attention.csv")
    options = {"base_url": ENVIRON["TELEMETRON_BASE_URL"], "reports_dir": str(ran.folder.parent), "run_id": run_id}
    config = attention_config([path], {**options, **flags}, {"TELEMETRON_API_KEY": KEY})
    summary = pipeline.run(config, transport=returns.desk.server, clock=returns.desk.clock)
    return Ran(summary, summary.folder, returns.desk.server)


@pytest.mark.parametrize("header", ["Serial", "Serial,Email", "Email,Serial"])
def test_an_attention_file_carries_the_owners_found_and_runs_without_owners(header: str, returns: Returns) -> None:
    returns.desk.server.script = once(Says(400, {"error": "Customer is locked"}))
    cells = {"Serial": "{}", "Serial,Email": "{},", "Email,Serial": ",{}"}[header]
    rows = "".join(f"{cells.format(serial)}\n" for serial in ("SN-1", "SN-7"))
    ran = returns.run(f"{header}\n{rows}")
    assert ran.outcomes == ["failed", "invalid"]
    (returns.desk.folder / "owners.csv").unlink()
    again = feed(returns, ran, "r2")
    assert again.outcomes == ["unassigned", "invalid"]
    assert [row["customerEmail"] for row in again.rows] == [A, ""]
    assert again.rows[1]["detail"].startswith("customerEmail is empty")


def test_an_attention_file_may_be_run_with_newer_owners(returns: Returns) -> None:
    ran = returns.run("Serial\nSN-7\nSN-8\n")
    returns.desk.server.fleet.assign(C, ["SN-7"])
    owners = returns.desk.file(f"{OWNERS}{C},SN-7\n", "newer.csv")
    assert feed(returns, ran, "r2", owners=owners).outcomes == ["unassigned", "invalid"]


def test_an_attention_file_of_several_lists_has_a_customer_column(returns: Returns) -> None:
    owners = returns.desk.file(OWNERS, "owners.csv")
    lists = [returns.desk.file(text, f"{n}.csv") for n, text in enumerate(("Serial\nSN-7\n", "MAC,n\nSN-8,1\n"))]
    options = {"base_url": ENVIRON["TELEMETRON_BASE_URL"], "reports_dir": str(returns.desk.folder / "reports")}
    config = resolve(
        lists, {**options, "run_id": "r1", "action": "unassign", "owners": owners}, {"TELEMETRON_API_KEY": KEY}
    )
    summary = pipeline.run(config, transport=returns.desk.server, clock=returns.desk.clock)
    header = (summary.folder / "attention.csv").read_text("utf-8-sig").splitlines()[0]
    assert header.replace('"', "").split(",")[:2] == ["customerEmail", "deviceIdentifier"]


def test_an_undo_gives_the_devices_back_to_the_owners_found(returns: Returns) -> None:
    ran = returns.run("Serial\nSN-1\n")
    assert (ran.folder / "undo.csv").read_text().splitlines()[1] == f'"{A}","SN-1","assign"'


# Against an oracle

SERIALS = ("SN-1", "sn-1", "SN1", "SN-2", "X")
OWNER_ROWS = st.lists(
    st.tuples(st.sampled_from([A, B, "nobody", ""]), st.sampled_from(SERIALS)), min_size=1, max_size=8
)


def expected(serial: str, owners: Sequence[tuple[str, str]]) -> str:
    """Return the owner by the rule as the documentation states it; "" without one."""
    named = {customer for customer, device in owners if device == serial}
    return named.pop() if len(named) == 1 and named <= {A, B} else ""


@given(owners=OWNER_ROWS, rows=st.lists(st.sampled_from(SERIALS), min_size=1, max_size=6))
def test_the_owner_is_the_only_customer_with_exactly_this_identifier(
    owners: list[tuple[str, str]], rows: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "rows.csv").write_text("".join(f"{one}\n" for one in ["Serial", *rows]))
    (folder / "owners.csv").write_text(
        "".join(f"{customer},{device}\n" for customer, device in [("Email", "Serial"), *owners])
    )
    flags = {"owners": str(folder / "owners.csv"), "action": "unassign"}
    plan = make_plan(resolve([str(folder / "rows.csv")], flags, {})).as_json()
    assert plan["ownersFound"] == sum(bool(expected(one, owners)) for one in rows)
    assert plan["devices"] == len({one for one in rows if expected(one, owners)})
