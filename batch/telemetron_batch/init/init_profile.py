"""Make a profile for a file: guess its columns, ask what is unclear, and write the profile.

A `Prompter` answers the questions, so that a terminal, a script or a test can do so. The
file of profiles is written once the questions are answered, before the input is read with it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.model import HiddenRowsPolicy, InputOptions
from telemetron_batch.domain.printable import encodable
from telemetron_batch.init.column_inference import ActionWordCounts, ColumnGuess, count_action_words, survey_file
from telemetron_batch.init.profile_file import Value, read_profiles, with_profile, write_profiles
from telemetron_batch.input.action_words import action_words
from telemetron_batch.input.dialect import required_fields
from telemetron_batch.input.excerpt import printable_excerpt

_FIELD_DESCRIPTIONS: Final = {
    "customerEmail": "the customer's email address",
    "deviceIdentifier": "the device's serial or identifier",
    "action": "the word for assign or unassign",
    "deviceType": "the device's type",
}


class Prompter:
    """Answers the questions about a file; this one accepts every proposal, and reports it."""

    def inform(self, text: str) -> None:
        """Report something to the user."""

    def column(
        self,
        field: str,
        description: str,
        proposed: str | None,
        headers: Sequence[str],  # noqa: ARG002 - for subclasses that let the user choose
    ) -> str | None:
        """Return the header of the column for a field, or None if there is no such column."""
        if proposed is not None:
            self.inform(f'{field} ({description}) is taken from "{proposed}"')
        return proposed

    def action(self) -> Action | None:
        """Return the action of all rows of a file without an action column, or None if it is unknown."""
        return None

    def word(self, word: str, rows: int) -> Action | None:
        """Return what an unknown action word means, or None to make its rows invalid. Never guesses."""
        self.inform(f"{describe_word(word, rows)}, which stays unknown: give it with --action-word WORD=ACTION")
        return None


@dataclass(frozen=True, slots=True)
class InitRequest:
    """The arguments of `init`: the input file, the known options, and the profile to write."""

    file: str
    input: InputOptions
    profile: str
    config: Path
    force: bool


@dataclass(frozen=True, slots=True)
class InitResult:
    """The number of rows read with the new profile, and how many of them are invalid."""

    rows: int
    invalid: int


def describe_word(word: str, rows: int) -> str:
    """Return the start of a sentence about an action word."""
    return f'{rows:,} {"row says" if rows == 1 else "rows say"} "{printable_excerpt(word)}"'


def default_profile(file: str) -> str:
    """Return the default name of the profile: the name of the file without its suffixes."""
    name = encodable(Path(file).name).removesuffix(".gz")
    return name.rpartition(".")[0] or name


def make_profile(request: InitRequest, prompter: Prompter) -> InitResult:
    """Inspect the file, ask what is unclear, write the profile, and read the file with its options.

    Raises ConfigError, InputError or DiskError.
    """
    if request.file == "-":
        raise ConfigError("init reads its file several times, and standard input can be read only once", "name a file")
    if encodable(request.profile) != request.profile:
        raise ConfigError(
            f"{encodable(request.profile)!r} is not valid text", "name the profile in UTF-8 with --profile"
        )
    option = OPTIONS_BY_KEY.get(request.profile.replace("-", "_"))
    if option is not None and option.repeatable:  # a table of this name sets the option for all profiles
        raise ConfigError(f"{request.profile} is an option's name", "give the profile another name with --profile")
    text = read_profiles(request.config)
    with_profile(text, request.profile, {}, force=request.force)  # refuses a used name before asking any question
    guess = survey_file(request.file, request.input)
    options = replace(_with_columns(request.input, guess, prompter), sheet=guess.sheet)
    words = count_action_words(request.file, options)
    for warning in words.loaded.files[0].warnings:
        prompter.inform(f"warning: {warning}")
    options = replace(options, action_words=_resolve_action_words(options, words.counts, prompter))
    _require_known_action(options, words)
    # The next workbook may have another sheet name, so only a requested sheet goes into the profile.
    options = replace(options, sheet=request.input.sheet)
    write_profiles(request.config, with_profile(text, request.profile, profile_keys(options), force=request.force))
    problems = count_action_words(request.file, options).loaded.rows.problem
    return InitResult(len(problems), int((problems != 0).sum()))


def profile_keys(options: InputOptions) -> dict[str, Value]:
    """Return the keys of a profile for these options."""
    keys: dict[str, Value | None] = {
        "column": dict(options.columns),
        "action": None if options.action is None else options.action.value,
        "action-word": {word: action.value for word, action in options.action_words.items()},
        "delimiter": options.delimiter,
        "encoding": options.encoding,
        "sheet": options.sheet,
        "split": None if options.split is None else "=".join(options.split),
        "fill-down": list(options.fill_down),
        "owners": None if options.owners is None else options.owners.path or options.owners.source.value,
        "hidden": None if options.hidden is HiddenRowsPolicy.REFUSE else options.hidden.value,
        "trailer-count": options.trailer_count,
        "multiline-cells": options.multiline_cells,
    }
    return {key: value for key, value in keys.items() if value}


def _with_columns(options: InputOptions, guess: ColumnGuess, prompter: Prompter) -> InputOptions:
    columns: dict[str, str] = dict(options.columns)
    if options.may_lack_customers and "customerEmail" in guess.columns:
        columns.setdefault("customerEmail", guess.columns["customerEmail"])
    for field in required_fields(options):
        if field in columns:
            continue
        header = prompter.column(field, _FIELD_DESCRIPTIONS[field], guess.columns.get(field), guess.header)
        if header is not None:
            columns[field] = header
        elif field != "action":
            raise InputError(
                f"no column for {field} ({_FIELD_DESCRIPTIONS[field]}) is found{_candidates_text(guess, field)}",
                _advice(field),
            )
        else:
            options = replace(options, action=prompter.action())
            if options.action is None:
                advice = f"{_advice(field)}, or give --action assign or --action unassign for all rows"
                raise InputError(f"no column for assign or unassign is found{_candidates_text(guess, field)}", advice)
    return replace(options, columns=columns)


def _advice(field: str) -> str:
    return f'say which column it is, as in --column {field}="..."'


def _candidates_text(guess: ColumnGuess, field: str) -> str:
    headers = guess.ambiguous.get(field) or guess.header
    shown_ones = ", ".join(f'"{printable_excerpt(header)}"' for header in headers[:20] if header)
    return f": it may be {shown_ones}" if field in guess.ambiguous else f" among {shown_ones}"


def _resolve_action_words(options: InputOptions, counts: Counter[str], prompter: Prompter) -> Mapping[str, Action]:
    """Return the user's action words, and the answers for the unknown words of the file."""
    known, meanings = action_words(options), dict(options.action_words)
    lowered: Counter[str] = Counter()
    for word, rows in counts.items():
        lowered[word.lower()] += rows
    for word, rows in lowered.most_common():
        if word in known:
            prompter.inform(f"{describe_word(word, rows)}: {known[word].value}")
        elif "=" in word:
            prompter.inform(f"{describe_word(word, rows)}, which no option can name; they will be invalid")
        else:
            meaning = prompter.word(word, rows)
            if meaning is not None:
                meanings[word] = meaning
    return meanings


def _require_known_action(options: InputOptions, words: ActionWordCounts) -> None:
    known = action_words(options)
    if options.action is None and words.counts and not any(word.lower() in known for word in words.counts):
        listed = ", ".join(f'"{printable_excerpt(word)}" ({rows} rows)' for word, rows in words.counts.most_common(10))
        raise ConfigError(f"no action word is known; found {listed}", "say what they mean with --action-word")
