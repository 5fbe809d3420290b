"""Twelve nights of a job, each in processes of its own, and what they told: messages, pings, metrics, exit codes.

Run as a module it plays them and writes the table of docs/night-job.md: `make nights`.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.disks import fill, small_disk
from tests.support.docs import DOCS, part
from tests.support.faulty import Arrived, FaultyServer, Resets
from tests.support.listeners import Listener, listening
from tests.support.scripted import Hangs, Says

PAGE: Final = DOCS / "night-job.md"
FIRST_KEY, SECOND_KEY = "key-of-the-first-nights", "key-after-its-rotation"
SETTINGS: Final = (
    "--rate",
    "200/s",
    "--min-rows",
    "10",
    "--max-failed",
    "5%",
    "--give-up-after",
    "1s",
    "--timeout",
    "5",
)
_WAIT_S: Final = 60
_METRIC: Final = re.compile(r"^telemetron_batch_(\w+?)(?:\{.*\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass
class Night:
    """One night, and what came of it."""

    title: str
    exit_codes: list[int | None] = field(default_factory=list)
    """Those of its commands; None for a killed one."""
    messages: list[str] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)
    exit_code_metric: int | None = None
    is_success_newer: bool = False
    """Whether the metrics have a later success than before the night."""
    requests: int = 0
    """How many the API got."""


class Job:
    """A job that runs every night against a faulty API."""

    def __init__(self, folder: Path, disk: Path, server: FaultyServer, listener: Listener) -> None:
        self.folder, self.disk, self.server = folder, disk, server
        self.listener = listener
        self.export, self.metrics = folder / "assignments.csv", folder / "telemetron.prom"
        self.key = folder / "key"
        self.key.write_text(FIRST_KEY)
        self.nights: list[Night] = []
        self._options = ["--job", "nights", "--base-url", server.base_url, "--reports-dir", str(disk), *SETTINGS]
        self._options += ["--notify", f"json://{listener.host}/message", "--ping", f"http://{listener.host}/ping"]
        self._options += ["--metrics", str(self.metrics), "--api-key-command", f"cat {self.key}"]
        self._options += ["--organisation", "acme"]
        self.pings_before = 0
        """How many pings came before this night."""

    @contextmanager
    def night(self, title: str) -> Iterator[Night]:
        """Keep what is told during a night."""
        night = Night(title)
        messages, success = len(self.listener.titles), self._metric("last_success_timestamp_seconds")
        self.pings_before, requests = len(self.listener.pings), len(self.server.seen)
        yield night
        self.server.script = lambda _: None
        night.requests = len(self.server.seen) - requests
        night.messages = self.listener.titles[messages:]
        night.pings = [path for path, _ in self.listener.pings[self.pings_before :]]
        night.exit_code_metric = int(self._metric("exit_code"))
        night.is_success_newer = self._metric("last_success_timestamp_seconds") > success
        self.nights.append(night)

    def _metric(self, name: str) -> float:
        text = self.metrics.read_text() if self.metrics.exists() else ""
        return float(dict(_METRIC.findall(text)).get(name, 0))

    def write(self, rows: Sequence[str]) -> None:
        """Write the export of a night."""
        self.export.write_text("\n".join(["customerEmail,deviceIdentifier,action", *rows]) + "\n")

    def start(self, run_id: str, *more: str) -> "subprocess.Popen[str]":
        """Start the job of a night."""
        command = [sys.executable, "-m", "telemetron_batch", "run", str(self.export), "--run-id", run_id]
        environ = {name: text for name, text in os.environ.items() if not name.startswith("TELEMETRON_")}
        environ |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "XDG_STATE_HOME": str(self.folder / "state")}
        return subprocess.Popen(
            [*command, *self._options, *more], cwd=self.folder, env=environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, night: Night, run_id: str, *more: str) -> str:
        """Run the job of a night to its end; return what it printed."""
        with self.start(run_id, *more) as process:
            out, err = process.communicate(timeout=_WAIT_S)
        night.exit_codes.append(process.returncode)
        return out + err


def devices(night: int, count: int = 30) -> list[str]:
    """Return the rows of an export, each for a customer of its own."""
    return [f"user{number}@example.com,SN-{night}-{number},assign" for number in range(count)]


def _play_all(job: Job) -> None:
    with job.night("a good export") as night:
        job.write(devices(1))
        job.run(night, "night-01")
    with job.night("the export of the night before again") as night:
        job.run(night, "night-02")
    with job.night("half an export, under `--min-rows`") as night:
        job.write(devices(3, 5))
        job.run(night, "night-03")
    with job.night("the API is down; the same command later") as night:
        job.write(devices(4))
        job.server.script = lambda _: Resets(acted=False)
        job.run(night, "night-04")
        job.server.script = lambda _: None
        job.run(night, "night-04")
    with job.night("the API goes down in the middle; the same command later") as night:
        job.write(devices(5))
        job.server.script = _from_the_15th(job, Resets(acted=False))
        job.run(night, "night-05")
        job.server.script = lambda _: None
        job.run(night, "night-05")
    with job.night("the key was rotated, `--api-key-command` knows the new one") as night:
        job.write(devices(6))
        job.server.script = lambda arrived: _with_new_key(job, arrived)
        job.run(night, "night-06")
    with job.night("the disk is full; the same command when there is room") as night:
        _disk_full(job, night)
    with job.night("killed with `kill -9`; the same command later") as night:
        _killed(job, night)
    _play_later_nights(job)


def _play_later_nights(job: Job) -> None:
    with job.night("too many rows fail (`--max-failed`)") as night:
        job.write(devices(9))
        job.server.script = lambda _: Says(400, {"error": "Invalid email format"})
        job.run(night, "night-09")
    with job.night("an export without rows") as night:
        job.write([])
        job.run(night, "night-10")
    with job.night("the export comes late (`--wait-for-file`)") as night:
        _late(job, night)
    with job.night("nothing has changed (`--since-last`)") as night:
        job.write(devices(11))
        job.run(night, "night-12", "--since-last")


def _from_the_15th(job: Job, fault: Any) -> Callable[[Arrived], Any]:
    before = len(job.server.seen)
    return lambda arrived: fault if arrived.number > before + 14 else None


def _with_new_key(job: Job, arrived: Arrived) -> Any:
    """Refuse the old key from now on; the command gives the new one when it is asked again."""
    if job.key.read_text() != SECOND_KEY:
        new = job.key.with_suffix(".new")
        new.write_text(SECOND_KEY)
        new.replace(job.key)
    return None if arrived.headers["x-api-key"] == SECOND_KEY else Says(401, {"error": "Invalid or missing API key"})


def _disk_full(job: Job, night: Night) -> None:
    job.write(devices(7))
    before = len(job.server.seen)
    job.server.script = lambda arrived: (fill(job.disk), None)[1] if arrived.number == before + 10 else None
    job.run(night, "night-07")
    (job.disk / "filler").unlink()
    job.server.script = lambda _: None
    job.run(night, "night-07")


def _killed(job: Job, night: Night) -> None:
    job.write(devices(8))
    before = len(job.server.seen)
    job.server.script = lambda arrived: Hangs(acted=False) if arrived.number > before + 10 else None
    with job.start("night-08") as process:
        _wait_until(lambda: len(job.server.seen) > before + 10)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    night.exit_codes.append(None)
    job.server.script = lambda _: None
    job.run(night, "night-08")


def _late(job: Job, night: Night) -> None:
    job.export.unlink()
    with job.start("night-11", "--wait-for-file", "1m", "--settled-for", "1s") as process:
        _wait_until(lambda: len(job.listener.pings) > job.pings_before)
        job.write(devices(11))
        process.communicate(timeout=_WAIT_S)
    night.exit_codes.append(process.returncode)


def _wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + _WAIT_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def play(folder: Path) -> list[Night]:
    """Play the twelve nights; return what came of each."""
    with (
        FaultyServer() as server,
        listening() as listener,
        small_disk(folder / "reports", "48m") as disk,
    ):
        job = Job(folder, disk, server, listener)
        _play_all(job)
        return job.nights


def table(nights: Sequence[Night]) -> str:
    """Return the table of the nights, in Markdown."""
    lines = ["| night | exit code | message | ping | metrics |", "| --- | --- | --- | --- | --- |"]
    for number, night in enumerate(nights, start=1):
        codes = ", ".join("killed" if code is None else str(code) for code in night.exit_codes)
        pings = ", ".join(f"`{path.removeprefix('/ping') or 'URL'}`" for path in night.pings)
        success = "newer success" if night.is_success_newer else "success of an earlier night"
        messages = "; ".join(map(_shortened, night.messages)) or "none"
        metrics = f"exit code {night.exit_code_metric}, {success}"
        lines.append(f"| {number}: {night.title} | {codes} | {messages} | {pings} | {metrics} |")
    return "\n".join(lines) + "\n"


def _shortened(title: str) -> str:
    """Return the first words of a message's title, without what differs from one night to the next."""
    sentence = title.removeprefix("telemetron-batch: ")
    return re.split(r"[:;,]", sentence)[0]


def main() -> None:
    """Play the nights, and write their table into the page."""
    with tempfile.TemporaryDirectory() as folder:
        made = table(play(Path(folder)))
    text, end = PAGE.read_text(), "<!-- end of nights -->"
    PAGE.write_text(text.replace(part(text, "nights") + end, made + end))


if __name__ == "__main__":
    main()
