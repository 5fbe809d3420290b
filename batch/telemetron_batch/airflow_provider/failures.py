"""Tell Airflow how a task ends: retry what may succeed later, fail at once what a person must correct, or wait.

Another process that holds the run or the key is no failure: the task looks again later and uses up no try.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from telemetron_batch.airflow_provider.airflow_words import CLEAR, RETRY, in_airflow_words
from telemetron_batch.airflow_provider.compat import AirflowRescheduleException
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.domain.outcomes import DONE, Outcome
from telemetron_batch.domain.printable import printable
from telemetron_batch.domain.stops import ExitCode

FAIL_ON: Final = ("stopped", "incomplete", "attention")
LOOK_AGAIN_S: Final = 60.0
"""Seconds after which a task looks again whether another process still has its run or key."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """Finds the exception with which a task ends; its messages name the connection."""

    conn_id: str | None = None
    look_again_s: float = LOOK_AGAIN_S

    def words(self, text: str, again: str = CLEAR) -> str:
        """Return a message of the program in the words of Airflow."""
        return in_airflow_words(text, f"connection {self.conn_id}" if self.conn_id else "the connection", again)

    def failure(self, message: str) -> Exception:
        """Return the exception that fails the task without another try."""
        kind: type[Exception] = AirflowFailException
        return kind(self.words(message))

    def retry(self, message: str) -> Exception:
        """Return the exception that fails this try only."""
        kind: type[Exception] = AirflowException
        return kind(self.words(message, RETRY))

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translate errors that keep work from starting. Raises exceptions of Airflow."""
        try:
            yield
        except BatchError as exc:
            if exc.exit_code is ExitCode.LOCKED:
                self.look_again_later(self.words(str(exc)))
            raise (self.retry if exc.exit_code is ExitCode.STOPPED else self.failure)(str(exc)) from exc

    def look_again_later(self, reason: str) -> NoReturn:
        """Raise the exception that ends this execution and repeats it later, in the same try."""
        moment = datetime.now(UTC) + timedelta(seconds=self.look_again_s)
        _log.info("%s. The task looks again at %s and uses up no try", printable(reason), f"{moment:%H:%M:%S} UTC")
        raise AirflowRescheduleException(moment)

    def exception_if_stopped(self, fields: Mapping[str, Any]) -> Exception | None:
        """Return the exception for work that stopped early; None if it did not stop."""
        if not fields["stop"]:
            return None
        text = "; ".join(filter(None, (fields["stop"]["reason"], fields["stop"]["advice"])))
        if fields["exitCode"] == ExitCode.LOCKED:
            self.look_again_later(self.words(text))
        return (self.retry if fields["exitCode"] == ExitCode.STOPPED else self.failure)(text)

    def problem(self, fields: Mapping[str, Any], fail_on: str) -> Exception | None:
        """Return the exception with which the task of a run fails under `fail_on`; None if it succeeds."""
        problem = self.exception_if_stopped(fields)
        if problem is not None or fail_on == "stopped":
            return problem
        return self._nothing_succeeded(fields) or self._attention_wanted(fields, fail_on)

    def _nothing_succeeded(self, fields: Mapping[str, Any]) -> Exception | None:
        """Return the exception for a finished run in which no row succeeded although it had rows to send; else None.

        A skipped row succeeded unless it wants attention, or the run tolerates that outcome.
        """
        counts, wanting = fields["counts"], fields["attentionByOutcome"]
        succeeded = sum(counts[outcome] for outcome in DONE) + counts[Outcome.SKIPPED]
        if not _tolerates_skipped(fields):
            succeeded -= wanting.get(Outcome.SKIPPED, 0)
        if succeeded or fields["rows"] == counts[Outcome.DUPLICATE]:
            return None
        found = ", ".join(f"{count} {outcome}" for outcome, count in wanting.items())
        where = Path(fields["folder"]) / "attention.csv"
        advice = 'correct the cause, then start a new run of the DAG (for the same file with options={"again": True})'
        return self.failure(f"no row succeeded ({found}): see {where}, {advice}")

    def _attention_wanted(self, fields: Mapping[str, Any], fail_on: str) -> Exception | None:
        """Return the exception that fails the task if rows want attention and `fail_on` is "attention"."""
        if fail_on == "attention" and fields["exitCode"] == ExitCode.ATTENTION:
            return self.failure(f"{fields['attention']} rows want attention: see attention.csv")
        return None


def check_fail_on(fail_on: str) -> None:
    """Raise ValueError for an unknown value of `fail_on`, when the DAG is parsed."""
    if fail_on not in FAIL_ON:
        raise ValueError(f"fail_on: {fail_on!r} is none of {', '.join(FAIL_ON)}")


def _tolerates_skipped(fields: Mapping[str, Any]) -> bool:
    tolerated = fields["options"].get("tolerate", ())
    return Outcome.SKIPPED in (OPTIONS_BY_KEY["tolerate"].parse(text) for text in tolerated)
