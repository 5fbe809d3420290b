"""Assigns are held because of invalid rows, or because of one device in several spellings."""

import json
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetron_batch.config.config import resolve
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import InputOptions, PlanOptions
from telemetron_batch.input.load import load
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.planning.held_rows import HoldReason
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import summarize
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.rows.rows import RowsBuilder
from telemetron_batch.rows.spellings import find_variants, forms_of
from telemetron_batch.run import pipeline
from telemetron_batch.sharding.report import report_run
from telemetron_batch.storage.spill import Scratch, SpillLimits
from tests.conftest import Desk
from tests.sharding.test_shards import Shards
from tests.support.builders import A, B, C, Row, file_of, keys_of, planned, repeated_rows, sent_rows
from tests.support.scripted import Says

SN, MAC = "SN-1", "aa:bb:cc:dd:ee:01"
MACS = (MAC, "AA-BB-CC-DD-EE-01", "aabb.ccdd.ee01", "AABBCCDDEE01", "AA:BB:CC:DD:EE:01")
DASHES = (SN, "SN\u20131", "SN\u20111", "SN\u22121", "SN\uff0d1", "\uff33\uff2e\uff0d\uff11")
ASSIGN = (B, SN, "assign")
INVALID, SPELLING = HoldReason
MAC_ADDRESS = re.compile(
    r"[0-9a-fA-F]{2}([:. -])[0-9a-fA-F]{2}(\1[0-9a-fA-F]{2}){4}"
    r"|[0-9a-fA-F]{4}([:. -])[0-9a-fA-F]{4}\3[0-9a-fA-F]{4}"
    r"|[0-9a-fA-F]{6}[:. -]?[0-9a-fA-F]{6}"
)
HEADER = "customerEmail,deviceIdentifier,action\n"

ROW = st.tuples(
    st.sampled_from([A, B, C]),
    st.sampled_from([*MACS, *DASHES, "sn-1", "SN-2"]),
    st.sampled_from(["assign", "assign", "unassign", "retire"]),
    st.sampled_from([*[""] * 6, "EMAIL", "CELL_COUNT", "TRAILER"]),
).map(lambda row: (*row[:3], row[3] or "ACTION") if row[2] == "retire" else row)
FILE = st.lists(ROW, max_size=25)


def held_rows(plan: Plan) -> dict[int, tuple[HoldReason, int]]:
    """Return the held rows with their reason and cause."""
    held = plan.held
    columns = (held.rows.tolist(), map(HoldReason, held.reason.tolist()), held.cause.tolist())
    return {row: (reason, cause) for row, reason, cause in zip(*columns, strict=True)}


def held_in(*rows: Row) -> dict[int, tuple[HoldReason, int]]:
    return held_rows(planned(rows, hold=True))


def spelling_of(device: str) -> str:
    """Return the canonical spelling of an identifier, in plain Python."""
    if not device.isascii():
        folded = unicodedata.normalize("NFKC", device)
        device = "".join("-" if sign in "\u2010\u2013\u2212" else sign for sign in folded if sign != "\u200b")
    return re.sub("[:. -]", "", device).upper() if MAC_ADDRESS.fullmatch(device) else device


def reasons_by_the_rule(file: Sequence[Row]) -> dict[int, HoldReason]:
    """Return the reasons to hold each assign, by comparing each row with all others."""
    found = {}
    repeats = repeated_rows(planned(file))
    for at, (customer, device, action, problem) in enumerate(file):
        if problem or action != "assign" or repeats[at] >= 0:
            continue
        alike = [row for row in file if spelling_of(row[1]) == spelling_of(device)]
        may_unassign = [row for row in alike if row[3] not in ("", "TRAILER")]
        if any(row[2] != "assign" or row[3] == "CELL_COUNT" for row in may_unassign):
            found[at] = INVALID
        elif any(row[0] != customer and row[1] != device for row in alike if row[2:] == ("unassign", "")):
            found[at] = SPELLING
    return found


# Invalid rows


