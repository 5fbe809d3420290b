"""A way to end a run from outside: from another thread, or from a signal handler of somebody else's.

The command line listens to signals itself. A door inside another program (an Airflow
task) cannot take that program's signals, and says through this when the run is to end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CancelToken:
    """Asks a run to end, at most once. Takes no lock, so a signal handler may call it at any moment."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """Why the run is to end; None while it may go on."""
        self._callbacks: tuple[Callable[[], None], ...] = ()

    def __bool__(self) -> bool:
        return self.reason is not None

    def cancel(self, reason: str) -> None:
        """Ask the run to end. The first reason stands."""
        if self.reason is None:
            self.reason = reason
            for hear in self._callbacks:
                hear()

    @contextmanager
    def on_cancel(self, hear: Callable[[], None]) -> Iterator[None]:
        """Call `hear` when the run is asked to end, at once if it already was. It must not take long."""
        self._callbacks = (*self._callbacks, hear)
        try:
            if self:
                hear()
            yield
        finally:
            self._callbacks = tuple(one for one in self._callbacks if one is not hear)
