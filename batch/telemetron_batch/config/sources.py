"""Find the text of an option: in a flag, an environment variable or the profile file."""

import difflib
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from telemetron_batch.config.options import KEY_VARIABLE, OPTIONS, OPTIONS_BY_KEY, Option
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.ownership import HAS_OWNERS, is_owned, owner_name
from telemetron_batch.domain.shell import quote

PROFILE_FILE: Final = "telemetron-batch.toml"
PROFILE_VARIABLE: Final = "TELEMETRON_PROFILE"
CONFIG_VARIABLE: Final = "TELEMETRON_CONFIG"
PROFILE_VARIABLES: Final = (PROFILE_VARIABLE, CONFIG_VARIABLE)


@dataclass(frozen=True, slots=True)
class InheritedOptions:
    """Options of an earlier run that apply when one of its own files is the input."""

    run: str = ""
    """Id of that run."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Values by option key, in the form of flags."""


def raw_value(
    option: Option,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    profile: Mapping[str, Any],
    where: str,
) -> tuple[str, Sequence[str] | None]:
    """Return the source of an option and its texts; None as texts if no source gives the option."""
    flag = flags.get(option.key)
    if flag is not None and flag != ():
        return f"--{option.name}", _as_list(flag)
    variable = environ.get(option.variable)
    if variable is not None and variable != "":
        return option.variable, option.split(variable)
    if option.key in profile:
        return f"{where}: {option.name}", _as_list(profile[option.key])
    return "", None


def with_inherited(flags: Mapping[str, Any], profile: Mapping[str, Any], recorded: InheritedOptions) -> dict[str, Any]:
    """Return the flags, completed by recorded options. A profile that a flag names overrides them as flags do.

    A flag for one column or action word keeps the recorded values for the others.
    """
    given = {key: value for key, value in flags.items() if value is not None and value != ()}
    from_profile = profile if given.get("profile") or given.get("config") else {}
    added = {key: value for key, value in recorded.options.items() if key not in {*given, *from_profile}}
    for key in ("column", "action_word"):
        if key in recorded.options and key in given:
            added[key] = [*_as_list(recorded.options[key]), *_as_list(given[key])]
    return {**flags, **added}


def _as_list(value: Any) -> list[str]:
    """Return the value of a flag or profile as texts; a table becomes NAME=VALUE pairs."""
    if isinstance(value, Mapping):
        return [f"{name}={text}" for name, text in value.items()]
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    return [str(value)]


def load_profile(flags: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Return the keys of the chosen profile, spelled with underscores, and a name for their source.

    Keys at the top of the file apply to all profiles. A profile is a table [NAME], [profile.NAME] or
    [profiles.NAME].
    """
    name = flags.get("profile") or environ.get(PROFILE_VARIABLE)
    config = flags.get("config") or environ.get(CONFIG_VARIABLE)
    if not name and not config:
        return {}, ""
    file = Path(config or PROFILE_FILE)
    tables, found = _toml(file)
    keys = {key: value for key, value in tables.items() if not isinstance(value, dict) or _is_table_option(key)}
    if name:
        inner = [tables[key] for key in ("profiles", "profile") if isinstance(tables.get(key), dict)]
        profiles = {name: table for one in (tables, *inner) for name, table in one.items()}
        if not isinstance(profiles.get(name), dict):
            known = [key for key, value in profiles.items() if isinstance(value, dict)]
            raise ConfigError(f"{file} has no profile {name!r}", f"it has: {', '.join(known) or 'none'}")
        keys |= profiles[name]
    if any(_normalize_key(key) == "api_key_command" for key in keys):
        _require_unchangeable(file, found)
    return {_normalize_key(key): value for key, value in keys.items()}, f"{file} [{name}]" if name else str(file)


def _toml(file: Path) -> tuple[dict[str, Any], os.stat_result]:
    """Return the content of a file, and the status of the file that was read."""
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened), os.fstat(opened.fileno())
    except OSError as exc:
        raise ConfigError(f"cannot read {file} ({exc.strerror})", "name the file with --config") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file} is not valid TOML ({exc})", "correct it there") from exc


def _require_unchangeable(file: Path, found: os.stat_result) -> None:
    """Raise ConfigError if another user can have written the file, whose api-key-command would be run."""
    if not is_owned(found):
        what = f"{file} belongs to {owner_name(found)}, so its api-key-command is not run"
        raise ConfigError(what, "name a file of yours with --config")
    if HAS_OWNERS and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        what = f"others can write to {file} (mode {stat.S_IMODE(found.st_mode):04o})"
        raise ConfigError(f"{what}, so its api-key-command is not run", f"run: chmod go-w {quote(str(file))}")


def _is_table_option(key: str) -> bool:
    option = OPTIONS_BY_KEY.get(_normalize_key(key))
    return option is not None and option.repeatable


def _normalize_key(key: str) -> str:
    return key.replace("-", "_")


def unknown_keys(profile: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield a problem for each unknown key of a profile."""
    for key in profile:
        if key not in OPTIONS_BY_KEY:
            close = difflib.get_close_matches(key, OPTIONS_BY_KEY, n=1)
            hint = f"; did you mean {OPTIONS_BY_KEY[close[0]].name}?" if close else ""
            yield f"{where}: unknown key {key.replace('_', '-')!r}{hint}"


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Return the names of environment variables that begin with TELEMETRON_ but are not options."""
    known = {option.variable for option in OPTIONS} | {
        KEY_VARIABLE,
        *PROFILE_VARIABLES,
    }
    return (name for name in environ if name.startswith("TELEMETRON_") and name not in known)
