"""A year of nights, with lists in between: what is removed each night changes nothing for the nights that follow."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

import pytest

from telemetron_batch.domain.errors import BrakeError
from telemetron_batch.journal.removed_runs import read_removed_rows, read_removed_runs
from tests.conftest import Desk
from tests.retention.conftest import DAY, Archive, Row
from tests.support.traces import places_with

NIGHTS = 365
CUSTOMERS = [f"user{number}@x.com" for number in range(8)]
START = 1_767_225_600


@dataclass
class Fleet:
    """What the export of each night says: a device of another customer changes its owner each night."""

    owner: dict[str, str] = field(
        default_factory=lambda: {f"SN-{number}": CUSTOMERS[number % 8] for number in range(12)}
    )

    def nights(self) -> Iterator[tuple[list[Row], set[Row]]]:
        """Yield the rows of each night, and those that are new."""
        rows: dict[str, list[Row]] = {device: [(owner, device, "assign")] for device, owner in self.owner.items()}
        changed = {row for some in rows.values() for row in some}
        for night in range(NIGHTS):
            yield [row for some in rows.values() for row in some], changed
            device, customer = f"SN-{night % 12}", CUSTOMERS[(night * 5 + 3) % 8]
            former = self.owner[device]
            changed = set()
            if former != customer and night < NIGHTS - 1:
                changed = {(former, device, "unassign"), (customer, device, "assign")}
                rows[device] = [(former, device, "unassign"), (customer, device, "assign")]
                self.owner[device] = customer


@pytest.mark.slow
def test_a_year_of_nights_of_which_ninety_days_are_kept(desk: Desk) -> None:
    archive, fleet = Archive(desk), Fleet()
    nights = enumerate(fleet.nights())
    make_year(archive, nights)
    made = len(archive.runs)
    assert made == NIGHTS - 3 + 12
    assert len(archive.prune(90).removed) + len(archive.runs) == made
    for night, (rows, changed) in nights:
        ran = archive.night(rows, as_of=iso_day(night), job="nightly", full_every="36500d")
        assert (archive.sent, ran.json["since"]["full"]) == (changed, False), night
        archive.prune(90)
        assert len(archive.runs) <= 90 + 3
    check_that_it_is_all_as_before(archive, fleet)
    check_that_nobody_finds(archive, CUSTOMERS[3])


def make_year(archive: Archive, nights: Iterator[tuple[int, tuple[list[Row], set[Row]]]]) -> None:
    """Make all nights but the last three, and a list each month. Older runs are aside meanwhile, which is faster."""
    aside = archive.desk.folder / "aside"
    aside.mkdir()
    for night, (rows, changed) in islice(nights, NIGHTS - 3):
        archive.night(rows, as_of=iso_day(night), job="nightly", full_every="36500d")
        assert archive.sent == changed, night
        if night % 30 == 7:
            archive.run([("list@x.com", f"LIST-{night}", "assign")], pause=60.0, name="list-{}.csv")
        for run in sorted(archive.runs, key=lambda one: int(one[1:]))[:-2]:
            (archive.reports / run).rename(aside / run)
    for folder in aside.iterdir():
        folder.rename(archive.reports / folder.name)


def iso_day(night: int) -> str:
    """Return the day of a night."""
    return f"{datetime.fromtimestamp(START + night * DAY, UTC):%Y-%m-%d}"


def check_that_it_is_all_as_before(archive: Archive, fleet: Fleet) -> None:
    removed = read_removed_runs(archive.reports)
    assert len(removed) > 260
    with pytest.raises(BrakeError, match="has already processed exactly this content"):
        archive.run([("list@x.com", "LIST-7", "assign")], name="list-{}.csv", pause=60.0)
    with pytest.raises(BrakeError, match=r"of the same job, as of .*, has sent calls already"):
        archive.night([(CUSTOMERS[0], "SN-0", "assign")], as_of=iso_day(3), job="nightly", pause=60.0)
    wanted = [("", device, "unassign") for device in (*fleet.owner, "LIST-7")]
    back = archive.run(wanted, owners="runs", name="back.csv", pause=60.0)
    assert [row["customerEmail"] for row in back.rows] == [*fleet.owner.values(), "list@x.com"]
    rows = sum(batch.num_rows for one in removed for batch in read_removed_rows(archive.reports, one))
    assert rows < 200, "each customer and device is kept once, and not once for each night"


def check_that_nobody_finds(archive: Archive, address: str) -> None:
    assert places_with(archive.reports, address)
    assert archive.forget(address).remaining == {}
    assert places_with(archive.reports, address) == []
    assert json.loads((archive.reports / archive.runs[-1] / "summary.json").read_text())["balanced"]
