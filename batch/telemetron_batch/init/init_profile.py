"""From a file nobody has described yet to a profile under which it can be planned.

Asks through an `Prompter`, so that a terminal, a script and a test can answer. Writes
the file of profiles last, and only when the input has been read under what it says.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.model import HiddenRows, InputOptions
from telemetron_batch.domain.printable import encodable
from telemetron_batch.init.column_inference import ActionWordCounts, ColumnGuess, count_action_words, survey_file
from telemetron_batch.init.profile_file import Value, read_profiles, with_profile, write_profiles
from telemetron_batch.input.dialect import required_fields
from telemetron_batch.input.validation import action_words, printable_excerpt

_FIELD_DESCRIPTIONS: Final = {
    "customerEmail": "the customer's email address",
    "deviceIdentifier": "the device's serial or identifier",
    "action": "the word for assign or unassign",
    "deviceType": "the device's type",
}


class Prompter:
    """Who answers where the file does not: this one takes what is proposed, and says so."""

    def told(self, text: str) -> None:
        """Say something."""

    def column(
        self,
        field: str,
        means: str,
        proposed: str | None,
        headers: Sequence[str],  # noqa: ARG002 - for those who choose
    ) -> str | None:
        """The header of a field's column; None if there is none."""
        if proposed is not None:
            self.told(f'{field} ({means}) is taken from "{proposed}"')
        return proposed

    def action(self) -> Action | None:
        """The action of every row of a file that has no column for it; None if nobody knows."""
        return None

    def word(self, word: str, rows: int) -> Action | None:
        """What an unknown action word means; None to leave its rows out. Never guessed."""
        self.told(f"{describe_word(word, rows)}, which stays unknown: say it with --action-word WORD=ACTION")
        return None


@dataclass(frozen=True, slots=True)
class InitRequest:
    """What `init` is to do: the input file, what is known of it, and where the profile goes."""

    file: str
    input: InputOptions
    profile: str
    config: Path
    force: bool


@dataclass(frozen=True, slots=True)
class InitResult:
    """A profile that was written."""

    profile: str
    config: Path
    rows: int
    invalid: int


def describe_word(word: str, rows: int) -> str:
    """The beginning of a sentence on an action word."""
    return f'{rows:,} {"row says" if rows == 1 else "rows say"} "{printable_excerpt(word)}"'


def default_profile(file: str) -> str:
    """The profile's name where none is said: the file's, without its endings."""
    name = encodable(Path(file).name).removesuffix(".gz")
    return name.rpartition(".")[0] or name


def make_profile(wanted: InitRequest, interview: Prompter) -> InitResult:
    """Look at the file, ask, read it so, and write the profile. Raises ConfigError, InputError or DiskError."""
    if wanted.file == "-":
        raise ConfigError("init reads its file several times, and standard input comes but once", "name a file")
    if encodable(wanted.profile) != wanted.profile:
        raise ConfigError(
            f"{encodable(wanted.profile)!r} is not valid text", "name the profile in UTF-8 with --profile"
        )
    option = OPTIONS_BY_KEY.get(wanted.profile.replace("-", "_"))
    if option is not None and option.repeatable:  # its table would hold for all profiles
        raise ConfigError(f"{wanted.profile} is an option's name", "name the profile otherwise with --profile")
    text = read_profiles(wanted.config)
    with_profile(text, wanted.profile, {}, force=wanted.force)  # a name that is taken is said before any question
    survey = survey_file(wanted.file, wanted.input)
    options = replace(_with_columns(wanted.input, survey, interview), sheet=survey.sheet)
    words = count_action_words(wanted.file, options)
    for warning in words.loaded.files[0].warnings:
        interview.told(f"warning: {warning}")
    options = replace(options, action_words=_resolve_action_words(options, words.counts, interview))
    _require_known_action(options, words)
    # Next week's workbook has another sheet: one is pinned only where that was asked for.
    options = replace(options, sheet=wanted.input.sheet)
    write_profiles(wanted.config, with_profile(text, wanted.profile, profile_keys(options), force=wanted.force))
    problems = count_action_words(wanted.file, options).loaded.rows.problem
    return InitResult(wanted.profile, wanted.config, len(problems), int((problems != 0).sum()))


def profile_keys(options: InputOptions) -> dict[str, Value]:
    """The keys of a profile that say the same as these options."""
    keys: dict[str, Value | None] = {
        "column": dict(options.columns),
        "action": None if options.action is None else options.action.value,
        "action-word": {word: action.value for word, action in options.action_words.items()},
        "delimiter": options.delimiter,
        "encoding": options.encoding,
        "sheet": options.sheet,
        "split": None if options.split is None else "=".join(options.split),
        "fill-down": list(options.fill_down),
        "hidden": None if options.hidden is HiddenRows.REFUSE else options.hidden.value,
        "trailer-count": options.trailer_count,
        "multiline-cells": options.multiline_cells,
    }
    return {key: value for key, value in keys.items() if value}


def _with_columns(options: InputOptions, survey: ColumnGuess, interview: Prompter) -> InputOptions:
    columns: dict[str, str] = dict(options.columns)
    for field in required_fields(options):
        if field in columns:
            continue
        header = interview.column(field, _FIELD_DESCRIPTIONS[field], survey.columns.get(field), survey.header)
        if header is not None:
            columns[field] = header
        elif field != "action":
            raise InputError(
                f"{field} ({_FIELD_DESCRIPTIONS[field]}) cannot be told{_candidates_text(survey, field)}",
                _advice(field),
            )
        else:
            options = replace(options, action=interview.action())
            if options.action is None:
                advice = f"{_advice(field)}, or give --action assign or --action unassign for all rows"
                raise InputError(
                    f"no column for assign or unassign can be told{_candidates_text(survey, field)}", advice
                )
    return replace(options, columns=columns)


def _advice(field: str) -> str:
    return f'say which column it is, as in --column {field}="..."'


def _candidates_text(survey: ColumnGuess, field: str) -> str:
    headers = survey.ambiguous.get(field) or survey.header
    shown_ones = ", ".join(f'"{printable_excerpt(header)}"' for header in headers[:20] if header)
    return f": it may be {shown_ones}" if field in survey.ambiguous else f" among {shown_ones}"


def _resolve_action_words(options: InputOptions, counts: Counter[str], interview: Prompter) -> Mapping[str, Action]:
    """The user's action words, and what is answered for those that nobody knows."""
    known, meanings = action_words(options), dict(options.action_words)
    lowered: Counter[str] = Counter()
    for word, rows in counts.items():
        lowered[word.lower()] += rows
    for word, rows in lowered.most_common():
        if word in known:
            interview.told(f"{describe_word(word, rows)}: {known[word].value}")
        elif "=" in word:
            interview.told(f"{describe_word(word, rows)}, which no option can name; they will be invalid")
        else:
            meaning = interview.word(word, rows)
            if meaning is not None:
                meanings[word] = meaning
    return meanings


def _require_known_action(options: InputOptions, words: ActionWordCounts) -> None:
    known = action_words(options)
    if options.action is None and words.counts and not any(word.lower() in known for word in words.counts):
        listed = ", ".join(f'"{printable_excerpt(word)}" ({rows} rows)' for word, rows in words.counts.most_common(10))
        raise ConfigError(f"no action word is known; found {listed}", "say what they mean with --action-word")
