"""The commands `serve-user add`, `remove` and `list`."""

from collections.abc import Callable
from pathlib import Path

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.web.passwords import hash_password
from telemetron_batch.web.people import Role
from telemetron_batch.web.users import Account, UserFile, user_name


def add_user(path: Path, name: str, role: str, ask: Callable[[str], str] | None) -> str:
    """Add a user, or give one another role and password. Return a sentence that says what was done.

    `ask` returns the password of the user whom it is given; None: the user signs in at a proxy.
    """
    name = _name(name)
    UserFile(path).check_writable()
    try:
        password_hash = None if ask is None else hash_password(ask(name))
    except ValueError as exc:
        raise ConfigError(str(exc), "choose another password") from exc
    former = UserFile(path).put(Account(name, Role(role), password_hash))
    if former is None:
        return f"{name} ({role}) added to {path}"
    return f"{name} ({role}) changed in {path}; the sessions of {name} have ended"


def remove_user(path: Path, name: str) -> str:
    """Remove a user. Return a sentence that says what was done."""
    name = _name(name)
    UserFile(path).remove(name)
    return f"{name} removed from {path}; the sessions of {name} have ended"


def list_users(path: Path) -> list[str]:
    """Return a line for each user."""
    accounts = UserFile(path).accounts().values()
    width = max((len(one.name) for one in accounts), default=0)
    note = {True: "  (signs in at the proxy only)", False: ""}
    return [f"{one.name:{width}}  {one.role}{note[one.password_hash is None]}" for one in accounts]


def _name(text: str) -> str:
    try:
        return user_name(text)
    except ValueError as exc:
        raise ConfigError(f"{text!r} is no user name", str(exc)) from exc
