"""Run work in a thread of a task, and cancel it when the task ends early.

A task ends early in three ways: Airflow calls `on_kill`, raises a timeout in the main thread, or the task's
supervisor dies. In the last case Airflow considers the task dead and starts it again elsewhere while this process
would continue. So the work runs in its own thread, which no exception of Airflow interrupts, and the main thread
watches for all three.
"""

import contextvars
import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any, Final, TypeVar

from telemetron_batch.domain.cancellation import CancelToken

T = TypeVar("T")

_POLL_S: Final = 0.5
_REPORT_GRACE_S: Final = 60.0
"""How long a run ended by a timeout may take to write its files; nothing is sent meanwhile."""


def in_thread(work: Callable[[], T], interrupt: CancelToken, on_late_result: Callable[[T], Any] = lambda _: None) -> T:
    """Do the work in a thread and return its result. `interrupt` ends it early, as does the death of the supervisor.

    An exception raised in this thread meanwhile is raised again when the work has ended; `on_late_result` is called
    first with the result that the work had all the same.
    """
    parent = os.getppid()
    future: Future[T] = Future()
    Thread(
        target=contextvars.copy_context().run, args=(_fulfil, future, work), name="telemetron_batch", daemon=True
    ).start()
    try:
        while not wait([future], _POLL_S).done:
            if os.getppid() != parent:
                interrupt.cancel("the supervisor of its task is gone")
    except BaseException:
        interrupt.cancel("stopped by Airflow")
        wait([future], _REPORT_GRACE_S)
        if future.done() and future.exception() is None:
            on_late_result(future.result())
        raise
    return future.result()


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as exc:  # noqa: BLE001 - raised again by `future.result`
        future.set_exception(exc)
