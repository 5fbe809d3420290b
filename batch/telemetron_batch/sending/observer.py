"""What a door (command line, Airflow, ...) shows of a run, and what it is asked."""

from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.sending.progress import ProgressSnapshot


class RunObserver:
    """What a door shows while a run goes on; this one shows nothing and agrees to everything."""

    interrupt: CancelToken | None = None
    """Through which the door ends the run. None: signals do, as at a terminal."""

    def confirm_plan(self, plan: PlanSummary) -> bool:  # noqa: ARG002
        """The plan is made. Shall it be carried out?"""
        return True

    def confirm_repeat(self, former: str) -> bool:  # noqa: ARG002
        """This content was already processed by that run. Shall it be processed again?"""
        return False

    def on_message(self, kind: str, text: str) -> None:
        """Something worth telling happened: a warning, a hold, an outage."""

    def wants_progress(self) -> bool:
        """Does it want to see how the run gets on?"""
        return False

    def on_start(self) -> None:
        """Sending begins, or asking afterwards: from now on nothing here may keep the event loop waiting."""

    def on_progress(self, view: ProgressSnapshot) -> None:
        """The run as it is now, some times a second; the last one is `over`."""

    def on_stop(self) -> None:
        """What began has ended. May be called twice."""
