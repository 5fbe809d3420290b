"""Summarize a reconciliation for the page: causes, differences, created customers, transfers, undo.

Each function returns the few entries that a page can show and, where useful, the number of all.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import ACTIONS
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.model import Problem
from telemetron_batch.domain.outcomes import DONE, OUTCOMES, OWNED_AFTER, Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.reconciliation.reconcile import WAS_CREATED, Reconciliation
from telemetron_batch.rows.rows import RowBlock

_MAX_CAUSES: Final = 30
_MAX_LINES: Final = 10
_MAX_CUSTOMERS: Final = 50
_MAX_TRANSFERS: Final = 100
_MAX_NOT_UNDONE: Final = 50
_MAX_DIFFERENCES: Final = 100
_MAX_ROWS: Final = 100

LOADER_MASKS: Final = (('(?s)".*"', '"…"'),)
"""The loader quotes one cell, which may itself contain quotes."""
API_MASKS: Final = (
    ('"[^"]*"', '"…"'),
    (r"[^\s<>,;:()]+@[^\s<>,;:()]+[^\s<>,;:().]", "…@…"),
    (r"(\bHTTP [1-5]\d\d\b|\b[1-5]\d\d:)|[\w.+/#-]*\d(?:[\w.+/#-]*\w)?", r"\1…"),
    (r"(\bHTTP [1-5]\d\d\b|\b[1-5]\d\d:)…", r"\1"),
)
"""Texts of the API contain identifiers and numbers anywhere; an HTTP status is kept, because it separates causes."""

_ASSIGN_DONE: Final = [outcome.code for outcome in DONE]
_UNASSIGN_DONE: Final = [*_ASSIGN_DONE, Outcome.SKIPPED.code]
_TRANSFER_STATES: Final = ("moved", "given, not taken back", "taken back, not given", "not moved")

_STOPPED: Final = (Reason.STOPPED_BEFORE, Reason.STOPPED_AFTER_SENDING, Reason.STOPPED_AFTER_REFUSAL)

Keys = tuple[str, str]
"""Customer and device of a row."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Rows that want attention for the same reason."""

    outcome: str
    text: str
    """The detail of the rows; if it differs, with identifiers and numbers masked."""
    rows: int
    lines: Sequence[str]
    """Lines of the first rows."""
    customer: str
    device: str
    detail: str
    """The unmasked detail of one of the rows."""
    reason: Reason = Reason.NONE
    """The reason of the first row."""
    problem: Problem = Problem.NONE
    """The problem of the rows, if they are invalid."""
    contradicted: bool = False
    """Whether the verification contradicts the outcome of all these rows."""

    @property
    def is_unknown_customer(self) -> bool:
        """Whether the API does not know the customer."""
        return self.reason is Reason.CUSTOMER_NOT_FOUND

    @property
    def is_spelled_differently(self) -> bool:
        """Whether another row unassigns the device in another spelling."""
        return self.reason is Reason.UNASSIGNED_IN_OTHER_SPELLING

    @property
    def is_without_effect(self) -> bool:
        """Whether no unassign of the run had an effect."""
        return self.reason is Reason.UNASSIGN_WITHOUT_EFFECT

    @property
    def is_stopped(self) -> bool:
        """Whether the run stopped before these rows were settled."""
        return self.reason in _STOPPED


@dataclass(frozen=True, slots=True)
class Transfer:
    """A device that one row unassigns from a customer and another row assigns to a second one."""

    device: str
    taken_from: str
    given_to: str
    unassign_outcome: str
    assign_outcome: str
    """`unassign_outcome` and `assign_outcome` are the outcomes of the two rows."""
    state: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A row whose outcome the verification contradicts."""

    line: str
    customer: str
    device: str
    outcome: str
    is_with_customer: bool
    """Whether the customer has the device now."""


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row of the input."""

    line: str
    customer: str
    device: str


@dataclass(frozen=True, slots=True)
class UndoInfo:
    """The changes that undo.csv takes back, and those that it cannot."""

    rows: int
    """Changes that undo.csv takes back."""
    not_undone: int
    """Rows that changed, or may have changed, something that undo.csv leaves as it is."""
    first: Sequence["NotUndoneRow"]
    customers: int
    """Customers that the run created; the API cannot remove them."""
    devices: int
    """Devices that the run created; the API cannot remove them."""


