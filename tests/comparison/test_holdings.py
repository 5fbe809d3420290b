"""`holdings`: what customers hold, as a file that takes it from them."""

import gzip
import os
import stat
from pathlib import Path

import pytest
import xlsxwriter

from telemetron_batch.domain.errors import (
    BatchError,
    ConfigError,
    InputError,
    LockedError,
    QueryError,
    UntrustedRunError,
)
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.input.load import load
from telemetron_batch.storage.lock import Lock, LockOwner, key_fingerprint, state_dir
from tests.comparison.desk import Lookups
from tests.conftest import KEY, Desk
from tests.support.scripted import BASE_URL, Says, Seen

A, B, C = "a@x.com", "b@x.com", "c@x.com"


@pytest.fixture
def lookups(desk: Desk) -> Lookups:
    desk.server.fleet.assign(A, ["SN-1", "SN-2"])
    desk.server.fleet.assign(B, ["SN-3"])
    return Lookups(desk)


def test_every_device_of_the_customers_becomes_a_row_that_takes_it(lookups: Lookups) -> None:
    summary = lookups.holdings(B, A)
    assert lookups.rows == [(B, "SN-3", "unassign"), (A, "SN-1", "unassign"), (A, "SN-2", "unassign")]
    assert (summary.exit_code, summary.fields["devices"], summary.fields["customers"]) == (0, 3, 2)


def test_a_customer_is_asked_once_however_often_and_in_whatever_case_it_is_named(lookups: Lookups) -> None:
    lookups.holdings(" A@X.com ", A, file=lookups.desk.file("A@x.COM\nb@x.com\n", "list.txt"))
    assert lookups.asked == [A, B]


@pytest.mark.parametrize(
    "text",
    [
        "b@x.com\na@x.com\n",
        "\ufeffb@x.com\r\n\r\n  a@x.com  \r\n",
        "customerEmail\nb@x.com\na@x.com\n",
        "Our list\n\nSerial;E-Mail;Note\nSN-7;b@x.com;x\n=1+1;A@x.com;y\nSN-8;b@x.com;\n",
        "E-Mail\tdeviceIdentifier\nb@x.com\t\na@x.com\t1E5\n",
    ],
)
def test_customers_are_read_from_a_plain_list_and_from_any_table_with_their_column(lookups: Lookups, text: str) -> None:
    lookups.holdings(file=lookups.desk.file(text, "list.txt"))
    assert lookups.asked == [B, A]


def test_customers_are_read_from_packed_lists_and_workbooks(lookups: Lookups, tmp_path: Path) -> None:
    packed = tmp_path / "list.txt.gz"
    packed.write_bytes(gzip.compress(b"a@x.com\n"))
    book = tmp_path / "list.xlsx"
    with xlsxwriter.Workbook(book) as written:
        sheet = written.add_worksheet()
        sheet.write_row(0, 0, ["Name", "E-Mail"])
        sheet.write_row(1, 0, ["Bob", B])
    lookups.holdings(file=str(packed))
    lookups.holdings(file=str(book))
    assert lookups.asked == [A, B]


def test_unknown_customers_are_named_with_exit_code_1_and_the_others_are_written(lookups: Lookups) -> None:
    summary = lookups.holdings(A, C)
    assert summary.exit_code == ExitCode.ATTENTION
    assert summary.fields["unknownCustomers"] == [C]
    assert [*summary.warnings()] == [f"1 customer is unknown to Telemetron: {C}"]
    assert len(lookups.rows) == 2


def test_customers_without_devices_give_a_header_and_exit_code_0(lookups: Lookups) -> None:
    lookups.desk.server.fleet.unassign(B, ["SN-3"])
    summary = lookups.holdings(B)
    assert (lookups.rows, summary.exit_code, summary.without_devices) == ([], 0, 1)


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["nobody"], "", '"nobody" is not an email address'),
        ([A, "x@y", "a b@x.com"], "", '"x@y", "a b@x.com" are not email addresses'),
        (
            [],
            "a@x.com\nbob\n",
            "list.txt: 1 row has no address that can be used (not an email address, first lines: 2)",
        ),
        ([], "customerEmail,x\na@x.com,1\n,2\n", "first lines: 3"),
        ([], "Serial\nSN-1\n", "no header with customerEmail"),
        ([], "customerEmail\n", "has no addresses"),
    ],
)
def test_what_is_no_address_ends_with_2_before_anything_is_asked(
    lookups: Lookups, arguments: list[str], text: str, words: str
) -> None:
    with pytest.raises(BatchError) as raised:
        lookups.holdings(*arguments, file=lookups.desk.file(text, "list.txt") if text else None)
    assert raised.value.exit_code == ExitCode.NOT_STARTED
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (lookups.asked, lookups.output.exists()) == ([], False)


