"""Nobody finds the address of a person who was forgotten, and everything else is as before."""

import gzip
import io
import json
import os
import shutil
import sqlite3
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.config.config import resolve
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME
from telemetron_batch.retention import forget_run
from telemetron_batch.run.save_plan import save_plan
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage.lock import Lock, LockOwner
from telemetron_batch.verification.answers import open_answers
from tests.conftest import KEY, Desk
from tests.retention.conftest import Archive, Row
from tests.support.books import reconciliation_of
from tests.support.scripted import BASE_URL, Says
from tests.support.traces import places_with

ANN, BOB, LEO = "ann@example.com", "bob@example.com", "leo+x@example.com"
ROWS = [(ANN, "SN-1", "assign"), (BOB, "SN-2", "assign"), (ANN, "SN-3", "unassign"), (LEO, "SN-4", "assign")]


def reports_of(archive: Archive, *names: str) -> dict[str, bytes]:
    return {f"{run}/{name}": (archive.reports / run / name).read_bytes() for run in archive.runs for name in names}


def test_the_address_is_in_no_file(archive: Archive) -> None:
    archive.run([*ROWS, ("Ann@Example.COM", "SN-5", "assign"), (f"<{ANN}>", "SN-6", "assign")], xlsx=True, online=True)
    archive.run([(ANN, "SN-1", "unassign"), (BOB, "SN-9", "assign")], baseline=True, verify=True)
    assert len(places_with(archive.reports, ANN)) > 10
    result = archive.forget(ANN)
    assert places_with(archive.reports, ANN) == []
    assert (result.exit_code, result.changed, result.remaining) == (ExitCode.DONE, ["n1", "n2"], {})


def test_equal_addresses_get_equal_values_in_all_runs_and_others_keep_theirs(archive: Archive) -> None:
    archive.run(ROWS)
    archive.run([(ANN, "SN-1", "unassign")])
    archive.forget(ANN, LEO)
    first, second = (reconciliation_of(archive.reports / run) for run in ("n1", "n2"))
    customers = [row["customerEmail"] for row in first]
    assert customers[0] == customers[2] == second[0]["customerEmail"]
    assert customers[0].startswith("forgotten-")
    assert customers[3].startswith("forgotten-")
    assert len({customers[0], customers[3]}) == 2
    assert customers[1] == BOB


def test_two_commands_give_other_values(archive: Archive) -> None:
    archive.run(ROWS)
    archive.forget(ANN)
    archive.run([(ANN, "SN-7", "assign")])
    archive.forget(ANN)
    one, other = (reconciliation_of(archive.reports / run)[0]["customerEmail"] for run in ("n1", "n2"))
    assert one != other


def test_reports_are_written_again_and_sums_stay_the_same(archive: Archive) -> None:
    ran = archive.run([*ROWS, (ANN, "", "assign"), (BOB, "SN-1", "unassign")], xlsx=True)
    before = json.loads((ran.folder / "summary.json").read_text())
    archive.forget(ANN)
    names = ("reconciliation.csv", "attention.csv", "undo.csv")
    written = reports_of(archive, *names)
    summary = report_run(ran.folder, clock=archive.desk.clock)
    assert reports_of(archive, *names) == written
    assert {key: summary.fields[key] for key in ("counts", "rows", "customers", "calls", "exitCode", "balanced")} == {
        key: before[key] for key in ("counts", "rows", "customers", "calls", "exitCode", "balanced")
    }
    assert places_with(archive.reports, ANN) == []


def test_an_attention_file_that_nobody_edited_is_still_replaced(archive: Archive) -> None:
    ran = archive.run([(ANN, "", "assign"), (BOB, "SN-1", "assign")], xlsx=True)
    archive.forget(ANN)
    report_run(ran.folder, clock=archive.desk.clock)
    assert not [*ran.folder.glob("attention.new*")]


