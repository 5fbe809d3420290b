"""Devices that move between customers, and a record of who owns them."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import HEADER
from tests.support.books import reconciliation_of
from tests.support.faulty import Arrived, Fault, FaultyServer

Row = tuple[str, str, str]
IN_FLIGHT = 8
"""Maximum calls in flight of one process."""


def transfers(number: int, world: str = "x") -> list[Row]:
    """Return rows of devices that move and of as many new ones, one call for each; names differ between worlds."""
    taken = [(f"old{at}@{world}.com", f"{world}-SN-{at}", "unassign") for at in range(number)]
    given = [(f"new{at}@{world}.com", f"{world}-SN-{at}", "assign") for at in range(number)]
    more = [(f"other{at}@{world}.com", f"{world}-MORE-{at}", "assign") for at in range(number)]
    return given + taken + more


def write(path: Path, rows: Sequence[Row]) -> str:
    """Write an input with these rows."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows)
    return str(path)


def reconciled(folder: str | Path, *columns: str) -> list[tuple[str, ...]]:
    """Return columns of a run's reconciliation, row by row."""
    return [tuple(row[name] for name in columns) for row in reconciliation_of(Path(folder))]


@dataclass
class Watch:
    """Checks every request before it is processed, and records devices that would get two owners."""

    server: FaultyServer
    rows: Sequence[Row]
    then: Callable[[Arrived], Fault] = lambda _: None
    doubled: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def over(cls, server: FaultyServer, rows: Sequence[Row]) -> "Watch":
        """Watch a server on which customers have exactly the devices that the rows unassign from them."""
        watch = cls(server, rows)
        for customer, device, action in rows:
            if action == "unassign":
                server.fleet.assign(customer, [device], create=True)
        server.seen.clear()
        server.script = watch.script
        return watch

    def script(self, arrived: Arrived) -> Fault:
        """Record the request, then do what is scripted."""
        if arrived.action == "assign":
            found = ((device, self.server.fleet.owners(device)) for device in arrived.devices)
            self.doubled += [(device, one) for device, owners in found for one in owners - {arrived.customer}]
        return self.then(arrived)

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Action and device of each request, in order of arrival."""
        return [(seen.action, device) for seen in self.server.seen for device in seen.devices]

    def most_in(self, seconds: float) -> int:
        """Return the maximum number of requests in any window of this length."""
        at = [seen.at for seen in self.server.seen]
        return max(sum(start <= one < start + seconds for one in at) for start in at)

    @property
    def twice(self) -> int:
        """Number of requests that repeat an earlier one."""
        return len(self.sent) - len({*self.sent})

    def all_done(self, summary: Mapping[str, Any], rate: int) -> None:
        """Check that every row is done and reported, that only calls in flight were repeated, and rate and order."""
        assert {*self.sent} == {(action, device) for _, device, action in self.rows}
        assert self.twice <= IN_FLIGHT
        assert self.most_in(1.0) <= rate
        assert self.doubled == []
        given = ((customer, device) for customer, device, action in self.rows if action == "assign")
        assert all(self.server.fleet.owners(device) == {customer} for customer, device in given)
        told = reconciled(
            summary["folder"], "customerEmail", "deviceIdentifier", "action", "outcome", "unclearAttempts"
        )
        assert [row[:3] for row in told] == self.rows
        expected = {"assign": "assigned", "unassign": "unassigned"}
        assert [row for row in told if row[3] != expected[row[2]] and row[4] == "0"] == []
        assert summary["attention"] == 0
