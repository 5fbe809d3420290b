"""Input files to rows: opens each, asks the dialect, cuts, parses, checks, and counts twice.

The records are counted apart from the parser, and the two must agree. Works a block at a
time, so memory grows with the key columns alone. Decides nothing about what rows ask for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputFile, InputOptions, Problem
from telemetron_batch.domain.printable import encodable
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.dialect import Dialect, find_dialect
from telemetron_batch.input.expansion import Groups, with_split_cells, with_values_above
from telemetron_batch.input.foreign_signs import Placeholders
from telemetron_batch.input.normalize import is_blank, normalize
from telemetron_batch.input.own_reports import (
    OF_ATTENTION,
    find_own_header,
    find_own_row,
    is_attention,
    options_for_own_report,
    reject_conflicting_action,
    unguarded_cells,
)
from telemetron_batch.input.restored_cells import ReadList, Restorer
from telemetron_batch.input.serials import EndingInZeros, LeadingZeroCheck, LongNumbers, SerialProfile
from telemetron_batch.input.skipped_lines import describe_skipped, passed_over
from telemetron_batch.input.source_file import (
    DecodedText,
    FileKind,
    SourceFile,
    detect_encoding,
    estimate_text_size,
    input_errors,
    open_source,
)
from telemetron_batch.input.text_reader import cells_of, closing_text, read_cells
from telemetron_batch.input.trailer import Trailer, split_trailer, without_plain_trailer
from telemetron_batch.input.validation import KeyCells, validate_keys
from telemetron_batch.input.workbook import Sheet, find_sheet
from telemetron_batch.rows.rows import RowBlock, Rows, RowsBuilder
from telemetron_batch.storage.concurrency import background_worker, map_ordered, prefetch
from telemetron_batch.storage.malloc_tuning import trim_malloc, tune_malloc
from telemetron_batch.storage.spill import Scratch

_HEAD: Final = 4 << 20
"""Bytes of text in which the header must be found."""
_FIRST: Final = 1 << 16
"""Bytes of text that show whether this program wrote it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """All input files of a run, and the rows of all of them."""

    files: tuple[InputFile, ...]
    rows: Rows


@dataclass(frozen=True, slots=True)
class _OpenedFile:
    """One file as it is before it is read."""

    name: str
    """For people."""
    stored: SourceFile
    fingerprint: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What says how a file is to be read."""

    options: InputOptions
    read_list: ReadList | None
    """Reads the list of the run in whose folder it is; None if it is in none."""
    rounded_lengths: frozenset[int] | None
    """Lengths of serials that a spreadsheet rounded, if the file was read before; None on the first reading."""


class BlockSink(Protocol):
    """Takes the blocks of the input, such as a list or the draft of a journal."""

    def append(self, block: RowBlock, /) -> object:
        """Take a block."""

    def clear(self) -> None:
        """Drop all blocks: the input is read again."""


class _RoundedError(Exception):
    """A file holds serials that a spreadsheet rounded, so it is to be read again with what is known now."""

    def __init__(self, file: int, lengths: frozenset[int]) -> None:
        super().__init__(file, lengths)
        self.file = file
        self.lengths = lengths


@dataclass(slots=True)
class _LastLine:
    """Whether the last line of a text has no end, once the text has been read."""

    _last: bytes = b"\n"

    @property
    def is_open(self) -> bool:
        """Whether the text ends in mid-line; a final Ctrl-Z is an end."""
        return self._last not in b"\r\n\x1a"

    def watching(self, texts: Iterable[bytes]) -> Iterator[bytes]:
        """The texts; remembers their last byte."""
        for text in texts:
            self._last = text[-1:] or self._last
            yield text


@dataclass(frozen=True, slots=True)
class _ParsedSource:
    """One file made ready: what is known of it, and its records to come."""

    dialect: Dialect | None
    encoding: str
    warnings: tuple[str, ...]
    pieces: Callable[[], Iterable[CellBlock]]
    """Reads the records from the first on, as often as it is called."""
    last_line: "_LastLine"
    options: InputOptions
    """Those that hold for this file."""
    guessed: bool = False
    sheet: Sheet | None = None
    """Where the rows of a workbook come from."""
    restorer: Restorer | None = None
    """Has taken back what a spreadsheet changed, once the pieces have been read."""

    @property
    def columns(self) -> Mapping[str, int]:
        """Field name to the position of its column."""
        return {} if self.dialect is None else self.dialect.columns


@dataclass(slots=True)
class _FileStats:
    """What is learnt of a file on the way through its blocks."""

    numbers: LongNumbers
    zeros: LeadingZeroCheck = field(default_factory=LeadingZeroCheck)
    ending_in_zeros: EndingInZeros = field(default_factory=EndingInZeros)
    neighbours: SerialProfile | None = None
    """What its serials look like; None before the first block."""
    passed_over: list[int] = field(default_factory=list)
    """Lines of records that are no rows."""
    closing: str = ""
    """The text of the last of them, if it closes the file."""
    groups: Groups = field(default_factory=Groups)
    placeholders: Placeholders = field(default_factory=Placeholders)
    trailer: Trailer | None = None
    """The one that was looked for."""

    def add(self, keys: pa.RecordBatch) -> None:
        """Count the serials of a block's valid rows."""
        serials, lines, valid = keys["deviceIdentifier"], keys["line"].to_numpy(), keys["problem"].to_numpy() == 0
        self.zeros.add(serials, lines, valid)
        self.ending_in_zeros.add(serials, lines, valid)
        self.placeholders.add(serials, lines, valid)
        self.groups.add(keys)

    def warnings(self) -> tuple[str, ...]:
        """What there is to say of the file's end and of its serials."""
        trailer = None if self.trailer is None else self.trailer.message
        of_numbers = (self.zeros.warning(), self.ending_in_zeros.warning())
        others = (*self.placeholders.told(), *self.groups.told(), *describe_skipped(self.passed_over, self.closing))
        return tuple(filter(None, (trailer, *of_numbers, *others)))


