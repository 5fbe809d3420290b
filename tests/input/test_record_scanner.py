"""The scanner finds the same records as the parser, independently of it."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetron_batch.input.record_scanner import Records, inner_lines, scan, split

TANGLE = st.text(alphabet='ab,"\r\n', max_size=60)
CELL = st.text(alphabet='ab ,;"\r\n\t|é', max_size=8)


def machine(text: bytes, delimiter: bytes = b",") -> list[tuple[int, int, list[bytes]]]:
    """Apply the rules byte by byte; return start, line and cells of each complete record."""
    records: list[tuple[int, int, list[bytes]]] = []
    start, line, ends = 0, 0, 0
    cells, cell, state = [], b"", "cell start"
    at = 0
    while at < len(text):
        sign = text[at : at + 1]
        end = text[at : at + 2] if text[at : at + 2] == b"\r\n" else sign
        if state == "quoted":
            if text[at : at + 2] == b'""':
                cell += b'"'
                at += 2
                continue
            if sign == b'"':
                state = "text"
            else:
                cell += end
                ends += end in (b"\r", b"\n", b"\r\n")
                at += len(end) - 1
        elif sign == b'"' and state == "cell start":
            state = "quoted"
        elif sign == delimiter:
            cells, cell, state = [*cells, cell], b"", "cell start"
        elif sign in (b"\r", b"\n"):
            at += len(end) - 1
            ends += 1
            records.append((start, line, [*cells, cell]))
            start, line, cells, cell, state = at + 1, ends, [], b"", "cell start"
        else:
            cell += sign
            state = "text"
        at += 1
    return records


def summary(records: Records) -> list[tuple[int, int, int]]:
    return list(zip(records.starts.tolist(), records.lines.tolist(), records.cells.tolist(), strict=True))


def expected(text: bytes) -> list[tuple[int, int, int]]:
    return [(start, line, len(cells)) for start, line, cells in machine(text)]


@given(TANGLE)
@example('"a""')
@example('a,"b"c\r\n')
@example('""""\n')
@example('"a"\r"b\r\n"\n')
@example('5" pipe,"x\n')
def test_the_scanner_agrees_with_a_machine_that_reads_one_byte_at_a_time(tangle: str) -> None:
    text = tangle.encode() + b"\n"
    assert summary(scan(text, b",", final=True)) == expected(text)


@given(st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
def test_the_fast_path_agrees_with_the_machine_on_well_formed_text(rows: list[list[str]], end: str) -> None:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    text = (end.join(quoted) + end).encode()
    records = scan(text, b",", final=True)
    assert summary(records) == expected(text)
    for at, row in enumerate(rows):
        assert split(records.text(at), b",") == row


@given(TANGLE)
def test_split_gives_the_cells_of_the_machine(tangle: str) -> None:
    text = tangle.encode() + b"\n"
    records = scan(text, b",", final=True)
    cells = [split(records.text(at), b",") for at in range(len(records))]
    assert cells == [[cell.decode() for cell in row] for _, _, row in machine(text)]


@given(TANGLE)
def test_the_parser_finds_as_many_records_as_the_scanner(tangle: str) -> None:
    text = tangle.encode() + b"\n"
    records = scan(text, b",", final=True)
    width = 2
    stops = records.ends_without_trailing_blanks(width)
    regular = (records.cells == width) | (stops != records.ends)
    kept = records.select(regular, stops)
    if not regular.any():
        assert kept == b""
        return
    table = pa.csv.read_csv(
        io.BytesIO(kept),
        pa.csv.ReadOptions(column_names=["0", "1"], block_size=len(kept) + 1),
        pa.csv.ParseOptions(newlines_in_values=True),
    )
    assert table.num_rows == np.count_nonzero(regular)


@given(TANGLE, st.integers(0, 60))
def test_a_cut_anywhere_only_delays_records(tangle: str, cut: int) -> None:
    text = tangle.encode() + b"\n"
    whole = summary(scan(text, b",", final=True))
    head = text[:cut]
    first = scan(head, b",", final=False) if head else None
    taken = 0 if first is None else len(first)
    consumed = 0 if first is None else first.consumed
    lines = 0 if first is None else first.line_ends
    rest = scan(text[consumed:], b",", final=True) if text[consumed:] else None
    later = [] if rest is None else [(at + consumed, line + lines, n) for at, line, n in summary(rest)]
    assert ([] if first is None else summary(first)) + later == whole
    assert taken + len(later) == len(whole)


def test_a_carriage_return_at_the_end_of_a_block_waits_for_a_line_feed() -> None:
    assert len(scan(b"a,b\r", b",", final=False)) == 0
    assert len(scan(b"a,b\r", b",", final=True)) == 1


def test_mixed_line_ends_are_each_one_line() -> None:
    records = scan(b"a\rb\r\nc\n\nd\n", b",", final=True)
    assert [records.text(at) for at in range(5)] == [b"a", b"b", b"c", b"", b"d"]
    assert records.lines.tolist() == [0, 1, 2, 3, 4]
    assert records.blank.tolist() == [False, False, False, True, False]


def test_line_ends_inside_a_cell_count_as_lines_but_not_as_records() -> None:
    records = scan(b'a,"x\ny\r\nz"\nb,c\n', b",", final=True)
    assert records.lines.tolist() == [0, 3]
    assert records.inner_line_ends.tolist() == [2, 0]
    assert records.line_ends == 4


def test_a_quote_in_mid_cell_is_text() -> None:
    records = scan(b'5" pipe,b\n6" pipe,d\n', b",", final=True)
    assert records.cells.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b'a\n"b', 2),
        (b'a\n"b""', 2),
        (b'a\n"b"', -1),
        (b'a\n5" b,"c', 7),
        (b'a\n5" b,"c""', 7),
        (b'a\n5" b,c', -1),
    ],
)
def test_a_quote_left_open_is_found(text: bytes, where: int) -> None:
    assert scan(text, b",", final=False).open_quote == where


def test_only_surplus_delimiters_without_text_are_cut() -> None:
    records = scan(b"a,b,,\r\na,b,,c\na,b\n,,\n", b",", final=True)
    stops = records.ends_without_trailing_blanks(2)
    assert (stops != records.ends).tolist() == [True, False, False, True]
    assert records.select(np.array([True, False, True, False]), stops) == b"a,b\r\na,b\n"


def test_a_swallowed_row_is_an_inner_line() -> None:
    record = b'a@b.c,S1,"5 inch\nc@d.e,S2,x\ne@f.g,S3,"7 inch'
    assert list(inner_lines(record, b",")) == [(0, b"c@d.e,S2,x"), (0, b'e@f.g,S3,"7 inch')]


def test_the_line_of_a_malformed_closing_quote_is_an_inner_line() -> None:
    record = b'"a@b.c","S1","5 inch\n"c@d.e","S2","x"'
    assert list(inner_lines(record, b",")) == [(0, b'"c@d.e","S2","x"')]


def test_the_line_of_a_proper_closing_quote_is_not_an_inner_line() -> None:
    record = b'"two\nlines",a@b.c,"three\nlines\n",assign'
    assert list(inner_lines(record, b",")) == [(1, b"lines")]


def test_an_open_cell_has_swallowed_whole_lines_only() -> None:
    assert list(inner_lines(b'a,"b\nc,d\ne,f', b",")) == [(0, b"c,d")]
