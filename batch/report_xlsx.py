"""The reconciliation as a workbook: the same rows, every cell text, and a sheet that sums them up.

XlsxWriter makes the workbook and its sheets; the rows are put into these a column at a
time, for cell by cell they would take nine times as long. Memory does not grow with the
rows. Knows no rule of what becomes of a row.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pyarrow as pa
import pyarrow.compute as pc
from xlsxwriter import Workbook
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.worksheet import Worksheet

from batch.findings import in_a_sentence
from batch.model import Action, Outcome
from batch.report_csv import Report, reconciled
from batch.rows import RowBlock
from batch.sheet_cells import LONGEST, fitting, rows_xml
from batch.whole import written_whole

_ROWS: Final = 1_048_575
"""Rows that a sheet holds below its header."""
_COLUMNS: Final = 16_384
_BYTES: Final = 1_500_000_000
"""Of one sheet's text: beyond 2 GiB zip needs an extension at which Excel takes offence."""
_AT_A_TIME: Final = 8192
"""Rows; what bounds the memory."""

_WIDTHS: Final = {
    "line": 8,
    "customerEmail": 32,
    "deviceIdentifier": 24,
    "action": 10,
    "outcome": 16,
    "detail": 60,
    "answeredAt": 25,
}
_WIDTH: Final = 21
_DIGITS_ARE_MEANT: Final = {"number_stored_as_text": "A1:XFD1048576"}
"""No green triangle in every cell whose text is a number."""
_TEXT: Final = {"num_format": "@", "valign": "top"}
_HEADER: Final = {"bold": True, "font_color": "#FFFFFF", "bg_color": "#1F3A4D"}
_TONES: Final[Mapping[str, Mapping[str, Any]]] = {
    "": {},
    "header": _HEADER,
    "good": {"font_color": "#0B4F1E", "bg_color": "#DDF2E1"},
    "plain": {"font_color": "#33414D", "bg_color": "#E9EDF0"},
    "doubt": {"font_color": "#6B3A00", "bg_color": "#FFEBC8"},
    "wrong": {"font_color": "#8A1013", "bg_color": "#FBDEDD", "bold": True},
}
_TONE_OF: Final[Mapping[str, str]] = {
    Outcome.ASSIGNED: "good",
    Outcome.ALREADY_ASSIGNED: "good",
    Outcome.UNASSIGNED: "good",
    Outcome.SKIPPED: "plain",
    Outcome.DUPLICATE: "plain",
    Outcome.UNCHANGED: "plain",
    Outcome.INVALID: "wrong",
    Outcome.FAILED: "wrong",
    Outcome.UNCONFIRMED: "doubt",
    Outcome.HELD: "doubt",
    Outcome.NOT_SENT: "doubt",
}
_SKIPPED_ASSIGN: Final = "wrong"


@dataclass(frozen=True, slots=True)
class _Frame:
    """A sheet's XML around its rows, and the numbers of the styles in it, by tone."""

    before: bytes
    after: bytes
    styles: Mapping[str, str]


