"""Send notices aside, each in a thread of its own, and wait for all of them a limited time.

The threads are daemons: one that hangs does not keep the process from ending.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Thread
from typing import Final

LIMIT_S: Final = 10.0
"""Seconds by which notices delay the end of a run at most, in all."""

Work = Callable[[], str | None]
"""Sends a notice. Returns why it was not sent; None if it was."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice on its way."""

    what: str
    """The notice and its receiver, as text without secrets."""
    result: "Future[str | None]"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a notice."""

    what: str
    problem: str | None
    """Why it was not sent, or None."""


class Deliveries:
    """The notices of one command."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._all: list[Delivery] = []

    def begin(self, what: str, work: Work, after: Sequence[Delivery] = ()) -> Delivery:
        """Begin to send a notice, when those it comes after have been sent or have failed."""
        delivery = Delivery(what, Future())
        self._all.append(delivery)
        former = [one.result for one in after]

        def send() -> None:
            wait(former)
            delivery.result.set_result(_try(work))

        Thread(target=send, name=f"notice: {what}", daemon=True).start()
        return delivery

    def finish(self) -> list[Delivered]:
        """Wait until all notices have been sent or the time is over, and return what became of each."""
        try:
            done = wait([one.result for one in self._all], self._limit_s).done
        except KeyboardInterrupt:  # the run has ended: an interrupt ends only the wait
            done = {one.result for one in self._all if one.result.done()}
        late = f"not sent within {self._limit_s:g} s"
        ended = [Delivered(one.what, one.result.result() if one.result in done else late) for one in self._all]
        self._all.clear()
        return ended


def _try(work: Work) -> str | None:
    try:
        return work()
    except Exception as exc:  # noqa: BLE001 - a notice that fails must not change how a run ends
        return f"{type(exc).__name__}: {' '.join(str(exc).split())}"
