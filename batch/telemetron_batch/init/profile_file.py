"""Add or replace a profile in the text of a file of profiles.

Changes nothing else in the text, comments included; before it is written, the new text is parsed
and compared with the old one.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

from telemetron_batch.domain.errors import ConfigError, DiskError, write_error
from telemetron_batch.storage.atomic_file import atomic_write

Value: TypeAlias = str | bool | list[str] | Mapping[str, str]
"""The value of a key."""

_COMMENTS: Final = re.compile(r"(?:^[ \t]*(?:#[^\n]*)?\r?\n)+(?=[ \t]*\[|\Z)|^[ \t]*#[^\n]*\Z", re.MULTILINE)
"""Comments and empty lines directly above a table or at the end of a text."""
_PARENTS: Final = ("profile", "profiles")


def with_profile(text: str, name: str, keys: Mapping[str, Value], *, force: bool = False) -> str:
    """Return the text of a file of profiles with the profile `name` added or, if `force`, replaced.

    Raises ConfigError if the text is not TOML, or if the profile exists and `force` is false.
    """
    before = _parsed(text)
    holders = _tables_with(before, name)
    if name in _PARENTS or (holders and not force):
        raise ConfigError(f"there is a profile {name!r} already", "name another with --profile, or say --force")
    kept = without_profile(text, name) if holders else text
    after = f"{kept.rstrip()}\n\n{_profile_text(name, keys)}".lstrip("\n")
    if not _changes_only(after, before, name, keys):
        raise _not_replaceable(name)
    return after


def read_profiles(file: Path) -> str:
    """Return the text of a file of profiles; empty if there is no such file. Raises ConfigError."""
    try:
        return file.read_bytes().decode() if file.exists() else ""  # bytes, to keep the line ends
    except OSError as exc:
        raise ConfigError(f"cannot read {file} ({exc.strerror})", "name another with --config") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file} is not valid TOML ({exc})", "correct it there") from exc


def write_profiles(file: Path, text: str) -> None:
    """Write the file atomically and keep its permissions. Raises ConfigError or DiskError."""
    target = file.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    try:
        with atomic_write(target) as opened:
            opened.write(text.encode())
    except DiskError as exc:
        cause = exc.__cause__
        raise write_error(str(file), cause) if isinstance(cause, OSError) else exc from exc
    target.chmod(mode)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"the file of profiles is not valid TOML ({exc})", "correct it there") from exc


def _tables_with(tables: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the tables that have this profile: the whole content and its parent tables."""
    return [table for table in (tables, *map(tables.get, _PARENTS)) if isinstance(table, dict) and name in table]


def _changes_only(after: str, before: Mapping[str, Any], name: str, keys: Mapping[str, Value]) -> bool:
    """Return whether the new text differs from the old content only in this profile."""
    try:
        tables = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        return False
    if _tables_with(tables, name) != [tables] or tables[name] != keys:
        return False
    return _other_profiles(tables, name) == _other_profiles(before, name)


def _profile_text(name: str, keys: Mapping[str, Value]) -> str:
    profile = tomlkit.table()
    for key, value in keys.items():
        profile.add(key, _inline(value) if isinstance(value, Mapping) else value)
    return tomlkit.document().add(name, profile).as_string()


def _inline(value: Mapping[str, str]) -> InlineTable:
    table = tomlkit.inline_table()
    table.update(value)
    return table


def without_profile(text: str, name: str) -> str:
    """Return the text without this profile; comments directly above a table stay."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as exc:  # it reads less than tomllib
        raise _not_replaceable(name) from exc
    for key, item in document.body:
        if key is not None and key.key in _PARENTS and isinstance(item, Table):
            _remove(item.value, name)
    _remove(document, name)
    return document.as_string()


def _remove(tables: Container, name: str) -> None:
    """Remove the tables of this name without their last comments, which belong to the next table."""
    for at, (key, item) in enumerate(tables.body):
        if key is not None and key.key == name:
            tables.body[at] = None, tomlkit.ws("".join(_COMMENTS.findall(item.as_string())))


def _not_replaceable(name: str) -> ConfigError:
    return ConfigError(f"profile {name!r} cannot be replaced without harm to the rest", "edit the file by hand")


def _other_profiles(tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the content without this profile."""
    others = {key: value for key, value in tables.items() if key != name}
    for parent in _PARENTS:
        if isinstance(others.get(parent), dict):
            others[parent] = {key: value for key, value in others[parent].items() if key != name}
            if not others[parent]:
                del others[parent]
    return others
