"""What a notebook shows of a plan and of a result: a few lines of HTML for light and dark pages.

Text and lines have the colours of the page; only the dots of the outcomes have colours of their own.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from telemetron_batch.domain.outcomes import Outcome, Tone
from telemetron_batch.domain.printable import printable
from telemetron_batch.python_api.fields import PlanFields, RunFields
from telemetron_batch.reports.summary import verdict_sentence

_MAX_ROWS: Final = 12
"""Rows of a table; a plan can have thousands of stages."""
_COLOURS: Final = {Tone.GOOD: "#2f9e6e", Tone.PLAIN: "#868e96", Tone.DOUBT: "#d98a00", Tone.WRONG: "#d6455d"}
_TABLE: Final = '<table style="border-collapse:collapse;margin:.4em 0;color:inherit;background:transparent">'
_CELL: Final = "text-align:left;padding:.1em .8em .1em 0"


def run_html(folder: Path, fields: RunFields) -> str:
    """Return the verdict, the outcomes and where to look."""
    outcomes = [(Outcome(name), count) for name, count in fields.counts.items() if count]
    rows = [
        (_dot(outcome), escape(outcome), f"{count:,}", escape(outcome.facts.sentence)) for outcome, count in outcomes
    ]
    lines = [f"<b>{_text(verdict_sentence(fields))}.</b>", _table(("", "outcome", "rows", ""), rows)]
    if fields.stop:
        lines.append(f"Stopped: {_text(str(fields.stop['reason']))}; {_text(str(fields.stop['advice']))}<br>")
    lines.append(
        f"Run {_text(fields.run_id)}, exit code {fields.exit_code}, files in <code>{_text(str(folder))}</code>"
    )
    return _block(lines)


def plan_html(fields: PlanFields) -> str:
    """Return the plan in numbers, its stages, and the rows that will not be sent."""
    numbers = (
        f"{fields.rows:,} rows: {fields.devices:,} devices of {fields.customers:,} customers, {fields.calls:,} calls"
    )
    lines = [f"<b>{numbers}.</b> {fields.duplicates:,} duplicate, {fields.invalid:,} invalid."]
    stages = [
        (f"{one['stage']}", _text(one["action"]), f"{one['calls']:,}", f"{one['devices']:,}") for one in fields.stages
    ]
    lines.append(_table(("stage", "action", "calls", "devices"), stages))
    if fields.problems:
        problems = [
            (_text(one["problem"]), f"{one['rows']:,}", _first_lines(one["firstLines"])) for one in fields.problems
        ]
        lines.append(_table(("not sent", "rows", "first lines"), problems))
    if fields.folder is not None:
        approval = f"fingerprint <code>{_text(str(fields.fingerprint))}</code>, {_text(str(fields.state))}"
        lines.append(f"Saved as run {_text(str(fields.run_id))} in <code>{_text(fields.folder)}</code>: {approval}")
    return _block(lines)


def _text(text: str) -> str:
    return escape(printable(text))


def _dot(outcome: Outcome) -> str:
    return f'<span style="color:{_COLOURS[outcome.facts.tone]}">&#9679;</span>'


def _first_lines(lines: Iterable[object]) -> str:
    return ", ".join(map(str, lines))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its cells are HTML."""
    shown = [*rows[:_MAX_ROWS], *([("...",)] if len(rows) > _MAX_ROWS else [])]
    head = "".join(f'<th style="{_CELL}">{cell}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in shown)
    return f"{_TABLE}<tr>{head}</tr>{body}</table>" if rows else ""


def _cell(cell: str) -> str:
    return f'<td style="{_CELL}">{cell}</td>'


def _block(lines: Iterable[str]) -> str:
    return f'<div style="color:inherit;line-height:1.5">{"".join(filter(None, lines))}</div>'
