"""Answers as columns: one entry for each answer, and one device id for each row.

No answer is kept as a Python object, and large texts go to temporary files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.answers import ANSWER_FIELDS, FieldKind
from telemetron_batch.journal.codec import ARROW_TYPES
from telemetron_batch.reconciliation.format_columns import format_bools, format_counts, format_timestamps

_TYPES: Final = {**ARROW_TYPES, FieldKind.TEXT: pa.large_string()}
_SCHEMA: Final = pa.schema([(field.name, _TYPES[field.kind]) for field in ANSWER_FIELDS])
"""Null means unknown."""

Entry = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTable:
    """The request-level fields of answers, one entry for each answer; entry 0 stands for "no answer"."""

    counts: Mapping[str, npt.NDArray[np.int32]]
    """By column name; -1 means unknown."""
    tristates: Mapping[str, npt.NDArray[np.int8]]
    """By column name; 0 unknown, 1 no, 2 yes."""
    formatted: Mapping[str, pa.Array]
    """Texts and times as texts, by column name."""

    def texts(self, entry: Entry) -> dict[str, pa.Array]:
        """Return one text for each of the given entries, by column name."""
        index = pa.array(entry)
        return {
            **{name: format_counts(counts[entry]) for name, counts in self.counts.items()},
            **{name: format_bools(tristates[entry]) for name, tristates in self.tristates.items()},
            **{name: pc.cast(texts.take(index), pa.string()) for name, texts in self.formatted.items()},
        }


class AnswerTableBuilder:
    """Collects the entries of an `AnswerTable`."""

    def __init__(self) -> None:
        self._tables = [pa.Table.from_pylist([{}], _SCHEMA)]
        self._size = 1

    def add(self, answers: pa.Table) -> Entry:
        """Append an entry for each answer and return the positions of the new entries."""
        first = self._size
        self._tables.append(answers.select(_SCHEMA.names).cast(_SCHEMA))
        self._size += answers.num_rows
        return np.arange(first, self._size, dtype=np.int32)

    def add_unsettled(self, attempts: int, *, unclear: int) -> int:
        """Append an entry for a call without a result; return its position. `unclear` attempts may have acted."""
        counts = {"attempts": attempts, "unclearAttempts": unclear}
        return int(self.add(pa.Table.from_pylist([counts], _SCHEMA))[0])

    def entries(self) -> AnswerTable:
        """Return all entries."""
        table = pa.concat_tables(self._tables).combine_chunks().to_batches()[0]
        return AnswerTable(
            counts={name: pc.fill_null(table[name], -1).to_numpy() for name in _names(FieldKind.COUNT)},
            tristates={name: _flags(table[name]) for name in _names(FieldKind.FLAG)},
            formatted={name: pc.fill_null(table[name], "") for name in _names(FieldKind.TEXT)}
            | {name: format_timestamps(table[name]) for name in _names(FieldKind.TIME)},
        )


def _names(kind: FieldKind) -> list[str]:
    return [field.name for field in ANSWER_FIELDS if field.kind is kind]


def _flags(column: pa.Array) -> npt.NDArray[np.int8]:
    """Return booleans as 0 unknown, 1 no, 2 yes."""
    numbers = pc.add(pc.cast(column, pa.int8()), pa.scalar(1, pa.int8()))
    tristates: npt.NDArray[np.int8] = pc.fill_null(numbers, 0).to_numpy()
    return tristates
