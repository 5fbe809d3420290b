"""Turn the records of one file into validated rows, block by block, and collect what is learnt about the file."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.model import Problem
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.expansion import GroupedListDetector
from telemetron_batch.input.normalize import normalize
from telemetron_batch.input.own_reports import reject_conflicting_action
from telemetron_batch.input.record_source import RecordSource
from telemetron_batch.input.serials import EndingInZeros, LeadingZeroCheck, RoundedSerialDetector, SerialStatistics
from telemetron_batch.input.skipped_lines import describe_skipped, skipped_records
from telemetron_batch.input.suspect_identifiers import Placeholders
from telemetron_batch.input.trailer import Trailer, split_trailer, without_plain_trailer
from telemetron_batch.input.validation import KeyCells, validate_keys
from telemetron_batch.rows.owner_claims import lack_owners
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.concurrency import map_ordered, prefetch

_NO_DEVICE: Final = "device"
"""The identifier of every row of a list of customers: neither damaged nor empty."""


@dataclass(slots=True)
class FileStats:
    """What the rows of a file show about the whole file."""

    long_numbers: RoundedSerialDetector
    leading_zeros: LeadingZeroCheck = field(default_factory=LeadingZeroCheck)
    ending_in_zeros: EndingInZeros = field(default_factory=EndingInZeros)
    serial_statistics: SerialStatistics | None = None
    """Profile of the serials of the first rows; None before the first rows."""
    skipped_lines: list[int] = field(default_factory=list)
    """Lines of records that are no rows."""
    trailer_text: str = ""
    """Text of an obvious trailer, which is the last of these records."""
    groups: GroupedListDetector = field(default_factory=GroupedListDetector)
    placeholders: Placeholders = field(default_factory=Placeholders)
    trailer: Trailer | None = None
    """The trailer that --trailer-count describes."""

    def add(self, keys: pa.RecordBatch) -> None:
        """Count the serials of the valid rows of a block."""
        serials, lines, valid = keys["deviceIdentifier"], keys["line"].to_numpy(), keys["problem"].to_numpy() == 0
        self.leading_zeros.add(serials, lines, valid)
        self.ending_in_zeros.add(serials, lines, valid)
        self.placeholders.add(serials, lines, valid)
        self.groups.add(keys)

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings about the end of the file and about its serials."""
        trailer = None if self.trailer is None else self.trailer.message
        of_numbers = (self.leading_zeros.warning(), self.ending_in_zeros.warning())
        skipped = describe_skipped(self.skipped_lines, self.trailer_text)
        others = (*self.placeholders.warnings(), *self.groups.warnings(), *skipped)
        return tuple(filter(None, (trailer, *of_numbers, *others)))


def row_blocks(file: int, source: RecordSource, stats: FileStats) -> Iterator[RowBlock]:
    """Yield the validated rows of a file, without blank records and without the trailer.

    `file` is the number of the file. Raises InputError where a trailer is required and missing.
    """
    # Only the end of the file shows which block is the last, and so whether its last row is a trailer.
    pending: RowBlock | None = None
    last_record: tuple[str, ...] = ()
    for block, record in _validated_blocks(file, source, stats):
        if block.keys.num_rows:
            if pending is not None:
                stats.add(pending.keys)
                yield pending
            pending, last_record = block, record
    if source.options.trailer_count is not None:
        pending, stats.trailer = split_trailer(pending, last_record, source.options.trailer_count)
    elif pending is not None and not source.options.is_frame:
        line = pending.keys["line"][-1].as_py()
        pending, stats.trailer_text = without_plain_trailer(pending)
        stats.skipped_lines += [line] if stats.trailer_text else []
    if pending is not None:
        stats.add(pending.keys)
        yield pending


