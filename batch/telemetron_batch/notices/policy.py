"""Which ends are told, and what a ping says of them. Pure."""

from typing import Final

from telemetron_batch.config.notices import EndKind, NoticeOptions, PingFailure
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.notices.ending import Ending, is_lost_to_another_process

START: Final = "/start"
SUCCESS: Final = ""
FAILURE: Final = "/fail"

_KINDS: Final = {
    ExitCode.DONE: EndKind.FINISHED,
    ExitCode.ATTENTION: EndKind.ATTENTION,
    ExitCode.NOT_STARTED: EndKind.REFUSED,
    ExitCode.STOPPED: EndKind.STOPPED,
    ExitCode.CLIENT_REFUSED: EndKind.REFUSED,
    ExitCode.BRAKE: EndKind.STOPPED,
    ExitCode.UNBALANCED: EndKind.REFUSED,
}


def kind_of(ending: Ending) -> EndKind | None:
    """Return the kind of an end; None for an end without a message.

    Another process has the run, a person declined it, or it had finished before.
    """
    if ending.is_declined or ending.is_repeated:
        return None
    if ending.is_empty:
        return EndKind.FINISHED
    if is_lost_to_another_process(ending):
        return None
    return _KINDS.get(ExitCode(ending.exit_code))


def is_told(ending: Ending, options: NoticeOptions) -> bool:
    """Return whether messages tell this end."""
    return kind_of(ending) in options.notify_on


def tells_stops(options: NoticeOptions) -> bool:
    """Return whether messages tell of stopped and killed runs. If not, the next command of the job may."""
    return bool(options.notify) and EndKind.STOPPED in options.notify_on


def ping_suffix(ending: Ending, fail_on: PingFailure) -> str:
    """Return what is added to the path of the ping for this end."""
    is_success = ending.is_empty or ending.exit_code == ExitCode.DONE
    if ending.exit_code == ExitCode.ATTENTION and fail_on is not PingFailure.ATTENTION:
        is_success = True
    return SUCCESS if is_success else FAILURE


def counts_as_success(ending: Ending) -> bool:
    """Return whether the metrics call this end a success."""
    return ending.exit_code in (ExitCode.DONE, ExitCode.ATTENTION)
