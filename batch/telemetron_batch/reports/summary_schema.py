"""The JSON Schema of summary.json, field by field. A field that is not described here fails the tests."""

from typing import Final

from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.json_schema import (
    DIALECT,
    Schema,
    array,
    count,
    counts,
    flag,
    nullable,
    number,
    record,
    text,
    time_text,
)
from telemetron_batch.domain.model import OwnerSource
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.preview import PREVIEW_WORDS
from telemetron_batch.domain.stops import StopReason

_FILE_NAME: Final = {"type": "string", "pattern": r"^[^/\\]+$"}
_STOP: Final = record(
    "Why the run ended early; null if it has finished.",
    {
        "code": text("The reason as a code.", enum=[str(reason) for reason in StopReason]),
        "reason": text("The reason as a sentence."),
        "advice": text("What to do next."),
    },
)
_RESUME_AT: Final = nullable(time_text("When the API may be asked again, if it asked for a long wait."))
_EXIT_CODE: Final = {
    "type": "integer",
    "minimum": 0,
    "maximum": 255,
    "description": "The exit code: 0 done, 1 some rows want attention, 3 stopped, 4 refused by the API or a proxy, "
    "5 stopped by a brake, or the one of --empty-exit-code.",
}
_STATE: Final = text("Whether the run came to its end.", enum=["finished", "stopped"])
_ATTEMPTS: Final = {
    "attempts": count("Tries at calls, each one request."),
    "refusals": count("Attempts that the API refused because of its rate limit; they are repeated."),
    "unclearAttempts": count("Attempts without a usable answer, which may have been carried out."),
}

