"""From a file to its plan: time beside reading it alone and beside polars, memory as the file grows.

Every turn is a process of its own. They are taken alternately, so that a busy machine
slows all; each figure is a median, and the ratios are what to look at. Needs the extra
`bench`. Other lengths on request, and a plot of all of them; of a hundred million rows only
we are measured, for the others want more memory than a laptop has:

    python -m tests.bench.bench_plan 100000 1000000 10000000 100000000 growth.svg
"""

# ruff: noqa: T201 - figures are all it is for

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from pyarrow import csv

from telemetron_batch.domain.model import InputOptions, PlanOptions
from telemetron_batch.input.load import load
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.storage.spill import Scratch
from tests.bench.bench_load import own_peak
from tests.bench.plot import growth

LENGTHS = (100_000, 1_000_000, 10_000_000)
TURNS = 3
MANY = 10**8
CHUNK = 250_000
ROWS_A_CUSTOMER = 20


def write_rows(path: Path, rows: int) -> None:
    """About 20 rows a customer as Zipf has it, 1 % duplicates, 0.5 % bad emails, 30 % written oddly, 2 % moves."""
    numbers = np.random.default_rng(7)
    customers = max(1, rows // ROWS_A_CUSTOMER)
    shares = np.cumsum(1 / (np.arange(customers) + 10.0) ** 0.9)
    whose = numbers.permutation(customers)
    names = ["customerEmail", "deviceIdentifier", "action"]
    schema = pa.schema([(name, pa.string()) for name in names])
    with csv.CSVWriter(path, schema, write_options=csv.WriteOptions(quoting_style="none")) as file:
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            customer = whose[np.searchsorted(shares, numbers.random(count) * shares[-1])].tolist()
            chance, repeat = numbers.random((3, count)).tolist(), numbers.random(count).tolist()
            cells: list[list[str]] = []
            for at in range(count):
                if cells and repeat[at] < 0.01:
                    cells.append(cells[-1])
                    continue
                serial, action = first + at, "unassign" if chance[0][at] < 0.25 else "assign"
                if cells and repeat[at] < 0.03:
                    serial, action = first + at - 1, "assign" if cells[-1][2] == "unassign" else "unassign"
                cells.append([_email(customer[at], chance[1][at]), f"SN-{serial:010}", action])
            columns = [pa.array(column, pa.string()) for column in zip(*cells, strict=True)]
            file.write_batch(pa.record_batch(columns, schema=schema))


def _email(customer: int, chance: float) -> str:
    email = f"user.{customer:07}@corp{customer % 997}.example.com"
    if chance < 0.005:
        return email.replace("@", "(at)")
    return email.upper() if chance < 0.15 else f" {email} " if chance < 0.3 else email


def read_alone(path: Path) -> int:
    """What any program has to do: the floor."""
    return csv.read_csv(path).num_rows


def with_polars(path: Path) -> int:
    """The same groups with polars, streaming: no check but of the email, no order among calls."""
    import polars as pl

    email = pl.col("customerEmail").str.strip_chars().str.to_lowercase()
    rows = pl.scan_csv(path, infer_schema=False).with_row_index("row").with_columns(email)
    rows = rows.filter(pl.col("customerEmail").str.contains(r"^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$"))
    rows = rows.unique(["customerEmail", "deviceIdentifier", "action"], keep="first")
    groups = rows.group_by("action", "customerEmail").agg(
        pl.col("row").sort(), pl.col("deviceIdentifier").sort_by("row")
    )
    calls = groups.with_columns(calls=(pl.col("row").list.len() + 499) // 500)
    return int(calls.sort("action", "calls").collect(engine="streaming")["calls"].sum())


def load_and_plan(path: Path) -> int:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, Scratch(Path(folder) / "scratch") as scratch:
        loaded = load([str(path)], InputOptions(), spool=Path(folder), scratch=scratch)
        return plan_calls(loaded.rows, PlanOptions()).calls


WORKS: dict[str, Callable[[Path], int]] = {work.__name__: work for work in (read_alone, with_polars, load_and_plan)}


def taken(work: str, path: Path) -> tuple[float, float, int]:
    """Seconds on the clock and of processors, and most memory (KiB), of a process that does this work."""
    command = [sys.executable, "-m", "tests.bench.bench_plan", work, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(told[0]), float(told[1]), int(told[2])


def compare(folder: Path, rows: int) -> dict[str, tuple[float, float, int]]:
    """Medians by the name of the work, printed."""
    path = folder / "rows.csv"
    write_rows(path, rows)
    works, turns = (["load_and_plan"], 1) if rows >= MANY else ([*WORKS], TURNS)
    figures: dict[str, list[tuple[float, float, int]]] = {name: [] for name in works}
    for _ in range(turns):
        for name, found in figures.items():
            found.append(taken(name, path))
    medians = {name: tuple(map(median, zip(*found, strict=True))) for name, found in figures.items()}
    print(f"{rows:,} rows, {path.stat().st_size >> 20:,} MiB; medians of {turns}, ratios to reading alone")
    alone, alone_used, _ = medians.get("read_alone", (0, 0, 0))
    for name, (clock, used, peak) in medians.items():
        ratios = [f"{one / other:6.2f} x" if other else "" for one, other in ((clock, alone), (used, alone_used))]
        print(
            f"  {name:<14}{clock:8.2f} s {ratios[0]}   processors {used:8.2f} s {ratios[1]}"
            f"   peak memory {int(peak) >> 10:,} MiB",
            flush=True,
        )
    path.unlink()
    return medians


def draw(path: Path, figures: dict[int, dict[str, tuple[float, float, int]]]) -> None:
    """Time and memory over the number of rows."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {"seconds": {}, "peak memory, MiB": {}}
    for rows, medians in figures.items():
        for name, (clock, _, peak) in medians.items():
            panels["seconds"].setdefault(name, []).append((rows, clock))
            panels["peak memory, MiB"].setdefault(name, []).append((rows, peak / 1024))
    path.write_text(growth(panels))


def main() -> None:
    """Print all figures, and draw them if a file is named for that."""
    lengths = [int(rows) for rows in sys.argv[1:] if rows.isdigit()] or LENGTHS
    with tempfile.TemporaryDirectory() as folder:
        figures = {rows: compare(Path(folder), rows) for rows in lengths}
    for path in sys.argv[1:]:
        if path.endswith(".svg"):
            draw(Path(path), figures)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in WORKS:
        if sys.argv[1] == with_polars.__name__:
            import_module("polars")  # before the clock is started, as all else
        start, used = time.perf_counter(), time.process_time()
        WORKS[sys.argv[1]](Path(sys.argv[2]))
        print(time.perf_counter() - start, time.process_time() - used, own_peak())
    else:
        main()
