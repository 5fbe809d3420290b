"""What the checks of the loader cost, and how its memory grows with the file.

Reading alone is opening, hashing, decoding, scanning and parsing. The two are taken in
turns, so that a busy machine slows both; each figure is a median.
"""

# ruff: noqa: T201 - figures are all it is for

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.load import load
from telemetron_batch.input.record_source import open_records
from telemetron_batch.input.row_blocks import FileStats, row_blocks
from telemetron_batch.input.serials import RoundedSerialDetector
from telemetron_batch.input.source_file import open_source

PLAIN = InputOptions()
LENGTHS = (1_000_000, 10_000_000)
WIDE = (100 << 20, 1 << 30)
TURNS = {1_000_000: 7, 10_000_000: 3}
CHUNK = 100_000
COLUMNS_MORE = 30


def write_rows(path: Path, rows: int) -> None:
    """Customers as Zipf has it: a few with very many devices, very many with one."""
    numbers = np.random.default_rng(7)
    with path.open("w", encoding="utf-8") as file:
        file.write("customerEmail,deviceIdentifier,action\n")
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            customers = np.minimum(numbers.zipf(1.3, count), 10**7).tolist()
            leaving = (numbers.random(count) < 0.1).tolist()
            file.writelines(
                f"user{customer}@example.com,SN-{first + at:09d},{'unassign' if gone else 'assign'}\n"
                for at, (customer, gone) in enumerate(zip(customers, leaving, strict=True))
            )


def write_wide(path: Path, size: int) -> None:
    """Rows of which the keys are a small part."""
    rest = ",".join(f"some text in column {at}" for at in range(COLUMNS_MORE))
    with path.open("w", encoding="utf-8") as file:
        file.write("customerEmail,deviceIdentifier,action," + ",".join(f"c{at}" for at in range(COLUMNS_MORE)) + "\n")
        for row in range(size // (len(rest) + 40)):
            file.write(f"user{row % 50_000}@example.com,SN-{row:09d},assign,{rest}\n")


def read_only(path: Path) -> None:
    stored = open_source(str(path), path.parent)
    stored.sha256()
    for _ in open_records(stored, PLAIN).read_blocks():
        pass


def read_and_check(path: Path) -> None:
    stored = open_source(str(path), path.parent)
    stored.sha256()
    source = open_records(stored, PLAIN)
    for _ in row_blocks(0, source, FileStats(RoundedSerialDetector())):
        pass


def load_all(path: Path) -> None:
    load([str(path)], PLAIN, spool=path.parent)


def taken(work: Callable[[Path], None], path: Path) -> tuple[float, float]:
    """Seconds on the clock, and of processors."""
    start, used = time.perf_counter(), time.process_time()
    work(path)
    return time.perf_counter() - start, time.process_time() - used


def peak(path: Path) -> int:
    """Most memory (KiB) that a process of its own ever held while it loaded the file."""
    command = [sys.executable, "-m", "tests.bench.bench_load", str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def own_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def compare(folder: Path, rows: int) -> None:
    path = folder / "rows.csv"
    write_rows(path, rows)
    works = (read_only, read_and_check, load_all)
    times: dict[str, list[tuple[float, float]]] = {work.__name__: [] for work in works}
    for _ in range(TURNS[rows]):
        for work in works:
            times[work.__name__].append(taken(work, path))
    print(f"{rows:,} rows, {path.stat().st_size >> 20} MiB, medians of {TURNS[rows]} turns, ratios to reading alone")
    alone, alone_used = (median(column) for column in zip(*times["read_only"], strict=True))
    for name, pairs in times.items():
        clock, used = (median(column) for column in zip(*pairs, strict=True))
        print(
            f"  {name:<15}{clock:7.2f} s {rows / clock / 1e6:5.2f} M rows/s {clock / alone:5.2f} x"
            f"   processors {used:7.2f} s {used / alone_used:5.2f} x"
        )
    path.unlink()


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        for rows in LENGTHS:
            compare(Path(folder), rows)
        peaks = []
        for size in WIDE:
            path = Path(folder) / "wide.csv"
            write_wide(path, size)
            peaks.append(peak(path) >> 10)
            print(f"wide file of {size >> 20:,} MiB: peak memory {peaks[-1]:,} MiB before planning")
            path.unlink()
        print(f"  the larger takes {peaks[1] - peaks[0]:,} MiB more")


if __name__ == "__main__":
    load([sys.argv[1]], PLAIN, spool=Path(sys.argv[1]).parent)
    print(own_peak())
