"""`compare` gives no device to a customer while it knows that another one keeps it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.comparison.second_owners import SecondOwnerSearch
from telemetron_batch.domain.identifiers import as_column
from telemetron_batch.storage.spill import Scratch, SpillLimits
from tests.comparison.desk import Lookups
from tests.conftest import Desk

ANN, BOB, CID = "ann@x.com", "bob@x.com", "cid@x.com"


@pytest.fixture
def lookups(desk: Desk) -> Lookups:
    """Ann holds X and A1, Bob holds B1."""
    desk.server.fleet.assign(ANN, ["X", "A1"])
    desk.server.fleet.assign(BOB, ["B1"])
    return Lookups(desk)


def test_a_device_whose_removal_is_withheld_is_not_given_to_another(lookups: Lookups) -> None:
    rows = [(ANN, "A1"), (ANN, "#REF!"), (BOB, "B1"), (BOB, "X"), (BOB, "NEW")]
    summary = lookups.compare(rows, remove=True, max_unassign="100%")
    assert lookups.rows == [(BOB, "NEW", "assign")]
    assert (summary.exit_code, summary.fields["transfersWithheld"], summary.fields["leftOut"]) == (1, 1, 1)
    assert f"X of {BOB} ({ANN} holds it and keeps it)" in " ".join(summary.warnings())
    assert "1 assign is left out, since its device would have two owners" in " ".join(summary.warnings())


@pytest.mark.parametrize("row", [(ANN, "a-1"), ("nobody", "SN-1")])
def test_the_reason_why_a_removal_is_withheld_does_not_matter(lookups: Lookups, row: tuple[str, str]) -> None:
    summary = lookups.compare([row, (BOB, "B1"), (BOB, "X"), (ANN, "A9")], remove=True, max_unassign="100%")
    assert (BOB, "X", "assign") not in lookups.rows
    assert (summary.exit_code, summary.fields["transfersWithheld"]) == (1, 1)


def test_without_remove_extra_a_transfer_is_left_out_and_the_option_named(lookups: Lookups) -> None:
    rows = [(ANN, "A1"), (BOB, "B1"), (BOB, "X")]
    summary = lookups.compare(rows)
    assert (lookups.rows, summary.exit_code) == ([], 1)
    assert next(summary.sentences()).startswith("Nothing to write: 2 customers with 3 devices compared")
    warnings = " ".join(summary.warnings())
    assert f"X of {BOB} ({ANN} holds it and keeps it without --remove-extra)" in warnings
    assert "with --remove-extra the file takes it from its holder first" in warnings
    assert lookups.compare(rows, remove=True, max_unassign="1").exit_code == 0
    assert lookups.rows == [(ANN, "X", "unassign"), (BOB, "X", "assign")]


@pytest.mark.parametrize("remove", [False, True])
def test_a_device_that_the_file_gives_to_both_is_given_to_both(lookups: Lookups, *, remove: bool) -> None:
    rows = [(ANN, "A1"), (ANN, "X"), (ANN, "#REF!"), (BOB, "B1"), (BOB, "X")]
    summary = lookups.compare(rows, remove=remove)
    assert lookups.rows == [(BOB, "X", "assign")]
    assert summary.fields["transfersWithheld"] == 0


def test_only_equal_identifiers_are_one_device(lookups: Lookups) -> None:
    assert lookups.compare([(ANN, "A1"), (BOB, "B1"), (BOB, "x")]).fields["transfersWithheld"] == 0
    assert lookups.rows == [(BOB, "x", "assign")]


def test_white_space_around_an_identifier_makes_no_other_device(lookups: Lookups) -> None:
    lookups.desk.server.fleet.assign(CID, [" Y "])
    lookups.compare([(CID, "C1"), (BOB, "B1"), (BOB, "Y")])
    assert lookups.rows == [(CID, "C1", "assign")]


def test_running_what_compare_writes_gives_no_device_a_second_owner(lookups: Lookups) -> None:
    rows = [(ANN, "A1"), (ANN, "#REF!"), (BOB, "B1"), (BOB, "X"), (BOB, "NEW")]
    lookups.compare(rows, remove=True)
    lookups.desk.run(str(lookups.output))
    lookups.holdings(ANN, BOB, keep=0)
    held = [(ANN, "A1"), (ANN, "X"), (BOB, "B1"), (BOB, "NEW")]
    assert lookups.rows == [(*pair, "unassign") for pair in held]


def test_many_transfers_are_left_out_also_where_the_table_is_on_disk(
    lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    customers = [f"u{number:04}@x.com" for number in range(60)]
    for number, customer in enumerate(customers):
        lookups.desk.server.fleet.assign(customer, [f"D-{number}", f"K-{number}"])
    rows = [(customer, f"D-{(number + 1) % 60}") for number, customer in enumerate(customers)]
    rows += [(customer, f"K-{number}") for number, customer in enumerate(customers)]
    rows += [(customer, f"N-{number}") for number, customer in enumerate(customers)]
    monkeypatch.setattr("telemetron_batch.storage.spill.SpillLimits.__init__.__defaults__", (1000, 8))
    summary = lookups.compare(rows, rate="1000/s")
    assert sorted(lookups.rows) == sorted((one, f"N-{number}", "assign") for number, one in enumerate(customers))
    assert summary.fields["transfersWithheld"] == 60
    assert {(one.customer, one.device, one.reason.split()[0]) for one in summary.left_out.first} == {
        (customer, f"D-{(number + 1) % 60}", customers[(number + 1) % 60]) for number, customer in enumerate(customers)
    }


DEVICES = st.lists(st.sampled_from(["A", "B", " A", "a", "", "C"]), max_size=6)


@given(st.lists(st.tuples(DEVICES, DEVICES), max_size=5), st.sampled_from([1, 1 << 20]))
def test_assigns_of_kept_devices_are_found_in_any_order(steps: list[tuple[list[str], list[str]]], memory: int) -> None:
    with Scratch(limits=SpillLimits(memory, 4)) as scratch:
        search = SecondOwnerSearch(scratch, 2)
        for assigned, kept in steps:
            search.add_assigns(as_column(assigned))
            search.add_kept(as_column(f"holds {name.strip()}" for name in kept), as_column(kept))
        found = search.find()
    all_assigned = [name.strip() for names, _ in steps for name in names]
    all_kept = {name.strip() for _, names in steps for name in names}
    assert found.is_assign.tolist() == [name in all_kept for name in all_assigned]
    first = np.flatnonzero(found.is_assign)[:2].tolist()
    assert found.holders == {number: f"holds {all_assigned[number]}" for number in first}
