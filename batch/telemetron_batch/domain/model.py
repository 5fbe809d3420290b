"""Value types of the domain: options of the input and the plan, input files, calls.

Rows are columns, not objects: see `rows.rows`. Only the standard library is imported, so that the command
line starts without pandas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple, NoReturn

from telemetron_batch.domain.actions import Action


class Problem(IntEnum):
    """Why a row is `invalid`, as a number for integer columns; 0 means no problem."""

    NONE = 0
    CELL_COUNT = 1
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
    BROKEN_RECORD = 12
    LONG_NUMBER = 20
    CELL_VALUE = 21
    NO_VALUE = 22
    MISPLACED_CHARACTERS = 40
    DECODED_TWICE = 41
    SEVERAL_IDENTIFIERS = 42
    PLACEHOLDER = 43
    TAKEN_FOR_DATE = 45
    OWNER_NOT_FOUND = 60
    OWNER_SPELLED_OTHERWISE = 61
    SEVERAL_OWNERS = 62
    OWNER_UNCLEAR = 63
    OWNER_ROW_INVALID = 64

    @property
    def title(self) -> str:
        """The kind of problem as text, for lists of problems by kind."""
        return _PROBLEM_TITLES[self]

    @property
    def is_fixed_in_source(self) -> bool:
        """Whether the value is best corrected in the system that the file comes from."""
        return self in _CORRECT_IN_SOURCE


MISALIGNED: Final = (Problem.CELL_COUNT, Problem.BROKEN_RECORD)
"""Problems of a record whose cells cannot be told apart, so that its columns are left blank."""
_CORRECT_IN_SOURCE: Final = frozenset(
    {
        *MISALIGNED,
        Problem.DAMAGED,
        Problem.FORMULA,
        Problem.CONTROL,
        Problem.TOO_LONG,
        Problem.LONG_NUMBER,
        Problem.CELL_VALUE,
        Problem.MISPLACED_CHARACTERS,
        Problem.DECODED_TWICE,
        Problem.SEVERAL_IDENTIFIERS,
        Problem.PLACEHOLDER,
    }
)
_PROBLEM_TITLES: Final = {
    Problem.NONE: "no problem",
    Problem.CELL_COUNT: "wrong number of cells",
    Problem.BROKEN_RECORD: "line that is not one JSON object",
    Problem.EMPTY_KEY: "empty key cell",
    Problem.EMAIL: "not an email address",
    Problem.ACTION: "unknown action word",
    Problem.DEVICE_TYPE: "no device type",
    Problem.DAMAGED: "identifier damaged by a spreadsheet",
    Problem.FORMULA: "identifier that a spreadsheet would run as a formula",
    Problem.CONTROL: "control character in a key cell",
    Problem.TOO_LONG: "key cell too long",
    Problem.ENCODING: "characters of uncertain encoding",
    Problem.TRAILER: "trailer line, not a row",
    Problem.LONG_NUMBER: "number of more than 15 digits",
    Problem.CELL_VALUE: "date, fraction or other value for an identifier",
    Problem.NO_VALUE: "formula without a stored value",
    Problem.MISPLACED_CHARACTERS: "characters that do not belong in an identifier",
    Problem.DECODED_TWICE: "text decoded twice",
    Problem.SEVERAL_IDENTIFIERS: "several identifiers in one cell",
    Problem.PLACEHOLDER: "placeholder instead of a serial",
    Problem.TAKEN_FOR_DATE: "key cell that a spreadsheet may have taken for a date",
    Problem.OWNER_NOT_FOUND: "owner not found",
    Problem.OWNER_SPELLED_OTHERWISE: "owner listed under another spelling",
    Problem.SEVERAL_OWNERS: "two owners or more",
    Problem.OWNER_UNCLEAR: "owner unclear",
    Problem.OWNER_ROW_INVALID: "owner not usable",
}


class HiddenRowsPolicy(StrEnum):
    """What to do about the hidden and filtered rows of a workbook's sheet."""

    REFUSE = "refuse"
    SKIP = "skip"
    READ = "read"


class Secret:
    """A text that is never printed and cannot be pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; only for code that must send it."""
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


ONLY_CUSTOMERS: Final = ("customerEmail",)
"""The required fields of a list of customers."""


class Split(NamedTuple):
    """A field whose cells are split, and the characters that separate the parts."""

    field: str
    separators: str = ",;\r\n"


class OwnerSource(StrEnum):
    """Where to look up the customer of a return that names none."""

    FILE = "file"
    RUNS = "runs"
    """The journals of earlier runs."""


