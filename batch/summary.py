"""How work ended, in numbers: what summary.json and `--json` hold, by its names there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batch.model import Outcome
from batch.storage.whole import written_whole

SUMMARY: Final = "summary.json"
FILES: Final = ("reconciliation.csv", "attention.csv", "undo.csv", SUMMARY, "report.html")
"""The files for people that every run has."""
WORKBOOK: Final = "reconciliation.xlsx"


@dataclass(frozen=True, slots=True)
class InNumbers:
    """What work in a folder came to."""

    folder: Path
    fields: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """The work's, and so the process's."""
        return int(self.fields["exitCode"])

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.fields, ensure_ascii=False)

    def write(self) -> None:
        """Write summary.json. Raises DiskError."""
        with written_whole(self.folder / SUMMARY) as file:
            file.write(json.dumps(self._on_file(), ensure_ascii=False, indent=2).encode() + b"\n")

    def _on_file(self) -> Mapping[str, Any]:
        return self.fields


@dataclass(frozen=True, slots=True)
class Summary(InNumbers):
    """How a run ended."""

    @property
    def counts(self) -> dict[Outcome, int]:
        """Rows by outcome, every outcome named."""
        return {Outcome(name): count for name, count in self.fields["counts"].items()}

    def _on_file(self) -> Mapping[str, Any]:
        """With those files alone that are there by now."""
        files = [name for name in self.fields["files"] if (self.folder / name).exists()]
        return {**self.fields, "files": files}


@dataclass(frozen=True, slots=True)
class ShardSummary(InNumbers):
    """How the work on a shard ended: exit code 0 where all calls to be made are settled, whatever they came to."""
