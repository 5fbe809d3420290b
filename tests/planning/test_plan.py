"""Which row goes into which call and stage, and that any order of sending within a stage gives the same result."""

import random
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from telemetron_batch.domain.actions import Action
from telemetron_batch.planning import plan as plans
from telemetron_batch.planning import staging
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.radix import radix_lexsort
from telemetron_batch.storage.spill import Scratch, SpillLimits
from tests.support.builders import A, B, C, Row, planned, repeated_rows, sent_rows

SN = "SN-1"

ROW = st.tuples(
    st.sampled_from([A, B, C]),
    st.sampled_from(["SN-1", "SN-2", "SN-3"]),
    st.sampled_from(["assign", "unassign"]),
    st.sampled_from(["", "", "", "", "EMAIL"]),
)
FILE = st.lists(ROW, max_size=40)
TYPED = st.lists(
    st.tuples(ROW.map(lambda row: row[0]), ROW.map(lambda row: row[1]), st.just("assign"), st.sampled_from("KT"))
)
CHUNK = st.integers(1, 7)
OWNED = st.sets(ROW.map(lambda row: row[:2]))


def stages_of(plan: Plan) -> list[int]:
    """Return the stage of every row, 0 for a row that is not sent."""
    stages = np.zeros(len(plan.rows), dtype=int)
    for number in range(1, plan.calls + 1):
        stages[plan.rows_of(number)] = plan.call(number).stage
    return stages.tolist()


def stages_by_the_rule(file: list[Row]) -> list[int]:
    """Return the same, by comparing each row with all rows before it."""
    stages: list[int] = []
    for at, (customer, device, action, problem) in enumerate(file):
        before = [(row, stage) for row, stage in zip(file[:at], stages, strict=True) if stage]
        of_pair = [(row[2], stage) for row, stage in before if row[:2] == (customer, device)]
        if problem or (of_pair and of_pair[-1][0] == action):
            stages.append(0)
            continue
        after = max((stage for other, stage in of_pair if other != action), default=0)
        if action == "assign":
            removals = [stage for row, stage in before if row[1] == device and row[2] == "unassign"]
            after = max([after, *removals])
        stages.append(next(stage for stage in range(after + 1, after + 3) if stage % 2 == (action == "unassign")))
    return stages


def originals_by_the_rule(file: list[Row]) -> list[int]:
    """Return for each row the row that it repeats, or -1."""
    originals, last = [], {}
    for at, (customer, device, action, problem) in enumerate(file):
        known, origin = last.get((customer, device), (None, -1))
        originals.append(origin if known == action and not problem else -1)
        if not problem and known != action:
            last[customer, device] = (action, at)
    return originals


def carried_out(plan: Plan, shuffle: random.Random, owned: set[tuple[str, str]]) -> list[set[tuple[str, str]]]:
    """Return the owners before the first call and after each call, with the calls of a stage in any order."""
    states = [set(owned)]
    for stage in plan.stages():
        numbers = [number for lane in stage.lanes for number in lane]
        shuffle.shuffle(numbers)
        for number in numbers:
            call = plan.call(number)
            pairs = {(call.customer, device) for device in call.devices}
            states.append(states[-1] | pairs if call.action is Action.ASSIGN else states[-1] - pairs)
    return states


# Which rows are sent


@given(FILE, CHUNK)
def test_every_valid_row_that_repeats_nothing_is_in_exactly_one_call(file: list[Row], chunk: int) -> None:
    plan = planned(file, chunk_size=chunk)
    sent = [row for number in range(1, plan.calls + 1) for row in plan.rows_of(number).tolist()]
    originals = originals_by_the_rule(file)
    assert sorted(sent) == [at for at, row in enumerate(file) if not row[3] and originals[at] < 0]
    assert plan.sent_count == len(sent)


@given(FILE, CHUNK)
def test_a_call_asks_for_just_what_its_rows_say(file: list[Row], chunk: int) -> None:
    plan, customers = planned(file, chunk_size=chunk), {}
    for number in range(1, plan.calls + 1):
        call = plan.call(number)
        assert customers.get(call.customer, plan.customer_number_of_call(number)) == plan.customer_number_of_call(
            number
        )
        asked = [(call.customer, device, call.action) for device in call.devices]
        assert asked == [file[row][:3] for row in plan.rows_of(number)]
        assert call.number == number
        customers[call.customer] = plan.customer_number_of_call(number)
        assert len(set(call.devices)) == len(call.devices) <= chunk
    assert sorted(customers.values()) == [*range(len(customers))]