@dataclass(frozen=True, slots=True)
class NotUndoneRow:
    """A row that undo.csv does not take back."""

    line: str
    customer: str
    device: str
    action: str
    outcome: str


# Causes of attention


def find_causes(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> tuple[list[Cause], int]:
    """Return the causes with most rows, and the number of all causes. Reads the blocks more than once."""
    attention = np.flatnonzero(reconciliation.attention())
    masked, code, examples = _masked_details(reconciliation, attention, blocks)
    key = reconciliation.outcome[attention] * np.int64(max(1, len(masked))) + code
    keys, first, counts = np.unique(key, return_index=True, return_counts=True)
    most = np.lexsort((first, -counts))[:_MAX_CAUSES]
    keys_of = _find_keys(attention[first[most]], blocks)
    found = []
    for at in most.tolist():
        rows = attention[np.flatnonzero(key == keys[at])]
        text = masked[int(code[first[at]])].as_py()
        found.append(_cause(reconciliation, rows, (text, examples.get(text)), keys_of[int(rows[0])]))
    return found, len(keys)


def _cause(reconciliation: Reconciliation, rows: Ints, texts: tuple[str, str | None], keys: Keys) -> Cause:
    """Return the cause of these rows; `texts` are the masked detail and, for invalid rows, one unmasked detail."""
    masked, example = texts
    detail = example
    if detail is None:
        detail = reconciliation.details.texts[int(reconciliation.detail[rows[0]])].as_py()
    all_alike = example is None and np.ptp(reconciliation.detail[rows]) == 0
    return Cause(
        outcome=OUTCOMES[reconciliation.outcome[rows[0]]],
        text=detail if all_alike else masked,
        rows=len(rows),
        lines=[_line_label(reconciliation, int(one)) for one in rows[:_MAX_LINES]],
        customer=keys[0],
        device=keys[1],
        detail=detail,
        reason=Reason(reconciliation.details.reasons[reconciliation.detail[rows[0]]]),
        problem=Problem(reconciliation.plan.rows.problem[rows[0]]),
        contradicted=bool(reconciliation.contradicted()[rows].all()),
    )


def _line_label(reconciliation: Reconciliation, row: int) -> str:
    """Return the line of a row, with the name of its file if there are several."""
    rows, which = reconciliation.plan.rows, np.array([row])
    line = str(rows.lines_of(which)[0])
    return (
        f"{reconciliation.file_names[rows.files_of(which)[0]]}:{line}" if len(reconciliation.file_names) > 1 else line
    )


def _masked_details(
    reconciliation: Reconciliation, attention: Ints, blocks: Iterable[RowBlock]
) -> tuple[pa.Array, npt.NDArray[np.int32], dict[str, str]]:
    """Return the distinct masked details, the position in them of each row, and an unmasked example of the loader's."""
    chunks, examples = [pc.dictionary_encode(mask_texts(reconciliation.details.texts, API_MASKS))], dict[str, str]()
    for block in blocks:
        details = block.keys["detail"].filter(pc.not_equal(block.keys["problem"], 0))
        if len(details):
            chunks.append(pc.dictionary_encode(mask_texts(details, LOADER_MASKS)))
            _, first = np.unique(chunks[-1].indices.to_numpy(), return_index=True)
            new = details.take(pa.array(first)).to_pylist()
            examples = dict(zip(chunks[-1].dictionary.to_pylist(), new, strict=True)) | examples
    unified = pa.chunked_array(chunks).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified.chunks])
    code = codes[: len(reconciliation.details)][reconciliation.detail[attention]]
    code[reconciliation.plan.rows.problem[attention] != 0] = codes[len(reconciliation.details) :]
    return unified.chunk(unified.num_chunks - 1).dictionary, code, examples


def _find_keys(rows: Iterable[int], blocks: Iterable[RowBlock]) -> dict[int, Keys]:
    """Return customer and device of some rows, by row. Stops reading blocks after the last of them."""
    pending, found, end = deque(sorted({int(row) for row in rows})), dict[int, Keys](), 0
    for block in blocks if pending else ():
        first, end = end, end + block.keys.num_rows
        while pending and pending[0] < end:
            row = pending.popleft()
            customer, device = (block.keys[name][row - first].as_py() for name in ("customerEmail", "deviceIdentifier"))
            found[row] = customer, device
        if not pending:
            break
    return found