def load(  # noqa: PLR0913 - what is read, and where it goes
    paths: Sequence[str],
    options: InputOptions,
    *,
    spool: Path,
    sink: BlockSink | None = None,
    scratch: Scratch | None = None,
    find_list: Callable[[str], ReadList | None] = lambda _: None,
) -> Loaded:
    """Read all files in order; gives the rows, and hands each block of them to `sink`.

    Where they are many, the rows are kept in `scratch` and may be used as long as it is there.

    `-` is standard input; it is copied to the folder `spool` as `stdin`, and its
    `InputFile.path` names the copy. A file without any text counts as one of no rows.
    `find_list` gives what reads the list of the run in whose folder an attention file is.
    Raises InputError or ConfigError for what cannot be read as rows, DiskError when the
    copy cannot be written, UnbalancedError when the parser lost or made a record.
    """
    if list(paths).count("-") > 1:
        raise InputError("standard input is named twice", "name - once")
    tune_malloc()
    scratch = scratch or Scratch()
    sizes = [*map(estimate_text_size, paths)]
    scratch.reserve(sum(sizes))
    opened = []
    for path, size in zip(paths, sizes, strict=True):
        opened.append(_found(path, spool))
        if not size:  # known only now
            scratch.reserve(opened[-1].stored.text_size)
    rules = [_Rules(options, find_list(path), None) for path in paths]
    while True:
        try:
            loaded = _load_files(opened, rules, scratch, sink)
            break
        except _RoundedError as found:
            rules[found.file] = replace(rules[found.file], rounded_lengths=found.lengths)
            if sink is not None:
                sink.clear()
    trim_malloc()
    return loaded


def _load_files(
    opened: Sequence[_OpenedFile], rules: Sequence[_Rules], scratch: Scratch, sink: BlockSink | None
) -> Loaded:
    """Read all files once. Raises _RoundedError where one is to be read again."""
    builder = RowsBuilder(scratch, typed=rules[0].options.auto_create_devices if rules else False)

    def build(block: RowBlock) -> None:
        builder.add(block.file, block.keys)

    with background_worker(build) as add:

        def take(block: RowBlock) -> None:
            add(block)
            if sink is not None:
                sink.append(block)

        each = enumerate(zip(opened, rules, strict=True))
        files = [_load_file(number, file, its_rules, take) for number, (file, its_rules) in each]
    return Loaded(_disambiguate_names(files), builder.rows())


