"""The questions of `init` on a terminal."""

import sys
from collections.abc import Sequence

import click

from telemetron_batch.config.sources import PROFILE_FILE
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.printable import printable
from telemetron_batch.domain.shell import join
from telemetron_batch.init.init_profile import InitRequest, Prompter, describe_word, make_profile
from telemetron_batch.input.action_words import action_words
from telemetron_batch.input.excerpt import printable_excerpt

_NONE = "none"


class NonInteractivePrompter(Prompter):
    """Reports the proposals on standard error, and accepts them."""

    def inform(self, text: str) -> None:
        """Print one line on standard error."""
        click.echo(printable(text), err=True)


class TerminalPrompter(NonInteractivePrompter):
    """Asks a person; the proposal is the default answer."""

    def __init__(self) -> None:
        self._headers_listed = False
        self._answered_action: Action | None = None
        """The action of all rows, if that was the answer to the question for the action column."""

    def column(self, field: str, description: str, proposed: str | None, headers: Sequence[str]) -> str | None:
        """Ask for the header of the column for a field, by its text or its number."""
        for number, header in enumerate(headers if not self._headers_listed else (), start=1):
            click.echo(f"  {number}  {printable_excerpt(header)}", err=True)
        self._headers_listed = True

        def chosen(text: str) -> str | None:
            if text in headers:
                return text
            if text.isascii() and text.isdigit() and 0 < int(text) <= len(headers):
                return headers[int(text) - 1]
            if field == "action":
                self._answered_action = action_words(InputOptions()).get(text.strip().lower())
            if text.lower() == _NONE or self._answered_action is not None:
                return None
            advice = f"name a header, or its number from 1 to {len(headers)}, or {_NONE}"
            raise click.BadParameter(f"{advice}; or assign or unassign for all rows" if field == "action" else advice)

        default = proposed or _NONE
        question = f"Which column is {field} ({description})? [{printable(default)}]"
        return click.prompt(question, default=default, show_default=False, value_proc=chosen, err=True)

    def action(self) -> Action | None:
        """Ask for the action of all rows, unless it was answered before."""
        return self._answered_action or _ask_action("No column says it. What is to be done with every row?")

    def word(self, word: str, rows: int) -> Action | None:
        """Ask for the meaning of an action word."""
        return _ask_action(f"{describe_word(word, rows)}. What does it mean?")


def run_init(request: InitRequest) -> None:
    """Make the profile, with questions on a terminal, and print the next command. Raises BatchError."""
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    result = make_profile(request, TerminalPrompter() if on_terminal else NonInteractivePrompter())
    where = printable(f"Profile {request.profile} is in {request.config}")
    click.echo(f"{where}: {result.rows:,} rows read, {result.invalid:,} of them invalid.")
    click.echo(printable(f"Next: {_next_command(request)}"))


def _next_command(request: InitRequest) -> str:
    where = [] if str(request.config) == PROFILE_FILE else ["--config", str(request.config)]
    return join(["telemetron-batch", "plan", request.file, "--profile", request.profile, *where])


def _ask_action(question: str) -> Action | None:
    words = [*(action.value for action in Action), _NONE]
    answer = click.prompt(printable(question), type=click.Choice(words), default=_NONE, err=True)
    return None if answer == _NONE else Action(answer)
