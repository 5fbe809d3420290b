"""What a DataFrame costs instead of the file with the same rows: time, and memory beyond that of the frame itself.

Each measurement is a process of its own. The frame is in memory before the measurement begins, so the peak shows only
what planning it takes in addition. Columns: those of `bench_load`, and wider ones.
"""

# ruff: noqa: T201 - figures are all it is for

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import telemetron_batch as tb
from tests.bench.bench_load import write_rows, write_wide

ROWS = 1_000_000
WIDE_BYTES = 200 << 20
TURNS = 3


def plan_file(path: Path) -> Callable[[], Any]:
    """Return what plans the file."""
    return lambda: tb.plan(path)


def plan_frame(path: Path) -> Callable[[], Any]:
    """Return what plans a frame of texts."""
    frame = _frame(path)
    return lambda: tb.plan(frame)


def plan_objects(path: Path) -> Callable[[], Any]:
    """Return what plans a frame of Python objects, as older versions of pandas hold texts."""
    frame = _frame(path).astype(object)
    return lambda: tb.plan(frame)


def read_by_us(path: Path) -> Callable[[], Any]:
    """Return what reads the file as `Result` reads those of a run."""
    from telemetron_batch.python_api.result_frames import read_frame

    return lambda: read_frame(path)


def read_by_pandas(path: Path) -> Callable[[], Any]:
    """Return what reads it as a user would."""
    return lambda: _frame(path)


def _frame(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False)


WORKS = {work.__name__: work for work in (plan_file, plan_frame, plan_objects, read_by_pandas, read_by_us)}


def measure(name: str, path: Path) -> dict[str, float]:
    """Return seconds, and the MiB by which the peak of memory grows."""
    work = WORKS[name](path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before, began = _memory("VmRSS"), time.perf_counter()
    result = work()
    figures = {"seconds": time.perf_counter() - began, "mib": (_memory("VmHWM") - before) / 1024}
    del result
    return figures


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def _measure_apart(name: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.bench_frames", name, str(path)]
    figures: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return figures


def compare(path: Path, what: str) -> None:
    """Print the figures of one file, as ratios to the first work of each pair."""
    print(f"{what}, {path.stat().st_size >> 20} MiB, medians of {TURNS} turns")
    turns = [{name: _measure_apart(name, path) for name in WORKS} for _ in range(TURNS)]
    for name in WORKS:
        base = "plan_file" if name.startswith("plan") else "read_by_pandas"
        seconds, mib = (median(turn[name][key] for turn in turns) for key in ("seconds", "mib"))
        base_seconds, base_mib = (median(turn[base][key] for turn in turns) for key in ("seconds", "mib"))
        ratios = f"{seconds / base_seconds:5.2f} x {mib / base_mib:6.2f} x"
        print(f"  {name:<15}{seconds:7.2f} s {mib:7.0f} MiB more   {ratios} of {base}")


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write_rows(path, ROWS)
        compare(path, f"{ROWS:,} rows of 3 columns")
        write_wide(path, WIDE_BYTES)
        compare(path, "rows of 33 columns")


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
