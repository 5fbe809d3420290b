"""One self-contained page about a run: verdict, counts, causes, transfers, timeline, plan.

Sums up columns to the little that a page can show; its words and looks are in the
template beside it. Knows no rule of what becomes of a row, and the page asks nothing
of any network.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from telemetron_batch.domain.delimiters import DELIMITER_NAMES
from telemetron_batch.domain.outcomes import OUTCOME_FACTS, OutcomeFacts
from telemetron_batch.domain.printable import printable
from telemetron_batch.domain.stops import WayOn
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.reports.findings import (
    created_customers,
    find_causes,
    find_differences,
    find_transfers,
    find_undo,
    find_without_effect,
    verdict_sentence,
)
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.clock import iso

_EVENTS: Final = 100
_ALWAYS_THERE: Final = ("summary.json", "run.log", "journal.sqlite3")
_LONGEST: Final = 160
"""Signs of one text that the page shows at most."""

_STEPS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400)
_FEWEST, _MOST = 24, 72
_MIN_PERCENT: Final = 0.5
"""Per cent of the bar that even one row gets, to be seen at all."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Attempts and events by slice of time: from `start`, each of so many `seconds`.

    `counts` holds slice (from 0), what and how many; what is an attempt's `answered`,
    `refused`, `throttled`, `unclear` or `unsent`, or an event's `hold`, `down` or `up`.
    """

    start: float
    end: float
    seconds: float
    counts: Sequence[tuple[int, str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """All that the page is written from, besides the input's blocks."""

    fields: Mapping[str, Any]
    """What summary.json holds."""
    reconciliation: Reconciliation
    plan: PlanSummary
    timeline: Timeline | None
    """None where no attempt was made."""
    attention_file: str = "attention.csv"
    """The name of the file that holds what wants attention."""
    feed_back: str = ""
    """The command that runs what wants attention."""
    undo: str = ""
    """The command that takes back what the run has changed."""
    again: str = WayOn().words
    """How to go on with the run, as an imperative."""


@dataclass(slots=True)
class Slice:
    """What happened in one slice of time."""

    answered: int = 0
    throttled: int = 0
    unclear: int = 0
    unsent: int = 0
    waiting: bool = False
    down: bool = False

    @property
    def attempts(self) -> int:
        """All that left, or tried to."""
        return self.answered + self.throttled + self.unclear + self.unsent


def write_html(path: Path, page: Page, blocks: Iterable[RowBlock]) -> None:
    """Write the page. `blocks` are the input, in order, and gone through several times. Raises DiskError."""
    causes, causes_in_all = find_causes(page.reconciliation, blocks)
    transfers, transfers_by_state = find_transfers(page.reconciliation, blocks)
    view: dict[str, Any] = {
        "run": page.fields,
        "again": page.again,
        "feed_back": page.feed_back,
        "undo_command": page.undo,
        "attention_file": page.attention_file,
        "meaning": {str(outcome): facts.sentence for outcome, facts in OUTCOME_FACTS.items()},
        "advice": {str(outcome): _advice(facts, page.again) for outcome, facts in OUTCOME_FACTS.items()},
        "verdict": verdict_sentence(*(page.fields[name] for name in ("rows", "attention", "unassignsWithoutEffect"))),
        "without_effect": find_without_effect(page.reconciliation, blocks),
        "plan": page.plan,
        "bar": _bar(page.reconciliation),
        "causes": causes,
        "causes_in_all": causes_in_all,
        "customers": created_customers(page.reconciliation, blocks),
        "undo": find_undo(page.reconciliation, blocks),
        "differences": find_differences(page.reconciliation, blocks),
        "transfers": transfers,
        "transfers_by_state": transfers_by_state,
        "events": page.fields["events"][:_EVENTS],
        "timeline": page.timeline,
        "slices": slices(page.timeline) if page.timeline else [],
        "links": [name for name in (*page.fields["files"], *_ALWAYS_THERE) if name != path.name],
    }
    with atomic_write(path) as file:
        for piece in _template().generate(view):
            file.write(piece.encode("utf-8", "backslashreplace"))


# Pictures


def slice_seconds(duration: float, attempts: int) -> float:
    """How long a slice of the timeline shall be, so that neither slices nor attempts in one are too few."""
    wanted = duration / max(_FEWEST, min(_MOST, attempts // 8))
    days = -(-wanted // _STEPS[-1]) * _STEPS[-1]
    return float(next((step for step in _STEPS if step >= wanted), days))


def slices(timeline: Timeline) -> list[Slice]:
    """Every slice from the first attempt to the end.

    A pause lasts until the next attempt leaves, for all workers wait together; an
    outage until the API is heard again.
    """
    number = int((timeline.end - timeline.start) / timeline.seconds) + 1
    events = [dict[str, int]() for _ in range(number)]
    for at, what, count in timeline.counts:
        events[min(max(at, 0), number - 1)][what] = count
    found: list[Slice] = []
    waiting = down = False
    for event in events:
        answered = event.get("answered", 0) + event.get("refused", 0)
        throttled, unclear, unsent = (event.get(what, 0) for what in ("throttled", "unclear", "unsent"))
        one = Slice(answered, throttled, unclear, unsent)
        one.waiting = "hold" in event or (waiting and not one.attempts)
        one.down = "down" in event or (down and not answered)
        waiting = one.waiting
        down = event.get("down", 0) > event.get("up", 0) or (one.down and "up" not in event)
        found.append(one)
    return found


def _advice(facts: OutcomeFacts, again: str) -> Markup:
    """What to do about rows that ended so."""
    return _untruncated(facts.advice.format(again=f"{again[:1].upper()}{again[1:]}"))


def _bar(reconciliation: Reconciliation) -> list[tuple[str, bool, int, float, float]]:
    """Segments of the bar: outcome, wants attention, rows, and place and width in per cent."""
    wanting = reconciliation.attention_counts()
    parts = [(outcome, False, count - wanting[outcome]) for outcome, count in reconciliation.counts().items()]
    parts = [part for part in [*parts, *((outcome, True, count) for outcome, count in wanting.items())] if part[2]]
    rows = max(1, sum(count for *_, count in parts))
    widths = np.array([max(_MIN_PERCENT, 100 * count / rows) for *_, count in parts])
    widths *= 100 / max(1.0, widths.sum())
    ends = np.cumsum(widths)
    return [(*part, float(end - width), float(width)) for part, end, width in zip(parts, ends, widths, strict=True)]


# The template's vocabulary


def _harmless(value: object) -> object:
    """A text short enough to be shown, whatever would be invisible in it or turn it around spelled out."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return printable(value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…")


def _untruncated(value: str) -> Markup:
    """A text that is of no use cut short, as a command; otherwise as harmless."""
    return escape(printable(value))


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "n": "{:,}".format,
        "duration": _duration,
        "hash": _hash,
        "moment": iso,
        "pct": "{:.3f}%".format,
        "whole": _untruncated,
    }
    environment.globals["delimiter_names"] = DELIMITER_NAMES
    return environment.get_template("report.html.j2")
