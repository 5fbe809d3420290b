"""`devicesRemaining` of each row, and the customers whose last unassign call left no devices, or some."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reconciliation.remaining_devices import find_remaining_devices
from telemetron_batch.sharding.report import report_run
from tests.conftest import Desk, Ran
from tests.support.builders import Row, block_of, keys_of, planned, settle
from tests.support.scripted import Event, Loses, Rewrites, Says, Seen, once

A, B, C, D = "a@x.com", "b@x.com", "c@x.com", "d@x.com"
BAD_REQUEST = Says(400, {"error": "Something is wrong with this customer"})


def unassigns(*devices: str, customer: str = A) -> list[tuple[str, str, str]]:
    return [(customer, device, "unassign") for device in devices]


@pytest.fixture
def held(desk: Desk) -> Desk:
    """A desk whose customers hold three devices each."""
    desk.server.fleet.assign(A, ["SN-7", "SN-8", "SN-9"])
    desk.server.fleet.assign(B, ["SN-1", "SN-2", "SN-3"])
    return desk


def page(ran: Ran) -> str:
    return (ran.folder / "report.html").read_text(encoding="utf-8")


def for_device(device: str, event: Event) -> Callable[[Seen], Event]:
    """Let this happen to every request that contains the device."""
    return lambda seen: event if device in seen.devices else None


# The number of each row


def test_devices_remaining_is_the_number_in_the_answer_to_the_row(held: Desk) -> None:
    ran = held.run([*unassigns("SN-7"), *unassigns("SN-1", customer=B), (B, "SN-30", "assign")])
    assert [row["devicesRemaining"] for row in ran.rows] == ["2", "2", ""]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"devicesRemaining": ["SN-8", "SN-8", "SN-9"]}, "2"),
        ({"devicesRemaining": []}, "0"),
        ({"devicesRemaining": [{"identifier": "SN-8"}, "SN-9"]}, "2"),
        ({"devicesRemaining": None}, ""),
        ({"devicesRemaining": "SN-8"}, ""),
        ({"devicesRemaining": [["SN-8"]]}, ""),
        ({"devicesRemaining": [8]}, ""),
    ],
)
def test_devices_remaining_is_read_only_from_a_list_of_devices(held: Desk, told: dict, shown: str) -> None:
    held.server.script = lambda _: Rewrites(lambda body: body | told)
    ran = held.run(unassigns("SN-7"))
    assert ran.outcomes == ["unassigned"]
    assert [row["devicesRemaining"] for row in ran.rows] == [shown]


def test_devices_remaining_is_blank_without_the_field_or_an_answer(held: Desk) -> None:
    held.server.script = lambda seen: (
        Rewrites(lambda body: {name: told for name, told in body.items() if name != "devicesRemaining"})
        if seen.customer == A
        else Says(400, {"error": "Something is wrong with this customer"})
    )
    ran = held.run([*unassigns("SN-7"), *unassigns("SN-1", customer=B)], attempts="1")
    assert ran.outcomes == ["unassigned", "failed"]
    assert [row["devicesRemaining"] for row in ran.rows] == ["", ""]


def totals(ran: Ran) -> tuple[int, int]:
    return ran.json["customersWithoutDevices"], ran.json["customersStillHolding"]


# Which call counts


def test_the_last_call_decides_whether_a_customer_has_devices_left(held: Desk) -> None:
    rows = [*unassigns("SN-7", "SN-8", "SN-9"), *unassigns("SN-1", "SN-2", customer=B)]
    assert totals(held.run(rows, chunk_size="1")) == (1, 1)


def test_the_last_unassign_stage_decides(held: Desk) -> None:
    rows = [*unassigns("SN-7", "SN-8"), (A, "SN-7", "assign"), *unassigns("SN-7", "SN-9")]
    ran = held.run(rows)
    assert [row["devicesRemaining"] for row in ran.rows] == ["0", "0", "", "0", "0"]
    assert totals(ran) == (1, 0)


def test_a_customer_whose_last_call_is_unclear_is_not_counted(held: Desk) -> None:
    held.server.script = for_device("SN-8", Loses())
    ran = held.run(unassigns("SN-7", "SN-8"), chunk_size="1", attempts="1")
    assert ran.outcomes == ["unassigned", "unconfirmed"]
    assert [row["devicesRemaining"] for row in ran.rows] == ["2", ""]
    assert totals(ran) == (0, 0)


def test_an_unclear_call_before_the_last_one_does_not_matter(held: Desk) -> None:
    held.server.script = for_device("SN-7", Loses(acted=False))
    ran = held.run(unassigns("SN-7", "SN-8"), chunk_size="1", attempts="1")
    assert ran.outcomes == ["unconfirmed", "unassigned"]
    assert totals(ran) == (0, 1)


def test_a_repeated_attempt_with_an_answer_makes_the_call_clear(held: Desk) -> None:
    held.server.script = once(Loses())
    ran = held.run(unassigns("SN-7", "SN-8", "SN-9"))
    assert [row["devicesRemaining"] for row in ran.rows] == ["0"] * 3
    assert totals(ran) == (1, 0)


def test_a_customer_whose_last_call_failed_is_not_counted(held: Desk) -> None:
    held.server.script = for_device("SN-8", BAD_REQUEST)
    ran = held.run(unassigns("SN-7", "SN-8"), chunk_size="1")
    assert ran.outcomes == ["unassigned", "failed"]
    assert totals(ran) == (0, 0)


def test_a_device_refused_within_the_last_call_does_not_hide_the_number_of_the_others(held: Desk) -> None:
    held.server.script = for_device("SN-8", Says(400, {"error": "device SN-8 is locked"}))
    ran = held.run(unassigns("SN-7", "SN-8", "SN-9"))
    assert ran.outcomes == ["unassigned", "failed", "unassigned"]
    assert [row["devicesRemaining"] for row in ran.rows] == ["1", "", "1"]
    assert totals(ran) == (0, 1)


def test_a_call_that_was_never_sent_is_not_the_last_one(held: Desk) -> None:
    held.server.script = for_device("SN-8", Says(401, {"error": "Unauthorized"}))
    ran = held.run(unassigns("SN-7", "SN-8"), chunk_size="1")
    assert ran.outcomes == ["unassigned", "notSent"]
    assert totals(ran) == (0, 1)


def test_an_answer_without_the_list_leaves_the_customer_uncounted(held: Desk) -> None:
    held.server.script = lambda _: Rewrites(lambda body: body | {"devicesRemaining": None})
    assert totals(held.run(unassigns("SN-7", "SN-8", "SN-9"))) == (0, 0)


def test_a_resumed_run_counts_like_an_uninterrupted_one(held: Desk) -> None:
    rows = [*unassigns("SN-7", "SN-8", "SN-9"), *unassigns("SN-1", "SN-2", customer=B)]
    held.server.script = for_device("SN-8", Says(401, {"error": "Unauthorized"}))
    stopped = held.run(rows, chunk_size="1", concurrency="1")
    assert stopped.summary.exit_code == 4
    held.server.script = lambda _: None
    assert totals(held.run(rows, chunk_size="1", concurrency="1")) == (1, 1)


def test_the_newest_answer_to_a_part_of_the_last_call_counts() -> None:
    plan = planned(unassigns("SN-7", "SN-8"))
    ledger, taken = Ledger(plan), DeviceResult(Outcome.UNASSIGNED)
    settle(ledger, (1, Answer({1: taken}, devices_remaining=1)), (1, Answer({0: taken}, devices_remaining=0)))
    found = find_remaining_devices(ledger.close(""), [])
    assert (found.without_devices, found.still_holding) == (1, 0)


def test_a_call_whose_record_may_be_lost_may_be_the_last_one() -> None:
    plan = planned(unassigns("SN-7", "SN-8"), chunk_size=1)
    ledger = Ledger(plan)
    settle(ledger, (1, Answer({0: DeviceResult(Outcome.UNASSIGNED)}, devices_remaining=1)))
    found = find_remaining_devices(ledger.close("records are lost", unproven_outcomes=[Outcome.NOT_SENT]), [])
    assert (found.without_devices, found.still_holding) == (0, 0)


def test_a_verification_does_not_make_an_unclear_last_call_count(held: Desk) -> None:
    def script(seen: Seen) -> Event:
        # The first half of the call is answered, the second one is lost.
        if len(seen.devices) == 2:
            return Says(413, {"error": "too large"})
        return Loses() if "SN-8" in seen.devices else None

    held.server.script = script
    ran = held.run(unassigns("SN-7", "SN-8"), attempts="1")
    assert ran.outcomes == ["unassigned", "unconfirmed"]
    verified = held.verify(ran)
    assert verified.outcomes == ["unassigned", "skipped"]
    assert totals(ran) == totals(verified) == (0, 0)


def test_a_repeated_report_says_the_same(held: Desk) -> None:
    ran = held.run([*unassigns("SN-7"), *unassigns("SN-1", "SN-2", "SN-3", customer=B)])
    before = page(ran)
    assert report_run(ran.folder).fields["customersStillHolding"] == 1
    assert page(ran) == before


# Which customers count


def test_a_customer_with_a_later_assign_is_not_without_devices(held: Desk) -> None:
    ran = held.run([*unassigns("SN-7", "SN-8", "SN-9"), (A, "SN-30", "assign")])
    assert ran.outcomes == ["unassigned"] * 3 + ["assigned"]
    assert totals(ran) == (0, 0)


def test_a_customer_with_a_later_unclear_assign_is_not_without_devices(held: Desk) -> None:
    held.server.script = for_device("SN-30", Loses())
    ran = held.run([*unassigns("SN-7", "SN-8", "SN-9"), (A, "SN-30", "assign")], attempts="1")
    assert ran.outcomes == ["unassigned"] * 3 + ["unconfirmed"]
    assert totals(ran) == (0, 0)


def test_a_skipped_assign_leaves_the_customer_without_devices(held: Desk) -> None:
    assert totals(held.run([*unassigns("SN-7", "SN-8", "SN-9"), (A, "UNKNOWN-1", "assign")])) == (1, 0)


@pytest.mark.parametrize(
    "other",
    [(A, "SN-30", "assign"), (A, "1.5E+11", "assign"), (A, "SN-31", "nonsense")],
    ids=["sent", "invalid", "of unknown action"],
)
def test_a_customer_with_other_rows_than_unassigns_is_not_counted_as_still_holding(
    held: Desk, other: tuple[str, str, str]
) -> None:
    ran = held.run([*unassigns("SN-7"), *unassigns("SN-1", customer=B), other])
    assert totals(ran) == (0, 1)


def test_an_invalid_or_repeated_unassign_is_an_unassign(held: Desk) -> None:
    ran = held.run([*unassigns("SN-7", "1.5E+11", "SN-7"), (C, "1.5E+11", "assign")])
    assert ran.outcomes == ["unassigned", "invalid", "duplicate", "invalid"]
    assert totals(ran) == (0, 1)


def test_a_customer_with_a_held_assign_is_not_counted_as_still_holding(held: Desk) -> None:
    # The assign is held by the plan: the invalid row may take the device from B first.
    ran = held.run([*unassigns("SN-7"), (B, "SN-2", "unassign", "too many cells"), (A, "SN-2", "assign")])
    assert ran.outcomes == ["unassigned", "invalid", "held"]
    assert totals(ran) == (0, 0)


def test_a_customer_with_an_unchanged_assign_is_not_counted_as_still_holding(held: Desk) -> None:
    held.run([(A, "SN-7", "assign")], run_id="first", since_last=True)
    ran = held.run([(A, "SN-7", "assign"), *unassigns("SN-8")], run_id="second", since_last=True)
    assert ran.outcomes == ["unchanged", "unassigned"]
    assert totals(ran) == (0, 0)


def test_a_row_whose_customer_cannot_be_read_belongs_to_no_customer(held: Desk) -> None:
    ran = held.run([*unassigns("SN-7"), (A, "SN-30", "assign", "too many cells")])
    assert ran.outcomes == ["unassigned", "invalid"]
    assert totals(ran) == (0, 1)


# Files


def test_the_page_names_the_customers_who_still_have_devices_and_how_many(held: Desk) -> None:
    ran = held.run([*unassigns("SN-7"), *unassigns("SN-1", "SN-2", "SN-3", customer=B)])
    section = page(ran).partition('<section id="unassigns"')[2].partition("</section>")[0]
    assert "1&nbsp;customer has no device left, and 1&nbsp;customer with only unassign rows still has some" in section
    assert f'<tr><th scope="row"><bdi class="cell">{A}</bdi></th><td class="num">2</td></tr>' in section
    assert B not in section


def test_the_page_names_twenty_customers_with_most_devices_and_counts_the_others(desk: Desk) -> None:
    for at in range(1, 24):
        desk.server.fleet.assign(f"c{at:02}@x.com", [f"C{at}-{number}" for number in range(at + 1)])
    ran = desk.run([(f"c{at:02}@x.com", f"C{at}-0", "unassign") for at in range(1, 24)])
    section = page(ran).partition('<section id="unassigns"')[2].partition("</section>")[0]
    assert "the 20 with most devices, and 3 more" in section
    assert [f"c{at:02}@x.com" in section for at in range(1, 24)] == [False] * 3 + [True] * 20
    assert section.index("c23@x.com") < section.index("c22@x.com")


def test_the_workbook_has_both_totals_on_its_summary(held: Desk) -> None:
    rows = [*unassigns("SN-7"), *unassigns("SN-1", "SN-2", "SN-3", customer=B)]
    book = CalamineWorkbook.from_path(held.run(rows, xlsx=True).folder / "reconciliation.xlsx")
    lines = [line[:2] for name in book.sheet_names for line in book.get_sheet_by_name(name).to_python()]
    assert ["customers without devices", "1"] in lines
    assert ["customers still holding", "1"] in lines


# Any answers


class Part(NamedTuple):
    """What becomes of some devices of a call."""

    outcome: Outcome
    listed: int | None = None
    """The number of devices that the answer lists."""
    unheard: bool = False
    """Whether it was sent and the run stopped before an answer."""


ANSWERS = {
    "unassign": [
        *(Part(outcome, listed) for outcome in (Outcome.UNASSIGNED, Outcome.SKIPPED) for listed in (None, 0, 1, 2)),
        Part(Outcome.FAILED),
        Part(Outcome.UNCONFIRMED),
        Part(Outcome.UNCONFIRMED, 0),  # left out of an answer that has the list
        Part(Outcome.UNCONFIRMED, unheard=True),
        Part(Outcome.NOT_SENT),
    ],
    "assign": [
        *map(Part, (Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.SKIPPED, Outcome.FAILED, Outcome.HELD)),
        Part(Outcome.UNCONFIRMED),
        Part(Outcome.UNCONFIRMED, unheard=True),
        Part(Outcome.NOT_SENT),
    ],
}
ROW = st.tuples(
    st.sampled_from([A, B]),
    st.sampled_from(["SN-1", "SN-2", "SN-3", "SN-4"]),
    st.sampled_from(["unassign", "unassign", "unassign", "assign"]),
    st.sampled_from(["", "", "", "", "", "DAMAGED"]),
)


def expected(rows: Sequence[Row], plan: Plan, parts: Sequence[tuple[int, Part]]) -> tuple[int, dict[str, int]]:
    """Return the number of customers without devices, and those who still hold some, one row after another."""
    without, holding = 0, {}
    for customer in {row[0] for row in rows}:
        mine = [(at, plan.call(number), part) for at, (number, part) in enumerate(parts)]
        mine = [one for one in mine if one[1].customer == customer and one[2].outcome is not Outcome.NOT_SENT]
        mine.sort(key=lambda one: one[2].unheard)  # what was under way when the run stopped came last
        taken = [(at, call.number, part) for at, (_, call, part) in enumerate(mine) if call.action == "unassign"]
        last = [(at, part) for at, number, part in taken if number == taken[-1][1]]
        known = [part.listed for _, part in last if part.listed is not None]
        if not known or any(part.outcome is Outcome.UNCONFIRMED and part.listed is None for _, part in last):
            continue
        later = [part.outcome for _, call, part in mine[last[-1][0] :] if call.action == "assign"]
        if not known[-1]:
            without += not {Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.UNCONFIRMED} & {*later}
        elif all(row[2] == "unassign" for row in rows if row[0] == customer):
            holding[customer] = known[-1]
    return without, holding


@given(st.lists(ROW, min_size=1, max_size=12), st.integers(1, 3), st.data())
def test_the_totals_are_those_of_the_last_unassign_call_for_any_answers(
    rows: list[Row], chunk: int, data: st.DataObject
) -> None:
    plan = planned(rows, chunk_size=chunk)
    ledger, parts, unheard = Ledger(plan), list[tuple[int, Part]](), list[tuple[int, list[int]]]()
    for number in data.draw(st.permutations(range(1, plan.calls + 1))):
        call = plan.call(number)
        cut = data.draw(st.integers(0, len(call.devices)))
        for positions in filter(None, data.draw(st.permutations([range(cut), range(cut, len(call.devices))]))):
            part = data.draw(st.sampled_from(ANSWERS[str(call.action)]))
            parts.append((number, part))
            if part.unheard:
                unheard.append((number, [*positions]))
            elif part.outcome is not Outcome.NOT_SENT:
                results = dict.fromkeys(positions, DeviceResult(part.outcome))
                settle(ledger, (number, Answer(results, devices_remaining=part.listed)))
    reconciliation = ledger.close("a signal came", unclear_attempts=unheard)
    found = find_remaining_devices(reconciliation, [block_of(keys_of(rows), [])])
    without, holding = expected(rows, plan, parts)
    assert found.without_devices == without
    assert {one.customer: one.devices for one in found.largest_holders(9)} == holding
    assert found.still_holding == len(holding)
