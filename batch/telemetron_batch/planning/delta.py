"""The nightly delta: which rows need not be sent, because an earlier run settled surely what they ask for.

Only integer columns; which runs count as earlier ones, and what is in their journals,
is `past.py`'s to know.

What a run settled surely. A pair (customer, device) is as the last of its rows that was
sent wanted it, when that row ended `assigned`, `alreadyAssigned`, `unassigned`, or as an
unassign that was `skipped` (it was not this customer's, and so it should be); or when the
row was `unchanged`, which carries over. A `duplicate` follows its original. An attempt
that nobody heard of again makes a pair unsure if it asked for the opposite, for it may be
carried out late; the same asked for twice does no harm, however late it comes.

What may be left out. All of a device or nothing: every valid row of the device in this
file must ask for what is surely so of its pair (and an assign for the same type of
device), and no other run may have touched the device since. So a device that moves, one
that is given and taken back in one file, and one whose unassign from a former owner is
still to be done, are sent with all their rows, in the stages and under the holds of a full
run. A device may have several owners, whose pairs are known apart: an assign takes nothing
from anyone. Rows that are gone from the file mean nothing.
"""

import base64
import zlib
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.planning.plan import Plan
from telemetron_batch.rows.rows import Rows
from telemetron_batch.storage.spill import to_batch
from telemetron_batch.storage.text_hash import hash_texts

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_ABSENT: Final = -1
_CONFIRMED_OUTCOMES: Final = [Outcome.ASSIGNED.code, Outcome.ALREADY_ASSIGNED.code, Outcome.UNASSIGNED.code]
_UNSENT_OUTCOMES: Final = [Outcome.INVALID.code, Outcome.DUPLICATE.code, Outcome.HELD.code, Outcome.NOT_SENT.code]


class RowDeltaState(IntEnum):
    """What a run has to say of a row to the runs that come after it."""

    NOT_SENT = 0
    """The run did nothing to its device on its behalf."""
    UNCERTAIN = 1
    """The run sent it; how its pair stands is not sure, or a later row decided."""
    CONFIRMED = 2
    """The pair is surely as this row wants it, by this run."""
    INHERITED = 3
    """The pair was so by an earlier run; not sent."""
    TAKEN = 4
    """As `SETTLED`, and it was this run that took the device from the customer."""


@dataclass(frozen=True, slots=True)
class ConfirmedBy:
    """The run that settled a row which a later one leaves out."""

    run_id: str
    ended_at: str
    """As text, UTC."""

    @property
    def words(self) -> str:
        """For the `detail` of such a row."""
        return f"run {self.run_id}, which ended {self.ended_at}"


@dataclass(frozen=True, slots=True)
class ConfirmedPairs:
    """What is surely so, and what others may have changed since.

    pairs    one row a pair: the columns of `VALID`, with the action that holds
    origin   int64[pairs]  by which of the `origins` it was settled, counted from 1
    touched  texts: identifiers of devices of which nothing is sure any more
    """

    pairs: pa.RecordBatch
    origin: IntArray
    origins: tuple[ConfirmedBy, ...]
    touched: pa.Array


def find_unchanged(rows: Rows, known: ConfirmedPairs) -> IntArray:
    """For each row the number of the origin that settled it, or 0 for a row that takes part in the run."""
    numbers = np.zeros(len(rows), np.int64)
    pairs = rows.keys.partition_of(hash_texts(known.pairs["customerEmail"]))
    for part, table in rows.keys.iter_parts():
        those = np.flatnonzero(pairs == part)
        some = replace(known, pairs=known.pairs.take(pa.array(those)), origin=known.origin[those])
        keys = to_batch(table)
        numbers[keys["row"].to_numpy()] = _settled(keys, some)
    # Devices go by their hashes: should two have the same, both are sent where one would do.
    takes_part = (numbers == 0) & (rows.problem == 0)
    moving = np.concatenate([rows.device[takes_part], hash_texts(known.touched)])
    numbers[np.isin(rows.device, moving)] = 0
    return numbers


def _settled(keys: pa.RecordBatch, known: ConfirmedPairs) -> IntArray:
    """The origin of each valid row that asks for what is surely so of its pair; 0 for others."""
    pair = _found(keys, known)
    so = pair != _ABSENT
    so[so] = known.pairs["action"].to_numpy()[pair[so]] == keys["action"].to_numpy()[so]
    so &= (keys["action"].to_numpy() != Action.ASSIGN.code) | _same_type(keys, known, pair)
    return np.where(so, np.append(known.origin, 0)[pair], 0)


