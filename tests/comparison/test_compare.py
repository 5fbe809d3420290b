"""`compare`: what differs between a file and what its customers hold, as a file of rows."""

import csv
from pathlib import Path

import pytest

from telemetron_batch.domain.errors import BatchError, BrakeError, ConfigError, InputError, QueryError
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.storage.spill import Scratch
from tests.comparison.desk import Lookups
from tests.conftest import Desk
from tests.support.scripted import Says

A, B, C, D = "a@x.com", "b@x.com", "c@x.com", "d@x.com"


@pytest.fixture
def lookups(desk: Desk) -> Lookups:
    """A has A-00 to A-19, B has B-00 to B-19."""
    for customer, letter in ((A, "A"), (B, "B")):
        desk.server.fleet.assign(customer, numbered(letter))
    return Lookups(desk)


def numbered(letter: str, count: int = 20) -> list[str]:
    return [f"{letter}-{number:02}" for number in range(count)]


def fleet(*leave_out: str, more: tuple[tuple[str, str], ...] = ()) -> list[tuple[str, str]]:
    """The rows of what A and B hold, without some devices and with some more rows."""
    rows = [(customer, device) for customer, letter in ((A, "A"), (B, "B")) for device in numbered(letter)]
    return [row for row in rows if row[1] not in leave_out] + [*more]


# What is written


def test_a_fleet_that_is_as_the_file_says_gives_a_header_and_exit_code_0(lookups: Lookups) -> None:
    summary = lookups.compare(fleet(), remove=True)
    assert (lookups.rows, summary.exit_code) == ([], 0)
    assert [*summary.warnings()] == []
    assert "Nothing to do: 2 customers with 40 devices compared" in next(summary.sentences())


def test_what_is_missing_becomes_assign_rows(lookups: Lookups) -> None:
    summary = lookups.compare(fleet(more=((A, "NEW-1"), (B, "NEW-2"))))
    assert lookups.rows == [(A, "NEW-1", "assign"), (B, "NEW-2", "assign")]
    assert (summary.exit_code, summary.fields["assigns"]) == (0, 2)


def test_what_is_beyond_the_file_is_removed_only_if_asked_and_comes_first(lookups: Lookups) -> None:
    rows = fleet("A-03", more=((B, "NEW-2"),))
    summary = lookups.compare(rows)
    assert lookups.rows == [(B, "NEW-2", "assign")]
    assert (summary.exit_code, summary.fields["extra"]) == (0, 1)
    assert "1 device beyond the file stays; --remove-extra writes rows that remove it." in " ".join(summary.sentences())
    lookups.compare(rows, remove=True)
    assert lookups.rows == [(A, "A-03", "unassign"), (B, "NEW-2", "assign")]


def test_customers_who_are_not_in_the_file_are_neither_asked_nor_touched(lookups: Lookups) -> None:
    lookups.compare([row for row in fleet("A-03") if row[0] == A], remove=True)
    assert lookups.asked == [A]
    assert lookups.rows == [(A, "A-03", "unassign")]


def test_nothing_is_sent(lookups: Lookups) -> None:
    lookups.compare(fleet("A-03", more=((A, "NEW"),)), remove=True)
    assert {seen.action for seen in lookups.desk.server.seen} == {"query"}


def test_duplicates_are_compared_once(lookups: Lookups) -> None:
    summary = lookups.compare(fleet(more=((A, "NEW"), ("A@X.com", "NEW"), (A, "A-00"))), remove=True)
    assert lookups.rows == [(A, "NEW", "assign")]
    assert (summary.exit_code, summary.fields["duplicates"]) == (0, 2)


