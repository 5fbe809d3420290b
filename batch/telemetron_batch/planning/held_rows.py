"""Types for assigns that are held because of other input rows, and for identifiers in several spellings."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from telemetron_batch.domain.arrays import Ints


class HoldReason(IntEnum):
    """Why an assign is held before anything is sent, as a number for integer columns."""

    INVALID_ROW = 1
    """An invalid row that is or may be an unassign has the same device."""
    OTHER_SPELLING = 2
    """Its device is unassigned from another customer in another spelling."""


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Assigns that are not sent because of other rows of the input, in input order.

    rows    row numbers
    reason  `HoldReason` of each
    cause   number of the row that causes the hold
    """

    rows: Ints
    reason: npt.NDArray[np.int8]
    cause: Ints

    @classmethod
    def none(cls) -> "HeldRows":
        """Return an empty set of rows."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, chosen: npt.NDArray[np.bool_] | slice) -> "HeldRows":
        """Return the chosen rows."""
        return HeldRows(self.rows[chosen], self.reason[chosen], self.cause[chosen])

    def within(self, first: int, end: int) -> "HeldRows":
        """Return the held rows among a range of row numbers."""
        return self.only(slice(*np.searchsorted(self.rows, (first, end)).tolist()))

    def because_of(self, reason: HoldReason) -> "HeldRows":
        """Return the rows that are held for this reason."""
        return self.only(self.reason == reason)


@dataclass(frozen=True, slots=True)
class SpellingVariants:
    """One identifier that occurs in the input in several spellings."""

    is_mac: bool
    rows: tuple[int, ...]
    """The first row of each spelling, in input order; limited in number."""
    spellings: int


@dataclass(frozen=True, slots=True)
class AllSpellingVariants:
    """Identifiers that occur in the input in several spellings."""

    count: int = 0
    first: tuple[SpellingVariants, ...] = ()
    """The first few in input order."""
