"""Parsers of option values.

A parser takes a text and returns the value, or raises ValueError with a message that completes "--name: ...".
"""

import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from telemetron_batch.domain.actions import Action, Phase
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.base_url import is_loopback, normalized
from telemetron_batch.domain.file_names import is_reserved
from telemetron_batch.domain.model import HiddenRowsPolicy, OwnersOption, OwnerSource, Secret, Split
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.urls import is_url, strip_file_scheme, validate_object_url

W = TypeVar("W", bound=str)

DEFAULT_BASE_URL: Final = "https://admin.telemetron.ai/api/ext-v1"
FIELDS: Final = ("customerEmail", "deviceIdentifier", "action", "deviceType")
REDACTED: Final = "***"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_SIZE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)\s*([kmg]i?b|b)?")
_SIZE_UNITS: Final = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,3})?"
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}"
_TIMESTAMP: Final = re.compile(
    rf"(?:{_DATE})[Tt ][0-9:]{{2,8}}(?:[.,][0-9]{{1,9}})?(?:[Zz]|[+-][0-9]{{2}}:?(?:[0-9]{{2}})?)"
)
_DURATION: Final = re.compile(rf"{_NUMBER}|(?:{_NUMBER}\s*(?:s|min|m|h|d)\s*){{1,4}}")


@dataclass(frozen=True, slots=True)
class CountOrPercent:
    """A number of rows, or a percentage of rows."""

    number: float
    percent: bool

    def __str__(self) -> str:
        return f"{self.number:g}{'%' if self.percent else ''}"

    def limit_for(self, rows: int) -> float:
        """Return the limit for a total number of rows."""
        return rows * self.number / 100 if self.percent else self.number


def parse_text(text: str) -> str:
    """Return the text without surrounding blanks; it must not be empty."""
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()


def parse_command(text: str) -> tuple[str, ...]:
    """Parse a command as a shell splits it. The error message does not quote it, because it may hold a secret."""
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise ValueError(f"that is not a command ({str(exc).lower()})") from None
    if not words or not words[0]:
        raise ValueError("is empty")
    return tuple(words)


def parse_absolute(text: str) -> str:
    """Return an absolute path, which later processes can use from any working folder."""
    try:
        return str(Path(parse_text(text)).absolute())
    except OSError as exc:
        raise ValueError(f"{text!r} is relative to a folder that no longer exists: use an absolute path") from exc


def parse_query(text: str) -> str:
    """Return SQL without surrounding blanks and without a semicolon at its end, which some drivers refuse."""
    sql = text.strip().rstrip("; \t\r\n")
    if not sql:
        raise ValueError("is empty")
    return sql


