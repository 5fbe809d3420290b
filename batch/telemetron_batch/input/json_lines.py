"""Read JSON lines: each line is an object, each of its keys a column.

Numbers keep the digits with which they are written: no number is ever parsed. The file is read twice, because any
line may have a key that no line before it has.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions, Problem
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.dialect import MAX_COLUMNS, Dialect
from telemetron_batch.input.number_formats import CellKind
from telemetron_batch.input.text_reader import MAX_RECORD_BYTES

SUFFIXES: Final = (".jsonl", ".ndjson")
_BEGINNING: Final = re.compile(rb'\{[ \t]*["}]')
_BLANK: Final = b" \t\r\n\x1a"
_BLOCK_LINES: Final = 50_000
_BLOCK_CELLS: Final = 2_000_000
_BLOCK_BYTES: Final = 8 << 20
_MAX_SHOWN: Final = 1000
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.){1,512})"')
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class _Integer(str):
    """A whole number, as it is written."""

    __slots__ = ()


class _Float(str):
    """A number with a fraction or an exponent, as it is written."""

    __slots__ = ()


class _Object(list[tuple[str, Any]]):
    """The keys and values of an object, in their order."""

    __slots__ = ()


def _refuse_constant(name: str) -> str:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_Integer, parse_float=_Float, parse_constant=_refuse_constant
)
_encode_string: Final = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(slots=True)
class _Lines:
    """The lines of one block."""

    numbers: list[int] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    broken: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Position to text and sentence, for lines that are not one object."""
    size: int = 0
    """Bytes of all lines."""

    def add(self, number: int, line: bytes) -> None:
        self.size += len(line)
        try:
            self.records.append(_parse(line))
        except (ValueError, RecursionError) as exc:
            self.broken[len(self.numbers)] = line.decode(errors="replace").strip(), _reason(exc)
            self.records.append({})
        self.numbers.append(number)


def is_json_lines(head: bytes, name: str) -> bool:
    """Return whether a text is JSON lines, by its first bytes. Raises InputError if only its name says so."""
    begins_so = _BEGINNING.match(head.lstrip(_BLANK)) is not None
    if not begins_so and name.lower().removesuffix(".gz").endswith(SUFFIXES):
        advice = "write one object a line, or name it .csv if it is a table"
        raise InputError("is not JSON lines, whatever its name says", advice)
    return begins_so


def find_keys(chunks: Iterable[bytes]) -> tuple[str, ...]:
    """Return all keys of all objects, in the order in which they first appear."""
    keys: dict[str, None] = {}
    for _, line in _lines(chunks):
        try:
            record = _parse(line)
        except (ValueError, RecursionError):
            continue
        if record.keys() <= keys.keys():
            continue
        keys.update(dict.fromkeys(record))
        if len(keys) > MAX_COLUMNS:
            raise InputError(
                f"its objects have more than {MAX_COLUMNS} different keys",
                "give the values of the list keys of their own",
            )
    return tuple(keys)


def first_records(head: bytes, count: int) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return the keys of the first objects, and their values as texts."""
    lines = _Lines()
    for number, line in _lines([head[: head.rfind(b"\n") + 1] or head]):
        lines.add(number, line)
        if len(lines.numbers) >= count:
            break
    records = [record for record in lines.records if record]
    keys = tuple(dict.fromkeys(key for record in records for key in record))
    return keys, [[_text(record.get(key)) for key in keys] for record in records]


def read_records(
    chunks: Iterable[bytes], keys: Sequence[str], dialect: Dialect, options: InputOptions
) -> Iterator[CellBlock]:
    """Yield the lines of UTF-8 text as records; a line that is not one object is a record without cells."""
    max_lines = max(1, min(_BLOCK_LINES, _BLOCK_CELLS // max(1, len(keys))))
    block, last = _Lines(), b""
    for number, line in _lines(chunks):
        block.add(number, line)
        last = line
        if len(block.numbers) >= max_lines or block.size > _BLOCK_BYTES:
            yield _cell_block(block, keys, dialect, _last_record(last, options))
            block = _Lines()
    if block.numbers:
        yield _cell_block(block, keys, dialect, _last_record(last, options))


def _lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the text of each line that is not blank. Raises InputError for a line that is too long."""
    number, rest = 1, b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip(_BLANK):
                yield number, line
            number += 1
        if len(rest) > MAX_RECORD_BYTES:
            what = f"line {number} is longer than {MAX_RECORD_BYTES} bytes"
            raise InputError(what, "check that each line is one object")
    if rest.strip(_BLANK):
        yield number, rest


