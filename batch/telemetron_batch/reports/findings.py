"""What a reader looks for in the books of a run: causes, created customers, transfers.

Group-bys on the integer columns of a reconciliation. Gives the few that a page can
show and the number of all; how they are shown is not known here.
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
from telemetron_batch.domain.model import Problem
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.reconciliation.reconcile import WAS_CREATED, Reconciliation
from telemetron_batch.rows.rows import RowBlock

_CAUSES: Final = 30
_LINES: Final = 10
_CUSTOMERS: Final = 50
_TRANSFERS: Final = 100
_NOT_UNDONE: Final = 50
_DIFFERENCES: Final = 100
_WITHOUT_EFFECT: Final = 100

_QUOTED: Final = (('(?s)".*"', '"…"'),)
"""The loader quotes one cell, which may hold quotes itself."""
_NAMED: Final = (
    ('"[^"]*"', '"…"'),
    (r"[^\s<>,;:()]+@[^\s<>,;:()]+[^\s<>,;:().]", "…@…"),
    (r"(\bHTTP [1-5]\d\d\b|\b[1-5]\d\d:)|[\w.+/#-]*\d(?:[\w.+/#-]*\w)?", r"\1…"),
    (r"(\bHTTP [1-5]\d\d\b|\b[1-5]\d\d:)…", r"\1"),
)
"""The API and the sender name identifiers and numbers anywhere; a status is kept, for it tells causes apart."""

_TAKEN: Final = [Outcome.UNASSIGNED.code, Outcome.SKIPPED.code, Outcome.UNCHANGED.code]
_GIVEN: Final = [Outcome.ASSIGNED.code, Outcome.ALREADY_ASSIGNED.code, Outcome.UNCHANGED.code]
_STATES: Final = ("moved", "given, not taken back", "taken back, not given", "not moved")

_STOPPED: Final = (Reason.STOPPED_BEFORE, Reason.STOPPED_AFTER_SENDING, Reason.STOPPED_AFTER_REFUSAL)

Ints = npt.NDArray[np.int64]
Keys = tuple[str, str]
"""Customer and device of a row."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Rows that want attention for one reason."""

    outcome: str
    words: str
    """Their detail; where it differs, identifiers and numbers folded."""
    rows: int
    lines: Sequence[str]
    """Where the first of them stand."""
    customer: str
    device: str
    detail: str
    """Of one of them, as it stands in the reconciliation."""
    reason: Reason = Reason.NONE
    """Of one of them; all have it unless they differ in the words."""
    problem: Problem = Problem.NONE
    """What is wrong with the rows, if they are invalid."""
    differs: bool = False
    """Does the API hold something else than the outcome says?"""

    @property
    def is_unknown_customer(self) -> bool:
        """Does the API not know the customer?"""
        return self.reason is Reason.CUSTOMER_NOT_FOUND

    @property
    def is_spelled_otherwise(self) -> bool:
        """Does another row unassign the device in another spelling?"""
        return self.reason is Reason.UNASSIGNED_IN_OTHER_SPELLING

    @property
    def is_without_effect(self) -> bool:
        """Is it that no unassign of the run had an effect?"""
        return self.reason is Reason.UNASSIGN_WITHOUT_EFFECT

    @property
    def is_stopped(self) -> bool:
        """Did the run stop before the rows were settled?"""
        return self.reason in _STOPPED