def test_an_attention_file_that_somebody_edited_stays_theirs(archive: Archive) -> None:
    ran = archive.run([(ANN, "", "assign")])
    edited = ran.folder / "attention.csv"
    edited.write_text(
        f"customerEmail,deviceIdentifier,action,outcome,detail,sourceLine\n{ANN},SN-9,assign,invalid,x,2\n"
    )
    archive.forget(ANN)
    assert "SN-9" in edited.read_text()
    report_run(ran.folder, clock=archive.desk.clock)
    assert "SN-9" in edited.read_text()
    assert (ran.folder / "attention.new.csv").exists()
    assert places_with(archive.reports, ANN) == []


def test_the_plan_of_a_run_stays_the_same_with_every_rule_of_the_plan(archive: Archive) -> None:
    rows = [
        (ANN, "00:11:22:33:44:55", "unassign"),
        (BOB, "0011.2233.4455", "assign"),
        (ANN, "SN-1", "assign"),
        (ANN, "SN-1", "unassign"),
        (BOB, "SN-1", "assign"),
        (ANN, "SN-1", "unassign"),
        ("ann@", "SN-7", "unassign"),
        (ANN, "SN-7", "assign"),
    ]
    ran = archive.run(rows, auto_create_devices=True, device_type="T", chunk_size=1)
    archive.forget(ANN)
    assert [row["outcome"] for row in reconciliation_of(report_run(ran.folder).folder)] == ran.outcomes


def test_texts_of_the_api_and_the_log_are_searched_too(archive: Archive) -> None:
    archive.desk.server.script = lambda seen: (
        Says(400, {"error": f"{ANN.upper()} is locked"}) if seen.action == "assign" else None
    )
    archive.run(ROWS)
    assert [place for place in places_with(archive.reports, ANN) if ":results" in place or ":attempts" in place]
    archive.forget(ANN)
    assert places_with(archive.reports, ANN) == []


def test_cells_of_other_columns_are_searched_too(archive: Archive) -> None:
    text = "customerEmail,deviceIdentifier,action,notes\n"
    text += f'{BOB},SN-1,assign,"mail to ""Ann"" <{ANN}>, not joann@example.com"\n{BOB},{ANN},assign,“{ANN}”\n'
    ran = archive.desk.run(text)
    archive.forget(ANN)
    notes = [row["notes"] for row in reconciliation_of(ran.folder)]
    assert notes[0].startswith('mail to "Ann" <forgotten-')
    assert notes[0].endswith(">, not joann@example.com")
    assert places_with(archive.reports, f"<{ANN}", f"“{ANN}") == []


def test_addresses_that_contain_the_address_are_of_others(archive: Archive) -> None:
    others = [
        "joann@example.com",
        "ann@example.com.au",
        "x.ann@example.com",
        "ann@example.community",
        "éann@example.com",
    ]
    ran = archive.run([(ANN, "SN-1", "assign"), *((one, f"SN-{one}", "assign") for one in others)])
    archive.forget(ANN)
    assert [row["customerEmail"] for row in reconciliation_of(ran.folder)][1:] == others


@pytest.mark.parametrize("sign", "'/=&|{!*#%~?^`$+")
def test_the_address_of_another_person_stays_after_every_sign(sign: str, archive: Archive) -> None:
    other = f"o{sign}{ANN}"
    ran = archive.run([(other, "SN-1", "assign"), (ANN, "SN-2", "assign")])
    result = archive.forget(ANN)
    assert (result.exit_code, result.remaining) == (ExitCode.DONE, {})
    assert reconciliation_of(ran.folder)[0]["customerEmail"] == other
    archive.run([("", "SN-1", "unassign")], owners="runs", name="back.csv")
    assert archive.sent == {(other, "SN-1", "unassign")}


def notes(archive: Archive, *texts: str) -> Path:
    rows = "".join(f'{BOB},SN-{number},assign,"{text}"\n' for number, text in enumerate(texts))
    return archive.desk.run("customerEmail,deviceIdentifier,action,notes\n" + rows).folder