def _parse(line: bytes) -> dict[str, Any]:
    """Return the object on a line. Raises ValueError for anything else, and for an object with a key twice."""
    pairs = _DECODER.decode(line.strip(_BLANK).decode())
    if not isinstance(pairs, _Object):
        raise ValueError("not an object")
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("one of its keys comes twice")
    if _SURROGATE.search(line):
        _json_text(pairs).encode()  # raises UnicodeEncodeError, a ValueError, for half a surrogate pair
    return record


def _reason(exc: Exception) -> str:
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at character {exc.pos + 1}"
    if isinstance(exc, UnicodeError):
        return "it has half a character, such as \\ud83d alone"
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)


def _cell_block(block: _Lines, keys: Sequence[str], dialect: Dialect, last_record: tuple[str, ...]) -> CellBlock:
    columns = [pa.array(_texts(block.records, key), pa.string()) for key in keys]
    device = dialect.columns.get("deviceIdentifier")
    kinds = {} if device is None else _kinds([record.get(keys[device]) for record in block.records])
    return CellBlock(
        lines=np.array(block.numbers, np.int64),
        cells=pa.record_batch(columns, names=[str(at) for at in range(len(keys))]),
        width_errors={at: _sentence(text, why) for at, (text, why) in block.broken.items()},
        last_record=last_record,
        wrong_width_cells={at: _STRING.findall(text) or [text] for at, (text, _) in block.broken.items()},
        kinds={"deviceIdentifier": kinds} if kinds else {},
        width_problem=Problem.BROKEN_RECORD,
    )


def _texts(records: Iterable[dict[str, Any]], key: str) -> list[str]:
    values = [record.get(key) for record in records]
    return [value if type(value) is str else _text(value) for value in values]


def _kinds(values: Iterable[Any]) -> dict[int, CellKind]:
    """Return the kinds of values that are neither texts nor whole numbers, by position."""
    kinds = ((at, _kind(value)) for at, value in enumerate(values) if type(value) is not str)
    return {at: kind for at, kind in kinds if kind}


def _kind(value: Any) -> CellKind:
    match value:
        case bool():
            return CellKind.BOOLEAN
        case _Float():
            return CellKind.FLOAT
        case _Integer():
            return CellKind.NEGATIVE if value.startswith("-") else CellKind.PLAIN
        case list():
            return CellKind.NESTED
    return CellKind.PLAIN


def _text(value: Any) -> str:
    """Return a value as text: numbers as they are written, lists and objects as JSON, null as nothing."""
    if isinstance(value, str):
        return str(value)  # without the class of numbers
    return "" if value is None else _json_text(value)


def _json_text(value: Any) -> str:
    """Return a value as JSON without white space, with the digits of its numbers."""
    match value:
        case _Integer() | _Float():
            return str(value)
        case str():
            return _encode_string(value)
        case _Object():
            return "{" + ",".join(f"{_encode_string(key)}:{_json_text(one)}" for key, one in value) + "}"
        case list():
            return "[" + ",".join(map(_json_text, value)) + "]"
    return {True: "true", False: "false"}.get(value, "null")


def _sentence(text: str, why: str) -> str:
    shown = text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
    return f'not one JSON object ({why}); correct the line in the source: "{printable(shown)}"'


def _last_record(line: bytes, options: InputOptions) -> tuple[str, ...]:
    return () if options.trailer_count is None else (line.decode(errors="replace").strip(),)