def test_without_customers_the_error_says_that_the_api_cannot_list_them(lookups: Lookups) -> None:
    with pytest.raises(ConfigError, match="the API cannot list all customers"):
        lookups.holdings()


def test_an_existing_file_is_only_replaced_with_force(lookups: Lookups) -> None:
    lookups.output.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        lookups.holdings(A, force=False)
    assert (lookups.output.read_text(), lookups.asked) == ("mine", [])
    lookups.holdings(A, force=True)
    assert len(lookups.rows) == 2


def test_a_pipe_or_a_link_is_never_replaced(lookups: Lookups) -> None:
    os.mkfifo(lookups.output)
    with pytest.raises(ConfigError, match="is no regular file"):
        lookups.holdings(A, force=True)
    lookups.output.unlink()
    lookups.output.symlink_to(lookups.desk.folder / "other.csv")
    with pytest.raises(ConfigError, match="is no regular file"):
        lookups.holdings(A, force=True)
    assert lookups.output.is_symlink()


def test_the_sandbox_of_a_run_is_refused_because_it_is_empty(lookups: Lookups) -> None:
    with pytest.raises(ConfigError, match="telemetron-batch sandbox"):
        lookups.holdings(A, sandbox=True)


def test_the_key_is_locked_while_customers_are_asked(lookups: Lookups) -> None:
    path = state_dir() / f"{key_fingerprint(BASE_URL, KEY)}.lock"
    lock = Lock.acquire(path, LockOwner(1, "now", "night"), "this base URL and key")
    try:
        with pytest.raises(LockedError, match="run night"):
            lookups.holdings(A)
    finally:
        lock.release()
    assert lookups.asked == []


def test_queries_keep_the_rate(lookups: Lookups) -> None:
    lookups.holdings(*(f"u{number}@x.com" for number in range(20)), rate="2/s")
    times = [seen.at for seen in lookups.desk.server.seen]
    assert times[-1] - times[0] >= 9


# Stopped and continued


def refusing_some(seen: Seen) -> Says | None:
    return Says(400, {"error": "Invalid email format"}) if seen.body["email"] == B else None


def test_a_customer_that_cannot_be_asked_gives_exit_code_3_and_no_file(lookups: Lookups) -> None:
    lookups.desk.server.script = refusing_some
    with pytest.raises(QueryError, match=r"1 of 3 customers could not be asked: b@x.com .*run the same command again"):
        lookups.holdings(A, B, C)
    assert not lookups.output.exists()
    lookups.desk.server.script = lambda _: None
    assert lookups.holdings(A, B, C).asked == 1
    assert lookups.asked == [A, B, C, B]


def test_a_stopped_listing_continues_after_days_but_not_after_weeks(lookups: Lookups) -> None:
    lookups.desk.server.script = refusing_some
    with pytest.raises(QueryError):
        lookups.holdings(A, B)
    lookups.desk.clock.monotonic += 3 * 86_400
    with pytest.raises(QueryError):
        lookups.holdings(A, B)
    assert lookups.asked == [A, B, B]
    lookups.desk.clock.monotonic += 8 * 86_400
    with pytest.raises(QueryError):
        lookups.holdings(A, B)
    assert lookups.asked[3:] == [A, B]


def test_answers_of_a_stopped_listing_count_for_other_lists_only_while_they_are_fresh(lookups: Lookups) -> None:
    lookups.desk.server.script = refusing_some
    with pytest.raises(QueryError):
        lookups.holdings(A, B)
    assert lookups.holdings(A).asked == 0
    lookups.desk.clock.monotonic += 3601
    assert lookups.holdings(A).asked == 1


def test_kept_answers_are_used_for_an_hour_and_then_removed(lookups: Lookups) -> None:
    lookups.holdings(A)
    lookups.desk.server.fleet.assign(A, ["SN-9"])
    lookups.desk.clock.monotonic += 3500
    assert lookups.holdings(A).asked == 0
    lookups.desk.clock.monotonic += 200
    (file,) = lookups.kept
    assert lookups.holdings(B, keep=0).asked == 1
    assert not file.exists()
    assert lookups.holdings(A).asked == 1


def test_repeating_a_command_does_not_make_its_answers_last_longer(lookups: Lookups) -> None:
    lookups.holdings(A)
    for _ in range(2):
        lookups.desk.clock.monotonic += 1700
        assert lookups.holdings(A).asked == 0
    lookups.desk.clock.monotonic += 300
    assert lookups.holdings(A).asked == 1


def test_the_summary_says_that_answers_are_old(lookups: Lookups) -> None:
    lookups.holdings(A)
    sentences = " ".join(lookups.holdings(A, B).sentences())
    assert "Answers about 1 of 2 customers are from an earlier command" in sentences


