"""The file of profiles as text: a table more, or another in the place of one.

Touches nothing else in it, comments included, and proves that by reading both texts
back before anything is written. Knows no option and no input file.
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
"""What a key of ours may hold."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_NAME: Final = r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\[\]"'\n]"""
_TABLE: Final = re.compile(rf"^[ \t]*\[\[?((?:{_NAME})+)\]\]?[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_COMMENTS: Final = re.compile(r"(?:^[ \t]*(?:#[^\n]*)?(?:\n|\Z))*\Z", re.MULTILINE)
_PARENTS: Final = ("profile", "profiles")


def with_profile(text: str, name: str, keys: Mapping[str, Value], *, force: bool = False) -> str:
    """The text of a file of profiles, and in it the profile `name` with these keys.

    Raises ConfigError where the text is not TOML, and where a profile of this name is
    there already and `force` does not say that it goes.
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
    """The text of a file of profiles; empty if there is none. Raises ConfigError."""
    try:
        return file.read_bytes().decode() if file.exists() else ""  # line ends as they are
    except OSError as exc:
        raise ConfigError(f"cannot read {file} ({exc.strerror})", "name another with --config") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file} is not valid TOML ({exc})", "correct it there") from exc


def write_profiles(file: Path, text: str) -> None:
    """Write the file whole or not at all; who may read it stays as it was. Raises ConfigError or DiskError."""
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
    """Does the new text say just what the old one said, but for this profile?"""
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
    # JSON's escapes are TOML's, but TOML wants DEL escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _remove_profile(text: str, name: str) -> str:
    """The text without the tables of this profile; a comment that stands above the next table stays."""
    headers = [*_TABLE.finditer(text)]
    stops = [*(header.start() for header in headers[1:]), len(text)]
    for header, stop in reversed([*zip(headers, stops, strict=False)]):
        if _path(header[1])[:1] == [name]:
            gone = text[header.start() : stop]
            comments = _COMMENTS.search(gone)
            text = text[: header.start()] + (comments[0] if comments else "") + text[stop:]
    return text


def _path(dotted: str) -> list[str]:
    """The names in the header of a table, without the parent that all profiles may have."""
    names: list[str] = []
    try:
        table = tomllib.loads(f"[{dotted}]")
    except tomllib.TOMLDecodeError:  # no header, only a line in a text that looks like one
        return names
    while table:
        name, table = next(iter(table.items()))
        names.append(name)
    return names[1:] if names[0] in _PARENTS else names


def _other_profiles(tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All that is not this profile."""
    others = {key: value for key, value in tables.items() if key != name}
    for parent in _PARENTS:
        if isinstance(others.get(parent), dict):
            others[parent] = {key: value for key, value in others[parent].items() if key != name}
            if not others[parent]:
                del others[parent]
    return others