@given(FILE)
def test_a_duplicate_names_the_row_that_last_gave_its_pair_the_same_action(file: list[Row]) -> None:
    assert repeated_rows(planned(file)) == originals_by_the_rule(file)


def test_a_duplicate_names_the_first_of_its_like_not_another_duplicate() -> None:
    rows = [(A, SN, "assign"), (A, SN, "assign"), (A, SN, "assign"), (A, SN, "unassign"), (A, SN, "unassign")]
    assert repeated_rows(planned(rows)) == [-1, 0, 0, -1, 3]


def test_a_row_is_no_duplicate_after_the_opposite_action_of_its_pair() -> None:
    rows = [(A, SN, "assign"), (A, SN, "unassign"), (A, SN, "assign")]
    assert repeated_rows(planned(rows)) == [-1, -1, -1]


def test_an_invalid_row_is_neither_sent_nor_the_original_of_a_duplicate() -> None:
    plan = planned([(A, SN, "assign", "DAMAGED"), (A, SN, "assign"), (A, SN, "return", "ACTION")])
    assert sent_rows(plan) == [1]
    assert repeated_rows(plan) == [-1, -1, -1]


def test_identifiers_that_differ_only_in_case_are_different_devices() -> None:
    assert planned([(A, "sn-1", "assign"), (A, "SN-1", "assign")]).call(1).devices == ("sn-1", "SN-1")


def test_a_row_repeated_in_a_second_file_is_a_duplicate_of_the_first() -> None:
    assert repeated_rows(planned([(A, SN, "assign")], [(B, SN, "assign"), (A, SN, "assign")])) == [-1, -1, 0]


@pytest.mark.parametrize("rows", [[], [("", "", "", "EMPTY_KEY")]])
def test_a_file_without_valid_rows_needs_no_call(rows: list[Row]) -> None:
    plan = planned(rows)
    assert (plan.calls, plan.sent_count, plan.customers, [*plan.stages()]) == (0, 0, 0, [])
    assert repeated_rows(plan) == [-1] * len(rows)
    assert len(plan.fingerprint()) == 64


# How few calls


