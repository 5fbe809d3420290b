"""What a run writes to the log of its task: its plan, its progress, warnings, and a summary of repeated lines.

A run may have thousands of calls that fail alike. The log of the run has a line for each; the log of the task has
the first few of each kind, and then how many more there were.
"""

import copy
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.printable import printable
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.progress import ProgressSnapshot, format_log
from telemetron_batch.storage.log import LOGGER, record_group

FIRST_LINES: Final = 5
"""Lines of one kind that the log of the task has in full."""
_PROGRESS_EVERY_S: Final = 30.0
_NOISY_LOGGERS: Final = ("httpx2", "httpcore2")


class LineLimiter:
    """Lets the first lines of each kind pass and counts the others."""

    def __init__(self, first: int = FIRST_LINES) -> None:
        self._first = first
        self._seen: Counter[Hashable] = Counter()
        self._left_out: dict[Hashable, tuple[int, str]] = {}

    def passes(self, kind: Hashable, text: str) -> bool:
        """Return whether a line of this kind is to be shown; if not, count it."""
        self._seen[kind] += 1
        if self._seen[kind] <= self._first:
            return True
        count, _ = self._left_out.get(kind, (0, ""))
        self._left_out[kind] = count + 1, text
        return False

    def take_left_out(self) -> Mapping[str, int]:
        """Return the number of lines left out since the last time, by the text of the last one of each kind."""
        left_out = {text: count for count, text in self._left_out.values()}
        self._left_out.clear()
        return left_out


class _Forwarder(logging.Handler):
    """Hands records of the program on to the handlers of Airflow, in the words of Airflow."""

    def __init__(self, limiter: LineLimiter, words: Callable[[str], str]) -> None:
        super().__init__()
        self._limiter = limiter
        self._words = words

    def emit(self, record: logging.LogRecord) -> None:
        group, text = record_group(record), record.getMessage()
        if group is not None and not self._limiter.passes(group, text):
            return
        record = copy.copy(record)
        record.msg, record.args = self._words(text), ()
        logging.getLogger().handle(record)


class TaskObserver(RunObserver):
    """Writes the plan of a run and, every half minute, its progress to the task's log."""

    def __init__(
        self, interrupt: CancelToken, words: Callable[[str], str] = str, *, accepts_empty_files: bool = True
    ) -> None:
        self.interrupt = interrupt
        self._words = words
        self._accepts_empty_files = accepts_empty_files
        self._limiter = LineLimiter()
        self._logged_at = 0.0
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)  # they log every request

    @contextmanager
    def task_log(self) -> Iterator[None]:
        """Within this context, the log of the task has no line for every call that fails."""
        forwarder, propagated = _Forwarder(self._limiter, self._words), LOGGER.propagate
        LOGGER.addHandler(forwarder)
        LOGGER.propagate = False
        try:
            yield
        finally:
            LOGGER.propagate = propagated
            LOGGER.removeHandler(forwarder)
            self._log_left_out()

    @property
    def looks_again(self) -> bool:
        """Return True: the task is rescheduled or deferred."""
        return True

    def check_plan(self, plan: PlanSummary) -> None:
        """Raise InputError if a file has neither rows nor a header, which a healthy export always has."""
        if self._accepts_empty_files:
            return
        for file in plan.files:
            if not file.header:
                advice = "nothing was sent; look whether the export ran, or accept such files with --allow-empty"
                raise InputError(f"{file.path} is empty: it has not even a header", advice)

    def confirm_plan(self, plan: PlanSummary) -> bool:
        """Log the plan and accept it."""
        text = "%d rows: %d devices of %d customers in %d calls at %s; %d duplicates, %d invalid"
        numbers = (plan.rows, plan.devices, plan.customers, plan.calls, plan.rate, plan.duplicates, plan.invalid)
        LOGGER.info(text, *numbers)
        for words in plan.held_sentences:
            LOGGER.warning("%s", printable(words))
        return True

    def on_message(self, kind: str, text: str) -> None:
        """Log warnings about the input; the program itself logs what happens while sending."""
        if kind == "warning":
            LOGGER.warning("%s", printable(text))

    def wants_progress(self) -> bool:
        """Return True, for the progress lines."""
        return True

    def on_progress(self, snapshot: ProgressSnapshot) -> None:
        """Log the progress every half minute, and how many lines were left out since."""
        if snapshot.elapsed >= self._logged_at + _PROGRESS_EVERY_S:
            self._logged_at = snapshot.elapsed
            LOGGER.info("progress: %s", format_log(snapshot))
            self._log_left_out()

    def _log_left_out(self) -> None:
        for text, count in self._limiter.take_left_out().items():
            LOGGER.info("%d more lines like this, which are in run.log: %s", count, self._words(text))
