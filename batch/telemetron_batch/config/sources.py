"""Where the text of an option comes from: a flag, an environment variable or the file of profiles."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from telemetron_batch.config.options import OPTIONS, OPTIONS_BY_KEY, Option
from telemetron_batch.domain.errors import ConfigError

PROFILE_FILE: Final = "telemetron-batch.toml"
KEY_VARIABLE: Final = "TELEMETRON_API_KEY"
PROFILE_VARIABLES: Final = ("TELEMETRON_PROFILE", "TELEMETRON_CONFIG")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Options that a run was started with, and that hold for what is fed back from it."""

    run: str = ""
    """Its id."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """By their keys, as flags."""


def raw_value(
    option: Option,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    profile: Mapping[str, Any],
    where: str,
) -> tuple[str, Sequence[str] | None]:
    """Where an option's text comes from, and the text or texts; None if nobody says anything."""
    flag = flags.get(option.key)
    if flag is not None and flag != ():
        return f"--{option.name}", _as_list(flag)
    variable = environ.get(option.variable)
    if variable is not None and variable != "":
        return option.variable, variable.split(",") if option.repeatable else [variable]
    if option.key in profile:
        return f"{where}: {option.name}", _as_list(profile[option.key])
    return "", None


def with_recorded(flags: Mapping[str, Any], profile: Mapping[str, Any], recorded: Recorded) -> dict[str, Any]:
    """Return the flags with what is recorded besides; a profile that a flag names counts as flags do.

    What a flag says of one column or word leaves what is recorded of others.
    """
    said = {key: value for key, value in flags.items() if value is not None and value != ()}
    known = profile if said.get("profile") or said.get("config") else {}
    added = {key: value for key, value in recorded.options.items() if key not in {*said, *known}}
    for key in ("column", "action_word"):
        if key in recorded.options and key in said:
            added[key] = [*_as_list(recorded.options[key]), *_as_list(said[key])]
    return {**flags, **added}


def _as_list(value: Any) -> list[str]:
    """A flag's or a profile's value as texts: a table is read as NAME=VALUE pairs."""
    if isinstance(value, Mapping):
        return [f"{name}={text}" for name, text in value.items()]
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    return [str(value)]


def load_profile(flags: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The keys of the chosen profile (spelled with _), and where they stand.

    Keys at the top of the file hold for all profiles; a profile is a table [NAME] or
    [profile.NAME].
    """
    name = flags.get("profile") or environ.get("TELEMETRON_PROFILE")
    config = flags.get("config") or environ.get("TELEMETRON_CONFIG")
    if not name and not config:
        return {}, ""
    file = Path(config or PROFILE_FILE)
    tables = _toml(file)
    keys = {key: value for key, value in tables.items() if not isinstance(value, dict) or _is_table_option(key)}
    if name:
        inner = [tables[key] for key in ("profiles", "profile") if isinstance(tables.get(key), dict)]
        profiles = {name: table for one in (tables, *inner) for name, table in one.items()}
        if not isinstance(profiles.get(name), dict):
            known = [key for key, value in profiles.items() if isinstance(value, dict)]
            raise ConfigError(f"{file} has no profile {name!r}", f"it has: {', '.join(known) or 'none'}")
        keys |= profiles[name]
    return {_normalize_key(key): value for key, value in keys.items()}, f"{file} [{name}]" if name else str(file)


def _toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except OSError as exc:
        raise ConfigError(f"cannot read {file} ({exc.strerror})", "name the file with --config") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file} is not valid TOML ({exc})", "correct it there") from exc


def _is_table_option(key: str) -> bool:
    option = OPTIONS_BY_KEY.get(_normalize_key(key))
    return option is not None and option.repeatable


def _normalize_key(key: str) -> str:
    return key.replace("-", "_")


def unknown_keys(profile: Mapping[str, Any], where: str) -> Iterator[str]:
    """What is wrong with the keys of a profile."""
    for key in profile:
        if key not in OPTIONS_BY_KEY:
            close = difflib.get_close_matches(key, OPTIONS_BY_KEY, n=1)
            hint = f"; did you mean {OPTIONS_BY_KEY[close[0]].name}?" if close else ""
            yield f"{where}: unknown key {key.replace('_', '-')!r}{hint}"


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Variables that look like ours and are not."""
    known = {option.variable for option in OPTIONS} | {
        KEY_VARIABLE,
        *PROFILE_VARIABLES,
    }
    return (name for name in environ if name.startswith("TELEMETRON_") and name not in known)
