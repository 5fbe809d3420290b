"""Workbooks of a run, every cell text: the reconciliation with a sheet that sums it up, and what wants attention.

XlsxWriter writes it row by row, so that memory does not grow with the rows; it takes its
time, some fifty times that of the CSV. Knows no rule of what becomes of a row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import SEEK_SET, BytesIO
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.outcomes import OUTCOME_FACTS
from telemetron_batch.domain.printable import encodable
from telemetron_batch.input.normalize import escaped, of_text
from telemetron_batch.input.own_reports import OF_ATTENTION
from telemetron_batch.reports.csv_files import ReportInput, action_header, attention, reconciliation_columns
from telemetron_batch.reports.findings import verdict_sentence
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import atomic_write

LONGEST: Final = 32_767
"""What one cell of a sheet can hold, in UTF-16 units."""
_ROWS: Final = 1_048_575
"""Rows that a sheet holds below its header."""
_COLUMNS: Final = 16_384
_AT_A_TIME: Final = 8192
"""Rows; what bounds the memory."""
_WIDTHS: Final = {
    "line": 8,
    "customerEmail": 32,
    "deviceIdentifier": 24,
    "action": 10,
    "outcome": 16,
    "detail": 60,
    "sourceLine": 11,
    "answeredAt": 25,
}
_WIDTH: Final = 21
_IGNORE_NUMBER_WARNING: Final = {"number_stored_as_text": "A1:XFD1048576"}
"""No green triangle in every cell whose text is a number."""
_PICK_AN_ACTION: Final[Mapping[str, Any]] = {
    "validate": "list",
    "source": [*map(str, ACTIONS)],
    "error_type": "warning",
    "error_title": "Action",
    "error_message": "Is this one of your own words for assign or unassign?",
}
_TEXT: Final = {"num_format": "@", "valign": "top"}
_HEADER: Final = {"bold": True, "font_color": "#FFFFFF", "bg_color": "#1F3A4D"}
_STYLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "": {},
    "title": {"bold": True, "font_size": 14},
    "header": _HEADER,
    "good": {"font_color": "#0B4F1E", "bg_color": "#DDF2E1"},
    "plain": {"font_color": "#33414D", "bg_color": "#E9EDF0"},
    "doubt": {"font_color": "#6B3A00", "bg_color": "#FFEBC8"},
    "wrong": {"font_color": "#8A1013", "bg_color": "#FBDEDD", "bold": True},
}
_TONE_OF: Final[Mapping[str, str]] = {outcome: facts.tone for outcome, facts in OUTCOME_FACTS.items()}
_TONE_OF_ASSIGN: Final[Mapping[str, str]] = {
    outcome: facts.tone_of_assign or facts.tone for outcome, facts in OUTCOME_FACTS.items()
}


@dataclass(slots=True)
class _Sheets:
    """The sheets with the rows, filled one after another."""

    book: Workbook
    columns: Sequence[str]
    rows: int
    """Of all sheets together."""
    formats: Mapping[str, Format]
    title: str
    number: int = 0
    cut: int = 0
    """Cells that were too long."""

    @property
    def needed(self) -> int:
        """Sheets for all rows; one, if there are none."""
        return max(1, -(-self.rows // _ROWS))

    def fill(self, rows: Iterable[tuple[str, Sequence[str]]]) -> int:
        """Write rows, each with the tone of its outcome; gives their number."""
        sheet, written = self._next(), 0
        tinted = self.columns.index("outcome")
        for tone, cells in rows:
            if written and written % _ROWS == 0:
                sheet = self._next()
            self._write(sheet, written % _ROWS + 1, cells)
            sheet.write_string(written % _ROWS + 1, tinted, cells[tinted], self.formats[tone])
            written += 1
        return written

    def _next(self) -> Worksheet:
        self.number += 1
        of = f" {self.number} of {self.needed}" if self.needed > 1 else ""
        sheet = self.book.add_worksheet(f"{self.title}{of}")
        for at, name in enumerate(self.columns):
            sheet.set_column(at, at, _WIDTHS.get(name, _WIDTH), self.formats[""])
        sheet.freeze_panes(1, 0)
        sheet.repeat_rows(0)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        here = min(_ROWS, self.rows - (self.number - 1) * _ROWS)
        sheet.autofilter(0, 0, here, len(self.columns) - 1)
        sheet.ignore_errors(_IGNORE_NUMBER_WARNING)
        self._write(sheet, 0, self.columns, "header")
        return sheet

    def _write(self, sheet: Worksheet, row: int, cells: Sequence[str], tone: str = "") -> None:
        for at, text in enumerate(cells):
            if text:
                fits = _truncate(text)
                self.cut += fits is not text
                sheet.write_string(row, at, fits, self.formats[tone])


def write_xlsx(path: Path, report: ReportInput, fields: Mapping[str, Any], blocks: Iterable[RowBlock]) -> int:
    """Write the workbook; gives the number of rows. `fields` is what summary.json holds. Raises DiskError."""
    names, tables = reconciliation_columns(report, blocks)
    with atomic_write(path) as file, _opened(file, path.parent) as book:
        sheets = _sheets(book, fields, names, len(report.reconciliation.outcome), "Reconciliation")
        outcome, action = names.index("outcome"), names.index("action")
        tinted = (_rows(_tones(columns[outcome], columns[action]), columns) for columns in tables)
        written = sheets.fill(chain.from_iterable(tinted))
        _write_summary(book.add_worksheet("Summary"), summary_lines(fields, _notes(sheets)), sheets.formats)
    return written


def can_hold(rows: int) -> bool:
    """Return whether one sheet has room for so many rows."""
    return rows <= _ROWS


def write_attention_xlsx(
    file: BinaryIO, folder: Path, report: ReportInput, fields: Mapping[str, Any], blocks: Iterable[RowBlock]
) -> int:
    """Write the rows that want attention as a workbook; gives their number. Raises OSError.

    Our columns come first. In the column of the actions a list offers the words for them. No formula runs in a
    cell of text, but reading takes a guard off all the same: so a cell that begins as a guarded one does gets one.
    """
    own, tables = attention(report, blocks)
    names, ours = [*OF_ATTENTION, *(of_text(escaped, name) for name in own)], len(OF_ATTENTION)
    with _opened(file, folder) as book:
        sheets = _sheets(book, fields, names, int(report.reconciliation.attention().sum()), "Attention")
        rows = ([*columns[-ours:], *map(escaped, columns[:-ours])] for columns in tables)
        written = sheets.fill(chain.from_iterable(_rows(_tones(columns[0]), columns) for columns in rows))
        action = action_header(report.files)
        if action in own:
            at = own.index(action) + ours
            book.worksheets()[0].data_validation(1, at, _ROWS, at, _PICK_AN_ACTION)
    return written


def _sheets(book: Workbook, fields: Mapping[str, Any], names: Sequence[str], rows: int, title: str) -> _Sheets:
    """Return sheets with these columns that are yet to be filled."""
    book.set_properties({"created": _moment(fields)})
    formats = {name: book.add_format({**_TEXT, **tone}) for name, tone in _STYLES.items()}
    return _Sheets(book, names[:_COLUMNS], rows, formats, title)


@contextmanager
def _opened(file: BinaryIO, folder: Path) -> Iterator[Workbook]:
    """A workbook that is written to the file in the end, if nothing fails. Its rows wait in a folder of their own."""
    outlet = _DetachableFile(file)
    with TemporaryDirectory(prefix="xlsx-", dir=folder) as spool, outlet:
        book = Workbook(outlet, {"constant_memory": True, "tmpdir": spool})
        book.use_zip64()
        yield book
        try:
            book.close()
        except FileCreateError as exc:
            raise exc.args[0] from exc


class _DetachableFile:
    """The file while this lasts, then nothing: the zip library writes an end even to what it failed in, and later."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._file = BytesIO()

    def write(self, content: bytes) -> int:
        return self._file.write(content)

    def seek(self, to: int, whence: int = SEEK_SET) -> int:
        return self._file.seek(to, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()


def _rows(tones: pa.Array, columns: Sequence[pa.Array]) -> Iterator[tuple[str, Sequence[str]]]:
    whole = [tones, *columns[:_COLUMNS]]
    for first in range(0, len(whole[0]), _AT_A_TIME):
        tones, *cells = (column[first : first + _AT_A_TIME].to_pylist() for column in whole)
        yield from zip(tones, zip(*cells, strict=True), strict=True)


def _truncate(text: str) -> str:
    """The text, cut where it is too long for a cell, which it then says."""
    if len(text) <= LONGEST // 2 or len(text.encode("utf-16-le")) <= 2 * LONGEST:
        return text
    sign = f" [cut: {len(text):,} characters, all of them in reconciliation.csv]"
    return text.encode("utf-16-le")[: 2 * (LONGEST - len(sign))].decode("utf-16-le", "ignore") + sign


def _tones(outcome: pa.Array, action: pa.Array | None = None) -> pa.Array:
    """Return how each outcome looks; without actions as that of rows that want attention."""
    code = pc.index_in(outcome, pa.array([*map(str, _TONE_OF)]))
    tones, of_assign = (pa.array([*map(str, some.values())]).take(code) for some in (_TONE_OF, _TONE_OF_ASSIGN))
    return of_assign if action is None else pc.if_else(pc.equal(action, str(Action.ASSIGN)), of_assign, tones)


# The summary


def summary_lines(fields: Mapping[str, Any], notes: Iterable[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Each line of the summary sheet: how it looks, and its cells."""
    yield "title", [verdict_sentence(fields["rows"], fields["attention"], fields["unassignsWithoutEffect"]) + "."]
    if fields["stop"]:
        yield "doubt", [f"Stopped: {fields['stop']['reason']}; {fields['stop']['advice']}."]
    yield from (("", [note]) for note in notes)
    yield "", []
    yield "header", ["Outcome", "Rows", "Want attention"]
    for outcome, rows in fields["counts"].items():
        wanting = fields["attentionByOutcome"].get(outcome, 0)
        tone = (_TONE_OF_ASSIGN if wanting else _TONE_OF)[outcome]
        yield tone if rows else "", [outcome, f"{rows:,}", f"{wanting:,}" if wanting else ""]
    yield "", ["all rows", f"{fields['rows']:,}", f"{fields['attention']:,}"]
    yield from _left(fields)
    yield from _sections(fields)


def _left(fields: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """What unassigns left customers with; nothing where no answer tells it."""
    left = {
        "customers without devices": fields["customersWithoutDevices"],
        "customers still holding": fields["customersStillHolding"],
        "unassigns without effect": fields["unassignsWithoutEffect"],
    }
    if any(left.values()):
        yield from _section("Unassigns", ((name, f"{number:,}") for name, number in left.items()))


def _sections(fields: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Which run this was, its input and its options."""
    run = {"run id": "runId", "state": "state", "exit code": "exitCode", "began": "startedAt", "ended": "endedAt"}
    yield from _section("Run", [*((name, fields[key]) for name, key in run.items()), ("sent to", fields["baseUrl"])])
    for one in fields["inputs"]:
        about = [("file", one["name"]), ("SHA-256", one["sha256"]), ("rows", f"{one['rows']:,}")]
        mapping = [(f"{name} is", header) for name, header in one["columns"].items()]
        yield from _section("Input", [*about, ("encoding", one["encoding"]), *mapping])
    given = ((key.replace("_", "-"), "on" if value is True else value) for key, value in fields["options"].items())
    yield from _section("Options that were given", given)


def _section(title: str, pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Sequence[str]]]:
    yield "", []
    yield "header", [title, "", ""]
    for name, value in pairs:
        yield "", [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]


def _notes(sheets: _Sheets) -> Iterator[str]:
    """What the reader of the sheets has to know of them."""
    if sheets.number > 1:
        yield f"The rows are on {sheets.number} sheets: one holds 1,048,576 lines at most."
    if sheets.cut:
        yield f"Cells of more than {LONGEST:,} characters are cut and say so: {sheets.cut:,}."
    if len(sheets.columns) == _COLUMNS:
        yield f"A sheet holds {_COLUMNS:,} columns: any further ones are in reconciliation.csv alone."


def _write_summary(sheet: Worksheet, lines: Iterable[tuple[str, Sequence[str]]], formats: Mapping[str, Any]) -> None:
    sheet.set_column(0, 0, 26, formats[""])
    sheet.set_column(1, 2, 18, formats[""])
    sheet.hide_gridlines(2)
    sheet.fit_to_pages(1, 0)
    sheet.ignore_errors(_IGNORE_NUMBER_WARNING)
    for row, (tone, cells) in enumerate(lines):
        for column, text in enumerate(cells):
            sheet.write_string(
                row, column, _truncate(encodable(text)), formats["" if column and tone not in ("header", "") else tone]
            )


def _moment(fields: Mapping[str, Any]) -> datetime:
    """A moment of the run's own, so that the same journal gives the same file."""
    return datetime.fromisoformat(fields["startedAt"] or "2000-01-01T00:00:00Z")