def test_an_address_in_wrapping_signs_and_in_decomposed_letters_is_replaced(archive: Archive) -> None:
    joerg = "jörg@example.com"
    decomposed = unicodedata.normalize("NFD", joerg)
    folder = notes(archive, f"_{ANN}_", f"...{ANN}", f"call '{ANN}'", joerg, decomposed)
    assert archive.forget(ANN, joerg).remaining == {}
    texts = [row["notes"] for row in reconciliation_of(folder)]
    assert all("forgotten-" in text for text in texts)
    assert texts[3] == texts[4]
    assert places_with(archive.reports, ANN, joerg, decomposed) == []


@pytest.mark.parametrize("text", [f"-{ANN}", f"write {ANN}.Thanks"])
def test_what_may_be_another_persons_address_stays_and_its_files_are_named(text: str, archive: Archive) -> None:
    folder = notes(archive, text, "nobody")
    for dry_run in (True, False):
        result = archive.forget(ANN, dry_run=dry_run)
        assert result.exit_code == ExitCode.ATTENTION
        reasons = {result.remaining[str(folder / name)] for name in ("reconciliation.csv", JOURNAL_NAME)}
        assert "may be another person's address" in reasons.pop()
    assert reconciliation_of(folder)[0]["notes"].lstrip("'") == text


@pytest.mark.parametrize(
    "address", ["o'brien@example.com", "a&b@example.com", "jörg@müller.de", "a_b-c.d@x-y.example.com"]
)
def test_addresses_with_unusual_letters_are_found_as_pages_and_links_write_them(address: str, archive: Archive) -> None:
    archive.run([(address, "SN-1", "assign"), (address.upper(), "", "assign")], xlsx=True, name="list-{}.csv")
    assert places_with(archive.reports, address)
    archive.forget(address)
    assert places_with(archive.reports, address) == []


def test_since_last_of_others_is_not_turned_into_a_full_night(archive: Archive) -> None:
    rows = [(f"user{number}@x.com", f"SN-{number}", "assign") for number in range(20)]
    archive.night([*rows, (ANN, "SN-A", "assign")])
    archive.night([*rows, (ANN, "SN-A", "assign")])
    archive.forget(ANN)
    night = archive.night(rows)
    assert (archive.sent, night.json["since"]["full"]) == (set(), False)
    archive.night([*rows, (ANN, "SN-A", "assign")])
    assert archive.sent == {(ANN, "SN-A", "assign")}


def test_the_value_is_invalid_as_input_and_unknown_to_owners(archive: Archive) -> None:
    ran = archive.run(ROWS)
    archive.forget(ANN)
    value = reconciliation_of(ran.folder)[0]["customerEmail"]
    again = archive.run([(value, "SN-1", "unassign")])
    assert again.outcomes == ["invalid"]
    back = archive.run([("", "SN-1", "unassign"), ("", "SN-2", "unassign")], owners="runs", name="back.csv")
    assert back.outcomes == ["invalid", "unassigned"]
    assert "owner not found" in back.rows[0]["detail"]


def test_verify_asks_nobody_about_a_person_who_was_forgotten(archive: Archive) -> None:
    ran = archive.run(ROWS)
    archive.forget(ANN)
    archive.desk.server.seen.clear()
    verified = archive.desk.verify(ran)
    assert len(archive.desk.server.seen) == 2
    assert "forgotten" not in str(archive.desk.server.seen)
    assert verified.outcomes == ran.outcomes
    assert [row["verified"] for row in verified.rows] == ["", "yes", "", "yes"]


def test_removed_runs_forget_too(archive: Archive) -> None:
    archive.run(ROWS, name=f"{ANN}-{{}}.csv")
    archive.run([(BOB, "SN-8", "assign")], name=f"{ANN}-{{}}.csv")
    archive.prune()
    assert places_with(archive.reports, ANN)
    archive.forget(ANN)
    assert places_with(archive.reports, ANN) == []
    back = archive.run([("", "SN-1", "unassign"), ("", "SN-2", "unassign")], owners="runs", name="back.csv")
    assert back.outcomes == ["invalid", "unassigned"]


