"""Write report.html, a self-contained page about a run: verdict, counts, causes, transfers, timeline, plan.

The texts are in the template beside this module, which inlines the style sheet and the script. The page loads nothing
from the network. Jinja would compile the template anew in every process, which takes longer than all else about the
page; `compiled_page` holds it compiled.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.delimiters import DELIMITER_NAMES
from telemetron_batch.domain.outcomes import OUTCOME_PROPERTIES, OutcomeProperties
from telemetron_batch.domain.printable import printable
from telemetron_batch.domain.stops import ResumeHint
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.reconciliation.remaining_devices import Holder
from telemetron_batch.reports import compiled_page
from telemetron_batch.reports.findings import (
    created_customers,
    find_causes,
    find_differences,
    find_rows,
    find_transfers,
    find_undo,
    find_without_effect,
)
from telemetron_batch.reports.summary import verdict_sentence
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.clock import duration, iso

TEMPLATE: Final = "report.html.j2"
_FOLDER: Final = Path(__file__).parent
MAX_HOLDERS: Final = 20
"""Customers who still have devices that the page names."""
_MAX_EVENTS: Final = 100
_COMMON_FILES: Final = ("summary.json", "run.log", "journal.sqlite3")
_MAX_TEXT: Final = 160
"""Maximum characters of a text that the page shows."""

_SLICE_STEPS_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400)
_MIN_SLICES, _MAX_SLICES = 24, 72
_MIN_PERCENT: Final = 0.5
"""Minimum width of a bar segment, so that even one row can be seen."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Numbers of attempts and events in slices of time of `seconds` each, from `start`.

    `counts` holds the slice (from 0), the kind and the number. The kind of an attempt is `answered`, `refused`,
    `throttled`, `unclear` or `unsent`, that of an event `hold`, `down` or `up`.
    """

    start: float
    end: float
    seconds: float
    counts: Sequence[tuple[int, str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The data of the page, besides the blocks of the input."""

    fields: Mapping[str, Any]
    """The fields of summary.json."""
    reconciliation: Reconciliation
    plan: PlanSummary
    timeline: Timeline | None
    """None if no attempt was made."""
    changed_by_others: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows whose outcome differs from the preview."""
    holders: Sequence[Holder] = ()
    """Those of the customers who still have devices that have most."""
    attention_file: str = "attention.csv"
    """The name of the current attention file."""
    rerun_attention_command: str = ""
    """The command that runs the attention file."""
    undo_command: str = ""
    """The command that takes back the changes of the run."""
    continue_advice: str = ResumeHint().words
    """How to continue the run, as an imperative."""


@dataclass(slots=True)
class Slice:
    """The attempts in one slice of time, and whether the run waited or the API was down."""

    answered: int = 0
    throttled: int = 0
    unclear: int = 0
    unsent: int = 0
    waiting: bool = False
    down: bool = False

    @property
    def attempts(self) -> int:
        """Number of all attempts, sent or not."""
        return self.answered + self.throttled + self.unclear + self.unsent


def write_html(path: Path, page: Page, blocks: Iterable[RowBlock]) -> None:
    """Write the page. `blocks` are those of the input, in order; they are read several times. Raises DiskError."""
    causes, causes_in_all = find_causes(page.reconciliation, blocks)
    transfers, transfers_by_state = find_transfers(page.reconciliation, blocks)
    view: dict[str, Any] = {
        "run": page.fields,
        "continue_advice": page.continue_advice,
        "feed_back": page.rerun_attention_command,
        "undo_command": page.undo_command,
        "attention_file": page.attention_file,
        "meaning": {str(outcome): facts.sentence for outcome, facts in OUTCOME_PROPERTIES.items()},
        "advice": {str(outcome): _advice(facts, page.continue_advice) for outcome, facts in OUTCOME_PROPERTIES.items()},
        "verdict": verdict_sentence(page.fields),
        "changed_by_others": find_rows(page.reconciliation, page.changed_by_others, blocks),
        "without_effect": find_without_effect(page.reconciliation, blocks),
        "holders": page.holders,
        "plan": page.plan,
        "bar": _bar_segments(page.fields),
        "causes": causes,
        "causes_in_all": causes_in_all,
        "customers": created_customers(page.reconciliation, blocks),
        "undo": find_undo(page.reconciliation, blocks),
        "differences": find_differences(page.reconciliation, blocks),
        "transfers": transfers,
        "transfers_by_state": transfers_by_state,
        "events": page.fields["events"][:_MAX_EVENTS],
        "timeline": page.timeline,
        "slices": slices(page.timeline) if page.timeline else [],
        "links": [name for name in (*page.fields["files"], *_COMMON_FILES) if name != path.name],
    }
    with atomic_write(path) as file:
        for piece in _template().generate(view):
            file.write(piece.encode("utf-8", "backslashreplace"))


# The bar and the timeline


def slice_seconds(duration: float, attempts: int) -> float:
    """Return the length of a slice of the timeline that gives a readable number of slices."""
    wanted = duration / max(_MIN_SLICES, min(_MAX_SLICES, attempts // 8))
    days = -(-wanted // _SLICE_STEPS_S[-1]) * _SLICE_STEPS_S[-1]
    return float(next((step for step in _SLICE_STEPS_S if step >= wanted), days))


def slices(timeline: Timeline) -> list[Slice]:
    """Return every slice from the first attempt to the end.

    A pause lasts until the next attempt, because all workers wait together; an outage lasts until the next answer.
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


