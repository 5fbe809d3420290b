"""A run made in shards comes to what one process makes of it, whatever becomes of the shards on the way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from batch import app
from batch.config import resolve
from batch.model import Phase
from batch.sharding.division import ShardedPlan
from batch.sharding.making import ShardSummary
from tests.conftest import KEY, Desk, Ran
from tests.scripted import BASE_URL, Says

A, B, C = "a@x.com", "b@x.com", "c@x.com"


class Shards:
    """A run in shards at a desk."""

    def __init__(self, desk: Desk, rows: Sequence[tuple[str, ...]], shards: int, **flags: Any) -> None:
        self.desk, self.rows, self.flags = desk, rows, {"shards": shards, **flags}
        self.plan = self.planned()

    def config(self, files: Sequence[str], **flags: Any) -> Any:
        where = {"base_url": BASE_URL, "reports_dir": str(self.desk.folder / "reports"), "run_id": "s"}
        return resolve(files, {**where, **flags}, {"TELEMETRON_API_KEY": KEY})

    def planned(self, **flags: Any) -> ShardedPlan:
        path = self.desk.file(self.rows)
        return app.plan_shards(self.config([path], **{**self.flags, **flags}), clock=self.desk.clock)

    def run(self, shard: int, phase: Phase | None = None, **flags: Any) -> ShardSummary:
        told = flags if phase is None else {"phase": str(phase), **flags}
        config = self.config([], shard=shard, **told)
        return app.run_shard(config, face=self.desk.face, transport=self.desk.server, clock=self.desk.clock)

    def run_all(self, *phases: Phase) -> list[ShardSummary]:
        numbers = [shard.number for shard in self.plan.shards]
        return [self.run(number, phase) for phase in phases or Phase for number in numbers]

    def report(self) -> Ran:
        return Ran(app.report(self.plan.folder), self.plan.folder, self.desk.server)


def timeless(ran: Ran) -> list[dict[str, str]]:
    """The reconciliation without what differs by nature."""
    return [{**row, "answeredAt": ""} for row in ran.rows]


def moved(number: int) -> list[tuple[str, ...]]:
    """So many customers, each of whom hands a device on to the next."""
    names = [f"c{at}@x.com" for at in range(number)]
    pairs = zip(names, [*names[1:], names[0]], strict=True)
    return [
        row
        for at, (one, other) in enumerate(pairs)
        for row in ((one, f"SN-{at}", "unassign"), (other, f"SN-{at}", "assign"))
    ]


def given(desk: Desk, rows: Sequence[tuple[str, ...]]) -> None:
    """Devices that are unassigned are with those from whom they are."""
    desk.server.fleet.seed(rows)


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_shards_come_to_what_one_process_makes(tmp_path: Path, shards: int) -> None:
    rows = moved(7)
    desks = [Desk(tmp_path / name) for name in ("one", "many")]
    for desk in desks:
        desk.folder.mkdir()
        given(desk, rows)
    one = desks[0].run(rows)
    many = Shards(desks[1], rows, shards)
    ended = many.run_all()
    assert {summary.exit_code for summary in ended} == {0}
    ran = many.report()
    assert timeless(ran) == timeless(one)
    assert ran.summary.exit_code == one.summary.exit_code


def test_what_kept_a_shard_from_unassigning_is_told_also_when_its_assigns_are_made(desk: Desk) -> None:
    rows = moved(6)
    given(desk, rows)
    shards = Shards(desk, rows, 2)
    refused = ("c0@x.com", "unassign")
    desk.server.script = lambda seen: Says(401) if (seen.customer, seen.action) == refused else None
    ended = shards.run_all()
    assert sorted(summary.exit_code for summary in ended) == [0, 0, 0, 4]
    ran = shards.report()
    assert (ran.summary.exit_code, "refuses this key" in ran.json["stop"]["reason"]) == (4, True)


def test_a_shard_that_the_api_asks_to_wait_says_until_when(desk: Desk) -> None:
    rows = moved(6)
    given(desk, rows)
    shards = Shards(desk, rows, 2)
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "600"}) if seen.number == 2 else None
    stopped = shards.run(1, Phase.UNASSIGN, longest_wait="5m")
    assert (stopped.exit_code, stopped.fields["stop"]["reason"][-9:-1]) == (3, stopped.fields["resumeAt"][11:19])
