"""The next of many made while one is looked at."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_One = TypeVar("_One")


def ahead(items: Iterator[_One]) -> Iterator[_One]:
    """The same items, none of them None: a thread of its own makes the next one while one is looked at."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
