"""Write a copy of a run without personal data, for support (`report RUN --anonymise DIR`).

People and devices are hashes with a random salt that is not kept: equal within a copy, and unlike those of any other.
Nothing else comes from the input, and no text from the API, from files or from options: every field is named here.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final

import numpy as np
import pyarrow as pa
from markupsafe import escape
from pyarrow import csv

from telemetron_batch import __version__
from telemetron_batch.domain.actions import ACTIONS
from telemetron_batch.domain.answers import ANSWER_FIELDS, FieldKind
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.errors import ConfigError, JournalError
from telemetron_batch.domain.model import Problem
from telemetron_batch.domain.printable import json_text
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.domain.stops import Stop
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.reports.write_all import reconcile
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.run.finish import load_stop_reason
from telemetron_batch.run.locking import LockWaiter, acquire_lease, lock_of_run, open_journal, require_run, run_scratch
from telemetron_batch.run.pipeline import require_begun
from telemetron_batch.run.replan import replan_from_journal
from telemetron_batch.storage.atomic_file import atomic_write, disk_errors_in, make_private_dir
from telemetron_batch.storage.clock import iso
from telemetron_batch.storage.text_hash import encode_texts

ROWS: Final = "reconciliation.csv"
SUMMARY: Final = "summary.json"
PAGE: Final = "report.html"
_ID_BYTES: Final = 8
_SALT_BYTES: Final = 32
_ANSWER_COLUMNS: Final = tuple(field.name for field in ANSWER_FIELDS if field.kind is not FieldKind.TEXT)
_OPTIONS: Final = (
    "rate", "concurrency", "chunk_size", "timeout", "attempts", "give_up_after", "longest_wait", "full_every",
    "since_last", "again", "baseline", "verify", "online", "no_hold", "auto_create_devices", "allow_suspect",
    "multiline_cells", "out_of_order", "sandbox", "xlsx", "raw_csv", "shards", "shards_at_once",
)  # fmt: skip
"""Options whose values are numbers, durations or switches."""
_MAX_EVENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Replaces texts by salted hashes."""

    salt: bytes

    def of(self, kind: str, texts: pa.Array) -> pa.Array:
        """Return for each text a value such as `person-3f0c...`; "" for an empty one."""
        codes, distinct = encode_texts(texts)
        found = [self._one(kind, text) if text else "" for text in distinct.to_pylist()]
        return pa.array(found, pa.string()).take(pa.array(codes))

    def _one(self, kind: str, text: str) -> str:
        digest = hashlib.blake2b(f"{kind}\0{text}".encode(), key=self.salt, digest_size=_ID_BYTES)
        return f"{kind}-{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class AnonymousCopy:
    """A copy that was written."""

    folder: Path
    fields: Mapping[str, Any]
    """Those of its summary.json."""


@translate_system_errors()
def write_anonymous_copy(run: Path, target: Path) -> AnonymousCopy:
    """Write the copy of the run in a folder to another folder, which is new or empty. Raises BatchError."""
    require_run(run)
    _require_empty(target)
    with (
        acquire_lease(lock_of_run(run), LockWaiter.no_wait(run.name)) as lease,
        open_journal(run, lease) as journal,
        run_scratch(run, lease) as scratch,
    ):
        require_begun(journal, "copy")
        if journal.is_in_shards and journal.fact(Fact.ENDED_AT) is None:
            raise JournalError(f"run {run.name} was made in shards", "report it first, which puts it together")
        stop = load_stop_reason(journal)
        reconciliation = reconcile(journal, replan_from_journal(journal, scratch), stop)
        make_private_dir(target)
        with disk_errors_in(target):
            names = Pseudonyms(token_bytes(_SALT_BYTES))
            reasons = _write_rows(target / ROWS, reconciliation, journal, names)
            fields = _summary(journal, reconciliation, stop, reasons)
            _write(target / SUMMARY, json_text(fields, indent=2))
            _write(target / PAGE, _page(fields))
    return AnonymousCopy(target, fields)


def _require_empty(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ConfigError(f"{target} is no folder", "name another one for the copy")
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"{target} is not empty", "name a new folder for the copy")


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode() + b"\n")


def _write_rows(
    path: Path, reconciliation: Reconciliation, journal: Journal, names: Pseudonyms
) -> Counter[tuple[str, str]]:
    """Write the rows, and return how many there are by outcome and reason."""
    counts, writer, first = Counter[tuple[str, str]](), None, 0
    with atomic_write(path) as file:
        for block in journal.blocks(cells={}):
            batch = _rows(block, first, reconciliation, names)
            writer = writer or csv.CSVWriter(file, batch.schema)
            writer.write_batch(batch)
            counts.update(zip(batch["outcome"].to_pylist(), batch["reason"].to_pylist(), strict=True))
            first += block.keys.num_rows
        if writer is not None:
            writer.close()
    return counts


