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
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch.model import Action, Outcome
from batch.plan import Plan
from batch.rows import Rows

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_ABSENT: Final = -1
_SURE: Final = [Outcome.ASSIGNED.code, Outcome.ALREADY_ASSIGNED.code, Outcome.UNASSIGNED.code]
_NEVER_LEFT: Final = [Outcome.INVALID.code, Outcome.DUPLICATE.code, Outcome.HELD.code, Outcome.NOT_SENT.code]


class Standing(IntEnum):
    """What a run has to say of a row to the runs that come after it."""

    UNTOUCHED = 0
    """The run did nothing to its device on its behalf."""
    TOUCHED = 1
    """The run sent it; how its pair stands is not sure, or a later row decided."""
    SETTLED = 2
    """The pair is surely as this row wants it, by this run."""
    CARRIED = 3
    """The pair was so by an earlier run; not sent."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that settled a row which a later one leaves out."""

    run_id: str
    ended_at: str
    """As text, UTC."""

    @property
    def words(self) -> str:
        """For the `detail` of such a row."""
        return f"settled so by run {self.run_id}, which ended {self.ended_at}"


@dataclass(frozen=True, slots=True)
class Known:
    """What is surely so, and what others may have changed since.

    pairs    one row a pair: its customer, its device, the action that holds, its device's type
    origin   int64[pairs]  by which of the `origins` it was settled, counted from 1
    touched  texts: identifiers of devices of which nothing is sure any more
    """

    pairs: Rows
    origin: IntArray
    origins: tuple[Origin, ...]
    touched: pa.Array


def left_out(rows: Rows, known: Known) -> IntArray:
    """For each row the number of the origin that settled it, or 0 for a row that takes part in the run.

    `rows` may be a part of the input, if it holds all rows of each of its devices.
    """
    frame = rows.frame
    device, action = frame["device"].to_numpy(), frame["action"].to_numpy()
    valid = frame["problem"].to_numpy() == 0
    theirs = _codes(pa.concat_arrays([known.pairs.devices, known.touched]), rows.devices)
    its_device, touched = np.split(theirs, [len(known.pairs.devices)])
    pair = _found(rows, known, its_device)
    so = pair != _ABSENT
    so[so] = known.pairs.frame["action"].to_numpy()[pair[so]] == action[so]
    so &= (action != Action.ASSIGN.code) | (_types(rows, known)[pair] == frame["device_type"].to_numpy())
    moving = np.zeros(len(rows.devices), dtype=np.bool_)
    moving[device[valid & ~so]] = True
    moving[touched[touched != _ABSENT]] = True
    return np.where(valid & so & ~moving[device], np.append(known.origin, 0)[pair], 0)


def _found(rows: Rows, known: Known, its_device: IntArray) -> IntArray:
    """For each row the number of the known pair that it is about, or _ABSENT.

    `its_device` is our code of each device that is known of.
    """
    pairs = known.pairs.frame
    customer = _codes(known.pairs.customers, rows.customers)[pairs["customer"].to_numpy()]
    device = its_device[pairs["device"].to_numpy()]
    here = np.flatnonzero((customer != _ABSENT) & (device != _ABSENT))
    keys = customer[here] * len(rows.devices) + device[here]
    by_key = np.argsort(keys)
    keys = keys[by_key]
    wanted = rows.frame["customer"].to_numpy().astype(np.int64) * len(rows.devices)
    wanted += rows.frame["device"].to_numpy()
    at = np.searchsorted(keys, wanted)
    at[at == len(keys)] = 0
    if not len(keys):
        return np.full(len(wanted), _ABSENT, dtype=np.int64)
    return np.where(keys[at] == wanted, here[by_key[at]], _ABSENT)


def _types(rows: Rows, known: Known) -> IntArray:
    """The device type of each known pair as this input's code; one more at the end, for _ABSENT."""
    codes = _codes(known.pairs.device_types, rows.device_types)
    return np.append(codes[known.pairs.frame["device_type"].to_numpy()], _ABSENT)


def _codes(theirs: pa.Array, ours: pa.Array) -> IntArray:
    """For each of their texts our code, or _ABSENT."""
    found = pc.fill_null(pc.index_in(theirs, value_set=ours), _ABSENT)
    codes: IntArray = found.to_numpy().astype(np.int64)
    return codes


def standing(plan: Plan, outcome: npt.NDArray[np.int8], in_doubt: BoolArray) -> npt.NDArray[np.int8]:
    """What a run has to say of each row to the runs after it, as `Standing`.

    `outcome` and `in_doubt` are by row: how it ended, and whether an attempt at it may
    have acted without our hearing of it.
    """
    said = np.where(np.isin(outcome, _NEVER_LEFT), Standing.UNTOUCHED, Standing.TOUCHED).astype(np.int8)
    said[_last_sent_surely(plan, outcome, in_doubt)] = Standing.SETTLED
    said[outcome == Outcome.UNCHANGED.code] = Standing.CARRIED
    return said


def _last_sent_surely(plan: Plan, outcome: npt.NDArray[np.int8], in_doubt: BoolArray) -> IntArray:
    """The rows that were the last of their pair to be sent, and whose pair is surely so now."""
    frame = plan.rows.frame
    unassign = frame["action"].to_numpy() == Action.UNASSIGN.code
    sure = np.isin(outcome, _SURE) | ((outcome == Outcome.SKIPPED.code) & unassign)
    pair = frame["customer"].to_numpy()[plan.order].astype(np.int64) * max(1, len(plan.rows.devices))
    pair += frame["device"].to_numpy()[plan.order]
    # In a stable order of (pair, row) the rows of a pair alternate between the actions.
    by_pair = np.lexsort((plan.order, pair))
    pair, row = pair[by_pair], plan.order[by_pair]
    last = np.diff(pair, append=-1) != 0
    group = np.cumsum(last) - last
    final = unassign[row[last]][group]
    opposed = np.bincount(group, in_doubt[row] & (unassign[row] != final), minlength=int(last.sum()))
    settled: IntArray = row[last][sure[row[last]] & (opposed == 0)]
    return settled


def packed(column: npt.NDArray[np.integer]) -> str:
    """A column of small whole numbers from 0 as a short text."""
    small = column.astype(np.min_scalar_type(int(column.max(initial=0))))
    return f"{small.dtype.str}:{base64.b64encode(zlib.compress(small.tobytes(), 1)).decode()}"


def unpacked(text: str) -> IntArray:
    """The column that `packed` made the text from. Raises ValueError."""
    kind, _, body = text.partition(":")
    try:
        small = np.frombuffer(zlib.decompress(base64.b64decode(body)), dtype=np.dtype(kind))
    except (TypeError, zlib.error) as exc:
        raise ValueError(str(exc)) from exc
    column: IntArray = small.astype(np.int64)
    return column
