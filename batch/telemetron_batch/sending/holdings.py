"""Compare rows with lists of holdings: determine whether each row's customer holds its device.

A device is held if the list contains its trimmed identifier. If the list contains only an
identifier with the same letters and digits in another spelling, the state is unknown, because the
API does not say whether that is the same device. An identifier that matches another row of the
customer exactly belongs to that row.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.identifiers import as_column, letters_and_digits, trimmed
from telemetron_batch.planning.plan import RowsToSend
from telemetron_batch.storage.text_hash import encode_texts

Holding = tuple[int, frozenset[str]]
"""A customer's code and the identifiers of all its devices."""
HoldingStates = npt.NDArray[np.int8]
"""Whether the customer holds the device: 1 yes, 0 no, below 0 the reason why it is not known."""

UNKNOWN: Final = -1
SPELLED_DIFFERENTLY: Final = -2
"""The customer holds a device with the same letters and digits in another spelling."""
ABSENCE_UNPROVEN: Final = -3
"""The list does not contain the device, but the API spells this customer's devices in its own form."""

_BATCH_SIZE: Final = 1 << 20
"""Identifiers that are looked up together. Each lookup builds a large set."""
_NONE: Final = -1
_NOTHING: Final = np.empty(0, np.int64)


def holding_states(
    keys: RowsToSend, holdings: Iterable[Holding], absence_unproven: Collection[int] = ()
) -> HoldingStates:
    """Return for each of some rows whether its customer holds its device.

    `absence_unproven` are codes of customers whose devices the API spells in its own form. Only an
    empty list proves that such a customer does not hold a device.
    """
    comparison = _Comparison(keys)
    for batch in _batches(holdings):
        comparison.add(batch)
    return comparison.states(absence_unproven)


def are_in_holdings(devices: Sequence[str], holdings: Collection[str]) -> list[bool | None]:
    """Return for each of one customer's distinct devices whether the customer holds it; None if that is not known."""
    numbers = np.arange(len(devices))
    keys = RowsToSend(rows=numbers, customer=np.zeros_like(numbers), device=numbers, devices=as_column(devices))
    states = holding_states(keys, [(0, frozenset(holdings))]).tolist()
    return [None if state < 0 else state == 1 for state in states]


class _Comparison:
    """Compares rows with lists of holdings, batch by batch."""

    def __init__(self, keys: RowsToSend) -> None:
        self._customer = keys.customer
        self._spellings = trimmed(keys.devices)
        self._device = keys.device
        if not self._spellings.equals(keys.devices):
            spelling, self._spellings = encode_texts(self._spellings)
            self._device = spelling[keys.device]
        self._size = max(1, len(self._spellings))
        self._pairs, self._pair = np.unique(self._customer * self._size + self._device, return_inverse=True)
        self._held = np.zeros(len(self._pairs), np.bool_)
        """Whether each pair of customer and device was found."""
        self._asked, self._holders, self._alike = [_NOTHING], [_NOTHING], [_NOTHING]

    def add(self, batch: Sequence[Holding]) -> None:
        """Compare with the lists of some customers."""
        customers = np.array([customer for customer, _ in batch], np.int64)
        sizes = np.array([len(held) for _, held in batch], np.int64)
        names = trimmed(as_column(chain.from_iterable(held for _, held in batch)))
        owners = np.repeat(customers, sizes)
        is_stray = ~self._find(owners, names)
        self._asked.append(customers)
        self._holders.append(customers[sizes > 0])
        if is_stray.any():
            self._alike.append(self._alike_pairs(owners[is_stray], names.filter(pa.array(is_stray))))

    def states(self, absence_unproven: Collection[int]) -> HoldingStates:
        """Return the state of each row."""
        customer = self._customer
        unproven = np.intersect1d(np.concatenate(self._holders), np.array([*absence_unproven], np.int64))
        states = np.where(np.isin(customer, unproven), ABSENCE_UNPROVEN, 0)
        alike = np.concatenate(self._alike)
        if len(alike):
            states[np.isin(customer * self._size + _codes(self._letters.indices)[self._device], alike)] = (
                SPELLED_DIFFERENTLY
            )
        states[self._held[self._pair]] = 1
        states[~np.isin(customer, np.concatenate(self._asked))] = UNKNOWN
        return states.astype(np.int8)

    def _find(self, owners: Ints, names: pa.Array) -> Flags:
        """Mark the pairs that are held, and return which identifiers belong to a row of their owner."""
        if not len(self._pairs):
            return np.zeros(len(names), np.bool_)
        device = _positions(names, self._spellings)
        pair = owners * self._size + device
        at = np.minimum(np.searchsorted(self._pairs, pair), len(self._pairs) - 1)
        is_found: Flags = (device != _NONE) & (self._pairs[at] == pair)
        self._held[at[is_found]] = True
        return is_found

    @cached_property
    def _letters(self) -> pa.DictionaryArray:
        """Letters and digits of each device."""
        return letters_and_digits(self._spellings).dictionary_encode()

    def _alike_pairs(self, owners: Ints, names: pa.Array) -> Ints:
        """Return pairs of an owner and letters and digits that also a device of some row has."""
        letters = _positions(letters_and_digits(names), self._letters.dictionary)
        pairs: Ints = (owners * self._size + letters)[letters != _NONE]
        return pairs


def _batches(holdings: Iterable[Holding]) -> Iterator[list[Holding]]:
    batch: list[Holding] = []
    size = 0
    for one in holdings:
        batch.append(one)
        size += len(one[1])
        if size >= _BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _positions(texts: pa.Array, known: pa.Array) -> Ints:
    """Return the position of each text among the known ones; `_NONE` for others."""
    return _codes(pc.fill_null(pc.index_in(texts, value_set=known), _NONE))


def _codes(indices: pa.Array) -> Ints:
    return np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)
