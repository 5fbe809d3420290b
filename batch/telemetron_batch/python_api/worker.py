"""Do the work of a run in a thread of its own, while the caller's thread waits and calls `on_progress`.

A run has an event loop of its own, which cannot run in a thread that already runs one, as a notebook does. And
a KeyboardInterrupt, or an exception of `on_progress`, reaches only the caller's thread: it asks the run to end, waits
until its files are written, and goes on. No handler of signals is installed.
"""

import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from threading import Condition, Thread
from typing import Final, TypeVar

from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.printable import printable
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.python_api.progress import Progress
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.progress import ProgressSnapshot
from telemetron_batch.storage.log import LOGGER

T = TypeVar("T")

OnProgress = Callable[[Progress], object]

_POLL_S: Final = 0.5
"""Seconds after which a wait looks for a KeyboardInterrupt, where the system does not wake it."""
_LOGGED_KINDS: Final = ("warning", "waiting")
"""Kinds of messages that nothing else logs."""


class _Mailbox:
    """Passes the latest progress from the run to the caller; a slow caller misses some, but never the last."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._progress: Progress | None = None
        self._is_closed = False

    def put(self, progress: Progress) -> None:
        """Replace the progress that the caller has not taken yet."""
        with self._changed:
            self._progress = progress
            self._changed.notify()

    def close(self) -> None:
        """End the iteration after the last progress."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def __iter__(self) -> Iterator[Progress]:
        while True:
            with self._changed:
                while self._progress is None and not self._is_closed:
                    self._changed.wait(_POLL_S)
                progress, self._progress = self._progress, None
            if progress is None:
                return
            yield progress


class WorkerObserver(RunObserver):
    """Observer of a run that a thread carries out for its caller: asks nothing, logs warnings, passes progress on."""

    def __init__(self, interrupt: CancelToken, show: Callable[[Progress], None] | None) -> None:
        self.interrupt: CancelToken = interrupt
        self.before_sending: Callable[[], None] = lambda: None
        """Called once the journal has the input, before anything is sent."""
        self._show = show

    def confirm_plan(self, plan: PlanSummary) -> bool:  # noqa: ARG002
        """Accept any plan, unless the caller has interrupted the run."""
        return not self.interrupt

    def on_message(self, kind: str, text: str) -> None:
        """Log what nothing else logs."""
        if kind in _LOGGED_KINDS:
            LOGGER.log(30 if kind == "warning" else 20, "%s", printable(text))

    def on_start(self) -> None:
        """Do what the caller wants to have done before anything is sent."""
        self.before_sending()

    def wants_progress(self) -> bool:
        """Return whether the caller wants to see progress."""
        return self._show is not None

    def on_progress(self, snapshot: ProgressSnapshot) -> None:
        """Pass the progress on."""
        if self._show is not None:
            self._show(Progress.of(snapshot))


def run_in_thread(work: Callable[[WorkerObserver], T], on_progress: OnProgress | None = None) -> T:
    """Do the work in a thread and return its result, or raise its exception.

    `on_progress` is called in this thread. What interrupts this thread is raised again once the work has ended.
    """
    mailbox, interrupt = _Mailbox(), CancelToken()
    observer = WorkerObserver(interrupt, None if on_progress is None else mailbox.put)
    future: Future[T] = Future()
    job = partial(_fulfil, future, partial(work, observer), mailbox)
    thread = Thread(target=contextvars.copy_context().run, args=(job,), name="telemetron_batch", daemon=True)
    try:
        thread.start()
        for progress in mailbox:
            if on_progress is not None:
                on_progress(progress)
    except BaseException as exc:
        interrupt.cancel(f"stopped by {type(exc).__name__} in the calling program")
        if thread.ident is not None:  # it has started
            for _ in mailbox:
                pass
            exc.add_note(f"telemetron_batch has ended: {future.exception() or future.result()!r}")
        raise
    return future.result()


def _fulfil(future: "Future[T]", work: Callable[[], T], mailbox: _Mailbox) -> None:
    try:
        future.set_result(work())
    except BaseException as exc:  # noqa: BLE001 - raised again by `future.result`
        future.set_exception(exc)
    finally:
        mailbox.close()