@dataclass(frozen=True, slots=True)
class Transfer:
    """A device on its way from one customer of the file to another."""

    device: str
    taken_from: str
    given_to: str
    taken: str
    given: str
    """Outcomes of the two rows."""
    state: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of which the API was seen to hold something else than its outcome says."""

    line: str
    customer: str
    device: str
    outcome: str
    is_held: bool
    """Does the customer hold the device?"""


@dataclass(frozen=True, slots=True)
class WithoutEffect:
    """An unassign of a device that its customer did not have."""

    line: str
    customer: str
    device: str


@dataclass(frozen=True, slots=True)
class UndoInfo:
    """What undo.csv takes back of a run, and what it cannot."""

    rows: int
    """Changes that it takes back."""
    left_out: int
    """Rows that changed something, or perhaps, and that it leaves as they are."""
    first: Sequence["NotUndoneRow"]
    customers: int
    """Customers that the run created: nothing removes them."""
    devices: int
    """Devices that it created."""


@dataclass(frozen=True, slots=True)
class NotUndoneRow:
    """A row that undo.csv does not take back."""

    line: str
    customer: str
    device: str
    action: str
    outcome: str


def verdict_sentence(rows: int, attention: int, without_effect: int = 0) -> str:
    """Say what became of a run's rows, by their number, those that want attention, and unassigns without effect.

    Without a full stop.
    """
    return "; ".join(filter(None, (_settled(rows, attention), told_without_effect(without_effect))))


def told_without_effect(unassigns: int) -> str:
    """Say that so many unassigns had no effect; empty for none."""
    if not unassigns:
        return ""
    return "1 unassign had no effect" if unassigns == 1 else f"{unassigns:,} unassigns had no effect"


def _settled(rows: int, attention: int) -> str:
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


# What wants attention


def find_causes(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> tuple[list[Cause], int]:
    """The causes with most rows, and how many there are in all. Goes through the blocks more than once."""
    wanting = np.flatnonzero(reconciliation.attention())
    words, code, quoted = _folded(reconciliation, wanting, blocks)
    key = reconciliation.outcome[wanting] * np.int64(max(1, len(words))) + code
    keys, first, counts = np.unique(key, return_index=True, return_counts=True)
    most = np.lexsort((first, -counts))[:_CAUSES]
    keys_of = _keys_of(wanting[first[most]], blocks)
    found = []
    for at in most.tolist():
        rows = wanting[np.flatnonzero(key == keys[at])]
        text = words[int(code[first[at]])].as_py()
        found.append(_cause(reconciliation, rows, (text, quoted.get(text)), keys_of[int(rows[0])]))
    return found, len(keys)


def _cause(reconciliation: Reconciliation, rows: Ints, told: tuple[str, str | None], keys: Keys) -> Cause:
    """A cause with these rows; told are its words, and what the loader said of one of them."""
    words, quoted = told
    detail = quoted if quoted is not None else reconciliation.details.texts[int(reconciliation.detail[rows[0]])].as_py()
    alike = quoted is None and np.ptp(reconciliation.detail[rows]) == 0
    return Cause(
        outcome=OUTCOMES[reconciliation.outcome[rows[0]]],
        words=detail if alike else words,
        rows=len(rows),
        lines=[_line_label(reconciliation, int(one)) for one in rows[:_LINES]],
        customer=keys[0],
        device=keys[1],
        detail=detail,
        reason=Reason(reconciliation.details.reasons[reconciliation.detail[rows[0]]]),
        problem=Problem(reconciliation.plan.rows.problem[rows[0]]),
        differs=bool(reconciliation.contradicted()[rows].all()),
    )


def _line_label(reconciliation: Reconciliation, row: int) -> str:
    """The line of a row, with its file's name where there are several."""
    rows, which = reconciliation.plan.rows, np.array([row])
    line = str(rows.lines_of(which)[0])
    return (
        f"{reconciliation.file_names[rows.files_of(which)[0]]}:{line}" if len(reconciliation.file_names) > 1 else line
    )


def _folded(
    reconciliation: Reconciliation, wanting: Ints, blocks: Iterable[RowBlock]
) -> tuple[pa.Array, npt.NDArray[np.int32], dict[str, str]]:
    """Folded details as distinct texts; each wanting row's position in them; and of the loader's one example each."""
    chunks, quoted = [pc.dictionary_encode(_fold(reconciliation.details.texts, _NAMED))], dict[str, str]()
    for block in blocks:
        details = block.keys["detail"].filter(pc.not_equal(block.keys["problem"], 0))
        if len(details):
            chunks.append(pc.dictionary_encode(_fold(details, _QUOTED)))
            _, first = np.unique(chunks[-1].indices.to_numpy(), return_index=True)
            examples = details.take(pa.array(first)).to_pylist()
            quoted = dict(zip(chunks[-1].dictionary.to_pylist(), examples, strict=True)) | quoted
    unified = pa.chunked_array(chunks).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified.chunks])
    code = codes[: len(reconciliation.details)][reconciliation.detail[wanting]]
    code[reconciliation.plan.rows.problem[wanting] != 0] = codes[len(reconciliation.details) :]
    return unified.chunk(unified.num_chunks - 1).dictionary, code, quoted


