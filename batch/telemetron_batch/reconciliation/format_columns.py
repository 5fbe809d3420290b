"""Format numbers, booleans and times as the texts of a run's files; unknown values become ""."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_FLAGS: Final = pa.array(["", "false", "true"])
_SMALL: Final = pa.array(["", *map(str, range(1000))])

Numbers = npt.NDArray[np.signedinteger[Any]]


def format_ints(numbers: Numbers, unknown: int | None = None) -> pa.Array:
    """Return integers as texts; the value `unknown` becomes ""."""
    mask = None if unknown is None else numbers == unknown
    return pc.fill_null(pc.cast(pa.array(numbers, mask=mask), pa.string()), "")


def format_counts(counts: Numbers) -> pa.Array:
    """Return counts, which are mostly small, as texts; -1 means unknown."""
    if counts.max(initial=0) >= len(_SMALL) - 1:
        return format_ints(counts, unknown=-1)
    return _SMALL.take(pa.array(counts + 1))


def format_bools(tristates: npt.NDArray[np.int8]) -> pa.Array:
    """Return booleans as texts; 0 means unknown, 1 no, 2 yes."""
    return _FLAGS.take(pa.array(tristates))


def format_timestamps(seconds: pa.Array) -> pa.Array:
    """Return seconds since the epoch as UTC times with milliseconds; null means unknown."""
    millis = pc.cast(pc.round(pc.multiply(seconds, 1000.0)), pa.int64())
    # A cast is five times as fast as `strftime`, but writes a blank instead of the T and no zone.
    moments = pc.binary_replace_slice(pc.cast(pc.cast(millis, pa.timestamp("ms")), pa.string()), 10, 11, "T")
    return pc.fill_null(pc.binary_join_element_wise(moments, "Z", ""), "")
