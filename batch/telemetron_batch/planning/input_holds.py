"""Which assigns are held because of what other rows of the input say, before anything is sent.

An assign is held whose device stands in an invalid row that is or may be an unassign: that
row is not sent, so its customer may keep the device. And one whose device is unassigned from
another customer in another spelling, wherever in the input: the API may not take the two for
one device. Identifiers go by hashes: should two have the same, an assign is held that need
not be.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.planning.held_rows import HeldRows, HoldReason, Respelling, Respellings
from telemetron_batch.planning.staging import Bitmap
from telemetron_batch.rows.rows import Rows
from telemetron_batch.rows.spellings import respelt
from telemetron_batch.storage.concurrency import map_ordered
from telemetron_batch.storage.spill import SpillColumn, drop_pages, to_batch
from telemetron_batch.storage.text_hash import Hashes, hash_texts

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_ASSIGN: Final = Action.ASSIGN.code
_READ: Final = 1 << 20
_NO_ROWS: Final = np.empty(0, np.int64)
_NO_HASHES: Final = np.empty(0, np.uint64)
_FIRST: Final = 5
"""Identifiers in several spellings that are named."""
_FIRST_SPELLINGS: Final = 50
"""Spellings of one identifier whose rows are named."""


@dataclass(frozen=True, slots=True)
class _Spelt:
    """Valid rows whose identifiers are no plain ones, in input order.

    row       their numbers
    spelling  hashes of the spellings by which they are compared
    is_mac    whether they are MAC addresses
    """

    row: Ints
    spelling: Hashes
    is_mac: Flags


@dataclass(frozen=True, slots=True)
class _Alike:
    """Rows of identifiers that have several spellings, by identifier and then in input order.

    row     their numbers
    group   the identifier, counted from 0
    device  hashes of the identifiers as they are spelt
    is_mac  whether the identifier is a MAC address
    """

    row: Ints
    group: Ints
    device: Hashes
    is_mac: Flags


def find_held(rows: Rows, *, hold: bool) -> tuple[HeldRows, Respellings]:
    """Return the assigns to hold, none unless `hold`, and the identifiers in several spellings.

    Looks through the keys of `rows`, and does not take them out. Repeated rows are among those held.
    """
    spelt = _spelt(rows) if rows.may_be_respelt else _Spelt(_NO_ROWS, _NO_HASHES, np.empty(0, np.bool_))
    alike = _alike(rows, spelt)
    held = HeldRows.none()
    if hold:
        held = _joined(_held_by_invalid(rows, spelt), _held_by_spelling(rows, alike))
    return held, _respellings(alike)


def _joined(first: HeldRows, second: HeldRows) -> HeldRows:
    """Both in input order; a row that is in both as it is in the first."""
    rows, at = np.unique(np.concatenate([first.rows, second.rows]), return_index=True)
    reason, cause = np.concatenate([first.reason, second.reason]), np.concatenate([first.cause, second.cause])
    return HeldRows(rows, reason[at], cause[at])


# Invalid rows


def _held_by_invalid(rows: Rows, spelt: _Spelt) -> HeldRows:
    suspects = rows.suspects
    keys = suspects.spelling if rows.may_be_respelt else suspects.device
    wanted, first = np.unique(keys, return_index=True)
    if not len(wanted):
        return HeldRows.none()
    plain = _rows_having(rows.device, wanted)
    plain = plain[~np.isin(plain, spelt.row)]
    row = np.concatenate([plain, spelt.row])
    key = np.concatenate([rows.device[plain], spelt.spelling])
    at = np.minimum(np.searchsorted(wanted, key), len(wanted) - 1)
    held = (wanted[at] == key) & (rows.problem[row] == 0) & (rows.action[row] == _ASSIGN)
    return _held(row[held], suspects.row[first[at[held]]], HoldReason.INVALID_ROW)


def _held(row: Ints, cause: Ints, reason: HoldReason) -> HeldRows:
    order = np.argsort(row)
    return HeldRows(row[order], np.full(len(row), reason, np.int8), cause[order])


def _rows_having(device: Hashes, wanted: Hashes) -> Ints:
    """The rows whose hash is one of these, which are in order."""
    bits = min(24, max(16, len(wanted).bit_length() + 6))
    last = np.uint64((1 << bits) - 1)
    marks = np.zeros(1 << bits, np.bool_)
    marks[wanted & last] = True
    found = [_NO_ROWS]
    for first in range(0, len(device) if len(wanted) else 0, _READ):
        some = device[first : first + _READ]
        likely = np.flatnonzero(marks[(some & last).view(np.int64)])
        at = np.minimum(np.searchsorted(wanted, some[likely]), len(wanted) - 1)
        found.append(first + likely[wanted[at] == some[likely]])
        drop_pages(device)
    return np.concatenate(found)


# Spellings


def _spelt(rows: Rows) -> _Spelt:
    """The valid rows whose identifiers could have other spellings."""
    row, spelling, is_mac = (SpillColumn(rows.scratch, dtype) for dtype in (np.int64, np.uint64, np.bool_))

    def found(part: tuple[int, pa.Table]) -> _Spelt:
        keys = to_batch(part[1])
        some = respelt(keys["deviceIdentifier"])
        return _Spelt(keys["row"].to_numpy()[some.places], hash_texts(some.spelling), some.is_mac)

    for some in map_ordered(found, rows.keys.iter_parts()):
        row.add(some.row)
        spelling.add(some.spelling)
        is_mac.add(some.is_mac)
    order = np.argsort(numbers := row.array())
    return _Spelt(numbers[order], spelling.array()[order], is_mac.array()[order])


def _alike(rows: Rows, spelt: _Spelt) -> _Alike:
    """The rows of identifiers that have several spellings."""
    plain = _rows_having(rows.device, np.unique(spelt.spelling[~spelt.is_mac]))
    plain = plain[(rows.problem[plain] == 0) & ~np.isin(plain, spelt.row)]
    row = np.concatenate([spelt.row, plain])
    spelling = np.concatenate([spelt.spelling, rows.device[plain]])
    is_mac = np.concatenate([spelt.is_mac, np.zeros(len(plain), np.bool_)])
    order = np.lexsort((row, spelling))
    row, spelling, is_mac = row[order], spelling[order], is_mac[order]
    device = rows.device[row]
    starts = np.flatnonzero(np.append(True, spelling[1:] != spelling[:-1])[: len(row)])
    if not len(starts):
        return _Alike(_NO_ROWS, _NO_ROWS, _NO_HASHES, is_mac)
    several = np.minimum.reduceat(device, starts) != np.maximum.reduceat(device, starts)
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(row)))
    chosen = several[group]
    group = (np.cumsum(several) - 1)[group[chosen]]
    return _Alike(row[chosen], group, device[chosen], is_mac[chosen])


def _held_by_spelling(rows: Rows, alike: _Alike) -> HeldRows:
    """The assigns whose device is unassigned from another customer in another spelling."""
    is_assign = rows.action[alike.row] == _ASSIGN
    if is_assign.all() or not is_assign.any():
        return HeldRows.none()
    customer = _customers_of(rows, alike.row)
    causes = _causes(alike, customer, ~is_assign)[alike.group]
    fits = (causes >= 0) & (alike.device[causes] != alike.device[:, None]) & (customer[causes] != customer[:, None])
    cause = np.where(fits, causes, len(alike.row)).min(axis=1, initial=len(alike.row))
    held = np.flatnonzero(is_assign & (cause < len(alike.row)))
    return _held(alike.row[held], alike.row[cause[held]], HoldReason.OTHER_SPELLING)


def _causes(alike: _Alike, customer: Ints, unassign: Flags) -> Ints:
    """Places of five unassigns of each identifier at most, -1 for none; a row of five an identifier.

    If any unassign has another customer and another spelling than some assign, then one of these has.
    """
    group, device = alike.group, alike.device
    groups = int(group[-1]) + 1

    def first(*others: tuple[npt.NDArray[np.unsignedinteger] | Ints, Ints]) -> Ints:
        """The first unassign of each identifier that differs from these places in these columns."""
        fits = unassign.copy()
        for column, place in others:
            fits &= (place[group] >= 0) & (column != column[place[group]])
        found, at = np.unique(group[fits], return_index=True)
        places = np.full(groups, -1)
        places[found] = np.flatnonzero(fits)[at]
        return places

    one = first()
    respelt_one = first((device, one))
    others_one = first((customer, one))
    return np.column_stack(
        (
            one,
            respelt_one,
            first((device, one), (customer, respelt_one)),
            others_one,
            first((customer, one), (device, others_one)),
        )
    )


def _customers_of(rows: Rows, some: Ints) -> Ints:
    """For each of these rows a number that stands for its customer."""
    flags = np.zeros(len(rows), np.bool_)
    flags[some] = True
    marked = Bitmap(flags)
    numbers, texts = [_NO_ROWS], [pa.array([], pa.large_string())]
    for _, table in rows.keys.iter_parts():
        chosen = table.filter(pa.array(marked.at(table["row"].to_numpy())))
        numbers.append(chosen["row"].to_numpy())
        texts.append(chosen["customerEmail"].cast(pa.large_string()).combine_chunks())
    codes = pa.chunked_array(texts).combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    found = np.concatenate(numbers)
    order = np.argsort(found)
    customers: Ints = codes[order][np.searchsorted(found[order], some)]
    return customers


def _respellings(alike: _Alike) -> Respellings:
    """The identifiers in several spellings, in the order of their first rows."""
    starts = np.flatnonzero(np.diff(alike.group, prepend=-1))
    ends = np.append(starts[1:], len(alike.row))
    first = np.argsort(alike.row[starts])[:_FIRST].tolist()
    return Respellings(len(starts), tuple(_respelling(alike, slice(starts[at], ends[at])) for at in first))


def _respelling(alike: _Alike, group: slice) -> Respelling:
    _, first = np.unique(alike.device[group], return_index=True)
    rows = np.sort(alike.row[group][first])
    return Respelling(bool(alike.is_mac[group].any()), tuple(rows[:_FIRST_SPELLINGS].tolist()), len(rows))
