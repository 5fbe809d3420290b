"""Keep the runs of a job in order: refuse an older state of the input after a newer one has sent calls.

An older run after a newer one would assign again what the newer one has unassigned, and so leave a device with two
owners.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

import pyarrow as pa

from telemetron_batch.domain.errors import BrakeError, DiskError, ForeignRunError, JournalError
from telemetron_batch.planning.night_order import KeyColumns, as_of_later, first_opposite, written_later
from telemetron_batch.run.history import RecordedRun
from telemetron_batch.storage.clock import iso

_ADVICE = "nothing is sent; to send the older state after the newer one all the same, say --out-of-order"


def check_order(
    run: RecordedRun,
    others: Iterable[RecordedRun],
    rows: Callable[[], KeyColumns],
    warn: Callable[[str], None],
) -> None:
    """Raise BrakeError if a newer run of the same job has sent something; warn if that is possible.

    `rows` returns the key columns of the run's own input; it is called only if they are needed.
    """
    if not run.has_order:
        return
    newer = {other.night: other for other in others if other.has_order and other.is_same_job(run)}
    for night in as_of_later(run.night, newer):
        if _has_sent(newer[night], warn):
            raise BrakeError(_by_as_of(run, newer[night]), _ADVICE)
    sent = [newer[night] for night in written_later(run.night, newer) if _has_sent(newer[night], warn)]
    for other in sent:
        _refuse_opposite(run, other, rows, warn)
    if sent:
        warn(f"{_by_file(run, sent[0])}; give both their --as-of, which tells the order of nights for sure")


def _has_sent(run: RecordedRun, warn: Callable[[str], None]) -> bool:
    try:
        return run.has_sent()
    except (JournalError, DiskError, ForeignRunError) as exc:
        warn(f"whether run {run.folder.name} has sent anything is not known: {exc.reason}")
        return False


def _refuse_opposite(
    run: RecordedRun, other: RecordedRun, rows: Callable[[], KeyColumns], warn: Callable[[str], None]
) -> None:
    try:
        place = first_opposite(lambda: _valid(rows()), other.sent_rows)
    except (JournalError, DiskError, ForeignRunError) as exc:
        warn(f"what run {other.folder.name} has sent is not known: {exc.reason}")
        return
    if place is not None:
        row = f"line {place.line}" if len(run.hashes) == 1 else f"line {place.line} of file {place.file + 1}"
        raise BrakeError(f"{_by_file(run, other)}, also the opposite of what this one wants (first: {row})", _ADVICE)


def _valid(blocks: KeyColumns) -> KeyColumns:
    return ((file, keys.filter(pa.array(keys["problem"].to_numpy() == 0))) for file, keys in blocks)


def _by_as_of(run: RecordedRun, other: RecordedRun) -> str:
    ours, theirs = _text(run.night.as_of), _text(other.night.as_of)
    newer = f"run {other.folder.name} of the same job, as of {theirs}, has sent calls already"
    return f"run {run.folder.name} is as of {ours}, and {newer}"


def _by_file(run: RecordedRun, other: RecordedRun) -> str:
    ours, theirs = iso(run.night.written), iso(other.night.written)
    older = f"the input of run {run.folder.name} was written {ours}, before that of run {other.folder.name} ({theirs})"
    return f"{older}, which is of the same job and has sent calls already"


def _text(as_of: datetime | None) -> str:
    return "" if as_of is None else iso(as_of.timestamp())
