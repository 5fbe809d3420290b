"""Where the API key comes from. It is read once, and once more if the API refuses it."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from threading import Lock
from typing import Any, Final, NoReturn, Protocol

from telemetron_batch.config.options import KEY_VARIABLE, OPTIONS_BY_KEY
from telemetron_batch.config.secret_file import read_secret_file
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage.child_process import CommandFailedError, OutputCommand

KEY_OPTIONS: Final = ("api_key_file", "api_key_command")
"""Options that name where the key is."""
_FILE, _COMMAND = "--api-key-file", "--api-key-command"
_COMMAND_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class KeyText:
    """The key itself, from the environment."""

    key: Secret


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file that holds the key."""

    path: str


@dataclass(frozen=True, slots=True)
class KeyCommand:
    """A command whose first line of output is the key."""

    arguments: tuple[str, ...] = field(repr=False)
    timeout_s: float = _COMMAND_TIMEOUT_S


KeyOrigin = KeyText | KeyFile | KeyCommand


class FirstLine(Protocol):
    """A command of which the first line of output is wanted, as `OutputCommand`."""

    def first_line(self) -> bytes:
        """Run the command and return the line. Raises CommandFailedError."""

    def abort(self) -> None:
        """Kill the command."""


class KeySource:
    """Reads the key of one command or run. A command is not run before the key is needed."""

    def __init__(self, origin: KeyOrigin | None = None, command: Callable[..., FirstLine] = OutputCommand) -> None:
        """`command` makes what runs a command, from its arguments, its environment and its time limit in seconds."""
        self._origin = origin
        self._command = command
        self._keys: list[Secret] = []
        self._lock = Lock()
        self._running: FirstLine | None = None
        self.on_new_key: Callable[[Secret], None] | None = None
        """Called with each key that is read."""

    @property
    def is_given(self) -> bool:
        """Whether anything says where the key is."""
        return self._origin is not None

    @property
    def is_command(self) -> bool:
        """Whether a command gives the key."""
        return isinstance(self._origin, KeyCommand)

    @property
    def can_change(self) -> bool:
        """Whether reading the key again can give another one."""
        return isinstance(self._origin, KeyFile | KeyCommand)

    @property
    def name(self) -> str:
        """The option or variable that says where the key is."""
        return {KeyFile: _FILE, KeyCommand: _COMMAND}.get(type(self._origin), KEY_VARIABLE)

    def first_key(self) -> Secret | None:
        """Return the key that was read first, which identifies the account; None without one. Raises ConfigError."""
        if self._keys or self._origin is None:  # without the lock, under which a command may be running
            return self._keys[0] if self._keys else None
        with self._lock:
            if not self._keys:
                self._add(self._read(self._origin))
            return self._keys[0]

    def current_key(self) -> Secret | None:
        """Return the key that was read last; None without one. Raises ConfigError."""
        self.first_key()
        return self._keys[-1] if self._keys else None

    def read_again(self) -> Secret:
        """Read the key anew and return it. Raises ConfigError."""
        assert self._origin is not None, "there is a source to read"  # noqa: S101
        with self._lock:
            key = self._read(self._origin)
            self._add(key)
            return key

    def known_keys(self) -> tuple[Secret, ...]:
        """Return all keys that were read so far. Reads none."""
        return tuple(self._keys)

    def abort(self) -> None:
        """Kill a command that is running. The call that waits for it raises ConfigError."""
        if self._running is not None:
            self._running.abort()

    def unread(self) -> "KeySource":
        """Return a source of the same key that has read nothing yet, for the next run of a long-lived process."""
        source = KeySource(self._origin, self._command)
        source.on_new_key = self.on_new_key
        return source

    def _add(self, key: Secret) -> None:
        self._keys.append(key)
        if self.on_new_key is not None:
            self.on_new_key(key)

    def _read(self, origin: KeyOrigin) -> Secret:
        match origin:
            case KeyText(key):
                return _valid_key(key.reveal(), KEY_VARIABLE)
            case KeyFile(path):
                return _valid_key(read_secret_file(Path(path), f"{_FILE}: ", "key"), path)
            case KeyCommand(arguments, timeout_s):
                self._running = self._command(arguments, _environ_of_command(), timeout_s)
                return _key_of_command(self._running)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySource) and self._origin == other._origin

    def __hash__(self) -> int:
        return hash(self._origin)

    def __repr__(self) -> str:
        return f"KeySource({self.name if self.is_given else ''})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not stored")


def _key_of_command(command: FirstLine) -> Secret:
    try:
        line = command.first_line().decode("ascii", errors="replace").strip()
    except CommandFailedError as exc:
        advice = "run it by hand as this user; its error output is not shown, because it may hold the key"
        raise ConfigError(f"{_COMMAND}: the command {exc}", advice) from exc
    if not line:
        raise ConfigError(f"{_COMMAND}: the command wrote no key", "the first line of its output must be the key")
    return _valid_key(line, f"{_COMMAND}: the output of the command")


def _environ_of_command() -> dict[str, str]:
    """Return the environment of this process without a key."""
    return {name: text for name, text in os.environ.items() if name != KEY_VARIABLE}


def _valid_key(text: str, where: str) -> Secret:
    """Return the key in a text. Raises ConfigError."""
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigError(f"{where} does not hold a valid key", "a key is one word of ASCII letters, digits and signs")
    return Secret(text)


class _Level(IntEnum):
    """What gives an option; the lower one beats the higher one."""

    FLAG = 0
    ENVIRONMENT = 1
    PROFILE = 2


@dataclass(frozen=True, slots=True)
class _Candidate:
    level: _Level
    source: str
    """As the user typed it."""
    key: str
    """The key of the option; "" for the variable of the key."""
    origin: KeyOrigin


def find_key_source(
    values: Mapping[str, Any], sources: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[KeySource, str]:
    """Return the source of the key, and the key of the option that names it ("" for none).

    `values` and `sources` have the options by key. Raises ConfigError for two sources at one level, and for a key
    that cannot be used; a command is not run yet.
    """
    candidates = sorted(_candidates(values, sources, environ), key=lambda one: one.level)
    if not candidates:
        return KeySource(), ""
    best, *others = candidates
    if others and others[0].level is best.level:
        raise ConfigError(f"{best.source} and {others[0].source} both give the API key", "give only one of them")
    source = KeySource(best.origin)
    if not isinstance(best.origin, KeyCommand):
        source.first_key()
    return source, best.key


def _candidates(
    values: Mapping[str, Any], sources: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[_Candidate]:
    for key, origin in zip(KEY_OPTIONS, (KeyFile, KeyCommand), strict=True):
        if values[key] is not None:
            yield _Candidate(_level_of(key, sources[key]), sources[key], key, origin(values[key]))
    if text := environ.get(KEY_VARIABLE, "").strip():
        yield _Candidate(_Level.ENVIRONMENT, KEY_VARIABLE, "", KeyText(Secret(text)))


def _level_of(key: str, source: str) -> _Level:
    option = OPTIONS_BY_KEY[key]
    if source == f"--{option.name}":
        return _Level.FLAG
    return _Level.ENVIRONMENT if source == option.variable else _Level.PROFILE


def key_of_environment(environ: Mapping[str, str]) -> Secret | None:
    """Return the key in the environment; None if there is none. Raises ConfigError."""
    text = environ.get(KEY_VARIABLE, "").strip()
    return _valid_key(text, KEY_VARIABLE) if text else None
