"""The desk: one run at a time, nothing lost by a restart, four eyes, and lists within bounds."""

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from telemetron_batch.domain.errors import ApprovalError, ConfigError, JournalError, LockedError
from telemetron_batch.domain.model import Correction
from telemetron_batch.run.listing import run_info
from telemetron_batch.storage.clock import RealClock
from telemetron_batch.storage.system_users import SystemUsers
from telemetron_batch.web.desk.desk import Desk
from telemetron_batch.web.desk.page_users import PageUsers, person
from telemetron_batch.web.desk.run_queue import JobKind
from telemetron_batch.web.desk.uploads import Upload, UploadStore
from telemetron_batch.web.people import Role, User
from tests.conftest import KEY
from tests.support.books import reconciliation_of
from tests.support.clerk import Office
from tests.support.listeners import listening

FLAGS = {"column": ["customerEmail=customer", "deviceIdentifier=serial"], "action": "unassign"}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.close()


@pytest.fixture
def four_eyes(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path, approval="second")
    yield office
    office.close()


def list_of(rows: int, first: int = 0) -> bytes:
    return "".join(["customer,serial\n", *(f"c{n}@example.com,SN-{n}\n" for n in range(first, first + rows))]).encode()


def planned(office: Office, owner: str = "anna", rows: int = 3, first: int = 0) -> str:
    """Return the id of a planned run that takes devices back."""
    office.server.fleet.seed([(f"c{n}@example.com", f"SN-{n}", "unassign") for n in range(first, first + rows)])
    upload = office.desk.uploads.receive(io.BytesIO(list_of(rows, first)), "list.csv", owner)
    upload = replace(upload, flags=FLAGS)
    office.desk.uploads.save(upload)
    return office.desk.plan(upload).result(60)


def until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_saved_plan_names_the_user_and_sends_nothing(office: Office) -> None:
    run = planned(office)
    assert office.desk.owner(run) == "anna"
    assert office.desk.info(run).state == "planned"
    assert office.desk.info(run).approval == {"plannedBy": "anna", "approvedBy": None, "approvedAt": None}
    assert office.server.seen == []


