"""Compare what customers should hold with what they hold. Pure: tables in, row positions out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.identifiers import latin_letters_and_digits, trimmed
from telemetron_batch.storage.text_hash import encode_texts

_WHOLE_DECIMAL: Final = r"^\s*(\p{Nd}+)[.,]0+\s*$"
"""A whole number as a spreadsheet or a program writes it that takes serials for decimal numbers: `12.0`."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of a customer, given by number, and a device."""

    customer: Ints
    device: pa.Array

    def __len__(self) -> int:
        return len(self.customer)

    def where(self, chosen: Flags) -> "Pairs":
        """Return the chosen pairs."""
        return Pairs(self.customer[chosen], self.device.filter(pa.array(chosen)))


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs, as flags of the two tables.

    missing   of the wanted pairs: no row has named it before, and the customer does not hold the device
    repeated  of the wanted pairs: an earlier one is the same
    extra     of the held pairs: the customer should not hold the device
    alike     of the held pairs: extra, but a wanted device of the customer differs from it by spelling only
    """

    missing: Flags
    repeated: Flags
    extra: Flags
    alike: Flags


def find_difference(wanted: Pairs, held: Pairs) -> Difference:
    """Compare the pairs; identifiers are equal if they are equal without white space around them."""
    device, spellings = encode_texts(trimmed(pa.concat_arrays([wanted.device, held.device])))
    owner = np.concatenate([wanted.customer, held.customer])
    count = len(wanted)
    pair = owner * max(1, len(spellings)) + device
    repeated = np.ones(count, np.bool_)
    repeated[np.unique(pair[:count], return_index=True)[1]] = False
    extra = ~np.isin(pair[count:], pair[:count])
    alike = np.zeros(len(held), np.bool_)
    for coarse in _coarse_forms(spellings):
        form, forms = encode_texts(coarse)
        coarse_pair = owner * max(1, len(forms)) + form[device]
        alike |= np.isin(coarse_pair[count:], coarse_pair[:count])
    return Difference(
        missing=~repeated & ~np.isin(pair[:count], pair[count:]),
        repeated=repeated,
        extra=extra,
        alike=extra & alike,
    )


def distinct(pairs: Pairs) -> Pairs:
    """Return each pair once, with its identifier trimmed."""
    names = trimmed(pairs.device)
    device, spellings = encode_texts(names)
    _, first = np.unique(pairs.customer * max(1, len(spellings)) + device, return_index=True)
    chosen = np.sort(first)
    return Pairs(pairs.customer[chosen], names.take(pa.array(chosen)))


def _coarse_forms(identifiers: pa.Array) -> Iterator[pa.Array]:
    """Yield forms of the identifiers; two spellings of an identifier are equal in one of them.

    As letters and digits `12.0` is `120`, which `1-20` is too, so there is a form without the fraction besides.
    """
    yield _coarse(identifiers)
    if pc.any(pc.match_substring_regex(identifiers, _WHOLE_DECIMAL)).as_py():
        yield _coarse(pc.replace_substring_regex(identifiers, _WHOLE_DECIMAL, r"\1"))


def _coarse(identifiers: pa.Array) -> pa.Array:
    """Return a form that spellings of an identifier share, in any script, also one that has lost leading zeros."""
    return pc.utf8_ltrim(latin_letters_and_digits(identifiers), "0")