def mask_texts(texts: pa.Array, masks: Iterable[tuple[str, str]]) -> pa.Array:
    """Return the texts with identifiers and numbers masked, so that texts of one cause are equal."""
    for pattern, replacement in masks:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


# Rows that the verification contradicts


def find_differences(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> list[Difference]:
    """Return the first rows that the verification contradicts, in input order."""
    found = []
    for row, keys in _find_keys(np.flatnonzero(reconciliation.contradicted())[:_MAX_DIFFERENCES], blocks).items():
        outcome = OUTCOMES[reconciliation.outcome[row]]
        is_with_customer = not OWNED_AFTER.get(outcome, False)
        found.append(Difference(_line_label(reconciliation, row), *keys, outcome, is_with_customer))
    return found


# Rows that a sentence is about


def find_without_effect(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> list[FoundRow]:
    """Return the first unassigns without effect, in input order."""
    return find_rows(reconciliation, np.flatnonzero(reconciliation.without_effect()), blocks)


def find_rows(reconciliation: Reconciliation, rows: Ints, blocks: Iterable[RowBlock]) -> list[FoundRow]:
    """Return the first of these rows, given in input order."""
    keys = _find_keys(rows[:_MAX_ROWS], blocks)
    return [FoundRow(_line_label(reconciliation, row), *found) for row, found in keys.items()]


# Created customers, transfers and undo


def created_customers(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> list[str]:
    """Return the first customers that this run created, in input order."""
    if not reconciliation.customers_created:
        return []
    created = reconciliation.answers.tristates["customerWasCreated"] == WAS_CREATED
    found: dict[str, None] = {}
    end = 0
    for block in blocks:
        first, end = end, end + block.keys.num_rows
        rows = np.flatnonzero(created[reconciliation.answer[first:end]])
        found |= dict.fromkeys(block.keys["customerEmail"].take(pa.array(rows)).to_pylist())
        if len(found) >= min(_MAX_CUSTOMERS, reconciliation.customers_created):
            break
    return [*found][:_MAX_CUSTOMERS]


def find_transfers(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> tuple[list[Transfer], dict[str, int]]:
    """Return the first transfers, incomplete ones before the others, and the number of transfers in each state."""
    taken, given = reconciliation.plan.transfer_unassigns, reconciliation.plan.transfer_assigns
    unknown = reconciliation.has_reason(taken, Reason.CUSTOMER_NOT_FOUND) & (
        reconciliation.outcome[taken] == Outcome.FAILED.code
    )
    is_free = np.isin(reconciliation.outcome[taken], _UNASSIGN_DONE) | unknown
    state = 2 * ~np.isin(reconciliation.outcome[given], _ASSIGN_DONE) + ~is_free
    shown = np.lexsort((given, state == 0))[:_MAX_TRANSFERS].tolist()
    counts = np.bincount(state, minlength=len(_TRANSFER_STATES)).tolist()
    keys_of = _find_keys([*taken[shown], *given[shown]], blocks)
    found = [
        Transfer(
            device=keys_of[to][1],
            taken_from=keys_of[of][0],
            given_to=keys_of[to][0],
            unassign_outcome=OUTCOMES[reconciliation.outcome[of]],
            assign_outcome=OUTCOMES[reconciliation.outcome[to]],
            state=_TRANSFER_STATES[state[at]],
        )
        for at, of, to in zip(shown, taken[shown].tolist(), given[shown].tolist(), strict=True)
    ]
    return found, dict(zip(_TRANSFER_STATES, counts, strict=True))


def find_undo(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> UndoInfo:
    """Return the changes that undo.csv takes back, and the first rows that it leaves out."""
    rows = np.flatnonzero(reconciliation.not_undone())
    keys_of = _find_keys(rows[:_MAX_NOT_UNDONE], blocks)
    return UndoInfo(
        rows=int(reconciliation.surely_changed().sum()),
        not_undone=len(rows),
        first=[_not_undone_row(reconciliation, row, keys) for row, keys in keys_of.items()],
        customers=reconciliation.customers_created,
        devices=int((reconciliation.created == WAS_CREATED).sum()),
    )


def _not_undone_row(reconciliation: Reconciliation, row: int, keys: Keys) -> NotUndoneRow:
    return NotUndoneRow(
        line=_line_label(reconciliation, row),
        customer=keys[0],
        device=keys[1],
        action=ACTIONS[reconciliation.plan.rows.action[row]],
        outcome=OUTCOMES[reconciliation.outcome[row]],
    )