def parse_flag(text: str) -> bool:
    """Parse yes or no; an empty text means no."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"{text!r} is neither yes nor no")


def _one_of(words: Iterable[W], text: str, problem: str) -> W:
    """Return the word that the text names in any case. Raises ValueError with the problem."""
    for word in words:
        if word.lower() == text.strip().lower():
            return word
    raise ValueError(problem)


@dataclass(frozen=True, slots=True)
class IntegerParser:
    """Parses whole numbers from `least` to `most`."""

    least: int
    most: int = 10**12

    def __call__(self, text: str) -> int:
        """Return the number. Raises ValueError."""
        if not re.fullmatch(r"[0-9]{1,13}", text.strip()) or not self.least <= int(text) <= self.most:
            bounds = f"of at least {self.least}" if self.most == 10**12 else f"from {self.least} to {self.most}"
            raise ValueError(f"{text!r} is not a whole number {bounds}")
        return int(text)


def integer_parser(least: int, most: int = 10**12) -> IntegerParser:
    """Return a parser of whole numbers from `least` to `most`."""
    return IntegerParser(least, most)


def parse_duration(text: str) -> float:
    """Parse 90, 90s, 15m, 1h30m or 2d. Return seconds."""
    word = text.strip().lower()
    if not _DURATION.fullmatch(word):
        raise ValueError(f"{text!r} is not a duration: write it as 90s, 15m, 1h30m or 2d")
    parts = re.findall(rf"({_NUMBER})\s*(s|min|m|h|d)?", word)
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def parse_positive_duration(text: str) -> float:
    """Parse a duration of more than 0 seconds. Return seconds."""
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError(f"{text!r} must be longer than 0 seconds")
    return seconds


def parse_local_time(text: str) -> time | None:
    """Parse a local time of day such as 06:00. Return None for `none`, which overrides a recorded time."""
    if text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::00)?", text.strip())  # TOML writes 06:00:00
    if found is None:
        raise ValueError(f"{text!r} is not a local time: write it as 06:00, from 00:00 to 23:59, or none")
    return time(int(found[1]), int(found[2]))


def parse_size(text: str) -> int:
    """Parse 256MiB, 1GiB, 500MB or a number of bytes. Return bytes."""
    found = _SIZE.fullmatch(text.strip().lower())
    size = 0 if found is None else int(float(found[1]) * _SIZE_UNITS[found[2] or "b"])
    if size < 1:
        raise ValueError(f"{text!r} is not a size: write it as 256MiB, 1GiB or 500MB")
    return size


def parse_timestamp(text: str) -> datetime:
    """Parse a date-time with a zone, or a date, which means midnight in UTC. Return it in UTC."""
    word = text.strip()
    try:
        if re.fullmatch(_DATE, word):
            return datetime.combine(date.fromisoformat(word), time(), UTC)
        if _TIMESTAMP.fullmatch(word):
            return datetime.fromisoformat(word.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    example = "write it as 2026-05-31T02:00:00Z, 2026-05-31T02:00:00+02:00 or 2026-05-31"
    raise ValueError(f"{text!r} is neither a time with its zone nor a date: {example}")


def parse_count_or_percent(text: str) -> CountOrPercent:
    """Parse a number of rows, or a percentage such as 5%."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if match is None or (match[2] and float(match[1]) > 100) or (not match[2] and "." in match[1]):
        raise ValueError(f"{text!r} is neither a number of rows nor a percentage such as 5%")
    return CountOrPercent(float(match[1]), percent=bool(match[2]))


def parse_base_url(text: str) -> str:
    """Parse the base URL of an API. Return it normalised."""
    try:
        parts = urlsplit(text.strip())
        url = normalized(text.strip())
        usable = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    # `normalized` has replaced an international host name by its ASCII form.
    if not usable or not re.fullmatch(r"[!-~]+", url) or not re.fullmatch(r"[^\x00-\x20\x7f]+", text.strip()):
        raise ValueError(f"that is not a URL such as {DEFAULT_BASE_URL}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a base URL has no user, password, query or fragment")
    if parts.scheme == "http" and not is_loopback(str(parts.hostname)):
        raise ValueError(f"{text!r} would send the key unencrypted: use https (http is for this machine only)")
    return url


def parse_limit_url(text: str) -> Secret:
    """Parse the URL of a Redis server. The error message does not quote it, because it may hold a password."""
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", text.strip()) or not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise ValueError("that is not a URL such as redis://host:6379/0")
    return Secret(text.strip())


def parse_folder_or_url(text: str) -> str:
    """Parse a folder or a URL of an object store."""
    return validate_object_url(parse_text(text)) if is_url(strip_file_scheme(parse_text(text))) else parse_text(text)


def redacted(url: Secret) -> str:
    """Return a URL for the records, with `***` in place of its user and password."""
    parts = urlsplit(url.reveal())
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{REDACTED}@{host}").geturl() if at else url.reveal()


