"""The runs under a reports folder: when, what, in which state, and what to do next."""

import json
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Final

from batch.clock import iso
from batch.errors import DiskError, JournalError
from batch.stops import StopReason
from batch.storage.claims import is_elsewhere, is_in_use
from batch.storage.facts import Fact
from batch.storage.journal import Journal
from batch.storage.lock import is_held
from batch.storage.reader import AFTER_LOSS, JournalReader, PublishedJournal

JOURNAL: Final = "journal.sqlite3"
LOCK: Final = "run.lock"
_PROGRAM: Final = "telemetron-batch"


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run, for a list of them."""

    run_id: str
    started_at: str
    input: str
    rows: int
    state: str
    """running, finished, stopped, interrupted (its process died), incomplete (its journal lost records) or unreadable.

    Of one that is made in shards also planned (none has begun) or in shards (not put together yet).
    """
    as_of: str | None
    """The time of which its input is the state."""
    attention: int | None
    exit_code: int | None
    next_step: str

    def as_json(self) -> dict[str, Any]:
        """By the names of the JSON document."""
        return {
            "runId": self.run_id,
            "startedAt": self.started_at,
            "input": self.input,
            "rows": self.rows,
            "state": self.state,
            "asOf": self.as_of,
            "attention": self.attention,
            "exitCode": self.exit_code,
            "nextStep": self.next_step,
        }


def list_runs(reports_dir: Path) -> list[RunLine]:
    """All runs under the folder, the newest first."""
    lines = [_line(path.parent) for path in reports_dir.glob(f"*/{JOURNAL}")]
    return sorted(lines, key=lambda line: (line.started_at, line.run_id), reverse=True)


def _line(folder: Path) -> RunLine:
    if is_held(folder / LOCK):
        return _from(folder, _under_way(folder), "running", "wait for it")
    elsewhere = is_elsewhere(folder / LOCK)
    if elsewhere is not None:
        # Whether that process lives is not to be told at a glance.
        return _from(folder, _under_way(folder), "running", f"wait for {elsewhere}; if it has died: {_resume(folder)}")
    try:
        journal = Journal(folder / JOURNAL)
    except (JournalError, DiskError) as exc:
        return RunLine(folder.name, "", "", 0, "unreadable", None, None, None, str(exc))
    try:
        if journal.loss:
            return _from(folder, _begun(journal), "incomplete", f"{journal.loss}; {AFTER_LOSS}")
        fields, in_shards = journal.meta(Fact.SUMMARY) or {}, journal.meta(Fact.DIVISION) is not None
        if fields and journal.meta(Fact.ENDED_AT) is not None:
            return _ended(folder, fields, in_shards=in_shards)
        begun = _begun(journal)
        return _in_shards(folder, begun) if in_shards else _from(folder, begun, "interrupted", _resume(folder))
    finally:
        journal.close()


def _in_shards(folder: Path, fields: Mapping[str, Any]) -> RunLine:
    """One that is made in shards, and was not put together yet."""
    begun = [path.parent for path in folder.glob(f"shards/*/{JOURNAL}")]
    if any(is_in_use(shard / LOCK) for shard in begun):
        return _from(folder, fields, "running", "wait for its shards")
    if not begun:
        return _from(folder, fields, "planned", shard_command(folder))
    return _from(folder, fields, "in shards", _command("report", folder))


def _ended(folder: Path, fields: Mapping[str, Any], *, in_shards: bool) -> RunLine:
    if fields["state"] == "stopped":
        next_step = f"its shards again, then {_command('report', folder)}" if in_shards else _resume(folder)
        if fields["stop"].get("code") in (StopReason.NOT_THE_API, StopReason.REDIRECTED):
            next_step = fields["stop"]["advice"]
        return _from(folder, fields, "stopped", next_step)
    return _from(folder, fields, "finished", "look at attention.csv" if fields["attention"] else "nothing")


def _resume(folder: Path) -> str:
    """The command that goes on with the run."""
    return _command("resume", folder)


def shard_command(folder: Path) -> str:
    """The command that makes a shard, N, of the run."""
    where = "" if folder.parent == Path("reports") else f" --reports-dir {quote(str(folder.parent))}"
    return f"{_PROGRAM} run --run-id {folder.name} --shard N{where}"


def _command(name: str, folder: Path) -> str:
    """A command for a run; where that is not under the usual folder, by its path."""
    return f"{_PROGRAM} {name} {folder.name if folder.parent == Path('reports') else quote(str(folder))}"


def _from(folder: Path, fields: Mapping[str, Any], state: str, next_step: str) -> RunLine:
    told = fields.get("input", {})
    return RunLine(
        run_id=folder.name,
        started_at=fields.get("startedAt", ""),
        input=told.get("name", ""),
        rows=told.get("rows", 0),
        state=state,
        as_of=fields.get("asOf"),
        attention=fields.get("attention"),
        exit_code=fields.get("exitCode") if state in ("finished", "stopped") else None,
        next_step=next_step,
    )


def _begun(journal: JournalReader) -> dict[str, Any]:
    """What a journal began with, by the names of a summary."""
    inputs = journal.meta(Fact.INPUTS, [])
    told = {"name": ", ".join(one["name"] for one in inputs), "rows": sum(one["rows"] for one in inputs)}
    return {"startedAt": iso(journal.meta(Fact.STARTED_AT)), "asOf": journal.meta(Fact.AS_OF), "input": told}


def _under_way(folder: Path) -> dict[str, Any]:
    """What is known of a run whose journal is being written: what the last process left, or what it began with."""
    with suppress(JournalError, DiskError), closing(PublishedJournal(folder / JOURNAL)) as journal:
        return _begun(journal) | _summary(folder)
    return _summary(folder)


def _summary(folder: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads((folder / "summary.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return fields
