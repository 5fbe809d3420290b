"""Operators that make one run with many tasks, on any workers.

    plan ── unassign[N] ── barrier ── assign[N] ── reconcile

The plan returns the list of shards over which both phases are expanded. The tasks exchange data through the run's
folder, which all workers share. `groups.telemetron_task_group` combines them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from telemetron_batch.airflow_provider.approval import APPROVE, plan_words
from telemetron_batch.airflow_provider.base import SUMMARY, FolderOperator, TelemetronOperator
from telemetron_batch.airflow_provider.inputs import InputOperator
from telemetron_batch.airflow_provider.reporting import ReportingOperator
from telemetron_batch.airflow_provider.sending import SendingOperator
from telemetron_batch.airflow_provider.task_work import summary_dict
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.actions import Phase

if TYPE_CHECKING:
    from telemetron_batch.sending.observer import RunObserver

T = TypeVar("T")

RUN_ID: Final = "{{ dag.dag_id }}.{{ run_id }}"
"""The same for all tasks of a DAG run."""
MAP_INDEX_TEMPLATE: Final = "shard {{ task.shard['shard'] }}"
PLAN: Final = "plan"
QUESTION: Final = "question"
"""Key of the XCom with what a person must know to approve the plan."""

_LOCK_WAIT_S: Final = 60.0
"""A shard whose task Airflow has ended releases its lock within this time."""


class TelemetronPlanOperator(InputOperator):
    """Plans a run and divides it into shards.

    Besides `reports_dir`, `telemetron_conn_id`, `options` and `as_of`:

    :param file: path of the input, or a list of paths; only this task reads it. (templated)
    :param shards: number of shards. (templated)
    :param shards_at_once: how many of them run at once and share the rate; None: all.
    :param run_id: the run's id; by default made of DAG and run. (templated)
    :param skip_if_empty: skip all tasks if the input has no rows; else that is an error.

    Returns the list of shards that have calls, to expand a TelemetronShardOperator over.
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
        """Plan the run; repeating it changes nothing."""
        from telemetron_batch.sharding.shard_plan import plan_shards

        config = self._config(context, shards=self.shards, shards_at_once=self.shards_at_once)
        with self._with_rows(context, config) as config:
            planned = self._run_in_thread(partial(plan_shards, config))
        context["ti"].xcom_push(key=PLAN, value=planned.as_json())
        context["ti"].xcom_push(key=QUESTION, value=f"{plan_words(planned.summary)} Run `{planned.run_id}`.")
        if skipped := self._skip_exception(planned.summary.rows):
            raise skipped
        busy = [shard for shard in planned.shards if any(shard.calls.values())]
        # Airflow skips all tasks after an empty list; but a run without calls has rows to be reconciled, too.
        return [shard.as_json() for shard in busy or planned.shards[:1]]