@given(FILE, CHUNK)
def test_a_group_is_cut_into_as_few_calls_as_can_hold_it(file: list[Row], chunk: int) -> None:
    groups: dict[tuple[int, str, str], int] = defaultdict(int)
    for stage, row in zip(stages_by_the_rule(file), file, strict=True):
        groups[stage, row[0], row[2]] += stage > 0
    assert planned(file, chunk_size=chunk).calls == sum(-(-size // chunk) for size in groups.values())


@pytest.mark.parametrize(
    ("devices", "sizes"),
    [(1, [1]), (499, [499]), (500, [500]), (501, [500, 1]), (1000, [500, 500]), (1001, [500, 500, 1])],
)
def test_a_customers_devices_fill_one_call_after_another(devices: int, sizes: list[int]) -> None:
    plan = planned([(A, f"SN-{number}", "assign") for number in range(devices)])
    assert [len(plan.call(number).devices) for number in range(1, plan.calls + 1)] == sizes


def test_rows_of_one_customer_are_brought_together_from_all_over_the_file() -> None:
    customers = [f"user{number % 40}@x.com" for number in range(40 * 501)]
    plan = planned([(customer, f"SN-{at}", "assign") for at, customer in enumerate(customers)])
    assert plan.calls == 80
    assert sorted(plan.sizes().tolist()) == [1] * 40 + [500] * 40
    assert len(np.unique(sent_rows(plan))) == 40 * 501


def test_the_devices_of_a_call_stand_in_the_order_of_the_file() -> None:
    plan = planned([(f"user{at % 7}@x.com", f"SN-{at}", "assign") for at in range(7_000)])
    assert all((np.diff(plan.rows_of(number)) > 0).all() for number in range(1, plan.calls + 1))


@given(TYPED, CHUNK)
def test_a_call_that_may_create_devices_has_one_type(file: list[Row], chunk: int) -> None:
    plan = planned(file, chunk_size=chunk, auto_create=True)
    groups: dict[tuple[str, str], int] = defaultdict(int)
    for number in range(1, plan.calls + 1):
        call = plan.call(number)
        assert {file[row][3] for row in plan.rows_of(number)} == {call.device_type}
        groups[call.customer, str(call.device_type)] += len(call.devices)
    assert plan.calls == sum(-(-size // chunk) for size in groups.values())


def test_types_split_nothing_where_no_device_is_created() -> None:
    rows = [(A, "SN-1", "assign", "K"), (A, "SN-2", "assign", "T")]
    assert (planned(rows).calls, planned(rows).call(1).device_type) == (1, None)
    assert planned(rows, auto_create=True).calls == 2


def test_an_unassign_never_carries_a_type() -> None:
    plan = planned([(A, "SN-1", "unassign", "K"), (A, "SN-2", "unassign", "T")], auto_create=True)
    assert (plan.calls, plan.call(1).device_type) == (1, None)


# In which order


@given(FILE)
@example([(A, SN, "assign", ""), (A, SN, "unassign", ""), (B, SN, "assign", ""), (C, SN, "unassign", "")])
@example([(A, SN, "assign", ""), (A, SN, "unassign", ""), (B, SN, "unassign", ""), (C, SN, "assign", "")])
def test_a_row_stands_in_the_first_stage_that_the_rule_allows(file: list[Row]) -> None:
    assert stages_of(planned(file)) == stages_by_the_rule(file)


@given(FILE)
def test_stages_alternate_from_unassign_and_are_met_in_order(file: list[Row]) -> None:
    stages = [*planned(file).stages()]
    assert [stage.action for stage in stages] == ["unassign" if stage.number % 2 else "assign" for stage in stages]
    assert [stage.number for stage in stages] == sorted({stage.number for stage in stages})


@given(FILE, CHUNK)
def test_the_lanes_of_the_stages_hold_every_call_once_and_in_order(file: list[Row], chunk: int) -> None:
    plan = planned(file, chunk_size=chunk)
    stages = [*plan.stages()]
    calls = [(number, stage.number) for stage in stages for lane in stage.lanes for number in lane]
    assert calls == [(number, plan.call(number).stage) for number in range(1, plan.calls + 1)]
    assert sum(stage.calls for stage in stages) == plan.calls
    assert sum(stage.devices for stage in stages) == plan.sent_count


@given(FILE)
def test_an_assign_stands_after_what_must_come_before_it(file: list[Row]) -> None:
    plan = planned(file)
    stages = stages_of(plan)
    sent = sent_rows(plan)
    for late in sent:
        for early in (row for row in sent if row < late):
            same_pair = file[early][:2] == file[late][:2]
            removal = file[early][1] == file[late][1] and (file[early][2], file[late][2]) == ("unassign", "assign")
            assert not (same_pair or removal) or stages[early] < stages[late]


@given(FILE, CHUNK, st.randoms(use_true_random=False), OWNED)
def test_any_order_within_stages_ends_where_the_file_ends(
    file: list[Row], chunk: int, shuffle: random.Random, owned: set[tuple[str, str]]
) -> None:
    wished = set(owned)
    for customer, device, action, problem in file:
        changed = set() if problem else {(customer, device)}
        wished = wished | changed if action == "assign" else wished - changed
    assert carried_out(planned(file, chunk_size=chunk), shuffle, owned)[-1] == wished


@pytest.mark.parametrize("swapped", [False, True])
@given(shuffle=st.randoms(use_true_random=False))
def test_a_device_handed_over_is_never_with_both(swapped: bool, shuffle: random.Random) -> None:
    rows = [(A, SN, "unassign"), (B, SN, "assign")]
    states = carried_out(planned(rows[::-1] if swapped else rows), shuffle, {(A, SN)})
    assert [{customer for customer, _ in state} for state in states] == [{A}, set(), {B}]


def test_a_device_handed_on_twice_in_one_file_is_with_one_owner_at_a_time() -> None:
    rows = [(A, SN, "unassign"), (B, SN, "assign"), (B, SN, "unassign"), (C, SN, "assign")]
    states = carried_out(planned(rows), random.Random(1), {(A, SN)})
    assert [{customer for customer, _ in state} for state in states] == [{A}, set(), {B}, set(), {C}]


def test_a_device_assigned_and_returned_is_unassigned_after_its_assign() -> None:
    rows = [(A, SN, "unassign"), (B, SN, "assign"), (B, SN, "unassign"), (A, SN, "assign")]
    assert stages_of(planned(rows)) == [1, 2, 3, 4]


def test_only_rows_of_the_device_that_is_taken_back_wait_for_a_later_stage() -> None:
    rows = [(A, SN, "assign"), (A, SN, "unassign"), (A, "SN-2", "unassign"), (B, "SN-3", "assign")]
    assert stages_of(planned(rows)) == [2, 3, 1, 2]


# Who goes first, and beside whom


def test_customers_with_most_calls_go_first_and_the_rest_as_in_the_file() -> None:
    counts = {"one@x.com": 1, "two@x.com": 1, "five@x.com": 5, "three@x.com": 3}
    plan = planned([(who, f"SN-{at}", "assign") for who, count in counts.items() for at in range(count)], chunk_size=1)
    (stage,) = plan.stages()
    assert [len(lane) for lane in stage.lanes] == [5, 3, 1, 1]
    order = [plan.call(lane[0]).customer for lane in stage.lanes]
    assert order == ["five@x.com", "three@x.com", "one@x.com", "two@x.com"]


def test_customers_with_as_many_calls_go_as_in_the_file_however_full_their_calls_are() -> None:
    rows = [(who, f"SN-{at}", "assign") for at, who in enumerate([A, A, A, B, B, B, B])]
    plan = planned(rows, chunk_size=2)
    assert [plan.call(number).customer for number in range(1, plan.calls + 1)] == [A, A, B, B]


def test_calls_of_several_types_for_one_customer_share_a_lane() -> None:
    rows = [(A, "SN-1", "K"), (B, "SN-2", "K"), (A, "SN-3", "T"), (B, "SN-4", "T")]
    (stage,) = planned([(who, device, "assign", kind) for who, device, kind in rows], auto_create=True).stages()
    assert [len(lane) for lane in stage.lanes] == [2, 2]


@given(FILE, CHUNK, st.booleans())
def test_all_calls_of_a_customer_in_a_stage_share_a_lane(file: list[Row], chunk: int, auto_create: bool) -> None:
    plan = planned(file, chunk_size=chunk, auto_create=auto_create)
    for stage in plan.stages():
        lanes = [{plan.call(number).customer for number in lane} for lane in stage.lanes]
        assert sum(map(len, lanes)) == len(set().union(*lanes))


@given(TYPED)
def test_customers_who_are_given_a_device_that_may_be_created_share_a_lane(file: list[Row]) -> None:
    plan = planned(file, chunk_size=2, auto_create=True)
    for stage in plan.stages():
        lanes = [{device for number in lane for device in plan.call(number).devices} for lane in stage.lanes]
        assert sum(map(len, lanes)) == len(set().union(*lanes))


def test_customers_share_a_lane_through_a_chain_of_devices_but_no_further() -> None:
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "assign"), (C, "SN-1", "assign"), (C, "SN-2", "assign")]
    (stage,) = planned([*rows, ("d@x.com", "SN-9", "assign")], auto_create=True).stages()
    assert [len(lane) for lane in stage.lanes] == [3, 1]


def test_customers_of_different_devices_share_no_lane() -> None:
    rows = [(A, "SN-0"), (B, "SN-1"), (C, "SN-1"), ("d@x.com", "SN-2"), ("e@x.com", "SN-2")]
    (stage,) = planned([(*row, "assign") for row in rows], auto_create=True).stages()
    assert [len(lane) for lane in stage.lanes] == [2, 2, 1]


def test_customers_of_a_shared_device_have_separate_lanes_without_auto_create() -> None:
    (stage,) = planned([(A, SN, "assign"), (B, SN, "assign")]).stages()
    assert len(stage.lanes) == 2


def test_a_device_unassigned_from_two_customers_gives_them_no_shared_lane() -> None:
    (stage,) = planned([(A, SN, "unassign"), (B, SN, "unassign")], auto_create=True).stages()
    assert len(stage.lanes) == 2


def test_customers_who_share_a_lane_of_assigns_have_separate_lanes_of_unassigns() -> None:
    rows = [(A, SN, "assign"), (B, SN, "assign"), (A, "SN-2", "unassign"), (B, "SN-3", "unassign")]
    stages = planned(rows, auto_create=True).stages()
    assert [len(stage.lanes) for stage in stages] == [2, 1]


def test_customers_counts_each_once_however_many_calls_concern_it() -> None:
    plan = planned([(A, "SN-1", "assign"), (A, "SN-2", "unassign"), (B, "SN-3", "assign"), (C, "?", "assign", "EMAIL")])
    assert (plan.customers, plan.calls) == (2, 3)


def test_devices_may_be_sent_again_that_several_calls_hold() -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (B, "SN-2", "unassign"), (A, "SN-3", "assign")]
    plan = planned([*rows, (B, "SN-4", "assign"), (C, "SN-4", "assign"), (C, "SN-4", "assign"), rows[0]])
    assert [plan.has_multiple_calls(f"SN-{number}") for number in range(1, 6)] == [False, True, False, True, False]
    assert not planned(rows[:2]).has_multiple_calls("SN-2")


# In how many parts


def everything(plan: Plan) -> dict[str, object]:
    """Return the results of all queries of a plan."""
    return {
        "calls": [plan.call(number) for number in range(1, plan.calls + 1)],
        "rows": sent_rows(plan),
        "sizes": [plan.size_of(number) for number in range(1, plan.calls + 1)],
        "stages": [(stage.number, [*stage.lanes], stage.calls, stage.devices) for stage in plan.stages()],
        "duplicates": (plan.duplicates, repeated_rows(plan)),
        "transfers": [*zip(plan.transfer_unassigns.tolist(), plan.transfer_assigns.tolist(), strict=True)],
        "customers": plan.customers,
        "again": [plan.has_multiple_calls(device) for device in ("SN-1", "SN-2", "SN-3", "SN-4")],
        "fingerprint": plan.fingerprint(),
    }


def assert_bulk_queries_match_single_queries(plan: Plan) -> None:
    """Assert that bulk queries of calls, in any order, give the results of single queries."""
    asked = [(call, place) for call in range(plan.calls, 0, -1) for place in range(plan.size_of(call))]
    calls, places = np.array(asked, np.int64).reshape(-1, 2).T
    assert plan.rows_at(calls, places).tolist() == [plan.rows_of(call)[place] for call, place in asked]
    assert plan.customer_numbers_of_calls(calls).tolist() == [plan.customer_number_of_call(call) for call, _ in asked]


@given(FILE | TYPED, CHUNK, st.integers(1, 5), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_number_of_partitions_does_not_change_the_plan(
    tmp_path: Path, file: list[Row], chunk: int, parts: int, auto_create: bool
) -> None:
    whole = planned(file, chunk_size=chunk, auto_create=auto_create)
    with Scratch(tmp_path / "scratch", SpillLimits(memory=0, parts=parts)) as scratch:
        spread = planned(file[:7], file[7:], chunk_size=chunk, auto_create=auto_create, scratch=scratch)
        assert everything(spread) == everything(whole)
        assert_bulk_queries_match_single_queries(spread)
    assert not (tmp_path / "scratch").exists()


@given(st.lists(st.sampled_from([0, 1, 1 << 15, 1 << 16, (1 << 16) + 1, 1 << 32, (1 << 48) - 1, 1 << 62]), max_size=30))
def test_radix_lexsort_orders_keys_of_any_size_and_is_stable(keys: list[int]) -> None:
    assert radix_lexsort([np.array(keys, np.int64)]).tolist() == sorted(range(len(keys)), key=keys.__getitem__)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1 << 20), st.integers(0, 1)), min_size=1, max_size=30))
