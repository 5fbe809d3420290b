"""The way of a clerk through the pages, without a script: a list becomes a plan, a run, a result and its undo."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetron_batch.reports.summary import ATTENTION
from tests.support.books import reconciliation_of
from tests.support.clerk import Clerk, Office
from tests.support.scripted import Refuses, Says, once
from tests.support.sheets import book, device

LIST = "Kunde;Seriennummer;Grund\na@example.com;SN-1;x\nb@example.com;SN-2;y\nb@example.com;SN-3;z\n"
FAULTY = "Kunde;Seriennummer;Grund\na@example;SN-1;x\nb@example.com;;y\nb@example.com;SN-3;z\n"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    seed = [("a@example.com", "SN-1", "unassign")] + [("b@example.com", f"SN-{n}", "unassign") for n in (2, 3)]
    office.server.fleet.seed(seed)
    yield office
    office.close()


@pytest.fixture
def clerk(office: Office) -> Clerk:
    return office.clerk()


def planned(clerk: Clerk, text: str = LIST, name: str = "returns.csv") -> Clerk:
    """Bring a list, say that all devices are taken back, and make the plan."""
    clerk.upload(name, text.encode())
    clerk.submit("/columns", action="unassign")
    return clerk.submit("/rows", button="plan")


def sent(office: Office, clerk: Clerk, devices: str = "3") -> Clerk:
    clerk.submit("/send", devices=devices)
    office.settled()
    return clerk.open(clerk.path)


def test_a_list_becomes_a_plan_a_run_and_a_result(office: Office, clerk: Clerk) -> None:
    clerk.upload("returns.csv", LIST.encode())
    assert "Which column is what?" in clerk.text
    assert clerk.forms[-1].fields["column.customerEmail"] == "0"
    assert clerk.forms[-1].fields["column.deviceIdentifier"] == "1"
    clerk.submit("/columns", action="unassign")
    assert "All 3 rows are fine" in clerk.text
    clerk.submit("/rows", button="plan")
    assert "Take 3 devices from 2 customers" in clerk.text
    assert office.server.seen == []
    sent(office, clerk)
    assert "All 3 rows are where they should be" in clerk.text
    assert {one.action for one in office.server.seen} == {"unassign"}


def test_the_number_of_devices_must_be_typed_when_something_is_taken_away(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    for wrong in ("", "2", "yes", "³"):
        clerk.submit("/send", devices=wrong)
        assert clerk.status == 400
        assert "the number is not right" in clerk.text
    assert office.desk.queue.jobs() == []
    assert office.server.seen == []


def test_nothing_needs_to_be_typed_to_give_devices(office: Office, clerk: Clerk) -> None:
    clerk.upload("new.csv", b"customerEmail,deviceIdentifier\na@example.com,SN-9\n")
    clerk.submit("/columns", action="assign")
    clerk.submit("/rows", button="plan")
    assert "devices" not in clerk.forms[-2].names
    clerk.submit("/send")
    office.settled()
    assert clerk.open(clerk.path).text.count("given") == 1


def test_a_plan_that_changed_since_it_was_seen_is_not_sent(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    clerk.submit("/send", devices="3", fingerprint="0000-0000")
    assert clerk.status == 400
    assert office.desk.queue.jobs() == []


def test_faulty_rows_are_named_and_corrected_in_place(office: Office, clerk: Clerk) -> None:
    clerk.upload("returns.csv", FAULTY.encode())
    clerk.submit("/columns", action="unassign")
    assert "2 not ready" in clerk.text
    assert "not an email address (line 2)" in clerk.text
    clerk.submit("/rows", button="check", cell__customerEmail__2="a@example.com")
    assert "1 not ready" in clerk.text
    assert "1 cell corrected" in clerk.text
    clerk.submit("/rows", button="plan", cell__deviceIdentifier__3="SN-2")
    assert "Take 3 devices from 2 customers" in clerk.text
    sent(office, clerk)
    rows = [(row["customerEmail"], row["deviceIdentifier"]) for row in reconciliation_of(office.reports / clerk.run_id)]
    assert rows == [("a@example.com", "SN-1"), ("b@example.com", "SN-2"), ("b@example.com", "SN-3")]


def test_corrections_can_be_taken_back(clerk: Clerk) -> None:
    clerk.upload("returns.csv", FAULTY.encode())
    clerk.submit("/columns", action="unassign")
    clerk.submit("/rows", button="check", cell__customerEmail__2="a@example.com")
    clerk.submit("/rows", button="reset")
    assert "2 not ready" in clerk.text


def test_rows_that_stay_faulty_are_left_out_and_corrected_after_the_run(office: Office, clerk: Clerk) -> None:
    planned(clerk, FAULTY)
    assert "2 rows will not be sent" in clerk.text
    sent(office, clerk, "1")
    assert "1 of 3 rows are where they should be" in clerk.text
    clerk.submit("/correct")
    assert "rows of returns.csv" in clerk.text
    clerk.submit("/rows", button="check", cell__customerEmail__2="a@example.com", cell__deviceIdentifier__3="SN-2")
    assert "All 2 rows are fine" in clerk.text
    clerk.submit("/rows", button="plan")
    sent(office, clerk, "2")
    assert "All 2 rows are where they should be" in clerk.text
    assert not (office.reports / clerk.run_id / ATTENTION.replace(".csv", ".new.csv")).exists()


def test_a_run_is_undone_by_a_plan_like_any_other(office: Office, clerk: Clerk) -> None:
    sent(office, planned(clerk))
    before = len(office.server.seen)
    clerk.submit("/undo")
    assert "Give 3 devices to 2 customers" in clerk.text
    assert "undo of returns.csv" in clerk.text
    assert len(office.server.seen) == before
    clerk.submit("/send")
    office.settled()
    assert "All 3 rows are where they should be" in clerk.open(clerk.path).text
    assert {one.action for one in office.server.seen[before:]} == {"assign"}


def test_a_look_at_the_customers_changes_nothing_and_is_shown(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    clerk.submit("/look")
    office.settled()
    clerk.open(clerk.path)
    assert "3 will change" in clerk.text
    assert {one.action for one in office.server.seen} == {"query"}
    sent(office, clerk)
    assert "All 3 rows are where they should be" in clerk.text


def test_scanned_serials_become_a_list_for_one_customer(office: Office, clerk: Clerk) -> None:
    clerk.open("/")
    clerk.submit("/scans", serials="SN-2\r\nSN-3\r\n\r\nSN-2\r\n", customer="b@example.com", action="unassign")
    assert "3 scanned serials" in clerk.text
    clerk.submit("/rows", button="plan")
    assert "Take 2 devices from 1 customer" in clerk.text
    assert "1 repeated row" in clerk.text
    sent(office, clerk, "2")
    assert "repeated" in clerk.text


def test_scanned_returns_without_a_customer_are_looked_up_in_earlier_runs(office: Office, clerk: Clerk) -> None:
    clerk.open("/")
    clerk.submit("/scans", serials="SN-7", customer="c@example.com", action="assign")
    office.server.fleet.assign("d@example.com", ["SN-7"], create=True)
    clerk.submit("/rows", button="plan")
    clerk.submit("/send")
    office.settled()
    clerk.open("/")
    clerk.submit("/scans", serials="SN-7\r\nSN-8", customer="", action="unassign")
    assert "1 not ready" in clerk.text
    clerk.submit("/rows", button="plan")
    assert "Take 1 device from 1 customer" in clerk.text


def test_a_corrected_cell_is_forgotten_when_its_column_changes(office: Office, clerk: Clerk) -> None:
    clerk.upload("two.csv", b"mail,serial1,serial2\na@example.com,,SN-1\nb@example.com,B1,SN-2\n")
    clerk.submit("/columns", action="unassign", column__customerEmail="0", column__deviceIdentifier="1")
    clerk.submit("/rows", button="check", cell__deviceIdentifier__2="TYPED")
    clerk.open(clerk.path.removesuffix("/rows"))
    clerk.submit("/columns", action="unassign", column__customerEmail="0", column__deviceIdentifier="2")
    clerk.submit("/rows", button="plan")
    sent(office, clerk, "2")
    rows = reconciliation_of(office.reports / clerk.run_id)
    assert [row["deviceIdentifier"] for row in rows] == ["SN-1", "SN-2"]


@pytest.mark.parametrize("odd", ["\u00b2", "9" * 5000, "-1"])
def test_odd_numbers_in_forms_are_refused(clerk: Clerk, odd: str) -> None:
    clerk.upload("returns.csv", LIST.encode())
    clerk.submit("/columns", action="unassign", column__customerEmail=odd)
    assert clerk.status == 400
    planned(clerk)
    clerk.submit("/send", devices=odd)
    assert clerk.status == 400


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"serials": " \n", "customer": "b@example.com", "action": "unassign"}, "Scan or type at least one serial"),
        ({"serials": "SN-2", "customer": "", "action": "assign"}, "Enter the email address"),
        ({"serials": "SN-2", "customer": "b@example.com"}, "What is to be done?"),
    ],
)
def test_what_is_missing_of_a_scan_is_said_and_nothing_typed_is_lost(
    clerk: Clerk, fields: dict[str, str], sentence: str
) -> None:
    clerk.post("/scans", **fields)
    assert clerk.status == 400
    assert sentence in clerk.text
    assert clerk.forms[2].fields["serials"] == fields["serials"]


def test_formulas_in_scanned_serials_are_not_ready(clerk: Clerk) -> None:
    clerk.open("/")
    clerk.submit("/scans", serials="=1+1\nSN-2,x", customer="b@example.com", action="unassign")
    assert "1 not ready" in clerk.text or "2 not ready" in clerk.text


def test_unknown_words_are_asked_for_once(clerk: Clerk) -> None:
    text = "customerEmail,deviceIdentifier,action\na@example.com,SN-1,Reto\nb@example.com,SN-2,Reto\n"
    clerk.upload("returns.csv", text.encode())
    clerk.submit("/columns", action="", column__action="2")
    assert "What do these words mean?" in clerk.text
    clerk.submit("/rows", button="check", word__0="unassign")
    assert "All 2 rows are fine" in clerk.text
    clerk.submit("/rows", button="plan")
    assert "Take 2 devices" in clerk.text


def test_columns_are_remembered_under_a_name_and_offered_again(office: Office, clerk: Clerk) -> None:
    text = "A,B,C\na@example.com,SN-1,note\n"
    clerk.upload("one.csv", text.encode())
    clerk.submit("/columns", action="unassign", mapping="Desk list", column__customerEmail="0")
    other = office.clerk("bert")
    other.upload("two.csv", text.encode())
    assert other.forms[1].fields == {"mapping": "Desk list"}
    assert other.forms[2].fields["action"] == "unassign"
    other.open("/mappings")
    assert "Desk list" in other.text
    other.submit("/mappings/remove")
    assert "Nothing is remembered yet" in other.text


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"column.customerEmail": "", "action": "assign"}, "Choose the column of the customer"),
        ({"action": ""}, "Say what is to be done"),
        ({"action": "assign", "column.deviceIdentifier": "0"}, "One column cannot be two things"),
        ({"action": "assign", "column.deviceIdentifier": "99"}, "Choose the column of the customer"),
    ],
)
def test_columns_that_are_not_clear_are_asked_for_again(clerk: Clerk, fields: dict[str, str], sentence: str) -> None:
    clerk.upload("returns.csv", LIST.encode())
    clerk.submit("/columns", **{name.replace(".", "__"): value for name, value in fields.items()})
    assert clerk.status == 400
    assert sentence in clerk.text


@pytest.mark.parametrize(
    "content", [b"", b"\0\1\2", b"%PDF-1.7\n", b"only one line\n", b"\x1f\x8b\x08\x00broken"], ids=repr
)
def test_a_file_that_is_no_list_is_named_for_what_it_is(clerk: Clerk, content: bytes) -> None:
    clerk.upload("list.csv", content)
    assert clerk.status == 400
    assert "cannot be read as a list" in clerk.text


def test_a_workbook_and_a_zip_are_read_too(clerk: Clerk, tmp_path: Path) -> None:
    made = book(tmp_path / "a.xlsx", device(2, '<c t="inlineStr"><is><t>SN-1</t></is></c>'))
    clerk.upload("Rückgaben März.xlsx", made.read_bytes())
    assert "Rückgaben März.xlsx" in clerk.text
    clerk.submit("/columns")
    assert "The one row is fine" in clerk.text
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as package:
        package.writestr("list.csv", LIST)
    clerk.upload("list.zip", packed.getvalue())
    clerk.submit("/columns", action="unassign")
    assert "All 3 rows are fine" in clerk.text


def test_without_a_file_the_start_page_says_so(clerk: Clerk) -> None:
    clerk.post("/uploads")
    assert clerk.status == 400
    assert "Choose a file first" in clerk.text


def test_a_name_that_a_user_typed_never_names_a_file(office: Office, clerk: Clerk) -> None:
    clerk.upload("../../evil\u202e<b>.csv", LIST.encode())
    [folder] = (office.reports / ".uploads").iterdir()
    assert sorted(one.name for one in folder.iterdir()) == ["list.csv", "upload.json"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "<b>" not in clerk.html.replace("<bdi>", "")
    assert "\u202e" not in clerk.html


def test_a_list_goes_with_its_run(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    assert [*(office.reports / ".uploads").iterdir()] == []
    assert (office.reports / clerk.run_id / "upload" / "list.csv").read_text() == LIST


def test_a_discarded_plan_leaves_its_list_and_no_run(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    run = office.reports / clerk.run_id
    clerk.submit("/revise")
    assert not run.exists()
    assert "All 3 rows are fine" in clerk.text
    clerk.submit("/rows", button="plan")
    assert "Take 3 devices" in clerk.text


def test_a_run_that_has_sent_cannot_be_discarded(office: Office, clerk: Clerk) -> None:
    sent(office, planned(clerk))
    clerk.post(f"/runs/{clerk.run_id}/revise")
    assert clerk.status == 400
    assert "has sent calls already" in clerk.text


def test_the_same_content_is_sent_again_only_if_that_is_wanted(office: Office, clerk: Clerk) -> None:
    sent(office, planned(clerk))
    planned(clerk)
    assert "The plan could not be made" in clerk.text
    assert "has already processed exactly this content" in clerk.text
    clerk.submit("/rows", button="plan", again="1")
    assert "Take 3 devices" in clerk.text
    sent(office, clerk)
    assert "no effect" in clerk.text


def test_the_files_of_a_run_are_downloads_and_its_journal_is_not(office: Office, clerk: Clerk) -> None:
    sent(office, planned(clerk, FAULTY), "1")
    for name in ("report.html", "reconciliation.xlsx", "attention.xlsx", "attention.csv", "undo.csv", "summary.json"):
        answer = clerk.get(f"/runs/{clerk.run_id}/files/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-disposition"].startswith("attachment")
    for name in ("journal.sqlite3", "run.log", "run.lock", "upload.json", "..%2f..%2faudit.jsonl", "nothing"):
        assert clerk.get(f"/runs/{clerk.run_id}/files/{name}").status_code == 404, name


def test_a_user_sees_only_the_own_runs_and_lists(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    run, path = clerk.run_id, clerk.path
    clerk.upload("second.csv", LIST.encode())
    other = office.clerk("bert")
    assert "returns.csv" not in other.open("/runs").text
    for where in (path, f"{path}/events", f"{path}/files/report.html", clerk.path, f"{clerk.path}/rows"):
        assert other.get(where).status_code == 404, where
    for what in ("send", "look", "stop", "undo", "correct", "revise"):
        assert other.post(f"/runs/{run}/{what}").status == 404, what
    assert other.post(f"{clerk.path}/remove").status == 404
    boss = office.clerk("carla", "approver")
    assert "returns.csv" in boss.open("/runs").text
    assert boss.open(path).status == 200


def test_a_viewer_can_change_nothing(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    viewer = office.clerk("anna", "viewer")
    viewer.open("/")
    assert [form.action for form in viewer.forms] == ["/sign-out"]
    for path in ("/uploads", "/scans", f"{clerk.path}/send", f"{clerk.path}/stop", f"{clerk.path}/approve"):
        assert viewer.post(path).status == 403, path


@pytest.mark.parametrize(
    "path",
    [
        "/runs/nothing",
        "/runs/.desk",
        "/runs/.desk/events",
        "/uploads/nothing",
        "/uploads/..%5c",
        "/runs/x/files/y",
        f"/runs/{'x' * 5000}",
    ],
)
def test_what_is_not_there_is_not_found(clerk: Clerk, path: str) -> None:
    assert clerk.get(path).status_code == 404


def test_the_list_of_runs_says_state_owner_and_next_step(clerk: Clerk) -> None:
    planned(clerk)
    clerk.open("/runs")
    assert "returns.csv" in clerk.text
    assert "planned" in clerk.text
    assert "look at the plan and send it" in clerk.text
    assert "anna" in clerk.text


def test_progress_comes_as_events_until_the_run_has_ended(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    office.server.latency = 2.0  # several looks at its progress
    clerk.submit("/send", devices="3")
    assert "The run is under way" in clerk.text
    answer = clerk.get(f"{clerk.path}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert " of 2 requests" in answer.text
    assert answer.text.endswith("event: end\ndata: \n\n")


def test_a_pause_that_the_api_asks_for_is_said_in_words(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    office.server.script = once(Says(429, headers={"Retry-After": "3"}))
    clerk.submit("/send", devices="3")
    assert "Telemetron asks to wait: " in clerk.get(f"{clerk.path}/events").text


def test_a_key_that_is_refused_is_explained_and_the_run_goes_on_later(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    office.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    sent(office, clerk)
    assert "Telemetron does not accept the key of this server" in clerk.text
    office.server.script = lambda _: None
    clerk.submit("/send")
    office.settled()
    assert "All 3 rows are where they should be" in clerk.open(clerk.path).text


def test_an_api_that_is_unplugged_is_said_in_words_and_nothing_is_lost(tmp_path: Path) -> None:
    office = Office(tmp_path, give_up_after="3s")
    try:
        clerk = planned(office.clerk())
        office.server.script = lambda _: Refuses()
        sent(office, clerk)
        assert "Telemetron cannot be reached. Go on with the run later." in clerk.text
        office.server.script = lambda _: None
        clerk.submit("/send")
        office.settled()
        assert "rows are where they should be" in clerk.open(clerk.path).text
    finally:
        office.close()


def test_the_stop_button_stops_the_run_and_it_can_be_continued(office: Office, clerk: Clerk) -> None:
    planned(clerk)
    office.server.script = lambda _: Says(429, headers={"Retry-After": "600"})
    clerk.submit("/send", devices="3")
    clerk.submit("/stop")
    office.settled()
    assert "The run was stopped" in clerk.open(clerk.path).text
    office.server.script = lambda _: None
    assert "stopped" in office.clerk().open("/runs").text


@pytest.mark.parametrize("language", ["de", "en"])
def test_all_pages_are_there_in_each_language(office: Office, language: str) -> None:
    clerk = office.clerk("dora", "approver", language)
    for path in ("/", "/runs", "/approvals", "/mappings"):
        clerk.open(path)
        assert clerk.status == 200
        assert f'<html lang="{language}">' in clerk.html


def test_the_language_is_changed_by_a_link_and_leads_nowhere_else(clerk: Clerk) -> None:
    answer = clerk.get("/language/de?next=/runs")
    assert answer.headers["location"] == "/runs"
    assert "language=de" in answer.headers["set-cookie"]
    for place in ("//evil.example", "https://evil.example", "/\\evil.example"):
        assert clerk.get(f"/language/de?next={place}").headers["location"] == "/"
    assert "set-cookie" not in clerk.get("/language/xx").headers
