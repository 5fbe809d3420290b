"""What the simulations are made of: rows straight into columns, and how long an answer takes."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.rows.rows import KEY_SCHEMA, Rows, RowsBuilder
from telemetron_batch.storage.spill import Scratch

CHUNK = 1_000_000
MOVES_EVERY = 20
"""One row in so many gives a device to another customer; the row half as many before takes it from the first."""

Floats = npt.NDArray[np.float64]


def zipf_rows(
    rows: int, *, customers: int, skew: float, seed: int, moving: bool = False, scratch: Scratch | None = None
) -> Rows:
    """Rows that assign: the customer of rank r has a share of them in proportion to r ** -skew."""
    builder = RowsBuilder(scratch, with_device_types=False)
    for keys in _keys(rows, np.cumsum(np.arange(1, customers + 1.0) ** -skew), seed, moving=moving):
        builder.add(0, keys)
    return builder.rows()


def answer_seconds(calls: int, seed: int) -> Floats:
    """By call, how long its answer takes: log-normal about 120 ms, so that one in forty takes 320 ms and more."""
    return np.random.default_rng(seed).lognormal(np.log(0.12), 0.5, calls)


def _keys(rows: int, shares: Floats, seed: int, *, moving: bool) -> Iterator[pa.RecordBatch]:
    numbers = np.random.default_rng(seed)
    for first in range(0, rows, CHUNK):
        row = np.arange(first, min(first + CHUNK, rows))
        customer = np.searchsorted(shares, numbers.random(len(row)) * shares[-1])
        device, action = row.copy(), np.full(len(row), Action.ASSIGN.code, np.int8)
        if moving:
            device[row % MOVES_EVERY == MOVES_EVERY - 1] -= MOVES_EVERY // 2
            action[row % MOVES_EVERY == MOVES_EVERY // 2 - 1] = Action.UNASSIGN.code
        yield _batch(row, (customer, device), action)


def _batch(
    row: npt.NDArray[np.int64], keys: tuple[npt.NDArray[np.int64], ...], action: npt.NDArray[np.int8]
) -> pa.RecordBatch:
    nothing, no_problem = pa.array([""]).take(pa.array(np.zeros(len(row), np.int8))), np.zeros(len(row), np.int8)
    customer, device = (pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), 9, "0") for numbers in keys)
    columns = {
        "line": row + 2,
        "customerEmail": pc.binary_join_element_wise("user", customer, "@example.com", ""),
        "deviceIdentifier": pc.binary_join_element_wise("SN-", device, ""),
        "action": action,
        "actionWord": nothing,
        "deviceType": nothing,
        "problem": no_problem,
        "detail": nothing,
        "possibleIdentifiers": pa.nulls(len(row), KEY_SCHEMA.field("possibleIdentifiers").type),
    }
    return pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in KEY_SCHEMA.names], schema=KEY_SCHEMA)
