"""The Airflow task that this process works for, from the environment variables that Airflow sets.

The command line and the operator both use it. It depends only on the names of the variables.
"""

from collections.abc import Mapping
from typing import Final

MAP_INDEX: Final = "AIRFLOW_CTX_MAP_INDEX"
"""Set by our operator, not by Airflow."""
_NAMES: Final = {
    "dagId": "AIRFLOW_CTX_DAG_ID",
    "taskId": "AIRFLOW_CTX_TASK_ID",
    "dagRunId": "AIRFLOW_CTX_DAG_RUN_ID",
    "tryNumber": "AIRFLOW_CTX_TRY_NUMBER",
    "mapIndex": MAP_INDEX,
}


def airflow_context(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the known values of DAG, task, run, try and map index; an empty dict outside Airflow."""
    if not environ.get(_NAMES["dagId"]):
        return {}
    return {name: environ[variable] for name, variable in _NAMES.items() if environ.get(variable)}


def context_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return only the variables that `airflow_context` reads."""
    return {variable: environ[variable] for variable in _NAMES.values() if variable in environ}


def describe(context: Mapping[str, str]) -> str:
    """Return a context as one line for people."""
    words = {"dagId": "DAG", "taskId": "task", "dagRunId": "run", "tryNumber": "try", "mapIndex": "map index"}
    return ", ".join(f"{words[name]} {text}" for name, text in context.items())
