"""Operators for one run made by many tasks, wherever their workers are.

    plan ── unassign[N] ── barrier ── assign[N] ── reconcile

Plan gives the list of shards over which both phases are expanded; what they do goes by
way of the run's folder, which all workers share. `groups.telemetron_task_group` puts them
together.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any, Final, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from telemetron_batch.airflow_provider.base import (
    SUMMARY,
    FolderOperator,
    InputOperator,
    ReportingOperator,
    SendingOperator,
    TelemetronOperator,
    stopped,
    summary_dict,
)
from telemetron_batch.airflow_provider.place import sharing_warning
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.actions import Phase
from telemetron_batch.run.locking import LockWaiter
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sharding.barrier import barrier
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage.trusted_folders import shared_with_group

T = TypeVar("T")

RUN_ID: Final = "{{ dag.dag_id }}.{{ run_id }}"
"""The same for all tasks of a DAG's run."""
MAP_INDEX_TEMPLATE: Final = "shard {{ task.shard['shard'] }}"
PLAN: Final = "plan"

_PATIENCE: Final = 60.0
"""Seconds in which a shard has ended that Airflow has given up."""


class TelemetronPlanOperator(InputOperator):
    """Plans a run and divides it into shards.

    Besides `reports_dir`, `telemetron_conn_id`, `options` and `as_of`:

    :param file: path of the input, or a list of paths; only this task reads it. (templated)
    :param shards: into how many shards. (templated)
    :param shards_at_once: how many of them run at once and share the rate; None: all.
    :param run_id: the run's id; the default is made of DAG and run. (templated)
    :param skip_if_empty: skip all tasks when the input has no rows; else that is an error.

    Gives the list of shards that have calls to make, to expand a TelemetronShardOperator over.
    """

    template_fields: Sequence[str] = (*InputOperator.template_fields, "shards")

    def __init__(
        self,
        *,
        shards: int | str = 4,
        shards_at_once: int | None = None,
        run_id: str = RUN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(run_id=run_id, **kwargs)
        self.shards = shards
        self.shards_at_once = shards_at_once

    def execute(self, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Plan; the same again changes nothing."""
        self._check_shared_storage()
        config = self._config(context, shards=self.shards, shards_at_once=self.shards_at_once)
        planned = self._run_in_thread(partial(plan_shards, config))
        context["ti"].xcom_push(key=PLAN, value=planned.as_json())
        if skipped := self._skip_exception(planned.summary.rows):
            raise skipped
        busy = [shard for shard in planned.shards if any(shard.calls.values())]
        # Airflow skips what follows an empty list, and what is reconciled may be rows of which none is sent.
        return [shard.as_json() for shard in busy or planned.shards[:1]]

    def _check_shared_storage(self) -> None:
        """Can other workers see the folder?"""
        if not Path(self.reports_dir).is_absolute():
            raise AirflowFailException(f"reports_dir {self.reports_dir} is relative; name one that all workers share")
        if doubt := sharing_warning(Path(self.reports_dir)):
            self.log.warning("%s", doubt)


class TelemetronShardOperator(SendingOperator):
    """Makes the calls of one shard in one phase.

    Besides `reports_dir`, `telemetron_conn_id`, `options`, `as_of` and `deferrable`:

    :param shard: one of those that TelemetronPlanOperator gave, or its number. (templated)
    :param phase: "unassign", or "assign" for all that comes after.
    :param run_id: the run's id, as in the plan. (templated)

    Rows that failed do not fail the task: what became of each is in the reconciliation.
    Gives the shard's summary.
    """

    template_fields: Sequence[str] = (*TelemetronOperator.template_fields, "shard")

    def __init__(
        self,
        *,
        shard: Mapping[str, Any] | int | str,
        phase: str,
        run_id: str = RUN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(run_id=run_id, **kwargs)
        self.shard = shard
        self.phase = phase
        if phase not in tuple(Phase):
            raise ValueError(f"phase: {phase!r} is neither unassign nor assign")

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Make the calls of the phase, or go on with them."""
        if not self.folder.exists():
            what = f"on {gethostname()} there is no {self.folder}"
            raise AirflowException(f"{what}: is reports_dir on storage that all workers share?")
        number = self.shard["shard"] if isinstance(self.shard, Mapping) else self.shard
        config = self._config(context, shard=number, phase=self.phase)
        fields = summary_dict(self._run_in_thread(partial(run_shard, config)))
        self._deferred(context, fields)
        if problem := stopped(fields):
            context["ti"].xcom_push(key=SUMMARY, value=fields)
            raise problem
        return fields

    def _defaults(self) -> dict[str, Any]:
        # A try before this one may be about to end; and other DAGs may use the key.
        return {**super()._defaults(), "wait": "1m"}


class TelemetronBarrierOperator(FolderOperator):
    """Looks at what the unassigns of all shards have left behind, when none is at them any more.

    :param run_id: the run's id, as in the plan. (templated)

    Devices whose unassign is not sure are held by the assigns that follow. Gives in numbers
    what is left, and which shards have not made all of their unassigns.
    """

    def __init__(self, *, run_id: str = RUN_ID, **kwargs: Any) -> None:
        super().__init__(run_id=run_id, **kwargs)

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Look."""
        left = self._run_in_thread(partial(_retry_while_locked, barrier, self.folder)).as_json()
        if not left["complete"]:
            self.log.warning("shards %s have not made all of their unassigns", left["unfinishedShards"])
        return left


class TelemetronReconcileOperator(ReportingOperator):
    """Puts together what all shards did: one outcome for every row, also of shards that never ran.

    Besides `reports_dir`:

    :param run_id: the run's id, as in the plan. (templated)
    :param fail_on: "stopped" fails the task when shards have calls left to make; "incomplete"
        also when they have none and no row succeeded; "attention" also when rows want attention.
    :param reports_url: where `reports_dir` can be seen in a browser, for the link. (templated)

    Gives the run's summary, as in summary.json, and its folder.
    """

    def __init__(self, *, run_id: str = RUN_ID, **kwargs: Any) -> None:
        super().__init__(run_id=run_id, **kwargs)

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Write the files, then say how the run ended."""
        self._push_report_url(context)
        fields = summary_dict(self._run_in_thread(partial(_retry_while_locked, report_run, self.folder)))
        problem = self._problem(fields)
        if fields["state"] == "stopped":  # what the shards have left to do is not done by trying this again
            problem = AirflowFailException(str(problem))
        return self._finish(context, fields, problem)


def _retry_while_locked(work: Callable[[Path], T], folder: Path, *, face: RunObserver) -> T:
    """Do what a shard that is about to end stands in the way of."""
    # These tasks take no options of a run; where all workers share folders, their environment says so.
    option = OPTIONS_BY_KEY["shared_reports_dir"]
    with shared_with_group(option.parse(os.environ.get(option.variable, ""))):
        return LockWaiter.for_seconds(folder.name, _PATIENCE, face=face).retry_while_locked(partial(work, folder))
