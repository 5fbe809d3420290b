"""Where records begin and end in UTF-8 text, and how many cells each has.

An opinion formed without the parser, so that the two can be held against each other:
a record that only one of them sees is a bug or a broken quote, never a lost row.
Refuses to know what a column means, and never looks further than the block it is given.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Octets: TypeAlias = npt.NDArray[np.uint8]

LF: Final = 10
CR: Final = 13
QUOTE: Final = 34
_LINE_ENDS: Final = (b"\r", b"\n")


@dataclass(frozen=True)
class Records:
    """The whole records of one block. All positions are bytes from the block's beginning.

    block      the text scanned; what follows `consumed` belongs to an unfinished record
    marks      positions of the delimiters and line ends that stand outside quotes
    last       for each record the place in `marks` of its line end
    lines      for each record the number of line ends before it in this block
    line_ends  line ends in the consumed part, those inside quoted cells too
    open_quote position of a quote that is still open at the block's end, or -1
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
        """Bytes up to the end of the last whole record."""
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
        stops: Ints = ends - pair
        return stops

    @cached_property
    def blank(self) -> Flags:
        """Is the record nothing but a line end?"""
        blank: Flags = self.ends == self.starts
        return blank

    @cached_property
    def inner_line_ends(self) -> Ints:
        """Number of line ends inside the quoted cells of each record (int64)."""
        return np.diff(self.lines, append=self.line_ends) - 1

    def text(self, record: int) -> bytes:
        """One record without its line end."""
        return self.block[self.starts[record] : self.ends[record]]

    def ends_without_trailing_blanks(self, width: int) -> Ints:
        """As `stops`, but before the surplus delimiters at the end of records of more than `width` cells.

        Only where nothing else is surplus; `stops` itself when there is no such record.
        """
        over = np.flatnonzero(self.cells > width)
        if not len(over):
            return self.ends
        stops = self.ends.copy()
        nth = self.separators[self.line_end_index[over] - self.cells[over] + width]
        bare = stops[over] - nth == self.cells[over] - width
        stops[over[bare]] = nth[bare]
        return stops

    def select(self, kept: Flags, stops: Ints) -> bytes:
        """The text of the records flagged in `kept`, each cut at its place in `stops`."""
        ends = self.separators[self.line_end_index] + 1
        lengths = np.column_stack((stops - self.starts, self.ends - stops, ends - self.ends))
        flags = np.column_stack((kept, np.zeros_like(kept), kept))
        octets = np.frombuffer(self.block, np.uint8, count=self.consumed)
        return octets[np.repeat(flags.ravel(), lengths.ravel())].tobytes()


def scan(block: bytes, delimiter: bytes, *, final: bool) -> Records:
    """Find the records of a block that begins where a record begins.

    Line ends are LF, CRLF and CR. A quote counts only as the first character of a cell,
    and there doubles to stand for itself. Unless `final`, a CR at the very end is left
    undecided, for an LF may follow. A final block must end with a line end.
    """
    octets = np.frombuffer(block, np.uint8)
    ends = _line_ends(block, octets, final=final)
    marks = np.flatnonzero(ends | (octets == ord(delimiter)))
    if block.find(b'"') < 0:
        last = np.flatnonzero(ends[marks])
        lines = np.arange(len(last), dtype=np.int64)
        return Records(block, marks, last, lines, len(last), open_quote=-1)
    toggles, open_quote = _quote_toggles(octets, ord(delimiter))
    outside = ~np.logical_xor.accumulate(toggles)[marks]
    is_end = ends[marks]
    lines_after = np.cumsum(is_end)[outside & is_end]
    last = np.flatnonzero(is_end[outside])
    lines = np.concatenate((np.zeros(min(1, len(last)), np.int64), lines_after[:-1]))
    line_ends = int(lines_after[-1]) if len(last) else 0
    return Records(block, marks[outside], last, lines, line_ends, open_quote)


def _line_ends(block: bytes, octets: Octets, *, final: bool) -> Flags:
    """Flags the byte that ends each line: LF, or a CR that no LF follows."""
    feeds: Flags = octets == LF
    if b"\r" not in block or block.count(b"\r") == block.count(b"\r\n"):
        return feeds
    alone: Flags = octets == CR
    alone[:-1] &= ~feeds[1:]
    alone[-1] &= final
    alone |= feeds
    return alone


def _quote_toggles(octets: Octets, delimiter: int) -> tuple[Flags, int]:
    """Flags the quotes between which text is quoted; the quote left open or -1.

    In tidy text, where every quote opens at a cell's start or closes at a cell's end,
    every other quote opens. Then `""` inside a cell counts as closed and
    opened again, which no delimiter can come between, so counting quotes is exact.
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
    """The exact machine, one quote at a time: opening and closing quotes, the one left open."""
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
    """The cells of one record (without its line end), unquoted."""
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
        stop = record.find(delimiter, at)
        if stop < 0:
            return [*cells, (quoted + record[at:]).decode()]
        cells.append((quoted + record[at:stop]).decode())
        at = stop + 1


def _closing(record: bytes, at: int) -> int:
    """Where the quoted text beginning at `at` ends."""
    while (at := record.find(b'"', at)) >= 0:
        if record[at + 1 : at + 2] != b'"':
            return at
        at += 2
    return len(record)


def inner_lines(record: bytes, delimiter: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines of a record that begin inside a quoted cell and may be rows it swallowed.

    Gives the number of line ends before the opening quote, and the line. The line on
    which the cell ends counts only if its quote is closed in mid-cell: that quote was
    meant to open a cell. Where it is closed properly, the line is the record's own.
    """
    at = 0
    while at >= 0:
        if record[at : at + 1] == b'"':
            close = _closing(record, at + 1)
            torn = record[close + 1 : close + 2] not in (b"", delimiter)
            before = len(record[:at].splitlines()) - (at > 0)
            for line in embedded_lines(record, at + 1, close, torn=torn):
                yield before, line
            at = close + 1
        at = record.find(delimiter, at) + 1 or -1


def embedded_lines(record: bytes, start: int, close: int, *, torn: bool) -> Iterator[bytes]:
    """The whole lines after the first between `start` and `close`, and the one torn at `close`."""
    inside = record[start:close].splitlines(keepends=True)
    torn_at = close
    if inside and not inside[-1].endswith(_LINE_ENDS):
        torn_at -= len(inside.pop())
    for line in inside[1:]:
        yield line.rstrip(b"\r\n")
    if torn and inside:
        yield record[torn_at:].splitlines()[0]
