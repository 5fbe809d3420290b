"""One self-contained page about a run: verdict, counts, causes, transfers, timeline, plan.

Sums up columns to the little that a page can show; its words and looks are in the
template beside it. Knows no rule of what becomes of a row, and the page asks nothing
of any network.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from batch.clock import iso
from batch.digest import Digest
from batch.model import OUTCOMES, Action, Outcome
from batch.reconcile import Reconciliation
from batch.rows import RowBlock
from batch.whole import written_whole

_CAUSES: Final = 30
_LINES: Final = 10
_CUSTOMERS: Final = 50
_TRANSFERS: Final = 100
_EVENTS: Final = 100
_LONGEST: Final = 300
"""Signs of one text that the page shows at most."""

_QUOTED: Final = (('(?s)".*"', '"…"'),)
"""The loader quotes one cell, which may hold quotes itself."""
_NAMED: Final = (
    ('"[^"]*"', '"…"'),
    (r"[^\s<>,;:()]+@[^\s<>,;:()]+[^\s<>,;:().]", "…@…"),
    (r"(\bHTTP [1-5]\d\d\b|\b[1-5]\d\d:)|[\w.+/#-]*\d(?:[\w.+/#-]*\w)?", r"\1…"),
    (r"(\bHTTP [1-5]\d\d\b|\b[1-5]\d\d:)…", r"\1"),
)
"""The API and the sender name identifiers and numbers anywhere; a status is kept, for it tells causes apart."""

_STEPS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400)
_FEWEST, _MOST = 24, 72
_TAKEN: Final = [Outcome.UNASSIGNED.code, Outcome.SKIPPED.code, Outcome.UNCHANGED.code]
_GIVEN: Final = [Outcome.ASSIGNED.code, Outcome.ALREADY_ASSIGNED.code, Outcome.UNCHANGED.code]
_STATES: Final = ("moved", "given, not taken back", "taken back, not given", "not moved")
_THINNEST: Final = 0.5
"""Per cent of the bar that even one row gets, to be seen at all."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Attempts and events by slice of time: from `start`, each of so many `seconds`.

    `counts` holds slice (from 0), what and how many; what is an attempt's `answered`,
    `refused`, `throttled`, `unclear` or `unsent`, or an event's `hold`, `down` or `up`.
    """

    start: float
    end: float
    seconds: float
    counts: Sequence[tuple[int, str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """All that the page is written from, besides the input's blocks."""

    fields: Mapping[str, Any]
    """What summary.json holds."""
    books: Reconciliation
    plan: Digest
    timeline: Timeline | None
    """None where no attempt was made."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Rows that want attention for one reason."""

    outcome: str
    words: str
    """Their detail, identifiers and numbers folded."""
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


@dataclass(slots=True)
class Slice:
    """What happened in one slice of time."""

    answered: int = 0
    throttled: int = 0
    unclear: int = 0
    unsent: int = 0
    waiting: bool = False
    down: bool = False

    @property
    def attempts(self) -> int:
        """All that left, or tried to."""
        return self.answered + self.throttled + self.unclear + self.unsent


def write_html(path: Path, page: Page, blocks: Iterable[RowBlock]) -> None:
    """Write the page. `blocks` are the input, in order; only invalid rows are looked at. Raises DiskError."""
    causes, causes_in_all = find_causes(page.books, blocks)
    transfers, transfers_by_state = find_transfers(page.books)
    view: dict[str, Any] = {
        "run": page.fields,
        "plan": page.plan,
        "bar": _bar(page.books),
        "causes": causes,
        "causes_in_all": causes_in_all,
        "customers": created_customers(page.books),
        "transfers": transfers,
        "transfers_by_state": transfers_by_state,
        "events": page.fields["events"][:_EVENTS],
        "timeline": page.timeline,
        "slices": slices(page.timeline) if page.timeline else [],
    }
    with written_whole(path) as file:
        for piece in _template().generate(view):
            file.write(piece.encode("utf-8", "backslashreplace"))


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
    return Cause(
        outcome=OUTCOMES[books.outcome[first]],
        words=words,
        rows=len(rows),
        lines=[_place(books, int(one)) for one in rows[:_LINES]],
        customer=plan.customers[int(row["customer"])].as_py(),
        device=plan.devices[int(row["device"])].as_py(),
        detail=quoted if quoted is not None else books.details[int(books.detail[first])].as_py(),
    )