@dataclass(slots=True)
class _Book:
    """A workbook in the making: what is known of it before and after its rows."""

    columns: Sequence[str]
    fields: Mapping[str, Any]
    sheets: list[int] = field(default_factory=list)
    """Rows of each sheet of the reconciliation."""
    cut: int = 0
    """Cells that were too long."""

    def parts(self) -> dict[str, bytes]:
        """The whole workbook by the names in its archive; the sheets of the reconciliation without rows."""
        file = BytesIO()
        with Workbook(file, {"in_memory": True}) as book:
            book.set_properties({"created": _moment(self.fields)})
            formats = [book.add_format({**_TEXT, **tone}) for tone in _TONES.values()]
            names = dict(zip(_TONES, formats, strict=True))
            for number, rows in enumerate(self.sheets, start=1):
                of = f" {number} of {len(self.sheets)}" if len(self.sheets) > 1 else ""
                self._lay_out(book.add_worksheet(f"Reconciliation{of}"), rows, formats)
            title = book.add_format({**_TEXT, "bold": True, "font_size": 14})
            _sum_up(book.add_worksheet("Summary"), summary_lines(self), {**names, "title": title})
        with ZipFile(file) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def frame(self) -> _Frame:
        """What stands around the rows of the last sheet."""
        text = self.parts()[self.part()].decode()
        before, middle, after = re.split(r"(?<=<sheetData>)(.*)(?=</sheetData>)", text, flags=re.DOTALL)
        before = re.sub("<dimension[^>]*>", "", before)  # not known before the last row; a sheet may do without
        styles = dict(zip(_TONES, re.findall(r'<c r="[A-Z]+1" s="(\d+)"', middle), strict=True))
        return _Frame(before.encode(), after.encode(), styles)

    def part(self, number: int | None = None) -> str:
        """The name of a sheet in the archive; of the last one, unless a number from 1 is given."""
        return f"xl/worksheets/sheet{number or len(self.sheets)}.xml"

    def _lay_out(self, sheet: Worksheet, rows: int, formats: Sequence[Any]) -> None:
        for at, name in enumerate(self.columns):
            sheet.set_column(at, at, _WIDTHS.get(name, _WIDTH), formats[0])
        sheet.freeze_panes(1, 0)
        sheet.repeat_rows(0)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.autofilter(0, 0, rows, len(self.columns) - 1)
        sheet.ignore_errors(_DIGITS_ARE_MEANT)
        for at, tone in enumerate(formats):
            sheet.write_blank(0, at, None, tone)  # tells the number of its style


class _Archive:
    """A workbook's file, one sheet of which is being written."""

    def __init__(self, file: BinaryIO, book: _Book) -> None:
        self._zip = ZipFile(file, "w", ZIP_DEFLATED)
        self._book = book
        self._letters = [xl_col_to_name(at) for at in range(len(book.columns))]
        self._sheet: IO[bytes]
        self._frame: _Frame
        self._written = 0

    def begin(self) -> None:
        """Begin a sheet."""
        self._book.sheets.append(0)
        self._frame = self._book.frame()
        self._sheet = self._zip.open(self._book.part(), "w")
        self._sheet.write(self._frame.before)
        self._written = 0
        header = [fitting(pa.array([name]))[0] for name in self._book.columns]
        style = pa.scalar(self._frame.styles["header"])
        self._sheet.write(rows_xml(header, self._letters, [style] * len(header), 1))

    def finish(self) -> None:
        """Write all that is no row."""
        self._end()
        ours = {self._book.part(number) for number in range(1, len(self._book.sheets) + 1)}
        for name, content in self._book.parts().items():
            if name not in ours:
                self._zip.writestr(ZipInfo(name), content, ZIP_DEFLATED)
        self._zip.close()

    def give_up(self) -> None:
        """Let go of the file, which is of no use any more."""
        with suppress(OSError, ValueError):
            self._sheet.close()
        with suppress(OSError, ValueError):
            self._zip.close()

    def add(self, columns: Sequence[pa.Array], tones: pa.Array) -> None:
        """Write rows; on a further sheet where this one is full."""
        rows = len(columns[0])
        while rows:
            if self._book.sheets[-1] >= _ROWS or self._written >= _BYTES:
                self._end()
                self.begin()
            some = min(rows, _ROWS - self._book.sheets[-1], _AT_A_TIME)
            self._write([column[:some] for column in columns], tones[:some])
            self._book.sheets[-1] += some
            columns, tones = [column[some:] for column in columns], tones[some:]
            rows -= some

    def _write(self, columns: Sequence[pa.Array], tones: pa.Array) -> None:
        plain = pa.scalar(self._frame.styles[""])
        numbers = pa.array(self._frame.styles.values()).take(pc.index_in(tones, pa.array(self._frame.styles)))
        styles = [numbers if name == "outcome" else plain for name in self._book.columns]
        cells = []
        for column in columns:
            fits, cut = fitting(column)
            self._book.cut += cut
            cells.append(fits)
        self._written += self._sheet.write(rows_xml(cells, self._letters, styles, self._book.sheets[-1] + 2))

    def _end(self) -> None:
        self._sheet.write(self._book.frame().after)
        self._sheet.close()


