"""Find the assigns to hold because of other rows of the input, before anything is sent.

Two reasons. An invalid row with the same device is or may be an unassign: it is not sent, so
its customer may keep the device. Or the device is unassigned from another customer in another
spelling, anywhere in the input: the API may treat the two spellings as two devices.
Identifiers are compared by hash: a collision can only hold an assign without need.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.planning.held_rows import AllSpellingVariants, HeldRows, HoldReason, SpellingVariants
from telemetron_batch.planning.staging import Bitmap
from telemetron_batch.rows.rows import Rows
from telemetron_batch.rows.spellings import find_variants
from telemetron_batch.storage.concurrency import map_ordered
from telemetron_batch.storage.spill import SpillColumn, drop_pages, to_batch
from telemetron_batch.storage.text_hash import Hashes, encode_texts, hash_texts

_ASSIGN: Final = Action.ASSIGN.code
_SCAN_ROWS: Final = 1 << 20
_NO_ROWS: Final = np.empty(0, np.int64)
_NO_HASHES: Final = np.empty(0, np.uint64)
_MAX_SHOWN_VARIANTS: Final = 5
"""Most identifiers in several spellings that are named."""
_MAX_SPELLINGS: Final = 50
"""Most spellings of one identifier whose rows are named."""


@dataclass(frozen=True, slots=True)
class _RowsWithVariants:
    """Valid rows whose identifiers may have other spellings, in input order.

    row       row numbers
    spelling  hashes of the canonical spellings, by which identifiers are compared
    is_mac    whether the identifier is a MAC address
    """

    row: Ints
    spelling: Hashes
    is_mac: Flags


@dataclass(frozen=True, slots=True)
class _VariantRows:
    """Rows of identifiers that occur in several spellings, sorted by identifier, then in input order.

    row     row numbers
    group   number of the identifier, from 0
    device  hashes of the identifiers as they are spelt
    is_mac  whether the identifier is a MAC address
    """

    row: Ints
    group: Ints
    device: Hashes
    is_mac: Flags


def find_held(rows: Rows, *, hold_by_input: bool) -> tuple[HeldRows, AllSpellingVariants]:
    """Return the assigns to hold (none unless `hold_by_input`) and the identifiers in several spellings.

    Reads the keys of `rows`, but leaves them there. The held assigns may include duplicates.
    """
    rows_with_variants = _RowsWithVariants(_NO_ROWS, _NO_HASHES, np.empty(0, np.bool_))
    if rows.may_have_variants:
        rows_with_variants = _rows_with_variants(rows)
    variant_rows = _variant_rows(rows, rows_with_variants)
    held = HeldRows.none()
    if hold_by_input:
        held = _joined(_held_by_invalid(rows, rows_with_variants), _held_by_spelling(rows, variant_rows))
    return held, _spelling_variants(variant_rows)


def _joined(first: HeldRows, second: HeldRows) -> HeldRows:
    """Return both in input order; for a row that is in both, the reason in `first` counts."""
    rows, at = np.unique(np.concatenate([first.rows, second.rows]), return_index=True)
    reason, cause = np.concatenate([first.reason, second.reason]), np.concatenate([first.cause, second.cause])
    return HeldRows(rows, reason[at], cause[at])


# Invalid rows


def _held_by_invalid(rows: Rows, rows_with_variants: _RowsWithVariants) -> HeldRows:
    possible_unassigns = rows.possible_unassigns
    keys = possible_unassigns.spelling if rows.may_have_variants else possible_unassigns.device_hash
    wanted, first = np.unique(keys, return_index=True)
    if not len(wanted):
        return HeldRows.none()
    plain = _rows_with(rows.device_hash, wanted)
    plain = plain[~np.isin(plain, rows_with_variants.row)]
    row = np.concatenate([plain, rows_with_variants.row])
    key = np.concatenate([rows.device_hash[plain], rows_with_variants.spelling])
    at = np.minimum(np.searchsorted(wanted, key), len(wanted) - 1)
    held = (wanted[at] == key) & (rows.problem[row] == 0) & (rows.action[row] == _ASSIGN)
    return _held(row[held], possible_unassigns.row[first[at[held]]], HoldReason.INVALID_ROW)


def _held(row: Ints, cause: Ints, reason: HoldReason) -> HeldRows:
    order = np.argsort(row)
    return HeldRows(row[order], np.full(len(row), reason, np.int8), cause[order])


def _rows_with(device: Hashes, wanted: Hashes) -> Ints:
    """Return the rows whose hash is in `wanted`, which is sorted."""
    bits = min(24, max(16, len(wanted).bit_length() + 6))
    mask = np.uint64((1 << bits) - 1)
    # A filter by the last bits keeps most rows away from the binary search.
    may_match = np.zeros(1 << bits, np.bool_)
    may_match[wanted & mask] = True
    found = [_NO_ROWS]
    for first in range(0, len(device) if len(wanted) else 0, _SCAN_ROWS):
        block = device[first : first + _SCAN_ROWS]
        likely = np.flatnonzero(may_match[(block & mask).view(np.int64)])
        at = np.minimum(np.searchsorted(wanted, block[likely]), len(wanted) - 1)
        found.append(first + likely[wanted[at] == block[likely]])
        drop_pages(device)
    return np.concatenate(found)


# Spellings


def _rows_with_variants(rows: Rows) -> _RowsWithVariants:
    row, spelling, is_mac = (SpillColumn(rows.scratch, dtype) for dtype in (np.int64, np.uint64, np.bool_))

    def rows_with_variants(part: tuple[int, pa.Table]) -> _RowsWithVariants:
        keys = to_batch(part[1])
        some = find_variants(keys["deviceIdentifier"])
        return _RowsWithVariants(keys["row"].to_numpy()[some.places], hash_texts(some.spelling), some.is_mac)

    for some in map_ordered(rows_with_variants, rows.keys.iter_parts()):
        row.add(some.row)
        spelling.add(some.spelling)
        is_mac.add(some.is_mac)
    order = np.argsort(numbers := row.array())
    return _RowsWithVariants(numbers[order], spelling.array()[order], is_mac.array()[order])


def _variant_rows(rows: Rows, rows_with_variants: _RowsWithVariants) -> _VariantRows:
    plain = _rows_with(rows.device_hash, np.unique(rows_with_variants.spelling[~rows_with_variants.is_mac]))
    plain = plain[(rows.problem[plain] == 0) & ~np.isin(plain, rows_with_variants.row)]
    row = np.concatenate([rows_with_variants.row, plain])
    spelling = np.concatenate([rows_with_variants.spelling, rows.device_hash[plain]])
    is_mac = np.concatenate([rows_with_variants.is_mac, np.zeros(len(plain), np.bool_)])
    order = np.lexsort((row, spelling))
    row, spelling, is_mac = row[order], spelling[order], is_mac[order]
    device = rows.device_hash[row]
    starts = np.flatnonzero(np.append(True, spelling[1:] != spelling[:-1])[: len(row)])
    if not len(starts):
        return _VariantRows(_NO_ROWS, _NO_ROWS, _NO_HASHES, is_mac)
    several = np.minimum.reduceat(device, starts) != np.maximum.reduceat(device, starts)
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(row)))
    chosen = several[group]
    group = (np.cumsum(several) - 1)[group[chosen]]
    return _VariantRows(row[chosen], group, device[chosen], is_mac[chosen])


def _held_by_spelling(rows: Rows, variant_rows: _VariantRows) -> HeldRows:
    """Return the assigns whose device is unassigned from another customer in another spelling."""
    row, device = variant_rows.row, variant_rows.device
    is_assign = rows.action[row] == _ASSIGN
    if is_assign.all() or not is_assign.any():
        return HeldRows.none()
    customer = _customers_of(rows, row)
    candidates = _candidate_causes(variant_rows, customer, ~is_assign)[variant_rows.group]
    differs = (device[candidates] != device[:, None]) & (customer[candidates] != customer[:, None])
    cause = np.where((candidates >= 0) & differs, candidates, len(row)).min(axis=1, initial=len(row))
    held = np.flatnonzero(is_assign & (cause < len(row)))
    return _held(row[held], row[cause[held]], HoldReason.OTHER_SPELLING)


def _candidate_causes(variant_rows: _VariantRows, customer: Ints, unassign: Flags) -> Ints:
    """Return an array with one row for each identifier: the positions of up to five of its unassigns, or -1.

    If any unassign of the identifier differs from an assign in both customer and spelling, at least one of the
    five does.
    """
    group, device = variant_rows.group, variant_rows.device
    groups = int(group[-1]) + 1

    def first_unassign(*unlike: tuple[npt.NDArray[np.unsignedinteger] | Ints, Ints]) -> Ints:
        """Return the first unassign of each identifier that differs in each column from the row at each position."""
        fits = unassign.copy()
        for column, position in unlike:
            fits &= (position[group] >= 0) & (column != column[position[group]])
        found, at = np.unique(group[fits], return_index=True)
        positions = np.full(groups, -1)
        positions[found] = np.flatnonzero(fits)[at]
        return positions

    first = first_unassign()
    other_spelling = first_unassign((device, first))
    other_customer = first_unassign((customer, first))
    return np.column_stack(
        (
            first,
            other_spelling,
            first_unassign((device, first), (customer, other_spelling)),
            other_customer,
            first_unassign((customer, first), (device, other_customer)),
        )
    )


def _customers_of(rows: Rows, chosen: Ints) -> Ints:
    """Return a number for the customer of each chosen row."""
    flags = np.zeros(len(rows), np.bool_)
    flags[chosen] = True
    is_chosen = Bitmap(flags)
    numbers, texts = [_NO_ROWS], [pa.array([], pa.large_string())]
    for _, table in rows.keys.iter_parts():
        keys = table.filter(pa.array(is_chosen.at(table["row"].to_numpy())))
        numbers.append(keys["row"].to_numpy())
        texts.append(keys["customerEmail"].cast(pa.large_string()).combine_chunks())
    codes, _ = encode_texts(pa.chunked_array(texts).combine_chunks())
    row = np.concatenate(numbers)
    order = np.argsort(row)
    customers: Ints = codes[order][np.searchsorted(row[order], chosen)]
    return customers


def _spelling_variants(variant_rows: _VariantRows) -> AllSpellingVariants:
    """Return the identifiers in several spellings, in the order of their first rows."""
    starts = np.flatnonzero(np.diff(variant_rows.group, prepend=-1))
    ends = np.append(starts[1:], len(variant_rows.row))
    first = np.argsort(variant_rows.row[starts])[:_MAX_SHOWN_VARIANTS].tolist()
    return AllSpellingVariants(
        len(starts), tuple(_variants_of(variant_rows, slice(starts[at], ends[at])) for at in first)
    )


def _variants_of(variant_rows: _VariantRows, group: slice) -> SpellingVariants:
    _, first = np.unique(variant_rows.device[group], return_index=True)
    rows = np.sort(variant_rows.row[group][first])
    return SpellingVariants(bool(variant_rows.is_mac[group].any()), tuple(rows[:_MAX_SPELLINGS].tolist()), len(rows))
