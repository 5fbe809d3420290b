"""The questions of `init` on a terminal. Words and prompts only; what they are for is decided elsewhere."""

import shlex
import sys
from collections.abc import Sequence

import click

from telemetron_batch.config.sources import PROFILE_FILE
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.printable import printable
from telemetron_batch.init.init_profile import InitRequest, InitResult, Prompter, describe_word, make_profile
from telemetron_batch.input.validation import action_words, printable_excerpt

_NONE = "none"


class NonInteractivePrompter(Prompter):
    """Says on standard error what was found, and takes it."""

    def told(self, text: str) -> None:
        """Say it in one line."""
        click.echo(printable(text), err=True)


class TerminalInterview(NonInteractivePrompter):
    """Asks a person, with what was found as the answer that Enter gives."""

    def __init__(self) -> None:
        self._listed = False
        self._said: Action | None = None
        """The action of every row, said in answer to the question for its column."""

    def column(self, field: str, means: str, proposed: str | None, headers: Sequence[str]) -> str | None:
        """Ask for the header of a field's column, by its text or its number."""
        for number, header in enumerate(headers if not self._listed else (), start=1):
            click.echo(f"  {number}  {printable_excerpt(header)}", err=True)
        self._listed = True

        def chosen(text: str) -> str | None:
            if text in headers:
                return text
            if text.isascii() and text.isdigit() and 0 < int(text) <= len(headers):
                return headers[int(text) - 1]
            if field == "action":
                self._said = action_words(InputOptions()).get(text.strip().lower())
            if text.lower() == _NONE or self._said is not None:
                return None
            told = f"name a header, or its number from 1 to {len(headers)}, or {_NONE}"
            raise click.BadParameter(f"{told}; or assign or unassign for all rows" if field == "action" else told)

        default = proposed or _NONE
        question = f"Which column is {field} ({means})? [{printable(default)}]"
        return click.prompt(question, default=default, show_default=False, value_proc=chosen, err=True)

    def action(self) -> Action | None:
        """Ask what every row is to do, unless that was said."""
        return self._said or _ask_action("No column says it. What is to be done with every row?")

    def word(self, word: str, rows: int) -> Action | None:
        """Ask what a word means."""
        return _ask_action(f"{describe_word(word, rows)}. What does it mean?")


def run_init(wanted: InitRequest) -> None:
    """Make the profile, with a person's help on a terminal, and say what comes next. Raises BatchError."""
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    made = make_profile(wanted, TerminalInterview() if on_terminal else NonInteractivePrompter())
    where = printable(f"Profile {made.profile} is in {made.config}")
    click.echo(f"{where}: {made.rows:,} rows read, {made.invalid:,} of them invalid.")
    click.echo(printable(f"Next: {_next(wanted, made)}"))


def _next(wanted: InitRequest, made: InitResult) -> str:
    where = [] if str(made.config) == PROFILE_FILE else ["--config", str(made.config)]
    return shlex.join(["telemetron-batch", "plan", wanted.file, "--profile", made.profile, *where])


def _ask_action(question: str) -> Action | None:
    words = [*(action.value for action in Action), _NONE]
    answer = click.prompt(printable(question), type=click.Choice(words), default=_NONE, err=True)
    return None if answer == _NONE else Action(answer)
