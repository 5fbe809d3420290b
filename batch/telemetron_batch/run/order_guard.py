"""Keep the runs of a job in order: refuse an older state of the input after a newer one has sent calls.

An older run after a newer one would assign again what the newer one has unassigned, and so leave a device with two
owners.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

import pyarrow as pa

from telemetron_batch.domain.errors import BrakeError, DiskError, JournalError, UntrustedRunError
from telemetron_batch.planning.run_order import (
    KeyBatches,
    find_opposite_action,
    orders_with_later_as_of,
    orders_with_newer_files,
)
from telemetron_batch.run.history import RecordedRun
from telemetron_batch.storage.clock import iso

_ADVICE = "nothing is sent; to send the older state after the newer one all the same, say --out-of-order"


def check_order(
    run: RecordedRun,
    others: Iterable[RecordedRun],
    rows: Callable[[], KeyBatches],
    warn: Callable[[str], None],
) -> None:
    """Raise BrakeError if a newer run of the same job has sent something; warn if that is possible.

    `rows` returns the key columns of the run's own input; it is called only if they are needed.
    """
    if not run.has_order:
        return
    newer = {other.order: other for other in others if other.has_order and other.is_same_job(run)}
    for order in orders_with_later_as_of(run.order, newer):
        if _has_sent(newer[order], warn):
            raise BrakeError(_by_as_of(run, newer[order]), _ADVICE)
    sent = [newer[order] for order in orders_with_newer_files(run.order, newer) if _has_sent(newer[order], warn)]
    for other in sent:
        _refuse_opposite(run, other, rows, warn)
    if sent:
        warn(f"{_by_file(run, sent[0])}; give both their --as-of, which tells the order of nights for sure")


def _has_sent(run: RecordedRun, warn: Callable[[str], None]) -> bool:
    try:
        return run.has_sent()
    except (JournalError, DiskError, UntrustedRunError) as exc:
        warn(f"whether run {run.folder.name} has sent anything is not known: {exc.reason}")
        return False


def _refuse_opposite(
    run: RecordedRun, other: RecordedRun, rows: Callable[[], KeyBatches], warn: Callable[[str], None]
) -> None:
    try:
        location = find_opposite_action(lambda: _valid(rows()), other.sent_rows)
    except (JournalError, DiskError, UntrustedRunError) as exc:
        warn(f"what run {other.folder.name} has sent is not known: {exc.reason}")
        return
    if location is not None:
        row = f"line {location.line}" if len(run.hashes) == 1 else f"line {location.line} of file {location.file + 1}"
        raise BrakeError(f"{_by_file(run, other)}, also the opposite of what this one wants (first: {row})", _ADVICE)


def _valid(blocks: KeyBatches) -> KeyBatches:
    return ((file, keys.filter(pa.array(keys["problem"].to_numpy() == 0))) for file, keys in blocks)


def _by_as_of(run: RecordedRun, other: RecordedRun) -> str:
    ours, theirs = _text(run.order.as_of), _text(other.order.as_of)
    newer = f"run {other.folder.name} of the same job, as of {theirs}, has sent calls already"
    return f"run {run.folder.name} is as of {ours}, and {newer}"


def _by_file(run: RecordedRun, other: RecordedRun) -> str:
    ours, theirs = iso(run.order.written), iso(other.order.written)
    older = f"the input of run {run.folder.name} was written {ours}, before that of run {other.folder.name} ({theirs})"
    return f"{older}, which is of the same job and has sent calls already"


def _text(as_of: datetime | None) -> str:
    return "" if as_of is None else iso(as_of.timestamp())
