"""The fingerprint of a plan, over everything that decides which request is sent for which row.

It can be made from the draft of a journal and again from the journal, so a journal that was changed in between is
noticed.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from telemetron_batch.journal.facts import Fact
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.run_order import KeyBatches

_COLUMNS: Final = ("line", "customerEmail", "deviceIdentifier", "action", "deviceType", "problem")


def plan_fingerprint(plan: Plan, fact: Callable[[str], Any], keys: KeyBatches) -> str:
    """Return the SHA-256 of the input's hash, the options that decide what is sent, the rows and their calls.

    `fact` returns a fact of the journal by its name, and `keys` are the key columns of the whole input. The result does
    not depend on how the rows are divided into blocks.
    """
    facts = {
        "inputs": [file["sha256"] for file in fact(Fact.INPUTS)],
        "options": fact(Fact.FIXED_OPTIONS),
        "calls": plan.fingerprint(),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    files, columns = _ColumnDigest(), {name: _ColumnDigest() for name in _COLUMNS}
    for file, batch in keys:
        files.add(pa.array(np.full(batch.num_rows, file)))
        for name, column in columns.items():
            column.add(batch[name])
    for column in (files, *columns.values()):
        digest.update(column.digest())
    return digest.hexdigest()


class _ColumnDigest:
    """The SHA-256 of a column that comes in pieces."""

    def __init__(self) -> None:
        self._lengths, self._content = hashlib.sha256(), hashlib.sha256()

    def add(self, piece: pa.Array) -> None:
        """Append a piece of a column without nulls."""
        if not pa.types.is_string(piece.type):
            self._content.update(piece.to_numpy().astype("<i8").data)
        elif len(piece):
            _, offsets, content = piece.buffers()
            bounds = np.frombuffer(offsets, "<i4")[piece.offset : piece.offset + len(piece) + 1]
            self._lengths.update(np.diff(bounds).data)
            if content is not None:
                self._content.update(memoryview(content)[bounds[0] : bounds[-1]])

    def digest(self) -> bytes:
        """Return the digest so far."""
        return self._lengths.digest() + self._content.digest()
