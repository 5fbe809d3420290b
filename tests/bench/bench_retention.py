"""`prune` and `forget` over a year of nights: how long they take, and how much is left."""

# ruff: noqa: T201 - figures are all it is for

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from telemetron_batch.config.config import resolve
from telemetron_batch.retention.anonymous_copy import write_anonymous_copy
from telemetron_batch.retention.forget import ForgetRequest, forget
from telemetron_batch.retention.prune import PruneRequest, prune
from telemetron_batch.run import pipeline
from telemetron_batch.storage.clock import RealClock

NIGHTS, ROWS, KEPT = 20, 20_000, 5
"""Nights, rows of each, and nights that are kept; a hundredth of the rows changes each night."""
DAY = 86_400.0


class ShiftedClock(RealClock):
    """The clock of the machine, on another day."""

    def __init__(self) -> None:
        self.days = 0

    def wall(self) -> float:
        return super().wall() + (self.days - NIGHTS) * DAY


def size_of(folder: Path) -> float:
    """Return the size of all files below a folder in MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / (1 << 20)


@contextmanager
def timed(title: str, figures: Callable[[], str]) -> Iterator[None]:
    """Print how long a block takes."""
    begun = time.perf_counter()
    yield
    print(f"  {title}: {time.perf_counter() - begun:.2f} s; {figures()}")


def make_nights(folder: Path, clock: ShiftedClock, *, since_last: bool) -> None:
    """Make the nights in the sandbox."""
    for night in range(NIGHTS):
        clock.days = night
        changed = dict.fromkeys(range(night % 100, ROWS, 100), f"-{night}")
        rows = (
            f"user{row // 200}@example.com,SN-{row}{changed.get(row, '')},assign,Room {row}\n" for row in range(ROWS)
        )
        path = folder / f"erp-{night}.csv"
        path.write_text(f"customerEmail,deviceIdentifier,action,notes\n{''.join(rows)}")
        flags = {"sandbox": True, "rate": "10000/s", "run_id": f"n{night:03}", "reports_dir": str(folder / "reports")}
        pipeline.run(resolve([str(path)], {**flags, "since_last": since_last}, {}), clock=clock)
        path.unlink()


def measure(*, since_last: bool) -> None:
    """Print the figures of one kind of nights."""
    clock = ShiftedClock()
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        reports = Path(name) / "reports"
        make_nights(Path(name), clock, since_last=since_last)
        clock.days = NIGHTS
        print(
            f"{NIGHTS} nights of {ROWS:,} rows{' with --since-last' if since_last else ''}: {size_of(reports):.0f} MiB"
        )

        def sizes() -> str:
            history = reports / "history.sqlite3"
            kept = history.stat().st_size / (1 << 20) if history.exists() else 0.0
            return f"reports folder {size_of(reports):.0f} MiB, history {kept:.2f} MiB"

        with timed(f"prune --keep {KEPT}d", sizes):
            prune(PruneRequest(reports, KEPT * DAY), clock=clock)
        with timed("prune again", sizes):
            prune(PruneRequest(reports, KEPT * DAY), clock=clock)
        with timed("forget one of 100 people", sizes):
            forget(ForgetRequest(reports, ["user17@example.com"]), clock=clock)
        with timed("forget one who is in no file", sizes):
            forget(ForgetRequest(reports, ["nobody@example.com"]), clock=clock)
        with timed("report --anonymise of one night", lambda: f"copy {size_of(Path(name) / 'copy'):.1f} MiB"):
            write_anonymous_copy(reports / f"n{NIGHTS - 1:03}", Path(name) / "copy")


def main() -> None:
    """Print the figures."""
    with TemporaryDirectory() as state, patch.dict("os.environ", {"XDG_STATE_HOME": state}):
        measure(since_last=True)
        measure(since_last=False)


if __name__ == "__main__":
    main()
