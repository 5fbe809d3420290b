"""Load input files as validated rows.

Works one block at a time, so memory grows with the key columns, not with the width of the file. The records
are counted by the record scanner and by the parser, and the counts must agree.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputFile, InputOptions, OwnersSummary
from telemetron_batch.domain.printable import encodable
from telemetron_batch.input.expansion import GroupedListDetector
from telemetron_batch.input.frame_dialect import FRAME
from telemetron_batch.input.record_source import RecordSource, last_line_warnings, open_records, prepare_cells
from telemetron_batch.input.restored_cells import OriginalReader
from telemetron_batch.input.row_blocks import FileStats, row_blocks
from telemetron_batch.input.serials import RoundedSerialDetector
from telemetron_batch.input.source_file import SourceFile, estimate_text_size, input_errors, open_source
from telemetron_batch.rows.rows import RowBlock, Rows, RowsBuilder
from telemetron_batch.storage.concurrency import background_worker
from telemetron_batch.storage.spill import Scratch


@dataclass(frozen=True, slots=True)
class Loaded:
    """The input files of a run, and the rows of all of them."""

    files: tuple[InputFile, ...]
    rows: Rows
    owners: OwnersSummary | None = None
    """With `--owners`: where customers were looked up."""


@dataclass(frozen=True, slots=True)
class _OpenedFile:
    """One file, as it was before it is read."""

    name: str
    """Name for messages."""
    source: SourceFile
    fingerprint: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _ReadSettings:
    """How to read a file."""

    options: InputOptions
    read_original_input: OriginalReader | None
    """Reads the input of the run in whose folder the file is; None outside of a run's folder."""
    rounded_lengths: frozenset[int] | None = None
    """Lengths of serials that a spreadsheet rounded, from the first reading; None for the first reading."""


class BlockSink(Protocol):
    """Takes the blocks of the input, such as a list or the draft of a journal."""

    def append(self, block: RowBlock, /) -> object:
        """Take a block."""

    def clear(self) -> None:
        """Drop all blocks, because the input is read again."""


class OwnerLookup(Protocol):
    """Completes the rows that lack their customer: reads all rows once before it knows the owners."""

    def note(self, block: RowBlock, /) -> None:
        """Note the rows of a block that lack their customer."""

    def clear(self) -> None:
        """Drop what was noted, because the input is read again."""

    def find(self) -> None:
        """Find the owners, after all rows were noted."""

    def complete(self, block: RowBlock, /) -> RowBlock:
        """Return a block with the owners found; blocks come in the order in which they were noted."""


class _RoundedError(Exception):
    """A file has serials that a spreadsheet rounded, so it must be read again."""

    def __init__(self, file: int, lengths: frozenset[int]) -> None:
        super().__init__(file, lengths)
        self.file = file
        self.lengths = lengths


def load(  # noqa: PLR0913 - what is read, and where it goes
    paths: Sequence[str],
    options: InputOptions,
    *,
    spool: Path,
    sink: BlockSink | None = None,
    scratch: Scratch | None = None,
    find_original_input: Callable[[str], OriginalReader | None] = lambda _: None,
    owners: OwnerLookup | None = None,
) -> Loaded:
    """Read all files in order; return their rows, and append each block of rows to `sink`.

    `-` is standard input; it is copied to the folder `spool` as `stdin`, and its
    `InputFile.path` names the copy. A file without any text has no rows. Many rows
    are kept in `scratch`, so use the result only as long as that exists. `find_original_input` returns
    the reader of the input of the run in whose folder an attention file is. With `owners` the files are read twice:
    the customers are looked up in between. Without it, rows that lack their customer stay so and cannot be
    planned. Raises InputError or ConfigError for files that cannot be read as rows,
    DiskError when the copy cannot be written, and UnbalancedError when parser and record scanner count different
    numbers of records.
    """
    if list(paths).count("-") > 1:
        raise InputError("standard input is named twice", "name - once")
    scratch = scratch or Scratch()
    sizes = [*map(estimate_text_size, paths)]
    scratch.reserve(sum(sizes))
    opened = []
    for path, size in zip(paths, sizes, strict=True):
        opened.append(_open_file(path, spool, options))
        if not size:  # the size of a copy is only known now
            scratch.reserve(opened[-1].source.text_size)
    rules = [_ReadSettings(options, find_original_input(path)) for path in paths]
    while True:
        try:
            if owners is not None:
                _note_unnamed_rows(opened, rules, owners)
            loaded = _load_files(opened, rules, sink, _Builder(rules, scratch, owners))
            break
        except _RoundedError as found:
            rules[found.file] = replace(rules[found.file], rounded_lengths=found.lengths)
            if sink is not None:
                sink.clear()
    pa.default_memory_pool().release_unused()  # otherwise the peaks of loading and planning add up
    return loaded


def read_file(path: str, options: InputOptions, *, spool: Path, sink: BlockSink) -> InputFile:
    """Read one file block by block into `sink`, without keeping its rows. Raises as `load`."""
    opened, rules = _open_file(path, spool, options), _ReadSettings(options, None)

    def emit(block: RowBlock) -> None:
        sink.append(block)

    while True:
        try:
            return _load_file(0, opened, rules, emit)
        except _RoundedError as found:
            rules = replace(rules, rounded_lengths=found.lengths)
            sink.clear()