def test_radix_lexsort_gives_the_last_key_the_most_weight(keys: list[tuple[int, int, int]]) -> None:
    columns = np.array(keys, np.int64).T
    assert radix_lexsort([*columns]).tolist() == np.lexsort(columns).tolist()


HASHES = st.lists(st.sampled_from([0, 1, 2, 1 << 31, (1 << 32) + 1, 1 << 62, 1 << 63, (1 << 63) + 1]), max_size=30)


@given(HASHES, st.sampled_from([1, 3, 1 << 22]), st.data())
def test_maybe_multi_row_flags_all_devices_with_several_rows(
    hashes: list[int], sorted_together: int, data: st.DataObject
) -> None:
    valid = data.draw(st.lists(st.booleans(), min_size=len(hashes), max_size=len(hashes)))
    device, flags = np.array(hashes, np.uint64), np.array(valid, np.bool_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "_SORT_BATCH", sorted_together)
        patch.setattr(staging, "_SCAN_ROWS", 4)
        likely = staging.maybe_multi_row(device, flags, Scratch())
    assert not likely[~flags].any()
    there = Counter(device[flags].tolist())
    assert all(likely[at] for at in np.flatnonzero(flags) if there[hashes[at]] > 1)
    places = 1 << len(hashes).bit_length()
    rests = Counter(number % places for number in there)
    assert not any(likely[at] for at in np.flatnonzero(flags) if there[hashes[at]] == rests[hashes[at] % places] == 1)