def _found(keys: pa.RecordBatch, known: ConfirmedPairs) -> IntArray:
    """For each row the number of the known pair that it is about, or _ABSENT."""
    customer, their_customer = _codes(keys["customerEmail"], known.pairs["customerEmail"])
    device, their_device = _codes(keys["deviceIdentifier"], known.pairs["deviceIdentifier"])
    devices = int(device.max(initial=0)) + 1
    here = np.flatnonzero((their_customer != _ABSENT) & (their_device != _ABSENT))
    if not len(here):
        return np.full(len(customer), _ABSENT, dtype=np.int64)
    known_keys = their_customer[here] * devices + their_device[here]
    by_key = np.argsort(known_keys)
    known_keys = known_keys[by_key]
    wanted = customer * devices + device
    at = np.searchsorted(known_keys, wanted)
    at[at == len(known_keys)] = 0
    return np.where(known_keys[at] == wanted, here[by_key[at]], _ABSENT)


def _same_type(keys: pa.RecordBatch, known: ConfirmedPairs, pair: IntArray) -> BoolArray:
    """Which rows say the device type of their known pair? Rows without a pair do not."""
    said, theirs = (_types(batch) for batch in (keys, known.pairs))
    found = theirs.take(pa.array(pair, mask=pair == _ABSENT))
    same: BoolArray = pc.fill_null(pc.equal(found, said), False).to_numpy(zero_copy_only=False)
    return same


def _types(keys: pa.RecordBatch) -> pa.Array:
    """Device types; "" where none were read."""
    return keys["deviceType"] if "deviceType" in keys.schema.names else pa.repeat("", keys.num_rows)


def _codes(ours: pa.Array, theirs: pa.Array) -> tuple[IntArray, IntArray]:
    """Codes of our texts; and for each of theirs the code that it has among ours, or _ABSENT."""
    encoded = ours.dictionary_encode()
    found = pc.fill_null(pc.index_in(theirs, value_set=encoded.dictionary), _ABSENT)
    return encoded.indices.to_numpy().astype(np.int64), found.to_numpy().astype(np.int64)


def standing(plan: Plan, outcome: npt.NDArray[np.int8], in_doubt: BoolArray) -> npt.NDArray[np.int8]:
    """What a run has to say of each row to the runs after it, as `RowDeltaState`.

    `outcome` and `in_doubt` are by row: how it ended, and whether an attempt at it may
    have acted without our hearing of it.
    """
    said = np.where(np.isin(outcome, _UNSENT_OUTCOMES), RowDeltaState.NOT_SENT, RowDeltaState.UNCERTAIN).astype(np.int8)
    surely = _confirmed_last_rows(plan, outcome, in_doubt)
    said[surely] = RowDeltaState.CONFIRMED
    said[surely & (outcome == Outcome.UNASSIGNED.code)] = RowDeltaState.TAKEN
    said[outcome == Outcome.UNCHANGED.code] = RowDeltaState.INHERITED
    return said


def _confirmed_last_rows(plan: Plan, outcome: npt.NDArray[np.int8], in_doubt: BoolArray) -> BoolArray:
    """Which rows were the last of their pair to be sent, and have a pair that is surely so now?"""
    unassign = plan.rows.action == Action.UNASSIGN.code
    surely: BoolArray = np.isin(outcome, _CONFIRMED_OUTCOMES) | ((outcome == Outcome.SKIPPED.code) & unassign)
    surely[plan.superseded_rows] = False
    opposed = in_doubt[plan.superseded_rows] & (unassign[plan.superseded_rows] != unassign[plan.superseding_rows])
    surely[plan.superseding_rows[opposed]] = False
    return surely


def encode_column(column: npt.NDArray[np.integer]) -> str:
    """A column of small whole numbers from 0 as a short text."""
    small = column.astype(np.min_scalar_type(int(column.max(initial=0))))
    return f"{small.dtype.str}:{base64.b64encode(zlib.compress(small.tobytes(), 1)).decode()}"


def decode_column(text: str) -> IntArray:
    """The column that `encode_column` made the text from. Raises ValueError."""
    kind, _, body = text.partition(":")
    try:
        small = np.frombuffer(zlib.decompress(base64.b64decode(body)), dtype=np.dtype(kind))
    except (TypeError, zlib.error) as exc:
        raise ValueError(str(exc)) from exc
    column: IntArray = small.astype(np.int64)
    return column
