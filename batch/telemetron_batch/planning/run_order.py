"""Compare runs of a job: which run is newer, and whether two runs ask for opposite actions.

If both runs have an as-of time (the time whose state the input describes), that decides.
Otherwise the modification times of the input files are compared. These are only a hint, because a copy
may have changed them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.storage.text_hash import Hashes, hash_texts, mixed

KeyBatches: TypeAlias = Iterator[tuple[int, pa.RecordBatch]]
"""File number, and `line`, `customerEmail`, `deviceIdentifier` and `action` of valid rows; in input order."""
Actions: TypeAlias = npt.NDArray[np.int8]

_MAX_COMPARED: Final = 1000
"""Most pairs with equal hashes whose texts are compared."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A run, as far as its order among the runs of its job is concerned."""

    run_id: str
    as_of: datetime | None
    """The time whose state its input describes."""
    written: float | None
    """Modification time of its newest input file, in seconds since the epoch; None if unknown."""


@dataclass(frozen=True, slots=True)
class RowLocation:
    """File and line of a row of the input."""

    file: int
    line: int


def orders_with_later_as_of(order: RunOrder, others: Iterable[RunOrder]) -> list[RunOrder]:
    """Return the runs with a later as-of time, the latest first."""
    later = [(other.as_of, other) for other in others if order.as_of and other.as_of and order.as_of < other.as_of]
    return [other for _, other in sorted(later, key=lambda pair: pair[0], reverse=True)]


def orders_with_newer_files(order: RunOrder, others: Iterable[RunOrder]) -> list[RunOrder]:
    """Return the runs that cannot be compared by as-of and have newer files, the newest first."""
    undated = (other for other in others if order.as_of is None or other.as_of is None)
    later = [
        (other.written, other)
        for other in undated
        if order.written is not None and other.written is not None and order.written < other.written
    ]
    return [other for _, other in sorted(later, key=lambda pair: pair[0], reverse=True)]


def find_opposite_action(ours: Callable[[], KeyBatches], theirs: Callable[[], KeyBatches]) -> RowLocation | None:
    """Return the place of a row whose pair has different last actions in `ours` and `theirs`; None if there is none.

    A pair is a customer and a device; the returned place is in `ours`. Reads both at most twice, and uses about
    60 bytes a row.
    """
    opposed = _opposed(_last_actions(ours()), _last_actions(theirs()))[:_MAX_COMPARED]
    if not len(opposed):
        return None
    # Two pairs may have the same hash, so the texts decide.
    our_rows, their_rows = _last_rows(ours(), opposed), _last_rows(theirs(), opposed)
    locations = (
        location
        for pair, (action, location) in our_rows.items()
        if pair in their_rows and their_rows[pair][0] != action
    )
    return next(locations, None)


def _last_actions(blocks: KeyBatches) -> tuple[Hashes, Actions]:
    """Return the hash of each pair, in ascending order, and the last action of each pair."""
    hashes, actions = [np.empty(0, np.uint64)], [np.empty(0, np.int8)]
    for _, keys in blocks:
        hashes.append(_pair_hashes(keys))
        actions.append(keys["action"].to_numpy())
    backwards = np.concatenate(hashes)[::-1]
    pairs, at = np.unique(backwards, return_index=True)
    return pairs, np.concatenate(actions)[::-1][at]


def _opposed(ours: tuple[Hashes, Actions], theirs: tuple[Hashes, Actions]) -> Hashes:
    """Return the hashes of the pairs that have different actions in the two."""
    both, here, there = np.intersect1d(ours[0], theirs[0], assume_unique=True, return_indices=True)
    opposed: Hashes = both[ours[1][here] != theirs[1][there]]
    return opposed


def _last_rows(blocks: KeyBatches, wanted: Hashes) -> dict[tuple[str, str], tuple[int, RowLocation]]:
    """Return the last action and its place for each pair whose hash is in `wanted`."""
    found: dict[tuple[str, str], tuple[int, RowLocation]] = {}
    for file, keys in blocks:
        some = keys.filter(pa.array(np.isin(_pair_hashes(keys), wanted)))
        columns = (some[name].to_pylist() for name in ("customerEmail", "deviceIdentifier", "action", "line"))
        for customer, device, action, line in zip(*columns, strict=True):
            found[customer, device] = action, RowLocation(file, line)
    return found


def _pair_hashes(keys: pa.RecordBatch) -> Hashes:
    return mixed(hash_texts(keys["customerEmail"]) + mixed(hash_texts(keys["deviceIdentifier"])))