def test_a_device_may_change_owners_many_times() -> None:
    times = 200
    file = [(A, SN, action) for _ in range(times) for action in ("assign", "unassign")]
    plan = planned(file)
    assert [plan.call(number).stage for number in range(1, plan.calls + 1)] == list(range(2, 2 * times + 2))


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_a_bitmap_returns_flags_in_any_order(flags: list[bool], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(flags) - 1)))
    marked = staging.Bitmap(np.array(flags))
    assert marked.at(np.array(rows, np.int64)).tolist() == [flags[row] for row in rows]
    assert marked.any == any(flags)


@given(FILE, CHUNK)
def test_calls_by_row_gives_the_call_of_each_sent_row(file: list[Row], chunk: int) -> None:
    whole = planned(file, chunk_size=chunk)
    assert_knows_calls_of_rows(whole)
    with (
        tempfile.TemporaryDirectory() as folder,
        Scratch(Path(folder) / "scratch", SpillLimits(memory=0, parts=3)) as scratch,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(plans, "_BATCH_ROWS", 4)
        assert_knows_calls_of_rows(planned(file, chunk_size=chunk, scratch=scratch))


def assert_knows_calls_of_rows(plan: Plan) -> None:
    found = [(row, call) for rows, calls in plan.calls_by_row() for row, call in zip(rows, calls, strict=True)]
    assert sorted(found) == sorted((row, call) for call in range(1, plan.calls + 1) for row in plan.rows_of(call))
    assert plan.sizes().tolist() == [plan.size_of(call) for call in range(1, plan.calls + 1)]


# The fingerprint


@given(FILE, CHUNK)
def test_the_same_rows_and_options_give_the_same_fingerprint(file: list[Row], chunk: int) -> None:
    assert planned(file, chunk_size=chunk).fingerprint() == planned(file, chunk_size=chunk).fingerprint()


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([(A, "SN-1", "assign", "K"), (A, "SN-2", "assign", "K")], {"chunk_size": 499}),
        ([(A, "SN-1", "assign", "K"), (A, "SN-2", "assign", "K")], {"auto_create": True}),
        ([(A, "SN-1", "assign", "K"), (A, "SN-2", "unassign", "K")], {}),
        ([(A, "SN-1", "assign", "K"), (B, "SN-2", "assign", "K")], {}),
        ([(A, "SN-1", "assign", "K"), (A, "SN-2", "assign", "EMAIL")], {}),
    ],
    ids=["chunk size", "auto-create", "action", "customer", "validity"],
)
def test_every_change_of_the_requests_changes_the_fingerprint(rows: list[Row], options: dict[str, int]) -> None:
    former = planned([(A, "SN-1", "assign", "K"), (A, "SN-2", "assign", "K")])
    assert planned(rows, **options).fingerprint() != former.fingerprint()