def test_identifiers_of_the_api_are_compared_without_white_space_around_them(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(C, [" C-1 ", "C-2"])
    lookups.compare([(C, "C-1"), (C, "C-2")], remove=True)
    assert lookups.rows == []


def test_the_file_may_have_actions_words_and_other_columns(lookups: Lookups) -> None:
    text = "Order;E-Mail;Serial;Movement\n1;a@x.com;NEW;Zugang\n"
    lookups.compare(text, column=["deviceIdentifier=Serial", "action=Movement"], action_word=["Zugang=assign"])
    assert lookups.rows == [(A, "NEW", "assign")]


def test_a_fleet_moved_with_compare_and_run_needs_no_second_move(lookups: Lookups) -> None:
    rows = fleet("A-03", "B-07", more=((B, "A-03"), (C, "NEW"), (A, "SN 9"), (D, "+odd")))
    first = lookups.compare(rows, remove=True)
    assert (first.exit_code, first.fields["unknownCustomers"]) == (1, [C, D])
    ran = lookups.desk.run(str(lookups.output))
    assert ran.summary.exit_code == 0
    second = lookups.compare(rows, remove=True)
    assert (lookups.rows, second.exit_code) == ([], 0)


def test_a_device_that_changes_hands_is_taken_before_it_is_given(lookups: Lookups) -> None:
    lookups.compare(fleet("A-03", more=((B, "A-03"),)), remove=True)
    assert lookups.rows == [(A, "A-03", "unassign"), (B, "A-03", "assign")]


# What is refused


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("customerEmail,deviceIdentifier,action\na@x.com,A-1,assign\na@x.com,A-2,return\n", {}, "first lines: 3"),
        ("customerEmail,deviceIdentifier,action\nnobody,A-2,unassign\n", {}, "1 unassign row "),
        ("customerEmail,deviceIdentifier\na@x.com,A-2\n", {"action": "unassign"}, "1 unassign row "),
        ("customerEmail,deviceIdentifier\n", {}, "has no data rows"),
        ("customerEmail,deviceIdentifier\na@x.com,A-1\n", {"min_rows": "2"}, "fewer than --min-rows 2"),
        ("customerEmail,deviceIdentifier\na@x.com,A-1", {"last_line": "refuse"}, "cut short"),
        ("customerEmail\na@x.com\n", {}, "no header with deviceIdentifier"),
    ],
)
def test_a_file_that_is_no_fleet_ends_with_2_before_anything_is_asked(
    lookups: Lookups, text: str, flags: dict[str, str], words: str
) -> None:
    with pytest.raises(BatchError) as raised:
        lookups.compare(text, **flags)
    assert raised.value.exit_code == ExitCode.NOT_STARTED
    assert words in str(raised.value)
    assert (lookups.asked, lookups.output.exists()) == ([], False)


def test_an_existing_file_is_only_replaced_with_force(lookups: Lookups) -> None:
    lookups.output.write_text("mine")
    with pytest.raises(ConfigError, match="exists already; name another file, or replace it with --force"):
        lookups.compare(fleet(), force=False)
    assert (lookups.output.read_text(), lookups.asked) == ("mine", [])


@pytest.mark.parametrize("name", ["out.csv.gz", "out.xlsx", "out.zip", "OUT.CSV.GZ", "out.xls", "out.ods"])
def test_an_output_whose_name_is_no_csv_file_is_refused_before_anything_is_asked(lookups: Lookups, name: str) -> None:
    lookups.output = lookups.desk.folder / name
    with pytest.raises(ConfigError, match=r"would be a CSV file.*name it \.csv") as raised:
        lookups.compare(fleet())
    assert (raised.value.exit_code, "\n" in str(raised.value)) == (ExitCode.NOT_STARTED, False)
    assert (lookups.asked, lookups.output.exists()) == ([], False)


@pytest.mark.parametrize("name", ["out.csv", "out.txt", "out", "out.gz.csv", "out.2026-11-30"])
def test_an_output_with_another_name_is_written_and_can_be_read(lookups: Lookups, name: str) -> None:
    lookups.output = lookups.desk.folder / name
    lookups.compare(fleet(more=((A, "NEW"),)))
    assert lookups.desk.run(str(lookups.output)).outcomes == ["assigned"]


def test_a_file_that_appears_while_customers_are_asked_is_not_replaced(lookups: Lookups) -> None:
    lookups.desk.server.script = lambda _: lookups.output.write_text("theirs") and None
    with pytest.raises(ConfigError, match="exists already"):
        lookups.compare(fleet(), force=False)
    assert lookups.output.read_text() == "theirs"


