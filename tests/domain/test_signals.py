"""Which signals end a command, and which end a run in an orderly way."""

import signal
from collections.abc import Iterator

import pytest

from telemetron_batch.domain.signals import END_SIGNALS, RUN_END_SIGNALS, handle_end_signals


@pytest.fixture(autouse=True)
def _former_handlers() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in RUN_END_SIGNALS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def test_a_closed_terminal_ends_a_run_too() -> None:
    assert set(RUN_END_SIGNALS) - set(END_SIGNALS) == {signal.SIGHUP}


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    def handler(*_: object) -> None:
        """Do nothing."""

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handle_end_signals(handler)
    assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is handler
