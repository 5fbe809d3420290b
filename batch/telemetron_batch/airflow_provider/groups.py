"""A task group that makes one run with many tasks."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from airflow.providers.common.compat.sdk import TaskGroup, TriggerRule

from telemetron_batch.airflow_provider.approval import DEFAULT_TIMEOUT, REJECT
from telemetron_batch.airflow_provider.base import AS_OF
from telemetron_batch.airflow_provider.hooks import TelemetronHook
from telemetron_batch.airflow_provider.shards import (
    MAP_INDEX_TEMPLATE,
    QUESTION,
    TelemetronBarrierOperator,
    TelemetronPlanOperator,
    TelemetronReconcileOperator,
    TelemetronShardOperator,
)
from telemetron_batch.domain.actions import Phase

_RULES: Final = {"block": TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, "stop": TriggerRule.ALL_SUCCESS}
"""Trigger rule of the barrier for each value of `on_unassign_failure`."""
_OF_EVERY_TASK: Final = ("depends_on_past", "pool", "queue", "owner", "priority_weight", "retries", "retry_delay")
"""Arguments that the question takes from those of all tasks."""


def telemetron_task_group(  # noqa: PLR0913 - the arguments of a group are its options
    group_id: str = "telemetron",
    *,
    file: str | Sequence[str] | None = None,
    sql: str | None = None,
    sql_conn_id: str | None = None,
    reports_dir: str | None = None,
    run_id: str | None = None,
    shards: int | str = 4,
    shards_at_once: int | None = None,
    telemetron_conn_id: str | None = TelemetronHook.default_conn_name,
    options: Mapping[str, Any] | str | None = None,
    as_of: str | datetime | None = AS_OF,
    on_unassign_failure: str = "block",
    skip_if_empty: bool = True,
    deferrable: bool | None = None,
    approve: bool = False,
    approval_timeout: timedelta | None = DEFAULT_TIMEOUT,
    approvers: Sequence[Any] | None = None,
    fail_on: str = "incomplete",
    reports_url: str | None = None,
    outlets: Sequence[Any] = (),
    **task_arguments: Any,
) -> TaskGroup:
    """Return a group of tasks that make one run: plan, (approve,) unassign[N], barrier, assign[N], reconcile.

    Arguments that are not described here are those of the operators.

    :param run_id: the run's id; by default made of DAG, group and run. (templated)
    :param shards_at_once: how many shards run at once and share the rate; None: all.
    :param on_unassign_failure: "block" holds the devices that a failed shard has not surely
        unassigned, and assigns all others; "stop" then assigns nothing.
    :param approve: after the plan, ask a person on the page of Airflow; a rejected plan skips all other tasks.
    :param outlets: assets that the last task updates.
    :param task_arguments: arguments of all tasks, e.g. `pool`, `retries`, `queue`; but the last task is
        tried only once, because it always writes its report. With `depends_on_past` the first task
        waits until all tasks of the group have succeeded in the previous DAG run.
    """
    given = {name: value for name, value in locals().items() if name not in ("group_id", "task_arguments")}
    if on_unassign_failure not in _RULES:
        raise ValueError(f"on_unassign_failure: {on_unassign_failure!r} is neither block nor stop")
    with TaskGroup(group_id=group_id) as group:
        _make_tasks(given | {"run_id": run_id or _run_id(group)}, task_arguments)
    return group


def _make_tasks(given: Mapping[str, Any], task_arguments: Mapping[str, Any]) -> None:
    """Make the tasks of the current group. `given` are its arguments by name, `task_arguments` those of all tasks."""

    def some(*names: str) -> dict[str, Any]:
        return {name: given[name] for name in names}

    all_have = {**some("reports_dir", "run_id", "telemetron_conn_id"), **task_arguments}
    connected = {**some("options", "as_of"), **all_have}
    planning = some("file", "sql", "sql_conn_id", "shards", "shards_at_once", "skip_if_empty")
    if task_arguments.get("depends_on_past"):
        # Without this, the plan would wait only for the previous plan; all other tasks are downstream of it.
        planning["wait_for_downstream"] = True
    plan = TelemetronPlanOperator(task_id="plan", **{**connected, **planning})
    sending = {**some("deferrable"), "max_active_tis_per_dagrun": given["shards_at_once"], **connected}
    question = _question(plan, given, task_arguments) if given["approve"] else None
    if question is not None:
        sending["approval_task_id"] = question.task_id
    unassign, assign = (_shards(phase, plan, sending) for phase in Phase)
    rule = _RULES[given["on_unassign_failure"]]
    barrier = TelemetronBarrierOperator(task_id="barrier", trigger_rule=rule, **all_have)
    end = {**all_have, **some("fail_on", "reports_url"), "outlets": [*given["outlets"]], "retries": 0}
    reconcile = TelemetronReconcileOperator(task_id="reconcile", trigger_rule=_RULES["block"], **end)
    unassign >> barrier >> assign >> reconcile
    plan >> [barrier, reconcile]
    if question is not None:
        plan >> question >> unassign


def _question(plan: TelemetronPlanOperator, given: Mapping[str, Any], task_arguments: Mapping[str, Any]) -> Any:
    """Return the task that asks a person. A rejected plan skips all later tasks, whatever their trigger rules."""
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    approvers = given["approvers"]
    same = {name: task_arguments[name] for name in _OF_EVERY_TASK if name in task_arguments}
    return ApprovalOperator(
        task_id="approve",
        subject="Send the assignments of run {{ dag.dag_id }} {{ run_id }} to Telemetron?",
        body=f"{{{{ ti.xcom_pull(task_ids='{plan.task_id}', key='{QUESTION}') }}}}",
        defaults=REJECT,
        response_timeout=given["approval_timeout"],
        assigned_users=approvers and [*approvers],
        ignore_downstream_trigger_rules=True,
        **same,
    )


def _run_id(group: TaskGroup) -> str:
    return f"{{{{ dag.dag_id }}}}.{group.group_id}.{{{{ run_id }}}}"


def _shards(phase: Phase, plan: TelemetronPlanOperator, arguments: Mapping[str, Any]) -> Any:
    """Return a mapped task for each shard, with readable names."""
    named = {"task_id": str(phase), "phase": str(phase), "map_index_template": MAP_INDEX_TEMPLATE}
    return TelemetronShardOperator.partial(**named, **arguments).expand(shard=plan.output)
