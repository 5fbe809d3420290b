"""The progress of a run, for the callable `on_progress`."""

from collections.abc import Mapping
from dataclasses import dataclass

from telemetron_batch.sending.progress import ProgressSnapshot, format_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The state of a run at one moment. `str` gives it as one line."""

    done: int
    """Number of settled calls, including those of earlier processes."""
    total: int
    """Number of calls; while customers are queried, of customers."""
    unit: str
    """What is counted: "calls", or the word for what is queried."""
    outcomes: Mapping[str, int]
    """Number of devices by outcome, such as "assigned"; without those that did not occur."""
    attempts_per_second: float | None
    """Measured over the last seconds; None before there are enough attempts."""
    elapsed_s: float
    """Seconds since sending began."""
    seconds_left: float | None
    """Estimated seconds until the end; None if no estimate is possible."""
    pause_s: float
    """Seconds that the API has asked to wait; 0 without a pause."""
    is_down: bool
    """Whether the API cannot be reached at present."""
    is_over: bool
    """Whether this is the last state."""
    text: str
    """The state as one line."""

    @property
    def fraction(self) -> float:
        """The part that is done, from 0 to 1."""
        return self.done / self.total if self.total else 1.0

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, snapshot: ProgressSnapshot) -> "Progress":
        """Return what a snapshot of the run shows."""
        return cls(
            done=snapshot.done,
            total=snapshot.calls,
            unit=snapshot.unit,
            outcomes={str(outcome): count for outcome, count in snapshot.outcomes.items() if count},
            attempts_per_second=snapshot.reached,
            elapsed_s=snapshot.elapsed,
            seconds_left=snapshot.seconds_left,
            pause_s=snapshot.gate_status.pause_left,
            is_down=snapshot.down_at is not None,
            is_over=snapshot.over,
            text=format_log(snapshot),
        )
