"""A plan in shards: each call is in exactly one, dependent customers share a shard, and the files match the plan."""

from collections import defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.planning.calls import Stage
from telemetron_batch.planning.plan import Plan
from telemetron_batch.rate_limit.pacer import Pacer
from telemetron_batch.sharding.partition import (
    CALLS,
    Shard,
    ShardCalls,
    assign_shards,
    check_calls,
    shard_folder,
    write_shards,
)
from telemetron_batch.storage.spill import Scratch, SpillLimits
from tests.planning.test_plan import CHUNK, FILE, TYPED
from tests.support import simulate
from tests.support.builders import A, B, C, Row, planned

SHARDS = st.integers(1, 6)
in_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def shard_of_customers(plan: Plan, shards: int) -> dict[str, set[int]]:
    found = defaultdict(set)
    for number, shard in enumerate(assign_shards(plan, shards).tolist(), 1):
        found[plan.call(number).customer].add(shard)
    return found


def numbers_of(stages: list[Stage]) -> list[int]:
    return [number for stage in stages for lane in stage.lanes for number in lane]


def written(
    folders: pytest.TempPathFactory, file: list[Row], chunk: int, shards: int
) -> tuple[Plan, list[Shard], list[Path]]:
    """Return a plan, its shards, and the files of their calls."""
    folder = folders.mktemp("run")
    plan = planned(file, chunk_size=chunk)
    made = write_shards(plan, folder, shards)
    return plan, made, [shard_folder(folder, shard.number) / CALLS for shard in made]


@given(FILE, CHUNK, SHARDS)
def test_all_calls_of_a_customer_are_in_one_shard(file: list[Row], chunk: int, shards: int) -> None:
    plan = planned(file, chunk_size=chunk)
    shard_of = assign_shards(plan, shards)
    assert len(shard_of) == plan.calls
    assert set(shard_of.tolist()) <= {*range(1, shards + 1)}
    assert all(len(found) == 1 for found in shard_of_customers(plan, shards).values())


@given(FILE, CHUNK, SHARDS)
@example([(A, "SN-1", "assign"), (A, "SN-1", "unassign"), (B, "SN-1", "assign"), (C, "SN-2", "assign")], 5, 3)
def test_all_calls_of_a_device_that_is_taken_back_are_in_one_shard(file: list[Row], chunk: int, shards: int) -> None:
    plan = planned(file, chunk_size=chunk)
    calls = [plan.call(number) for number in range(1, plan.calls + 1)]
    again = {device for call in calls if call.stage >= 3 for device in call.devices}
    shard_of = assign_shards(plan, shards)
    for device in again:
        assert len({int(shard_of[call.number - 1]) for call in calls if device in call.devices}) == 1


@given(TYPED, CHUNK, SHARDS)
def test_customers_who_share_a_lane_share_a_shard(file: list[Row], chunk: int, shards: int) -> None:
    plan = planned(file, chunk_size=chunk, auto_create=True)
    shard_of = assign_shards(plan, shards)
    for stage in plan.stages():
        for lane in stage.lanes:
            assert len(set(shard_of[lane.start - 1 : lane.stop - 1].tolist())) == 1


@given(FILE, SHARDS)
def test_shards_differ_by_at_most_one_group_of_customers(file: list[Row], shards: int) -> None:
    plan = planned(file, chunk_size=2)
    loads = np.bincount(assign_shards(plan, shards), minlength=shards + 1)[1:]
    # Who is given a lot has least by then, so no other is behind by more than that lot.
    of_customers = [len(calls) for calls in by_customer(plan).values()]
    together = sum(of_customers) if any(stage.number >= 3 for stage in plan.stages()) else max(of_customers, default=0)
    assert loads.max() - loads.min() <= together


def by_customer(plan: Plan) -> dict[str, list[int]]:
    found = defaultdict(list)
    for number in range(1, plan.calls + 1):
        found[plan.call(number).customer].append(number)
    return found


