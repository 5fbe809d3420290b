"""Say in the words of Airflow what the program says in those of its command line.

A flag becomes an argument or an option of the task, or a field of the connection, and "run the same command again"
becomes "clear this task". Imports nothing of Airflow.
"""

import re
from typing import Final

from telemetron_batch.config.options import OPTIONS_BY_KEY

ARGUMENTS: Final = ("as_of", "run_id", "reports_dir", "shards", "shards_at_once", "shard", "phase")
"""Options of `run` that are arguments of the operators."""

_CONNECTION: Final = "<connection>"
_PASSWORD: Final = f"the password of {_CONNECTION}"
_AGAIN: Final = "<again>"
_NEW_RUN: Final = "start a new run of the DAG"
_CLEAR_ITS_TASK: Final = "clear the task of that run"
_CLEAR_SHARDS: Final = "clear the shards that failed with their downstream tasks"
_PHRASES: Final = {
    r"say --again\b": f'{_NEW_RUN} with options={{"again": True}}',
    r"(?:start (?:again|a new run)|plan(?: the file| it| the run)?(?: again)?) \w+ another --run-id": _NEW_RUN,
    r"(?:name|give) another --run-id": _NEW_RUN,
    r"(?:set )?TELEMETRON_API_KEY or (?:name a file with )?--api-key-file(?: \(or try --sandbox\))?": _PASSWORD,
    r"the host of --base-url": f"the host of {_CONNECTION}",
    r"HTTPS_PROXY or TELEMETRON_PROXY": f"HTTPS_PROXY or of the extra proxy of {_CONNECTION}",
    r"name another proxy with --proxy": f"name another proxy as the extra proxy of {_CONNECTION}",
    r"see telemetron-batch run --help": "the page of options lists all of them",
    r"wait for it, or give run --wait \w+": "this task looks again by itself",
    r"run (?:them|it|its shards) again \(telemetron-batch run [^)]*\)(?:, then report again)?": _CLEAR_SHARDS,
    r"(?:run|go on with it:|write it again:) telemetron-batch (?:resume|report|run) [^;,)]*": _CLEAR_ITS_TASK,
    r"run the same command again(?: with --[\w-]+ \S+(?: --[\w-]+ \S+)*)?(?: (?:to go on|later|then)\b)?": _AGAIN,
    r"the same command\b": "this task when it is cleared",
    r"(?:say|give) (?=--)": "set ",
}
"""Patterns of whole phrases, and what replaces them. Flags that stand alone come after them."""
_FIELDS: Final = {
    "base_url": f"the host of {_CONNECTION}",
    "api_key_file": _PASSWORD,
    **{
        key: f"the extra {key} of {_CONNECTION}"
        for key in ("api_key_command", "proxy", "ca_file", "client_cert", "client_key", "limit_url", "organisation")
    },
}
"""Options that belong into the connection, and where."""
_FLAG: Final = re.compile(
    r"(?P<article>\b(?:an?|another|fewer|lower|their|the) )?(?<![\w-])--(?P<name>[a-z][a-z-]*[a-z])\b"
)


CLEAR: Final = "clear this task"
RETRY: Final = "Airflow repeats the task while it has tries left; after that, clear it"


def in_airflow_words(text: str, connection: str = "the connection", again: str = CLEAR) -> str:
    """Return a message of the program for the log of a task.

    `connection` names the connection in use, `again` says how the work is continued.
    """
    for pattern, words in _PHRASES.items():
        text = re.sub(pattern, words, text)
    return _FLAG.sub(_flag_words, text).replace(_CONNECTION, connection).replace(_AGAIN, again)


def _flag_words(found: re.Match[str]) -> str:
    """Return what a flag is in Airflow, with the article that stands before it."""
    key, article = found["name"].replace("-", "_"), found["article"] or "the "
    if key in ARGUMENTS:
        return f"{article}argument {key}"
    if key in _FIELDS:
        return _FIELDS[key]
    option = OPTIONS_BY_KEY.get(key)
    if option is not None and not option.metavar:
        return f'options={{"{key}": True}}'
    return f"{article}option {key}"
