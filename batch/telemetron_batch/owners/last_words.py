"""From what earlier runs did with devices to claims about their owners.

Each row of a run that was sent, or may be sent, has an `OwnerWord`. Within a run the last word on a pair counts, in
the order of the rows. Of several runs that counts which ended last. An earlier run is superseded only if it had
ended before that run began; if it says the opposite and may have acted later, the pair is unclear.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.rows.owner_claims import CLAIM_SCHEMA, ClaimKind
from telemetron_batch.storage.text_hash import encode_texts


class OwnerWord(IntEnum):
    """What a row of a run tells about its customer and device. The values are stored."""

    NOTHING = 0
    """The row was not sent, was refused, or changed nothing that matters."""
    GIVEN = 1
    """The customer surely has the device."""
    TAKEN = 2
    """The customer surely does not have it."""
    MAY_BE_GIVEN = 3
    """An assign may have been carried out."""
    MAY_BE_TAKEN = 4
    """An unassign may have been carried out."""
    TO_BE_GIVEN = 5
    """An assign was not sent; the run that has not finished may still send it."""
    TO_BE_TAKEN = 6
    """An unassign was not sent; the run that has not finished may still send it."""


_GIVING: Final = (OwnerWord.GIVEN, OwnerWord.MAY_BE_GIVEN, OwnerWord.TO_BE_GIVEN)
_SURE: Final = (OwnerWord.GIVEN, OwnerWord.TAKEN)
_UNANSWERED: Final = (OwnerWord.MAY_BE_GIVEN, OwnerWord.MAY_BE_TAKEN)
_PENDING: Final = (OwnerWord.TO_BE_GIVEN, OwnerWord.TO_BE_TAKEN)
_CONFLICT: Final = len(OwnerWord)
_DETAILS: Final = pa.array(
    ["", "", "", "assign unconfirmed", "unassign unconfirmed", "assign not sent yet", "unassign not sent yet",
     "another run at the same time did the opposite"]
)  # fmt: skip
"""By word, then for a conflict."""

WORD_SCHEMA: Final = pa.schema(
    [
        pa.field("customerEmail", pa.string(), nullable=False),
        pa.field("deviceIdentifier", pa.string(), nullable=False),
        pa.field("word", pa.int8(), nullable=False),
        pa.field("run", pa.int64(), nullable=False),
    ]
)
"""One record for each row of a run that tells something, in the order of the rows."""


@dataclass(frozen=True, slots=True)
class RunTime:
    """When a run sent its calls, in seconds since the epoch."""

    began_at: float
    ended_at: float
    """Of a run that is active: infinity for its pending rows."""
    late_effect_s: float = 0.0
    """How long after its end an unanswered attempt may still be carried out."""
    is_active: bool = False
    """Whether a process may work on it now."""


def claims_of_words(words: pa.RecordBatch, times: Sequence[RunTime]) -> pa.RecordBatch:
    """Return one claim for each pair of customer and device; `times` are those of the runs, by number."""
    customer, customers = encode_texts(words["customerEmail"])
    device, _ = encode_texts(words["deviceIdentifier"])
    pair = customer + device * (len(customers) + 1)
    last = _last_of_each_run(pair, words["run"].to_numpy())
    pair, run, word = pair[last], words["run"].to_numpy()[last], words["word"].to_numpy()[last]
    began, ended, quiet = _times(word, run, times)
    order = np.lexsort((run, began, ended, pair))
    decides = order[np.append(pair[order][1:] != pair[order][:-1], True)[: len(order)]]
    found = word[decides]
    is_conflict = _conflicts(pair, word, quiet, began, decides) & np.isin(found, _SURE)
    kind = np.full(len(decides), ClaimKind.UNCLEAR, np.int8)
    kind[found == OwnerWord.GIVEN] = ClaimKind.OWNS
    kind[found == OwnerWord.TAKEN] = ClaimKind.TAKEN
    kind[is_conflict] = ClaimKind.UNCLEAR
    at = pa.array(last[decides])
    columns = [
        words["customerEmail"].take(at),
        words["deviceIdentifier"].take(at),
        pa.array(kind),
        pa.array(run[decides]),
        _DETAILS.take(pa.array(np.where(is_conflict, _CONFLICT, found))),
    ]
    return pa.record_batch(columns, schema=CLAIM_SCHEMA)


def _last_of_each_run(pair: Ints, run: Ints) -> Ints:
    """Return the positions of the last word of each run on each pair."""
    order = np.lexsort((np.arange(len(pair)), run, pair))
    ends = np.append((pair[order][1:] != pair[order][:-1]) | (run[order][1:] != run[order][:-1]), True)[: len(order)]
    last: Ints = order[ends]
    return last


def _times(
    word: npt.NDArray[np.int8], run: Ints, times: Sequence[RunTime]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return for each word when its run began, when it ended, and when the word can have no effect any more."""
    began, end, late = (
        np.array([getattr(time, name) for time in times], np.float64)[run]
        for name in ("began_at", "ended_at", "late_effect_s")
    )
    is_active = np.array([time.is_active for time in times], np.bool_)[run]
    is_open = is_active & np.isin(word, [*_PENDING, *_UNANSWERED])
    ended = np.where(is_open, np.inf, end)
    return began, ended, np.where(np.isin(word, _UNANSWERED), ended + late, ended)


def _conflicts(
    pair: Ints,
    word: npt.NDArray[np.int8],
    quiet: npt.NDArray[np.float64],
    began: npt.NDArray[np.float64],
    decides: Ints,
) -> Flags:
    """Return for each deciding word whether an opposite word of its pair may have had its effect later."""
    gives = np.isin(word, _GIVING)
    # `decides` is sorted by pair.
    deciding = decides[np.searchsorted(pair[decides], pair)]
    opposed = (gives != gives[deciding]) & (quiet > began[deciding])
    conflicts: Flags = np.isin(pair[decides], pair[opposed])
    return conflicts
