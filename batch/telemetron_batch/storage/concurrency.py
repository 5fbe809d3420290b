"""Run work in threads; yield results in submission order.

Useful for work that releases the GIL, such as numpy, pyarrow and file access.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

WORKERS: Final = 2
"""Items processed at a time; each takes memory."""
_MAX_QUEUED: Final = 6
"""Items that may wait for a slow one."""
OFF_LOOP: Final = "off-loop"
"""Beginning of the names of the threads of `run_off_loop`, for a test clock that must stop while they work."""


def prefetch(items: Iterator[_In]) -> Generator[_In, None, None]:
    """Yield the items, producing the next one in a thread while the caller uses the current one.

    No item may be None. Close the generator if the source of the items may be closed before all are consumed.
    """
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def map_ordered(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """Yield the result of `work` for each item, in order, processing `WORKERS` items at a time. Raises in order too."""
    with ThreadPoolExecutor(WORKERS) as pool:
        pending: deque[Future[_Out]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > WORKERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


async def run_off_loop(work: Callable[[], _Out]) -> _Out:
    """Return the result of long work, done in a thread while the event loop goes on. Raises what the work raises."""
    import asyncio

    with ThreadPoolExecutor(1, thread_name_prefix=OFF_LOOP) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


@contextmanager
def background_worker(work: Callable[[_In], None]) -> Iterator[Callable[[_In], None]]:
    """Yield a function that submits an item to a worker thread, which processes the items one after another.

    A few items may wait. An error is raised on a later submission or at the end; later items are not processed.
    """
    waiting: deque[Future[None]] = deque()
    has_failed = False

    def process(item: _In) -> None:
        nonlocal has_failed
        if not has_failed:
            has_failed = True
            work(item)
            has_failed = False

    with ThreadPoolExecutor(1) as pool:

        def submit(item: _In) -> None:
            while waiting and (len(waiting) > _MAX_QUEUED or waiting[0].done()):
                waiting.popleft().result()
            waiting.append(pool.submit(process, item))

        try:
            yield submit
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
