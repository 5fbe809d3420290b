"""What the workbook of a large run costs in time and memory, beside the same rows as CSV."""

# ruff: noqa: T201 - figures are all it is for

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.model import Call, InputFile, InputOptions, PlanOptions
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.input.load import load
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.reports.csv_files import ReportInput, write_reconciliation
from telemetron_batch.reports.workbook import write_xlsx
from telemetron_batch.rows.rows import RowBlock
from tests.bench.bench_load import own_peak, write_rows
from tests.reports.test_workbook import fields_of
from tests.support.builders import settle

ROWS = 200_000
AT_ONCE = 500
"""Answers booked together."""


def settled(plan: Plan) -> Reconciliation:
    """Books of a run in which everything was done."""
    books = Ledger(plan)
    for first in range(1, plan.calls + 1, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, plan.calls + 1))
        settle(books, *((number, answer_to(plan.call(number))) for number in numbers))
    return books.close("")


def answer_to(call: Call) -> Answer:
    """Everything was done."""
    done = Outcome.ASSIGNED if call.action == "assign" else Outcome.UNASSIGNED
    results = {at: DeviceResult(done, f"dev_{call.number:06x}{at:04x}") for at in range(len(call.devices))}
    return Answer(results, f"cust_{call.number:08x}", False, 200, 1, 0, 1.8e9 + call.number)


def figure(name: str, path: Path, write: Callable[[Path], object]) -> None:
    before, start = own_peak(), time.perf_counter()
    write(path)
    seconds, more = time.perf_counter() - start, own_peak() - before
    print(f"  {name:<20}{seconds:7.1f} s, {path.stat().st_size >> 20:,} MiB, peak memory {more >> 10:,} MiB more")


def write_all(
    folder: Path, books: Reconciliation, files: tuple[InputFile, ...], blocks: Callable[[], Iterable[RowBlock]]
) -> None:
    report = ReportInput(files, books)
    fields = fields_of(report)
    figure("reconciliation.csv", folder / "r.csv", lambda path: write_reconciliation(path, report, blocks()))
    figure("reconciliation.xlsx", folder / "r.xlsx", lambda path: write_xlsx(path, report, fields, blocks()))


def measure(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.csv", rows)
        draft = JournalDraft(folder / "journal.sqlite3")
        loaded = load([str(folder / "rows.csv")], InputOptions(), spool=folder, sink=draft)
        draft.publish({})
        journal = Journal(folder / "journal.sqlite3")
        books = settled(plan_calls(loaded.rows, PlanOptions()))
        print(f"{rows:,} rows, peak memory before writing {own_peak() >> 10:,} MiB")
        write_all(folder, books, loaded.files, journal.blocks)
        journal.close()


def main() -> None:
    """Print all figures, from a process of its own."""
    subprocess.run([sys.executable, "-m", "tests.bench.bench_xlsx", str(ROWS)], check=True)


if __name__ == "__main__":
    measure(int(sys.argv[1]))
