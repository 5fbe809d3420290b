"""What differs between the supported versions of Airflow."""

from typing import Any

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 3.1
    from airflow.exceptions import AirflowRescheduleException

__all__ = ["AirflowRescheduleException", "waits_for_input"]


def waits_for_input(method_name: str, timeout: Any) -> Exception | None:
    """Return the exception that parks a task until a person answers; None before Airflow 3.3, which defers it."""
    try:
        from airflow.sdk.exceptions import TaskAwaitingInput
    except ImportError:
        return None
    waiting: Exception = TaskAwaitingInput(method_name=method_name, timeout=timeout)
    return waiting