class TelemetronShardOperator(SendingOperator):
    """Makes the calls of one shard in one phase.

    Besides `reports_dir`, `telemetron_conn_id`, `options`, `as_of` and `deferrable`:

    :param shard: a shard returned by TelemetronPlanOperator, or its number. (templated)
    :param phase: "unassign", or "assign" for all later stages.
    :param run_id: the run's id, as in the plan. (templated)
    :param approval_task_id: task of Airflow's ApprovalOperator without whose approval nothing is sent.

    Failed rows do not fail the task; their outcomes are in the reconciliation.
    Returns the shard's summary.
    """

    template_fields: Sequence[str] = (*TelemetronOperator.template_fields, "shard")

    def __init__(
        self,
        *,
        shard: Mapping[str, Any] | int | str,
        phase: str,
        run_id: str = RUN_ID,
        approval_task_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(run_id=run_id, **kwargs)
        self.shard = shard
        self.phase = phase
        self.approval_task_id = approval_task_id
        if phase not in tuple(Phase):
            raise ValueError(f"phase: {phase!r} is neither unassign nor assign")

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Make or continue the calls of the phase."""
        from telemetron_batch.sharding.run_shard import run_shard

        self._require_approval(context)
        if not self.folder.exists():
            what = f"on {gethostname()} there is no {self.folder}"
            raise AirflowException(f"{what}: is reports_dir on storage that all workers share?")
        number = self.shard["shard"] if isinstance(self.shard, Mapping) else self.shard
        config = self._config(context, shard=number, phase=self.phase)
        with self._deferring_locks():
            fields = summary_dict(self._run_in_thread(partial(run_shard, config), partial(self._push_summary, context)))
            self._defer_if_api_asks(context, fields)
            if problem := self.policy.exception_if_stopped(fields):
                context["ti"].xcom_push(key=SUMMARY, value=fields)
                raise problem
        return fields

    def _require_approval(self, context: Mapping[str, Any]) -> None:
        """Fail a shard whose plan no person has approved, also if it was cleared by itself."""
        if self.approval_task_id is None:
            return
        answer = context["ti"].xcom_pull(task_ids=self.approval_task_id) or {}
        if [*answer.get("chosen_options", ())] != [APPROVE]:
            raise AirflowFailException(f"nothing is sent: task {self.approval_task_id} has not been approved")

    def _push_summary(self, context: Mapping[str, Any], summary: Any) -> None:
        """Publish the summary of a shard that Airflow has ended with a timeout."""
        context["ti"].xcom_push(key=SUMMARY, value=summary_dict(summary))


class TelemetronBarrierOperator(FolderOperator):
    """Collects the devices that the shards have not surely unassigned, after all have unassigned.

    :param run_id: the run's id, as in the plan. (templated)

    The assigns of these devices are held. Returns the number of open unassigns, and the shards that have not
    made all their unassigns.
    """

    def __init__(self, *, run_id: str = RUN_ID, **kwargs: Any) -> None:
        super().__init__(run_id=run_id, **kwargs)

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Collect the unreleased devices of all shards."""
        from telemetron_batch.sharding.barrier import collect_unreleased_by_shard

        result = self._run_in_thread(partial(_retry_while_locked, collect_unreleased_by_shard, self.folder)).as_json()
        if not result["complete"]:
            self.log.warning("shards %s have not made all their unassigns", result["unfinishedShards"])
        return result


class TelemetronReconcileOperator(ReportingOperator):
    """Merges the results of all shards: one outcome for every row, also of shards that never ran.

    Besides `reports_dir`:

    :param run_id: the run's id, as in the plan. (templated)
    :param fail_on: "stopped" fails the task if shards have open calls; "incomplete"
        also if they have none but no row succeeded; "attention" also if rows want attention.
    :param reports_url: URL at which a browser finds `reports_dir`, for the link. (templated)

    Returns the run's summary, as in summary.json, and its folder.
    """

    def __init__(self, *, run_id: str = RUN_ID, **kwargs: Any) -> None:
        super().__init__(run_id=run_id, **kwargs)

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Write the files and return the summary, or fail."""
        from telemetron_batch.sharding.report import report_run

        self._push_report_url(context)
        work = partial(_retry_while_locked, partial(report_run, environ=os.environ), self.folder)
        fields = summary_dict(self._run_in_thread(work, partial(self._push_summary, context)))
        problem = self._problem(fields)
        if fields["state"] == "stopped":  # retrying this task makes no calls of the shards
            problem = AirflowFailException(str(problem))
        return self._finish(context, fields, problem)


def _retry_while_locked(work: Callable[[Path], T], folder: Path, *, observer: "RunObserver") -> T:
    """Do work that needs the locks of shards, which may be about to end."""
    from telemetron_batch.run.locking import LockWaiter
    from telemetron_batch.storage.trusted_folders import shared_with_group

    # These tasks take no options; a shared reports folder is configured in the workers' environment.
    option = OPTIONS_BY_KEY["shared_reports_dir"]
    with shared_with_group(option.parse(os.environ.get(option.variable, ""))):
        return LockWaiter.for_seconds(folder.name, _LOCK_WAIT_S, observer=observer).retry_while_locked(
            partial(work, folder)
        )
