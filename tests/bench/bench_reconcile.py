"""The books of a large run closed, and its reconciliation written beside pyarrow writing the same table from memory.

To close them is to read every answer out of the journal; to write, to stream the input out of it
a second time beside them. Taken alternately; each figure is a median: of time, and of the time of
processor, which a busy machine moves less. Memory is that of the whole process, from the first row
that was read. More rows on request: `python -m tests.bench.bench_reconcile 10000000`.
"""

# ruff: noqa: T201 - figures are all it is for

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

import pyarrow as pa
from pyarrow import csv

from telemetron_batch.domain.model import InputOptions, PlanOptions
from telemetron_batch.input.load import load
from telemetron_batch.journal.codec import answer_json, compress_answer
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.reconciliation.answered import reconcile_answers
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.reports.csv_files import ReportInput, extra_columns, reconciliation_columns, write_reconciliation
from telemetron_batch.storage.spill import Scratch
from tests.bench.bench_load import own_peak
from tests.bench.bench_plan import write_rows
from tests.bench.bench_xlsx import answer_to

LENGTHS = (100_000, 1_000_000)
TURNS = 5
FEW = 2
"""Turns where they are long."""


def compare(folder: Path, rows: int) -> None:
    write_rows(folder / "rows.csv", rows)
    draft = JournalDraft(folder / "journal.sqlite3")
    with Scratch(folder / "scratch") as scratch:
        loaded = load([str(folder / "rows.csv")], InputOptions(), spool=folder, sink=draft.append, scratch=scratch)
        draft.publish({})
        plan = plan_calls(loaded.rows, PlanOptions())
        answer_all(folder / "journal.sqlite3", plan)
        with closing(Journal(folder / "journal.sqlite3")) as journal:
            books: list[Reconciliation] = []
            took = seconds(lambda: books.append(reconcile_answers(journal, plan, None)))
            print(f"{plan.calls:,} answers: books closed in {shown([took])}")
            measure(folder, ReportInput(loaded.files, books[0]), journal)


def answer_all(path: Path, plan: Plan) -> None:
    """Put an answer to each call into the journal, as a run in which everything was done."""
    rows = ((number, compress_answer(answer_json(answer_to(plan.call(number))))) for number in range(1, plan.calls + 1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO results (call, answer) VALUES (?, ?)", rows)


def measure(folder: Path, report: ReportInput, journal: Journal) -> None:
    blocks = journal.blocks(cells=extra_columns(report.files))
    write_reconciliation(folder / "ours.csv", report, blocks)
    peak, ours, theirs = own_peak(), list[Took](), list[Took]()
    names, columns = reconciliation_columns(report, blocks)
    table = pa.Table.from_batches([pa.record_batch(some, names=names) for some in columns])
    turns = TURNS if table.num_rows <= 10**6 else FEW
    for _ in range(turns):
        theirs.append(seconds(lambda: csv.write_csv(table, folder / "theirs.csv")))
        ours.append(seconds(lambda: write_reconciliation(folder / "ours.csv", report, blocks)))
    print(f"{table.num_rows:,} rows, {(folder / 'ours.csv').stat().st_size >> 20:,} MiB; medians of {turns}")
    print(f"  write_csv             {shown(theirs)}")
    print(f"  write_reconciliation  {shown(ours)}   peak memory {peak >> 10:,} MiB")
    ratios = [median(one[of] for one in ours) / median(one[of] for one in theirs) for of in (0, 1)]
    print(f"  {ratios[0]:.1f} times the time, {ratios[1]:.1f} times that of processor")


Took = tuple[float, float]
"""Seconds, and seconds of processor."""


def shown(took: list[Took]) -> str:
    return f"{median(one for one, _ in took):7.2f} s, {median(used for _, used in took):6.2f} s of processor"


def seconds(work: Callable[[], object]) -> Took:
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


def main() -> None:
    """Print all figures."""
    for rows in [int(rows) for rows in sys.argv[1:] if rows.isdigit()] or LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), rows)


if __name__ == "__main__":
    main()
