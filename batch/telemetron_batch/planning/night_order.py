"""The order of nights: which of the runs of a job is older, and whether one asks for the opposite of another.

Pure: which runs belong to a job, and what they sent, is read elsewhere. The time of which an input is the
state (as-of) decides where both runs name one. Where one of them does not, the times at which the
files were written are compared: a copy may have changed these, so they are only a hint.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.storage.text_hash import Hashes, hash_texts, mixed

KeyColumns: TypeAlias = Iterator[tuple[int, pa.RecordBatch]]
"""File number, and `line`, `customerEmail`, `deviceIdentifier` and `action` of valid rows; in input order."""
Actions: TypeAlias = npt.NDArray[np.int8]

_VERIFIED_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Night:
    """A run as far as the order of nights is concerned."""

    run_id: str
    as_of: datetime | None
    """The time of which its input is the state."""
    written: float | None
    """When the newest of its input files was written, in seconds since the epoch; None if that is not known."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row is in the input."""

    file: int
    line: int


def as_of_later(night: Night, others: Iterable[Night]) -> list[Night]:
    """Return the nights that are as of a later time, the latest first."""
    later = [(other.as_of, other) for other in others if night.as_of and other.as_of and night.as_of < other.as_of]
    return [other for _, other in sorted(later, key=lambda pair: pair[0], reverse=True)]


def written_later(night: Night, others: Iterable[Night]) -> list[Night]:
    """Return the nights that as-of does not compare and whose files were written later, the newest first."""
    undated = (other for other in others if night.as_of is None or other.as_of is None)
    later = [
        (other.written, other)
        for other in undated
        if night.written is not None and other.written is not None and night.written < other.written
    ]
    return [other for _, other in sorted(later, key=lambda pair: pair[0], reverse=True)]


def first_opposite(ours: Callable[[], KeyColumns], theirs: Callable[[], KeyColumns]) -> Place | None:
    """Return a row of ours whose customer and device have the opposite as their last action in theirs.

    Of ours, too, the last action of customer and device counts. None if there is no such row. Goes through both
    twice at most; takes some 60 bytes a row.
    """
    opposed = _opposed(_last_actions(ours()), _last_actions(theirs()))[:_VERIFIED_AT_ONCE]
    if not len(opposed):
        return None
    # Two pairs may have the same hash, so the texts decide.
    wanted, other = _last_rows(ours(), opposed), _last_rows(theirs(), opposed)
    places = (place for pair, (action, place) in wanted.items() if pair in other and other[pair][0] != action)
    return next(places, None)


def _last_actions(blocks: KeyColumns) -> tuple[Hashes, Actions]:
    """Return the hash of each pair of customer and device, in ascending order, and the last action of each."""
    hashes, actions = [np.empty(0, np.uint64)], [np.empty(0, np.int8)]
    for _, keys in blocks:
        hashes.append(_pair_hashes(keys))
        actions.append(keys["action"].to_numpy())
    backwards = np.concatenate(hashes)[::-1]
    pairs, at = np.unique(backwards, return_index=True)
    return pairs, np.concatenate(actions)[::-1][at]


def _opposed(ours: tuple[Hashes, Actions], theirs: tuple[Hashes, Actions]) -> Hashes:
    """Return the hashes of pairs that are in both with different actions."""
    both, here, there = np.intersect1d(ours[0], theirs[0], assume_unique=True, return_indices=True)
    opposed: Hashes = both[ours[1][here] != theirs[1][there]]
    return opposed


def _last_rows(blocks: KeyColumns, wanted: Hashes) -> dict[tuple[str, str], tuple[int, Place]]:
    """Return the last action of each pair of customer and device with one of these hashes, and its row."""
    found: dict[tuple[str, str], tuple[int, Place]] = {}
    for file, keys in blocks:
        some = keys.filter(pa.array(np.isin(_pair_hashes(keys), wanted)))
        columns = (some[name].to_pylist() for name in ("customerEmail", "deviceIdentifier", "action", "line"))
        for customer, device, action, line in zip(*columns, strict=True):
            found[customer, device] = action, Place(file, line)
    return found


def _pair_hashes(keys: pa.RecordBatch) -> Hashes:
    return mixed(hash_texts(keys["customerEmail"]) + mixed(hash_texts(keys["deviceIdentifier"])))
