"""Rewrite texts wherever they are stored: in columns, nested columns and JSON."""

import json
from typing import Any, Protocol

import pyarrow as pa


class TextRewriter(Protocol):
    """Replaces parts of texts, such as the address of a person."""

    def text(self, text: str) -> str:
        """Return a text with the parts replaced; the same object if it has none."""

    def column(self, texts: pa.Array) -> pa.Array:
        """Return a column of texts with the parts replaced; the same object if it has none."""


def rewrite_batch(batch: pa.RecordBatch, rewriter: TextRewriter) -> pa.RecordBatch:
    """Return a batch with its texts rewritten; the same object if nothing changes."""
    before = batch.columns
    columns = [rewrite_array(column, rewriter) for column in before]
    if all(new is old for new, old in zip(columns, before, strict=True)):
        return batch
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def rewrite_array(column: pa.Array, rewriter: TextRewriter) -> pa.Array:
    """Return a column with its texts rewritten, also those in lists; the same object if nothing changes."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return rewriter.column(column)
    if not pa.types.is_list(column.type):
        return column
    values = column.flatten()
    rewritten = rewrite_array(values, rewriter)
    if rewritten is values:
        return column
    lengths = column.value_lengths().fill_null(0)
    offsets = pa.array([0, *lengths.to_numpy().cumsum().tolist()], pa.int32())
    return pa.ListArray.from_arrays(offsets, rewritten, type=column.type, mask=column.is_null())


def rewrite_json(text: str, rewriter: TextRewriter) -> str:
    """Return a JSON text with all its texts rewritten; the same object if nothing changes."""
    value = json.loads(text)
    rewritten = _rewrite_value(value, rewriter)
    return text if rewritten == value else json.dumps(rewritten)


def _rewrite_value(value: Any, rewriter: TextRewriter) -> Any:
    if isinstance(value, str):
        return rewriter.text(value)
    if isinstance(value, list):
        return [_rewrite_value(one, rewriter) for one in value]
    if isinstance(value, dict):
        return {rewriter.text(name): _rewrite_value(one, rewriter) for name, one in value.items()}
    return value
