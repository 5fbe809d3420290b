"""Cancellation of a run from another thread or from a signal handler.

The command line handles signals itself. Code that runs inside another program, such as an Airflow
task, must not replace that program's signal handlers and cancels the run with a `CancelToken` instead.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CancelToken:
    """Asks a run to end, at most once. Takes no lock, so a signal handler may use it at any time."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """Why the run must end; None while it may continue."""
        self._callbacks: tuple[Callable[[], None], ...] = ()

    def __bool__(self) -> bool:
        return self.reason is not None

    def cancel(self, reason: str) -> None:
        """Ask the run to end. Only the first reason counts."""
        if self.reason is None:
            self.reason = reason
            for callback in self._callbacks:
                callback()

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` on cancellation, or immediately if it has happened. The callback must return quickly."""
        self._callbacks = (*self._callbacks, callback)
        try:
            if self:
                callback()
            yield
        finally:
            self._callbacks = tuple(one for one in self._callbacks if one is not callback)