def _validated_blocks(file: int, source: RecordSource, stats: FileStats) -> Iterator[tuple[RowBlock, tuple[str, ...]]]:
    """Yield each block as rows, and its last record, which may be the trailer of the file."""
    blocks = prefetch(iter(source.read_blocks()))

    def validated(block: CellBlock) -> tuple[RowBlock, tuple[str, ...]]:
        return _validated(file, block, source, stats), block.last_record

    while stats.serial_statistics is None:  # the serials of the first rows are needed to validate all others
        block = next(blocks, None)
        if block is None:
            return
        yield validated(block)
    yield from map_ordered(validated, blocks)


def _validated(file: int, block: CellBlock, source: RecordSource, stats: FileStats) -> RowBlock:
    if source.dialect is not None:
        reject_conflicting_action(source.dialect.header, block.cells, source.options)
    keys = validate_keys(
        _key_cells(block, source),
        source.options,
        encoding_guessed=source.encoding_guessed,
        serial_statistics=stats.serial_statistics,
        long_numbers=stats.long_numbers,
    )
    block, keys = _without_skipped(block, keys, source, stats)
    non_blank = _non_blank(keys, block.cells)
    rows = RowBlock(file, keys, block.cells)
    if non_blank is not None:
        rows = RowBlock(file, keys.filter(non_blank), block.cells.filter(non_blank))
    if stats.serial_statistics is None and rows.keys.num_rows:
        stats.serial_statistics = SerialStatistics(rows.keys["deviceIdentifier"])
    return rows


def _key_cells(block: CellBlock, source: RecordSource) -> KeyCells:
    def column(field: str) -> pa.Array | None:
        at = source.columns.get(field)
        return None if at is None else block.cells.column(at)

    device = column("deviceIdentifier")
    return KeyCells(
        lines=block.lines,
        email=_blank(block) if "customerEmail" not in source.columns else column("customerEmail"),
        device=pa.repeat(_NO_DEVICE, len(block.lines)) if device is None else device,
        action=column("action"),
        device_type=column("deviceType"),
        width_errors=block.width_errors,
        wrong_width_cells=block.wrong_width_cells,
        piece_numbers=block.piece_numbers,
        kinds=block.kinds,
        date_originals=block.date_originals,
        width_problem=block.width_problem,
    )


def _blank(block: CellBlock) -> pa.Array:
    return pa.repeat(pa.scalar("", pa.string()), len(block.lines))


def _without_skipped(
    block: CellBlock, keys: pa.RecordBatch, source: RecordSource, stats: FileStats
) -> tuple[CellBlock, pa.RecordBatch]:
    """Return the records that are rows, and their keys."""
    if (
        source.dialect is None
        or source.options.is_frame
        or not (keys["problem"].to_numpy().any() or lack_owners(keys).any())
    ):
        return block, keys
    skipped = skipped_records(keys, block, source.dialect, source.options)
    if not len(skipped):
        return block, keys
    stats.skipped_lines += block.lines[skipped].tolist()
    is_row = np.ones(len(block.lines), np.bool_)
    is_row[skipped] = False
    mask = pa.array(is_row)
    return replace(block, lines=block.lines[is_row], cells=block.cells.filter(mask)), keys.filter(mask)


def _non_blank(keys: pa.RecordBatch, cells: pa.RecordBatch) -> pa.Array | None:
    """Return flags of the records with any text; None if all have some."""
    # A record of a wrong width has another problem than EMPTY_KEY: its surplus cells are not in `cells`.
    without_key = pc.and_(pc.equal(keys["customerEmail"], ""), pc.equal(keys["problem"], Problem.EMPTY_KEY))
    rows = np.flatnonzero(without_key.to_numpy(zero_copy_only=False))
    for column in cells.columns:
        if not len(rows):
            return None
        blank = pc.equal(normalize(column.take(pa.array(rows))), "")
        rows = rows[blank.to_numpy(zero_copy_only=False)]
    non_blank = np.ones(len(without_key), np.bool_)
    non_blank[rows] = False
    return pa.array(non_blank)
