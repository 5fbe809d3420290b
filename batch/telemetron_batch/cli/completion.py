"""Completion of commands, options and their values in bash, zsh and fish.

click completes commands and options; this module adds values: files, folders, runs and fixed words. It imports
nothing heavy, because it runs at every press of the Tab key.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.delimiters import DELIMITER_NAMES
from telemetron_batch.domain.outcomes import Outcome

SHELLS: Final = ("bash", "zsh", "fish")
PROGRAM: Final = "telemetron-batch"
VARIABLE: Final = "_TELEMETRON_BATCH_COMPLETE"

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _choices(words: Iterable[str]) -> Completer:
    choices = [*words]

    def complete(_context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in choices if word.lower().startswith(prefix.lower())]

    return complete


def _path(kind: str) -> Completer:
    """Let the shell complete the path."""

    def complete(_context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
        return [CompletionItem(prefix, type=kind)]

    return complete


def runs(context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """Return the runs in the reports folder; a prefix with a slash is completed as a folder."""
    if "/" in prefix:
        return [CompletionItem(prefix, type="dir")]
    found = Path(context.params.get("reports_dir") or "reports").glob(f"{prefix}*/journal.sqlite3")
    return [CompletionItem(path.parent.name) for path in sorted(found)]


files: Final = _path("file")
_BY_METAVAR: Final = {
    "FILE": files,
    "DIR": _path("dir"),
    "ACTION": _choices(Action),
    "OUTCOME": _choices(Outcome),
    "CHAR": _choices(DELIMITER_NAMES.values()),
    "RATE": _choices(("auto", "5/s", "10/s", "20/s", "600/min")),
}


def completer_for(metavar: str) -> Completer | None:
    """Return the completer for values with this placeholder; None if they cannot be completed."""
    return _BY_METAVAR.get(metavar)


def script(shell: str, program: click.Command) -> str:
    """Return the script that a shell sources to complete our commands."""
    found = get_completion_class(shell)
    if found is None:
        raise ValueError(f"no completion for {shell}")
    return found(program, {}, PROGRAM, VARIABLE).source()
