"""Which column of a list is what: between a form, the options of the input, and a mapping that is kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.model import HiddenRowsPolicy
from telemetron_batch.init.column_inference import ColumnGuess
from telemetron_batch.run.feed_back import attention_config
from telemetron_batch.web.desk.uploads import SCAN_HEADER, Flags, Upload
from telemetron_batch.web.forms import number_of

FIELDS: Final = ("customerEmail", "deviceIdentifier", "action")
ENCODINGS: Final = ("utf-8", "windows-1252", "cp850", "iso8859-15", "utf-16")
"""Encodings that a user can choose."""
_INPUT_KEYS: Final = frozenset(
    {"column", "action", "action_word", "delimiter", "encoding", "sheet", "split", "fill_down", "hidden", "owners"}
)
"""Options that a list decides for itself, whatever the server was started with."""
_NOT_PASSED_ON: Final = frozenset(
    {"run_id", "api_key_file", "api_key_command", "online", "yes", "json", "approvals_dir"}
)


def flags_of_form(form: Mapping[str, Any], header: Sequence[str], words: Sequence[str] = ()) -> dict[str, Any]:
    """Return the mapping that a user has chosen; columns are chosen by their position, words by theirs."""
    columns = {name: _header_at(form.get(f"column.{name}"), header) for name in FIELDS}
    flags: dict[str, Any] = {"column": [f"{name}={text}" for name, text in columns.items() if text]}
    everywhere = form.get("action")
    if everywhere in (*Action,):
        flags["action"] = str(everywhere)
        flags["column"] = [one for one in flags["column"] if not one.startswith("action=")]
    flags["action_word"] = [*_words_of_form(form, words)]
    if form.get("encoding") in ENCODINGS:
        flags["encoding"] = form["encoding"]
    if form.get("hidden") in (HiddenRowsPolicy.SKIP, HiddenRowsPolicy.READ):
        flags["hidden"] = str(form["hidden"])
    if form.get("split"):
        flags["split"] = "deviceIdentifier"
    if form.get("fill_down"):
        flags["fill_down"] = ["customerEmail"]
    return {key: value for key, value in flags.items() if value}


def _header_at(position: Any, header: Sequence[str]) -> str:
    at = number_of(str(position))
    return header[at] if at is not None and at < len(header) else ""


def _words_of_form(form: Mapping[str, Any], words: Sequence[str]) -> Iterator[str]:
    for number, word in enumerate(words):
        if form.get(f"word.{number}") in (*Action,) and "=" not in word:
            yield f"{word}={form[f'word.{number}']}"


def flags_of_guess(guess: ColumnGuess) -> dict[str, Any]:
    """Return the mapping that is proposed for a list."""
    flags: dict[str, Any] = {"column": [f"{name}={guess.columns[name]}" for name in FIELDS if name in guess.columns]}
    return flags | ({} if guess.sheet is None else {"sheet": guess.sheet})


def flags_of_scan() -> dict[str, Any]:
    """Return the mapping of scanned serials."""
    return {"column": [f"{name}={name}" for name in SCAN_HEADER]}


def columns_of(flags: Flags) -> dict[str, str]:
    """Return the header of each field that a mapping names."""
    return dict(text.partition("=")[::2] for text in flags.get("column", ()))


def fitting(mappings: Mapping[str, Flags], header: Sequence[str]) -> list[str]:
    """Return the names of the kept mappings all of whose columns a list has, those of most columns first."""
    fit = {name: columns_of(flags) for name, flags in mappings.items()}
    names = [name for name, columns in fit.items() if columns and set(columns.values()) <= set(header)]
    return sorted(names, key=lambda name: (-len(fit[name]), name))


def config_of(upload: Upload, base: RunConfig) -> RunConfig:
    """Return the configuration of a run of a list: that of the server with the list's own mapping. Raises ConfigError.

    An attention file gets the mapping of its run.
    """
    config = config_of_file(upload.file, upload.flags or {}, base)
    corrected = replace(config.input, corrections=upload.corrections)
    return replace(config, input=corrected, requested_by=upload.owner)


def config_of_file(file: Path, flags: Flags, base: RunConfig) -> RunConfig:
    """Return the configuration of a run of a file with a mapping: everything else is as the server was started."""
    passed_on = {key: value for key, value in base.given_options.items() if key not in _INPUT_KEYS | _NOT_PASSED_ON}
    known = {key: value for key, value in flags.items() if key in _INPUT_KEYS}
    resolved = attention_config((str(file),), {**passed_on, **known}, {})
    given = {**resolved.given_options, "approval": str(base.approval)}
    if base.approvals_dir is not None:
        given["approvals_dir"] = str(base.approvals_dir)
    if base.approval is ApprovalPolicy.NONE:
        del given["approval"]
    return replace(
        base,
        files=(str(file),),
        input=resolved.input,
        plan=resolved.plan,
        given_options=given,
        options_from_run=resolved.options_from_run,
        online=False,
    )
