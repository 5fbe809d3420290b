"""What a reader looks for in the books of a run: causes, created customers, transfers.

Group-bys on the integer columns of a reconciliation. Gives the few that a page can
show and the number of all; how they are shown is not known here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch.model import ACTIONS, OUTCOMES, Action, Outcome
from batch.reconcile import Reconciliation
from batch.rows import RowBlock
from batch.verdict import CUSTOMER_NOT_FOUND

_CAUSES: Final = 30
_LINES: Final = 10
_CUSTOMERS: Final = 50
_TRANSFERS: Final = 100
_NOT_UNDONE: Final = 50
_DIFFERENCES: Final = 100

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

Ints = npt.NDArray[np.int64]


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
class Undo:
    """What undo.csv takes back of a run, and what it cannot."""

    rows: int
    """Changes that it takes back."""
    left_out: int
    """Rows that changed something, or perhaps, and that it leaves as they are."""
    first: Sequence["LeftOut"]
    customers: int
    """Customers that the run created: nothing removes them."""
    devices: int
    """Devices that it created."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that undo.csv does not take back."""

    line: str
    customer: str
    device: str
    action: str
    outcome: str


def in_a_sentence(rows: int, attention: int) -> str:
    """What became of a run's rows, so many of which want attention; without a full stop."""
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


def find_causes(books: Reconciliation, blocks: Iterable[RowBlock]) -> tuple[list[Cause], int]:
    """The causes with most rows, and how many there are in all."""
    words, code, quoted = _folded(books, blocks)
    wanting = np.flatnonzero(books.attention())
    key = books.outcome[wanting] * np.int64(max(1, len(words))) + code[wanting]
    keys, first, counts = np.unique(key, return_index=True, return_counts=True)
    found = []
    for at in np.lexsort((first, -counts))[:_CAUSES].tolist():
        rows = wanting[np.flatnonzero(key == keys[at])]
        text = words[int(code[rows[0]])].as_py()
        found.append(_cause(books, rows, text, quoted.get(text)))
    return found, len(keys)


def _cause(books: Reconciliation, rows: Ints, words: str, quoted: str | None) -> Cause:
    plan, first = books.plan.rows, int(rows[0])
    row = plan.frame.iloc[first]
    detail = quoted if quoted is not None else books.details[int(books.detail[first])].as_py()
    alike = quoted is None and np.ptp(books.detail[rows]) == 0
    return Cause(
        outcome=OUTCOMES[books.outcome[first]],
        words=detail if alike else words,
        rows=len(rows),
        lines=[_place(books, int(one)) for one in rows[:_LINES]],
        customer=plan.customers[int(row["customer"])].as_py(),
        device=plan.devices[int(row["device"])].as_py(),
        detail=detail,
    )


def _place(books: Reconciliation, row: int) -> str:
    """The line of a row, with its file's name where there are several."""
    line, file = (books.plan.rows.frame[name].to_numpy()[row] for name in ("line", "file"))
    return f"{books.file_names[file]}:{line}" if len(books.file_names) > 1 else f"{line}"


def _folded(books: Reconciliation, blocks: Iterable[RowBlock]) -> tuple[pa.Array, Ints, dict[str, str]]:
    """Folded details as distinct texts; each row's position in them; and of the loader's one example each."""
    chunks, quoted = [pc.dictionary_encode(_fold(books.details, _NAMED))], dict[str, str]()
    for block in blocks:
        details = block.keys["detail"].filter(pc.not_equal(block.keys["problem"], 0))
        if len(details):
            chunks.append(pc.dictionary_encode(_fold(details, _QUOTED)))
            _, first = np.unique(chunks[-1].indices.to_numpy(), return_index=True)
            examples = details.take(pa.array(first)).to_pylist()
            quoted = dict(zip(chunks[-1].dictionary.to_pylist(), examples, strict=True)) | quoted
    unified = pa.chunked_array(chunks).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified.chunks])
    code = codes[: len(books.details)][books.detail].astype(np.int64)
    code[books.plan.rows.frame["problem"].to_numpy() != 0] = codes[len(books.details) :]
    return unified.chunk(unified.num_chunks - 1).dictionary, code, quoted


def _fold(texts: pa.Array, folds: Iterable[tuple[str, str]]) -> pa.Array:
    """The texts without what tells equal causes apart."""
    for pattern, instead in folds:
        texts = pc.replace_substring_regex(texts, pattern, instead)
    return texts


# What differs