def _place(books: Reconciliation, row: int) -> str:
    """The line of a row, with its file's name where there are several."""
    frame = books.plan.rows.frame
    line = f"{frame['line'].iat[row]}"
    return f"{books.file_names[frame['file'].iat[row]]}:{line}" if len(books.file_names) > 1 else line


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


# Customers and transfers


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
    state = 2 * ~np.isin(books.outcome[given], _GIVEN) + ~np.isin(books.outcome[taken], _TAKEN)
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
    customer = rows.frame["customer"]
    return Transfer(
        device=rows.devices[int(rows.frame["device"].iat[given])].as_py(),
        taken_from=rows.customers[int(customer.iat[taken])].as_py(),
        given_to=rows.customers[int(customer.iat[given])].as_py(),
        taken=OUTCOMES[books.outcome[taken]],
        given=OUTCOMES[books.outcome[given]],
        state=state,
    )


# Pictures


def slice_seconds(duration: float, attempts: int) -> float:
    """How long a slice of the timeline shall be, so that neither slices nor attempts in one are too few."""
    wanted = duration / max(_FEWEST, min(_MOST, attempts // 8))
    days = -(-wanted // _STEPS[-1]) * _STEPS[-1]
    return float(next((step for step in _STEPS if step >= wanted), days))


def slices(timeline: Timeline) -> list[Slice]:
    """Every slice from the first attempt to the end.

    A pause lasts until the next attempt leaves, for all workers wait together; an
    outage until the API is heard again.
    """
    number = int((timeline.end - timeline.start) / timeline.seconds) + 1
    events = [dict[str, int]() for _ in range(number)]
    for at, what, count in timeline.counts:
        events[min(max(at, 0), number - 1)][what] = count
    found: list[Slice] = []
    waiting = down = False
    for event in events:
        answered = event.get("answered", 0) + event.get("refused", 0)
        one = Slice(answered, *(event.get(what, 0) for what in ("throttled", "unclear", "unsent")))
        one.waiting = "hold" in event or (waiting and not one.attempts)
        one.down = "down" in event or (down and not answered)
        waiting = one.waiting
        down = event.get("down", 0) > event.get("up", 0) or (one.down and "up" not in event)
        found.append(one)
    return found


def _bar(books: Reconciliation) -> list[tuple[str, bool, int, float, float]]:
    """Segments of the bar: outcome, wants attention, rows, and place and width in per cent."""
    wanting = books.attention_counts()
    parts = [(outcome, False, count - wanting[outcome]) for outcome, count in books.counts().items()]
    parts = [part for part in [*parts, *((outcome, True, count) for outcome, count in wanting.items())] if part[2]]
    rows = max(1, sum(count for *_, count in parts))
    widths = np.array([max(_THINNEST, 100 * count / rows) for *_, count in parts])
    widths *= 100 / max(1.0, widths.sum())
    ends = np.cumsum(widths)
    return [(*part, float(end - width), float(width)) for part, end, width in zip(parts, ends, widths, strict=True)]


# The template's vocabulary


def _harmless(value: object) -> object:
    """A text short enough to be shown, whatever would be invisible in it or turn it around spelled out."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    short = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in short)


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "n": "{:,}".format,
        "duration": _duration,
        "hash": _hash,
        "moment": iso,
        "pct": "{:.3f}%".format,
    }
    return environment.get_template("report.html.j2")