def _advice(facts: OutcomeProperties, continue_advice: str) -> Markup:
    """Return the advice for rows with an outcome."""
    return _untruncated(facts.advice.format(again=f"{continue_advice[:1].upper()}{continue_advice[1:]}"))


def _bar_segments(fields: Mapping[str, Any]) -> list[tuple[str, bool, int, float, float]]:
    """Return the segments of the bar: outcome, whether they want attention, rows, and position and width in percent."""
    wanting = fields["attentionByOutcome"]
    parts = [(outcome, False, count - wanting.get(outcome, 0)) for outcome, count in fields["counts"].items()]
    parts = [part for part in [*parts, *((outcome, True, count) for outcome, count in wanting.items())] if part[2]]
    rows = max(1, sum(count for *_, count in parts))
    widths = np.array([max(_MIN_PERCENT, 100 * count / rows) for *_, count in parts])
    widths *= 100 / max(1.0, widths.sum())
    ends = np.cumsum(widths)
    return [(*part, float(end - width), float(width)) for part, end, width in zip(parts, ends, widths, strict=True)]


# Filters of the template


def _to_shown_text(value: object) -> object:
    """Return a text cut to `_MAX_TEXT`, with invisible and direction-changing characters escaped."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return printable(value if len(value) <= _MAX_TEXT else value[: _MAX_TEXT - 1] + "…")


def _untruncated(value: str) -> Markup:
    """Return a text uncut, such as a command; otherwise as `_to_shown_text` does."""
    return escape(printable(value))


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 10 else duration(seconds)


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _template() -> Template:
    """Return the compiled template; the version of Jinja that compiled it is the only one that surely runs it."""
    environment = template_environment()
    if getattr(jinja2, "__version__", None) != compiled_page.JINJA_VERSION:
        return environment.get_template(TEMPLATE)
    return Template.from_module_dict(environment, vars(compiled_page), environment.make_globals(None))


def template_environment() -> Environment:
    """Return the filters, globals and settings that the template is compiled and rendered with."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_to_shown_text,
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
    environment.globals |= {
        "delimiter_names": DELIMITER_NAMES,
        "style": Markup((_FOLDER / "report.css").read_text("utf-8")),  # noqa: S704 - our own file
        "script": Markup((_FOLDER / "report.js").read_text("utf-8")),  # noqa: S704 - our own file
    }
    return environment