def test_kept_answers_are_removed(archive: Archive) -> None:
    archive.run(ROWS)
    with open_answers(archive.reports, "name", archive.desk.clock.wall) as store:
        store.begin("f", 1e6)
        for customer in (ANN, BOB):
            store.put(CustomerHoldings(customer, archive.desk.clock.wall(), frozenset({"SN-1"})))
        store.complete(1e6)
    archive.forget(ANN)
    assert places_with(archive.reports, ANN) == []
    with open_answers(archive.reports, "name", archive.desk.clock.wall) as store:
        store.begin("f", 1e6)
        assert [one.customer for one in store.read([ANN, BOB])] == [BOB]


def save(archive: Archive, rows: list[Row], **flags: Any) -> None:
    options = {"base_url": BASE_URL, "reports_dir": str(archive.reports), "run_id": "saved", **flags}
    path = archive.desk.file(rows, "plan.csv")
    save_plan(resolve([path], options, {"TELEMETRON_API_KEY": KEY}), clock=archive.desk.clock)


def test_unfinished_runs_and_plans_keep_it_and_are_named(archive: Archive) -> None:
    save(archive, ROWS)
    archive.desk.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    archive.run([(ANN, "SN-7", "assign")])
    archive.desk.server.script = lambda _: None
    archive.run([(ANN, "SN-8", "assign")])
    result = archive.forget(ANN)
    assert result.exit_code == ExitCode.ATTENTION
    assert sorted(map(os.path.basename, result.remaining)) == ["n1", "saved"]
    assert result.changed == ["n2"]
    assert archive.desk.run(archive.desk.file([(ANN, "SN-7", "assign")], "erp-1.csv"), run_id="n1").outcomes == [
        "assigned"
    ]
    assert archive.forget(ANN).changed == ["n1"]


def test_a_finished_run_in_use_is_named(archive: Archive) -> None:
    archive.run(ROWS)
    held = Lock.acquire(archive.reports / "n1" / LOCK_NAME, LockOwner(os.getpid(), "now", "x"), "run n1")
    result = archive.forget(ANN)
    assert "in use" in result.remaining[str(archive.reports / "n1")]
    held.release()
    assert archive.forget(ANN).exit_code == ExitCode.DONE


def test_published_copies_are_named_as_long_as_they_have_it(archive: Archive) -> None:
    target = archive.desk.folder / "share"
    archive.run(ROWS, publish=str(target))
    result = archive.forget(ANN)
    assert result.exit_code == ExitCode.ATTENTION
    assert str(target / "n1" / "reconciliation.csv") in result.remaining
    assert archive.forget(ANN).exit_code == ExitCode.ATTENTION
    shutil.rmtree(target)
    assert archive.forget(ANN).exit_code == ExitCode.DONE


def test_files_of_others_are_named_and_left(archive: Archive) -> None:
    ran = archive.run(ROWS)
    own = ran.folder / "notes.txt"
    own.write_text(f"called {ANN}")
    beside = archive.reports / "todo.txt"
    beside.write_text(f"call {ANN}")
    result = archive.forget(ANN)
    assert set(result.remaining) == {str(own), str(beside)}
    assert own.read_text() == f"called {ANN}"
    assert reconciliation_of(ran.folder)[0]["customerEmail"].startswith("forgotten-")


