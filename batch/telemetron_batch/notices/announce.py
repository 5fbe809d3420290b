"""The door of all ends: every command that makes, continues or refuses a run passes through `announced`.

To tell ends in another way, add a module that sends, its option to `config.notices`, and a line to `finish_notices`.
"""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.config.notices import NoticeOptions, shown_url
from telemetron_batch.domain.errors import BatchError, ConfigError, PathError
from telemetron_batch.domain.model import Secret
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.notices import policy, text
from telemetron_batch.notices.deliveries import Delivered, Deliveries, Delivery, Work
from telemetron_batch.notices.ending import Ending, ending_of_error, ending_of_summary, is_lost_to_another_process
from telemetron_batch.reports.summary import Summary
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.clock import Clock
from telemetron_batch.storage.log import LOGGER, log_to_file
from telemetron_batch.storage.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Audience:
    """Who hears of ends, and the way there."""

    options: NoticeOptions
    network: NetworkOptions
    secrets: Callable[[], tuple[Secret, ...]]
    """Returns the texts that no notice may contain; a key may become known only while the command works."""
    observer: RunObserver
    clock: Clock
    deliveries: Deliveries = field(default_factory=Deliveries)

    @classmethod
    def of(cls, config: RunConfig, observer: RunObserver, clock: Clock) -> "Audience":
        """Return who hears of the ends of a configuration."""
        return cls(config.notices, config.sending.network, lambda: config.secrets, observer, clock)


@dataclass(slots=True)
class CommandEnd:
    """How a command ends, filled in while it works."""

    run: str = ""
    """The run id; before it is known, the names of the input files."""
    folder: Path | None = None
    """The folder that the run has, or would have."""
    summary: Summary | None = None
    is_repeated: bool = False
    """Whether the run had finished before."""
    empty_exit_code: int | None = None

    @classmethod
    def of(cls, config: RunConfig) -> "CommandEnd":
        """Return the end, still open, of a command of this configuration."""
        names = ", ".join(Path(file).name for file in config.files)
        folder = None if config.run_id is None else config.folder
        return cls(config.run_id or names, folder, empty_exit_code=config.brakes.empty_exit_code)

    def of_error(self, exc: BaseException) -> Ending:
        """Return the end of a command that raised an exception."""
        has_run = self.folder is not None and (self.folder / JOURNAL_NAME).exists()
        return ending_of_error(exc, self.run, self.folder if has_run else None)

    def of_success(self) -> Ending | None:
        """Return the end of a command that gave a summary; None without one."""
        if self.summary is None:
            return None
        return ending_of_summary(self.summary, empty_exit_code=self.empty_exit_code, is_repeated=self.is_repeated)


@contextmanager
def announced(
    audience: Audience, end: CommandEnd, earlier_ends: Callable[[], Iterable[Ending]] = tuple
) -> Iterator[CommandEnd]:
    """Within this context a command works on a run; tell that it starts, and how it ends, exactly once.

    `earlier_ends` returns ends of runs for which no notice was sent, such as that of a killed run.
    A notice that fails is a warning.
    """
    if not audience.options.is_wanted:
        yield end
        return
    began = audience.clock.uptime()
    started: list[Delivery] = []
    try:
        require_usable(audience.options)
        started += begin_ping(audience, policy.START, "")
        for earlier in earlier_ends() if policy.tells_stops(audience.options) else ():
            _tell(audience, earlier)
        yield end
    except BaseException as exc:
        finish_notices(audience, end.of_error(exc), began, started, is_silent=_is_seen(exc, audience.observer))
        raise
    finished = end.of_success()
    if finished is not None:
        finish_notices(audience, finished, began, started)


def finish_notices(
    audience: Audience, ending: Ending, began: float, started: Iterable[Delivery] = (), *, is_silent: bool = False
) -> None:
    """Tell an end, and wait for all notices. `began` is on the clock's uptime; with `is_silent` no message is sent.

    No notice is sent for a command that repeats itself while another process has the run or the key.

    Failures become warnings on standard error and in the log of the run; none changes how the command ends.
    """
    try:
        if audience.observer.looks_again and is_lost_to_another_process(ending):
            _report(audience, ending, audience.deliveries.finish())
            return
        if not is_silent:
            _tell(audience, ending)
        begin_ping(audience, policy.ping_suffix(ending, audience.options.ping_fail_on), str(ending.exit_code), started)
        _begin_metrics(audience, ending, began)
        _report(audience, ending, audience.deliveries.finish())
    except Exception as exc:  # noqa: BLE001 - what tells of a run must not change how it ends
        audience.observer.on_message("warning", f"the end of the run was not told ({type(exc).__name__})")


