"""Checked-in journals, with the results of `report`, `resume`, `runs` and a later run with `--since-last`.

Each journal has a folder, `tests/journals/schema-N/STATE/`, which holds what the folder of its run held:

    journal.sqlite3 ...   with its -wal and its witness, and the journals of its shards
    input/                the input files of the run
    world.json            how the run goes on: when, with what options, and what the API holds by then
    expected/             the files that `report` wrote when the fixture was made, the line of `runs`, and the rows
                          that a later run with `--since-last` left out
    resumed/              the files after the run went on; only where there was something left to do

Everything here works in the current folder, which has to be empty.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.stored import load_stored_config
from telemetron_batch.domain.actions import Phase
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.reports.summary import Summary
from telemetron_batch.run import pipeline
from telemetron_batch.run.listing import list_runs
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from tests.conftest import KEY, FakeClock
from tests.support.scripted import BASE_URL, ScriptedServer

JOURNALS: Final = Path(__file__).parents[1] / "journals"
REPORTS: Final = Path("reports")
DAY: Final = 86_400.0
ENVIRON: Final = {"TELEMETRON_API_KEY": KEY}
ENVIRON_WITH_URL: Final = {**ENVIRON, "TELEMETRON_BASE_URL": BASE_URL}
FILES: Final = ("reconciliation.csv", "attention.csv", "undo.csv", "summary.json")
OF_THE_RUN: Final = (f"{JOURNAL_NAME}*", "shards/*/journal.sqlite3*", "shards/*/*.arrow")
"""Files of the run's folder that a fixture contains."""

Files = dict[str, bytes]


@dataclass(frozen=True)
class Fixture:
    """A checked-in journal."""

    folder: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @cached_property
    def world(self) -> Mapping[str, Any]:
        world: dict[str, Any] = json.loads((self.folder / "world.json").read_text(encoding="utf-8"))
        return world

    @property
    def run_id(self) -> str:
        return str(self.world["run"])

    def files(self, name: str) -> Files:
        """Return the stored files of `expected` or `resumed`."""
        return {path.name: path.read_bytes() for path in sorted((self.folder / name).iterdir())}

    def place(self) -> Path:
        """Copy the run and the runs before it below the reports folder; return the run's folder."""
        for earlier in self.world["after"]:
            Fixture(self.folder.parent / earlier).place()
        target = REPORTS / self.run_id
        copy_run(self.folder, target)
        return target

    def clock(self, later: float = 0.0) -> FakeClock:
        """Return a clock at the time when the run continues."""
        clock = FakeClock()
        clock.monotonic += self.world["at"] + later - clock.wall()
        return clock

    def server(self) -> ScriptedServer:
        """Return an API in the state at the end of the run, which answers from now on."""
        server = ScriptedServer()
        for customer, devices in self.world["customers"].items():
            server.fleet.assign(customer, devices or ["SN-of-nobody"], create=True)
            if not devices:
                server.fleet.unassign(customer, ["SN-of-nobody"])
        return server


def fixtures() -> list[Fixture]:
    """Return all fixtures of every schema version."""
    return [Fixture(path.parent) for path in sorted(JOURNALS.glob("schema-*/*/world.json"))]


def copy_run(source: Path, target: Path) -> None:
    """Copy journals and calls of a run, but nothing that only a live process uses."""
    for path in sorted(path for pattern in OF_THE_RUN for path in source.glob(pattern)):
        if not path.name.endswith("-shm"):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def report(fixture: Fixture) -> Files:
    """Return the files that `report` writes from the journal."""
    folder = fixture.place()
    report_run(folder, clock=fixture.clock())
    return _files_in(folder)


def resume(fixture: Fixture) -> Files:
    """Return the files after the run was continued to its end."""
    folder = fixture.place()
    _RESUMED_BY[fixture.world["resumedBy"]](fixture, folder)
    return _files_in(folder)


def resume_finished(fixture: Fixture) -> tuple[Summary, ScriptedServer]:
    """Return the summary of a finished run that was run again, and the server, to check that it was not called."""
    folder, server = fixture.place(), fixture.server()
    return pipeline.run(_config(fixture, folder), transport=server, clock=fixture.clock()), server


def line_of_runs(fixture: Fixture) -> bytes:
    """Return the line of `runs`."""
    fixture.place()
    [line] = [line for line in list_runs(REPORTS) if line.run_id == fixture.run_id]
    return _json(line.as_json())


def left_out_since(fixture: Fixture) -> bytes:
    """Return the rows that a later run of the same job leaves out, with details and explanation."""
    fixture.place()
    paths = [_next_input(path, fixture.world["at"] + DAY) for path in sorted((fixture.folder / "input").iterdir())]
    where = {"base_url": BASE_URL, "reports_dir": str(REPORTS), "run_id": "next", "rate": "1000/s"}
    config = resolve(paths, {**where, **fixture.world["shape"], "since_last": True}, ENVIRON)
    summary = pipeline.run(config, transport=fixture.server(), clock=fixture.clock(later=DAY))
    rows = (summary.folder / "reconciliation.csv").read_text(encoding="utf-8").splitlines()
    return _json({"told": summary.fields["since"]["told"], "unchanged": [row for row in rows if '"unchanged"' in row]})


def _next_input(source: Path, written: float) -> str:
    copy = Path("input") / source.name
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, copy)
    os.utime(copy, (written, written))
    return str(copy)


def _config(fixture: Fixture, folder: Path) -> RunConfig:
    with closing(Journal(folder / JOURNAL_NAME)) as journal:
        options = journal.fact("options")
    return load_stored_config(folder, {**options, **fixture.world["options"]}, ENVIRON)


def _resume_run(fixture: Fixture, folder: Path) -> None:
    pipeline.run(_config(fixture, folder), transport=fixture.server(), clock=fixture.clock())


def _verify(fixture: Fixture, folder: Path) -> None:
    pipeline.verify(folder, ENVIRON_WITH_URL, transport=fixture.server(), clock=fixture.clock())


def _make_shards(fixture: Fixture, folder: Path) -> None:
    clock, server = fixture.clock(), fixture.server()
    shards = sorted(path.name for path in (folder / "shards").iterdir())
    where = {"base_url": BASE_URL, "reports_dir": str(REPORTS), "run_id": folder.name}
    for phase in Phase:
        for shard in shards:
            config = resolve((), {**where, "shard": shard, "phase": str(phase)}, ENVIRON)
            run_shard(config, transport=server, clock=clock)
    report_run(folder, clock=clock)


_RESUMED_BY: Final[Mapping[str, Callable[[Fixture, Path], None]]] = {
    "run": _resume_run,
    "verify": _verify,
    "shards": _make_shards,
}


def _files_in(folder: Path) -> Files:
    return {name: _without_version(folder / name) if name == "summary.json" else (folder / name).read_bytes()
            for name in FILES}  # fmt: skip


def _without_version(path: Path) -> bytes:
    fields = json.loads(path.read_bytes())
    del fields["version"]
    for file in fields["inputs"]:
        file.pop("records", None)  # not told by the versions that the files were made with
    return _json(fields)


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n"