@contextmanager
def _opened(file: BinaryIO, book: _Book) -> Iterator[_Archive]:
    archive = _Archive(file, book)
    try:
        archive.begin()
        yield archive
        archive.finish()
    except BaseException:
        archive.give_up()
        raise


def write_xlsx(path: Path, report: Report, fields: Mapping[str, Any], blocks: Iterable[RowBlock]) -> int:
    """Write the workbook; gives the number of rows. `fields` is what summary.json holds. Raises DiskError."""
    names, tables = reconciled(report, blocks)
    book = _Book(names[:_COLUMNS], fields)
    with written_whole(path) as file, _opened(file, book) as archive:
        for columns in tables:
            told = dict(zip(names, columns, strict=False))
            archive.add(columns[:_COLUMNS], _tones(told["outcome"], told["action"]))
    return sum(book.sheets)


def _tones(outcome: pa.Array, action: pa.Array) -> pa.Array:
    tones = pa.array(_TONE_OF.values()).take(pc.index_in(outcome, pa.array([*map(str, _TONE_OF)])))
    unknown = pc.and_(pc.equal(outcome, str(Outcome.SKIPPED)), pc.equal(action, str(Action.ASSIGN)))
    return pc.if_else(unknown, _SKIPPED_ASSIGN, tones)


# The summary


def summary_lines(book: _Book) -> Iterator[tuple[str, Sequence[str]]]:
    """Each line of the summary sheet: how it looks, and its cells."""
    fields = book.fields
    yield "title", [in_a_sentence(fields["rows"], fields["attention"]) + "."]
    if fields["stop"]:
        yield "doubt", [f"Stopped: {fields['stop']['reason']}; {fields['stop']['advice']}."]
    yield from (("", [note]) for note in _notes(book))
    yield "", []
    yield "header", ["Outcome", "Rows", "Want attention"]
    for outcome, rows in fields["counts"].items():
        wanting = fields["attentionByOutcome"].get(outcome, 0)
        tone = _SKIPPED_ASSIGN if wanting and outcome == Outcome.SKIPPED else _TONE_OF[outcome]
        yield tone if rows else "", [outcome, f"{rows:,}", f"{wanting:,}" if wanting else ""]
    yield "", ["all rows", f"{fields['rows']:,}", f"{fields['attention']:,}"]
    yield from _sections(fields)


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


def _notes(book: _Book) -> Iterator[str]:
    """What the reader of the sheets has to know of them."""
    if len(book.sheets) > 1:
        held = "more than the 1,048,576 that one sheet of a workbook holds" if sum(book.sheets) > _ROWS else "much text"
        yield f"The rows are on {len(book.sheets)} sheets, for they are {held}."
    if book.cut:
        yield f"Cells of more than {LONGEST:,} characters are cut and say so: {book.cut:,}."
    if len(book.columns) == _COLUMNS:
        yield f"A sheet holds {_COLUMNS:,} columns: any further ones are in reconciliation.csv alone."


def _sum_up(sheet: Worksheet, lines: Iterable[tuple[str, Sequence[str]]], formats: Mapping[str, Any]) -> None:
    sheet.set_column(0, 0, 26, formats[""])
    sheet.set_column(1, 2, 18, formats[""])
    sheet.hide_gridlines(2)
    sheet.fit_to_pages(1, 0)
    sheet.ignore_errors(_DIGITS_ARE_MEANT)
    for row, (tone, cells) in enumerate(lines):
        for column, text in enumerate(cells):
            shown = fitting(pa.array([text]))[0][0].as_py()
            sheet.write_string(row, column, shown, formats["" if column and tone not in ("header", "") else tone])


def _moment(fields: Mapping[str, Any]) -> datetime:
    """A moment of the run's own, so that the same journal gives the same file."""
    return datetime.fromisoformat(fields["startedAt"] or "2000-01-01T00:00:00Z")
