"""Mappings of columns and words that are kept under a name: profiles that hold nothing else.

The file is one of profiles, so the command line can use it too: `--config FILE --profile NAME`.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.printable import is_printable
from telemetron_batch.init.init_profile import profile_keys
from telemetron_batch.init.profile_file import read_profiles, with_profile, without_profile, write_profiles

_MAX_NAME: Final = 60
_KEYS: Final = ("column", "action", "action-word", "encoding", "sheet", "split", "fill-down", "hidden")
"""The only keys that a mapping can have."""


def saved_mappings(file: Path) -> dict[str, dict[str, Any]]:
    """Return the mappings of a file by name, as flags of the options of the input. Raises ConfigError."""
    try:
        tables = tomllib.loads(read_profiles(file))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{file} is not valid TOML ({exc})", "correct it there") from exc
    return {name: _as_flags(table) for name, table in sorted(tables.items()) if isinstance(table, dict)}


def _as_flags(table: Mapping[str, Any]) -> dict[str, Any]:
    flags = {key.replace("-", "_"): table[key] for key in _KEYS if key in table}
    for key in ("column", "action_word"):
        if isinstance(flags.get(key), dict):
            flags[key] = [f"{name}={value}" for name, value in flags[key].items()]
    return flags


def save_mapping(file: Path, name: str, options: InputOptions) -> None:
    """Keep the mapping of these options under a name, in the place of one of that name. Raises ConfigError, DiskError.

    Nothing but the mapping is written: no address, no key and no command.
    """
    if not name or len(name) > _MAX_NAME or not is_printable(name) or name in ("profile", "profiles", *_KEYS):
        raise ConfigError("a mapping needs a name of at most 60 printable characters", "name it otherwise")
    keys = {key: value for key, value in profile_keys(options).items() if key in _KEYS}
    write_profiles(file, with_profile(read_profiles(file), name, keys, force=True))


def remove_mapping(file: Path, name: str) -> None:
    """Forget the mapping of this name, if there is one. Raises ConfigError, DiskError."""
    if name in saved_mappings(file):
        write_profiles(file, without_profile(read_profiles(file), name))