def _keys_of(rows: Iterable[int], blocks: Iterable[RowBlock]) -> dict[int, Keys]:
    """Customer and device of some rows; goes through the blocks no further than need be."""
    wanted, found, end = deque(sorted({int(row) for row in rows})), dict[int, Keys](), 0
    for block in blocks if wanted else ():
        first, end = end, end + block.keys.num_rows
        while wanted and wanted[0] < end:
            row = wanted.popleft()
            customer, device = (block.keys[name][row - first].as_py() for name in ("customerEmail", "deviceIdentifier"))
            found[row] = customer, device
        if not wanted:
            break
    return found


def _fold(texts: pa.Array, folds: Iterable[tuple[str, str]]) -> pa.Array:
    """The texts without what tells equal causes apart."""
    for pattern, instead in folds:
        texts = pc.replace_substring_regex(texts, pattern, instead)
    return texts


# What differs


def find_differences(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> list[Difference]:
    """The first rows of which the API was seen to hold something else, in input order."""
    found = []
    for row, keys in _keys_of(np.flatnonzero(reconciliation.contradicted())[:_DIFFERENCES], blocks).items():
        outcome = OUTCOMES[reconciliation.outcome[row]]
        is_held = outcome not in (Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED)
        found.append(Difference(_line_label(reconciliation, row), *keys, outcome, is_held))
    return found


# Unassigns without effect


def find_without_effect(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> list[WithoutEffect]:
    """Return the first unassigns that took nothing, in input order."""
    rows = np.flatnonzero(reconciliation.without_effect())[:_WITHOUT_EFFECT]
    return [WithoutEffect(_line_label(reconciliation, row), *keys) for row, keys in _keys_of(rows, blocks).items()]


# Customers, transfers, and what can be undone


def created_customers(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> list[str]:
    """The first customers that this run created, in input order."""
    if not reconciliation.customers_created:
        return []
    created = reconciliation.answers.customer_was_created == WAS_CREATED
    found: dict[str, None] = {}
    end = 0
    for block in blocks:
        first, end = end, end + block.keys.num_rows
        rows = np.flatnonzero(created[reconciliation.answer[first:end]])
        found |= dict.fromkeys(block.keys["customerEmail"].take(pa.array(rows)).to_pylist())
        if len(found) >= min(_CUSTOMERS, reconciliation.customers_created):
            break
    return [*found][:_CUSTOMERS]


def find_transfers(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> tuple[list[Transfer], dict[str, int]]:
    """The first transfers, those that did not come off before the others, and the number of each state."""
    taken, given = reconciliation.plan.transfer_unassigns, reconciliation.plan.transfer_assigns
    unknown = reconciliation.has_reason(taken, Reason.CUSTOMER_NOT_FOUND) & (
        reconciliation.outcome[taken] == Outcome.FAILED.code
    )
    is_free = np.isin(reconciliation.outcome[taken], _TAKEN) | unknown
    state = 2 * ~np.isin(reconciliation.outcome[given], _GIVEN) + ~is_free
    shown = np.lexsort((given, state == 0))[:_TRANSFERS].tolist()
    counts = np.bincount(state, minlength=len(_STATES)).tolist()
    keys_of = _keys_of([*taken[shown], *given[shown]], blocks)
    found = [
        Transfer(
            device=keys_of[to][1],
            taken_from=keys_of[of][0],
            given_to=keys_of[to][0],
            taken=OUTCOMES[reconciliation.outcome[of]],
            given=OUTCOMES[reconciliation.outcome[to]],
            state=_STATES[state[at]],
        )
        for at, of, to in zip(shown, taken[shown].tolist(), given[shown].tolist(), strict=True)
    ]
    return found, dict(zip(_STATES, counts, strict=True))


def find_undo(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> UndoInfo:
    """What undo.csv takes back, and the first rows that it leaves out."""
    rows = np.flatnonzero(reconciliation.not_undone())
    keys_of = _keys_of(rows[:_NOT_UNDONE], blocks)
    return UndoInfo(
        rows=int(reconciliation.surely_changed().sum()),
        left_out=len(rows),
        first=[_left_out(reconciliation, row, keys) for row, keys in keys_of.items()],
        customers=reconciliation.customers_created,
        devices=int((reconciliation.created == WAS_CREATED).sum()),
    )


def _left_out(reconciliation: Reconciliation, row: int, keys: Keys) -> NotUndoneRow:
    return NotUndoneRow(
        line=_line_label(reconciliation, row),
        customer=keys[0],
        device=keys[1],
        action=ACTIONS[reconciliation.plan.rows.action[row]],
        outcome=OUTCOMES[reconciliation.outcome[row]],
    )
