"""The delta of `--since-last`: find the rows that need not be sent, because an earlier run confirmed them.

`run.delta_history` finds the earlier runs and reads their journals.

Confirmed pairs. A pair (customer, device) is confirmed if the last of its rows that was sent
ended `assigned`, `alreadyAssigned` or `unassigned`, or was an unassign that ended `skipped`
(the customer did not have the device); or if the row was `unchanged`, which carries over. A
`duplicate` follows its original. An unanswered attempt at the opposite action makes the pair
uncertain, because the API may still carry it out. An unanswered attempt at the same action
does no harm.

Rows that are not sent. Either all rows of a device are sent or none: every valid row of the
device in this file must ask for the confirmed action of its pair (an assign also for the same
device type), and no other run may have changed the device since. So a device is sent with all
its rows, under the stages and holds of a full run, if it moves, if the file assigns it and
unassigns it again, or if an unassign from a former owner is still to be done. A device may
have several owners, each its own pair: an assign takes the device from no other customer. Rows
that are no longer in the file have no effect.
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
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.outcomes import DONE, UNSENT, Outcome
from telemetron_batch.planning.plan import Plan
from telemetron_batch.rows.rows import Rows
from telemetron_batch.storage.spill import to_batch
from telemetron_batch.storage.text_hash import encode_texts, hash_texts

_ABSENT: Final = -1
_CONFIRMED_OUTCOMES: Final = [outcome.code for outcome in DONE if outcome.facts.is_sent]
_UNSENT_OUTCOMES: Final = [outcome.code for outcome in UNSENT]


class RowDeltaState(IntEnum):
    """What a run tells later runs about a row."""

    NOT_SENT = 0
    """The run sent nothing for this row."""
    UNCERTAIN = 1
    """The run sent the row, but the state of its pair is uncertain, or a later row decided it."""
    CONFIRMED = 2
    """The run confirmed that the pair is as this row asks."""
    INHERITED = 3
    """An earlier run confirmed the pair; the row was not sent."""
    TAKEN = 4
    """As `CONFIRMED`, and this run took the device from the customer."""


@dataclass(frozen=True, slots=True)
class ConfirmedBy:
    """The run that confirmed a row, so that a later run does not send it."""

    run_id: str
    ended_at: str
    """UTC, as text."""

    @property
    def words(self) -> str:
        """The run as text, for the `detail` of such a row."""
        return f"run {self.run_id}, which ended {self.ended_at}"


@dataclass(frozen=True, slots=True)
class ConfirmedPairs:
    """The pairs that earlier runs confirmed, and the devices that may have changed since.

    pairs    one row a pair: the columns of the plan's keys, with the confirmed action
    confirmed_by   for each pair the number of the origin that confirmed it, from 1
    origins  the runs that confirmed pairs
    touched  identifiers of devices whose pairs are no longer certain
    """

    pairs: pa.RecordBatch
    confirmed_by: Ints
    origins: tuple[ConfirmedBy, ...]
    touched: pa.Array


def find_unchanged(rows: Rows, known: ConfirmedPairs) -> Ints:
    """Return for each row the number of the origin that confirmed it, or 0 for a row that is to be sent."""
    origin = np.zeros(len(rows), np.int64)
    part_of_pair = rows.keys.partition_of(hash_texts(known.pairs["customerEmail"]))
    for part, table in rows.keys.iter_parts():
        in_part = np.flatnonzero(part_of_pair == part)
        known_here = replace(known, pairs=known.pairs.take(pa.array(in_part)), confirmed_by=known.confirmed_by[in_part])
        keys = to_batch(table)
        origin[keys["row"].to_numpy()] = _confirming_origin(keys, known_here)
    # Devices are compared by hash: a collision can only send a device without need.
    is_sent = (origin == 0) & (rows.problem == 0)
    sent_devices = np.concatenate([rows.device_hash[is_sent], hash_texts(known.touched)])
    origin[np.isin(rows.device_hash, sent_devices)] = 0
    return origin


def _confirming_origin(keys: pa.RecordBatch, known: ConfirmedPairs) -> Ints:
    """Return the origin of each row that asks for the confirmed action of its pair; 0 for others."""
    pair = _known_pair_of(keys, known)
    is_confirmed = pair != _ABSENT
    asked = keys["action"].to_numpy()
    is_confirmed[is_confirmed] = known.pairs["action"].to_numpy()[pair[is_confirmed]] == asked[is_confirmed]
    is_confirmed &= (asked != Action.ASSIGN.code) | _same_type(keys, known, pair)
    return np.where(is_confirmed, np.append(known.confirmed_by, 0)[pair], 0)


def _known_pair_of(keys: pa.RecordBatch, known: ConfirmedPairs) -> Ints:
    """Return for each row the index of its pair among the known ones, or _ABSENT."""
    import pandas as pd  # slow to import, and only needed with earlier runs

    customer, known_customer = _codes(keys["customerEmail"], known.pairs["customerEmail"])
    device, known_device = _codes(keys["deviceIdentifier"], known.pairs["deviceIdentifier"])
    devices = int(device.max(initial=0)) + 1
    here = np.flatnonzero((known_customer != _ABSENT) & (known_device != _ABSENT))
    known_keys = pd.Index(known_customer[here] * devices + known_device[here])
    at = known_keys.get_indexer(customer * devices + device)  # -1 for an unknown pair
    found: Ints = np.append(here, _ABSENT)[at]
    return found


def _same_type(keys: pa.RecordBatch, known: ConfirmedPairs, pair: Ints) -> Flags:
    """Return which rows have a known pair of the same device type."""
    asked, confirmed = (_device_types(batch) for batch in (keys, known.pairs))
    found = confirmed.take(pa.array(pair, mask=pair == _ABSENT))
    same: Flags = pc.fill_null(pc.equal(found, asked), False).to_numpy(zero_copy_only=False)
    return same


def _device_types(keys: pa.RecordBatch) -> pa.Array:
    """Return the device types; "" if the batch has no such column."""
    return keys["deviceType"] if "deviceType" in keys.schema.names else pa.repeat("", keys.num_rows)


def _codes(texts: pa.Array, others: pa.Array) -> tuple[Ints, Ints]:
    """Return a code for each of `texts`, and for each of `others` its code among these, or _ABSENT."""
    codes, distinct = encode_texts(texts)
    found = pc.fill_null(pc.index_in(others, value_set=distinct), _ABSENT)
    return codes, found.to_numpy().astype(np.int64)


def row_delta_states(plan: Plan, outcome: npt.NDArray[np.int8], in_doubt: Flags) -> npt.NDArray[np.int8]:
    """Return the `RowDeltaState` of each row, for later runs.

    `outcome` and `in_doubt` are by row; `in_doubt` is whether an unanswered attempt at the row
    may have had an effect.
    """
    is_unsent = np.isin(outcome, _UNSENT_OUTCOMES)
    state = np.where(is_unsent, RowDeltaState.NOT_SENT, RowDeltaState.UNCERTAIN).astype(np.int8)
    confirmed = _confirmed_last_rows(plan, outcome, in_doubt)
    state[confirmed] = RowDeltaState.CONFIRMED
    state[confirmed & (outcome == Outcome.UNASSIGNED.code)] = RowDeltaState.TAKEN
    state[outcome == Outcome.UNCHANGED.code] = RowDeltaState.INHERITED
    return state


def _confirmed_last_rows(plan: Plan, outcome: npt.NDArray[np.int8], in_doubt: Flags) -> Flags:
    """Return which rows are the last ones sent of their pair and confirm it."""
    unassign = plan.rows.action == Action.UNASSIGN.code
    confirmed: Flags = np.isin(outcome, _CONFIRMED_OUTCOMES) | ((outcome == Outcome.SKIPPED.code) & unassign)
    confirmed[plan.superseded_rows] = False
    opposed = in_doubt[plan.superseded_rows] & (unassign[plan.superseded_rows] != unassign[plan.superseding_rows])
    confirmed[plan.superseding_rows[opposed]] = False
    return confirmed


def encode_column(column: npt.NDArray[np.integer]) -> str:
    """Return a column of small non-negative integers as a compact text."""
    small = column.astype(np.min_scalar_type(int(column.max(initial=0))))
    return f"{small.dtype.str}:{base64.b64encode(zlib.compress(small.tobytes(), 1)).decode()}"


def decode_column(text: str) -> Ints:
    """Return the column that `encode_column` encoded. Raises ValueError for any other text."""
    kind, _, body = text.partition(":")
    try:
        small = np.frombuffer(zlib.decompress(base64.b64decode(body)), dtype=np.dtype(kind))
    except (TypeError, zlib.error) as exc:
        raise ValueError(str(exc)) from exc
    column: Ints = small.astype(np.int64)
    return column
