"""Read what a run has written, and the marks in it."""

import csv
from collections.abc import Mapping
from pathlib import Path

DOUBT = "may be this run's own work"
"""Part of the detail of a row whose change may be the effect of an unanswered attempt."""


def read_rows(path: Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding=encoding, newline="") as file:
        return [*csv.DictReader(file)]


def reconciliation_of(run_folder: Path) -> list[dict[str, str]]:
    """Return the rows of the reconciliation of a run."""
    return read_rows(run_folder / "reconciliation.csv")


def is_marked(row: Mapping[str, str]) -> bool:
    """Return whether the row is marked as possibly the work of this run."""
    may_be = row["outcome"] in ("alreadyAssigned", "skipped") and int(row["unclearAttempts"] or 0) > 0
    return may_be and DOUBT in row["detail"]
