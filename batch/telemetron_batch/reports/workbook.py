"""Write the workbooks of a run, in which every cell is text: the reconciliation with a summary, and the attention rows.

XlsxWriter writes row by row, so memory does not grow with the rows. It takes about fifty times as long as a CSV.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import SEEK_SET, BytesIO
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.outcomes import OUTCOME_PROPERTIES
from telemetron_batch.domain.printable import encodable
from telemetron_batch.input.normalize import apply_to_text, guard_apostrophes
from telemetron_batch.input.own_reports import ATTENTION_HEADERS
from telemetron_batch.reports.csv_files import ReportInput, action_header, attention, reconciliation_columns
from telemetron_batch.reports.summary import verdict_sentence
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import atomic_write

if TYPE_CHECKING:  # most runs write no workbook
    from xlsxwriter import Workbook
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

MAX_CELL_LENGTH: Final = 32_767
"""Maximum length of a cell, in UTF-16 units."""
_MAX_ROWS: Final = 1_048_575
"""Maximum rows of a sheet below its header."""
_MAX_COLUMNS: Final = 16_384
_BATCH_ROWS: Final = 8192
"""Bounds the memory."""
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
"""Suppresses the green triangle in cells whose text is a number."""
_ACTION_VALIDATION: Final[Mapping[str, Any]] = {
    "validate": "list",
    "source": [*map(str, ACTIONS)],
    "error_type": "warning",
    "error_title": "Action",
    "error_message": "This is neither assign nor unassign. Keep it only if it is one of your own words for them.",
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
_TONES: Final[Mapping[str, str]] = {outcome: facts.tone for outcome, facts in OUTCOME_PROPERTIES.items()}
_ASSIGN_TONES: Final[Mapping[str, str]] = {
    outcome: facts.tone_of_assign or facts.tone for outcome, facts in OUTCOME_PROPERTIES.items()
}


@dataclass(slots=True)
class _Sheets:
    """The sheets that contain the rows; they are filled one after another."""

    book: Workbook
    columns: Sequence[str]
    rows: int
    """Rows of all sheets together."""
    formats: Mapping[str, Format]
    title: str
    number: int = 0
    truncated: int = 0
    """Number of cells that were too long."""

    @property
    def needed(self) -> int:
        """Number of sheets that the rows need; at least one."""
        return max(1, -(-self.rows // _MAX_ROWS))

    def fill(self, rows: Iterable[tuple[str, Sequence[str]]]) -> int:
        """Write rows, each with the tone of its outcome; return their number."""
        sheet, written = self._next(), 0
        tinted = self.columns.index("outcome")
        for tone, cells in rows:
            if written and written % _MAX_ROWS == 0:
                sheet = self._next()
            self._write(sheet, written % _MAX_ROWS + 1, cells)
            sheet.write_string(written % _MAX_ROWS + 1, tinted, cells[tinted], self.formats[tone])
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
        here = min(_MAX_ROWS, self.rows - (self.number - 1) * _MAX_ROWS)
        sheet.autofilter(0, 0, here, len(self.columns) - 1)
        sheet.ignore_errors(_IGNORE_NUMBER_WARNING)
        self._write(sheet, 0, self.columns, "header")
        return sheet

    def _write(self, sheet: Worksheet, row: int, cells: Sequence[str], tone: str = "") -> None:
        for at, text in enumerate(cells):
            if text:
                fits = _truncate(text)
                self.truncated += fits is not text
                sheet.write_string(row, at, fits, self.formats[tone])


def write_xlsx(path: Path, report: ReportInput, fields: Mapping[str, Any], blocks: Iterable[RowBlock]) -> int:
    """Write the workbook; return the number of rows. `fields` are those of summary.json. Raises DiskError."""
    names, tables = reconciliation_columns(report, blocks)
    with atomic_write(path) as file, _opened(file, path.parent) as book:
        sheets = _sheets(book, fields, names, len(report.reconciliation.outcome), "Reconciliation")
        outcome, action = names.index("outcome"), names.index("action")
        tinted = (_rows(_tones_of(columns[outcome], columns[action]), columns) for columns in tables)
        written = sheets.fill(chain.from_iterable(tinted))
        _write_summary(book.add_worksheet("Summary"), summary_lines(fields, _notes(sheets)), sheets.formats)
    return written


def fits(rows: int) -> bool:
    """Return whether this number of rows fits into one sheet."""
    return rows <= _MAX_ROWS


def write_attention_xlsx(
    file: BinaryIO, folder: Path, report: ReportInput, fields: Mapping[str, Any], blocks: Iterable[RowBlock]
) -> int:
    """Write the rows that want attention as a workbook; return their number. Raises OSError.

    Our columns come first. The action column offers a list of actions. Text cells run no formula and need no
    guard; but because reading the file removes a guard, a cell that already looks guarded gets one more.
    """
    own, tables = attention(report, blocks)
    names, ours = (
        [*ATTENTION_HEADERS, *(apply_to_text(guard_apostrophes, name) for name in own)],
        len(ATTENTION_HEADERS),
    )
    with _opened(file, folder) as book:
        sheets = _sheets(book, fields, names, int(report.reconciliation.attention().sum()), "Attention")
        rows = ([*columns[-ours:], *map(guard_apostrophes, columns[:-ours])] for columns in tables)
        written = sheets.fill(chain.from_iterable(_rows(_tones_of(columns[0]), columns) for columns in rows))
        action = action_header(report.files)
        if action in own:
            at = own.index(action) + ours
            book.worksheets()[0].data_validation(1, at, _MAX_ROWS, at, _ACTION_VALIDATION)
    return written


def _sheets(book: Workbook, fields: Mapping[str, Any], names: Sequence[str], rows: int, title: str) -> _Sheets:
    """Return empty sheets with these columns."""
    book.set_properties({"created": _created_at(fields)})
    formats = {name: book.add_format({**_TEXT, **tone}) for name, tone in _STYLES.items()}
    return _Sheets(book, names[:_MAX_COLUMNS], rows, formats, title)


@contextmanager
def _opened(file: BinaryIO, folder: Path) -> Iterator[Workbook]:
    """Yield a workbook that is written to the file at the end unless something fails; its rows wait in a folder."""
    from xlsxwriter import Workbook
    from xlsxwriter.exceptions import FileCreateError

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
    """The file inside the `with` block, then a dummy: after an error zipfile still writes its end record, later."""

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
    whole = [tones, *columns[:_MAX_COLUMNS]]
    for first in range(0, len(whole[0]), _BATCH_ROWS):
        tones, *cells = (column[first : first + _BATCH_ROWS].to_pylist() for column in whole)
        yield from zip(tones, zip(*cells, strict=True), strict=True)


def _truncate(text: str) -> str:
    """Return the text; if it is too long for a cell, cut and with a note that says so."""
    if len(text) <= MAX_CELL_LENGTH // 2 or len(text.encode("utf-16-le")) <= 2 * MAX_CELL_LENGTH:
        return text
    sign = f" [cut: {len(text):,} characters, all of them in reconciliation.csv]"
    return text.encode("utf-16-le")[: 2 * (MAX_CELL_LENGTH - len(sign))].decode("utf-16-le", "ignore") + sign


def _tones_of(outcome: pa.Array, action: pa.Array | None = None) -> pa.Array:
    """Return the tone of each outcome; without `action`, that of rows that want attention."""
    code = pc.index_in(outcome, pa.array([*map(str, _TONES)]))
    tones, assign_tones = (pa.array([*map(str, some.values())]).take(code) for some in (_TONES, _ASSIGN_TONES))
    return assign_tones if action is None else pc.if_else(pc.equal(action, str(Action.ASSIGN)), assign_tones, tones)


# The summary


def summary_lines(fields: Mapping[str, Any], notes: Iterable[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each line of the summary sheet: its tone and its cells."""
    yield "title", [verdict_sentence(fields) + "."]
    if fields["stop"]:
        yield "doubt", [f"Stopped: {fields['stop']['reason']}; {fields['stop']['advice']}."]
    yield from (("", [note]) for note in notes)
    yield "", []
    yield "header", ["Outcome", "Rows", "Want attention"]
    for outcome, rows in fields["counts"].items():
        wanting = fields["attentionByOutcome"].get(outcome, 0)
        tone = (_ASSIGN_TONES if wanting else _TONES)[outcome]
        yield tone if rows else "", [outcome, f"{rows:,}", f"{wanting:,}" if wanting else ""]
    yield "", ["all rows", f"{fields['rows']:,}", f"{fields['attention']:,}"]
    yield from _unassign_lines(fields)
    yield from _sections(fields)


