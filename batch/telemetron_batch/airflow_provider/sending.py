"""The base class of the operators that make calls: long waits are spent outside the worker's slot."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.providers.common.compat.sdk import conf

from telemetron_batch.airflow_provider.base import SUMMARY, TelemetronOperator
from telemetron_batch.airflow_provider.compat import AirflowRescheduleException
from telemetron_batch.domain.printable import printable

_DEFAULT_LONGEST_WAIT: Final = "5m"
"""A deferrable task waits up to this long inside its slot, unless the option `longest_wait` is given."""
_MAX_DEFERRAL: Final = timedelta(days=1)
"""The API is asked again at least once a day, even if it asks for a longer wait."""
RESUME: Final = "execute_again"


def is_deferrable_by_default() -> bool:
    """Return what Airflow's configuration says for all operators."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


class SendingOperator(TelemetronOperator):
    """A task that makes calls.

    :param deferrable: spend a wait in the triggerer and continue in the same try: a wait that the API asks for and
        that is longer than the option `longest_wait` (5 minutes), and the wait for another process that has the run or
        the key. Otherwise the task waits for the API in its slot, up to `give_up_after`, and for another
        process as a rescheduled task. By default the configuration `[operators] default_deferrable` decides.
    """

    def __init__(self, *, deferrable: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deferrable = is_deferrable_by_default() if deferrable is None else deferrable

    def execute_again(self, context: Mapping[str, Any], event: Any = None) -> Any:  # noqa: ARG002
        """Continue after a wait outside the worker's slot."""
        return self.execute(context)

    def _defaults(self) -> dict[str, Any]:
        return {**super()._defaults(), **({"longest_wait": _DEFAULT_LONGEST_WAIT} if self.deferrable else {})}

    @contextmanager
    def _deferring_locks(self) -> Iterator[None]:
        """Turn the wait for another process into a deferral, if the task is deferrable."""
        try:
            yield
        except AirflowRescheduleException as exc:
            if not self.deferrable:
                raise
            self._defer_until(exc.reschedule_date)

    def _defer_if_api_asks(self, context: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Defer the task if the API asked to wait and the task is deferrable."""
        if not self.deferrable or not fields.get("resumeAt"):
            return
        context["ti"].xcom_push(key=SUMMARY, value=dict(fields))
        self.log.info("%s: deferred until then, outside the worker's slot", printable(fields["stop"]["reason"]))
        self._defer_until(min(datetime.fromisoformat(fields["resumeAt"]), datetime.now(UTC) + _MAX_DEFERRAL))

    def _defer_until(self, moment: datetime) -> None:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        self.defer(trigger=DateTimeTrigger(moment=moment), method_name=RESUME, kwargs=self._resume_arguments())

    def _resume_arguments(self) -> dict[str, Any]:
        """Return what the next execution of this try must know."""
        return {}
