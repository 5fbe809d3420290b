"""Read a whole list without sending it: its rows, what is wrong with which of them, and unknown words.

Runs in a thread. The rows stay columns; only the first faulty rows become objects.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.model import MISALIGNED, InputFile, Problem
from telemetron_batch.input.action_words import action_words
from telemetron_batch.rows.rows import InvalidRows, RowBlock
from telemetron_batch.run.prepare import load_input, size_of_input
from telemetron_batch.storage.spill import Scratch
from telemetron_batch.web.desk.mapping import FIELDS

MAX_FAULTY_ROWS: Final = 50
"""Faulty rows that are shown at once; correcting some shows the next ones."""
_MAX_WORDS: Final = 20
_MAX_CELL: Final = 300


@dataclass(frozen=True, slots=True)
class FaultyRow:
    """An invalid row, with its cells as written."""

    line: int
    problem: Problem
    detail: str
    cells: Mapping[str, str]
    """By field; of a row with a wrong number of cells, none."""
    is_correctable: bool
    """Whether single cells of the row can be corrected."""


@dataclass(frozen=True, slots=True)
class Check:
    """What reading a list has shown."""

    file: InputFile
    rows: int
    invalid: Sequence[InvalidRows]
    faulty: Sequence[FaultyRow]
    unknown_words: Mapping[str, int]
    """Unknown words for an action as written, with the number of their rows."""

    @property
    def invalid_rows(self) -> int:
        """The number of rows that would not be sent."""
        return sum(kind.rows for kind in self.invalid)

    @property
    def valid_rows(self) -> int:
        """The number of rows that can be sent."""
        return self.rows - self.invalid_rows


class _Findings:
    """A sink that keeps the first faulty rows of blocks, and counts action words."""

    def __init__(self) -> None:
        self.words: Counter[str] = Counter()
        self.faulty: list[tuple[pa.RecordBatch, pa.RecordBatch]] = []

    def append(self, block: RowBlock) -> None:
        for one in block.keys["actionWord"].value_counts().to_pylist():
            if one["values"]:
                self.words[one["values"]] += one["counts"]
        room = MAX_FAULTY_ROWS - sum(keys.num_rows for keys, _ in self.faulty)
        rows = np.flatnonzero(block.keys["problem"].to_numpy())[:room]
        if len(rows):
            taken = pa.array(rows)
            self.faulty.append((block.keys.take(taken), block.cells.take(taken)))

    def clear(self) -> None:
        self.words.clear()
        self.faulty.clear()


def check(config: RunConfig, place: Path) -> Check:
    """Read the list of a configuration; `place` is a folder for large intermediate results. Raises BatchError."""
    findings = _Findings()
    with (
        tempfile.TemporaryDirectory(dir=place, prefix="check-") as folder,
        Scratch(Path(folder) / "scratch") as scratch,
    ):
        loaded = load_input(config, size_of_input(config), Path(folder), scratch, findings)
        [file] = loaded.files
        rows, invalid = len(loaded.rows), tuple(loaded.rows.invalid)
    known = action_words(config.input)
    unknown = {word: count for word, count in findings.words.most_common() if word.lower() not in known}
    return Check(
        file=file,
        rows=rows,
        invalid=invalid,
        faulty=[row for keys, cells in findings.faulty for row in _faulty_rows(file, keys, cells)],
        unknown_words=dict([*unknown.items()][:_MAX_WORDS]),
    )


def _faulty_rows(file: InputFile, keys: pa.RecordBatch, cells: pa.RecordBatch) -> list[FaultyRow]:
    columns = {name: file.header.index(file.columns[name]) for name in FIELDS if name in file.columns}
    texts = {name: cells.column(at).to_pylist() for name, at in columns.items()}
    found = []
    for at, key in enumerate(keys.select(["line", "problem", "detail", "piece"]).to_pylist()):
        problem = Problem(key["problem"])
        is_shifted = problem in MISALIGNED
        of_row = {} if is_shifted else {name: column[at][:_MAX_CELL] for name, column in texts.items()}
        found.append(FaultyRow(key["line"], problem, key["detail"], of_row, not is_shifted and key["piece"] == 0))
    return found
