"""The file of the users: names, roles and hashes of passwords. Only its owner may read or write it."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.errors import ConfigError, system_error
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.ownership import HAS_OWNERS, UntrustedPathError
from telemetron_batch.domain.shell import quote
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.clock import RealClock, iso
from telemetron_batch.storage.lock import Lock, LockOwner
from telemetron_batch.storage.trusted_folders import open_private
from telemetron_batch.web.people import Role

USERS_FILE: Final = Path("telemetron-users.json")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,127}")
_MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the file has it."""

    name: str
    role: Role
    password_hash: Secret | None
    """None: the user signs in at a proxy only."""

    @property
    def stamp(self) -> bytes:
        """What changes with the role and the password; a session ends when it changes."""
        secret = "" if self.password_hash is None else self.password_hash.reveal()
        return hashlib.sha256(f"{self.name}\0{self.role}\0{secret}".encode()).digest()


def user_name(text: str) -> str:
    """Return a user's name as it is stored and compared: in lower case. Raises ValueError if it is no name."""
    name = text.strip().lower()
    if not text.isascii() or not _NAME.fullmatch(name):
        raise ValueError("a user name is letters, digits and . _ @ + -, 128 at most, and begins with a letter or digit")
    return name


class UserFile:
    """The accounts of a file, read again whenever the file has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[tuple[int, ...], Mapping[str, Account]] | None = None

    def accounts(self) -> Mapping[str, Account]:
        """Return the accounts by name. Raises ConfigError if the file is missing, not private or damaged."""
        try:
            found = self.path.stat()
            state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if self._read is None or self._read[0] != state:
                self._read = (state, _load(self.path))
            return self._read[1]
        except UntrustedPathError as exc:
            raise ConfigError(exc.what, exc.advice) from exc
        except FileNotFoundError as exc:
            advice = f"add a user: telemetron-batch serve-user add NAME --role operator --users {quote(str(self.path))}"
            raise ConfigError(f"there is no {self.path}", advice) from exc
        except OSError as exc:
            raise system_error(exc) from exc

    def check_writable(self) -> None:
        """Raise BatchError if the file cannot be read or its folder is missing, before a password is asked."""
        self._known()
        if not self.path.parent.is_dir():
            raise ConfigError(f"there is no folder {self.path.parent}", "make it first, or name another file")

    def put(self, account: Account) -> Account | None:
        """Add an account, or replace the one of its name, which is returned. Raises BatchError."""
        with self._locked():
            accounts = self._known()
            self._write({**accounts, account.name: account})
            return accounts.get(account.name)

    def remove(self, name: str) -> None:
        """Remove an account. Raises ConfigError if there is none of this name."""
        with self._locked():
            accounts = dict(self.accounts())
            if accounts.pop(name, None) is None:
                raise ConfigError(f"{self.path} has no user {name}", "see telemetron-batch serve-user list")
            self._write(accounts)

    def _known(self) -> Mapping[str, Account]:
        return self.accounts() if os.path.lexists(self.path) else {}

    def _write(self, accounts: Mapping[str, Account]) -> None:
        users = {
            name: {"role": one.role, "passwordHash": one.password_hash and one.password_hash.reveal()}
            for name, one in sorted(accounts.items())
        }
        with atomic_write(self.path) as file:
            file.write(json.dumps({"users": users}, indent=1).encode() + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        owner = LockOwner(os.getpid(), iso(RealClock().wall()), "serve-user")
        lock = Lock.acquire(self.path.with_name(f".{self.path.name}.lock"), owner, str(self.path))
        try:
            yield
        finally:
            lock.release()


def _load(path: Path) -> dict[str, Account]:
    """Read the file. Raises ConfigError, UntrustedPathError or OSError."""
    with os.fdopen(open_private(path), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if HAS_OWNERS and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"others than its owner can open {path}", f"run: chmod 600 {quote(str(path))}")
        content = file.read(_MAX_BYTES)
    try:
        return {name: _account(name, fields) for name, fields in json.loads(content)["users"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise ConfigError(f"{path} is no file of users", "name the file that serve-user add has written") from exc


def _account(name: str, fields: Mapping[str, Any]) -> Account:
    if user_name(name) != name:
        raise ValueError(name)
    secret = fields["passwordHash"]
    if secret is not None and not str(secret).startswith("$argon2"):
        raise ValueError(name)
    return Account(name, Role(fields["role"]), None if secret is None else Secret(str(secret)))
