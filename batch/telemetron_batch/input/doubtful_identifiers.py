"""Identifiers that are sent with a warning, but may not be those that the source holds."""

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.arrays import Flags
from telemetron_batch.input.serials import end_in_zeros
from telemetron_batch.input.suspect_identifiers import placeholders


def are_doubtful(identifiers: pa.Array) -> Flags:
    """Return which identifiers are placeholders, or end in zeros as if a spreadsheet had rounded them."""
    doubtful = placeholders(identifiers)
    doubtful[np.flatnonzero(end_in_zeros(identifiers))] = True
    return doubtful
