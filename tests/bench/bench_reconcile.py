"""The reconciliation of a large run written, beside pyarrow writing the same table from memory.

The books are closed before; what is measured streams the input out of the journal a
second time beside them. Taken alternately; each figure is a median.
"""

# ruff: noqa: T201 - figures are all it is for

import tempfile
import time
from pathlib import Path
from statistics import median

import pyarrow as pa
from pyarrow import csv

from batch.input.load import load
from batch.model import InputOptions, PlanOptions
from batch.planning.plan import plan_calls
from batch.reconciliation.report_csv import Report, reconciled, write_reconciliation
from batch.storage.journal import Journal, JournalDraft
from batch.storage.scratch import Scratch
from tests.bench.bench_load import own_peak
from tests.bench.bench_plan import write_rows
from tests.bench.bench_xlsx import settled

LENGTHS = (100_000, 1_000_000)
TURNS = 3


def compare(folder: Path, rows: int) -> None:
    write_rows(folder / "rows.csv", rows)
    draft = JournalDraft(folder / "journal.sqlite3")
    with Scratch(folder / "scratch") as scratch:
        loaded = load([str(folder / "rows.csv")], InputOptions(), spool=folder, sink=draft.add, scratch=scratch)
        draft.publish({})
        journal = Journal(folder / "journal.sqlite3")
        report = Report(loaded.files, settled(plan_calls(loaded.rows, PlanOptions())))
        measure(folder, report, journal)
        journal.close()


def measure(folder: Path, report: Report, journal: Journal) -> None:
    before, ours, theirs = own_peak(), list[float](), list[float]()
    ours.append(seconds(lambda: write_reconciliation(folder / "ours.csv", report, journal.blocks())))
    peak = own_peak()
    names, columns = reconciled(report, journal.blocks())
    table = pa.Table.from_batches([pa.record_batch(some, names=names) for some in columns])
    for _ in range(TURNS):
        theirs.append(seconds(lambda: csv.write_csv(table, folder / "theirs.csv")))
        ours.append(seconds(lambda: write_reconciliation(folder / "ours.csv", report, journal.blocks())))
    told, alone = median(ours), median(theirs)
    print(f"{table.num_rows:,} rows, {(folder / 'ours.csv').stat().st_size >> 20:,} MiB; medians of {TURNS}")
    print(f"  write_csv             {alone:7.2f} s")
    print(f"  write_reconciliation  {told:7.2f} s {told / alone:5.2f} x   {(peak - before) >> 10:,} MiB more memory")


def seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    """Print all figures."""
    for rows in LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), rows)


if __name__ == "__main__":
    main()
