"""How a command ended that made, continued or wanted to make a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetron_batch.domain.errors import BatchError, ConfigError, NotConfirmedError, system_error
from telemetron_batch.domain.stops import ExitCode, StopReason
from telemetron_batch.reports.summary import CauseSummary, Summary

_BUG_ADVICE = "please report it with the output of -v, and keep the run's folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a command ended that made, continued or wanted to make a run."""

    exit_code: int
    run: str = ""
    """The run id; without one the names of the input files."""
    reason: str = ""
    """Why the run stopped or could not start; "" if it finished."""
    advice: str = ""
    folder: Path | None = None
    """The folder of the run, if it exists."""
    fields: Mapping[str, Any] | None = None
    """The fields of summary.json; None if the run has no outcomes."""
    causes: Sequence[CauseSummary] = ()
    is_empty: bool = False
    """Whether the input had no rows, and `--empty-exit-code` gave the exit code."""
    is_declined: bool = False
    """Whether a person answered no to the question."""
    is_repeated: bool = False
    """Whether the run had finished before."""
    is_about_options: bool = False
    """Whether the reason is about options, so that it quotes no cell of the input."""
    is_killed: bool = False
    """Whether the process of the run ended without a word, and this command found that."""


def ending_of_summary(summary: Summary, *, empty_exit_code: int | None = None, is_repeated: bool = False) -> Ending:
    """Return how a command ended that gives this summary."""
    fields, stop = summary.fields, summary.fields["stop"] or {}
    return Ending(
        exit_code=summary.exit_code,
        run=str(fields["runId"]),
        reason=stop.get("reason", ""),
        advice=stop.get("advice", ""),
        folder=summary.folder,
        fields=fields,
        causes=summary.causes,
        is_empty=not stop and not fields["rows"] and summary.exit_code == empty_exit_code,
        is_repeated=is_repeated,
    )


def ending_of_error(exc: BaseException, run: str, folder: Path | None) -> Ending:
    """Return how a command ended that raised this exception."""
    if isinstance(exc, OSError):
        exc = system_error(exc)
    if isinstance(exc, BatchError):
        return Ending(
            exit_code=int(exc.exit_code),
            run=run,
            reason=exc.reason,
            advice=exc.advice,
            folder=folder,
            is_declined=isinstance(exc, NotConfirmedError),
            is_about_options=isinstance(exc, ConfigError),
        )
    if isinstance(exc, KeyboardInterrupt):
        advice = str(exc) or "run the same command again"
        return Ending(exit_code=ExitCode.STOPPED, run=run, reason="it was interrupted", advice=advice, folder=folder)
    bug = f"an error of the program ended it ({type(exc).__name__})"
    return Ending(exit_code=ExitCode.UNBALANCED, run=run, reason=bug, advice=_BUG_ADVICE, folder=folder)


def ending_of_killed_run(folder: Path, advice: str) -> Ending:
    """Return how the run in a folder ended whose process was killed."""
    return Ending(
        exit_code=ExitCode.STOPPED,
        run=folder.name,
        reason="its process was killed, or the machine went down",
        advice=advice,
        folder=folder,
        is_killed=True,
    )


def is_lost_to_another_process(ending: Ending) -> bool:
    """Return whether another process has the run, which tells its end itself."""
    stop = (ending.fields or {}).get("stop") or {}
    return ending.exit_code == ExitCode.LOCKED or stop.get("code") == StopReason.RUN_LOST
