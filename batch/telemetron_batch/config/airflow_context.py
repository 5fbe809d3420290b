"""Which Airflow task this process works for, as Airflow's environment variables tell.

Airflow sets them for every task, so the command line and the operator learn it alike.
Knows the names of variables and nothing else of Airflow.
"""

from collections.abc import Mapping
from typing import Final

MAP_INDEX: Final = "AIRFLOW_CTX_MAP_INDEX"
"""Airflow does not set this one; our operator does."""
_NAMES: Final = {
    "dagId": "AIRFLOW_CTX_DAG_ID",
    "taskId": "AIRFLOW_CTX_TASK_ID",
    "dagRunId": "AIRFLOW_CTX_DAG_RUN_ID",
    "tryNumber": "AIRFLOW_CTX_TRY_NUMBER",
    "mapIndex": MAP_INDEX,
}


def airflow_context(environ: Mapping[str, str]) -> dict[str, str]:
    """Dag, task, run, try and map index, as far as they are known; empty outside Airflow."""
    if not environ.get(_NAMES["dagId"]):
        return {}
    return {name: environ[variable] for name, variable in _NAMES.items() if environ.get(variable)}


def context_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that `airflow_context` reads, for an environment that holds nothing else."""
    return {variable: environ[variable] for variable in _NAMES.values() if variable in environ}


def describe(context: Mapping[str, str]) -> str:
    """A context as one line for people."""
    words = {"dagId": "DAG", "taskId": "task", "dagRunId": "run", "tryNumber": "try", "mapIndex": "map index"}
    return ", ".join(f"{words[name]} {text}" for name, text in context.items())
