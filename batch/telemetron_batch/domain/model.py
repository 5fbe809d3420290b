"""The nouns of the trade as frozen values: action, outcome, call, attempt, answer.

Nothing here reads a file, a clock or the network, and nothing here is a row: rows
are columns and live in `rows.py`. Standard library only, so that a front door can
import it without paying for pandas.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, NoReturn

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import Reason, Unheard


class Problem(IntEnum):
    """Why a row is `invalid`, as a number for integer columns; 0 is no problem."""

    NONE = 0
    CELLS = 1
    EMPTY_KEY = 2
    EMAIL = 3
    ACTION = 4
    DEVICE_TYPE = 5
    DAMAGED = 6
    FORMULA = 7
    CONTROL = 8
    TOO_LONG = 9
    ENCODING = 10
    TRAILER = 11
    LONG_NUMBER = 20
    CELL_VALUE = 21
    NO_VALUE = 22
    SIGNS = 40
    DECODED_TWICE = 41
    SEVERAL = 42
    PLACEHOLDER = 43
    DATED = 45

    @property
    def title(self) -> str:
        """The kind of problem in words, for lists of problems by kind."""
        return _PROBLEM_TITLES[self]

    @property
    def is_of_the_source(self) -> bool:
        """Is what was meant best looked up where the file comes from?"""
        return self in _OF_THE_SOURCE


_OF_THE_SOURCE: Final = frozenset(
    {
        Problem.CELLS,
        Problem.DAMAGED,
        Problem.FORMULA,
        Problem.CONTROL,
        Problem.TOO_LONG,
        Problem.LONG_NUMBER,
        Problem.CELL_VALUE,
        Problem.SIGNS,
        Problem.DECODED_TWICE,
        Problem.SEVERAL,
        Problem.PLACEHOLDER,
    }
)
_PROBLEM_TITLES: Final = {
    Problem.NONE: "no problem",
    Problem.CELLS: "wrong number of cells",
    Problem.EMPTY_KEY: "empty key cell",
    Problem.EMAIL: "not an email address",
    Problem.ACTION: "unknown action word",
    Problem.DEVICE_TYPE: "no device type",
    Problem.DAMAGED: "identifier damaged by a spreadsheet",
    Problem.FORMULA: "identifier a spreadsheet would run",
    Problem.CONTROL: "control character in a key cell",
    Problem.TOO_LONG: "key cell too long",
    Problem.ENCODING: "letters of unsure encoding",
    Problem.TRAILER: "trailer line, not a row",
    Problem.LONG_NUMBER: "number of more than 15 digits",
    Problem.CELL_VALUE: "date, fraction or other value for an identifier",
    Problem.NO_VALUE: "formula without a stored value",
    Problem.SIGNS: "signs that do not belong into an identifier",
    Problem.DECODED_TWICE: "text decoded twice",
    Problem.SEVERAL: "several identifiers in one cell",
    Problem.PLACEHOLDER: "placeholder instead of a serial",
    Problem.DATED: "key cell that a spreadsheet may have taken for a date",
}


class HiddenRows(StrEnum):
    """What to do about the hidden and filtered rows of a workbook's sheet."""

    REFUSE = "refuse"
    SKIP = "skip"
    READ = "read"


class Secret:
    """A text that never prints itself and cannot be stored."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text, for the one place that must send it."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not stored")


class Split(NamedTuple):
    """A field whose cells are split, and the signs that separate the parts."""

    field: str
    separators: str = ",;\r\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class InputOptions:
    """What the user said about the input; empty or None means: find it out."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Field name (`customerEmail`, `deviceIdentifier`, `action`, `deviceType`) to the file's header."""
    action_words: Mapping[str, Action] = field(default_factory=dict)
    """The file's own words for the actions, lowercased."""
    action: Action | None = None
    """The action of every row, for files without an action column."""
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    hidden: HiddenRows = HiddenRows.REFUSE
    allow_suspect: bool = False
    multiline_cells: bool = False
    last_line: str = "warn"
    """What to do about a last line without an end: `warn`, `refuse`, or nothing where the rows are counted."""
    split: Split | None = None
    """The column whose cells hold several values, each of which is a row."""
    fill_down: tuple[str, ...] = ()
    """Fields whose empty cells take the value above."""
    trailer_count: str | None = None
    """Pattern whose one group finds the number of rows in the line that closes a file."""
    auto_create_devices: bool = False
    device_type: str | None = None
    """The type of every device that auto-create makes, where no column says it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """What shapes the plan; a run can only be resumed under the same."""

    chunk_size: int = 500
    auto_create_devices: bool = False
    hold: bool = field(default=True, repr=False)
    """Hold assigns because of what other rows of the input say. Not in the text that goes into fingerprints:
    rows that are held do so themselves, and earlier versions knew neither."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """One input file as it was read: the evidence that a report shows."""

    name: str
    path: str
    sha256: str
    """Of the bytes as stored (compressed where the file is)."""
    rows: int
    """Those made by splitting cells count each."""
    header: tuple[str, ...]
    header_line: int
    encoding: str
    delimiter: str
    columns: Mapping[str, str]
    """The mapping used: field name to the header as the file spells it."""
    warnings: tuple[str, ...] = ()
    trailer_count: int | None = None
    """The number of rows that the line closing the file says it has; None where none was looked for."""
    records: int | None = None
    """The records that the rows come from; None in journals of earlier versions, where each row was one."""
    written: float | None = None
    """When it was last written, in seconds since the epoch; None where that cannot be known."""
    hidden_rows: int = 0
    """Hidden rows of a workbook's sheet that were left out."""

    @property
    def is_workbook(self) -> bool:
        """Is it a workbook?"""
        return self.encoding == "xlsx"

    @property
    def record_count(self) -> int:
        """The records that the rows come from."""
        return self.rows if self.records is None else self.records

    def as_json(self) -> dict[str, object]:
        """By the names of the JSON documents."""
        return {
            "name": self.name,
            "path": self.path,
            "sha256": self.sha256,
            "rows": self.rows,
            "records": self.record_count,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "header": list(self.header),
            "headerLine": self.header_line,
            "columns": dict(self.columns),
            "warnings": list(self.warnings),
            "trailerCount": self.trailer_count,
            "hiddenRows": self.hidden_rows,
        }