_INPUT_FILE: Final = record(
    "An input file.",
    {
        "name": text("Its name."),
        "path": text("Where it was read from: a path, a URL, or - for standard input."),
        "sha256": text("Hash of its bytes.", pattern="^[0-9a-f]{64}$"),
        "rows": count("Its rows."),
        "records": count("Its records; fewer than rows if --split made several rows of one."),
        "encoding": text("Its encoding, or the kind of workbook."),
        "delimiter": text("Its delimiter, in words; empty for a workbook."),
        "header": array({"type": "string"}, "The headers as written."),
        "headerLine": count("The line on which the header stands."),
        "columns": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "The header in which each field was found.",
        },
        "warnings": array({"type": "string"}, "What is unusual about the file."),
        "trailerCount": nullable(count("The number of rows that its last line names, with --trailer-count.")),
        "hiddenRows": count("Hidden or filtered rows that --hidden skip has left out."),
    },
)
_EVENT: Final = record(
    "A pause, an outage or another event.",
    {"at": time_text("When it happened."), "kind": text("Its kind."), "text": text("What happened.")},
)
_ORIGIN: Final = {
    "runId": text("Name of the run, and of its folder."),
    "version": text("The version of telemetron-batch that wrote this file."),
    "asOf": nullable(text("The time that the input describes (--as-of).")),
    "baseUrl": text("Base URL of the API, without credentials."),
    "baseUrlFlag": nullable(text("The base URL if it was given as a flag, so that `resume` needs it too.")),
    "sandbox": flag("Whether the run was sent to the embedded stand-in."),
    "options": {
        "type": "object",
        "description": "The options that are not the default, by name with underscores; without secrets.",
    },
    "airflow": nullable(
        record(
            "The Airflow task that the run was started by; null without Airflow.",
            {
                "dagId": text("Its DAG."),
                "taskId": text("Its task."),
                "dagRunId": text("Its DAG run."),
                "tryNumber": text("The number of the try."),
                "mapIndex": text("The index of a mapped task."),
            },
            optional=("taskId", "dagRunId", "tryNumber", "mapIndex"),
        )
    ),
    "fingerprint": nullable(text("Short fingerprint of the saved plan; null if the plan was not saved.")),
    "approval": nullable(
        record(
            "Who planned and approved; null if the plan was not saved.",
            {
                "plannedBy": text("The user who planned."),
                "approvedBy": nullable(text("The user who approved; null if nobody did.")),
                "approvedAt": nullable(time_text("When it was approved.")),
            },
        )
    ),
}
_RESULT: Final = {
    "state": _STATE,
    "exitCode": _EXIT_CODE,
    "balanced": {
        "const": True,
        "description": "As many rows were reported as were read; otherwise this file is not written.",
    },
    "stop": nullable(_STOP),
    "resumeAt": _RESUME_AT,
}
_INPUTS: Final = {
    "input": record(
        "The input in short.",
        {
            "name": text("Names of the files, separated by commas."),
            "sha256": text("Hashes of the files, separated by commas."),
            "rows": count("Rows of all files."),
        },
    ),
    "inputs": array(_INPUT_FILE, "The input files in order."),
    "hiddenRows": count("Hidden or filtered rows that were left out."),
    "owners": record(
        "Where customers were looked up, with --owners.",
        {
            "source": text("The kind of source.", enum=[str(source) for source in OwnerSource]),
            "name": text("The file, or `earlier runs`."),
            "sha256": nullable(text("Hash of the file; null for earlier runs.")),
        },
    ),
    "ownersFound": count("Rows whose customer was found."),
    "ownersNotFound": count("Rows whose customer was not found."),
}
_ROWS: Final = {
    "rows": count("Rows of the input; each has exactly one outcome."),
    "counts": counts("Rows with each outcome.", Outcome),
    "attention": count("Rows that want attention; they stand in attention.csv."),
    "attentionByOutcome": counts(
        "Rows that want attention, by outcome; outcomes without any are left out.", Outcome, all_required=False
    ),
    "undoRows": count("Rows of undo.csv: what the run is sure to have changed."),
    "unassignsWithoutEffect": count("Unassign rows that changed nothing."),
    "customersWithoutDevices": count("Customers who have no device left after their last unassign of the run."),
    "customersStillHolding": count("Of customers with unassign rows only: those who still have devices."),
}
_CALLS: Final = {
    "customers": count("Customers of the plan."),
    "customersCreated": count("Customers that the run has created."),
    "customersPerhapsCreated": count("Customers that an attempt without an answer may have created."),
    "calls": count("Planned calls."),
    "callsSettled": count("Calls whose devices are all settled."),
    **_ATTEMPTS,
    "events": array(_EVENT, "The first 200 events of the run."),
}
_TIMES: Final = {
    "startedAt": text("When the run began. ISO 8601 in UTC."),
    "endedAt": text("When it ended. ISO 8601 in UTC; empty if its process was killed."),
    "startedBy": nullable(
        record(
            "Who started the run; null in runs of earlier versions.",
            {
                "user": text("Name of the user at the operating system."),
                "uid": {"type": "integer", "description": "Number of that user."},
                "host": text("Name of the machine."),
                "version": text("Version of the program."),
            },
        )
    ),
    "seconds": nullable(number("From start to end.")),
    "sendingSeconds": number("From the first attempt to the last."),
    "rateReached": nullable(number("Attempts per second between the first and the last.")),
    "rateFound": nullable(number("Attempts per second that the API allows, as refusals have shown; null if unknown.")),
}
_FILES: Final = {
    "files": array(_FILE_NAME, "The files for people in the run's folder."),
    "attentionFiles": array(_FILE_NAME, "The current attention files: a person may have edited older ones."),
    "published": nullable(text("Where --publish has copied the files.")),
    "unpublished": text("Where the files could not be copied, and why."),
    "unwritten": array({"type": "string"}, "Files that could not be written, and why."),
}
_DELTA: Final = {
    "since": nullable(
        record(
            "What --since-last compared with; null without it.",
            {
                "run": nullable(text("The earlier run; null if there is none.")),
                "full": flag("Whether all rows were sent."),
                "told": text("The reason, for people."),
            },
        )
    ),
}
_PREVIEW: Final = {
    "preview": counts("What the look before sending showed, in rows.", PREVIEW_WORDS),
    "customersToCreate": count("Customers whom an assign would create, by that look."),
    "customersNotKnown": count("Customers of whom the look knows nothing, for want of an answer."),
    "previewedAt": time_text("When the look was complete."),
    "rowsChangedByOthers": count("Rows whose outcome differs from what the look showed."),
}
_VERIFY: Final = {
    "verify": record(
        "What --verify, or the command verify, found.",
        {
            "startedAt": text("When it began. ISO 8601 in UTC."),
            "endedAt": text("When it ended. ISO 8601 in UTC; empty if it did not."),
            "customersAsked": count("Customers who were queried."),
            "customersMissed": count("Customers who could not be queried."),
            "rows": counts(
                "Rows that the API confirms (yes), contradicts (no), or says nothing of (blank).",
                ("yes", "no", "blank"),
            ),
            "rowsSettled": count("Rows whose outcome only this query has shown."),
        },
    ),
}
_OPTIONAL: Final = ("owners", "ownersFound", "ownersNotFound", "unpublished", "unwritten", *_PREVIEW, *_VERIFY)
_SHARD: Final = record(
    "The summary.json in the folder of a shard, and what `run --shard --json` writes.",
    {
        "runId": _ORIGIN["runId"],
        "shard": {"type": "integer", "minimum": 1, "description": "Number of the shard."},
        "shards": {"type": "integer", "minimum": 1, "description": "Number of shards of the run."},
        "phase": nullable(text("The part that was made last; null for all.", enum=[*map(str, Phase), None])),
        "state": _STATE,
        "exitCode": _EXIT_CODE,
        "stop": nullable(_STOP),
        "resumeAt": _RESUME_AT,
        "calls": count("Calls of the shard."),
        "callsSettled": count("Calls whose devices are all settled."),
        "counts": counts("Devices by what the API answered.", Outcome, all_required=False),
        **_ATTEMPTS,
        "endedAt": time_text("When the process ended."),
    },
)


def summary_schema() -> Schema:
    """Return the schema of a run's summary.json; that of a shard's is `$defs/shard` in it."""
    fields = _ORIGIN | _RESULT | _INPUTS | _ROWS | _CALLS | _TIMES | _FILES | _DELTA | _PREVIEW | _VERIFY
    whole = record("What a run did: summary.json in its folder, and what `--json` writes.", fields, _OPTIONAL)
    return {"$schema": DIALECT, "title": "summary.json of telemetron-batch", **whole, "$defs": {"shard": _SHARD}}