@pytest.mark.parametrize(
    "invalid",
    [
        (A, SN, "retire", "ACTION"),
        (A, SN, "unassign", "EMAIL"),
        ("", SN, "unassign", "EMPTY_KEY"),
        (A, SN, "", "EMPTY_KEY"),
        (A, SN, "retire", "EMAIL"),
        (A, SN, "unassign", "CELL_COUNT"),
        (A, SN, "assign", "CELL_COUNT"),
    ],
)
def test_an_assign_is_held_whose_device_an_invalid_row_may_take_away(invalid: Row) -> None:
    assert held_in(invalid, ASSIGN) == {1: (INVALID, 0)}
    assert held_in(ASSIGN, (B, "SN-2", "assign"), invalid) == {0: (INVALID, 2)}
    assert held_in(invalid, ASSIGN, invalid, (C, SN, "assign")) == {1: (INVALID, 0), 3: (INVALID, 0)}


@pytest.mark.parametrize(
    "invalid",
    [
        (A, SN, "assign", "EMAIL"),
        (A, "SN-2", "retire", "ACTION"),
        (A, "sn-1", "retire", "ACTION"),
        (A, "", "unassign", "EMPTY_KEY"),
        (A, SN, "unassign", "TRAILER"),
        (A, SN, "retire", "TRAILER"),
    ],
)
def test_an_invalid_row_holds_nothing_that_gives_another_device_or_closes_the_file(invalid: Row) -> None:
    plan = planned([invalid, ASSIGN, (B, "", "assign", "EMPTY_KEY")], hold=True)
    assert (held_rows(plan), sent_rows(plan)) == ({}, [1])


def test_an_unassign_is_never_held() -> None:
    plan = planned([(A, SN, "retire", "ACTION"), (B, SN, "unassign")], hold=True)
    assert (held_rows(plan), sent_rows(plan)) == ({}, [1])


def test_a_repeated_assign_is_a_duplicate_of_the_one_that_is_held() -> None:
    plan = planned([(A, SN, "retire", "ACTION"), ASSIGN, ASSIGN], hold=True)
    assert (held_rows(plan), repeated_rows(plan), sent_rows(plan)) == ({1: (INVALID, 0)}, [-1, -1, 1], [])


def test_nothing_is_held_with_no_hold() -> None:
    plan = planned([(A, SN, "retire", "ACTION"), ASSIGN, (A, MACS[0], "unassign"), (B, MACS[1], "assign")])
    assert (held_rows(plan), plan.sent_count, plan.spelling_variants.count) == ({}, 3, 1)


@pytest.mark.parametrize("line", [f"{A},x,{SN},unassign", f"{A},{SN}", f"{SN},unassign", f"{A},, {SN} ,unassign,x"])
def test_any_cell_of_a_row_with_a_wrong_number_of_them_may_be_its_identifier(tmp_path: Path, line: str) -> None:
    assert held_rows(of_text(tmp_path, f"{line}\n{B},{SN},assign\n{B},SN-2,assign\n")) == {1: (INVALID, 0)}


def test_a_row_with_a_wrong_number_of_cells_takes_nothing_away_where_all_rows_are_assigns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"customerEmail,deviceIdentifier\n{A},{SN},x\n{B},{SN}\n")
    loaded = load([str(path)], InputOptions(action=Action.ASSIGN), spool=tmp_path)
    assert sent_rows(plan_calls(loaded.rows, PlanOptions())) == [1]


def test_the_last_line_holds_nothing_if_it_is_a_trailer(tmp_path: Path) -> None:
    assert held_rows(of_text(tmp_path, f"{B},1,assign\nTotal,1\n")) == {}
    assert held_rows(of_text(tmp_path, f"{B},1,assign\nretired,1\n")) == {0: (INVALID, 1)}


def test_an_invisible_character_in_an_invalid_identifier_is_ignored(tmp_path: Path) -> None:
    assert held_rows(of_text(tmp_path, f"{A},SN-\u200b1,unassign\n{B},{SN},assign\n")) == {1: (INVALID, 0)}


def test_a_journal_of_an_earlier_version_has_no_such_cells() -> None:
    builder = RowsBuilder()
    builder.add(0, keys_of([(A, SN, "unassign", "CELL_COUNT"), ASSIGN]).drop_columns(["possibleIdentifiers"]))
    assert held_rows(plan_calls(builder.rows(), PlanOptions())) == {}


def of_text(folder: Path, lines: str) -> Plan:
    """Return the plan of a file with these lines."""
    path = folder / "rows.csv"
    path.write_text(HEADER + lines, encoding="utf-8", newline="")
    return plan_calls(load([str(path)], InputOptions(), spool=folder).rows, PlanOptions())


# Spellings


