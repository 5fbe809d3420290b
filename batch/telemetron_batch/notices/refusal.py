"""Tell that a command was refused because its options cannot be used, as far as they say who hears of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from telemetron_batch.config.options import KEY_VARIABLE
from telemetron_batch.config.partial import usable_notice_options
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.domain.model import Secret
from telemetron_batch.notices.announce import Audience, CommandEnd, finish_notices
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.clock import Clock, RealClock


@dataclass(frozen=True, slots=True)
class Request:
    """A command as its caller gave it."""

    flags: Mapping[str, Any]
    """Options of the command line by key, and `profile` and `config`."""
    environ: Mapping[str, str]
    run: str = ""
    """The run id, or the names of the input files."""


@contextmanager
def refusals_announced(
    request: Request, observer: RunObserver | None = None, clock: Clock | None = None
) -> Iterator[None]:
    """Within this context a command reads its options; tell if they are refused."""
    try:
        yield
    except (BatchError, OSError) as exc:
        announce_refusal(exc, request, observer, clock)
        raise


def announce_refusal(
    exc: Exception, request: Request, observer: RunObserver | None = None, clock: Clock | None = None
) -> None:
    """Tell that a command was refused, unless a person at a terminal sees it."""
    audience = audience_of(request, observer, clock)
    if audience.options.is_wanted and not audience.observer.is_attended:
        finish_notices(audience, CommandEnd(request.run).of_error(exc), audience.clock.uptime())


def audience_of(request: Request, observer: RunObserver | None, clock: Clock | None) -> Audience:
    """Return who hears of a command's end, as far as its options say it; other options may be wrong."""
    options, network = usable_notice_options(request.flags, request.environ)
    key = request.environ.get(KEY_VARIABLE, "").strip()
    secrets = (*((Secret(key),) if key else ()), *network.secrets, *options.secrets)
    return Audience(options, network, lambda: secrets, observer or RunObserver(), clock or RealClock())