def test_more_than_a_tenth_of_removals_is_refused_unless_the_user_says_how_many(lookups: Lookups) -> None:
    rows = fleet(*numbered("A", 5))
    with pytest.raises(
        BrakeError, match="5 of the 40 devices that were read would be removed, more than 10%"
    ) as raised:
        lookups.compare(rows, remove=True)
    assert "--max-unassign 5" in str(raised.value)
    assert not lookups.output.exists()
    for limit in ("4", "12%"):
        with pytest.raises(BrakeError, match=f"more than --max-unassign {limit}"):
            lookups.compare(rows, remove=True, max_unassign=limit)
    for limit in ("5", "13%"):
        assert lookups.compare(rows, remove=True, max_unassign=limit).fields["unassigns"] == 5
    assert sorted(lookups.asked) == [A, B]


def test_a_tenth_of_removals_is_written_without_a_word(lookups: Lookups) -> None:
    assert lookups.compare(fleet(*numbered("A", 4)), remove=True).fields["unassigns"] == 4
    with pytest.raises(BrakeError, match="more than --max-unassign 3"):
        lookups.compare(fleet(*numbered("A", 4)), remove=True, max_unassign="3")


# Whom it does not take anything from


@pytest.mark.parametrize("device", ["4.9E+14", "", "=1+1", "x" * 300, "A-03;A-04", "N/A"])
def test_a_customer_with_an_invalid_or_doubtful_row_loses_nothing(lookups: Lookups, device: str) -> None:
    summary = lookups.compare(fleet("A-03", "B-03", more=((A, device),)), remove=True)
    assert [row for row in lookups.rows if row[2] == "unassign"] == [(B, "B-03", "unassign")]
    assert (summary.exit_code, summary.withheld.invalid) == (1, 1)


def test_the_warning_names_what_stays_because_of_an_invalid_row(lookups: Lookups) -> None:
    summary = lookups.compare(fleet("A-03", more=((A, "#REF!"),)), remove=True)
    one = "1 device beyond the file stays: its customer has rows that are invalid or doubtful: A-03 of a@x.com"
    assert one in [*summary.warnings()]
    assert summary.fields["keptForInvalidRows"] == [{"customerEmail": A, "deviceIdentifier": "A-03"}]
    summary = lookups.compare(fleet("A-03", "B-04", more=((A, "#REF!"), (B, "#REF!"))), remove=True)
    both = "2 devices beyond the file stay: their customers have rows that are invalid or doubtful: A-03 of a@x.com, B"
    assert any(both in sentence for sentence in summary.warnings())


