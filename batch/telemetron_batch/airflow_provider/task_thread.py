"""Run work in a thread of a task, and cancel it when the task ends early.

A task ends early in three ways: Airflow calls `on_kill`, raises a timeout in the main thread, or the task's
supervisor dies. In the last case Airflow considers the task dead and starts it again elsewhere while this process
would continue. So the work runs in its own thread, which no exception of Airflow interrupts, and the main thread
watches for all three.
"""

import contextvars
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Final, TypeVar

from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.printable import printable
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.progress import ProgressSnapshot, format_log

T = TypeVar("T")

_POLL_S: Final = 0.5
_REPORT_GRACE_S: Final = 60.0
"""How long a run ended by a timeout may take to write its files; nothing is sent meanwhile."""
_PROGRESS_EVERY_S: Final = 30.0
_NOISY_LOGGERS: Final = ("httpx2", "httpcore2")


def in_thread(work: Callable[[], T], interrupt: CancelToken) -> T:
    """Do the work in a thread and return its result. `interrupt` ends it early, as does the death of the supervisor.

    An exception raised in this thread meanwhile is raised again when the work has ended.
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
        return future.result()
    except BaseException:
        interrupt.cancel("stopped by Airflow")
        wait([future], _REPORT_GRACE_S)
        raise


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as exc:  # noqa: BLE001 - raised again by `future.result`
        future.set_exception(exc)


class TaskObserver(RunObserver):
    """Writes the plan of a run and, every half minute, its progress to the task's log."""

    def __init__(self, interrupt: CancelToken, log: logging.Logger) -> None:
        self.interrupt = interrupt
        self._log = log
        self._logged_at = 0.0
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)  # they log every request

    def confirm_plan(self, plan: PlanSummary) -> bool:
        """Log the plan and accept it."""
        text = "%d rows: %d devices of %d customers in %d calls at %s; %d duplicates, %d invalid"
        numbers = (plan.rows, plan.devices, plan.customers, plan.calls, plan.rate, plan.duplicates, plan.invalid)
        self._log.info(text, *numbers)
        for words in plan.held_sentences:
            self._log.warning("%s", printable(words))
        return True

    def on_message(self, kind: str, text: str) -> None:
        """Log warnings about the input; the program itself logs what happens while sending."""
        if kind == "warning":
            self._log.warning("%s", printable(text))

    def wants_progress(self) -> bool:
        """Return True, for the progress lines."""
        return True

    def on_progress(self, snapshot: ProgressSnapshot) -> None:
        """Log the progress every half minute."""
        if snapshot.elapsed >= self._logged_at + _PROGRESS_EVERY_S:
            self._logged_at = snapshot.elapsed
            self._log.info("progress: %s", format_log(snapshot))