def _disambiguate_names(files: Sequence[InputFile]) -> tuple[InputFile, ...]:
    """The files; those of one name under their whole paths."""
    names = Counter(file.name for file in files)
    return tuple(file if names[file.name] == 1 else replace(file, name=file.path) for file in files)


def _found(path: str, spool: Path) -> _OpenedFile:
    name = "standard input" if path == "-" else path
    with input_errors(name):
        stored = open_source(path, spool)
        return _OpenedFile(name, stored, stored.fingerprint())


def _load_file(number: int, found: _OpenedFile, rules: _Rules, take: Callable[[RowBlock], None]) -> InputFile:
    name, stored = found.name, found.stored
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(stored.sha256)
        with input_errors(name):
            source = _prepared(_source(stored, rules.options), rules.read_list)
        seen = _FileStats(LongNumbers(rules.rounded_lengths))
        rows, records = _emit_blocks(name, _row_blocks(number, source, seen), take)
        with input_errors(name):
            file = replace(_input_file(stored, digest.result(), source, rows), records=records)
            if stored.fingerprint() != found.fingerprint:
                raise InputError("changed while it was read", "wait until it is complete, and run again")
    if lengths := seen.numbers.rounded_lengths():
        raise _RoundedError(number, lengths)
    says = None if seen.trailer is None else seen.trailer.rows
    sheet = source.sheet
    of_sheet = () if sheet is None else sheet.warnings()
    with input_errors(name):
        cut = _told_of_last_line(source, says)
    restored = () if source.restorer is None else source.restorer.told()
    return replace(
        file,
        warnings=(*file.warnings, *of_sheet, *cut, *restored, *seen.warnings()),
        trailer_count=says,
        hidden_rows=0 if sheet is None else sheet.left_out,
    )


def _told_of_last_line(source: _ParsedSource, trailer_count: int | None) -> tuple[str, ...]:
    """What is said of a last line without an end; InputError where it is to be refused."""
    says = source.options.last_line
    if not says or trailer_count is not None or not source.last_line.is_open:
        return ()
    what = "the last line has no end where the others have one, so the file may have been cut short"
    if says == "refuse":
        raise InputError(what, "look whether the export is complete, or count its rows with --expect-rows")
    return (what,)


def _emit_blocks(name: str, blocks: Iterator[RowBlock], take: Callable[[RowBlock], None]) -> tuple[int, int]:
    """Number of rows that were taken, and of the records they come from."""
    rows = records = 0
    while True:
        with input_errors(name):  # what `take` raises is not the file's fault
            block = next(blocks, None)
        if block is None:
            return rows, records
        rows += block.keys.num_rows
        records += int(np.count_nonzero(block.keys["piece"].to_numpy() <= 1))
        take(block)


def _input_file(stored: SourceFile, digest: str, source: _ParsedSource, rows: int) -> InputFile:
    dialect = source.dialect
    header = () if dialect is None else dialect.header
    return InputFile(
        name=encodable(stored.name),
        path=encodable(stored.origin or str(stored.path)),
        written=stored.modified_at,
        sha256=digest,
        rows=rows,
        header=header,
        header_line=0 if dialect is None else dialect.header_line,
        encoding=source.encoding,
        delimiter="" if dialect is None else dialect.delimiter,
        columns={} if dialect is None else {field: header[at] for field, at in dialect.columns.items()},
        warnings=source.warnings,
    )


def _source(stored: SourceFile, options: InputOptions) -> _ParsedSource:
    if stored.kind is FileKind.WORKBOOK:
        sheet = _find_sheet(stored, options)
        return _ParsedSource(
            sheet.dialect,
            "xlsx",
            sheet.notes,
            _readings(sheet),
            _LastLine(),
            options_for_own_report(stored.name, sheet.dialect.header, options),
            sheet=sheet,
        )
    text, options, is_ours = _text(stored, options)
    head = text.head(_HEAD)
    if not head.strip(b" \t\r\n\0\x1a"):
        return _ParsedSource(
            None, text.encoding, (*text.warnings, "there is nothing in it"), lambda: (), _LastLine(), options
        )
    with _advising_to_feed_back(lambda: is_ours):
        dialect = find_dialect(head, text.encoding, options)

    last_line = _LastLine()

    def pieces() -> Iterator[CellBlock]:
        return read_cells(last_line.watching(_skip_bytes(text.pieces(), dialect.body_offset)), dialect, options)

    warnings = (*text.warnings, *dialect.warnings)
    return _ParsedSource(dialect, text.encoding, warnings, pieces, last_line, options, guessed=text.guessed)


