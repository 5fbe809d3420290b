"""What it costs to plan the same rows from CSV, Parquet, JSON lines and a query of PostgreSQL.

Each plan is a process of its own, so that its peak memory is its own. Without PostgreSQL the query is left out.
"""

# ruff: noqa: T201 - figures are all it is for

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from telemetron_batch.config.config import resolve
from telemetron_batch.run.make_plan import make_plan
from tests.support.postgres import PROGRAMS, PostgresServer, postgres

ROWS = 1_000_000
MANY_ROWS = 5_000_000
CHUNK = 100_000
NAMES = ("customerEmail", "deviceIdentifier", "action", "site", "count")
TABLE = """
CREATE TABLE IF NOT EXISTS moved AS SELECT 'c' || n / 20 || '@example.com' AS "customerEmail",
'SN-' || lpad(n::text, 9, '0') AS "deviceIdentifier", 'assign' AS action, 'Site ' || n % 100 AS site, n AS count
FROM generate_series(0, {last}) AS n"""


def columns(first: int, count: int) -> list[list[str] | range]:
    numbers = range(first, first + count)
    return [
        [f"c{n // 20}@example.com" for n in numbers],
        [f"SN-{n:09}" for n in numbers],
        ["assign"] * count,
        [f"Site {n % 100}" for n in numbers],
        numbers,
    ]


def chunks(rows: int) -> Iterator[list[list[str] | range]]:
    return (columns(first, min(CHUNK, rows - first)) for first in range(0, rows, CHUNK))


def write_csv(path: Path, rows: int) -> None:
    with path.open("w") as file:
        file.write(",".join(NAMES) + "\n")
        for chunk in chunks(rows):
            file.writelines(",".join(map(str, row)) + "\n" for row in zip(*chunk, strict=True))


def write_json(path: Path, rows: int) -> None:
    with path.open("w") as file:
        for chunk in chunks(rows):
            records = (dict(zip(NAMES, row, strict=True)) for row in zip(*chunk, strict=True))
            file.writelines(json.dumps(record) + "\n" for record in records)


def write_parquet(path: Path, rows: int) -> None:
    schema = pa.schema([*((name, pa.string()) for name in NAMES[:-1]), (NAMES[-1], pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for chunk in chunks(rows):
            writer.write_table(pa.table(chunk, schema=schema))


def measure(name: str, rows: int, arguments: Sequence[str]) -> None:
    """Plan in a process of its own, and print its time and its peak memory."""
    command = [sys.executable, "-m", "tests.bench.bench_sources", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    planned, seconds, processor, peak = ended.stdout.split()
    assert int(planned) == rows
    times = f"{float(seconds):6.1f} s  {float(processor):6.1f} s of processor"
    print(f"{name:<8} {rows:>10,} rows {times}  peak {int(peak) >> 10:>6,} MiB", flush=True)


def plan_once(arguments: Sequence[str]) -> None:
    """Print rows, seconds, seconds of the processor and the peak of memory in KiB."""
    began = time.monotonic()
    is_query = arguments[0] == "query"
    flags = {"query": arguments[1], "source_url_file": arguments[2]} if is_query else {}
    plan = make_plan(resolve([] if is_query else arguments, flags, {}))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(plan.rows, time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)


WRITERS = {"csv": write_csv, "parquet": write_parquet, "jsonl": write_json}


def measure_files(folder: Path, rows: int) -> None:
    for name, write in WRITERS.items():
        path = folder / f"rows.{name}"
        write(path, rows)
        measure(name, rows, [str(path)])
        path.unlink()


def measure_query(folder: Path, server: PostgresServer, rows: int) -> None:
    server.execute("DROP TABLE IF EXISTS moved", TABLE.format(last=rows - 1))
    url_file = folder / "url"
    url_file.write_text(server.url())
    url_file.chmod(0o600)
    measure("query", rows, ["query", "SELECT * FROM moved ORDER BY count", str(url_file)])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        measure_files(Path(name), ROWS)
        if PROGRAMS is None:
            print("query        without PostgreSQL: left out")
            return
        with postgres() as server:
            for rows in (ROWS, MANY_ROWS):
                measure_query(Path(name), server, rows)


if __name__ == "__main__":
    plan_once(sys.argv[1:])
