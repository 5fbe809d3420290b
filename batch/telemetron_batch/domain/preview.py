"""What a look at the customers says about each row before anything is sent."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import Outcome


class PreviewWord(StrEnum):
    """What a row is expected to do. The values are written to preview.csv; the order is stored in journals."""

    WILL_CHANGE = "willChange"
    ALREADY_SO = "alreadySo"
    """The customer of an assign has the device already."""
    NOT_THIS_CUSTOMERS = "notThisCustomers"
    """The customer of an unassign does not have the device."""
    CUSTOMER_UNKNOWN = "customerUnknown"
    """An assign would create the customer, an unassign would fail."""
    NOT_KNOWN = "notKnown"
    """The query failed, or the customer has the device in another spelling only."""
    INVALID = "invalid"
    DUPLICATE = "duplicate"
    UNCHANGED = "unchanged"
    HELD = "held"
    """The assign is not sent because of other rows of the input."""

    @property
    def code(self) -> int:
        """The code that journals store."""
        return PREVIEW_WORDS.index(self)


PREVIEW_WORDS: Final = tuple(PreviewWord)

_SURE: Final = frozenset({Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.UNASSIGNED, Outcome.SKIPPED})
EXPECTED_OUTCOMES: Final[Mapping[tuple[PreviewWord, Action], frozenset[Outcome]]] = {
    (PreviewWord.WILL_CHANGE, Action.ASSIGN): frozenset({Outcome.ASSIGNED, Outcome.SKIPPED}),
    (PreviewWord.WILL_CHANGE, Action.UNASSIGN): frozenset({Outcome.UNASSIGNED}),
    (PreviewWord.ALREADY_SO, Action.ASSIGN): frozenset({Outcome.ALREADY_ASSIGNED}),
    (PreviewWord.NOT_THIS_CUSTOMERS, Action.UNASSIGN): frozenset({Outcome.SKIPPED}),
    (PreviewWord.CUSTOMER_UNKNOWN, Action.ASSIGN): frozenset({Outcome.ASSIGNED, Outcome.SKIPPED}),
    (PreviewWord.CUSTOMER_UNKNOWN, Action.UNASSIGN): frozenset(),
}
"""Of the outcomes that an answer gives, those that a row can have if its customer has not changed since the look.

Every row that is sent may also end failed, unconfirmed, held or not sent. Holds for the first row of a pair.
"""


def unexpected_outcomes(word: PreviewWord, action: Action) -> Collection[Outcome]:
    """Return the outcomes which show that the customer has changed since the look."""
    expected = EXPECTED_OUTCOMES.get((word, action))
    return () if expected is None else _SURE - expected


@dataclass(frozen=True, slots=True)
class Preview:
    """What a look at all customers of a plan shows, in numbers."""

    rows: Mapping[PreviewWord, int]
    """Number of rows by word."""
    customers_to_create: int
    """Unknown customers with an assign that is sent."""
    customers_not_known: int
    """Customers that could not be queried."""
    looked_at: float
    """When the look ended, in seconds since the epoch."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the JSON documents."""
        return {
            "preview": {str(word): count for word, count in self.rows.items()},
            "customersToCreate": self.customers_to_create,
            "customersNotKnown": self.customers_not_known,
        }

    @classmethod
    def of_fact(cls, fields: Mapping[str, Any] | None) -> "Preview | None":
        """Return the complete look that a journal recorded: what `as_json` gave, and `endedAt`. None without one."""
        if fields is None or fields["endedAt"] is None:
            return None
        rows = {word: int(fields["preview"].get(word, 0)) for word in PREVIEW_WORDS}
        return cls(
            rows=rows,
            customers_to_create=int(fields["customersToCreate"]),
            customers_not_known=int(fields["customersNotKnown"]),
            looked_at=float(fields["endedAt"]),
        )

    @property
    def sentence(self) -> str:
        """What will happen, in words: "will change 34, already so 3, not this customer's 4, 1 new customer"."""
        parts = [f"will change {self.rows[PreviewWord.WILL_CHANGE]:,}"]
        for word, text in _WORDS.items():
            if count := self.rows[word]:
                parts.append(f"{text} {count:,}")
        if new := self.customers_to_create:
            parts.append("1 new customer" if new == 1 else f"{new:,} new customers")
        return ", ".join(parts)


_WORDS: Final = {
    PreviewWord.ALREADY_SO: "already so",
    PreviewWord.NOT_THIS_CUSTOMERS: "not this customer's",
    PreviewWord.CUSTOMER_UNKNOWN: "of unknown customers",
    PreviewWord.NOT_KNOWN: "not known",
    PreviewWord.HELD: "held",
}