@pytest.mark.parametrize("spellings", [MACS, DASHES, ("SN-\u00e4", "SN-a\u0308")], ids=["mac", "dashes", "composed"])
def test_a_transfer_across_spellings_is_held(spellings: tuple[str, ...]) -> None:
    for one in spellings:
        for other in spellings:
            expected = {} if one == other else {1: (SPELLING, 0)}
            assert held_in((A, one, "unassign"), (B, other, "assign")) == expected
            assert held_in((B, other, "assign"), (A, one, "unassign")).keys() == ({0} if expected else set())


@pytest.mark.parametrize("others", [("SN-1", "sn-1"), ("SN-1", "SN1"), ("AABBCCDDEEG1", "aabbccddeeg1")])
def test_plain_identifiers_that_differ_are_different_devices(others: tuple[str, str]) -> None:
    plan = planned([(A, others[0], "unassign"), (B, others[1], "assign")], hold=True)
    assert (held_rows(plan), plan.spelling_variants.count, plan.sent_count) == ({}, 0, 2)


def test_a_customer_may_change_the_spelling_of_their_own_device() -> None:
    assert held_in((A, MACS[0], "unassign"), (A, MACS[1], "assign"), (B, MACS[0], "assign")) == {}


def test_an_invalid_row_holds_its_device_in_any_spelling() -> None:
    assert held_in((A, MACS[0], "retire", "ACTION"), (B, MACS[2], "assign")) == {1: (INVALID, 0)}
    assert held_in((A, MACS[0], "unassign", "CELL_COUNT"), (B, MACS[2], "assign")) == {1: (INVALID, 0)}


def test_spellings_are_reported_with_their_first_rows_also_without_a_transfer() -> None:
    rows = [(A, device, "assign") for device in (SN, *MACS, MACS[0], *DASHES)]
    first, second = planned(rows).spelling_variants.first
    assert (first.is_mac, first.rows, first.spellings) == (False, (0, 8, 9, 10, 11, 12), 6)
    assert (second.is_mac, second.rows, second.spellings) == (True, (1, 2, 3, 4, 5), 5)


TEXT = st.sampled_from(
    [*MACS, *DASHES, "sn-1", "12-34-56-78-90-12", "123456789012", "aabbcc-ddee01", "aa:bb-cc:dd:ee:01"]
)
TEXTS = st.lists(TEXT | st.text("aAbBgG019:-. \u2013\u00e4\u200b", max_size=17), max_size=12)


@given(TEXTS)
def test_texts_are_compared_as_plain_python_would(texts: list[str]) -> None:
    found = find_variants(pa.array(texts, pa.string()))
    spelling = dict(zip(found.places.tolist(), found.spelling.to_pylist(), strict=True))
    assert [spelling.get(at, text) for at, text in enumerate(texts)] == [*map(spelling_of, texts)]
    is_mac = {at for at, text in enumerate(texts) if MAC_ADDRESS.fullmatch(spelling_of(text))}
    assert {*found.places[found.is_mac].tolist()} == is_mac


@given(TEXTS, st.integers(0, 3))
def test_the_preselection_misses_no_identifier_in_several_spellings(texts: list[str], skipped: int) -> None:
    column = pa.array(texts, pa.string()).slice(min(skipped, len(texts)))
    found = find_variants(column)
    spelt = {*zip(found.spelling.to_pylist(), column.take(pa.array(found.places)).to_pylist(), strict=True)}
    spelt |= {(text, text) for at, text in enumerate(column.to_pylist()) if at not in found.places}
    if len({spelling for spelling, _ in spelt}) < len(spelt):
        assert forms_of(column).are_several


@pytest.mark.parametrize("device", MACS)
def test_one_spelling_of_all_mac_addresses_is_recognised_quickly(device: str) -> None:
    texts = [device.replace("1", digit) for digit in "123456789"] + ["SN-1", "ABC", "dev-aF", "SN-000000001", ""]
    assert not forms_of(pa.array(texts)).are_several
    assert not forms_of(pa.array(texts[:9])).are_several


# The rule as a whole


@given(FILE)
def test_held_are_just_the_assigns_that_the_rule_names(file: list[Row]) -> None:
    plan = planned(file, hold=True)
    assert {row: reason for row, (reason, _) in held_rows(plan).items()} == reasons_by_the_rule(file)
    for row, (reason, cause) in held_rows(plan).items():
        customer, device, action, problem = file[cause]
        assert spelling_of(device) == spelling_of(file[row][1])
        assert bool(problem) == (reason is INVALID)
        assert reason is INVALID or (action == "unassign" and customer != file[row][0] and device != file[row][1])