def find_differences(books: Reconciliation) -> list[Difference]:
    """The first rows of which the API was seen to hold something else, in input order."""
    rows = books.plan.rows
    found = []
    for row in np.flatnonzero(books.differs())[:_DIFFERENCES].tolist():
        customer, device = (int(rows.frame[name].to_numpy()[row]) for name in ("customer", "device"))
        outcome = OUTCOMES[books.outcome[row]]
        is_held = outcome not in (Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED)
        names = rows.customers[customer].as_py(), rows.devices[device].as_py()
        found.append(Difference(_place(books, row), *names, outcome, is_held))
    return found


# Customers, transfers, and what can be undone


def created_customers(books: Reconciliation) -> list[str]:
    """The first customers that this run created, in input order."""
    created = pc.equal(books.answers["customerWasCreated"], "true").to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(created[books.answer])
    customer = books.plan.rows.frame["customer"].to_numpy()[rows]
    _, first = np.unique(customer, return_index=True)
    codes = customer[np.sort(first)[:_CUSTOMERS]]
    names: list[str] = books.plan.rows.customers.take(pa.array(codes)).to_pylist()
    return names


def find_transfers(books: Reconciliation) -> tuple[list[Transfer], dict[str, int]]:
    """The first transfers, those that did not come off before the others, and the number of each state."""
    taken, given = _transferred(books)
    unknown = pc.equal(books.details, CUSTOMER_NOT_FOUND).to_numpy(zero_copy_only=False)
    is_free = np.isin(books.outcome[taken], _TAKEN) | unknown[books.detail[taken]]
    state = 2 * ~np.isin(books.outcome[given], _GIVEN) + ~is_free
    shown = np.lexsort((given, state == 0))[:_TRANSFERS].tolist()
    counts = np.bincount(state, minlength=len(_STATES)).tolist()
    found = [_transfer(books, int(taken[at]), int(given[at]), _STATES[state[at]]) for at in shown]
    return found, dict(zip(_STATES, counts, strict=True))


def _transferred(books: Reconciliation) -> tuple[Ints, Ints]:
    """Rows of transfers: each assign, and the unassign by which its device left another customer.

    That is the last one before it in the file, else the next one after it.
    """
    frame = books.plan.rows.frame
    sent = np.sort(books.plan.order)
    by_device = sent[np.argsort(frame["device"].to_numpy()[sent], kind="stable")]
    device, customer, action = (frame[name].to_numpy()[by_device] for name in ("device", "customer", "action"))
    at = np.arange(len(by_device))
    unassign = action == Action.UNASSIGN.code
    before = np.maximum.accumulate(np.where(unassign, at, 0))
    after = np.minimum.accumulate(np.where(unassign, at, len(at) - 1)[::-1])[::-1]
    taken = np.full(len(at), -1)
    for other in (after, before):
        fits = unassign[other] & ~unassign & (device[other] == device) & (customer[other] != customer)
        taken[fits] = other[fits]
    moved = taken >= 0
    return by_device[taken[moved]], by_device[moved]


def _transfer(books: Reconciliation, taken: int, given: int, state: str) -> Transfer:
    rows = books.plan.rows
    customer, device = rows.frame["customer"].to_numpy(), rows.frame["device"].to_numpy()
    return Transfer(
        device=rows.devices[int(device[given])].as_py(),
        taken_from=rows.customers[int(customer[taken])].as_py(),
        given_to=rows.customers[int(customer[given])].as_py(),
        taken=OUTCOMES[books.outcome[taken]],
        given=OUTCOMES[books.outcome[given]],
        state=state,
    )


def find_undo(books: Reconciliation) -> Undo:
    """What undo.csv takes back, and the first rows that it leaves out."""
    rows = np.flatnonzero(books.not_undone())
    return Undo(
        rows=int(books.surely_changed().sum()),
        left_out=len(rows),
        first=[_left_out(books, row) for row in rows[:_NOT_UNDONE].tolist()],
        customers=books.customers_created,
        devices=int((books.created == 1).sum()),
    )


def _left_out(books: Reconciliation, row: int) -> LeftOut:
    rows = books.plan.rows
    customer, device, action = (int(rows.frame[name].to_numpy()[row]) for name in ("customer", "device", "action"))
    return LeftOut(
        line=_place(books, row),
        customer=rows.customers[customer].as_py(),
        device=rows.devices[device].as_py(),
        action=ACTIONS[action],
        outcome=OUTCOMES[books.outcome[row]],
    )
