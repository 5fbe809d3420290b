"""The plan in numbers, for the confirmation on a terminal and for `plan --json`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import InputFile, OwnersSummary
from telemetron_batch.domain.preview import Preview
from telemetron_batch.planning.calls import Stage
from telemetron_batch.planning.held_rows import HoldReason, SpellingVariants
from telemetron_batch.planning.plan import Plan
from telemetron_batch.rows.rows import InvalidRows
from telemetron_batch.storage.clock import iso

_LINES: Final = 5
"""Most lines, or ranges of lines, of one file that a message names."""


@dataclass(frozen=True, slots=True)
class ActionCounts:
    """How many devices and customers an action concerns."""

    devices: int
    customers: int


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """The plan in numbers."""

    files: Sequence[InputFile]
    rows: int
    calls: int
    devices: int
    customers: int
    duplicates: int
    unchanged: int
    """Rows that are not sent because an earlier run confirmed them."""
    since_last: Mapping[str, Any] | None
    """With --since-last: what it found, as in summary.json."""
    stages: Sequence[Stage]
    action_counts: Mapping[Action, ActionCounts]
    problems: Sequence[InvalidRows]
    rate: Rate
    held_by_invalid: int
    """Assigns that are held because an invalid row is or may be an unassign of their device."""
    invalid_causes: str
    """The lines of the first of those invalid rows, as text."""
    held_by_spelling: int
    """Assigns that are held because their devices are unassigned in another spelling."""
    warnings: Sequence[str]
    """Probable mistakes in the input, found over all its rows."""
    preview: Preview | None = None
    """What a look at the customers shows; None without one."""
    non_defaults: Sequence[str] = ()
    """Sentences that name the profile file in use and an API that is not the default one."""
    owners: OwnersSummary | None = None
    """With `--owners`: where customers were looked up."""

    def with_owners(self, owners: OwnersSummary | None) -> "PlanSummary":
        """Return the summary with what was found about owners, and its warnings."""
        return self if owners is None else replace(self, owners=owners, warnings=[*self.warnings, *owners.warnings])

    @property
    def invalid(self) -> int:
        """Number of rows that are not sent because they are invalid."""
        return sum(kind.rows for kind in self.problems)

    @property
    def owner_sentences(self) -> Sequence[str]:
        """One sentence about looked-up customers, if there are any."""
        if self.owners is None or not self.owners.found + self.owners.not_found:
            return []
        found, missing = self.owners.found, self.owners.not_found
        owners = "1 owner" if found == 1 else f"{found:,} owners"
        return [f"{owners} found in {self.owners.name}, {missing:,} not found"]

    @property
    def held_sentences(self) -> Sequence[str]:
        """One sentence for each reason for which assigns are held."""
        sentences = []
        if self.held_by_invalid:
            held = _assigns_are(self.held_by_invalid)
            sentences.append(f"{held} held: an invalid row may take the device away ({self.invalid_causes})")
        if self.held_by_spelling:
            held = _assigns_are(self.held_by_spelling)
            sentences.append(f"{held} held: the device is unassigned in another spelling")
        return sentences

    @property
    def shortest_seconds(self) -> float | None:
        """Shortest time from the first to the last attempt if each call is made once; None under `auto`."""
        per_second = self.rate.per_second
        return None if per_second == float("inf") else max(0, self.calls - 1) / per_second

    def as_json(self) -> dict[str, Any]:
        """Return the summary under the keys of the JSON document."""
        return {
            "inputs": [file.as_json() for file in self.files],
            "rows": self.rows,
            "hiddenRows": sum(file.hidden_rows for file in self.files),
            "calls": self.calls,
            "devices": self.devices,
            "customers": self.customers,
            "duplicates": self.duplicates,
            "unchanged": self.unchanged,
            "since": self.since_last,
            "invalid": self.invalid,
            "owners": None if self.owners is None else self.owners.as_json(),
            "ownersFound": 0 if self.owners is None else self.owners.found,
            "ownersNotFound": 0 if self.owners is None else self.owners.not_found,
            "heldByInvalid": self.held_by_invalid,
            "heldBySpelling": self.held_by_spelling,
            "warnings": [*self.warnings],
            "stages": [
                {
                    "stage": stage.number,
                    "action": str(stage.action),
                    "calls": stage.calls,
                    "devices": stage.devices,
                }
                for stage in self.stages
            ],
            "rate": str(self.rate),
            "shortestSeconds": self.shortest_seconds,
            "problems": [
                {"problem": kind.title, "rows": kind.rows, "firstLines": list(kind.lines)} for kind in self.problems
            ],
            **({} if self.preview is None else {**self.preview.as_json(), "previewedAt": iso(self.preview.looked_at)}),
        }


def summarize(
    plan: Plan,
    files: Sequence[InputFile],
    rate: Rate,
    since_last: Mapping[str, Any] | None = None,
    non_defaults: Sequence[str] = (),
) -> PlanSummary:
    """Return the plan in numbers."""
    by_invalid, by_spelling = (plan.held.because_of(reason) for reason in HoldReason)
    return PlanSummary(
        files=files,
        rows=len(plan.rows),
        calls=plan.calls,
        devices=plan.sent_count,
        customers=plan.customers,
        duplicates=plan.duplicates,
        unchanged=int(np.count_nonzero(plan.confirmed_by)),
        since_last=since_last,
        stages=[*plan.stages()],
        action_counts={action: ActionCounts(*plan.affected_counts(action)) for action in Action},
        problems=plan.rows.invalid,
        rate=rate,
        held_by_invalid=len(by_invalid),
        invalid_causes=_lines(plan, files, np.unique(by_invalid.cause)),
        held_by_spelling=len(by_spelling),
        warnings=[*_warnings(plan, files)],
        non_defaults=non_defaults,
    )


def _assigns_are(count: int) -> str:
    return "1 assign is" if count == 1 else f"{count:,} assigns are"


def _warnings(plan: Plan, files: Sequence[InputFile]) -> Iterator[str]:
    """Yield a sentence for each identifier in several spellings; the last one counts those that are not named."""
    for variants in plan.spelling_variants.first:
        yield _variants_sentence(variants, _lines(plan, files, np.array(variants.rows, np.int64)))
    more = plan.spelling_variants.count - len(plan.spelling_variants.first)
    if more:
        yield f"{more:,} more {'identifier' if more == 1 else 'identifiers'} in several spellings"


def _variants_sentence(variants: SpellingVariants, lines: str) -> str:
    what = "MAC address" if variants.is_mac else "identifier"
    return f"one {what} in {variants.spellings} spellings ({lines})"


def _lines(plan: Plan, files: Sequence[InputFile], rows: npt.NDArray[np.int64]) -> str:
    """Return the lines of rows (in input order) as text, such as "lines 2 to 6"; of several files with their names."""
    rows, texts = rows[: _LINES * _LINES], []
    lines_by_file = zip(plan.rows.files_of(rows).tolist(), plan.rows.lines_of(rows).tolist(), strict=True)
    for file, group in groupby(lines_by_file, key=itemgetter(0)):
        of_file = f" of {files[file].name}" if len(files) > 1 else ""
        texts.append(_lines_text(sorted({line for _, line in group})) + of_file)
    return "; ".join(texts)


def _lines_text(lines: Sequence[int]) -> str:
    """Return the lines of one file as text; three or more in succession become a range."""
    ranges: list[list[int]] = []
    for line in lines:
        if ranges and line == ranges[-1][-1] + 1:
            ranges[-1].append(line)
        else:
            ranges.append([line])
    parts = [part for some in ranges for part in ([f"{some[0]} to {some[-1]}"] if len(some) > 2 else map(str, some))]
    if len(parts) > _LINES:
        return f"lines {', '.join(parts[:_LINES])}, ..."
    *first, last = parts
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{'line' if len(lines) == 1 else 'lines'} {listed}"
