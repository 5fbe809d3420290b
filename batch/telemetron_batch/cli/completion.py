"""Completion of commands, options and their values in bash, zsh and fish.

What click does not know by itself is which texts are files, folders, runs or one of a
few words. Imports nothing heavy: it is asked at every press of the Tab key.
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
    told = [*words]

    def complete(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in told if word.lower().startswith(begun.lower())]

    return complete


def _path(kind: str) -> Completer:
    """Leave it to the shell, which knows its files better."""

    def complete(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        return [CompletionItem(begun, type=kind)]

    return complete


def runs(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The runs under the reports folder, or a run's folder."""
    if "/" in begun:
        return [CompletionItem(begun, type="dir")]
    found = Path(context.params.get("reports_dir") or "reports").glob(f"{begun}*/journal.sqlite3")
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
    """What completes a value that the help calls so; None where nobody can know."""
    return _BY_METAVAR.get(metavar)


def script(shell: str, program: click.Command) -> str:
    """The script that a shell reads in to complete our commands."""
    found = get_completion_class(shell)
    if found is None:
        raise ValueError(f"no completion for {shell}")
    return found(program, {}, PROGRAM, VARIABLE).source()
