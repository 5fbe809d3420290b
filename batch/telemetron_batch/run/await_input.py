"""Wait until the input files exist (`--wait-for-file`) and are not written to any more (`--settled-for`)."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from telemetron_batch.config.config import RunConfig, SendOptions
from telemetron_batch.domain.errors import BatchError, ConfigError, InputError, NotReadyError
from telemetron_batch.domain.local_time import local_text
from telemetron_batch.domain.stops import Advice
from telemetron_batch.domain.urls import is_url, strip_file_scheme
from telemetron_batch.input.arrival import InputState, input_state
from telemetron_batch.input.source_file import input_errors
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.clock import Clock, duration
from telemetron_batch.storage.log import LOGGER

_POLL_S: Final = 1.0
_POLL_URL_S: Final = 10.0
_REMIND_S: Final = 600.0
"""Seconds after which it is said again what is waited for."""
_NAMED: Final = 3
"""Files that a message names."""
_ADVICE: Final = Advice("nothing was sent; check the export", repeat=True)


def await_input(config: RunConfig, clock: Clock, observer: RunObserver) -> RunConfig:
    """Wait for the input files. Return the configuration for what follows: with less time, and nothing to wait for.

    A run that has a journal waits for nothing, because its input is in it. Raises NotReadyError, ConfigError for an
    input that cannot be waited for, InputError for one that cannot be read.
    """
    if not config.files or not (config.wait_for_file or config.settled_for) or _has_journal(config):
        return config
    if "-" in config.files:
        what = "--wait-for-file and --settled-for cannot wait for standard input"
        raise ConfigError(what, "name a file, or give --wait-for-file 0 --settled-for 0")
    began = clock.uptime()
    _Wait.of(config, clock, observer).until_ready()
    return _without_wait(config, clock.uptime() - began)


def _has_journal(config: RunConfig) -> bool:
    return config.run_id is not None and (config.folder / JOURNAL_NAME).exists()


def _without_wait(config: RunConfig, waited_s: float) -> RunConfig:
    """Return the configuration after a wait, which uses up the deadline."""
    return replace(config, wait_for_file=0.0, settled_for=0.0, sending=with_less_time(config.sending, waited_s))


def with_less_time(sending: SendOptions, used_s: float) -> SendOptions:
    """Return the options of sending after something that used up time of the deadline."""
    return replace(sending, deadline=None if sending.deadline is None else max(0.0, sending.deadline - used_s))


@dataclass(slots=True)
class _Arrival:
    """What has been seen of one input."""

    path: str
    state: InputState | None = None
    unchanged_since: float = 0.0
    """When it was first seen in this state, on the clock of uptime."""

    def look(self, now: float, *, may_fail: bool) -> None:
        """Look at the input again. With `may_fail` an error means that it is not there. Raises BatchError."""
        state: InputState | None = None
        with suppress(*((BatchError,) if may_fail else ())), input_errors(self.path):
            state = input_state(self.path)
        if state != self.state:
            self.state, self.unchanged_since = state, now

    def ready_in(self, now: float, settled_for: float) -> float | None:
        """Return the seconds until it will have settled; None while it does not exist."""
        if self.state is None:
            return None
        return 0.0 if self.state == () else max(0.0, self.unchanged_since + settled_for - now)


@dataclass(slots=True)
class _Wait:
    """The wait for all inputs of a run."""

    arrivals: Sequence[_Arrival]
    must_exist: bool
    """Whether an input that does not exist is an error at once, because no time is given for it to come."""
    settled_for: float
    limit_s: float
    """Seconds from the beginning to the end of the wait."""
    limit_words: str
    clock: Clock
    observer: RunObserver
    ends_at: float = field(init=False)
    """When the wait ends at the latest, in seconds since the epoch."""
    _shown: str = field(init=False, default="")
    _shown_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.ends_at = self.clock.wall() + self.limit_s

    @classmethod
    def of(cls, config: RunConfig, clock: Clock, observer: RunObserver) -> "_Wait":
        """Return the wait that the options describe: the earliest of their limits ends it."""
        total, sending = config.wait_for_file + config.settled_for, config.sending
        limits = [(total, f"within {duration(total)}")]
        if sending.deadline is not None:
            limits.append((sending.deadline, f"before the --deadline of {duration(sending.deadline)}"))
        if sending.until_at is not None:
            limits.append((sending.until_at - clock.wall(), f"until {local_text(sending.until_at)} (--until)"))
        limit_s, words = min(limits)
        arrivals = [_Arrival(path) for path in dict.fromkeys(config.files)]
        return cls(arrivals, not config.wait_for_file, config.settled_for, limit_s, words, clock, observer)

    def until_ready(self) -> None:
        """Return when all inputs are there and have settled. Raises NotReadyError when the time is over."""
        began = self.clock.uptime()
        may_fail = False
        while True:
            now = self.clock.uptime()
            for one in self.arrivals:
                one.look(now, may_fail=may_fail)
            waits = [one.ready_in(now, self.settled_for) for one in self.arrivals]
            if all(wait == 0 for wait in waits):
                return
            if not may_fail:
                self._require_existing(waits)
            if now - began >= self.limit_s:
                raise self._not_ready(waits)
            if self.observer.interrupt:
                what = f"stopped while waiting for {_names(self._awaited(waits))}, and nothing was sent"
                raise NotReadyError(what, Advice(repeat=True))
            self._show(waits, now)
            self._sleep(min(self._pause(waits), began + self.limit_s - now))
            may_fail = True

    def _sleep(self, seconds: float) -> None:
        """Sleep, with regard to an interrupt."""
        while seconds > 0 and not self.observer.interrupt:
            self.clock.sleep_blocking(min(_POLL_S, seconds))
            seconds -= _POLL_S

    def _pause(self, waits: Sequence[float | None]) -> float:
        """Return the seconds to the next look: fewer if all will have settled before."""
        poll = _POLL_URL_S if any(is_url(strip_file_scheme(one.path)) for one in self.arrivals) else _POLL_S
        known = [wait for wait in waits if wait is not None]
        return min(poll, max(known)) if len(known) == len(waits) else poll

    def _require_existing(self, waits: Sequence[float | None]) -> None:
        if self.must_exist and None in waits:
            missing = self.arrivals[waits.index(None)].path
            raise InputError(f"{missing}: there is no such file", "check the path, or give --wait-for-file")

    def _awaited(self, waits: Sequence[float | None]) -> list[str]:
        """Return the inputs that are missing; if none is, those that have not settled."""
        missing = [one.path for one, wait in zip(self.arrivals, waits, strict=True) if wait is None]
        return missing or [one.path for one, wait in zip(self.arrivals, waits, strict=True) if wait]

    def _not_ready(self, waits: Sequence[float | None]) -> NotReadyError:
        did = "did not come" if None in waits else f"did not stay unchanged for {duration(self.settled_for)}"
        return NotReadyError(f"{_names(self._awaited(waits))} {did} {self.limit_words}", _ADVICE)

    def _show(self, waits: Sequence[float | None], now: float) -> None:
        """Tell what is waited for, when that changes and every ten minutes."""
        does = "does not exist yet" if None in waits else f"has to stay unchanged for {duration(self.settled_for)}"
        text = f"{_names(self._awaited(waits))} {does}"
        if text == self._shown and now - self._shown_at < _REMIND_S:
            return
        self._shown, self._shown_at = text, now
        self.observer.on_message("waiting", f"{text}; until {local_text(self.ends_at)} at the latest")
        LOGGER.info("waiting: %s", text)


def _names(paths: Sequence[str]) -> str:
    named = ", ".join(paths[:_NAMED])
    return named if len(paths) <= _NAMED else f"{named} and {len(paths) - _NAMED} more"