class OwnersOption(NamedTuple):
    """The value of `--owners`."""

    source: OwnerSource
    path: str = ""
    """The path of the file; "" for the runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnersSummary:
    """Where the customers of rows that named none were looked up, and how many were found."""

    source: OwnerSource
    name: str
    """The name of the file; "earlier runs" for the journals."""
    found: int
    not_found: int
    sha256: str | None = None
    """Hash of the file; None for the journals, and if no row had to be looked up."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_fact(cls, fact: Mapping[str, Any] | None) -> "OwnersSummary | None":
        """Return what a journal recorded; None for a run without `--owners`."""
        if fact is None:
            return None
        return cls(**{**fact, "source": OwnerSource(fact["source"]), "warnings": tuple(fact["warnings"])})

    def as_json(self) -> dict[str, object]:
        """Return it under the names that the JSON documents use."""
        return {"source": str(self.source), "name": self.name, "sha256": self.sha256}


@dataclass(frozen=True, kw_only=True, slots=True)
class SqlQuery:
    """The query whose result is the input (`--query`)."""

    sql: str
    url_file: str | None
    """The file with the URL of the database."""
    place: str | None = None
    """Scheme and host of the database; None before it was asked."""


class InputPurpose(StrEnum):
    """What a file is read for."""

    ROWS = "rows"
    """Its records are rows of the run."""
    OWNERS = "owners"
    """Its records name the owners of devices; its actions do not matter."""


class Correction(NamedTuple):
    """A key cell that a person has corrected without changing the file."""

    field: str
    line: int
    """The line on which the record begins."""
    text: str
    """What the cell should be; read as text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputOptions:
    """Options that describe the input; empty or None means that the program detects the value."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Field name (`customerEmail`, `deviceIdentifier`, `action`, `deviceType`) to the file's header."""
    action_words: Mapping[str, Action] = field(default_factory=dict)
    """The file's own words for the actions, lowercased."""
    action: Action | None = None
    """The action of every row, for files without an action column."""
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    hidden: HiddenRowsPolicy = HiddenRowsPolicy.REFUSE
    allow_suspect: bool = False
    multiline_cells: bool = False
    last_line: str = "warn"
    """What to do about a last line without a line end: `warn`, `refuse`, or "" where the row count is checked."""
    split: Split | None = None
    """The column whose cells hold several values; each value becomes a row."""
    fill_down: tuple[str, ...] = ()
    """Fields whose empty cells take the value of the row above."""
    trailer_count: str | None = None
    """A pattern for the trailer line; its only group matches the number of rows."""
    auto_create_devices: bool = False
    device_type: str | None = None
    """The type of every created device, where no column gives it."""
    default_action: Action | None = None
    """The action of every row of a file without an action column. Unlike with `action`, such a column counts."""
    corrections: tuple[Correction, ...] = ()
    """Cells that replace those of the file, of which there is only one."""
    required: tuple[str, ...] = ()
    """The only fields that are read, and that the file must have; empty for those of rows that are sent."""
    owners: OwnersOption | None = None
    """Where to look up the customers of unassign rows that name none; None: every row needs its customer."""
    purpose: InputPurpose = InputPurpose.ROWS
    is_frame: bool = False
    """Whether the file was written from a DataFrame: its first record is the header, every other record is a row."""

    @property
    def may_lack_customers(self) -> bool:
        """Whether the file may have no column of customers.

        With an owners file, a header that is named for the customer may be that of the other file.
        """
        if self.owners is None:
            return False
        return self.owners.source is OwnerSource.FILE or "customerEmail" not in self.columns


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """Options that determine the plan; a run can be resumed only with the same values."""

    chunk_size: int = 500
    auto_create_devices: bool = False
    hold_by_input: bool = field(default=True, repr=False)
    """Whether other rows of the input can hold an assign. Not part of `repr`, which goes into fingerprints:
    the held rows change the fingerprint themselves, and earlier versions had no such option."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """One input file as it was read, for reports."""

    name: str
    path: str
    sha256: str
    """Hash of the stored bytes, before decompression."""
    rows: int
    """Number of rows; a record that was split counts once for each row."""
    header: tuple[str, ...]
    header_line: int
    encoding: str
    delimiter: str
    columns: Mapping[str, str]
    """The mapping used: field name to the header as written in the file."""
    warnings: tuple[str, ...] = ()
    trailer_count: int | None = None
    """The number of rows that the trailer line gives; None without `--trailer-count`."""
    records: int | None = None
    """Number of records; None in journals of earlier versions, where each record was one row."""
    written: float | None = None
    """Modification time in seconds since the epoch; None if unknown."""
    hidden_rows: int = 0
    """Number of hidden rows of a workbook's sheet that were skipped."""

    @property
    def is_workbook(self) -> bool:
        """Whether it is a workbook."""
        return self.encoding == "xlsx"

    @property
    def record_count(self) -> int:
        """Number of records."""
        return self.rows if self.records is None else self.records

    def as_json(self) -> dict[str, object]:
        """Return the fields under the names that the JSON documents use."""
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
    """One planned bulk request: one customer, one action, at most chunk-size devices."""

    number: int
    """Counts from 1 in the order of the plan."""
    stage: int
    customer: str
    action: Action
    devices: tuple[str, ...]
    device_type: str | None = None
    """Set only with `--auto-create-devices`."""
