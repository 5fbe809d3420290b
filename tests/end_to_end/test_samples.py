"""The outcomes and details of the sample files are those of the golden files."""

import csv
from pathlib import Path

import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.run import pipeline

TESTS = Path(__file__).parents[1]
SAMPLES = {"erp_export": {}, "returns": {"action": "unassign"}, "transfers": {}}
COLUMNS = ("line", "customerEmail", "deviceIdentifier", "action", "outcome", "detail")


def reconciled(path: Path) -> list[tuple[str, ...]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row[name] for name in COLUMNS) for row in csv.DictReader(file)]


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    name = request.param
    flags = {"sandbox": True, "rate": "2000/s", "reports_dir": str(tmp_path_factory.mktemp("r")), **SAMPLES[name]}
    path = TESTS.parent / "sample_data" / f"{name}.csv"
    return name, pipeline.run(resolve([str(path)], flags, {}))


def test_every_row_has_its_golden_outcome(sample) -> None:
    name, summary = sample
    assert reconciled(summary.folder / "reconciliation.csv") == reconciled(TESTS / "golden" / f"{name}.csv")


def test_the_readme_of_the_samples_has_the_true_counts(sample) -> None:
    name, summary = sample
    lines = (TESTS.parent / "sample_data" / "README.md").read_text().splitlines()
    column = 2 + list(SAMPLES).index(name)
    told = {
        row.split("|")[1].strip(" `"): row.split("|")[column].strip().replace(",", "")
        for row in lines
        if row.startswith("| `") and row.count("|") == 5
    }
    counts = {str(outcome): str(count) for outcome, count in summary.counts.items() if count}
    assert {outcome: count for outcome, count in told.items() if count and not outcome.endswith(".csv")} == counts


def test_the_summary_of_a_sample_balances(sample) -> None:
    _, summary = sample
    assert summary.fields["balanced"] is True
    assert sum(summary.counts.values()) == summary.fields["rows"]
