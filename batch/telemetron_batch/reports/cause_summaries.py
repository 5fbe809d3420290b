"""Why rows want attention, in a few lines for a message, with and without identifiers."""

from collections.abc import Iterable
from typing import Final

import pyarrow as pa

from telemetron_batch.domain.model import Problem
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.reports.findings import API_MASKS, LOADER_MASKS, Cause, find_causes, mask_texts
from telemetron_batch.reports.summary import CauseSummary
from telemetron_batch.rows.rows import RowBlock

_MOST: Final = 5
_MASKED: Final = "…"


def top_causes(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> list[CauseSummary]:
    """Return the causes with most rows. Reads the blocks more than once."""
    if not reconciliation.attention().any():
        return []
    return [_summary(cause) for cause in find_causes(reconciliation, blocks)[0][:_MOST]]


def _summary(cause: Cause) -> CauseSummary:
    example = ", ".join(filter(None, (f"line {cause.lines[0]}", cause.customer, cause.device)))
    return CauseSummary(cause.outcome, cause.rows, _masked_text(cause), cause.detail, example)


def _masked_text(cause: Cause) -> str:
    """Return the text of a cause without identifiers, also if all rows have the same text."""
    text = cause.text
    for identifier in filter(None, (cause.customer, cause.device)):
        text = text.replace(identifier, _MASKED)
    masks = API_MASKS if cause.problem is Problem.NONE else (*LOADER_MASKS, API_MASKS[1])
    return str(mask_texts(pa.array([text]), masks)[0].as_py())