@dataclass(frozen=True, slots=True)
class Call:
    """One bulk request to be made: one customer, one action, at most chunk-size devices."""

    number: int
    """Counts from 1 in the order of the plan."""
    stage: int
    customer: str
    action: Action
    devices: tuple[str, ...]
    device_type: str | None = None
    """Given exactly when devices are to be created automatically."""


class DeviceResult(NamedTuple):
    """What an answer says of one device."""

    outcome: Outcome
    device_id: str = ""
    was_created: bool | None = None
    reason: Reason = Reason.NONE
    text: str = ""
    """What completes the reason's sentence."""
    unheard: Unheard = Unheard.NOTHING


@dataclass(slots=True, eq=False, repr=False)
class Results(Mapping[int, DeviceResult]):
    """What was said of devices, by their positions in `Call.devices`.

    Columns, all as long as `positions`: there is one entry for each row that is sent, and an
    object for each would cost more than all else that is done for it. A column of which nothing
    is to be said is None.
    """

    positions: Sequence[int]
    codes: Sequence[int]
    """Of the outcomes."""
    device_ids: Sequence[str]
    created: Sequence[bool | None]
    reasons: Sequence[int] | None = None
    texts: Sequence[str] | None = None
    unheard: Sequence[int] | None = None
    _index: dict[int, int] | None = None

    @classmethod
    def of(cls, results: Mapping[int, DeviceResult]) -> "Results":
        """Return the same as columns."""
        if isinstance(results, Results):
            return results
        outcomes, ids, created, reasons, texts, unheard = (
            zip(*results.values(), strict=True) if results else [()] * len(DeviceResult._fields)
        )
        return cls(
            [*results],
            [outcome.code for outcome in outcomes],
            ids,
            created,
            [*map(int, reasons)] if any(reasons) else None,
            texts=texts if any(texts) else None,
            unheard=[*map(int, unheard)] if any(unheard) else None,
        )

    def counts(self) -> dict[Outcome, int]:
        """Return the number of devices by outcome."""
        return {OUTCOMES[code]: self.codes.count(code) for code in set(self.codes)}

    def without_effect(self) -> int:
        """Return the number of devices that the customer of an unassign surely did not have."""
        if not self.has_reason(Reason.NOT_WITH_CUSTOMER) or self.reasons is None:
            return 0
        if self.unheard is None:
            return self.reasons.count(Reason.NOT_WITH_CUSTOMER)
        told = zip(self.reasons, self.unheard, strict=True)
        return sum(reason == Reason.NOT_WITH_CUSTOMER and not unheard for reason, unheard in told)

    def has_reason(self, reason: Reason) -> bool:
        """Return whether any device has this reason."""
        return self.reasons is not None and reason in self.reasons

    def __getitem__(self, position: int) -> DeviceResult:
        if self._index is None:
            self._index = {position: place for place, position in enumerate(self.positions)}
        at = self._index[position]
        return DeviceResult(
            OUTCOMES[self.codes[at]],
            self.device_ids[at],
            self.created[at],
            Reason(self.reasons[at]) if self.reasons else Reason.NONE,
            self.texts[at] if self.texts else "",
            Unheard(self.unheard[at]) if self.unheard else Unheard.NOTHING,
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call, or the part of it that one request asked for, came to.

    `results` maps the device's position in `Call.devices` to its result, so that two
    identifiers that differ only in case can never be taken for each other.
    """

    results: Mapping[int, DeviceResult]
    customer_id: str = ""
    customer_was_created: bool | None = None
    http_status: int | None = None
    attempts: int = 0
    unclear_attempts: int = 0
    """Earlier attempts that may have acted without our hearing of it."""
    answered_at: float | None = None
    """Seconds since the epoch."""
    devices_remaining: int | None = None
    """How many devices the customer of an unassign still has, by the answer; None where it does not say."""


@dataclass(frozen=True, slots=True)
class CustomerHoldings:
    """What the API said when it was asked what a customer holds."""

    customer: str
    at: float
    """When the question left, in seconds since the epoch."""
    devices: frozenset[str] | None
    """Their identifiers as the API spells them; None where that could not be learnt."""
    error: str = ""
    """Why it could not be learnt the last time that it was asked."""
    is_known: bool = True
    """Does the API know this customer? If not, they hold nothing."""
    after_attempt: int | None = None
    """The number of the last attempt in the journal when the question left, if none before could act any more."""
