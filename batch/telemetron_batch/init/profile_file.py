"""Add or replace a profile in the text of a file of profiles.

Changes nothing else in the text, comments included; before it is written, the new text is parsed
and compared with the old one.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from telemetron_batch.domain.errors import ConfigError, DiskError, write_error
from telemetron_batch.storage.atomic_file import atomic_write

Value: TypeAlias = str | bool | list[str] | Mapping[str, str]
"""The value of a key."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_NAME: Final = r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\[\]"'\n]"""
_TABLE: Final = re.compile(rf"^[ \t]*\[\[?((?:{_NAME})+)\]\]?[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_COMMENTS: Final = re.compile(r"(?:^[ \t]*(?:#[^\n]*)?(?:\n|\Z))*\Z", re.MULTILINE)
_PARENTS: Final = ("profile", "profiles")


def with_profile(text: str, name: str, keys: Mapping[str, Value], *, force: bool = False) -> str:
    """Return the text of a file of profiles with the profile `name` added or, if `force`, replaced.

    Raises ConfigError if the text is not TOML, or if the profile exists and `force` is false.
    """
    before = _parsed(text)
    holders = [table for table in (before, *map(before.get, _PARENTS)) if isinstance(table, dict) and name in table]
    if name in _PARENTS or (holders and not force):
        raise ConfigError(f"there is a profile {name!r} already", "name another with --profile, or say --force")
    kept = _remove_profile(text, name) if holders else text
    after = f"{kept.rstrip()}\n\n{_table(name, keys)}".lstrip("\n")
    if not _changes_only(after, before, name, keys):
        raise ConfigError(f"profile {name!r} cannot be replaced without harm to the rest", "edit the file by hand")
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


def _changes_only(after: str, before: Mapping[str, Any], name: str, keys: Mapping[str, Value]) -> bool:
    """Return whether the new text differs from the old content only in this profile."""
    try:
        tables = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        return False
    return tables.get(name) == keys and _other_profiles(tables, name) == _other_profiles(before, name)


def _table(name: str, keys: Mapping[str, Value]) -> str:
    return f"[{_key(name)}]\n" + "".join(f"{_key(key)} = {_value(value)}\n" for key, value in keys.items())


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _string(text)


def _value(value: Value) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _string(value)
        case list():
            return "[" + ", ".join(map(_string, value)) + "]"
        case _:
            return "{ " + ", ".join(f"{_key(key)} = {_string(text)}" for key, text in value.items()) + " }"


def _string(text: str) -> str:
    # The escapes of JSON are valid in TOML, which also needs one for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _remove_profile(text: str, name: str) -> str:
    """Return the text without the tables of this profile; comments directly above the next table stay."""
    headers = [*_TABLE.finditer(text)]
    ends = [*(header.start() for header in headers[1:]), len(text)]
    for header, end in reversed([*zip(headers, ends, strict=False)]):
        if _path(header[1])[:1] == [name]:
            comments = _COMMENTS.search(text[header.start() : end])
            text = text[: header.start()] + (comments[0] if comments else "") + text[end:]
    return text


def _path(dotted: str) -> list[str]:
    """Return the names in the header of a table, without the optional parent table `profile`."""
    names: list[str] = []
    try:
        table = tomllib.loads(f"[{dotted}]")
    except tomllib.TOMLDecodeError:  # a line of a multi-line string that only looks like a header
        return names
    while table:
        name, table = next(iter(table.items()))
        names.append(name)
    return names[1:] if names[0] in _PARENTS else names


def _other_profiles(tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the content without this profile."""
    others = {key: value for key, value in tables.items() if key != name}
    for parent in _PARENTS:
        if isinstance(others.get(parent), dict):
            others[parent] = {key: value for key, value in others[parent].items() if key != name}
            if not others[parent]:
                del others[parent]
    return others