def test_lists_of_the_page_are_named_until_they_are_runs_and_then_changed(archive: Archive) -> None:
    ran = archive.run(ROWS)
    waiting, kept = archive.reports / ".uploads" / "abcdefghijkmnpqrstuv", ran.folder / "upload"
    plan = archive.reports / ".desk" / "plans" / "n1.json"
    for folder in (waiting, kept, plan.parent):
        folder.mkdir(parents=True, mode=0o700)
    plan.write_text(json.dumps({"warnings": [ANN]}))
    (waiting / "list.csv").write_text(ANN)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<t>{ANN.replace('@', '&#64;')}</t>")
    (kept / "list.xlsx").write_bytes(packed.getvalue())
    (kept / "list.csv.gz").write_bytes(gzip.compress(f"x\n{ANN.upper()}\n".encode("utf-16")))
    (kept / "list.txt").write_bytes(f"x\r\n{ANN}\r\n".encode("utf-16-be"))
    (kept / "upload.json").write_text(json.dumps({"corrections": [["customerEmail", 2, ANN]], "owner": "clerk"}))
    result = archive.forget(ANN)
    assert list(result.remaining) == [str(waiting / "list.csv")]
    assert places_with(ran.folder, ANN) == []
    assert places_with(archive.reports / ".desk", ANN) == []
    assert json.loads((kept / "upload.json").read_text())["owner"] == "clerk"
    assert (kept / "list.txt").read_bytes().decode("utf-16-be").startswith("x\r\nforgotten-")


def test_what_killed_processes_have_left_is_removed(archive: Archive) -> None:
    ran = archive.run(ROWS)
    (ran.folder / "scratch-3").mkdir()
    for name in ("scratch-3/keys", "journal.sqlite3.new", ".undo.csv.new"):
        (ran.folder / name).write_text(ANN)
    unbegun = archive.reports / "unbegun"
    unbegun.mkdir(mode=0o700)
    (unbegun / "journal.sqlite3.new").write_text(ANN)
    result = archive.forget(ANN)
    assert (result.exit_code, places_with(archive.reports, ANN)) == (ExitCode.DONE, [])
    assert not (ran.folder / "scratch-3").exists()


def test_links_are_not_followed(archive: Archive) -> None:
    outside = archive.desk.folder / "outside.txt"
    outside.write_text(ANN)
    ran = archive.run(ROWS)
    (ran.folder / "run.log").unlink()
    (ran.folder / "run.log").symlink_to(outside)
    (archive.reports / "link").symlink_to(archive.desk.folder)
    archive.forget(ANN)
    assert outside.read_text() == ANN
    assert places_with(archive.reports, ANN) == []


def test_dry_run_changes_nothing(archive: Archive) -> None:
    archive.run(ROWS)
    before = {path: path.read_bytes() for path in (archive.reports / "n1").iterdir() if path.is_file()}
    result = archive.forget(ANN, dry_run=True)
    assert result.changed == ["n1"]
    assert {path: path.read_bytes() for path in before} == before


def test_a_journal_keeps_its_history_witness_and_schema(archive: Archive) -> None:
    ran = archive.run(ROWS)

    def facts() -> tuple[Any, ...]:
        with sqlite3.connect(ran.folder / JOURNAL_NAME) as connection:
            pragmas = [
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            ]
            counts = [
                connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("attempts", "results")
            ]
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        connection.close()
        return *pragmas, *counts, free

    before = facts()
    archive.forget(ANN)
    assert facts() == before
    assert (ran.folder / "journal.sqlite3-witness").exists()
    assert archive.desk.verify(ran).outcomes == ran.outcomes


def test_a_run_in_shards_is_reported_again_afterwards(archive: Archive) -> None:
    folder = sharded(archive)
    before = [row["outcome"] for row in reconciliation_of(folder)]
    result = archive.forget(ANN)
    assert (result.exit_code, places_with(archive.reports, ANN)) == (ExitCode.DONE, [])
    report_run(folder, clock=archive.desk.clock)
    assert [row["outcome"] for row in reconciliation_of(folder)] == before


def sharded(archive: Archive) -> Path:
    desk: Desk = archive.desk
    rows = [*ROWS, *((f"user{number}@x.com", f"SN-1{number}", "assign") for number in range(8))]
    options = {"base_url": BASE_URL, "reports_dir": str(archive.reports), "run_id": "sharded"}
    environ = {"TELEMETRON_API_KEY": KEY}
    plan_shards(resolve([desk.file(rows, "s.csv")], {**options, "shards": "2"}, environ), clock=desk.clock)
    for phase in ("unassign", "assign"):
        for shard in ("1", "2"):
            config = resolve([], {**options, "shard": shard, "phase": phase}, environ)
            run_shard(config, transport=desk.server, clock=desk.clock)
    return report_run(archive.reports / "sharded", clock=desk.clock).folder


