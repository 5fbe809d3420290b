"""Show a running run on standard error, and ask before sending.

Messages go to standard error, results to standard output; tables and colours on a terminal, plain lines elsewhere.
"""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Final

import click

from telemetron_batch.cli.console import ConsoleThread, ErrorConsole
from telemetron_batch.cli.output import counted
from telemetron_batch.cli.show_plan import file_line, not_sent_line, preview_lines, show_plan, since_lines, size_line
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import NotConfirmedError
from telemetron_batch.domain.printable import printable
from telemetron_batch.sending.observer import RunObserver

if TYPE_CHECKING:  # commands that only list or check must not load what plans and sends
    from telemetron_batch.config.config import OutputOptions
    from telemetron_batch.planning.plan_summary import PlanSummary
    from telemetron_batch.sending.progress import ProgressSnapshot

_YES: Final = frozenset({"y", "yes", "j", "ja", "o", "oui", "s", "si", "sí"})

_NO: Final = frozenset({"n", "no", "nein", "non"})


class TerminalObserver(RunObserver):
    """Shows a running run on standard error, and asks there on a terminal."""

    def __init__(self, output: OutputOptions, *, file: IO[str] | None = None) -> None:
        self._output = output
        self._console = ErrorConsole(quiet=output.quiet, file=file)
        self._printer = ConsoleThread(self._console, progress=output.progress)

    def confirm_plan(self, plan: PlanSummary) -> bool:
        """Show the plan; on a terminal, ask whether to send it."""
        if not self.asks:
            lines = (
                *map(file_line, plan.files),
                *since_lines(plan),
                f"{size_line(plan)}; {not_sent_line(plan)}",
                *plan.owner_sentences,
                *plan.held_sentences,
                *preview_lines(plan),
            )
            for line in lines:
                self._printer.say(line)
            return True
        show_plan(plan, self._console, warnings=False)  # `on_message` has printed them
        if not plan.calls:
            return True
        self._console.print_line("")
        for sentence in plan.non_defaults:
            self._console.print_line(sentence)
        return ask_yes_no(_question(plan))

    def confirm_repeat(self, previous_run: str) -> bool:
        """Ask whether to process content that an earlier run has processed."""
        question = f"Run {printable(previous_run)} has already processed exactly this content. Process it again?"
        return self.asks and ask_yes_no(question)

    def on_message(self, kind: str, text: str) -> None:
        """Print the message as one line."""
        self._printer.say(f"{kind}: {text}")

    def wants_progress(self) -> bool:
        """Return whether progress is shown."""
        return self._printer.wants_progress

    def on_start(self) -> None:
        """Start the thread that prints."""
        self._printer.start()

    def on_progress(self, snapshot: ProgressSnapshot) -> None:
        """Show progress."""
        self._printer.show(snapshot)

    def on_stop(self) -> None:
        """Print what is queued and end the thread."""
        self._printer.end()

    @property
    def is_attended(self) -> bool:
        """Whether standard input and output are a terminal."""
        return is_at_terminal()

    @property
    def asks(self) -> bool:
        """Whether a person at a terminal is asked before sending."""
        return not self._output.yes and self.is_attended


def is_at_terminal() -> bool:
    """Return whether a person sees the output and can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask_yes_no(question: str) -> bool:
    """Ask a yes-or-no question; return whether the answer is yes. Enter means no.

    Raises NotConfirmedError at the end of the input, or for Ctrl-C.
    """

    def answer(text: str) -> bool:
        word = text.strip().lower()
        if word not in _YES | _NO:
            raise click.BadParameter("answer y or n")
        return word in _YES

    try:
        return bool(click.prompt(f"{question} [y/N]", default="n", show_default=False, value_proc=answer, err=True))
    except click.Abort as exc:
        raise NotConfirmedError("not confirmed", "nothing was sent") from exc


def _question(plan: PlanSummary) -> str:
    """Return the question before sending: how many devices are taken and given."""
    taken, given = (plan.action_counts[action] for action in (Action.UNASSIGN, Action.ASSIGN))
    parts = []
    if taken.devices:
        parts.append(f"take {counted(taken.devices, 'device')} from {counted(taken.customers, 'customer')}")
    if given.devices:
        parts.append(f"give {counted(given.devices, 'device')} to {counted(given.customers, 'customer')}")
    question = " and ".join(parts)
    return f"{question[:1].upper()}{question[1:]}?"