def test_with_keep_answers_0_nothing_is_used_and_nothing_stays(lookups: Lookups) -> None:
    lookups.holdings(A)
    lookups.holdings(A, keep=0)
    assert lookups.asked == [A, A]
    lookups.desk.clock.monotonic += 3601
    lookups.holdings(B, keep=0)
    assert lookups.kept == []


def test_with_keep_answers_0_a_stopped_listing_is_begun_anew(lookups: Lookups) -> None:
    lookups.desk.server.script = refusing_some
    for expected in ([A, B], [A, B, A, B]):
        with pytest.raises(QueryError, match="without --keep-answers 0"):
            lookups.holdings(A, B, keep=0)
        assert lookups.asked == expected
    lookups.desk.server.script = lambda _: None
    lookups.desk.server.fleet.assign(A, ["NEW"])
    assert lookups.holdings(A, B, keep=0).asked == 2
    assert (A, "NEW", "unassign") in lookups.rows


def test_a_listing_stopped_with_keep_answers_0_continues_without_it(lookups: Lookups) -> None:
    lookups.desk.server.script = refusing_some
    for _ in range(2):
        with pytest.raises(QueryError):
            lookups.holdings(A, B, keep=0)
    lookups.desk.server.script = lambda _: None
    assert lookups.holdings(A, B).asked == 1
    assert lookups.asked == [A, B, A, B, B]


def test_answers_hold_addresses_identifiers_and_times_for_their_owner_only(lookups: Lookups) -> None:
    lookups.holdings(A, C)
    (file,) = lookups.kept
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]
    content = file.read_bytes()
    assert b"SN-1" in content
    assert KEY.encode() not in content
    assert BASE_URL.encode() not in content


def test_answers_of_another_account_or_api_are_not_used(lookups: Lookups) -> None:
    lookups.holdings(A)
    assert lookups.holdings(A, organisation="other").asked == 1
    assert lookups.holdings(A, base_url="http://127.0.0.1:10/api/ext-v1").asked == 1
    assert lookups.holdings(A).asked == 0


def test_a_folder_of_answers_that_others_can_write_to_is_refused(lookups: Lookups) -> None:
    folder = lookups.desk.folder / "reports" / ".answers"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(UntrustedRunError, match="remove it, or name another --reports-dir"):
        lookups.holdings(A)
    folder.rmdir()
    folder.symlink_to(lookups.desk.folder)
    with pytest.raises(UntrustedRunError, match="symbolic link"):
        lookups.holdings(A)
    assert lookups.asked == []


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"", b"SQLite format 3\0" + bytes(2000)])
def test_a_damaged_file_of_answers_is_begun_anew(lookups: Lookups, content: bytes) -> None:
    lookups.holdings(A)
    (file,) = lookups.kept
    file.write_bytes(content)
    assert lookups.holdings(A).asked == 1
    assert lookups.holdings(A).asked == 0


def test_a_run_removes_the_answers_of_the_customers_it_writes_to(lookups: Lookups) -> None:
    lookups.holdings(A, B)
    lookups.desk.run([(A, "SN-5", "assign"), (B, "", "assign")])
    assert lookups.holdings(A, B).asked == 1
    assert lookups.asked == [A, B, A]


# The API in trouble


def test_a_refused_key_ends_with_4_and_keeps_what_was_answered(lookups: Lookups) -> None:
    lookups.desk.server.script = lambda seen: Says(401, {"error": "no"}) if seen.body["email"] == C else None
    with pytest.raises(QueryError) as raised:
        lookups.holdings(A, B, C, concurrency="1")
    assert raised.value.exit_code == ExitCode.CLIENT_REFUSED
    assert "1 of 3 customers" in str(raised.value)


def test_what_is_no_telemetron_api_ends_with_4(lookups: Lookups) -> None:
    lookups.desk.server.script = lambda _: Says(404, b"<html>nothing</html>", {"content-type": "text/html"})
    with pytest.raises(QueryError, match="there is no Telemetron API at") as raised:
        lookups.holdings(*(f"u{number}@x.com" for number in range(50)))
    assert raised.value.exit_code == ExitCode.CLIENT_REFUSED
    assert "--run-id" not in str(raised.value)


def test_throttled_and_failing_queries_are_retried(lookups: Lookups) -> None:
    lookups.desk.server.script = lambda seen: Says(429 if seen.number % 2 else 502) if seen.number < 6 else None
    assert lookups.holdings(A, B).exit_code == 0


