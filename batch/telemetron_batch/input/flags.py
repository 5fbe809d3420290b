"""One flag for each text of a column."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags


def flags_of(mask: pa.BooleanArray) -> Flags:
    """Return a mask without nulls as a numpy array."""
    flags: Flags = mask.to_numpy(zero_copy_only=False)
    return flags


def matching(texts: pa.Array, pattern: str) -> Flags:
    """Return which texts match a regular expression anywhere."""
    if not len(texts):  # saves compiling the pattern
        return np.zeros(0, np.bool_)
    return flags_of(pc.match_substring_regex(texts, pattern))