def _unassign_lines(fields: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the section about unassigns; nothing if all its numbers are zero."""
    left = {
        "customers without devices": fields["customersWithoutDevices"],
        "customers still holding": fields["customersStillHolding"],
        "unassigns without effect": fields["unassignsWithoutEffect"],
    }
    if any(left.values()):
        yield from _section("Unassigns", ((name, f"{number:,}") for name, number in left.items()))


def _sections(fields: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the sections about the run, its input and its options."""
    run = {"run id": "runId", "state": "state", "exit code": "exitCode", "started": "startedAt", "ended": "endedAt"}
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
    """Yield notes on what the sheets do not show."""
    if sheets.number > 1:
        yield f"The rows are on {sheets.number} sheets: a sheet has at most 1,048,576 lines."
    if sheets.truncated:
        yield f"Cells of more than {MAX_CELL_LENGTH:,} characters are cut, and each says so: {sheets.truncated:,}."
    if len(sheets.columns) == _MAX_COLUMNS:
        yield f"A sheet has at most {_MAX_COLUMNS:,} columns: any further ones are only in reconciliation.csv."


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


def _created_at(fields: Mapping[str, Any]) -> datetime:
    """Return the start of the run, so that the same journal gives the same file."""
    return datetime.fromisoformat(fields["startedAt"] or "2000-01-01T00:00:00Z")
