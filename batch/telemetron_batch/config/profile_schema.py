"""The JSON Schema of profile files, made from the table of options; editors complete and check profiles by it."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from telemetron_batch.config.option_values import (
    FIELDS,
    IntegerParser,
    parse_action,
    parse_action_word,
    parse_approval,
    parse_column_name,
    parse_count_or_percent,
    parse_duration,
    parse_field,
    parse_flag,
    parse_hidden,
    parse_last_line,
    parse_outcome,
    parse_phase,
    parse_positive_duration,
)
from telemetron_batch.config.options import OPTIONS, Option
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Action, Phase
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.json_schema import DIALECT, Schema
from telemetron_batch.domain.model import HiddenRowsPolicy
from telemetron_batch.domain.outcomes import Outcome

_DURATION_PATTERN: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*(s|min|m|h|d)?(\s*[0-9]+(\.[0-9]+)?\s*(s|min|m|h|d))*\s*$"
_RATE_PATTERN: Final = r"^\s*([0-9]+(\.[0-9]+)?\s*/\s*(s|sec|min|minute|h|hour)|auto)\s*$"


def _words(words: Iterable[str]) -> Schema:
    return {"type": "string", "enum": [str(word) for word in words]}


_TEXT: Final[Schema] = {"type": "string"}
_DURATION: Final[Schema] = {"type": ["string", "number"], "pattern": _DURATION_PATTERN, "minimum": 0}
_ACTION: Final = _words(Action)
_VALUES: Final[dict[Callable[[str], Any], Schema]] = {
    parse_flag: {"type": "boolean"},
    parse_duration: _DURATION,
    parse_positive_duration: _DURATION,
    parse_count_or_percent: {"type": ["string", "integer"], "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%?\s*$", "minimum": 0},
    Rate.parse: {"type": "string", "pattern": _RATE_PATTERN},
    parse_action: _ACTION,
    parse_hidden: _words(HiddenRowsPolicy),
    parse_last_line: _words(("warn", "refuse")),
    parse_approval: _words(ApprovalPolicy),
    parse_outcome: _words(Outcome),
    parse_field: _words(FIELDS),
    parse_phase: _words(Phase),
}
"""The values of options by their parser; any other is a text."""
_TABLES: Final[dict[Callable[[str], Any], Schema]] = {
    parse_column_name: {
        "type": "object",
        "properties": dict.fromkeys(FIELDS, _TEXT),
        "additionalProperties": False,
    },
    parse_action_word: {"type": "object", "additionalProperties": _ACTION},
}
"""Options of pairs NAME=VALUE, which a table can hold."""


def profile_schema() -> Schema:
    """Return the schema of telemetron-batch.toml. Names of options have hyphens; underscores are accepted too."""
    one = {"$ref": "#/$defs/profile"}
    several = {"type": "object", "additionalProperties": one, "description": "Profiles by name."}
    options = _options_schema()
    return {
        "$schema": DIALECT,
        "title": "telemetron-batch.toml",
        "description": "Options above the first table hold for all profiles. Each table is a profile.",
        **options,
        "properties": {**options["properties"], "profile": several, "profiles": several},
        "additionalProperties": one,
        "$defs": {"profile": {"description": "A profile: options of `run`.", **options, "additionalProperties": False}},
    }


def _options_schema() -> Schema:
    underscored = {f"^{option.key}$": _option_schema(option) for option in OPTIONS if option.key != option.name}
    return {
        "type": "object",
        "properties": {option.name: _option_schema(option) for option in OPTIONS},
        "patternProperties": underscored,
    }


def _option_schema(option: Option) -> Schema:
    value = _value_schema(option)
    if option.repeatable:
        table = _TABLES.get(option.parse)
        value = {"anyOf": [value, {"type": "array", "items": value}, *([] if table is None else [table])]}
    default = {} if option.default is None else {"default": _default(option)}
    return {"description": option.help, **default, **value}


def _value_schema(option: Option) -> Schema:
    if isinstance(option.parse, IntegerParser):
        return {"type": "integer", "minimum": option.parse.least, "maximum": option.parse.most}
    return _VALUES.get(option.parse, _TEXT)


def _default(option: Option) -> object:
    """Return the default as a profile would give it."""
    return option.default if isinstance(option.default, bool | int) else option.default_text
