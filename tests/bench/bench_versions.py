"""How fast a file is loaded, against another version of this program.

`python -m tests.bench.bench_versions FOLDER [ROWS]`: the folder holds the other version, such as a worktree of an
older commit. The two take turns, each time in a process of its own; a ratio compares the fastest of each.
"""

# ruff: noqa: T201 - figures are all it is for

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parents[2]
ROWS = (1_000_000, 10_000_000)
TURNS = {1_000_000: 7}
FEW_TURNS = 3
CHUNK = 100_000
LOAD = """
import sys, time
from pathlib import Path
try:
    from telemetron_batch.input.load import load
    from telemetron_batch.domain.model import InputOptions
except ImportError:  # an older version
    from batch.input.load import load
    from batch.model import InputOptions

path = sys.argv[1]
start, used = time.perf_counter(), time.process_time()
rows = len(load([path], InputOptions(), spool=Path(path).parent).rows)
print(rows, time.perf_counter() - start, time.process_time() - used)
"""
SERIALS: dict[str, Callable[[int], str]] = {
    "SN-000000001": lambda row: f"SN-{row:09d}",
    "15 digits": lambda row: f"{490154203237518 + row * 7}",
    "19 digits": lambda row: f"{8944500102198304000 + row * 7}",
}


def lines_of(first: int, count: int, serial: Callable[[int], str]) -> Iterator[str]:
    for row in range(first, first + count):
        action = "assign" if row % 10 else "unassign"
        yield f"user{row // 20}@example.com,{serial(row)},{action},Depot {row % 50},2025-03-{row % 28 + 1:02d}\n"


def write_rows(path: Path, rows: int, serial: Callable[[int], str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("customerEmail,deviceIdentifier,action,site,delivered\n")
        for first in range(0, rows, CHUNK):
            file.writelines(lines_of(first, min(CHUNK, rows - first), serial))


def loaded(version: Path, path: Path, rows: int) -> tuple[float, float]:
    """Seconds on the clock, and of processors."""
    environment = {**os.environ, "PYTHONPATH": f"{version / 'batch'}{os.pathsep}{version}"}
    command = [sys.executable, "-c", LOAD, str(path)]
    ended = subprocess.run(command, cwd=version, env=environment, capture_output=True, text=True, check=True)
    count, clock, used = ended.stdout.split()
    if int(count) != rows:
        raise SystemExit(f"{version} read {count} rows of {rows}")
    return float(clock), float(used)


def compare(other: Path, path: Path, rows: int, name: str) -> None:
    turns = TURNS.get(rows, FEW_TURNS)
    here, there = [], []
    for _ in range(turns):
        there.append(loaded(other, path, rows))
        here.append(loaded(HERE, path, rows))
    print(f"{rows:,} rows, {path.stat().st_size >> 20} MiB, serials like {name}, {turns} turns", flush=True)
    for at, what in enumerate(("clock", "processors")):
        ours, theirs = ([turn[at] for turn in times] for times in (here, there))
        times = " ".join(f"{one:.2f}/{another:.2f}" for one, another in zip(ours, theirs, strict=True))
        print(f"  {what:<11} here/there {times} s, ratio {min(ours) / min(theirs):.3f}", flush=True)


def main() -> None:
    """Print the times of both versions, and their ratios."""
    other, sizes = Path(sys.argv[1]).absolute(), [*map(int, sys.argv[2:])] or ROWS
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            for name, serial in SERIALS.items():
                path = Path(folder) / "rows.csv"
                write_rows(path, rows, serial)
                compare(other, path, rows, name)


if __name__ == "__main__":
    main()
