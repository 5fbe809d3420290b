"""What the API answered: the results of devices, the answer to a call, and what a customer holds.

To add a datum of an answer, add an attribute to `Answer` and a row to `ANSWER_FIELDS`: the journal stores it and
`reconciliation.csv` gets a column at the end of ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import OpenQuestion, Reason


class DeviceResult(NamedTuple):
    """The result for one device."""

    outcome: Outcome
    device_id: str = ""
    was_created: bool | None = None
    reason: Reason = Reason.NONE
    text: str = ""
    """Completes the sentence of the reason."""
    open_question: OpenQuestion = OpenQuestion.NOTHING


@dataclass(slots=True, eq=False, repr=False)
class Results(Mapping[int, DeviceResult]):
    """Results of devices by their positions in `Call.devices`, stored as columns.

    All columns are as long as `positions`. One object for each row that is sent would cost more than all
    other work for the row. A column that holds only default values is None.
    """

    positions: Sequence[int]
    codes: Sequence[int]
    """Codes of the outcomes."""
    device_ids: Sequence[str]
    created: Sequence[bool | None]
    reasons: Sequence[int] | None = None
    texts: Sequence[str] | None = None
    open_question: Sequence[int] | None = None
    _index: dict[int, int] | None = None

    @classmethod
    def of(cls, results: Mapping[int, DeviceResult]) -> "Results":
        """Return the results as columns."""
        if isinstance(results, Results):
            return results
        outcomes, ids, created, reasons, texts, open_question = (
            zip(*results.values(), strict=True) if results else [()] * len(DeviceResult._fields)
        )
        return cls(
            [*results],
            [outcome.code for outcome in outcomes],
            ids,
            created,
            [*map(int, reasons)] if any(reasons) else None,
            texts=texts if any(texts) else None,
            open_question=[*map(int, open_question)] if any(open_question) else None,
        )

    def counts(self) -> dict[Outcome, int]:
        """Return the number of devices by outcome."""
        return {OUTCOMES[code]: self.codes.count(code) for code in set(self.codes)}

    def without_effect(self) -> int:
        """Return the number of devices that the customer of an unassign certainly did not have."""
        if not self.has_reason(Reason.NOT_WITH_CUSTOMER) or self.reasons is None:
            return 0
        if self.open_question is None:
            return self.reasons.count(Reason.NOT_WITH_CUSTOMER)
        pairs = zip(self.reasons, self.open_question, strict=True)
        return sum(reason == Reason.NOT_WITH_CUSTOMER and not open_question for reason, open_question in pairs)

    def has_reason(self, reason: Reason) -> bool:
        """Return whether any device has this reason."""
        return self.reasons is not None and reason in self.reasons

    def __getitem__(self, position: int) -> DeviceResult:
        if self._index is None:
            self._index = {position: index for index, position in enumerate(self.positions)}
        index = self._index[position]
        return DeviceResult(
            OUTCOMES[self.codes[index]],
            self.device_ids[index],
            self.created[index],
            Reason(self.reasons[index]) if self.reasons else Reason.NONE,
            self.texts[index] if self.texts else "",
            OpenQuestion(self.open_question[index]) if self.open_question else OpenQuestion.NOTHING,
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(frozen=True, slots=True)
class Answer:
    """The results of a call, or of the devices of a call that one request contained.

    `results` maps a device's position in `Call.devices` to its result, so that two identifiers that
    differ only in case cannot be confused.
    """

    results: Mapping[int, DeviceResult]
    customer_id: str = ""
    customer_was_created: bool | None = None
    http_status: int | None = None
    attempts: int = 0
    unclear_attempts: int = 0
    """Number of earlier attempts without an answer that may have been carried out."""
    answered_at: float | None = None
    """Seconds since the epoch."""
    devices_remaining: int | None = None
    """Number of devices that the customer of an unassign still has; None if the answer does not give it."""


class FieldKind(Enum):
    """What a field of an answer holds, which decides how it is stored and formatted."""

    TEXT = auto()
    """An empty text means unknown."""
    FLAG = auto()
    COUNT = auto()
    TIME = auto()
    """Seconds since the epoch."""


class AnswerField(NamedTuple):
    """A field of `Answer` that the journal stores and the reconciliation shows."""

    name: str
    """The name in stored answers and of the column. Stored, so it never changes."""
    attribute: str
    kind: FieldKind


ANSWER_FIELDS: Final = (
    AnswerField("customerId", "customer_id", FieldKind.TEXT),
    AnswerField("customerWasCreated", "customer_was_created", FieldKind.FLAG),
    AnswerField("attempts", "attempts", FieldKind.COUNT),
    AnswerField("unclearAttempts", "unclear_attempts", FieldKind.COUNT),
    AnswerField("httpStatus", "http_status", FieldKind.COUNT),
    AnswerField("answeredAt", "answered_at", FieldKind.TIME),
    AnswerField("devicesRemaining", "devices_remaining", FieldKind.COUNT),
)
"""All fields of `Answer` but the results. A field that an older journal does not have is unknown."""


@dataclass(frozen=True, slots=True)
class CustomerHoldings:
    """The answer of the API to a query for a customer's devices."""

    customer: str
    at: float
    """When the query was sent, in seconds since the epoch."""
    devices: frozenset[str] | None
    """Identifiers as the API spells them; None if the query failed."""
    error: str = ""
    """Why the last query failed."""
    is_known: bool = True
    """Whether the API knows this customer; an unknown customer has no devices."""
    after_attempt: int | None = None
    """Number of the last attempt that was recorded when the query was sent.

    None if an attempt before the query may have acted after it.
    """
