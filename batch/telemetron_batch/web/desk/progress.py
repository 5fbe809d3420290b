"""What the page shows of a run under way: its progress, and what happened, as the run itself tells it."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.outcomes import FAILURES, Outcome
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.progress import ProgressSnapshot
from telemetron_batch.storage.clock import Clock, iso

_MAX_MESSAGES: Final = 50
_MIN_SHOWN_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Message:
    """Something that happened, such as a pause or an outage."""

    at: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run at one moment."""

    calls: int = 0
    done: int = 0
    is_query: bool = False
    """Whether customers are queried, and nothing is sent."""
    outcomes: Sequence[tuple[Outcome, int]] = ()
    failures: int = 0
    per_second: float | None = None
    seconds_left: float | None = None
    pause_s: float = 0.0
    """Seconds that the API has asked to wait; 0 without a pause."""
    down_s: float | None = None
    """Seconds for which the API has been down; None while it is up."""
    messages: Sequence[Message] = ()
    is_stopping: bool = False
    has_begun: bool = False
    """Whether calls have begun; before, the plan is made again and locks are taken."""


class PageObserver(RunObserver):
    """Keeps the last state of a run for the page. The run writes, the page reads, in different threads."""

    def __init__(self, clock: Clock, interrupt: CancelToken, *, again: bool = False) -> None:
        self.interrupt = interrupt
        self._clock = clock
        self._again = again
        self._lock = threading.Lock()
        self._snapshot: ProgressSnapshot | None = None
        self._messages: deque[Message] = deque(maxlen=_MAX_MESSAGES)

    def confirm_repeat(self, previous_run: str) -> bool:  # noqa: ARG002
        """Return whether the user wants content sent that another run has processed."""
        return self._again

    def on_message(self, kind: str, text: str) -> None:
        """Keep the message."""
        with self._lock:
            self._messages.append(Message(iso(self._clock.wall()), kind, text))

    def wants_progress(self) -> bool:
        """Return true: the page shows progress."""
        return True

    def on_progress(self, snapshot: ProgressSnapshot) -> None:
        """Keep the snapshot."""
        self._snapshot = snapshot

    @property
    def messages(self) -> Sequence[Message]:
        """What happened last."""
        with self._lock:
            return tuple(self._messages)

    def progress(self) -> Progress:
        """Return the present state."""
        snapshot, messages, is_stopping = self._snapshot, self.messages, bool(self.interrupt)
        if snapshot is None:
            return Progress(messages=messages, is_stopping=is_stopping)
        status = snapshot.gate_status
        return Progress(
            calls=snapshot.calls,
            done=snapshot.done,
            is_query=snapshot.unit != "calls",
            outcomes=tuple((outcome, count) for outcome, count in snapshot.outcomes.items() if count),
            failures=sum(snapshot.outcomes.get(outcome, 0) for outcome in FAILURES),
            per_second=snapshot.reached,
            seconds_left=snapshot.seconds_left,
            pause_s=status.pause_left if status.pause_left >= _MIN_SHOWN_PAUSE_S else 0.0,
            down_s=status.down_for,
            messages=messages,
            is_stopping=is_stopping,
            has_begun=True,
        )
