"""A world of devices on their way from one customer to another, and a watch over who owns them."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import HEADER
from tests.support.faulty import Arrived, Fault, FaultyServer

Row = tuple[str, str, str]
IN_FLIGHT = 8
"""Calls that one process has under way at most."""


def transfers(number: int, world: str = "x") -> list[Row]:
    """So many devices that change hands, and as many new ones: a call for each row. Each world has its own."""
    taken = [(f"old{at}@{world}.com", f"{world}-SN-{at}", "unassign") for at in range(number)]
    given = [(f"new{at}@{world}.com", f"{world}-SN-{at}", "assign") for at in range(number)]
    more = [(f"other{at}@{world}.com", f"{world}-MORE-{at}", "assign") for at in range(number)]
    return given + taken + more


def write(path: Path, rows: Sequence[Row]) -> str:
    """An input of these rows."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows)
    return str(path)


def reconciled(folder: str | Path, *columns: str) -> list[tuple[str, ...]]:
    """Columns of a run's reconciliation, row by row."""
    with (Path(folder) / "reconciliation.csv").open(newline="") as file:
        return [tuple(row[name] for name in columns) for row in csv.DictReader(file)]


@dataclass
class Watch:
    """Sees every request before it is carried out, and remembers devices that would come to have two owners."""

    server: FaultyServer
    rows: Sequence[Row]
    then: Callable[[Arrived], Fault] = lambda _: None
    doubled: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def over(cls, server: FaultyServer, rows: Sequence[Row]) -> "Watch":
        """A watch over a server on which whoever unassigns a device has it, and nobody else has any."""
        watch = cls(server, rows)
        for customer, device, action in rows:
            if action == "unassign":
                server.fleet.assign(customer, [device], create=True)
        server.seen.clear()
        server.script = watch.script
        return watch

    def script(self, arrived: Arrived) -> Fault:
        """Look, then do what is scripted."""
        if arrived.action == "assign":
            found = ((device, self.server.fleet.owners(device)) for device in arrived.devices)
            self.doubled += [(device, one) for device, owners in found for one in owners - {arrived.customer}]
        return self.then(arrived)

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Action and device of each request, in the order in which they arrived."""
        return [(seen.action, device) for seen in self.server.seen for device in seen.devices]

    def most_in(self, seconds: float) -> int:
        """The most requests that arrived in any window so long."""
        at = [seen.at for seen in self.server.seen]
        return max(sum(start <= one < start + seconds for one in at) for start in at)

    @property
    def twice(self) -> int:
        """How many requests repeat an earlier one."""
        return len(self.sent) - len({*self.sent})

    def all_done(self, summary: Mapping[str, Any], rate: int) -> None:
        """Every row is done and said to be; what was in flight at a kill at most twice; rate and order are kept."""
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
