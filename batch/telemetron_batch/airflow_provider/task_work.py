"""Do the work of the program in a task: in a thread that ends with the task, with its log and Airflow's exceptions.

The modules of the program that read files and make calls are imported here and in the functions of the operators,
never when a DAG file is read.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from telemetron_batch.airflow_provider.failures import FailurePolicy
from telemetron_batch.config.airflow_context import MAP_INDEX
from telemetron_batch.domain.cancellation import CancelToken

if TYPE_CHECKING:
    from telemetron_batch.reports.summary import BaseSummary

T = TypeVar("T")


def do_in_task(
    work: Callable[..., T],
    interrupt: CancelToken,
    policy: FailurePolicy,
    *,
    accepts_empty_files: bool = True,
    on_late_result: Callable[[T], Any] = lambda _: None,
) -> T:
    """Do the work, which takes an `observer`, in a thread that ends when the task is cancelled.

    If Airflow raises a timeout meanwhile, `on_late_result` gets the result. Raises exceptions of Airflow.
    """
    from telemetron_batch.airflow_provider.task_log import TaskObserver
    from telemetron_batch.airflow_provider.task_thread import in_thread

    observer = TaskObserver(interrupt, policy.words, accepts_empty_files=accepts_empty_files)
    with policy.translate_errors(), observer.task_log():
        return in_thread(partial(work, observer=observer), interrupt, on_late_result)


def map_index_variables(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the variable for the index of a mapped task; Airflow has none."""
    index = context["ti"].map_index
    return {MAP_INDEX: str(index)} if index >= 0 else {}


def summary_dict(summary: "BaseSummary") -> dict[str, Any]:
    """Return the fields of summary.json, and the folder."""
    return {**json.loads(summary.as_json()), "folder": str(summary.folder)}