def _prepared(source: _ParsedSource, read_list: ReadList | None) -> _ParsedSource:
    """The source with its cells as the rules of the input want them."""
    if source.dialect is None:
        return source
    header = source.dialect.header
    if is_attention(header):
        source = _restored(source, header, read_list)
    filled = {name: source.columns[name] for name in source.options.fill_down if name in source.columns}
    split = source.options.split

    def pieces() -> Iterator[CellBlock]:
        pieces = iter(source.pieces())
        if filled:
            pieces = with_values_above(pieces, filled)
        if split is not None:
            pieces = with_split_cells(pieces, source.columns[split.field], split.separators)
        return pieces

    return replace(source, pieces=pieces)


def _restored(source: _ParsedSource, header: Sequence[str], read_list: ReadList | None) -> _ParsedSource:
    """The source of an attention file without what writing and a spreadsheet have made of its cells."""

    def pieces() -> Iterator[CellBlock]:
        return (replace(piece, cells=unguarded_cells(piece.cells)) for piece in source.pieces())

    # In a workbook that the program wrote, as its header shows, every cell is text: what differs was entered.
    is_own_workbook = source.sheet is not None and tuple(header[: len(OF_ATTENTION)]) == OF_ATTENTION
    if read_list is None or is_own_workbook or OF_ATTENTION[-1] not in header:
        return replace(source, pieces=pieces)
    restorer = Restorer.of(pieces(), source.columns, header.index(OF_ATTENTION[-1]), read_list)
    if restorer is None:
        return replace(source, pieces=pieces)
    return replace(source, pieces=lambda: restorer.restored(pieces()), restorer=restorer)


@contextmanager
def _advising_to_feed_back(is_ours: Callable[[], bool]) -> Iterator[None]:
    """Have an error in a file that this program wrote say where the options for it are known."""
    try:
        yield
    except InputError as error:
        if not is_ours():
            raise
        advice = "it holds rows of a run: run it in the folder of that run, whose options are taken then"
        raise InputError(error.reason, f"{advice}; or {error.advice}") from error


def _text(stored: SourceFile, options: InputOptions) -> tuple[DecodedText, InputOptions, bool]:
    """The text of a file, the options that hold for it, and whether this program wrote it."""
    with stored.open() as file:
        ours = find_own_header(stored.name, file.read(_FIRST), options.delimiter)
    if ours is None:
        return detect_encoding(stored, options.encoding), options, False
    text = detect_encoding(stored, None)
    if text.guessed:  # saved again by a person's spreadsheet
        text = detect_encoding(stored, options.encoding)
    return text, options_for_own_report(stored.name, ours.cells, options, ours.delimiter), True


def _find_sheet(stored: SourceFile, options: InputOptions) -> Sheet:
    """Return the sheet of a workbook that holds the rows, which this program may have written."""
    ours: list[bool] = []

    def adapt(rows: Sequence[Sequence[str]]) -> InputOptions:
        header = find_own_row(stored.name, rows)
        ours.append(bool(header))
        return options_for_own_report(stored.name, header, options)

    with _advising_to_feed_back(lambda: any(ours)):
        return find_sheet(stored.path, options, adapt)


def _skip_bytes(texts: Iterator[bytes], start: int) -> Iterator[bytes]:
    """The text from the byte `start` on."""
    for text in texts:
        yield text[start:]
        start = max(0, start - len(text))


def _readings(sheet: Sheet) -> Callable[[], Iterator[CellBlock]]:
    """Return what reads the rows of a sheet: for the first time with `sheet`, later with copies, which count apart."""
    unread = sheet.copied()
    sheets = chain([sheet], iter(unread.copied, None))
    return lambda: _sheet_pieces(next(sheets))


def _sheet_pieces(sheet: Sheet) -> Iterator[CellBlock]:
    width = len(sheet.dialect.header)
    for piece in sheet.pieces():
        last = next((cells for cells in reversed(piece.cells) if not all(map(is_blank, cells))), [])
        closing = (closing_text(last, ";"),)
        yield CellBlock(np.array(piece.lines, np.int64), cells_of(piece.cells, width), {}, closing, kinds=piece.kinds)


