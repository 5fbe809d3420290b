"""Work in threads: results come in order, and no error is lost."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.storage.concurrency import background_worker, map_ordered, prefetch

NUMBERS = st.lists(st.integers(-3, 3), max_size=12)


def inverse(number: int) -> float:
    return 1 / number


def until_broken(numbers: list[int]) -> tuple[list[float], bool]:
    """Return the results of sequential processing, and whether an item fails."""
    whole = numbers.index(0) if 0 in numbers else len(numbers)
    return [inverse(number) for number in numbers[:whole]], 0 in numbers


@given(NUMBERS)
def test_map_ordered_yields_results_and_errors_in_order(numbers: list[int]) -> None:
    wanted, broken = until_broken(numbers)
    found = []
    try:
        for result in map_ordered(inverse, numbers):
            found.append(result)  # noqa: PERF402 - what came before the error counts
    except ZeroDivisionError:
        assert broken
    else:
        assert not broken
    assert found == wanted


@given(NUMBERS)
def test_prefetch_yields_items_and_errors_in_order(numbers: list[int]) -> None:
    def made() -> Iterator[float]:
        for number in numbers:
            yield inverse(number)

    wanted, broken = until_broken(numbers)
    items = prefetch(made())
    assert [next(items) for _ in wanted] == wanted
    with pytest.raises(ZeroDivisionError if broken else StopIteration):
        next(items)


@given(NUMBERS)
def test_background_worker_processes_items_in_order_and_raises_errors_at_the_end_at_the_latest(
    numbers: list[int],
) -> None:
    wanted, broken = until_broken(numbers)
    found: list[float] = []

    def work() -> None:
        with background_worker(lambda number: found.append(inverse(number))) as take:
            for number in numbers:
                take(number)

    if broken:
        with pytest.raises(ZeroDivisionError):
            work()
    else:
        work()
    assert found == wanted
