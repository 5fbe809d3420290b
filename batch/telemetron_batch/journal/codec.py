"""Encode and decode the blobs of the journal: input blocks, positions, devices and answers."""

import json
import os
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import json as pa_json

from telemetron_batch.domain.answers import ANSWER_FIELDS, Answer, AnswerField, FieldKind, Results
from telemetron_batch.domain.errors import JournalError

Positions = tuple[int, ...]
"""Positions of some devices of a call, from 0."""


class _Column(NamedTuple):
    """A column of the results of a stored answer."""

    name: str
    """The name in the JSON. Stored, so it never changes."""
    attribute: str
    kind: pa.DataType


_COLUMNS: Final = (
    _Column("positions", "positions", pa.list_(pa.int32())),
    _Column("outcomes", "codes", pa.list_(pa.int8())),
    _Column("deviceIds", "device_ids", pa.list_(pa.string())),
    _Column("created", "created", pa.list_(pa.bool_())),
    _Column("reasons", "reasons", pa.list_(pa.int16())),
    _Column("texts", "texts", pa.list_(pa.string())),
    _Column("unheard", "open_question", pa.list_(pa.int8())),
)
"""The fields of `Results`. A field that an older journal does not have takes the default of the class."""
ARROW_TYPES: Final = {
    FieldKind.TEXT: pa.string(),
    FieldKind.FLAG: pa.bool_(),
    FieldKind.COUNT: pa.int32(),
    FieldKind.TIME: pa.float64(),
}
_ANSWER_SCHEMA: Final = pa.schema(
    [(field.name, field.kind) for field in _COLUMNS]
    + [(field.name, ARROW_TYPES[field.kind]) for field in ANSWER_FIELDS]
)


def encode_batch(batch: pa.RecordBatch) -> bytes:
    """Return a batch as a compressed Arrow stream; lz4, because it decompresses fast."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def decode_batch(blob: bytes, columns: Sequence[int] | None = None) -> pa.RecordBatch:
    """Return the encoded batch; with `columns`, only the columns at these positions."""
    if columns is not None and not columns:
        return pa.record_batch([], pa.schema([]))
    # An empty list of fields means all. One thread: waking more costs more than they save.
    options = pa.ipc.IpcReadOptions(included_fields=list(columns or ()), use_threads=False)
    with pa.ipc.open_stream(blob, options=options) as stream:
        batch = stream.read_next_batch()
    require_sound(batch)
    return batch


def require_sound(batch: pa.RecordBatch) -> None:
    """Raise ValueError if an offset of a batch points outside its buffers.

    Arrow trusts the offsets that it reads, so a wrong one would read memory outside the batch. The full
    validation of Arrow also decodes all texts, which takes as long as decompressing them.
    """
    batch.validate()
    for column in batch.columns:
        _require_sound_column(column)


def _require_sound_column(column: pa.Array) -> None:
    kind = column.type
    if pa.types.is_primitive(kind) or not len(column):
        return
    if pa.types.is_string(kind):
        content = column.buffers()[2]
        _require_rising_offsets(column, 0 if content is None else content.size)
    elif pa.types.is_list(kind):
        _require_rising_offsets(column, len(column.values))
        _require_sound_column(column.values)
    else:
        column.validate(full=True)


def _require_rising_offsets(column: pa.Array, size: int) -> None:
    bounds = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)
    if bounds[0] < 0 or bounds[-1] > size or (bounds[1:] < bounds[:-1]).any():
        raise ValueError("a column has an offset outside its data")


def read_table(path: Path) -> pa.Table:
    """Return the memory-mapped table in a file. Raises FileNotFoundError, and JournalError if it is damaged."""
    try:
        table = pa.ipc.open_file(pa.memory_map(os.fsencode(path))).read_all()
        for batch in table.to_batches():
            require_sound(batch)
    except ValueError as exc:
        raise JournalError(f"{path} is damaged ({exc})", "plan the run again under another id") from exc
    return table


def encode_positions(positions: Positions | None) -> bytes | None:
    """Encode positions of devices; None means all devices of the call."""
    return None if positions is None else json.dumps(positions).encode()


def decode_positions(blob: bytes | None) -> Positions | None:
    """Decode positions of devices; None means all devices of the call."""
    return None if blob is None else tuple(json.loads(blob))


def encode_devices(devices: Collection[str]) -> bytes:
    """Encode device identifiers."""
    return zlib.compress(json.dumps(sorted(devices)).encode(), 1)


def decode_devices(blob: bytes) -> frozenset[str]:
    """Decode device identifiers."""
    return frozenset(json.loads(zlib.decompress(blob)))


def compress_answer(text: bytes) -> bytes:
    """Compress the JSON of an answer."""
    return zlib.compress(text, 1)


def answer_json(answer: Answer) -> bytes:
    """Return an answer as JSON. Results are columns, because records compress to twice the size."""
    results = Results.of(answer.results)
    fields = {field.name: getattr(results, field.attribute) for field in _COLUMNS}
    fields |= {field.name: getattr(answer, field.attribute) for field in ANSWER_FIELDS}
    return msgspec.json.encode(fields, enc_hook=list)  # positions may be a range


def decode_answer(blob: bytes) -> Answer:
    """Decode an answer."""
    fields = msgspec.json.decode(zlib.decompress(blob))
    return Answer(results=Results(**_attributes(fields, _COLUMNS)), **_attributes(fields, ANSWER_FIELDS))


def _attributes(fields: Mapping[str, Any], known: Iterable[_Column | AnswerField]) -> dict[str, Any]:
    return {field.attribute: fields[field.name] for field in known if field.name in fields}


def decode_answers(texts: Sequence[bytes]) -> pa.Table:
    """Return a table with one record per answer, in the columns of `_ANSWER_SCHEMA`; missing fields are null.

    `texts` are results of `answer_json`.
    """
    text = b"\n".join(texts)
    read_options = pa_json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    parse_options = pa_json.ParseOptions(explicit_schema=_ANSWER_SCHEMA, unexpected_field_behavior="ignore")
    return pa_json.read_json(pa.BufferReader(text), read_options=read_options, parse_options=parse_options)