def parse_run_id(text: str) -> str:
    """Parse a run id, which is also the name of a folder."""
    if not re.fullmatch(r"[\w.:+@=-]{1,200}", text.strip()) or text.strip().startswith("."):
        raise ValueError(f"{text!r} is not a folder name: use letters, digits and _ . : + @ = -")
    if is_reserved(text.strip()):
        raise ValueError(f"{text!r} cannot be the name of a folder on Windows: name the run otherwise")
    if sys.platform == "win32" and ":" in text:
        raise ValueError(f"{text!r} has a colon, which no name has on Windows: use -")
    return text.strip()


def _key_value(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (equals and left.strip() and right.strip()):
        raise ValueError(f"{text!r} is not of the form NAME=VALUE")
    return left.strip(), right.strip()


def parse_column_name(text: str) -> tuple[str, str]:
    """Parse FIELD=HEADER."""
    name, header = _key_value(text)
    return parse_field(name), header


def parse_action(text: str) -> Action:
    """Parse the name of an action."""
    return _one_of(Action, text, f"{text!r} is neither assign nor unassign")


def parse_approval(text: str) -> ApprovalPolicy:
    """Parse who must approve a plan."""
    return _one_of(ApprovalPolicy, text, f"{text!r} is neither second nor none")


def parse_phase(text: str) -> Phase:
    """Parse the name of a phase."""
    return _one_of(Phase, text, f"{text!r} is neither unassign nor assign")


def parse_hidden(text: str) -> HiddenRowsPolicy:
    """Parse what to do with hidden rows."""
    return _one_of(HiddenRowsPolicy, text, f"{text!r} is none of refuse, skip and read")


def parse_action_word(text: str) -> tuple[str, Action]:
    """Parse WORD=ACTION. Return the word in lowercase."""
    word, action = _key_value(text)
    return word.lower(), parse_action(action)


def parse_outcome(text: str) -> Outcome:
    """Parse the name of an outcome."""
    return _one_of(Outcome, text, f"{text!r} is not an outcome: use one of {', '.join(Outcome)}")


def parse_field(name: str) -> str:
    """Parse the name of a field of a row."""
    return _one_of(FIELDS, name, f"there is no column {name!r}: use one of {', '.join(FIELDS)}")


def parse_split(text: str) -> Split:
    """Parse the field of cells to split and, after an equals sign, their separators."""
    name, _, signs = text.partition("=")
    field = parse_field(name)
    if field not in ("customerEmail", "deviceIdentifier"):
        raise ValueError(f"cells of {field} cannot be split: name deviceIdentifier or customerEmail")
    separators = signs.replace("space", " ").replace("tab", "\t").replace("\\n", "\n")
    if not separators:
        return Split(field)
    if not separators.isascii() or any(sign.isalnum() for sign in separators):
        raise ValueError(f"{signs!r} are not separators: use characters such as , ; / or the word space")
    return Split(field, separators)


def parse_owners(text: str) -> OwnersOption:
    """Parse where to look up owners: the word `runs`, or a file; a file of that name is written `./runs`."""
    path = parse_text(text)
    if path == OwnerSource.RUNS:
        return OwnersOption(OwnerSource.RUNS)
    return OwnersOption(OwnerSource.FILE, validate_object_url(path) if is_url(strip_file_scheme(path)) else path)


def parse_last_line(text: str) -> str:
    """Parse what to do with an unfinished last line."""
    return _one_of(("warn", "refuse"), text, f"{text!r} is neither warn nor refuse")


def parse_encoding(text: str) -> str:
    """Parse the name of an encoding that Python knows."""
    try:
        "".encode(text.strip())
    except LookupError:
        raise ValueError(f"{text!r} is not an encoding that Python knows") from None
    return text.strip()


def parse_trailer_regex(text: str) -> str | None:
    """Parse a regular expression with one group. Return None for "", which overrides a profile."""
    if not text:
        return None
    try:
        groups = re.compile(text).groups
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"{text!r} is not a regular expression ({exc})") from None
    if groups != 1:
        raise ValueError(f"{text!r} has {groups} groups; it needs exactly one, around the number, as in '^T1,([0-9]+)'")
    return text
