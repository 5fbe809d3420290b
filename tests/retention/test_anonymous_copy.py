"""A copy for support holds what is needed to understand a run, and nothing about people and devices."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.domain.errors import ConfigError, JournalError
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.retention.anonymous_copy import write_anonymous_copy
from tests.conftest import Desk, Ran
from tests.support.scripted import Says, Seen, once
from tests.support.traces import places_with

ANN, BOB, EVE = "ann@example.com", "bob@example.com", "eve.new@example.org"
SERIALS = ("SER-0001", "SER-0002", "SER-0003", "00:11:22:33:44:55", "0011.2233.4455", "=SER-0009")
HEADER = "customerEmail,deviceIdentifier,action,notes\n"


def run(desk: Desk) -> Ran:
    """Make a run with outcomes of all kinds, whose texts are full of names."""

    def script(seen: Seen) -> Says | None:
        if seen.customer == EVE:
            return Says(400, {"error": f"{EVE} must not have SER-0003, says Clerk Miller"})
        return None

    desk.server.script = script
    text = (
        f"{HEADER}{ANN},SER-0001,assign,Room 12\n{ANN},SER-0001,assign,again\n{BOB},SER-0002,unassign,\n"
        f"{EVE},SER-0003,assign,secret\n{ANN}@@,SER-0001,assign,\n{BOB},=SER-0009,assign,\n{BOB},,take,Miller\n"
        f"{ANN},00:11:22:33:44:55,unassign,\n{BOB},0011.2233.4455,assign,\n"
    )
    return desk.run(desk.file(text, f"list of {ANN}.csv"), job="Miller", organisation="Miller Ltd", run_id="miller")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "reconciliation.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_no_address_no_serial_and_no_text_of_the_run_is_in_the_copy(desk: Desk) -> None:
    ran = run(desk)
    copy = write_anonymous_copy(ran.folder, desk.folder / "copy")
    assert sorted(path.name for path in copy.folder.iterdir()) == ["reconciliation.csv", "report.html", "summary.json"]
    words = ("Miller", "Room 12", "secret", "must not", "take", "127.0.0.1")
    assert places_with(ran.folder, *words)
    assert places_with(copy.folder, ANN, BOB, EVE, "example.", *SERIALS, *words) == []
    for row in ran.rows:
        ids = (row["customerId"], row["deviceId"])
        assert places_with(copy.folder, *(f",{one}," for one in ids if one)) == []


def test_each_row_has_its_outcome_and_why(desk: Desk) -> None:
    ran = run(desk)
    rows = rows_of(write_anonymous_copy(ran.folder, desk.folder / "copy").folder)
    assert [row["outcome"] for row in rows] == ran.outcomes
    assert [row["line"] for row in rows] == [row["line"] for row in ran.rows]
    reasons = [row["reason"] for row in rows]
    assert reasons[3] == "CUSTOMER_REFUSED" or reasons[3] == "DEVICE_REFUSED"
    assert (reasons[4], reasons[5]) == ("EMAIL", "FORMULA")
    assert [row["call"] for row in rows] == [row["call"] for row in ran.rows]


def test_equal_values_are_equal_within_a_copy_and_unlike_those_of_another(desk: Desk) -> None:
    ran = run(desk)
    one, other = (rows_of(write_anonymous_copy(ran.folder, desk.folder / name).folder) for name in ("one", "other"))
    assert one[0]["customerEmail"] == one[1]["customerEmail"] != one[2]["customerEmail"]
    assert one[0]["deviceIdentifier"] == one[4]["deviceIdentifier"]
    assert one[6]["deviceIdentifier"] == ""
    assert one[0]["customerEmail"].startswith("person-")
    assert {row["customerEmail"] for row in one} & {row["customerEmail"] for row in other} == set()


def test_the_summary_and_the_page_have_the_counts(desk: Desk) -> None:
    ran = run(desk)
    copy = write_anonymous_copy(ran.folder, desk.folder / "copy")
    fields = json.loads((copy.folder / "summary.json").read_text())
    assert {key: fields[key] for key in ("rows", "counts", "attention", "calls", "attempts", "state")} == {
        key: ran.json[key] for key in ("rows", "counts", "attention", "calls", "attempts", "state")
    }
    page = (copy.folder / "report.html").read_text()
    assert "<td>FORMULA</td>" in page
    assert sum(one["rows"] for one in fields["reasons"]) == fields["rows"]


def test_a_stopped_run_can_be_copied_and_the_run_stays_as_it_is(desk: Desk) -> None:
    desk.server.script = once(Says(401, {"error": f"no, {ANN}"}))
    ran = desk.run([(ANN, "SER-0001", "assign"), (BOB, "SER-0002", "assign")])
    before = {path.name: path.read_bytes() for path in ran.folder.glob("*.csv")}
    copy = write_anonymous_copy(ran.folder, desk.folder / "copy")
    assert (copy.fields["state"], copy.fields["stop"]) == ("stopped", "KEY_REFUSED")
    assert {path.name: path.read_bytes() for path in ran.folder.glob("*.csv")} == before
    assert places_with(copy.folder, ANN, "SER-") == []


def test_an_empty_input_can_be_copied(desk: Desk) -> None:
    ran = desk.run(HEADER, allow_empty=True)
    copy = write_anonymous_copy(ran.folder, desk.folder / "copy")
    assert copy.fields["rows"] == 0


def test_of_an_unknown_run_nothing_is_made(desk: Desk) -> None:
    with pytest.raises(JournalError, match="there is no run"):
        write_anonymous_copy(desk.folder / "reports" / "nosuch", desk.folder / "copy")
    assert not (desk.folder / "copy").exists()
    assert not (desk.folder / "reports" / "nosuch").exists()


def test_a_folder_with_files_is_refused(desk: Desk) -> None:
    ran = run(desk)
    target = desk.folder / "copy"
    target.mkdir(mode=0o700)
    write_anonymous_copy(ran.folder, target)
    with pytest.raises(ConfigError, match="is not empty"):
        write_anonymous_copy(ran.folder, target)
    with pytest.raises(ConfigError, match="is no folder"):
        write_anonymous_copy(ran.folder, target / "summary.json")
    with pytest.raises(JournalError, match="there is no run"):
        write_anonymous_copy(desk.folder / "nowhere", desk.folder / "other")
    assert not (desk.folder / "other").exists()


def test_the_command_writes_nothing_but_the_copy(desk: Desk) -> None:
    ran = run(desk)
    (ran.folder / "report.html").unlink()
    arguments = ["report", str(ran.folder), "--anonymise", str(desk.folder / "copy")]
    ended = CliRunner().invoke(main, arguments)
    assert (ended.exit_code, ended.stdout) == (0, f"Wrote an anonymous copy to {desk.folder / 'copy'}.\n")
    assert not (ran.folder / "report.html").exists()
    assert CliRunner().invoke(main, arguments).exit_code == 2
    assert (ran.folder / JOURNAL_NAME).exists()