@given(FILE, CHUNK, SHARDS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_number_of_spill_partitions_does_not_change_the_shards(
    tmp_path_factory: pytest.TempPathFactory, file: list[Row], chunk: int, shards: int
) -> None:
    with Scratch(tmp_path_factory.mktemp("s") / "scratch", SpillLimits(memory=0, parts=3)) as scratch:
        spread = assign_shards(planned(file, chunk_size=chunk, scratch=scratch), shards).tolist()
    assert spread == assign_shards(planned(file, chunk_size=chunk), shards).tolist()


@given(FILE, CHUNK, SHARDS)
@in_a_folder
def test_the_files_of_all_shards_have_the_calls_of_the_plan(
    tmp_path_factory: pytest.TempPathFactory, file: list[Row], chunk: int, shards: int
) -> None:
    plan, made, files = written(tmp_path_factory, file, chunk, shards)
    seen: dict[int, int] = {}
    for phase in Phase:
        for path, shard in zip(files, made, strict=True):
            calls = ShardCalls(path, phase)
            stages = [*calls.stages()]
            numbers = numbers_of(stages)
            assert calls.calls == len(numbers) == shard.calls[phase]
            assert all((stage.number == 1) == (phase is Phase.UNASSIGN) for stage in stages)
            for number in numbers:
                assert calls.includes(number)
                assert calls.call(number) == plan.call(number)
                assert calls.size_of(number) == plan.size_of(number)
                seen[number] = seen.get(number, 0) + 1
    assert seen == dict.fromkeys(range(1, plan.calls + 1), 1)
    assert sum(shard.devices for shard in made) == plan.sent_count


@given(FILE, CHUNK, SHARDS)
@in_a_folder
def test_lanes_are_those_of_the_plan_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory, file: list[Row], chunk: int, shards: int
) -> None:
    plan, _, files = written(tmp_path_factory, file, chunk, shards)
    lanes = [
        lane for path in files for phase in Phase for stage in ShardCalls(path, phase).stages() for lane in stage.lanes
    ]
    assert sorted(lanes, key=lambda lane: lane.start) == [*chain(*(stage.lanes for stage in plan.stages()))]
    for path in files:
        for phase in Phase:
            for stage in ShardCalls(path, phase).stages():
                assert [lane.start for lane in stage.lanes] == sorted(lane.start for lane in stage.lanes)
                assert stage.calls == sum(map(len, stage.lanes))


def test_a_call_of_the_other_phase_is_known_but_not_included(tmp_path: Path) -> None:
    plan = planned([(A, "SN-1", "unassign"), (A, "SN-2", "assign")])
    write_shards(plan, tmp_path, 1)
    calls = ShardCalls(shard_folder(tmp_path, 1) / CALLS, Phase.ASSIGN)
    assert [calls.includes(number) for number in (1, 2)] == [False, True]
    assert calls.call(1) == plan.call(1)
    assert calls.customer_emails_of_calls([1, 2, 1]) == {A}
    assert calls.devices().to_pylist() == ["SN-2"]
    assert calls.rows_for_percent_limits == 2


def test_a_device_in_several_calls_has_multiple_calls(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-1", "unassign"), (A, "SN-2", "assign")]
    write_shards(planned(rows), tmp_path, 1)
    calls = ShardCalls(shard_folder(tmp_path, 1) / CALLS, Phase.ASSIGN)
    assert [calls.has_multiple_calls(device) for device in ("SN-1", "SN-2", "SN-3")] == [True, False, False]


def test_a_changed_file_of_calls_is_refused(tmp_path: Path) -> None:
    [shard] = write_shards(planned([(A, "SN-1", "assign")]), tmp_path, 1)
    path = shard_folder(tmp_path, 1) / CALLS
    check_calls(path, shard)
    path.write_bytes(path.read_bytes().replace(b"SN-1", b"SN-2"))
    with pytest.raises(JournalError, match="is not what was planned"):
        check_calls(path, shard)
    path.unlink()
    with pytest.raises(JournalError, match="cannot be read"):
        check_calls(path, shard)


# Rate slots


@given(st.integers(1, 500), st.sampled_from([1.0, 60.0, 3600.0]), st.integers(1, 40))
def test_slot_rates_are_whole_attempts_that_add_up_to_the_rate(attempts: int, seconds: float, at_once: int) -> None:
    rate = Rate(attempts, seconds)
    if at_once > attempts:
        with pytest.raises(ValueError, match="cannot be shared"):
            rate.share(at_once, 0)
        return
    shares = [rate.share(at_once, place) for place in range(at_once)]
    assert {share.seconds for share in shares} == {seconds}
    assert sum(share.attempts for share in shares) == attempts
    assert max(share.attempts for share in shares) - min(share.attempts for share in shares) <= 1


def test_half_an_attempt_per_second_becomes_one_in_two_seconds() -> None:
    assert Rate(2.5).share(2, 1) == Rate(1, 0.8)
    assert Rate(0.5).share(1, 0) == Rate(1, 2.0)
    with pytest.raises(ValueError, match="auto cannot be shared"):
        Rate.AUTO.share(1, 0)


@pytest.mark.parametrize(("rate", "at_once"), [("10/s", 4), ("10/s", 3), ("40/s", 7), ("120/min", 5)])
def test_all_slots_together_keep_the_rate_in_every_window(rate: str, at_once: int) -> None:
    whole = Rate.parse(rate)
    jitter = (0.1, 0.1 + min(0.5, max(0.025, whole.seconds / 40)))
    arrived = []
    for place in range(at_once):
        world = simulate.World(
            simulate.Bucket(1e6, 1e6), until=5 * whole.seconds + 10, way_there=jitter, lateness=0.002, seed=place
        )
        arrived += simulate.run(Pacer(whole.share(at_once, place)), world).accepted
    assert simulate.most_in_a_window(sorted(arrived), whole.seconds) <= whole.attempts
    assert len(arrived) > 4 * whole.attempts