def _note_unnamed_rows(opened: Sequence[_OpenedFile], rules: Sequence[_ReadSettings], owners: OwnerLookup) -> None:
    """Read all files once for the rows that lack their customer, and find the owners."""
    owners.clear()
    for number, (file, file_rules) in enumerate(zip(opened, rules, strict=True)):
        _load_file(number, file, file_rules, owners.note)
    owners.find()


class _Builder:
    """Completes and collects the rows of all files."""

    def __init__(self, rules: Sequence[_ReadSettings], scratch: Scratch, owners: OwnerLookup | None) -> None:
        with_device_types = rules[0].options.auto_create_devices if rules else False
        self._rows = RowsBuilder(scratch, with_device_types=with_device_types)
        self._owners = owners

    def complete(self, block: RowBlock) -> RowBlock:
        """Return the block with the owners of its rows."""
        return block if self._owners is None else self._owners.complete(block)

    def add(self, block: RowBlock) -> None:
        """Append a complete block."""
        self._rows.add(block.file, block.keys)

    def rows(self) -> Rows:
        """Return all rows."""
        return self._rows.rows()


def _load_files(
    opened: Sequence[_OpenedFile], rules: Sequence[_ReadSettings], sink: BlockSink | None, builder: _Builder
) -> Loaded:
    """Read all files once. Raises _RoundedError if a file must be read again."""
    with background_worker(builder.add) as add:

        def emit(block: RowBlock) -> None:
            block = builder.complete(block)
            add(block)
            if sink is not None:
                sink.append(block)

        each = enumerate(zip(opened, rules, strict=True))
        files = [_load_file(number, file, file_rules, emit) for number, (file, file_rules) in each]
    return Loaded(_disambiguate_names(files), builder.rows())


def _disambiguate_names(files: Sequence[InputFile]) -> tuple[InputFile, ...]:
    """Return the files; those that share a name get their path as name."""
    names = Counter(file.name for file in files)
    return tuple(file if names[file.name] == 1 else replace(file, name=file.path) for file in files)


def _open_file(path: str, spool: Path, options: InputOptions) -> _OpenedFile:
    name = FRAME if options.is_frame else "standard input" if path == "-" else path
    with input_errors(name):
        source = open_source(path, spool)
        return _OpenedFile(name, source, source.fingerprint())


def _load_file(number: int, opened: _OpenedFile, rules: _ReadSettings, emit: Callable[[RowBlock], None]) -> InputFile:
    name = opened.name
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(opened.source.sha256)
        with input_errors(name):
            records = prepare_cells(open_records(opened.source, rules.options), rules.read_original_input)
        groups = GroupedListDetector(may_lack_customers=rules.options.owners is not None)
        stats = FileStats(RoundedSerialDetector(rules.rounded_lengths), groups=groups)
        rows, record_count = _emit_blocks(name, row_blocks(number, records, stats), emit)
        with input_errors(name):
            file = replace(_input_file(opened.source, digest.result(), records, rows), records=record_count)
            if opened.source.fingerprint() != opened.fingerprint:
                raise InputError("changed while it was read", "wait until it is complete, and run again")
    if lengths := stats.long_numbers.rounded_lengths():
        raise _RoundedError(number, lengths)
    trailer_count = None if stats.trailer is None else stats.trailer.rows
    sheet = records.sheet
    of_sheet = () if sheet is None else sheet.warnings()
    with input_errors(name):
        of_last_line = last_line_warnings(records, trailer_count)
    restored = () if records.restorer is None else records.restorer.warnings()
    return replace(
        file,
        warnings=(*file.warnings, *of_sheet, *of_last_line, *restored, *stats.warnings()),
        trailer_count=trailer_count,
        hidden_rows=0 if sheet is None else sheet.left_out,
    )


def _emit_blocks(name: str, blocks: Iterator[RowBlock], emit: Callable[[RowBlock], None]) -> tuple[int, int]:
    """Return the number of rows that were emitted, and of the records that they come from."""
    rows = records = 0
    while True:
        with input_errors(name):  # an error in `emit` is not an error of this file
            block = next(blocks, None)
        if block is None:
            return rows, records
        rows += block.keys.num_rows
        records += int(np.count_nonzero(block.keys["piece"].to_numpy() <= 1))
        emit(block)


def _input_file(source: SourceFile, digest: str, records: RecordSource, rows: int) -> InputFile:
    dialect = records.dialect
    header = () if dialect is None else dialect.header
    is_frame = records.options.is_frame  # then the file is a temporary one of ours, and users do not know its path
    return InputFile(
        name=FRAME if is_frame else encodable(source.name),
        path=FRAME if is_frame else encodable(source.given_path or str(source.path)),
        written=None if is_frame else source.modified_at,
        sha256=digest,
        rows=rows,
        header=header,
        header_line=0 if dialect is None else dialect.header_line,
        encoding=records.encoding,
        delimiter="" if dialect is None else dialect.delimiter,
        columns={} if dialect is None else {field: header[at] for field, at in dialect.columns.items()},
        warnings=records.warnings,
    )
