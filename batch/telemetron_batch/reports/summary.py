"""The summary of a run or of a shard: the fields of summary.json and of `--json`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.printable import json_text
from telemetron_batch.storage.atomic_file import atomic_write

SUMMARY: Final = "summary.json"
ATTENTION: Final = "attention.csv"
FILES: Final = ("reconciliation.csv", ATTENTION, "undo.csv", SUMMARY, "report.html")
"""The files that every run writes for people."""
PREVIEW: Final = "preview.csv"
"""Written by a look before sending."""
WORKBOOK: Final = "reconciliation.xlsx"
ATTENTION_WORKBOOK: Final = "attention.xlsx"
_ATTENTION_NAME: Final = re.compile(r"attention(\.new[0-9]*)?\.(csv|xlsx)")


@dataclass(frozen=True, slots=True)
class BaseSummary:
    """The summary of work in one folder."""

    folder: Path
    fields: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """The exit code of the process."""
        return int(self.fields["exitCode"])

    def as_json(self) -> str:
        """Return the fields as one line of JSON."""
        return json_text(self.fields)

    def write(self) -> None:
        """Write summary.json. Raises DiskError."""
        with atomic_write(self.folder / SUMMARY) as file:
            file.write(json_text(self._file_fields(), indent=2).encode() + b"\n")

    def _file_fields(self) -> Mapping[str, Any]:
        return self.fields


@dataclass(frozen=True, slots=True)
class CauseSummary:
    """Rows that want attention for the same reason, in a line for a message."""

    outcome: str
    rows: int
    text: str
    """The reason, without identifiers of people and devices."""
    detail: str
    """The detail of one of the rows."""
    example: str
    """Line, customer and device of that row."""


@dataclass(frozen=True, slots=True)
class Summary(BaseSummary):
    """The summary of a run."""

    causes: Sequence[CauseSummary] = ()
    """The reasons of most rows that want attention, if a message is to name them; in no file."""

    @property
    def counts(self) -> dict[Outcome, int]:
        """The number of rows with each outcome, zeros included."""
        return {Outcome(name): count for name, count in self.fields["counts"].items()}

    @property
    def attention_files(self) -> list[str]:
        """Names of the current attention files: a CSV and, for some runs, a workbook."""
        names = self.fields.get("attentionFiles") or [ATTENTION]  # earlier versions did not name them
        return [name for name in names if _ATTENTION_NAME.fullmatch(name)]

    def _file_fields(self) -> Mapping[str, Any]:
        """Return the fields; `files` names only files that already exist."""
        files = [name for name in self.fields["files"] if (self.folder / name).exists()]
        return {**self.fields, "files": files}


@dataclass(frozen=True, slots=True)
class ShardSummary(BaseSummary):
    """The summary of work on a shard. Its exit code is 0 if all calls are settled, also if rows failed."""


def verdict_sentence(fields: Mapping[str, Any], *, fixed: bool = False) -> str:
    """Return the result of a run as one sentence without a full stop.

    `fields` are those of summary.json. With `fixed` the sentence has the same words for all numbers, so that
    programs can search for it; else it is written for people.
    """
    rows, attention = fields["rows"], fields["attention"]
    if fixed:
        verdict = f"{rows - attention:,} of {rows:,} rows are where they should be; {attention:,} want attention"
    else:
        verdict = _verdict_for_people(rows, attention)
    return "; ".join(filter(None, (verdict, _without_effect(fields.get("unassignsWithoutEffect", 0)))))


def _verdict_for_people(rows: int, attention: int) -> str:
    settled = rows - attention
    if not rows:
        return "The input has no rows; nothing was sent"
    if rows == 1:
        return "The one row wants attention" if attention else "The one row is where it should be"
    if not attention:
        return f"All {rows:,} rows are where they should be"
    are = "is where it" if settled < 2 else "are where they"
    want = "wants" if attention == 1 else "want"
    return f"{f'{settled:,}' if settled else 'None'} of {rows:,} rows {are} should be; {attention:,} {want} attention"


def _without_effect(unassigns: int) -> str:
    if not unassigns:
        return ""
    return "1 unassign had no effect" if unassigns == 1 else f"{unassigns:,} unassigns had no effect"
