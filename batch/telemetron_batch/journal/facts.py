"""Names of the facts that a journal stores about its run. Values are JSON.

Stored names must never change their meaning.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any


class Fact(StrEnum):
    """The stored name of a fact."""

    RUN_ID = "runId"
    RUN_ID_GENERATED = "idMadeUp"
    """Whether the program generated the run id."""
    VERSION = "version"
    """Version of the program that created the journal."""
    JOURNAL_ID = "journalId"
    """A random text that ties the witness to its journal."""
    STARTED_AT = "startedAt"
    ENDED_AT = "endedAt"
    """When the last process ended, in seconds since the epoch; null while a process works, or after it was killed."""
    STOP = "stop"
    """Why the last process ended early, as `Stop.as_fact`; null if it did not."""

    INPUTS = "inputs"
    """The input files, as `InputFile`."""
    OPTIONS = "options"
    """The options as the user gave them, without secrets."""
    FIXED_OPTIONS = "shape"
    """The options that determine what is sent."""
    PLAN_FINGERPRINT = "plan"
    """Fingerprint of the plan."""
    SAVED_PLAN = "savedPlan"
    """Of a run whose plan was saved: fingerprint, planner, and who must approve it, as `PlannedRun`."""
    APPROVAL = "approval"
    """Who approved the plan that was sent, and when, as `Approval`."""
    HOLDS_BY_INPUT = "holdsByInput"
    """Whether the plan holds assigns because of other rows of the input."""
    SANDBOX = "sandbox"
    AIRFLOW = "airflow"
    """The Airflow task that the last process worked for."""

    BASE_URL = "baseUrl"
    BASE_URL_FLAG = "baseUrlFlag"
    """The base URL that the last command line gave; null if it gave none."""
    ACCOUNT_HASH = "client"
    """Hash that identifies base URL and key."""
    JOB_KEY = "lineage"
    """Text that runs of the same job share."""
    AS_OF = "asOf"
    """Time that the input describes, as text in UTC; null if not given."""

    SINCE = "since"
    """With --since-last: the result of the comparison with earlier runs."""
    LOOKED_AT = "lookedAt"
    """With --since-last: when earlier runs were read."""
    FULL_AT = "fullAt"
    """With --since-last: when the last full run started."""
    ORIGINS = "origins"
    """With --since-last: the runs that settled rows which are left out."""
    CONFIRMED_BY = "leftOut"
    """With --since-last: the index in `ORIGINS` for each row, compressed."""
    ROW_STATES = "standing"
    """What later runs may assume about each row, compressed."""

    OWNERS = "owners"
    """With --owners: where the customers were looked up, as `OwnersSummary`."""
    OWNER_WORDS = "ownerWords"
    """What each row tells about who has its device, as `OwnerWord`, compressed."""

    ATTENTION_HASHES = "written"
    """By the name of an attention file, hashes of its last written content."""

    LATE_EFFECT_S = "quiet"
    """Seconds after which an unanswered attempt can no longer act."""
    RATE_FOUND = "rateFound"
    ALL_SETTLED = "allSent"
    """Whether every call is settled; a later stop then causes no resending."""
    UNASSIGNS_QUESTIONED = "unassignsQuestioned"
    """If no unassign had an effect: whether that needs attention. Null if not yet decided."""
    PREVIEW = "preview"
    """What a look at the customers before the run showed, in numbers, and when it ended."""
    PREVIEW_WORDS = "previewWords"
    """By row: the code of its preview word, compressed."""
    VERIFY = "verify"
    """The last verify: its number, start time and end time."""
    SUMMARY = "summary"
    """The content of summary.json."""
    PUBLISHED = "published"
    """Where the run's files were copied."""

    SHARD_LAYOUT = "division"
    """How the run is divided into shards."""
    SHARD = "shard"
    """In a shard's journal: its number."""
    CALLS_HASH = "calls"
    """In a shard's journal: hash of its calls."""
    PHASE = "phase"
    """In a shard's journal: the phase of the last process."""
    UNASSIGN_STOP = "unassigning"
    """In a shard's journal: why its unassign phase ended early."""
    MERGED_EXTENTS = "gathered"
    """By shard: the extent of its journal when it was merged."""

    OTHER_COMMITS = "notes"
    """Number of commits that added neither an attempt nor a result."""
    RECORDS_LOST = "recordsLost"
    """Number of records that the journal has lost, by its witness."""
    RECORDS_LOST_IN_SHARDS = "recordsLostInShards"


def is_finished(fact: Callable[[str], Any]) -> bool:
    """Return whether a run has finished and nothing works on it; `fact` returns a stored fact by its name."""
    return (fact(Fact.SUMMARY) or {}).get("state") == "finished" and fact(Fact.ENDED_AT) is not None
