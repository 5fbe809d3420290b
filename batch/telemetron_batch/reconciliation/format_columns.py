"""Numbers, flags and moments as the texts that stand in the files of a run; "" for what is not known."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_FLAGS: Final = pa.array(["", "false", "true"])
_SMALL: Final = pa.array(["", *map(str, range(1000))])

Numbers = npt.NDArray[np.signedinteger[Any]]


def format_ints(numbers: Numbers, unknown: int | None = None) -> pa.Array:
    """Whole numbers, of which one may stand for what is not known."""
    mask = None if unknown is None else numbers == unknown
    return pc.fill_null(pc.cast(pa.array(numbers, mask=mask), pa.string()), "")


def format_counts(counts: Numbers) -> pa.Array:
    """Whole numbers that are small, mostly; -1: not known."""
    if counts.max(initial=0) >= len(_SMALL) - 1:
        return format_ints(counts, unknown=-1)
    return _SMALL.take(pa.array(counts + 1))


def format_bools(flags: npt.NDArray[np.int8]) -> pa.Array:
    """0: not known, 1: no, 2: yes."""
    return _FLAGS.take(pa.array(flags))


def format_timestamps(seconds: pa.Array) -> pa.Array:
    """Seconds since the epoch (null: not known) as UTC, to the millisecond."""
    millis = pc.cast(pc.round(pc.multiply(seconds, 1000.0)), pa.int64())
    # To cast is five times as fast as `strftime`, but puts a blank between day and hour and tells no zone.
    moments = pc.binary_replace_slice(pc.cast(pc.cast(millis, pa.timestamp("ms")), pa.string()), 10, 11, "T")
    return pc.fill_null(pc.binary_join_element_wise(moments, "Z", ""), "")
