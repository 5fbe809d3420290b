"""Work done side by side by threads, what it gives in the order in which it was asked for.

Worth it where the work lets go of the interpreter, as numpy, pyarrow and files do.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

_One = TypeVar("_One")
_Other = TypeVar("_Other")

WORKERS: Final = 2
"""Pieces that are worked on at a time; each takes memory."""
_MAX_QUEUED: Final = 6
"""Pieces that may wait for one that takes longer than most."""


def prefetch(items: Iterator[_One]) -> Generator[_One, None, None]:
    """The same items, none of them None, the next one being made while one is looked at.

    To be closed where what they are made from may be closed before all of them were taken.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def map_ordered(work: Callable[[_One], _Other], items: Iterable[_One]) -> Iterator[_Other]:
    """What the work gives for each item, `WORKERS` of them being worked on. What goes wrong is raised in its turn."""
    with ThreadPoolExecutor(WORKERS) as pool:
        coming: deque[Future[_Other]] = deque()
        for item in items:
            coming.append(pool.submit(work, item))
            if len(coming) > WORKERS:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


@contextmanager
def background_worker(work: Callable[[_One], None]) -> Iterator[Callable[[_One], None]]:
    """Gives a function that has items worked on one after another, while others are made.

    A few may wait. What goes wrong is raised with a later item or at the end, and none after it is worked on.
    """
    waiting: deque[Future[None]] = deque()
    broken = False

    def worked(item: _One) -> None:
        nonlocal broken
        if not broken:
            broken = True
            work(item)
            broken = False

    with ThreadPoolExecutor(1) as pool:

        def take(item: _One) -> None:
            while waiting and (len(waiting) > _MAX_QUEUED or waiting[0].done()):
                waiting.popleft().result()
            waiting.append(pool.submit(worked, item))

        try:
            yield take
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
