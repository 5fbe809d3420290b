"""The options that say who hears how a run ended: messages, pings and metrics.

They are those of the command that ends, never those of a journal: a journal holds their URLs without credentials.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import unquote, urlsplit

from telemetron_batch.domain.model import Secret

OPTION_KEYS: Final = ("notify", "notify_on", "notify_details", "ping", "ping_fail_on", "metrics")
_SERVICE_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]+")
_EXAMPLE: Final = "mailtos://user:password@mail.example.com?to=ann@example.com"
_SCHEMES_WITH_HOST: Final = frozenset(
    {
        "form",
        "forms",
        "gotify",
        "gotifys",
        "http",
        "https",
        "json",
        "jsons",
        "mailto",
        "mailtos",
        "matrix",
        "matrixs",
        "mmost",
        "mmosts",
        "ntfy",
        "ntfys",
        "rocket",
        "rockets",
        "syslog",
        "xml",
        "xmls",
    }
)
"""Schemes whose URLs name a host first. Those of other services may hold a token there."""
SEPARATOR: Final = r"\s+|,(?=[A-Za-z][A-Za-z0-9+.-]*://|@)"
"""Pattern of what separates several URLs in an environment variable; a URL may contain commas."""
_MIN_SECRET_LENGTH: Final = 8
"""Characters of the shortest part of a URL that is struck out of logs, passwords excepted."""


class EndKind(StrEnum):
    """How a run ended, in the words of `--notify-on`."""

    ATTENTION = "attention"
    STOPPED = "stopped"
    REFUSED = "refused"
    FINISHED = "finished"


class PingFailure(StrEnum):
    """From which end on a ping reports a failure."""

    FAILURE = "failure"
    """The run did not finish."""
    ATTENTION = "attention"
    """The run did not finish, or rows want attention."""


DEFAULT_NOTIFY_ON: Final = (EndKind.ATTENTION, EndKind.STOPPED, EndKind.REFUSED)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoticeOptions:
    """Who hears how a run ended. The fields have the names of the options, but for the last."""

    notify: tuple[Secret, ...] = ()
    """Apprise URLs."""
    notify_on: tuple[EndKind, ...] = DEFAULT_NOTIFY_ON
    notify_details: bool = False
    """Whether messages may contain email addresses and serials."""
    ping: Secret | None = None
    ping_fail_on: PingFailure = PingFailure.FAILURE
    metrics: str | None = None
    """The file for Prometheus."""
    profile: str = field(default="", compare=False, repr=False)
    """The profile that the command names; "" for none."""

    @property
    def is_wanted(self) -> bool:
        """Whether an end is sent to any receiver."""
        return bool(self.notify) or self.ping is not None or self.metrics is not None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The URLs, and their parts that may be secret."""
        urls = (*self.notify, *((self.ping,) if self.ping is not None else ()))
        return tuple(Secret(part) for url in urls for part in {url.reveal(), *_secret_parts(url.reveal())})


def parse_notify(text: str) -> tuple[Secret, ...]:
    """Parse Apprise URLs, one a line. Errors do not quote the text, which may hold a password."""
    urls = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not urls or not all(_SERVICE_URL.fullmatch(url) for url in urls):
        raise ValueError(f"that is not an Apprise URL such as {_EXAMPLE}")
    return tuple(map(Secret, urls))


def parse_notify_on(text: str) -> tuple[EndKind, ...]:
    """Parse kinds of ends, separated by commas."""
    words = [word.strip().lower() for word in text.split(",")]
    if not {*words} <= {*EndKind}:
        raise ValueError(f"{text!r} is not a list of {', '.join(EndKind)}, separated by commas")
    return tuple(kind for kind in EndKind if kind in words)


def parse_ping(text: str) -> Secret:
    """Parse a URL to ping. Errors do not quote the text, which may hold a secret."""
    url = text.strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0 and not parts.fragment
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("that is not a URL such as https://hc-ping.com/your-id")
    return Secret(url)


def parse_ping_fail_on(text: str) -> PingFailure:
    """Parse from which end on a ping reports a failure."""
    word = text.strip().lower()
    if word not in {*PingFailure}:
        raise ValueError(f"{text!r} is neither {' nor '.join(PingFailure)}")
    return PingFailure(word)


def shown_url(url: Secret) -> str:
    """Return scheme, host and port of a URL; only the scheme where others have a token instead of a host."""
    scheme, _, rest = url.reveal().partition("://")
    if scheme.lower() not in _SCHEMES_WITH_HOST:
        return f"{scheme}://***"
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{host.rpartition('@')[2]}"


def _secret_parts(url: str) -> Iterator[str]:
    """Yield the parts of a URL that may be secret: password or user, and every long part behind them."""
    rest = url.partition("://")[2]
    netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, _, host = netloc.rpartition("@")
    yield from filter(None, (unquote(userinfo.partition(":")[2] or userinfo),))
    behind = rest[len(netloc) :]
    if shown_url(Secret(url)).endswith("***"):
        behind = f"{host}{behind}"
    for part in re.split(r"[/?&=#]", behind):
        if len(part) >= _MIN_SECRET_LENGTH and "@" not in part:
            yield unquote(part)
