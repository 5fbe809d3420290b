"""A sensor that waits until an export is there and complete."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue

from telemetron_batch.airflow_provider.rendered import files_in
from telemetron_batch.airflow_provider.sending import is_deferrable_by_default
from telemetron_batch.airflow_provider.settled_files import SettledFiles, missing_in, observe, seconds_since_change

_SECOND_LOOK_S: Final = 5.0
"""Seconds between the two looks of a rescheduled sensor, which remembers nothing from its last execution."""


class TelemetronFileSensor(BaseSensorOperator):
    """Waits until a file, or all files of a list, exist and have not changed for some time.

    Besides the arguments of every sensor, such as `timeout`, `poke_interval`, `mode` and `soft_fail`:

    :param file: path of the file, or a list of paths, as for TelemetronBatchOperator. (templated)
    :param settled_for: time for which size and modification time must stay the same. With
        `mode="reschedule"` the time since the last change is taken from the file instead.
    :param deferrable: wait in the triggerer. By default the configuration `[operators] default_deferrable` decides.

    Returns the file or files, for `file` of the next task.
    """

    template_fields: Sequence[str] = ("file",)
    ui_color = "#e6f1e2"

    def __init__(
        self,
        *,
        file: str | Sequence[str],
        settled_for: timedelta | float = timedelta(minutes=1),
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.settled_for = settled_for
        self.deferrable = is_deferrable_by_default() if deferrable is None else deferrable
        self._settled = SettledFiles(self._settled_for_s)

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Wait in the worker's slot, between executions of the task, or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        from telemetron_batch.airflow_provider.triggers import SettledFileTrigger

        trigger = SettledFileTrigger(files_in(self.file), self._settled_for_s, self.poke_interval)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))
        return None

    def execute_complete(self, context: Mapping[str, Any], event: Any = None) -> Any:  # noqa: ARG002
        """Return the files, which are settled."""
        self.log.info("complete: %s", event)
        return self.file

    def poke(self, context: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Return whether the files are settled, with the files as the XCom."""
        from telemetron_batch.storage.clock import RealClock

        clock = RealClock()
        states = observe(files_in(self.file))
        if missing := missing_in(states):
            self.log.info("not there yet: %s", missing)
        if not self.reschedule:
            return PokeReturnValue(self._settled.are_settled(states, clock.uptime()), self.file)
        if missing or seconds_since_change(files_in(self.file), clock.wall()) < self._settled_for_s:
            return False
        clock.sleep_blocking(min(_SECOND_LOOK_S, self._settled_for_s))
        return PokeReturnValue(observe(files_in(self.file)) == states, self.file)

    @property
    def _settled_for_s(self) -> float:
        settled_for = self.settled_for
        return settled_for.total_seconds() if isinstance(settled_for, timedelta) else float(settled_for)
