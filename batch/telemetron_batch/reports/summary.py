"""How work ended, in numbers: what summary.json and `--json` hold, by its names there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.printable import json_text
from telemetron_batch.storage.atomic_file import atomic_write

SUMMARY: Final = "summary.json"
ATTENTION: Final = "attention.csv"
FILES: Final = ("reconciliation.csv", ATTENTION, "undo.csv", SUMMARY, "report.html")
"""The files for people that every run has."""
WORKBOOK: Final = "reconciliation.xlsx"
ATTENTION_WORKBOOK: Final = "attention.xlsx"
_ATTENTION_NAME: Final = re.compile(r"attention(\.new[0-9]*)?\.(csv|xlsx)")


@dataclass(frozen=True, slots=True)
class BaseSummary:
    """What work in a folder came to."""

    folder: Path
    fields: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """The work's, and so the process's."""
        return int(self.fields["exitCode"])

    def as_json(self) -> str:
        """One line of JSON."""
        return json_text(self.fields)

    def write(self) -> None:
        """Write summary.json. Raises DiskError."""
        with atomic_write(self.folder / SUMMARY) as file:
            file.write(json_text(self._file_fields(), indent=2).encode() + b"\n")

    def _file_fields(self) -> Mapping[str, Any]:
        return self.fields


@dataclass(frozen=True, slots=True)
class Summary(BaseSummary):
    """How a run ended."""

    @property
    def counts(self) -> dict[Outcome, int]:
        """Rows by outcome, every outcome named."""
        return {Outcome(name): count for name, count in self.fields["counts"].items()}

    @property
    def attention_files(self) -> list[str]:
        """Names of the files with the rows that want attention: a CSV, and perhaps a workbook."""
        names = self.fields.get("attentionFiles") or [ATTENTION]  # earlier versions did not name them
        return [name for name in names if _ATTENTION_NAME.fullmatch(name)]

    def _file_fields(self) -> Mapping[str, Any]:
        """With those files alone that are there by now."""
        files = [name for name in self.fields["files"] if (self.folder / name).exists()]
        return {**self.fields, "files": files}


@dataclass(frozen=True, slots=True)
class ShardSummary(BaseSummary):
    """How the work on a shard ended: exit code 0 where all calls to be made are settled, whatever they came to."""
