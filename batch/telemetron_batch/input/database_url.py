"""Tell whether a database URL means what its writer meant, and remove its secrets from texts.

A sign such as `@` in a password that is not written as `%40` shifts the rest of the password into the host, the port
or the name of the database, which are shown. Such a URL is refused without showing any of it.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from telemetron_batch.domain.errors import ConfigError

_HOST: Final = re.compile(r"[A-Za-z0-9_.-]+(\\[A-Za-z0-9_$]+)?(,[A-Za-z0-9_.-]+)*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?")
"""Names, IPv4 and IPv6 addresses, lists of hosts, and an instance behind the host, as SQL Server has it."""
_SIGNS: Final = re.compile("[:/@?#]")
_HIDDEN: Final = "***"
_MIN_PLAIN: Final = 4
"""Characters from which a secret is removed also inside a word."""


def require_clear_url(text: str, host: str | None, user: str | None) -> None:
    """Raise ConfigError unless user, password and host are where the parser of the URL found them.

    `host` and `user` are what it found.
    """
    rest = text.partition("://")[2]
    is_local = rest.startswith("/")  # as in sqlite:////data/erp.db: no user, no host
    signs = 0 if is_local else rest.count("@")
    is_shifted = signs > 1 or (signs == 1 and user is None) or "?" in (user or "")
    if is_shifted or (host and not _HOST.fullmatch(host)):
        raise ConfigError(
            "--source-url-file: user, password and host of the URL cannot be told apart",
            "a sign such as @ in the user or password must be written %40 (/ is %2F, : is %3A, # is %23, ? is %3F)",
        )


def userinfo_secrets(text: str) -> set[str]:
    """Return everything between `://` and the last `@`, as a whole and in its parts, also decoded."""
    userinfo = text.partition("://")[2].rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    whole = {userinfo, user, password, *map(unquote, (userinfo, user, password))}
    return {part for one in whole for part in (one, *_SIGNS.split(one))} - {""}


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text without secrets; short ones are removed where they are whole words."""
    for secret in sorted(secrets, key=len, reverse=True):
        pattern = re.escape(secret) if len(secret) >= _MIN_PLAIN else rf"(?<!\w){re.escape(secret)}(?!\w)"
        text = re.sub(pattern, _HIDDEN, text)
    return text