def stages_of(plan: Plan) -> dict[int, int]:
    """Return the stage of every row that is sent."""
    calls = range(1, plan.calls + 1)
    return {row: plan.call(number).stage for number in calls for row in plan.rows_of(number).tolist()}


@given(FILE)
def test_rows_that_are_held_change_nothing_for_the_others(file: list[Row]) -> None:
    plan, other = planned(file, hold=True), planned(file)
    stages = stages_of(other)
    assert stages_of(plan) == {row: stages[row] for row in stages if row not in held_rows(plan)}
    assert (repeated_rows(plan), plan.superseding_rows.tolist()) == (
        repeated_rows(other),
        other.superseding_rows.tolist(),
    )


@given(FILE, st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_number_of_partitions_does_not_change_the_held_rows(tmp_path: Path, file: list[Row], parts: int) -> None:
    whole = planned(file, hold=True)
    with Scratch(tmp_path / "scratch", SpillLimits(memory=0, parts=parts)) as scratch:
        spread = planned(file[:7], file[7:], hold=True, scratch=scratch)
        assert held_rows(spread) == held_rows(whole)
        assert (spread.spelling_variants, spread.fingerprint()) == (whole.spelling_variants, whole.fingerprint())


@given(FILE, st.data())
def test_a_row_that_an_earlier_run_confirmed_is_not_held(file: list[Row], data: st.DataObject) -> None:
    devices = sorted({row[1] for row in file})
    settled = data.draw(st.sets(st.sampled_from(devices))) if devices else set()
    left_out = np.array([int(not row[3] and row[1] in settled) for row in file], np.int64)
    plan = planned(file, hold=True, left_out=left_out)
    assert held_rows(plan).keys() == {row for row in reasons_by_the_rule(file) if not left_out[row]}


def test_the_fingerprint_covers_what_is_held_and_why() -> None:
    rows = [(A, SN, "retire", "ACTION"), (A, SN, "retire", "ACTION"), ASSIGN]
    other = [(A, SN, "assign", "EMAIL"), *rows[1:]]
    of_each = {planned(rows, hold=True).fingerprint(), planned(other, hold=True).fingerprint()}
    assert len(of_each | {planned(rows).fingerprint()}) == 3
    assert planned(rows[2:], hold=True).fingerprint() == planned(rows[2:]).fingerprint()


# No device with two customers

NAMES = (SN, "AABBCCDDEE01")
OWNERS = st.tuples(*[st.sampled_from(["", A, B, C])] * 2)
DAMAGES = st.sampled_from(["", "", "word", "email", "more cells", "fewer cells"])
CUSTOMERS = st.sampled_from([A, B, C])
Written = tuple[str, str, str, str, int]
"""Intended customer, device and action; the damage to the row, and its position."""


def moves(spellings: tuple[str, ...]) -> st.SearchStrategy[list[Written]]:
    """Draw a transfer of a device, perhaps in another spelling or in a damaged row."""
    spelt = st.sampled_from(spellings[:2])
    taken = st.tuples(CUSTOMERS, spelt, st.just("unassign"), DAMAGES, st.integers(0, 3))
    given = st.tuples(CUSTOMERS, spelt, st.just("assign"), st.just(""), st.just(0))
    return st.tuples(taken, given).map(list).flatmap(st.permutations)


ALONE = st.tuples(CUSTOMERS, st.sampled_from([*MACS, *DASHES]), st.sampled_from(["assign", "unassign"]), DAMAGES)
WRITTEN = st.lists(moves(MACS) | moves(DASHES) | ALONE.map(lambda row: [(*row, 1)]), min_size=1, max_size=5).map(
    lambda parts: [row for part in parts for row in part]
)


def line_of(row: Written) -> str:
    """Return the line of a row in a file; a damaged row has lost its meaning."""
    customer, device, action, damage, place = row
    word = "retire" if damage == "word" else action
    cells = [customer.split(".")[0] if damage == "email" else customer, device, word]
    if damage == "more cells":
        cells.insert(place, "x")
    if damage == "fewer cells":
        del cells[place // 2 * 2 % 4]
    return ",".join(cells) + "\n"


def together(plan: Plan, holdings: dict[str, set[str]], known_as: dict[str, str]) -> Iterator[str]:
    """Return the devices that have two customers after the plan is sent; unknown spellings have no effect."""
    for number in range(1, plan.calls + 1):
        call = plan.call(number)
        for name in (known_as[device] for device in call.devices if device in known_as):
            (set.add if call.action is Action.ASSIGN else set.discard)(holdings[name], call.customer)
            if len(holdings[name]) > 1:
                yield name


@given(WRITTEN, OWNERS)
@settings(max_examples=200)
def test_no_device_has_two_customers_unless_the_file_asks_for_it(file: list[Written], owners: tuple[str, str]) -> None:
    def holdings() -> dict[str, set[str]]:
        return {name: {owner} - {""} for name, owner in zip(NAMES, owners, strict=True)}

    meant = planned([(customer, spelling_of(device), action) for customer, device, action, *_ in file])
    wanted = {*together(meant, holdings(), dict(zip(NAMES, NAMES, strict=True)))}
    with tempfile.TemporaryDirectory() as folder:
        plan = of_text(Path(folder), "".join(map(line_of, file)))
    assert {*together(plan, holdings(), dict(zip((SN, MAC), NAMES, strict=True)))} <= wanted


# In words


def digested(*files: Sequence[Row], hold: bool = True) -> Any:
    names = [file_of(rows=len(file), name=f"{at}.csv") for at, file in enumerate(files)]
    return summarize(planned(*files, hold=hold), names, Rate.parse("10/s"))


def test_the_plan_counts_what_is_held_and_names_the_lines_of_the_invalid_rows() -> None:
    told = digested([(A, SN, "retire", "ACTION"), ASSIGN, (C, SN, "assign"), ASSIGN])
    assert (told.held_by_invalid, told.as_json()["heldByInvalid"]) == (2, 2)
    assert told.held_sentences == ["2 assigns are held: an invalid row may take the device away (line 2)"]
    assert told.devices + told.duplicates + told.invalid + told.held_by_invalid == told.rows
    assert digested([ASSIGN]).held_sentences == []


def test_the_plan_warns_of_spellings_with_their_lines() -> None:
    told = digested([(A, device, "assign") for device in MACS])
    assert told.warnings == ["one MAC address in 5 spellings (lines 2 to 6)"]
    assert told.as_json()["warnings"] == told.warnings
    transfer = digested([(A, SN, "unassign")], [(B, "SN-9", "assign"), (B, DASHES[1], "assign")])
    assert transfer.warnings == ["one identifier in 2 spellings (line 2 of 0.csv; line 3 of 1.csv)"]
    assert transfer.held_sentences == ["1 assign is held: the device is unassigned in another spelling"]


def test_of_very_many_spellings_the_first_are_named() -> None:
    macs = [f"aabbccddee{number:02x}" for number in range(7)]
    told = digested([(A, device, "assign") for device in [*macs, *map(str.upper, macs)]])
    assert told.warnings[0] == "one MAC address in 2 spellings (lines 2 and 9)"
    assert told.warnings[5:] == ["2 more identifiers in several spellings"]
    rows = [(A, f"SN-{at}", "retire", "ACTION") for at in range(40)]
    rows = [row for row in rows for _ in range(2)]
    many = digested([*rows, *((B, f"SN-{at}", "assign") for at in range(40))])
    assert many.held_sentences == [
        "40 assigns are held: an invalid row may take the device away (lines 2, 4, 6, 8, 10, ...)"
    ]


# Whole runs

TRANSFERS = [
    (A, "D1", "retire"),
    (B, "D1", "assign"),
    ("a@x", "D2", "unassign"),
    (B, "D2", "assign"),
    (B, "D2", "assign"),
]
ACROSS = [*((A, device, "unassign") for device in MACS[:4]), (B, MACS[4], "assign")]


def test_a_run_holds_them_and_says_why(desk: Desk) -> None:
    for device in ("D1", "D2", MACS[4]):
        desk.server.fleet.assign(A, [device])
    ran = desk.run([*TRANSFERS, *ACROSS])
    assert ran.outcomes == ["invalid", "held", "invalid", "held", "duplicate", *["skipped"] * 4, "held"]
    assert [ran.rows[at]["detail"] for at in (1, 3, 4, 9)] == [
        "may still be with another customer: line 2, an invalid row, may take this device away",
        "may still be with another customer: line 4, an invalid row, may take this device away",
        "same as line 5: held",
        "may still be with another customer: line 7 unassigns this device in another spelling",
    ]
    assert ran.summary.exit_code == 1
    assert [desk.server.fleet.owners(device) for device in ("D1", "D2", MACS[4])] == [{A}] * 3
    page = (ran.folder / "report.html").read_text()
    assert "2 assigns are held: an invalid row may take the device away (lines 2 and 4)" in page
    assert "one MAC address in 5 spellings (lines 7 to 11)" in page
    attention = (ran.folder / "attention.csv").read_text()
    assert attention.count('"held"') == 3


def test_no_hold_sends_them(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-9"])
    ran = desk.run([*TRANSFERS, *ACROSS], no_hold=True)
    assert ran.outcomes == ["invalid", "assigned", "invalid", "assigned", "duplicate", *["skipped"] * 4, "assigned"]


def test_the_files_are_written_again_from_the_journal_alone(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-9"])
    ran = desk.run(HEADER + f"{A},x,D1,unassign\n{B},D1,assign\n{A},D3,unassign\n")
    before = ran.rows
    assert ran.outcomes == ["invalid", "held", "skipped"]
    (ran.folder / "reconciliation.csv").unlink()
    report_run(ran.folder)
    assert ran.rows == before


def test_a_run_of_an_earlier_version_is_resumed_without_such_holds(desk: Desk) -> None:
    desk.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    stopped = desk.run(TRANSFERS, no_hold=True)
    assert stopped.outcomes[1] == "notSent"
    with closing(Journal(stopped.folder / JOURNAL_NAME)) as journal:
        journal.set_facts(shape={**journal.fact("shape"), "no_hold": False}, holdsByInput=None)
    desk.server.script = lambda _: None
    assert desk.run(TRANSFERS).outcomes == ["invalid", "assigned", "invalid", "assigned", "duplicate"]


def test_other_options_are_refused_under_the_same_id(desk: Desk) -> None:
    desk.run(TRANSFERS)
    with pytest.raises(Exception, match="started with other options \\(--no-hold\\)"):
        desk.run(TRANSFERS, no_hold=True)


def test_for_the_next_run_a_held_row_counts_as_not_sent(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-9"])
    rows = [*TRANSFERS, (C, "D3", "assign")]
    first = desk.run(rows, run_id="n1", since_last=True)
    second = desk.run(rows, run_id="n2", since_last=True)
    mended = [(A, "D1", "unassign"), *rows[1:]]
    third = desk.run(mended, run_id="n3", since_last=True)
    assert first.outcomes[1::2] == ["held", "held", "assigned"]
    assert second.outcomes[1::2] == ["held", "held", "unchanged"]
    assert third.outcomes == ["skipped", "assigned", "invalid", "held", "duplicate", "unchanged"]


def test_an_unchanged_row_stays_unchanged_beside_an_invalid_one(desk: Desk) -> None:
    desk.run([(B, "D1", "assign")], run_id="n1", since_last=True)
    second = desk.run([(B, "D1", "assign"), (A, "D1", "retire")], run_id="n2", since_last=True)
    assert second.outcomes == ["unchanged", "invalid"]


def test_held_rows_are_in_no_shard_but_in_the_merged_report(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-9"])
    rows = [*TRANSFERS, *ACROSS, (C, "D3", "assign"), (A, "D4", "assign")]
    shards = Shards(desk, rows, 2)
    assert shards.plan.as_json()["heldByInvalid"] == 2
    shards.run_all()
    ran = shards.report()
    assert ran.outcomes[:5] == ["invalid", "held", "invalid", "held", "duplicate"]
    assert ran.outcomes[5:] == [*["skipped"] * 4, "held", "assigned", "assigned"]


def test_the_file_is_named_where_there_are_several(desk: Desk) -> None:
    paths = [desk.file(rows, name) for rows, name in (([(A, SN, "retire")], "a.csv"), ([ASSIGN], "b.csv"))]
    options = {"sandbox": True, "reports_dir": str(desk.folder / "reports"), "run_id": "r1"}
    summary = pipeline.run(resolve(paths, options, {}), observer=desk.face)
    told = (summary.folder / "reconciliation.csv").read_text()
    assert "may still be with another customer: line 2 of a.csv, an invalid row, may take this device away" in told
    assert json.loads((summary.folder / "summary.json").read_text())["counts"]["held"] == 1
