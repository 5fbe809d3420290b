"""The log of a task: no line for every call that fails."""

import logging
from collections.abc import Iterator

import pytest

from telemetron_batch.airflow_provider.airflow_words import in_airflow_words
from telemetron_batch.airflow_provider.task_log import FIRST_LINES, LineLimiter, TaskObserver
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.storage.log import LOGGER


class Lines(logging.Handler):
    """Remembers what the log of the task shows."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.shown.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, level = Lines(), LOGGER.level
    logging.getLogger().addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler.shown
    LOGGER.setLevel(level)
    logging.getLogger().removeHandler(handler)


def test_lines_of_a_kind_are_summed_up_after_the_first_ones(lines: list[str]) -> None:
    with TaskObserver(CancelToken()).task_log():
        for call in range(1000):
            LOGGER.info("call %d: customer not found", call, extra={"group": ("settled", 1)})
        LOGGER.info("ended")
    *first, ended, rest = lines
    assert first == [f"call {call}: customer not found" for call in range(FIRST_LINES)]
    assert ended == "ended"
    assert rest == "995 more lines like this, which are in run.log: call 999: customer not found"


def test_each_kind_has_its_own_first_lines(lines: list[str]) -> None:
    with TaskObserver(CancelToken()).task_log():
        for kind in ("hold", "down"):
            LOGGER.info("event %s", kind, extra={"kind": kind})
    assert lines == ["event hold", "event down"]


def test_the_log_of_the_run_keeps_every_line(lines: list[str]) -> None:
    run_log = Lines()
    LOGGER.addHandler(run_log)
    try:
        with TaskObserver(CancelToken()).task_log():
            for call in range(20):
                LOGGER.info("call %d", call, extra={"group": "x"})
    finally:
        LOGGER.removeHandler(run_log)
    assert len([line for line in run_log.shown if line.startswith("call ")]) == 20
    assert len(lines) == FIRST_LINES + 1


def test_lines_are_in_the_words_of_airflow(lines: list[str]) -> None:
    with TaskObserver(CancelToken(), in_airflow_words).task_log():
        LOGGER.warning("nothing was sent; raise --max-failed")
    assert lines == ["nothing was sent; raise the option max_failed"]


def test_what_was_left_out_is_counted_anew_after_it_was_told() -> None:
    limiter = LineLimiter(first=1)
    assert [limiter.passes("k", f"line {number}") for number in range(3)] == [True, False, False]
    assert limiter.take_left_out() == {"line 2": 2}
    assert limiter.take_left_out() == {}
