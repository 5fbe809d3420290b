"""What the rows of a file say about customers whose devices must not be removed. Takes the blocks of the loader."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.arrays import Flags
from telemetron_batch.domain.model import Problem
from telemetron_batch.input.doubtful_identifiers import are_doubtful
from telemetron_batch.input.emails import are_emails
from telemetron_batch.rows.rows import RowBlock

_FIRST_LINES: Final = 5
_MISREAD: Final = (Problem.ENCODING, Problem.DECODED_TWICE)
"""Problems with which an address in other letters than ASCII may be another one."""


class FirstLines:
    """The number of some rows, and the lines of the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[int] = []

    def add(self, keys: pa.RecordBatch, chosen: Flags) -> None:
        """Count the chosen rows."""
        rows = np.flatnonzero(chosen)
        self.count += len(rows)
        self.lines += keys["line"].to_numpy()[rows[: _FIRST_LINES - len(self.lines)]].tolist()


class FleetRows:
    """Unassign rows, rows whose customer cannot be read, and customers with rows that are invalid or doubtful."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all blocks, because the file is read again."""
        self.unassigns = FirstLines()
        self.unreadable = FirstLines()
        self.invalid = 0
        self._kept: list[pa.Array] = [pa.array([], pa.string())]

    def append(self, block: RowBlock) -> None:
        """Take the rows of a block."""
        keys = block.keys
        problem, emails = keys["problem"].to_numpy(), keys["customerEmail"]
        self.unassigns.add(keys, keys["action"].to_numpy() == Action.UNASSIGN.code)
        is_kept = (problem == 0) & are_doubtful(keys["deviceIdentifier"])
        if problem.any():
            invalid = (problem != 0) & (problem != Problem.TRAILER)
            is_readable = are_emails(emails) & ~(np.isin(problem, _MISREAD) & ~_is_ascii(emails))
            self.invalid += int(np.count_nonzero(invalid))
            self.unreadable.add(keys, invalid & ~is_readable)
            is_kept |= invalid & is_readable
        if is_kept.any():
            self._kept.append(emails.filter(pa.array(is_kept)).unique())

    def keep(self, customers: pa.Array) -> None:
        """Take further customers for such."""
        self._kept.append(customers)

    def customers_to_keep(self) -> pa.Array:
        """Return the customers that have rows that are invalid or doubtful."""
        return pa.concat_arrays(self._kept).unique()


def _is_ascii(texts: pa.Array) -> Flags:
    flags: Flags = pc.string_is_ascii(texts).to_numpy(zero_copy_only=False)
    return flags