def _report(audience: Audience, ending: Ending, notices: Iterable[Delivered]) -> None:
    """Put what became of the notices into the log of the run, and warn of those that failed."""
    redactor = Redactor(*audience.secrets())
    with ExitStack() as stack:
        log = None if ending.folder is None or ending.is_repeated else ending.folder / "run.log"
        has_log = log is not None and log.exists()
        if log is not None and has_log:
            with suppress(BatchError, OSError):
                stack.enter_context(log_to_file(log, *audience.secrets()))
        for delivered in notices:
            if delivered.problem is None:
                LOGGER.info("sent: %s", delivered.what)
                continue
            warning = redactor.show(f"{delivered.what} failed: {delivered.problem}")
            audience.observer.on_message("warning", warning)
            if has_log:
                LOGGER.warning("%s", warning)


def _tell(audience: Audience, ending: Ending) -> None:
    """Begin to send the messages about an end, if it is told."""
    if not policy.is_told(ending, audience.options):
        return
    message = text.compose(ending, socket.gethostname(), with_details=audience.options.notify_details)
    redactor = Redactor(*audience.secrets())
    message = text.Message(redactor.redact(message.title), redactor.redact(message.body))
    begin_messages(audience, message, ending.run)


def begin_messages(audience: Audience, message: text.Message, about: str) -> None:
    """Begin to send a message to everybody; `about` names it in the log."""
    for url in audience.options.notify:
        audience.deliveries.begin(f"message to {shown_url(url)} ({about})", _message_work(url, message))


def _message_work(url: Secret, message: text.Message) -> Work:
    def send() -> str | None:
        from telemetron_batch.notices.messages import send_message  # an optional library

        return send_message(url, message)

    return send


def begin_ping(audience: Audience, suffix: str, body: str, after: Iterable[Delivery] = ()) -> list[Delivery]:
    """Begin to get the URL of the ping, when those it comes after are done. Return the delivery; none without a URL."""
    url = audience.options.ping
    if url is None:
        return []

    def send() -> str | None:
        from telemetron_batch.notices.ping import send_ping  # `plan` and refusals need no HTTP library

        return send_ping(url, suffix, body, audience.network)

    what = " ".join(filter(None, ("ping", suffix, f"to {shown_url(url)}")))
    return [audience.deliveries.begin(what, send, [*after])]


def _begin_metrics(audience: Audience, ending: Ending, began: float) -> None:
    file = audience.options.metrics
    if file is None:
        return
    seconds, ended_at = audience.clock.uptime() - began, audience.clock.wall()

    def write() -> str | None:
        from telemetron_batch.notices.metrics import MeasuredEnd, write_metrics  # an optional library

        return write_metrics(Path(file), MeasuredEnd(ending, audience.options.profile, ended_at, seconds))

    audience.deliveries.begin(f"metrics in {file}", write)


def require_usable(options: NoticeOptions) -> None:
    """Raise ConfigError if a library is missing, or Apprise cannot use a URL."""
    wanted: list[tuple[str, str, Any]] = [
        ("notify", "apprise", options.notify),
        ("metrics", "prometheus_client", options.metrics),
    ]
    from importlib.util import find_spec

    for extra, library, value in wanted:
        if value and find_spec(library) is None:
            advice = f"pip install 'telemetron-batch[{extra}]'"
            raise ConfigError(f"--{extra} needs telemetron-batch[{extra}]", advice)
    if options.notify:
        from telemetron_batch.notices.messages import is_known

        for url in options.notify:
            if not is_known(url):
                what = f"--notify: Apprise cannot use the URL {shown_url(url)}"
                raise ConfigError(
                    what, "see docs/alerts.md for examples, and try it with: telemetron-batch notify --test"
                )


def _is_seen(exc: BaseException, observer: RunObserver) -> bool:
    """Return whether a person at a terminal sees what is wrong with the options, so that no message is needed."""
    return observer.is_attended and isinstance(exc, ConfigError) and not isinstance(exc, PathError)
