"""Leave out of removed runs what a newer removed run of the same job tells as well.

A job that sends everything every night would otherwise keep every device once for each night. A word about a customer
and a device is left out if the newer run has one about the same two, and began after the older one could still act.
"""

from collections.abc import Sequence
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.journal.removed_runs import HistoryDraft, RemovedRun
from telemetron_batch.owners.last_words import OwnerWord
from telemetron_batch.rows.rows import joined_pairs


def leave_out_superseded(draft: HistoryDraft, newer: RemovedRun) -> None:
    """Leave out of earlier runs of the same job the rows that a removed run supersedes."""
    if not newer.has_rows:
        return
    rows = [batch for batch in draft.rows(newer) if batch.num_rows]
    for older in draft.runs():
        if rows and supersedes(newer, older):
            before = [*draft.rows(older)]
            after = [without_superseded(batch, rows) for batch in before]
            if sum(one.num_rows for one in after) < sum(one.num_rows for one in before):
                draft.replace_rows(older, after)


def supersedes(newer: RemovedRun, older: RemovedRun) -> bool:
    """Return whether a run of the same job is so much older that only its last words could count."""
    is_same_job = (newer.api, newer.account_hash, newer.job_key) == (older.api, older.account_hash, older.job_key)
    is_later = newer.first_attempt_at >= older.last_attempt_at + older.late_effect_s
    is_newer_input = None in (newer.written, older.written) or (newer.written or 0.0) >= (older.written or 0.0)
    return is_same_job and is_later and is_newer_input and older.has_rows


def without_superseded(rows: pa.RecordBatch, newer: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of an older run that still tell something; both as `ROW_SCHEMA` has them."""
    pairs = joined_pairs(rows)
    told, took, known = (
        _among(pairs, [joined_pairs(batch.filter(chosen)) for batch, chosen in zip(newer, flags, strict=True)])
        for flags in zip(*map(_flags, newer), strict=True)
    )
    says_nothing = pc.equal(rows["word"], int(OwnerWord.NOTHING))
    superseded = pc.if_else(says_nothing, known, told)
    return rows.filter(pc.invert(pc.and_(superseded, pc.or_(took, pc.invert(rows["took"])))))


def _flags(batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return which rows tell something of an owner, which took the device, and all."""
    told = pc.not_equal(batch["word"], int(OwnerWord.NOTHING))
    return told, batch["took"], pa.repeat(True, batch.num_rows)


def _among(pairs: pa.Array, others: Sequence[pa.Array]) -> pa.Array:
    return reduce(pc.or_, [pc.is_in(pairs, value_set=one) for one in others])