def test_a_deadline_stops_with_3_and_the_same_command_goes_on(lookups: Lookups) -> None:
    customers = [f"u{number:02}@x.com" for number in range(30)]
    with pytest.raises(QueryError, match="the deadline has passed") as raised:
        lookups.holdings(*customers, rate="1/s", deadline="10s")
    assert raised.value.exit_code == ExitCode.STOPPED
    lookups.holdings(*customers)
    assert len(lookups.asked) == len({*lookups.asked}) == 30


def test_after_a_deadline_with_keep_answers_0_the_advice_is_to_go_on_without_it(lookups: Lookups) -> None:
    customers = [f"u{number:02}@x.com" for number in range(30)]
    with pytest.raises(QueryError, match="run the same command again without --keep-answers 0"):
        lookups.holdings(*customers, keep=0, rate="1/s", deadline="10s")
    lookups.holdings(*customers)
    assert len(lookups.asked) == len({*lookups.asked}) == 30


# What comes back

ODD = ["00012", "SN 1", 'a"b', "a,b", "+49-1", "-7", "'x", "''=x", "Ünï-1", "a'b", "1-2", "x;y|z", "12.03.2025"]
REFUSED = ["=1+1", "@x", "4.9E+14", "#REF!", "line\nbreak", "bell\x07", "'0012'", "'7", '="0012"', "\u200bSN-7"]


def test_identifiers_come_back_from_the_file_exactly_as_they_are(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(C, [*ODD, *(f"SN-{number:05}" for number in range(50))])
    summary = lookups.holdings(C)
    loaded = load([str(lookups.output)], InputOptions(), spool=lookups.desk.folder)
    (part,) = loaded.rows.keys.drain_parts()
    back = set(part["deviceIdentifier"].to_pylist())
    named = {one.device for one in summary.left_out.first}
    assert back | named == {*ODD, *(f"SN-{number:05}" for number in range(50))}
    assert not back & named
    assert not loaded.rows.invalid
    assert {"00012", "+49-1", "-7", "''=x", "a'b"} <= back


def test_an_identifier_that_a_file_cannot_hold_is_named_and_not_written(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(C, [*REFUSED, "SN-1"])
    summary = lookups.holdings(C)
    assert lookups.rows == [(C, "SN-1", "unassign")]
    assert {one.device for one in summary.left_out.first} == {*REFUSED}
    assert all(one.reason for one in summary.left_out.first)
    assert (summary.exit_code, summary.fields["leftOut"], summary.fields["devices"]) == (1, len(REFUSED), 1)
    assert "left out of the file" in " ".join(summary.warnings())


def test_allow_suspect_writes_what_a_run_with_it_sends(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(C, ["=1+1", "4.9E+14"])
    assert lookups.holdings(C, allow_suspect=True).exit_code == 0
    assert lookups.rows == [(C, "4.9E+14", "unassign"), (C, "'=1+1", "unassign")]
    ran = lookups.desk.run(str(lookups.output), allow_suspect=True)
    assert ran.outcomes == ["unassigned", "unassigned"]


def test_no_cell_of_the_file_is_run_by_a_spreadsheet(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(C, ["+cmd|x", "-2+3", "=1"])
    lookups.holdings(C, allow_suspect=True)
    assert [row[1] for row in lookups.rows] == ["'+cmd|x", "'-2+3", "'=1"]


# Closing accounts


def test_ten_accounts_are_closed_with_holdings_and_run(lookups: Lookups) -> None:
    customers = [f"leaving{number}@x.com" for number in range(10)]
    for number, customer in enumerate(customers):
        lookups.desk.server.fleet.assign(customer, [f"D-{number}-{at}" for at in range(3)])
    lookups.holdings(*customers)
    ran = lookups.desk.run(str(lookups.output))
    assert ran.outcomes == ["unassigned"] * 30
    assert {row["devicesRemaining"] for row in ran.rows} == {"0"}
    assert ran.summary.exit_code == 0


def test_a_device_that_was_assigned_meanwhile_shows_in_the_reconciliation(lookups: Lookups) -> None:
    customers = [f"leaving{number}@x.com" for number in range(10)]
    for number, customer in enumerate(customers):
        lookups.desk.server.fleet.assign(customer, [f"D-{number}"])
    lookups.holdings(*customers)
    lookups.desk.server.fleet.assign(customers[3], ["NEW"])
    rows = lookups.desk.run(str(lookups.output)).rows
    assert [row["customerEmail"] for row in rows if row["devicesRemaining"] != "0"] == [customers[3]]
    assert lookups.holdings(*customers).fields["devices"] == 1


def test_an_input_that_is_also_the_output_is_refused(lookups: Lookups) -> None:
    path = lookups.desk.file("a@x.com\n", "out.csv")
    with pytest.raises((ConfigError, InputError), match="is the input"):
        lookups.holdings(file=path)
