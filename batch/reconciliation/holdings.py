"""Lists of what customers hold, joined to rows: does its customer hold the row's device?

Identifiers are compared trimmed. Knows not when or why anybody was asked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch.planning.plan import SentKeys

Ints = npt.NDArray[np.int64]
Holding = tuple[int, frozenset[str]]
"""A customer's code, and the identifiers of all that they hold."""
States = npt.NDArray[np.int8]
"""Does the customer hold the device: 1 yes, 0 no, or below 0 why that is not known."""

UNKNOWN: Final = -1
SPELLED_OTHERWISE: Final = -2
"""They hold one whose identifier differs in case alone: the API does not say whether that is the same."""

_AT_ONCE: Final = 1 << 20
"""Identifiers that are looked up together: each time a large set is built for it."""
_NONE: Final = -1


@dataclass(frozen=True, slots=True)
class _Found:
    """Held devices that may concern a row, one entry each, as codes; `_NONE` for a device that no row names."""

    customer: Ints
    device: Ints
    folded: Ints
    """The identifier in small letters."""


def states_of(keys: SentKeys, holdings: Iterable[Holding]) -> States:
    """For each of some rows, whether its customer holds its device."""
    customer, device, size = keys.customer, keys.device, max(1, len(keys.devices))
    folded = pc.dictionary_encode(pc.utf8_lower(keys.devices))
    asked, found = _found_in(holdings, keys.devices, folded.dictionary)
    pair = customer * size + device
    held_pair = np.where(found.device == _NONE, _NONE, found.customer * size + found.device)
    # What is spelled as another row of this customer spells it is that row's device.
    stray = ~np.isin(held_pair, pair)
    alike = np.isin(customer * size + folded.indices.to_numpy()[device], (found.customer * size + found.folded)[stray])
    states = np.select([~np.isin(customer, asked), np.isin(pair, held_pair), alike], [UNKNOWN, 1, SPELLED_OTHERWISE], 0)
    return states.astype(np.int8)


def _found_in(holdings: Iterable[Holding], devices: pa.Array, folded: pa.Array) -> tuple[Ints, _Found]:
    """Who was asked; and of all that was found what may concern a row."""
    asked = [np.empty(0, dtype=np.int64)]
    found = [np.empty((3, 0), dtype=np.int64)]
    for batch in _batches(holdings):
        customers = np.array([customer for customer, _ in batch], dtype=np.int64)
        names = pc.utf8_trim_whitespace(pa.array(chain.from_iterable(held for _, held in batch), pa.string()))
        alike = _positions(pc.utf8_lower(names), folded)
        owners = np.repeat(customers, [len(held) for _, held in batch])
        found.append(np.stack([owners, _positions(names, devices), alike])[:, alike != _NONE])
        asked.append(customers)
    return np.concatenate(asked), _Found(*np.concatenate(found, axis=1))


def _batches(holdings: Iterable[Holding]) -> Iterator[list[Holding]]:
    batch: list[Holding] = []
    size = 0
    for one in holdings:
        batch.append(one)
        size += len(one[1])
        if size >= _AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _positions(texts: pa.Array, known: pa.Array) -> Ints:
    """Positions among the known texts, `_NONE` for all others."""
    found = pc.fill_null(pc.index_in(texts, value_set=known), _NONE)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)
