"""Find where records begin and end in UTF-8 text, and how many cells each has.

Works independently of the CSV parser, so that their counts can be compared: a record that
only one of them finds is a bug or a broken quote, and never a row lost silently.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from telemetron_batch.domain.arrays import Flags, Ints, Octets

LF: Final = 10
CR: Final = 13
QUOTE: Final = 34
_LINE_ENDS: Final = (b"\r", b"\n")


@dataclass(frozen=True)
class Records:
    """The complete records of one block. Positions are offsets in bytes from the start of the block.

    block           the scanned text; the bytes after `consumed` belong to an incomplete record
    separators      positions of the delimiters and line ends outside quotes
    line_end_index  for each record the index of its line end in `separators`
    lines           for each record the number of line ends before it in this block
    line_ends       number of line ends in the consumed part, including those in quoted cells
    open_quote      position of a quote that is still open at the end of the block, or -1
    """

    block: bytes
    separators: Ints
    line_end_index: Ints
    lines: Ints
    line_ends: int
    open_quote: int

    def __len__(self) -> int:
        return len(self.line_end_index)

    @property
    def consumed(self) -> int:
        """Number of bytes up to the end of the last complete record."""
        return int(self.separators[self.line_end_index[-1]]) + 1 if len(self.line_end_index) else 0

    @cached_property
    def cells(self) -> Ints:
        """Number of cells of each record (int64)."""
        return np.diff(self.line_end_index, prepend=-1)

    @cached_property
    def starts(self) -> Ints:
        """Where each record begins (int64)."""
        return np.concatenate((np.zeros(min(1, len(self)), np.int64), self.separators[self.line_end_index[:-1]] + 1))

    @cached_property
    def ends(self) -> Ints:
        """Where the text of each record ends, before its line end (int64)."""
        ends = self.separators[self.line_end_index]
        octets = np.frombuffer(self.block, np.uint8)
        pair = (octets[ends] == LF) & (ends > self.starts) & (octets[ends - 1] == CR)
        text_ends: Ints = ends - pair
        return text_ends

    @cached_property
    def blank(self) -> Flags:
        """Whether each record is empty."""
        blank: Flags = self.ends == self.starts
        return blank

    @cached_property
    def inner_line_ends(self) -> Ints:
        """Number of line ends inside the quoted cells of each record (int64)."""
        return np.diff(self.lines, append=self.line_ends) - 1

    def text(self, record: int) -> bytes:
        """Return the text of a record without its line end."""
        return self.block[self.starts[record] : self.ends[record]]

    def ends_without_trailing_blanks(self, width: int) -> Ints:
        """Return `ends`, but for records of more than `width` cells the end of their cell number `width`.

        Only for records whose surplus cells are all empty. Returns `ends` itself if there are none.
        """
        too_wide = np.flatnonzero(self.cells > width)
        if not len(too_wide):
            return self.ends
        ends = self.ends.copy()
        cell_ends = self.separators[self.line_end_index[too_wide] - self.cells[too_wide] + width]
        only_delimiters = ends[too_wide] - cell_ends == self.cells[too_wide] - width
        ends[too_wide[only_delimiters]] = cell_ends[only_delimiters]
        return ends

    def select(self, kept: Flags, text_ends: Ints) -> bytes:
        """Return the text of the records flagged in `kept`, each cut at its `text_ends`, with line ends."""
        ends = self.separators[self.line_end_index] + 1
        lengths = np.column_stack((text_ends - self.starts, self.ends - text_ends, ends - self.ends))
        flags = np.column_stack((kept, np.zeros_like(kept), kept))
        octets = np.frombuffer(self.block, np.uint8, count=self.consumed)
        return octets[np.repeat(flags.ravel(), lengths.ravel())].tobytes()


def scan(block: bytes, delimiter: bytes, *, final: bool) -> Records:
    """Find the records of a block that begins at the start of a record.

    Line ends are LF, CRLF and CR. A quote opens a quoted cell only as the first character of the cell;
    inside, a doubled quote stands for one quote. Unless `final`, a CR at the very end is not
    counted yet, because an LF may follow. A final block must end with a line end.
    """
    octets = np.frombuffer(block, np.uint8)
    ends = _line_ends(block, octets, final=final)
    separators = np.flatnonzero(ends | (octets == ord(delimiter)))
    if block.find(b'"') < 0:
        line_end_index = np.flatnonzero(ends[separators])
        lines = np.arange(len(line_end_index), dtype=np.int64)
        return Records(block, separators, line_end_index, lines, len(line_end_index), open_quote=-1)
    toggles, open_quote = _quote_toggles(octets, ord(delimiter))
    outside = ~np.logical_xor.accumulate(toggles)[separators]
    is_end = ends[separators]
    lines_after = np.cumsum(is_end)[outside & is_end]
    line_end_index = np.flatnonzero(is_end[outside])
    lines = np.concatenate((np.zeros(min(1, len(line_end_index)), np.int64), lines_after[:-1]))
    line_ends = int(lines_after[-1]) if len(line_end_index) else 0
    return Records(block, separators[outside], line_end_index, lines, line_ends, open_quote)


def _line_ends(block: bytes, octets: Octets, *, final: bool) -> Flags:
    """Flag the byte that ends each line: an LF, or a CR without an LF after it."""
    is_lf: Flags = octets == LF
    if b"\r" not in block or block.count(b"\r") == block.count(b"\r\n"):
        return is_lf
    is_end: Flags = octets == CR
    is_end[:-1] &= ~is_lf[1:]
    is_end[-1] &= final
    is_end |= is_lf
    return is_end


def _quote_toggles(octets: Octets, delimiter: int) -> tuple[Flags, int]:
    """Flag the quotes that open or close quoted text; also return the position of an open quote, or -1.

    In well-formed text every quote opens at the start of a cell or closes at its end, so opening and
    closing quotes alternate. A doubled quote in a cell then counts as closing and opening, with no
    delimiter in between, so counting quotes is exact. Other text needs `_match_quotes`.
    """
    is_quote = octets == QUOTE
    quotes = np.flatnonzero(is_quote)
    edge = np.zeros(256, np.bool_)
    edge[[delimiter, LF, CR]] = True
    at_start = edge[octets[quotes - 1]]
    at_start[0] |= quotes[0] == 0
    opening, closing = quotes[0::2], quotes[1::2]
    doubled = octets[opening - 1] == QUOTE
    doubled[0] = False
    edge[QUOTE] = True
    at_end = edge[octets[np.minimum(closing + 1, len(octets) - 1)]]
    if np.all(at_start[0::2] | doubled) and at_end.all():
        return is_quote, _open_quote(quotes)
    pairs, open_quote = _match_quotes(quotes.tolist(), at_start.tolist())
    toggles = np.zeros_like(is_quote)
    toggles[pairs] = True
    return toggles, open_quote


def _open_quote(quotes: Ints) -> int:
    if len(quotes) % 2 == 0:
        return -1
    at = len(quotes) - 1
    while at and quotes[at] == quotes[at - 1] + 1:
        at -= 2
    return int(quotes[at])


def _match_quotes(quotes: list[int], at_start: list[bool]) -> tuple[list[int], int]:
    """Go through the quotes one by one; return the opening and closing ones, and the one that stays open or -1."""
    pairs: list[int] = []
    at, count = 0, len(quotes)
    while at < count:
        if not at_start[at]:
            at += 1
            continue
        pairs.append(quotes[at])
        at += 1
        while at + 1 < count and quotes[at + 1] == quotes[at] + 1:
            at += 2
        if at >= count:
            return pairs, pairs[-1]
        pairs.append(quotes[at])
        at += 1
    return pairs, -1


def split(record: bytes, delimiter: bytes) -> list[str]:
    """Return the cells of one record (without its line end), unquoted."""
    if b'"' not in record:
        return [cell.decode() for cell in record.split(delimiter)]
    cells: list[str] = []
    at = 0
    while True:
        quoted = b""
        if record[at : at + 1] == b'"':
            close = _closing(record, at + 1)
            quoted = record[at + 1 : close].replace(b'""', b'"')
            at = close + 1
        end = record.find(delimiter, at)
        if end < 0:
            return [*cells, (quoted + record[at:]).decode()]
        cells.append((quoted + record[at:end]).decode())
        at = end + 1


def _closing(record: bytes, at: int) -> int:
    """Return the position of the quote that closes the quoted text beginning at `at`."""
    while (at := record.find(b'"', at)) >= 0:
        if record[at + 1 : at + 2] != b'"':
            return at
        at += 2
    return len(record)


def inner_lines(record: bytes, delimiter: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines inside the quoted cells of a record that may be rows, each after the line ends before its quote.

    The line on which a quoted cell ends counts only if more text follows the closing quote in the
    cell: that quote was meant to open a cell. Otherwise the line belongs to the record.
    """
    at = 0
    while at >= 0:
        if record[at : at + 1] == b'"':
            close = _closing(record, at + 1)
            malformed = record[close + 1 : close + 2] not in (b"", delimiter)
            before = len(record[:at].splitlines()) - (at > 0)
            for line in embedded_lines(record, at + 1, close, malformed_close=malformed):
                yield before, line
            at = close + 1
        at = record.find(delimiter, at) + 1 or -1


def embedded_lines(record: bytes, start: int, close: int, *, malformed_close: bool) -> Iterator[bytes]:
    """Yield the complete lines between `start` and `close` but the first; if `malformed_close`, also the last line."""
    inside = record[start:close].splitlines(keepends=True)
    last_line = close
    if inside and not inside[-1].endswith(_LINE_ENDS):
        last_line -= len(inside.pop())
    for line in inside[1:]:
        yield line.rstrip(b"\r\n")
    if malformed_close and inside:
        yield record[last_line:].splitlines()[0]
