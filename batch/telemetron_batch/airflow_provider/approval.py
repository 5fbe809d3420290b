"""Let a person approve a plan on the page of Airflow before it is sent.

The plan is saved as a run, as `plan --save` does, so what is sent is exactly what was shown: a changed file is refused.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowSkipException

from telemetron_batch.airflow_provider.base import has_run
from telemetron_batch.airflow_provider.compat import waits_for_input
from telemetron_batch.airflow_provider.reporting import ReportingOperator
from telemetron_batch.airflow_provider.sending import SendingOperator

if TYPE_CHECKING:
    from telemetron_batch.config.config import RunConfig
    from telemetron_batch.planning.plan_summary import PlanSummary

APPROVE: Final = "Approve"
REJECT: Final = "Reject"
"""The options of Airflow's ApprovalOperator."""
APPROVAL: Final = "approval"
"""Key of the XCom that says who approved what."""
APPROVED_WAIT: Final = "1d"
"""Time that a task waits in its slot, once its plan is approved, for another process that has the key."""
DEFAULT_TIMEOUT: Final = timedelta(days=1)


class ApprovableOperator(SendingOperator, ReportingOperator):
    """A task that makes a run, if wanted only after a person has approved its plan.

    :param approve: save the plan, ask on the page of Airflow, then send exactly this plan. The task is skipped if
        the plan is rejected, or not answered in time.
    :param approval_timeout: how long to wait for the answer; None: without end.
    :param approvers: users who may answer, as `assigned_users` of Airflow's ApprovalOperator; None: all who may.
    """

    def __init__(
        self,
        *,
        approve: bool = False,
        approval_timeout: timedelta | None = DEFAULT_TIMEOUT,
        approvers: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.approve = approve
        self.approval_timeout = approval_timeout
        self.approvers = approvers
        self._is_approved = False

    def execute_again(self, context: Mapping[str, Any], event: Any = None, *, is_approved: bool = False) -> Any:
        """Continue after a wait outside the worker's slot."""
        self._is_approved = is_approved
        return super().execute_again(context, event)

    def execute_answered(self, context: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
        """Continue after the answer of a person."""
        who = (event.get("responded_by_user") or {}).get("name") or "nobody"
        if event.get("chosen_options") != [APPROVE]:
            kind: type[Exception] = AirflowSkipException
            raise kind(f"the plan was not approved ({event.get('error_type') or f'rejected by {who}'})")
        self.log.info("The plan was approved by %s", who)
        context["ti"].xcom_push(key=APPROVAL, value={"approvedBy": who, "approvedAt": str(event.get("responded_at"))})
        self._is_approved = True
        return self.execute(context)

    def _defaults(self) -> dict[str, Any]:
        # A task that is rescheduled begins anew, and would ask again.
        return {**super()._defaults(), **({"wait": APPROVED_WAIT} if self._is_approved and not self.deferrable else {})}

    def _resume_arguments(self) -> dict[str, Any]:
        return {"is_approved": self._is_approved}

    def _ask_first(self, context: Mapping[str, Any], config: "RunConfig", what: str) -> None:
        """Save the plan and ask, unless that was done or the run has begun. Raises what parks the task."""
        if not self.approve or self._is_approved or has_begun(self.folder):
            return
        from telemetron_batch.run.save_plan import save_plan

        saved = self._run_in_thread(lambda observer: save_plan(config, observer))
        if not saved.summary.rows:
            return  # nothing can be sent: the task ends as without approval
        body = f"{plan_words(saved.summary)} Plan `{saved.short_fingerprint}`, run `{saved.folder.name}`."
        self._park(context, f"Send {what} to Telemetron?", body)

    def _park(self, context: Mapping[str, Any], subject: str, body: str) -> None:
        """Ask on the page of Airflow; the task continues in `execute_answered`."""
        from airflow.providers.standard.triggers.hitl import HITLTrigger
        from airflow.sdk.execution_time.hitl import upsert_hitl_detail
        from airflow.sdk.timezone import utcnow

        question = {"options": [APPROVE, REJECT], "defaults": [REJECT], "multiple": False, "params": {}}
        ti_id = context["ti"].id
        upsert_hitl_detail(
            ti_id=ti_id, subject=subject, body=body, assigned_users=self.approvers and [*self.approvers], **question
        )
        self.log.info("%s %s Waiting for the answer of a person.", subject, body)
        method = self.execute_answered.__name__
        if (parked := waits_for_input(method, self.approval_timeout)) is not None:
            raise parked
        until = None if self.approval_timeout is None else utcnow() + self.approval_timeout
        self.defer(trigger=HITLTrigger(ti_id=ti_id, timeout_datetime=until, **question), method_name=method)


def has_begun(folder: Path) -> bool:
    """Return whether a run exists whose plan is not waiting to be sent."""
    if not has_run(folder):
        return False
    from telemetron_batch.run.listing import run_info
    from telemetron_batch.storage.clock import RealClock
    from telemetron_batch.storage.system_users import SystemUsers

    return run_info(folder, SystemUsers(), RealClock().wall()).state != "planned"


def plan_words(plan: "PlanSummary") -> str:
    """Return what a person must know to approve a plan, as sentences."""
    counts = [
        f"{action} {counted.devices:,} devices ({counted.customers:,} customers)"
        for action, counted in plan.action_counts.items()
        if counted.devices
    ]
    sentences = [
        f"{plan.rows:,} rows: {', '.join(counts) or 'nothing to send'}, in {plan.calls:,} calls",
        f"{plan.invalid:,} rows are invalid" if plan.invalid else "",
        *plan.held_sentences,
        *plan.owner_sentences,
        *plan.warnings,
    ]
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences if sentence)
