"""Observer of a run: how the command line, Airflow and others show progress and answer questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the observer is imported by commands that neither plan nor send
    from telemetron_batch.domain.cancellation import CancelToken
    from telemetron_batch.planning.plan_summary import PlanSummary
    from telemetron_batch.sending.progress import ProgressSnapshot


class RunObserver:
    """Observer that shows nothing, confirms every plan and declines to repeat a run. Subclasses override methods."""

    interrupt: CancelToken | None = None
    """Token that stops the run. If None, signals stop it, as in a terminal."""

    @property
    def is_attended(self) -> bool:
        """Whether a person sees messages at once, at a terminal."""
        return False

    @property
    def asks(self) -> bool:
        """Whether a person answers the questions."""
        return False

    @property
    def looks_again(self) -> bool:
        """Whether the command is repeated by itself while another process has the run or the key."""
        return False

    def check_plan(self, plan: PlanSummary) -> None:
        """Raise BatchError for a plan that must not become a run. Called before the run exists."""

    def confirm_plan(self, plan: PlanSummary) -> bool:  # noqa: ARG002
        """Return whether this plan is to be sent."""
        return True

    def confirm_repeat(self, previous_run: str) -> bool:  # noqa: ARG002
        """Return whether content that the run `previous_run` has already processed is to be processed again."""
        return False

    def on_message(self, kind: str, text: str) -> None:
        """Show an event such as a warning, a pause or an outage."""

    def wants_progress(self) -> bool:
        """Return whether `on_progress` is to be called."""
        return False

    def on_start(self) -> None:
        """Handle the start of sending or verification. From now on no method may block the event loop."""

    def on_progress(self, snapshot: ProgressSnapshot) -> None:
        """Show the current state; called a few times per second. The last one is `over`."""

    def on_stop(self) -> None:
        """Handle the end of sending or verification. May be called twice."""
