"""Assigns that are held because of the input itself, and identifiers in several spellings, as columns."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class HoldReason(IntEnum):
    """Why an assign is held before anything is sent, as a number for integer columns."""

    INVALID_ROW = 1
    """Its device stands in an invalid row that is or may be an unassign."""
    OTHER_SPELLING = 2
    """Its device is unassigned from another customer in another spelling."""


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Assigns that are not sent because of other rows of the input, in input order.

    rows    their numbers
    reason  int8, `HoldReason` of each
    cause   for each the number of the row because of which it is held
    """

    rows: Ints
    reason: npt.NDArray[np.int8]
    cause: Ints

    @classmethod
    def none(cls) -> "HeldRows":
        """No row at all."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, chosen: npt.NDArray[np.bool_] | slice) -> "HeldRows":
        """Some of them."""
        return HeldRows(self.rows[chosen], self.reason[chosen], self.cause[chosen])

    def within(self, first: int, end: int) -> "HeldRows":
        """Those of a range of rows."""
        return self.only(slice(*np.searchsorted(self.rows, (first, end)).tolist()))

    def because_of(self, reason: HoldReason) -> "HeldRows":
        """Those that are held for one reason."""
        return self.only(self.reason == reason)


@dataclass(frozen=True, slots=True)
class Respelling:
    """One identifier that stands in the input in several spellings."""

    is_mac: bool
    rows: tuple[int, ...]
    """The first row of each spelling, in input order; of very many spellings only the first rows."""
    spellings: int


@dataclass(frozen=True, slots=True)
class Respellings:
    """Identifiers that stand in the input in several spellings."""

    count: int = 0
    first: tuple[Respelling, ...] = ()
    """The first of them in input order."""
