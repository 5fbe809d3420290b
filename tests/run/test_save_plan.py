"""A saved plan is sent as it was saved, or not at all."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from telemetron_batch.domain.errors import BatchError, BrakeError, ConfigError, JournalError
from telemetron_batch.journal.codec import decode_batch, encode_batch
from telemetron_batch.journal.journal import Journal
from telemetron_batch.run import pipeline, save_plan
from telemetron_batch.sending.observer import RunObserver
from tests.conftest import ENVIRON, Desk
from tests.support.people import Office

A, B = "a@x.com", "b@x.com"
ROWS = [(A, "SN-1", "assign"), (B, "SN-2", "assign"), (B, "SN-3", "unassign")]


@pytest.fixture
def office(desk: Desk) -> Office:
    desk.server.fleet.assign(B, ["SN-3"], create=True)
    return Office(desk)


class Refusing(RunObserver):
    """Answers every question with no."""

    def confirm_plan(self, plan: object) -> bool:  # noqa: ARG002
        return False


def resume(office: Office) -> int:
    """Continue the run as the command does, but over the scripted server."""
    from telemetron_batch.run.stored_config import continued_config

    config = continued_config(office.reports / "r1", ENVIRON, "")
    return pipeline.run(
        config, observer=office.desk.face, transport=office.desk.server, clock=office.desk.clock, users=office.users
    ).exit_code


def test_plan_save_asks_nothing_sends_nothing_and_makes_a_planned_run(office: Office) -> None:
    office.desk.face = Refusing()
    saved = office.save(office.desk.file(ROWS))
    line = office.line()
    assert (line.state, line.fingerprint, line.rows) == ("planned", saved.short_fingerprint, 3)
    assert line.approval == {"plannedBy": "petra", "approvedBy": None, "approvedAt": None}
    assert line.next_step.startswith(f"telemetron-batch resume {office.reports / 'r1'}")
    assert len(saved.fingerprint) == 64
    assert saved.short_fingerprint == f"{saved.fingerprint[:4]}-{saved.fingerprint[4:8]}"
    assert office.sent == 0


def test_no_key_is_needed_to_save_a_plan_and_the_account_is_that_of_the_run(office: Office) -> None:
    path = office.desk.file(ROWS)
    save_plan.save_plan(office.config(path, environ={}), users=office.users)
    ran = office.run(path)
    with closing(Journal(ran.folder / "journal.sqlite3")) as journal:
        assert journal.fact("client") is not None
    assert ran.summary.fields["startedAt"].startswith("2026-01-01")


def test_without_a_run_id_the_content_names_the_run(office: Office) -> None:
    path = office.desk.file(ROWS, "my returns.csv")
    saved = office.save(path, run_id=None)
    with closing(Journal(saved.folder / "journal.sqlite3")) as journal:
        sha256 = journal.input_files[0].sha256
    assert saved.folder.name == f"my_returns-{sha256[:8]}"
    assert office.save(path, run_id=None).folder == saved.folder
    other = office.save(office.desk.file(ROWS[:1], "other.csv"), run_id=None)
    both = office.save(path, run_id=None) and save_plan.save_plan(
        office.config(path, str(office.desk.folder / "other.csv"), run_id=None), users=office.users
    )
    assert both.folder.name.startswith("my_returns-")
    assert len({saved.folder, other.folder, both.folder}) == 3


def test_a_plan_of_standard_input_needs_a_run_id(office: Office) -> None:
    with pytest.raises(ConfigError, match=r"--run-id"):
        office.save("-", run_id=None)


def test_the_same_plan_saved_again_has_the_same_fingerprint_before_and_after_it_was_sent(office: Office) -> None:
    path = office.desk.file(ROWS)
    first = office.save(path)
    assert office.save(path).fingerprint == first.fingerprint
    office.run(path)
    again = office.save(path)
    assert (again.fingerprint, again.info.state) == (first.fingerprint, "finished")
    assert office.save(path, run_id="r2", again=True).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("rows", "flags"),
    [
        ([(A, "SN-1", "assign"), (B, "SN-2", "assign"), (B, "SN-4", "unassign")], {}),
        ([(A, "SN-1", "assign"), (A, "SN-2", "assign"), (B, "SN-3", "unassign")], {}),
        ([(A, "SN-1", "assign"), (B, "SN-2", "assign"), (B, "SN-3", "assign")], {}),
        (ROWS, {"chunk_size": "1"}),
        (ROWS, {"no_hold": True}),
        (ROWS, {"base_url": "http://127.0.0.1:10/api/ext-v1"}),
        (ROWS, {"auto_create_devices": True, "device_type": "T"}),
    ],
)
def test_another_input_or_an_option_that_decides_what_is_sent_gives_another_fingerprint(
    office: Office, rows: Any, flags: dict[str, Any]
) -> None:
    first = office.save(office.desk.file(ROWS), rate="1/s")
    assert office.save(office.desk.file(rows, "b.csv"), run_id="r2", **flags).fingerprint != first.fingerprint
    assert office.save(office.desk.file(ROWS, "c.csv"), run_id="r3", rate="5/s").fingerprint == first.fingerprint


def test_run_and_resume_send_exactly_the_saved_plan(office: Office) -> None:
    path = office.desk.file(ROWS)
    office.save(path, chunk_size="1")
    Path(path).unlink()
    assert resume(office) == 0
    assert sorted(seen.devices for seen in office.desk.server.seen) == [["SN-1"], ["SN-2"], ["SN-3"]]
    assert office.line().state == "finished"


@pytest.mark.parametrize("again", ["run", "plan"])
def test_a_changed_file_or_another_option_is_refused_under_the_id_of_a_saved_plan(office: Office, again: str) -> None:
    path = office.desk.file(ROWS)
    office.save(path)
    send = {"run": office.run, "plan": office.save}[again]
    with pytest.raises(JournalError, match="other options"):
        send(path, chunk_size="7")
    with pytest.raises(JournalError, match="another input"):
        send(office.desk.file([*ROWS, (A, "SN-9", "assign")]))
    assert office.sent == 0


def test_a_finished_planned_run_sends_nothing_again(office: Office) -> None:
    path = office.desk.file(ROWS)
    office.save(path)
    office.run(path)
    sent = office.sent
    assert office.run(path).summary.exit_code == 0
    assert office.sent == sent > 0


def replace_device(journal: sqlite3.Connection) -> None:
    """Change one character of one device in the stored rows."""
    number, blob = journal.execute("SELECT number, keys FROM blocks").fetchone()
    keys = decode_batch(blob)
    at = keys.schema.get_field_index("deviceIdentifier")
    devices = pa.array(["SN-7", *keys["deviceIdentifier"].to_pylist()[1:]], pa.string())
    changed = keys.set_column(at, keys.schema.field(at), devices)
    journal.execute("UPDATE blocks SET keys = ? WHERE number = ?", (encode_batch(changed), number))


def replace_fact(name: str, change: Callable[[Any], Any]) -> Callable[[sqlite3.Connection], None]:
    def write(journal: sqlite3.Connection) -> None:
        [text] = journal.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        journal.execute("UPDATE meta SET value = ? WHERE name = ?", (json.dumps(change(json.loads(text))), name))

    return write


@pytest.mark.parametrize(
    "tamper",
    [
        replace_device,
        replace_fact("inputs", lambda files: [{**files[0], "sha256": "0" + files[0]["sha256"][1:]}]),
        replace_fact("shape", lambda shape: {**shape, "split": "x"}),
        replace_fact("plan", lambda text: text[:-1] + ("0" if text[-1] != "0" else "1")),
        replace_fact("savedPlan", lambda saved: {**saved, "fingerprint": "0" * 64}),
        replace_fact("savedPlan", lambda saved: {**saved, "by": 7}),
        replace_fact("savedPlan", lambda saved: {**saved, "approval": "third"}),
    ],
)
def test_a_journal_that_was_changed_is_refused_before_the_first_attempt(
    office: Office, tamper: Callable[[sqlite3.Connection], None]
) -> None:
    path = office.desk.file(ROWS)
    office.save(path)
    with closing(sqlite3.connect(office.reports / "r1" / "journal.sqlite3", isolation_level=None)) as journal:
        tamper(journal)
    for send in (lambda: office.run(path), lambda: resume(office), lambda: office.save(path)):
        with pytest.raises(BatchError) as refused:
            send()
        assert refused.value.exit_code == 2
        assert "\n" not in str(refused.value)
    assert office.sent == 0
    assert office.line().run_id == "r1"


def test_a_changed_byte_of_the_stored_rows_never_changes_what_is_sent(office: Office) -> None:
    path = office.desk.file(ROWS)
    office.save(path)
    file = office.reports / "r1" / "journal.sqlite3"
    with closing(sqlite3.connect(file)) as journal:
        [blob] = journal.execute("SELECT keys FROM blocks").fetchone()
    whole = file.read_bytes()
    start = whole.index(blob[:200])
    refused = 0
    for at in range(start, start + len(blob), 97):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with suppress(BatchError):
            office.run(path)
        refused += office.sent == 0
        if office.sent:
            break  # a byte of padding
    assert refused > 0
    assert sorted(device for seen in office.desk.server.seen for device in seen.devices) in (
        [],
        ["SN-1", "SN-2", "SN-3"],
    )


def test_a_killed_plan_save_leaves_no_run_that_could_be_sent_without_its_approval(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = office.desk.file(ROWS)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(save_plan, "open_journal", killed)
        with pytest.raises(KeyboardInterrupt):
            office.save(path, approval="second")
    assert office.line().state == "awaitingApproval"
    with pytest.raises(BatchError, match="needs approval"):
        resume(office)
    assert office.sent == 0


def test_content_that_another_run_has_processed_since_the_plan_was_saved_is_refused(office: Office) -> None:
    path = office.desk.file(ROWS)
    office.save(path)
    office.run(path, run_id="meanwhile")
    sent = office.sent
    with pytest.raises(BrakeError, match="run meanwhile has already processed exactly this content"):
        office.run(path)
    assert office.sent == sent
    assert office.run(path, again=True).summary.exit_code == 0


def test_a_planned_run_asks_on_a_terminal_before_its_first_attempt(office: Office) -> None:
    path = office.desk.file(ROWS)
    office.save(path)
    office.desk.face = Refusing()
    with pytest.raises(BrakeError, match="not confirmed"):
        office.run(path)
    assert (office.sent, office.line().state) == (0, "planned")


def test_a_planned_run_that_was_killed_while_it_sent_is_interrupted(office: Office) -> None:
    path = office.desk.file(ROWS)
    office.save(path)
    ran = office.run(path)
    with closing(Journal(ran.folder / "journal.sqlite3")) as journal:
        journal.set_facts(summary=None, endedAt=None)
    assert office.line().state == "interrupted"
    assert office.run(path).summary.exit_code == 0


def test_a_plan_with_brakes_that_hold_is_not_saved(office: Office) -> None:
    with pytest.raises(BrakeError):
        office.save(office.desk.file(ROWS), max_unassign="0")
    assert not (office.reports / "r1").exists()
