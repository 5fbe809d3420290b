"""No claim about a customer's devices is wrong, however the API spells and compares identifiers.

Claims are checked against a model of the API that knows which devices each customer really has.
"""

import csv
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetron_batch.sandbox.state import Assigned, SandboxState, Unassigned
from tests.conftest import Desk, Ran
from tests.support.scripted import Hangs, Loses, Says, ScriptedServer

EXAMPLES = int(os.environ.get("TESTS_EXAMPLES", settings.default.max_examples * 30 // 100))
DOUBT = "may be this run's own work"
A, B = "a@x.com", "b@x.com"


def as_is(text: str) -> str:
    return text


def bare(text: str) -> str:
    """Return the text without case and separators."""
    return re.sub(r"[^0-9a-z]", "", text.lower())


@dataclass(frozen=True)
class Dialect:
    """How an API compares identifiers, and how it spells the stored ones."""

    compares: Callable[[str], str]
    keeps: Callable[[str], str]
    echoes: bool
    """Whether answers spell devices as in the request."""


EXACT = st.builds(Dialect, st.just(as_is), st.sampled_from([as_is, " {} ".format]), st.booleans())
LOOSE = st.builds(
    Dialect,
    st.just(bare),
    st.sampled_from([as_is, " {} ".format, str.upper, lambda text: text.replace(":", ""), bare]),
    st.booleans(),
)


class SpellingFleet(SandboxState):
    """A sandbox state that compares and spells identifiers by its `Dialect`."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self._dialect = dialect
        self._kept: dict[str, str] = {}

    def really_has(self, email: str, device: str) -> bool:
        """Return whether the customer has this device in any spelling."""
        compares = self._dialect.compares
        return compares(device) in {compares(one.strip()) for one in self.devices_of(email)}

    def assign(self, email: str, devices: Iterable[str], *, create: bool = False) -> Assigned | None:
        asked = self._translated(devices)
        done = super().assign(email, asked, create=create)
        if done is None or not self._dialect.echoes:
            return done
        assigned, already = (
            tuple(one._replace(identifier=asked[one.identifier]) for one in some)
            for some in (done.assigned, done.already)
        )
        skipped = tuple(asked[one] for one in done.skipped)
        return Assigned(done.customer_id, done.customer_was_created, assigned, already, skipped)

    def unassign(self, email: str, devices: Iterable[str]) -> Unassigned | None:
        asked = self._translated(devices)
        done = super().unassign(email, asked)
        if done is None or not self._dialect.echoes:
            return done
        taken, skipped = (tuple(asked[one] for one in some) for some in (done.unassigned, done.skipped))
        return Unassigned(done.customer_id, taken, skipped, done.remaining)

    def _translated(self, devices: Iterable[str]) -> dict[str, str]:
        """Return the devices as stored and as requested."""
        compares, keeps = self._dialect.compares, self._dialect.keeps
        return {self._kept.setdefault(compares(device), keeps(device)): device for device in devices}


def spell(device: str, style: int) -> str:
    """Return one of several spellings of the same device."""
    return [device, device.upper(), device.replace(":", ""), device.replace(":", "-"), device.replace(":", "").upper()][
        style
    ]


FAULTS = [None, None, Loses(acted=True), Loses(acted=False), Hangs(acted=True), Says(500, {"error": "Internal error"})]
BASES = ["aa:b1", "sn:1", "sn:2", "c0:ff:ee"]
placed = st.dictionaries(st.tuples(st.sampled_from([A, B]), st.sampled_from(BASES)), st.integers(0, 4), max_size=6).map(
    lambda found: [(customer, spell(base, style)) for (customer, base), style in found.items()]
)
any_rows = st.lists(
    st.tuples(st.sampled_from([A, B]), st.builds(spell, st.sampled_from(BASES), st.integers(0, 4))),
    unique=True,
    max_size=6,
)


def worlds(dialects: st.SearchStrategy[Dialect], rows: st.SearchStrategy[Any]) -> Any:
    return given(
        dialect=dialects,
        rows=rows.filter(bool),
        owned=placed,
        actions=st.lists(st.sampled_from(["assign", "unassign"]), min_size=6, max_size=6),
        faults=st.lists(st.sampled_from(FAULTS), max_size=15),
        attempts=st.integers(1, 3),
        baseline=st.booleans(),
    )


def check_run(dialect: Dialect, rows: list[tuple[str, str]], owned: list[tuple[str, str]], **how: Any) -> None:
    """Run and verify against an API of this dialect, and check every claim."""
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        fleet = SpellingFleet(dialect)
        faults = [None, *how["faults"]]
        desk.server = ScriptedServer(
            fleet, lambda seen: faults[seen.number - 1] if seen.number <= len(faults) else None
        )
        for customer, device in owned:
            fleet.assign(customer, [device])
        had = {pair: fleet.really_has(*pair) for pair in rows}
        # The first row is answered, so that the API is known to be there.
        table = [("first@x.com", "first", "unassign"), *((*pair, how["actions"][at]) for at, pair in enumerate(rows))]
        ran = desk.run(table, attempts=str(how["attempts"]), chunk_size="2", baseline=how["baseline"], timeout="30")
        check_claims(ran, fleet, had)
        faults.clear()
        check_claims(desk.verify(ran), fleet, had)


def check_claims(ran: Ran, fleet: SpellingFleet, had: dict[tuple[str, str], bool]) -> None:
    """Check every claim of a run against the real devices of customers before and after it."""
    for row in ran.rows[1:]:
        pair = row["customerEmail"], row["deviceIdentifier"]
        before, now = had[pair], fleet.really_has(*pair)
        wanted = row["action"] == "assign"
        match row["outcome"]:
            case "assigned" | "unassigned":
                assert (before, now) == (not wanted, wanted), row
            case "alreadyAssigned" | "skipped":
                assert now == wanted, row
                assert DOUBT in row["detail"] or before == wanted, row
            case "failed":
                assert before == now, row
        if row.get("verified"):
            says = row["outcome"] in ("assigned", "alreadyAssigned") or (row["outcome"] == "failed" and not wanted)
            assert (now == says) == (row["verified"] == "yes"), row
    with (ran.folder / "undo.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            pair = row["customerEmail"], row["deviceIdentifier"]
            assert had[pair] == (row["action"] == "assign") != fleet.really_has(*pair), row


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@worlds(LOOSE, placed)
def test_no_claim_is_wrong_where_the_api_ignores_case_and_separators(**world: Any) -> None:
    check_run(**world)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@worlds(EXACT, any_rows)
def test_no_claim_is_wrong_where_the_api_compares_exactly(**world: Any) -> None:
    check_run(**world)