def test_of_many_devices_that_stay_the_warning_names_the_first_ones(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(C, [f"C-{number:04}" for number in range(1100)])
    summary = lookups.compare([(C, "#REF!"), (C, "C-0000")], remove=True)
    (warning,) = [sentence for sentence in summary.warnings() if "stay" in sentence]
    assert "1,099 devices beyond the file stay" in warning
    assert warning.endswith("C-0020 of c@x.com and 1,079 more (--json has them)")
    assert len(summary.fields["keptForInvalidRows"]) == 1000


def test_the_warning_about_spellings_speaks_of_one_device_or_several(lookups: Lookups) -> None:
    summary = lookups.compare(fleet("A-03", more=((A, "a-03"),)), remove=True)
    one = "1 device beyond the file stays: its customer holds devices that differ from a row by spelling only: A-03 of"
    assert any(one in sentence for sentence in summary.warnings())


def test_a_serial_that_may_have_been_rounded_protects_its_customer(lookups: Lookups) -> None:
    serials = tuple((A, f"89490200001{number:08}") for number in range(10_010, 10_030))
    lookups.desk.server.fleet.assign(A, ["89490200001000100205"])
    lookups.compare(fleet("B-03", more=serials), remove=True)
    removed = [row for row in lookups.rows if row[2] == "unassign"]
    assert removed == [(A, "89490200001000100205", "unassign"), (B, "B-03", "unassign")]
    summary = lookups.compare(fleet("B-03", more=(*serials, (A, "89490200001000100000"))), remove=True)
    assert [row for row in lookups.rows if row[2] == "unassign"] == [(B, "B-03", "unassign")]
    assert summary.withheld.invalid == 1


def test_rows_that_only_allow_suspect_takes_protect_their_customer(lookups: Lookups) -> None:
    rows = fleet("A-03", "B-03", more=((A, "4.9E+14"),))
    summary = lookups.compare(rows, remove=True, allow_suspect=True)
    assert lookups.rows == [(B, "B-03", "unassign"), (A, "4.9E+14", "assign")]
    assert (summary.fields["invalid"], summary.withheld.invalid, summary.exit_code) == (0, 1, 1)


@pytest.mark.parametrize("row", ["A-99", "a-03", "A03", "A_03"])
def test_a_customer_with_a_holding_that_differs_by_spelling_only_loses_nothing(lookups: Lookups, row: str) -> None:
    summary = lookups.compare(fleet("A-03", "A-04", "B-03", more=((A, row),)), remove=True, max_unassign="3")
    is_alike = row != "A-99"
    removed = [one[:2] for one in lookups.rows if one[2] == "unassign"]
    assert removed == ([(B, "B-03")] if is_alike else [(A, "A-03"), (A, "A-04"), (B, "B-03")])
    assert (summary.withheld.spelling, summary.exit_code) == ((2, 1) if is_alike else (0, 0))
    assert summary.spelled_differently == ([(A, "A-03")] if is_alike else [])
    assert (A, row, "assign") in lookups.rows


def test_a_number_that_has_lost_its_zeros_is_another_spelling(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(C, ["0012", "0013"])
    summary = lookups.compare([*fleet(), (C, "12")], remove=True)
    assert lookups.rows == [(C, "12", "assign")]
    assert summary.withheld.spelling == 2


@pytest.mark.parametrize(
    ("row", "held"),
    [
        ("\u04101-7", "A1-7"),
        ("a1-7", "\u0391\u0661-\u0667"),
        ("SN-\u041e1", "SN-O1"),
        ("SN-\u039f1", "sn-o1"),
        ("\u0661\u0662\u0663", "123"),
        ("123", "\u06f1\u06f2\u06f3"),
        ("12.0", "12"),
        ("0012", "12,00"),
        ("12.0", "12.00"),
        ("1.000", "1000"),
    ],
)
def test_look_alikes_of_other_scripts_and_decimal_numbers_are_other_spellings(
    lookups: Lookups, row: str, held: str
) -> None:
    lookups.desk.server.fleet.assign(C, [held, "ELSE"])
    summary = lookups.compare([*fleet(), (C, row)], remove=True, allow_suspect=True, max_unassign="100%")
    assert lookups.rows == [(C, row, "assign")]
    assert summary.spelled_differently == [(C, held)]


@pytest.mark.parametrize(("row", "held"), [("12.5", "12"), ("SN-12.0", "SN-12"), ("\u0416-1", "K-1")])
def test_what_does_not_look_alike_is_no_other_spelling(lookups: Lookups, row: str, held: str) -> None:
    lookups.desk.server.fleet.assign(C, [held])
    summary = lookups.compare([*fleet(), (C, row)], remove=True, max_unassign="100%")
    assert summary.spelled_differently == []


def test_mac_addresses_are_compared_by_spelling_too(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(C, ["aa:bb:cc:dd:ee:ff"])
    lookups.compare([*fleet(), (C, "AABB.CCDD.EEFF")], remove=True)
    assert lookups.rows == [(C, "AABB.CCDD.EEFF", "assign")]


@pytest.mark.parametrize("row", ["bob,SN-1", ",SN-1", "a@x.com,SN-1,too,many", "ann(at)x.com,SN-1"])
def test_nothing_at_all_is_removed_while_the_customer_of_a_row_cannot_be_read(lookups: Lookups, row: str) -> None:
    text = "\n".join(",".join(one) for one in [("customerEmail", "deviceIdentifier"), *fleet("A-03", "B-03")])
    summary = lookups.compare(f"{text}\n{row}\n", remove=True)
    assert lookups.rows == []
    assert (summary.withheld.unreadable, summary.exit_code) == (2, 1)
    assert "first lines: 40" in " ".join(summary.warnings())


def test_an_address_in_a_guessed_encoding_counts_as_unreadable(lookups: Lookups) -> None:
    text = "\n".join(",".join(one) for one in [("customerEmail", "deviceIdentifier"), *fleet("A-03")])
    path = lookups.desk.folder / "fleet.csv"
    path.write_bytes(f"{text}\nmüller@x.com,SN-1\n".encode("cp1252"))
    summary = lookups.compare(str(path), remove=True)
    assert (lookups.rows, summary.withheld.unreadable) == ([], 1)


# Customers


def test_unknown_customers_are_named_and_get_assign_rows(lookups: Lookups) -> None:
    summary = lookups.compare(fleet(more=((C, "C-1"), (C, "C-2"), (D, "D-1"))), remove=True)
    assert lookups.rows == [(C, "C-1", "assign"), (C, "C-2", "assign"), (D, "D-1", "assign")]
    assert (summary.exit_code, summary.fields["unknownCustomers"]) == (1, [C, D])
    assert f"2 customers are unknown to Telemetron: {C}, {D}" in " ".join(summary.warnings())


def test_a_customer_that_cannot_be_asked_gives_exit_code_3_and_no_file(lookups: Lookups) -> None:
    lookups.desk.server.script = lambda seen: Says(400, {"error": "no"}) if seen.body["email"] == B else None
    with pytest.raises(QueryError):
        lookups.compare(fleet(), remove=True)
    assert not lookups.output.exists()
    lookups.desk.server.script = lambda _: None
    lookups.compare(fleet(), remove=True)
    assert sorted(lookups.asked) == [A, B, B]


def test_an_invalid_row_is_told_and_gives_exit_code_1(lookups: Lookups) -> None:
    summary = lookups.compare(fleet(more=((A, ""),)))
    assert (lookups.rows, summary.exit_code, summary.fields["invalid"]) == ([], 1, 1)


def test_a_file_of_invalid_rows_alone_asks_nobody(lookups: Lookups) -> None:
    summary = lookups.compare([(A, "4.9E+14")])
    assert (lookups.rows, summary.exit_code, lookups.asked) == ([], 1, [])


def test_standard_input_is_compared(lookups: Lookups, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(lookups.desk.file("customerEmail,deviceIdentifier\na@x.com,4.9E+14\n"))
    with path.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        from telemetron_batch.comparison.compare import compare_fleet

        compare_fleet(lookups.request("-", allow_suspect=True), surroundings=lookups.surroundings)
    assert lookups.rows == [(A, "4.9E+14", "assign")]


def test_a_large_file_is_compared_part_by_part_with_the_same_result(
    lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    customers = [f"u{number:04}@x.com" for number in range(300)]
    for number, customer in enumerate(customers):
        lookups.desk.server.fleet.assign(customer, [f"D-{number}-{at}" for at in range(3 + (number % 20 == 0))])
    rows = [(customer, f"D-{number}-{at}") for number, customer in enumerate(customers) for at in range(3)]
    rows += [(customers[7], "NEW")]
    lookups.compare(rows, remove=True, rate="1000/s")
    whole = sorted(lookups.rows)
    monkeypatch.setattr("telemetron_batch.storage.spill.SpillLimits.__init__.__defaults__", (1000, 8))
    assert Scratch(lookups.desk.folder / "any").parts == 8
    lookups.compare(rows, remove=True)
    assert sorted(lookups.rows) == whole
    assert len(whole) == 16
    with lookups.output.open(newline="") as file:
        actions = [row["action"] for row in csv.DictReader(file)]
    assert actions == ["unassign"] * 15 + ["assign"]


def test_a_file_that_does_not_exist_is_named(lookups: Lookups) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        lookups.compare("/nowhere/fleet.csv")