@pytest.mark.parametrize("boundary", ["journal", "first file", "calls"])
def test_killed_on_the_way_the_same_command_completes_it(
    boundary: str, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    folder = sharded(archive)
    archive.run([(ANN, "", "assign"), *ROWS], xlsx=True)
    calls: list[Path] = []
    with monkeypatch.context() as patched:
        name = "rewrite_journal" if boundary == "journal" else "rewrite_file"
        real = getattr(forget_run, name)

        def dying(path: Path, *more: Any) -> None:
            if boundary != "calls" or path.name == "calls.arrow":
                calls.append(path)
                if len(calls) > (boundary != "calls"):
                    raise Killed
            real(path, *more)

        patched.setattr(forget_run, name, dying)
        with pytest.raises(Killed):
            archive.forget(ANN)
    assert places_with(archive.reports, ANN)
    assert archive.forget(ANN).exit_code == ExitCode.DONE
    assert places_with(archive.reports, ANN) == []
    for run in (folder, archive.reports / "n1"):
        report_run(run, clock=archive.desk.clock)
        assert not [*run.glob("attention.new*")]


@pytest.mark.parametrize("text", ["", "  ", "nobody", "forgotten-1234", "a@b@c.com", "ann@example.com x@y.com"])
def test_what_is_no_address_is_refused_before_anything_is_changed(text: str, archive: Archive) -> None:
    archive.run(ROWS)
    with pytest.raises(ConfigError, match="address"):
        archive.forget(text)


def test_a_rehearsal_in_the_sandbox_forgets_with_its_state_and_can_be_removed(archive: Archive) -> None:
    ran = archive.run(ROWS, sandbox=True, base_url=None)
    assert places_with(ran.folder / "..", ANN)
    assert archive.forget(ANN).remaining == {}
    assert places_with(archive.reports, ANN) == []
    assert archive.desk.verify(ran).outcomes == ran.outcomes
    archive.run([(BOB, "SN-9", "assign")], sandbox=True, base_url=None)
    archive.desk.clock.sleep_blocking(1.0)
    assert [one.run_id for one in archive.prune().removed] == ["n1"]


def test_many_addresses_are_forgotten_in_one_pass(archive: Archive) -> None:
    people = [f"user{number}@example.com" for number in range(120)]
    archive.run([(one, f"SN-{number}", "assign") for number, one in enumerate(people)])
    result = archive.forget(*people[:101])
    assert result.addresses == 101
    assert places_with(archive.reports, f'"{people[5]}"', f'"{people[77]}"') == []
    customers = {row["customerEmail"] for row in reconciliation_of(archive.reports / "n1")}
    assert customers & set(people) == set(people[101:])
    assert len(customers) == 120


def test_the_command_reads_addresses_from_standard_input_and_shows_none(archive: Archive) -> None:
    archive.run(ROWS)
    ended = CliRunner().invoke(
        main, ["forget", "-", "--reports-dir", str(archive.reports), "--json"], input=f"{ANN.upper()}\r\n\r\n{BOB}\n"
    )
    assert (ended.exit_code, json.loads(ended.stdout)["addresses"]) == (0, 2)
    assert ANN not in ended.output.lower()
    assert places_with(archive.reports, ANN, BOB) == []
    nobody = CliRunner().invoke(main, ["forget", "x@y.com", "--reports-dir", str(archive.reports)])
    assert (nobody.exit_code, nobody.stdout) == (0, "No finished run has 1 address.\n")
    wrong = CliRunner().invoke(main, ["forget", "x", "--reports-dir", str(archive.reports)])
    assert (wrong.exit_code, wrong.stderr) == (2, "Error: 'x' is no email address; give one address, or one a line\n")
