"""A small run, killed at every step of its journal, network and files: the same command completes it.

The program runs in its own process (`tests/support/crashing.py`) against a server on a socket; results are compared
with the server's log.
"""

import itertools
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.books import is_marked
from tests.support.crashing import KILLED, Forge, Heard, Left, Place, Server, left_by, refusing

pytestmark = pytest.mark.slow

A, B, NEW, UNKNOWN, BACK = "a@x.com", "b@x.com", "new@x.com", "nobody@x.com", "back@x.com"
CONCURRENCY = 4
OPTIONS = {"rate": "2000/s", "concurrency": str(CONCURRENCY), "chunk-size": "4", "timeout": "0.5"}
ROWS = [
    (A, "SN-1", "assign", "assigned"),
    (A, "SN-2", "assign", "alreadyAssigned"),
    (A, "POISON-3", "assign", "failed"),
    (A, "SN-4", "assign", "assigned"),
    (A, "SN-5", "assign", "assigned"),
    (A, "SN-1", "assign", "duplicate"),
    (A, "UNKNOWN-6", "assign", "skipped"),
    (A, "MOVED-1", "unassign", "unassigned"),
    (B, "MOVED-1", "assign", "assigned"),
    (A, "GONE-1", "unassign", "unassigned"),
    (A, "NEVER-HIS", "unassign", "skipped"),
    ("no email", "SN-7", "assign", "invalid"),
    (UNKNOWN, "SN-8", "unassign", "failed"),
    (NEW, "SN-9", "assign", "assigned"),
    (NEW, "SN-10", "assign", "assigned"),
    (BACK, "SN-11", "assign", "assigned"),
    (BACK, "SN-11", "unassign", "unassigned"),
]
BEFORE = {A: ["SN-2", "MOVED-1", "GONE-1"]}
AFTER = {A: ["SN-1", "SN-2", "SN-4", "SN-5"], B: ["MOVED-1"], NEW: ["SN-10", "SN-9"], BACK: [], UNKNOWN: []}
REPEATED = {"assigned": "alreadyAssigned", "unassigned": "skipped"}
EXIT_CODE = 1


@dataclass
class Tally:
    """The figures of this proof."""

    points: int = 0
    rows: int = 0
    right: int = 0
    repeated: int = 0
    most_repeated: int = 0

    def __str__(self) -> str:
        return (
            f"{self.points} points, {self.right} of {self.rows} rows right, "
            f"{self.repeated} requests repeated (at most {self.most_repeated} a kill)"
        )


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    with Forge() as forge:
        yield forge


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(refusing("POISON")) as server:
        yield server


class Scene:
    """A small run with its own folder and server."""

    def __init__(self, folder: Path, server: Server, forge: Forge) -> None:
        folder.mkdir()
        lines = ["customerEmail,deviceIdentifier,action", *(",".join(row[:3]) for row in ROWS)]
        (folder / "rows.csv").write_text("\n".join(lines) + "\n")
        server.renew()
        for customer, devices in BEFORE.items():
            server.fleet.assign(customer, devices)
        self.place = Place(folder, server, forge, OPTIONS)
        self.server = server

    def crash(self, boundary: int) -> bool:
        """Run until that boundary; gives whether there was one so late."""
        code = self.place.run(crash_at=boundary)
        assert code in (KILLED, EXIT_CODE), self.place.said
        return code == KILLED


def wrong_rows(books: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows that differ from an undisturbed run without a reason."""
    assert len(books) == len(ROWS)
    return [row for row, (_, _, _, outcome) in zip(books, ROWS, strict=True) if not is_right(row, outcome)]


def is_right(row: dict[str, str], outcome: str) -> bool:
    unsure = int(row["unclearAttempts"] or 0) > 0 and (outcome, row["outcome"]) == ("failed", "unconfirmed")
    return row["outcome"] == outcome or (row["outcome"] == REPEATED.get(outcome) and is_marked(row)) or unsure


def sent_again(left: Left, since: list[Heard]) -> list[Heard]:
    """Return requests that the journal already had an answer for."""
    return [heard for heard in since if heard.request in left.ended or heard.asked & left.settled]


def finish(scene: Scene, tally: Tally, undisturbed: int, kills: int = 1) -> None:
    """Repeat the command and check everything it writes."""
    place, server = scene.place, scene.server
    server.settle()
    left, heard = left_by(place.run_folder), len(server.heard)
    assert left.in_flight <= CONCURRENCY * kills
    assert place.run() == EXIT_CODE, place.said
    wrong = wrong_rows(scene.place.books)
    assert wrong == [], place.said
    assert {customer: server.fleet.devices_of(customer) for customer in AFTER} == AFTER, place.said
    assert sent_again(left, server.heard[heard:]) == [], place.said
    assert server.shared == [], place.said
    assert place.leftovers == [], place.said
    repeated = len(server.heard) - undisturbed
    assert repeated <= CONCURRENCY * kills, place.said
    tally.points += 1
    tally.rows += len(ROWS)
    tally.right += len(ROWS) - len(wrong)
    tally.repeated += max(0, repeated)
    tally.most_repeated = max(tally.most_repeated, -(-repeated // kills))


@pytest.fixture
def undisturbed(tmp_path: Path, server: Server, forge: Forge) -> int:
    """The number of requests of an undisturbed run."""
    scene = Scene(tmp_path / "undisturbed", server, forge)
    assert scene.place.run() == EXIT_CODE, scene.place.said
    assert [row["outcome"] for row in scene.place.books] == [outcome for *_, outcome in ROWS]
    assert {customer: server.fleet.devices_of(customer) for customer in AFTER} == AFTER
    assert len({heard.request for heard in server.heard}) == len(server.heard)
    return len(server.heard)


def test_a_kill_at_any_boundary_changes_no_outcome(
    tmp_path: Path, server: Server, forge: Forge, undisturbed: int
) -> None:
    tally = Tally()
    for boundary in itertools.count(1):
        scene = Scene(tmp_path / str(boundary), server, forge)
        if not scene.crash(boundary):
            break
        finish(scene, tally, undisturbed)
    sys.stdout.write(f"\nkilled at every boundary: {tally}\n")
    assert tally.points > 5 * undisturbed


def test_a_second_kill_after_resuming_changes_no_outcome(
    tmp_path: Path, server: Server, forge: Forge, undisturbed: int
) -> None:
    tally, chance = Tally(), random.Random(1)
    for sample in range(60):
        scene = Scene(tmp_path / str(sample), server, forge)
        scene.crash(chance.randrange(1, 90))
        scene.crash(chance.randrange(1, 60))
        finish(scene, tally, undisturbed, kills=2)
    sys.stdout.write(f"\nkilled again while going on: {tally}\n")
