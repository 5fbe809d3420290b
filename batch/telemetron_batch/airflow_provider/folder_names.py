"""The names of runs and of their folders under Airflow."""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

RUN_ID: Final = (
    "{{ dag.dag_id }}.{{ task.task_id }}.{{ run_id }}{% if ti.map_index >= 0 %}.{{ ti.map_index }}{% endif %}"
)
"""The same for every try of a task, and different for every DAG run; it must not contain the try's number."""
_MAX_NAME_LENGTH: Final = 150


def current_run_id(context: Mapping[str, Any]) -> str:
    """Return what the template RUN_ID gives, for a task that has no template."""
    index = context["ti"].map_index
    parts = (context["dag"].dag_id, context["task"].task_id, context["run_id"], *([str(index)] if index >= 0 else []))
    return ".".join(parts)


def folder_name(run_id: str) -> str:
    """Return a run id of Airflow as a folder name, without characters such as `:` that some storage refuses."""
    name = re.sub(r"[^\w.+@=-]", "_", run_id.strip()).lstrip(".")
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    return f"{name[:_MAX_NAME_LENGTH]}-{sha256(run_id.encode()).hexdigest()[:12]}"
