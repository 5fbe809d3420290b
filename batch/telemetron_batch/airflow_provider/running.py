"""Runs the program inside a task, and ends it the moment the task is no longer wanted.

A task ends early in three ways: Airflow calls `on_kill`, raises a timeout into the main
thread, or its supervisor dies. The last is the dangerous one: Airflow then takes the task
for dead and starts it again elsewhere while this process would go on. So the work is done
in a thread of its own, which no exception from outside can tear apart, and the main
thread watches.
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

_LOOK_EVERY: Final = 0.5
_REPORT_GRACE_S: Final = 60.0
"""Seconds that the files of a run ended by a timeout may take; nothing is sent in them."""
_TOLD_EVERY: Final = 30.0
_NOISY_LOGGERS: Final = ("httpx2", "httpcore2")


def in_thread(work: Callable[[], T], interrupt: CancelToken) -> T:
    """Do the work in a thread of its own and give what it gives; the interrupt ends it early.

    Also a supervisor that is gone does, within a second. What is raised into this thread
    meanwhile is raised when the work has ended.
    """
    parent = os.getppid()
    future: Future[T] = Future()
    Thread(
        target=contextvars.copy_context().run, args=(_fulfil, future, work), name="telemetron_batch", daemon=True
    ).start()
    try:
        while not wait([future], _LOOK_EVERY).done:
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
    except BaseException as exc:  # noqa: BLE001 - raised again where the future is asked
        future.set_exception(exc)


class TaskObserver(RunObserver):
    """Tells the task's log how a run goes: its plan, then a line every half minute."""

    def __init__(self, interrupt: CancelToken, log: logging.Logger) -> None:
        self.interrupt = interrupt
        self._log = log
        self._told_at = 0.0
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)  # they tell of every request

    def confirm_plan(self, plan: PlanSummary) -> bool:
        """Say what is to come, and go on."""
        told = "%d rows: %d devices of %d customers in %d calls at %s; %d duplicates, %d invalid"
        numbers = (plan.rows, plan.devices, plan.customers, plan.calls, plan.rate, plan.duplicates, plan.invalid)
        self._log.info(told, *numbers)
        for words in plan.held:
            self._log.warning("%s", printable(words))
        return True

    def on_message(self, kind: str, text: str) -> None:
        """Warnings about the input; what happens while sending the program logs itself."""
        if kind == "warning":
            self._log.warning("%s", printable(text))

    def wants_progress(self) -> bool:
        """For the lines between."""
        return True

    def on_progress(self, view: ProgressSnapshot) -> None:
        """Say how far it is, now and then."""
        if view.elapsed >= self._told_at + _TOLD_EVERY:
            self._told_at = view.elapsed
            self._log.info("progress: %s", format_log(view))