def _rows(block: RowBlock, first: int, reconciliation: Reconciliation, names: Pseudonyms) -> pa.RecordBatch:
    """Return the columns of a block of rows."""
    keys, found = block.keys, reconciliation.columns(block, first)
    rows = slice(first, first + keys.num_rows)
    action = keys["action"].to_numpy()
    words = pa.array([*map(str, ACTIONS), "unknown"])
    columns = {
        "file": pa.array(np.full(keys.num_rows, block.file + 1)),
        "line": keys["line"],
        "customerEmail": names.of("person", keys["customerEmail"]),
        "deviceIdentifier": names.of("device", keys["deviceIdentifier"]),
        "action": words.take(pa.array(np.where(action < 0, len(ACTIONS), action))),
        "outcome": found["outcome"],
        "reason": _reasons(keys["problem"].to_numpy(), reconciliation, rows),
        "customerId": names.of("customer", found["customerId"]),
        "deviceId": names.of("deviceId", found["deviceId"]),
        "customerWasCreated": found["customerWasCreated"],
        "deviceWasCreated": found["deviceWasCreated"],
        "call": found["call"],
        **{name: found[name] for name in _ANSWER_COLUMNS if name in found},
    }
    return pa.record_batch(columns)


def _reasons(problem: Ints, reconciliation: Reconciliation, rows: slice) -> pa.Array:
    """Return why each row has its outcome: the name of a `Problem` or of a `Reason`; "" for no reason."""
    reason = reconciliation.details.reasons[reconciliation.detail[rows]]
    texts = {code: "" if code == Reason.NONE else Reason(code).name for code in np.unique(reason).tolist()}
    problems = {code: Problem(code).name for code in np.unique(problem[problem != 0]).tolist()}
    return pa.array(
        [problems.get(wrong) or texts[why] for wrong, why in zip(problem.tolist(), reason.tolist(), strict=True)],
        pa.string(),
    )


def _summary(
    journal: Journal, reconciliation: Reconciliation, stop: Stop | None, reasons: Counter[tuple[str, str]]
) -> dict[str, Any]:
    """Return the fields of summary.json."""
    fact = journal.fact
    attempts, refusals, unclear = journal.attempt_totals()
    attention = reconciliation.attention_counts()
    options = fact(Fact.OPTIONS) or {}
    return {
        "anonymous": True,
        "version": fact(Fact.VERSION),
        "writtenBy": __version__,
        "state": "stopped" if stop else "finished",
        "stop": None if stop is None else stop.reason.name,
        "sandbox": bool(fact(Fact.SANDBOX)),
        "startedAt": iso(fact(Fact.STARTED_AT)),
        "endedAt": iso(fact(Fact.ENDED_AT)),
        "options": {name: options[name] for name in _OPTIONS if name in options},
        "files": [{"rows": file.rows, "encoding": file.encoding} for file in journal.input_files],
        "rows": len(reconciliation.outcome),
        "counts": {str(outcome): count for outcome, count in reconciliation.counts().items()},
        "attention": sum(attention.values()),
        "attentionByOutcome": {str(outcome): count for outcome, count in attention.items() if count},
        "reasons": [
            {"outcome": outcome, "reason": reason, "rows": rows} for (outcome, reason), rows in sorted(reasons.items())
        ],
        "customers": reconciliation.plan.customers,
        "customersCreated": reconciliation.customers_created,
        "calls": reconciliation.plan.calls,
        "callsSettled": reconciliation.calls_settled,
        "attempts": attempts,
        "refusals": refusals,
        "unclearAttempts": unclear,
        "rateFound": fact(Fact.RATE_FOUND),
        "events": [{"at": iso(at), "kind": kind} for at, kind, _ in journal.events(_MAX_EVENTS)],
    }


def _page(fields: Mapping[str, Any]) -> str:
    """Return a page with the numbers."""
    causes = ((one["outcome"], one["reason"], one["rows"]) for one in fields["reasons"])
    plain = {name: value for name, value in fields.items() if not isinstance(value, list | dict)}
    parts = (
        "<!doctype html>\n<meta charset='utf-8'>\n<title>Anonymous copy of a run</title>",
        "<style>body{font:16px sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left}</style>",
        "<h1>Anonymous copy of a run</h1>",
        _table(("", ""), plain.items()),
        "<h2>Rows</h2>",
        _table(("outcome", "reason", "rows"), causes),
        "<h2>Options</h2>",
        _table(("option", "value"), fields["options"].items()),
        "<h2>Events</h2>",
        _table(("at", "kind"), ((one["at"], one["kind"]) for one in fields["events"])),
    )
    return "\n".join(parts)


def _table(header: tuple[str, ...], rows: Any) -> str:
    lines = [header, *rows]
    cells = (
        "".join(f"<td>{escape(json.dumps(cell) if isinstance(cell, bool) else cell)}</td>" for cell in line)
        for line in lines
    )
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table>"
