"""Causes in a few lines: the largest first, and without identifiers of people and devices."""

from collections.abc import Sequence

import pytest

from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reports.cause_summaries import top_causes
from telemetron_batch.reports.summary import CauseSummary
from tests.support.builders import A, Row, block_of, keys_of, planned, settle


def causes_of(rows: Sequence[Row], texts: Sequence[str | None]) -> list[CauseSummary]:
    """Return the causes of rows of one call, which failed with these texts; None: it succeeded."""
    plan = planned(rows)
    ledger = Ledger(plan)
    results = {
        at: DeviceResult(Outcome.ASSIGNED)
        if text is None
        else DeviceResult(Outcome.FAILED, reason=Reason.DEVICE_REFUSED, text=text)
        for at, text in enumerate(texts)
    }
    settle(ledger, (1, Answer(results)))
    return top_causes(ledger.close(""), [block_of(keys_of(rows), [row[:3] for row in rows])])


def test_the_largest_cause_comes_first_with_an_example() -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(3)]
    busy, locked = causes_of(rows, ["409: busy", "400: SN-1 is locked", "400: SN-2 is locked"])[::-1]
    assert (locked.rows, locked.text, locked.detail) == (2, "400: … is locked", "400: SN-1 is locked")
    assert (locked.outcome, locked.example) == ("failed", f"line 3, {A}, SN-1")
    assert (busy.rows, busy.text) == (1, "409: busy")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("400: Device SN-0 is locked", "400: Device … is locked"),
        ("400: Device ALPHA is locked", "400: Device … is locked"),
        (f"may still be with {A}, it did not succeed", "may still be with …, it did not succeed"),
        ("400: 490154203237518 of other@y.org", "400: … of …@…"),
        ('400: "Some Text"', '400: "…"'),
        ("HTTP 503", "HTTP 503"),
    ],
)
def test_the_text_has_no_identifiers_also_if_it_is_that_of_one_row(text: str, masked: str) -> None:
    device = "ALPHA" if "ALPHA" in text else "SN-0"
    [cause] = causes_of([(A, device, "assign")], [text])
    assert (cause.text, cause.detail) == (masked, text)


def test_five_causes_are_given_and_none_of_a_run_without_any() -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(7)]
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    assert len(causes_of(rows, [f"it is {word}" for word in words])) == 5
    assert causes_of(rows, [None] * 7) == []


def test_an_invalid_row_is_a_cause_without_its_cells() -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign", "EMAIL")]
    [cause] = causes_of(rows, [None])
    assert (cause.outcome, cause.rows, cause.text) == ("invalid", 1, "wrong: EMAIL")