def test_runs_are_sent_one_after_the_other_in_the_order_of_their_confirmation(office: Office) -> None:
    runs = [planned(office, "anna", 2, 0), planned(office, "bert", 2, 10), planned(office, "carla", 2, 20)]
    office.server.latency = 0.2
    for run, user in zip(runs, ("anna", "bert", "carla"), strict=True):
        office.desk.send(run, user)
    assert [job.run_id for job in office.desk.queue.jobs()] == runs
    last = office.desk.queue.state(runs[2])
    assert last is not None
    assert last.ahead == 2
    assert last.progress is None
    office.settled()
    assert [int(one.customer.partition("@")[0][1:]) // 10 for one in office.server.seen] == [0, 0, 1, 1, 2, 2]


def test_a_run_of_the_page_is_told_to_those_whom_the_options_of_the_server_name(tmp_path: Path) -> None:
    with listening() as listener:
        urls = {"notify": (f"json://me:sesame99@{listener.host}/x",), "ping": f"http://{listener.host}/p"}
        office = Office(tmp_path, **urls, notify_on="finished")
        run = planned(office)
        assert listener.heard == []
        office.desk.send(run, "anna")
        office.settled()
        office.close()
        assert listener.titles == [f"telemetron-batch: {run}: All 3 rows are where they should be"]
        assert listener.pings == [("/p/start", ""), ("/p", "0")]
    assert b"sesame99" not in b"".join(path.read_bytes() for path in office.reports.rglob("*") if path.is_file())


def test_a_run_is_not_queued_twice(office: Office) -> None:
    run = planned(office)
    office.server.latency = 0.3
    office.desk.send(run, "anna")
    with pytest.raises(LockedError):
        office.desk.send(run, "anna")


def test_a_run_that_waits_is_taken_out_of_the_queue_and_stays_planned(office: Office) -> None:
    first, second = planned(office, rows=1), planned(office, rows=1, first=5)
    office.server.latency = 0.5
    office.desk.send(first, "anna")
    until(lambda: office.desk.queue.is_busy)
    office.desk.send(second, "anna")
    assert office.desk.queue.stop(second, "not now")
    assert not office.desk.queue.stop("nothing", "not there")
    office.settled()
    assert office.desk.info(second).state == "planned"


def test_a_restarted_server_goes_on_with_the_run_under_way_and_with_those_that_wait(office: Office) -> None:
    first, second = planned(office, rows=20), planned(office, rows=2, first=30)
    office.server.latency = 0.3
    office.desk.send(first, "anna")
    until(lambda: office.server.seen)
    office.desk.send(second, "bert")
    office.stop()
    assert 0 < len(office.server.seen) < 20
    assert office.desk.info(first).state == "stopped"
    office.start()
    office.settled()
    for run, rows in ((first, 20), (second, 2)):
        assert office.desk.info(run).state == "finished"
        assert [row["attempts"] for row in reconciliation_of(office.reports / run)] == ["1"] * rows
    assert len(office.server.seen) == 22


def test_a_run_that_a_user_stopped_does_not_begin_again_by_itself(office: Office) -> None:
    run = planned(office, rows=20)
    office.server.latency = 0.3
    office.desk.send(run, "anna")
    until(lambda: office.server.seen)
    office.desk.queue.stop(run, "stopped by anna")
    office.settled()
    office.stop()
    office.start()
    assert office.desk.queue.jobs() == []
    assert office.desk.info(run).state == "stopped"
    office.desk.send(run, "anna")
    office.settled()
    assert office.desk.info(run).state == "finished"


def test_an_error_of_one_run_is_kept_and_the_next_one_runs(office: Office) -> None:
    first, second = planned(office), planned(office, rows=2, first=10)
    (office.reports / first / "journal.sqlite3").write_bytes(b"damaged")
    office.desk.queue.add(first, "anna", JobKind.SEND)
    office.desk.send(second, "anna")
    office.settled()
    assert office.desk.queue.failure(first)
    assert office.desk.info(second).state == "finished"


def test_a_damaged_file_of_the_queue_is_passed_over(office: Office) -> None:
    office.stop()
    (office.reports / ".desk" / "queue" / "x.json").write_text("{")
    assert office.start().queue.jobs() == []


def test_what_is_shown_of_a_plan_is_made_again_if_it_is_lost(office: Office) -> None:
    run = planned(office)
    before = office.desk.plan_view(run)
    (office.reports / ".desk" / "plans" / f"{run}.json").write_text('{"run_id": 1}')
    assert office.desk.plan_view(run) is None
    office.desk.renew_plan_view(run).result(30)
    assert office.desk.plan_view(run) == before


def test_corrected_cells_are_in_the_journal_and_bind_the_plan(office: Office) -> None:
    upload = office.desk.uploads.receive(io.BytesIO(b"customer,serial\nwrong,SN-0\n"), "list.csv", "anna")
    upload = office.desk.correct(replace(upload, flags=FLAGS), [Correction("customerEmail", 2, "c0@example.com")])
    assert office.desk.check(upload).result(30).invalid_rows == 0
    run = office.desk.plan(upload).result(30)
    office.server.fleet.seed([("c0@example.com", "SN-0", "unassign")])
    office.desk.send(run, "anna")
    office.settled()
    [row] = reconciliation_of(office.reports / run)
    assert (row["customerEmail"], row["outcome"]) == ("c0@example.com", "unassigned")


def test_only_the_first_faulty_rows_are_shown_but_all_are_counted(office: Office) -> None:
    content = "customer,serial\n" + "wrong,SN-1\n" * 1000
    upload = replace(office.desk.uploads.receive(io.BytesIO(content.encode()), "list.csv", "anna"), flags=FLAGS)
    found = office.desk.check(upload).result(30)
    assert (found.invalid_rows, len(found.faulty), found.faulty[-1].line) == (1000, 50, 51)


def test_the_key_and_the_server_are_in_no_file_that_the_page_keeps(office: Office) -> None:
    run = planned(office)
    office.desk.send(run, "anna")
    office.settled()
    for path in office.folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_mappings_and_lists_cannot_set_anything_else_than_the_input(office: Office) -> None:
    upload = office.desk.uploads.receive(io.BytesIO(list_of(1)), "list.csv", "anna")
    evil = {
        **FLAGS,
        "base_url": "http://127.0.0.1:1/api/ext-v1",
        "publish": "/tmp/x",
        "api_key_file": "/k",
        "sandbox": True,
    }
    office.desk.uploads.save(replace(upload, flags=evil))
    run = office.desk.plan(office.desk.uploads.find(upload.id)).result(30)  # type: ignore[arg-type]
    config = office.desk._config_of_run(office.reports / run)
    assert config.sending.base_url == office.config.sending.base_url
    assert config.publish is None
    assert not config.sandbox


@pytest.mark.parametrize("run", ["", ".", "..", ".desk", "../reports", "/etc", "nothing", "a/b"])
def test_only_a_run_of_the_reports_folder_is_found(office: Office, run: str) -> None:
    with pytest.raises(JournalError):
        office.desk.folder(run)


def test_a_user_sees_the_own_runs_and_an_approver_all(office: Office) -> None:
    run = planned(office, "anna")
    seen = {
        name: [line.info.run_id for line in office.desk.runs(User(name, role), 10)]
        for name, role in (("anna", Role.OPERATOR), ("bert", Role.OPERATOR), ("carla", Role.APPROVER))
    }
    assert seen == {"anna": [run], "bert": [], "carla": [run]}


def test_a_run_of_another_api_is_not_sent_with_the_key_of_this_server(office: Office) -> None:
    run = planned(office)
    other = Desk(
        replace(office.config, sending=replace(office.config.sending, base_url="http://127.0.0.1:8/api/ext-v1")),
        office.desk.audit,
        transport=office.server,
    )
    other.start()
    other.send(run, "anna")
    until(lambda: not other.queue.jobs())
    other.shutdown()
    assert "was started with --base-url" in str(other.queue.failure(run))
    assert office.server.seen == []


# Four eyes


def test_a_plan_is_sent_only_after_another_user_of_the_page_has_approved_it(four_eyes: Office) -> None:
    desk, run = four_eyes.desk, planned(four_eyes)
    assert desk.info(run).state == "awaitingApproval"
    desk.send(run, "anna")
    four_eyes.settled()
    assert "needs approval" in str(desk.queue.failure(run))
    view = desk.plan_view(run)
    assert view is not None
    desk.approve(run, view.fingerprint, "paul")
    assert desk.info(run).state == "approved"
    desk.send(run, "anna")
    four_eyes.settled()
    assert desk.info(run).state == "finished"
    summary = json.loads((four_eyes.reports / run / "summary.json").read_text())
    assert summary["approval"]["plannedBy"] == "anna"
    assert summary["approval"]["approvedBy"] == "paul"


@pytest.mark.parametrize("name", ["anna", "ANNA", "\uff41nna"])
def test_nobody_approves_the_own_plan_in_whatever_spelling(four_eyes: Office, name: str) -> None:
    run = planned(four_eyes)
    view = four_eyes.desk.plan_view(run)
    assert view is not None
    with pytest.raises(ApprovalError):
        four_eyes.desk.approve(run, view.fingerprint, name)
    assert four_eyes.desk.info(run).state == "awaitingApproval"


def test_nobody_sends_what_they_have_approved(four_eyes: Office) -> None:
    run = planned(four_eyes)
    view = four_eyes.desk.plan_view(run)
    assert view is not None
    four_eyes.desk.approve(run, view.fingerprint, "paul")
    four_eyes.desk.send(run, "paul")
    four_eyes.settled()
    assert "paul approved it and runs it" in str(four_eyes.desk.queue.failure(run))
    assert four_eyes.server.seen == []


def test_an_approval_is_for_the_plan_that_was_seen_and_can_be_taken_back(four_eyes: Office) -> None:
    run = planned(four_eyes)
    with pytest.raises(ApprovalError):
        four_eyes.desk.approve(run, "0000-0000", "paul")
    view = four_eyes.desk.plan_view(run)
    assert view is not None
    four_eyes.desk.approve(run, view.fingerprint, "paul")
    four_eyes.desk.revoke(run)
    assert four_eyes.desk.info(run).state == "awaitingApproval"


def test_an_approval_counts_only_in_the_private_folder_of_the_page(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    users = PageUsers(ours, "anna")
    content = b'{"approvedBy": "paul"}'
    for folder in (ours, theirs):
        folder.mkdir()
        (folder / "r.json").write_bytes(content)
    me = SystemUsers().current()
    assert users.author(ours / "r.json", (ours / "r.json").stat(), content) == person("paul")
    assert users.author(theirs / "r.json", (theirs / "r.json").stat(), content) == me
    for damaged in (b"", b"[]", b'{"approvedBy": 1}', b"{" * 100_000):
        assert users.author(ours / "r.json", (ours / "r.json").stat(), damaged) == me


def test_the_folder_of_approvals_is_private(four_eyes: Office) -> None:
    assert (four_eyes.reports / ".desk" / "approvals").stat().st_mode & 0o777 == 0o700


def test_the_command_line_does_not_send_an_approved_plan_of_the_page_as_the_user_of_the_server(
    four_eyes: Office,
) -> None:
    run = planned(four_eyes)
    view = four_eyes.desk.plan_view(run)
    assert view is not None
    four_eyes.desk.approve(run, view.fingerprint, "paul")
    if os.geteuid() == 0:  # root wrote the approval: it does not count at all
        assert run_info(four_eyes.reports / run, SystemUsers(), RealClock().wall()).state == "awaitingApproval"
    assert person("anna").uid != SystemUsers().current().uid


# Lists


@pytest.fixture
def store(tmp_path: Path) -> UploadStore:
    return UploadStore(tmp_path / ".uploads", RealClock(), 1000)


def received(store: UploadStore, size: int = 10, name: str = "a.csv") -> Upload:
    return store.receive(io.BytesIO(b"x" * size), name, "anna")


def test_all_lists_together_stay_within_their_room(store: UploadStore) -> None:
    for _ in range(2):
        received(store, 300)
    with pytest.raises(ConfigError, match="no room"):
        received(store, 300)
    store.remove(store.all()[0])
    received(store, 300)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a.csv", "list.csv"),
        ("A.XLSX", "list.xlsx"),
        ("a.csv.gz", "list.csv.gz"),
        ("a.exe", "list"),
        ("../../x.zip", "list.zip"),
        ("", "list"),
        ("a.csv\0.xlsx", "list.xlsx"),
    ],
)
def test_the_file_of_a_list_has_a_name_of_ours(store: UploadStore, name: str, kept: str) -> None:
    assert received(store, name=name).file.name == kept


def test_a_list_is_found_by_its_id_only(store: UploadStore) -> None:
    upload = received(store)
    assert store.find(upload.id) == upload
    for other in ("", "..", "../x", upload.id.upper(), f"{upload.id}/..", "a" * 20):
        assert store.find(other) is None


def test_a_list_that_became_no_run_is_removed_after_a_week(store: UploadStore) -> None:
    upload = received(store)
    store.save(replace(upload, at=upload.at - 8 * 86_400))
    store.remove_old()
    assert store.all() == []
    assert not upload.folder.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": "a"}', "null"])
def test_a_damaged_record_of_a_list_is_no_list(store: UploadStore, content: str) -> None:
    upload = received(store)
    (upload.folder / "upload.json").write_text(content)
    assert store.find(upload.id) is None
    assert store.all() == []