def _row_blocks(file: int, source: _ParsedSource, seen: _FileStats) -> Iterator[RowBlock]:
    """The pieces judged, without empty records; the last row may turn out to be a trailer."""
    held: RowBlock | None = None
    closing: tuple[str, ...] = ()
    for block, said in _judged_pieces(file, source, seen):
        if block.keys.num_rows:
            if held is not None:
                seen.add(held.keys)
                yield held
            held, closing = block, said
    if source.options.trailer_count is not None:
        held, seen.trailer = split_trailer(held, closing, source.options.trailer_count)
    elif held is not None:
        line = held.keys["line"][-1].as_py()
        held, seen.closing = without_plain_trailer(held)
        seen.passed_over += [line] if seen.closing else []
    if held is not None:
        seen.add(held.keys)
        yield held


def _judged_pieces(file: int, source: _ParsedSource, seen: _FileStats) -> Iterator[tuple[RowBlock, tuple[str, ...]]]:
    """Each piece as rows, and the record that may close the file after them."""
    pieces = prefetch(iter(source.pieces()))

    def judged(piece: CellBlock) -> tuple[RowBlock, tuple[str, ...]]:
        return _judged(file, piece, source, seen), piece.closing

    while seen.neighbours is None:  # all others are held against the serials of the first rows
        piece = next(pieces, None)
        if piece is None:
            return
        yield judged(piece)
    yield from map_ordered(judged, pieces)


def _judged(file: int, piece: CellBlock, source: _ParsedSource, seen: _FileStats) -> RowBlock:
    if source.dialect is not None:
        reject_conflicting_action(source.dialect.header, piece.cells, source.options)

    def column(field: str) -> pa.Array | None:
        at = source.columns.get(field)
        return None if at is None else piece.cells.column(at)

    keys = validate_keys(
        KeyCells(
            lines=piece.lines,
            email=column("customerEmail"),
            device=column("deviceIdentifier"),
            action=column("action"),
            device_type=column("deviceType"),
            faults=piece.faults,
            odd=piece.odd,
            pieces=piece.numbers,
            kinds=piece.kinds,
            dated=piece.dated,
        ),
        source.options,
        guessed=source.guessed,
        neighbours=seen.neighbours,
        numbers=seen.numbers,
    )
    piece, keys = _without_passed_over(piece, keys, source, seen)
    filled = _non_blank(keys, piece.cells)
    block = RowBlock(file, keys, piece.cells)
    if filled is not None:
        block = RowBlock(file, keys.filter(filled), piece.cells.filter(filled))
    if seen.neighbours is None and block.keys.num_rows:
        seen.neighbours = SerialProfile(block.keys["deviceIdentifier"])
    return block


def _without_passed_over(
    piece: CellBlock, keys: pa.RecordBatch, source: _ParsedSource, seen: _FileStats
) -> tuple[CellBlock, pa.RecordBatch]:
    """The records that are rows, and their keys."""
    if source.dialect is None or not keys["problem"].to_numpy().any():
        return piece, keys
    rows = passed_over(keys, piece, source.dialect, source.options)
    if not len(rows):
        return piece, keys
    seen.passed_over += piece.lines[rows].tolist()
    kept = np.ones(len(piece.lines), np.bool_)
    kept[rows] = False
    mask = pa.array(kept)
    return replace(piece, lines=piece.lines[kept], cells=piece.cells.filter(mask)), keys.filter(mask)


def _non_blank(keys: pa.RecordBatch, cells: pa.RecordBatch) -> pa.Array | None:
    """Which records hold anything at all; None if all of them do."""
    # A record of a wrong width may hold something in its surplus, and was looked at there.
    keyless = pc.and_(pc.equal(keys["customerEmail"], ""), pc.equal(keys["problem"], Problem.EMPTY_KEY))
    rows = np.flatnonzero(keyless.to_numpy(zero_copy_only=False))
    for column in cells.columns:
        if not len(rows):
            return None
        blank = pc.equal(normalize(column.take(pa.array(rows))), "")
        rows = rows[blank.to_numpy(zero_copy_only=False)]
    filled = np.ones(len(keyless), np.bool_)
    filled[rows] = False
    return pa.array(filled)
