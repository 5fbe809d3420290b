"""The plan in numbers."""

import json

import pytest

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.model import Problem
from telemetron_batch.planning.plan_summary import PlanSummary, summarize
from telemetron_batch.rows.rows import InvalidRows
from tests.support.builders import A, B, Row, file_of, planned

ROWS = [
    (A, "SN-1", "assign"),
    (A, "SN-2", "assign"),
    (A, "SN-3", "assign"),
    (B, "SN-1", "unassign"),
    (A, "SN-1", "assign"),
    ("?", "SN-1", "assign", "EMAIL"),
]


def digested(rows: list[Row], rate: str = "10/s", chunk_size: int = 2) -> PlanSummary:
    return summarize(planned(rows, chunk_size=chunk_size), [file_of(rows=len(rows))], Rate.parse(rate))


def test_a_summary_counts_rows_calls_devices_and_customers() -> None:
    told = digested(ROWS)
    assert (told.rows, told.calls, told.devices, told.customers) == (6, 3, 4, 2)
    assert (told.duplicates, told.invalid) == (1, 1)


def test_every_row_is_a_device_to_send_a_duplicate_or_invalid() -> None:
    told = digested(ROWS)
    assert told.devices + told.duplicates + told.invalid == told.rows


def test_a_summary_has_the_stages_with_their_calls_and_devices() -> None:
    assert digested(ROWS).as_json()["stages"] == [
        {"stage": 1, "action": "unassign", "calls": 1, "devices": 1},
        {"stage": 2, "action": "assign", "calls": 2, "devices": 3},
    ]


def test_problems_are_listed_by_frequency_each_with_its_first_five_lines() -> None:
    damaged, unknown = (A, "1E+11", "assign", "DAMAGED"), (A, "SN-1", "lend", "ACTION")
    assert digested([unknown, *[damaged] * 3, unknown, *[damaged] * 4]).problems == [
        InvalidRows(Problem.DAMAGED, 7, (3, 4, 5, 7, 8)),
        InvalidRows(Problem.ACTION, 2, (2, 6)),
    ]


def test_a_file_of_valid_rows_has_no_problems() -> None:
    told = digested([(A, "SN-1", "assign")])
    assert (told.problems, told.invalid) == ([], 0)


@pytest.mark.parametrize(
    ("calls", "rate", "seconds"),
    [(0, "10/s", 0), (1, "10/s", 0), (2, "10/s", 0.1), (601, "10/s", 60), (11, "1/min", 600), (11, "auto", None)],
)
def test_the_shortest_time_is_that_between_the_first_and_the_last_attempt(
    calls: int, rate: str, seconds: float | None
) -> None:
    rows = [(A, f"SN-{number}", "assign") for number in range(calls)]
    assert digested(rows, rate, chunk_size=1).shortest_seconds == (seconds and pytest.approx(seconds))


def test_the_json_document_is_made_of_plain_values() -> None:
    document = digested(ROWS).as_json()
    assert json.loads(json.dumps(document)) == document
    assert [one["name"] for one in document["inputs"]] == ["rows.csv"]
    assert document["problems"] == [{"problem": "not an email address", "rows": 1, "firstLines": [7]}]
    assert (document["rate"], document["shortestSeconds"], document["invalid"]) == ("10/s", 0.2, 1)


def test_the_summary_of_an_empty_file_has_only_zeros() -> None:
    told = digested([])
    assert (told.rows, told.calls, told.customers, told.stages, told.shortest_seconds) == (0, 0, 0, [], 0)
