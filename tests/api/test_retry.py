"""How long a request waits before its next attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.api.retry import backoff


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_backoff_lies_between_nothing_and_thirty_seconds(failures: int, jitter: float) -> None:
    assert 0 <= backoff(failures, jitter) < 30


@pytest.mark.parametrize(("failures", "most"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (1000, 30.0)])
def test_a_backoff_doubles_up_to_its_ceiling_with_full_jitter(failures: int, most: float) -> None:
    assert backoff(failures, 0.0) == 0
    assert backoff(failures, 0.5) == most / 2
    assert backoff(failures, 1.0) == most
