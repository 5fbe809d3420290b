"""The table of all options: name, parser, group, help and default.

The command line, the environment and the profiles use this one table. A parser takes a text and returns the
value, or raises ValueError with a message that completes "--name: ...".
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from telemetron_batch.config.network import ProxyMode, parse_proxy
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Action, Phase
from telemetron_batch.domain.base_url import is_loopback, normalised
from telemetron_batch.domain.delimiters import parse_delimiter
from telemetron_batch.domain.model import HiddenRows, Secret, Split
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.urls import is_url, strip_file_scheme, validate_object_url

W = TypeVar("W", bound=str)

DEFAULT_BASE_URL: Final = "https://admin.telemetron.ai/api/ext-v1"
FIELDS: Final = ("customerEmail", "deviceIdentifier", "action", "deviceType")
_INIT_OPTIONS: Final = frozenset(
    {
        "action",
        "column",
        "action-word",
        "delimiter",
        "encoding",
        "sheet",
        "hidden",
        "trailer-count",
        "multiline-cells",
        "split",
        "fill-down",
        "verbose",
    }
)
_NOT_FOR_UNDO: Final = frozenset(
    {
        "sandbox",
        "auto-create-devices",
        "device-type",
        "min-rows",
        "max-age",
        "expect-rows",
        "last-line",
        "as-of",
        "out-of-order",
        "job",
        "since-last",
        "full-every",
        "allow-suspect",
        "allow-empty",
        "empty-exit-code",
        "shards",
        "shards-at-once",
        "shard",
        "phase",
    }
)
"""Options that do not apply to an undo.csv, or that `undo` takes from its run."""
REDACTED: Final = "***"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
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

    def of(self, rows: int) -> float:
        """Return the limit for a total number of rows."""
        return rows * self.number / 100 if self.percent else self.number


class OptionGroup(StrEnum):
    """The purpose of an option."""

    GENERAL = "general"
    INPUT = "input"
    SAFETY = "safety"
    SENDING = "sending"
    OUTPUT = "output"
    SHARDING = "sharding"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of `run`, and of other commands that take it."""

    name: str
    parse: Callable[[str], Any]
    group: OptionGroup
    """The section of `run --help` that lists it."""
    help: str
    metavar: str = ""
    """Placeholder of the value in the help; empty for a flag."""
    default: Any = None
    short: str = ""
    repeatable: bool = False
    for_plan: bool = True
    """Whether `plan` takes it too."""
    for_check: bool = False
    """Whether `check` takes it too."""
    resumes: bool = False
    """Whether `resume` and `verify` take it too; it then overrides the option of the started run."""
    holds_secret: bool = False
    """Whether it is a URL that may contain a password, which then must not be an argument; `@FILE` holds it."""

    @property
    def key(self) -> str:
        """The name with underscores, as a Python identifier and as a key of a profile."""
        return self.name.replace("-", "_")

    @property
    def for_init(self) -> bool:
        """Whether `init` takes it too, because it describes the input."""
        return self.name in _INIT_OPTIONS

    @property
    def undoes(self) -> bool:
        """Whether `undo` takes it too."""
        return self.name == "verbose" or not (self.for_init or self.name in _NOT_FOR_UNDO)

    @property
    def default_text(self) -> str:
        """The default as a user would write it; empty without a default."""
        if not isinstance(self.default, float):
            return "" if self.default is None else str(self.default)
        for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
            if self.default and self.default % seconds == 0:
                return f"{self.default / seconds:g}{unit}"
        return f"{self.default:g}"

    @property
    def is_path(self) -> bool:
        """Whether the value is a path, which may contain any bytes."""
        return self.metavar.partition(" ")[0] in ("DIR", "FILE")

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return f"TELEMETRON_{self.key.upper()}"


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()


def _absolute(text: str) -> str:
    """Return an absolute path, which later processes can use from any working folder."""
    try:
        return str(Path(_text(text)).absolute())
    except OSError as exc:
        raise ValueError(f"{text!r} is relative to a folder that no longer exists: use an absolute path") from exc


def _flag(text: str) -> bool:
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


def _integer(least: int, most: int = 10**12) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,13}", text.strip()) or not least <= int(text) <= most:
            bounds = f"of at least {least}" if most == 10**12 else f"from {least} to {most}"
            raise ValueError(f"{text!r} is not a whole number {bounds}")
        return int(text)

    return read


def _duration(text: str) -> float:
    """Parse 90, 90s, 15m, 1h30m or 2d. Return seconds."""
    word = text.strip().lower()
    if not _DURATION.fullmatch(word):
        raise ValueError(f"{text!r} is not a duration: write it as 90s, 15m, 1h30m or 2d")
    parts = re.findall(rf"({_NUMBER})\s*(s|min|m|h|d)?", word)
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _positive_duration(text: str) -> float:
    seconds = _duration(text)
    if seconds <= 0:
        raise ValueError(f"{text!r} must be longer than 0 seconds")
    return seconds


def _timestamp(text: str) -> datetime:
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


def _count_or_percent(text: str) -> CountOrPercent:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if match is None or (match[2] and float(match[1]) > 100) or (not match[2] and "." in match[1]):
        raise ValueError(f"{text!r} is neither a number of rows nor a percentage such as 5%")
    return CountOrPercent(float(match[1]), percent=bool(match[2]))


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text.strip())
        url = normalised(text.strip())
        usable = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    # `normalised` has replaced an international host name by its ASCII form.
    if not usable or not re.fullmatch(r"[!-~]+", url) or not re.fullmatch(r"[^\x00-\x20\x7f]+", text.strip()):
        raise ValueError(f"that is not a URL such as {DEFAULT_BASE_URL}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a base URL has no user, password, query or fragment")
    if parts.scheme == "http" and not is_loopback(str(parts.hostname)):
        raise ValueError(f"{text!r} would send the key unencrypted: use https (http is for this machine only)")
    return url


def _limit_url(text: str) -> Secret:
    """Parse the URL of a Redis server. The error message does not quote it, because it may hold a password."""
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", text.strip()) or not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise ValueError("that is not a URL such as redis://host:6379/0")
    return Secret(text.strip())


def _dir_or_url(text: str) -> str:
    """Parse a folder or a URL of an object store."""
    return validate_object_url(_text(text)) if is_url(strip_file_scheme(_text(text))) else _text(text)


def redacted(url: Secret) -> str:
    """Return a URL for the records, with `***` in place of its user and password."""
    parts = urlsplit(url.reveal())
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{REDACTED}@{host}").geturl() if at else url.reveal()


def _run_id(text: str) -> str:
    if not re.fullmatch(r"[\w.:+@=-]{1,200}", text.strip()) or text.strip().startswith("."):
        raise ValueError(f"{text!r} is not a folder name: use letters, digits and _ . : + @ = -")
    return text.strip()


def _key_value(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (equals and left.strip() and right.strip()):
        raise ValueError(f"{text!r} is not of the form NAME=VALUE")
    return left.strip(), right.strip()


def _column(text: str) -> tuple[str, str]:
    name, header = _key_value(text)
    return _field(name), header


def _action(text: str) -> Action:
    return _one_of(Action, text, f"{text!r} is neither assign nor unassign")


def _phase(text: str) -> Phase:
    return _one_of(Phase, text, f"{text!r} is neither unassign nor assign")


def _hidden(text: str) -> HiddenRows:
    return _one_of(HiddenRows, text, f"{text!r} is none of refuse, skip and read")


def _action_word(text: str) -> tuple[str, Action]:
    word, action = _key_value(text)
    return word.lower(), _action(action)


def _outcome(text: str) -> Outcome:
    return _one_of(Outcome, text, f"{text!r} is not an outcome: use one of {', '.join(Outcome)}")


def _field(name: str) -> str:
    return _one_of(FIELDS, name, f"there is no column {name!r}: use one of {', '.join(FIELDS)}")


def _split(text: str) -> Split:
    name, _, signs = text.partition("=")
    field = _field(name)
    if field not in ("customerEmail", "deviceIdentifier"):
        raise ValueError(f"cells of {field} cannot be split: name deviceIdentifier or customerEmail")
    separators = signs.replace("space", " ").replace("tab", "\t").replace("\\n", "\n")
    if not separators:
        return Split(field)
    if not separators.isascii() or any(sign.isalnum() for sign in separators):
        raise ValueError(f"{signs!r} are not separators: use characters such as , ; / or the word space")
    return Split(field, separators)


def _last_line(text: str) -> str:
    return _one_of(("warn", "refuse"), text, f"{text!r} is neither warn nor refuse")


def _encoding(text: str) -> str:
    try:
        "".encode(text.strip())
    except LookupError:
        raise ValueError(f"{text!r} is not an encoding that Python knows") from None
    return text.strip()


def _trailer_regex(text: str) -> str | None:
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


_positive, _not_negative = _integer(1), _integer(0)
_GENERAL, _INPUT, _SAFETY = OptionGroup.GENERAL, OptionGroup.INPUT, OptionGroup.SAFETY
_SENDING, _OUTPUT, _SHARDING = OptionGroup.SENDING, OptionGroup.OUTPUT, OptionGroup.SHARDING

OPTIONS: Final = (
    Option("base-url", _base_url, _GENERAL, "Base URL of the API; plain http only for a loopback host.", "URL",
           DEFAULT_BASE_URL, for_check=True),
    Option("sandbox", _flag, _GENERAL, "Run against the embedded sandbox API; needs no key.", default=False),
    Option("api-key-file", _text, _GENERAL, "File with the API key; by default TELEMETRON_API_KEY holds the key.",
           "FILE", for_check=True),
    Option("proxy", parse_proxy, _GENERAL,
           "Proxy: env for HTTPS_PROXY, ALL_PROXY and NO_PROXY, none, or a URL; @FILE takes it from a file.", "PROXY",
           ProxyMode.ENV, for_check=True, resumes=True, holds_secret=True),
    Option("ca-file", _text, _GENERAL, "Certificate authorities to trust instead of the system's, as PEM.", "FILE",
           for_check=True, resumes=True),
    Option("client-cert", _text, _GENERAL, "Client certificate, as PEM; may hold its key too.", "FILE",
           for_check=True, resumes=True),
    Option("client-key", _text, _GENERAL, "Key of --client-cert, as PEM without a passphrase.", "FILE",
           for_check=True, resumes=True),
    Option("organisation", _text, _GENERAL,
           "Account of the key; keeps jobs, locks and the shared limit when the key changes.", "NAME", resumes=True),
    Option("reports-dir", _text, _GENERAL, "Folder that contains one folder for each run.", "DIR", "reports"),
    Option("shared-reports-dir", _flag, _GENERAL, "Accept run folders that your group can write to.", default=False),
    Option("run-id", _run_id, _GENERAL, "Name of the run; repeat the command with this name to continue a stopped run.",
           "ID"),
    Option("rate", Rate.parse, _SENDING, "Maximum rate of attempts: N/s, N/min, N/h, or auto to find it.", "RATE",
           Rate.parse("10/s")),
    Option("limit-url", _limit_url, _SENDING,
           "Redis through which all processes with one base URL and key share the rate.", "URL", holds_secret=True),
    Option("concurrency", _positive, _SENDING, "Maximum calls in flight.", "N", 8),
    Option("chunk-size", _positive, _SENDING, "Maximum devices per call.", "N", 500),
    Option("timeout", _positive_duration, _SENDING, "Total deadline for each attempt.", "SECONDS", 30.0,
           for_check=True),
    Option("attempts", _positive, _SENDING, "Maximum attempts per call.", "N", 6),
    Option("give-up-after", _duration, _SENDING, "Stop when the API has been down for this long.", "DURATION", 900.0),
    Option("longest-wait", _positive_duration, _SENDING,
           "Stop when the API asks to wait longer; by default the value of --give-up-after.", "DURATION"),
    Option("wait", _duration, _GENERAL, "How long to wait while another run uses this run id or key.", "DURATION", 0.0),
    Option("lock-dir", _absolute, _GENERAL,
           "Shared folder for locks: users who name it take turns with one key on this host.", "DIR", resumes=True),
    Option("deadline", _positive_duration, _SENDING, "Stop cleanly after this time; the remaining rows are notSent.",
           "DURATION"),
    Option("action", _action, _INPUT, "Action of every row, for files without an action column.", "ACTION"),
    Option("column", _column, _INPUT, "Header of a column, e.g. customerEmail=Kunde.", "NAME=HEADER", repeatable=True),
    Option("action-word", _action_word, _INPUT, "Action that a word of the file means, e.g. RET=unassign.",
           "WORD=ACTION", repeatable=True),
    Option("delimiter", parse_delimiter, _INPUT, "Delimiter of the input; detected by default.", "CHAR"),
    Option("split", _split, _INPUT,
           "Column whose cells hold several values (between , ; and line breaks); each value becomes a row.",
           "NAME[=SIGNS]"),
    Option("fill-down", _field, _INPUT, "Column whose empty cells take the value of the row above.", "NAME",
           repeatable=True),
    Option("encoding", _encoding, _INPUT, "Encoding of the input; detected by default.", "NAME"),
    Option("sheet", _text, _INPUT, "Sheet of a workbook; by default the first sheet with the headers.", "NAME"),
    Option("hidden", _hidden, _INPUT, "Hidden or filtered rows of a workbook: refuse, skip or read.", "WORD",
           HiddenRows.REFUSE),
    Option("auto-create-devices", _flag, _SENDING, "Create devices that Telemetron does not know.", default=False),
    Option("device-type", _text, _SENDING, "Type of created devices, where no deviceType column gives it.", "TYPE"),
    Option("max-failed", _count_or_percent, _SAFETY, "Stop when more rows than this have failed.", "N or P%"),
    Option("max-skipped", _count_or_percent, _SAFETY, "Stop when more unassigns than this had no effect.", "N or P%"),
    Option("max-unassign", _count_or_percent, _SAFETY, "Send nothing if more rows than this are unassigns.", "N or P%"),
    Option("max-new-customers", _not_negative, _SAFETY, "Stop when more customers than this were created.", "N"),
    Option("min-rows", _not_negative, _SAFETY, "Send nothing if the input has fewer rows.", "N"),
    Option("max-age", _positive_duration, _SAFETY, "Send nothing if an input file is older.", "DURATION"),
    Option("expect-rows", _not_negative, _SAFETY, "Send nothing unless the input has exactly this number of rows.",
           "N"),
    Option("trailer-count", _trailer_regex, _INPUT,
           "Pattern for the trailer line; its group matches the number of rows.", "REGEX"),
    Option("last-line", _last_line, _SAFETY,
           "What to do if the last line has no line end, because the file may be cut: warn or refuse.", "WORD",
           default="warn"),
    Option("as-of", _timestamp, _SAFETY, "Time that the input describes; keeps the runs of a job in order.", "TIME"),
    Option("out-of-order", _flag, _SAFETY, "Send although a run of this job with a later --as-of has already sent.",
           default=False),
    Option("job", _text, _GENERAL, "Name of the job; by default the profile, or the file names without digits.",
           "NAME"),
    Option("again", _flag, _SAFETY, "Process content that a finished run has already processed.", default=False),
    Option("since-last", _flag, _SENDING, "Leave out rows that the last finished run settled with certainty.",
           default=False),
    Option("full-every", _positive_duration, _SENDING,
           "With --since-last: leave nothing out if the last full run is older.", "DURATION", default=604_800.0),
    Option("allow-suspect", _flag, _SAFETY, "Send identifiers that look damaged by a spreadsheet.", default=False),
    Option("allow-empty", _flag, _SAFETY, "Accept an input without rows.", default=False),
    Option("empty-exit-code", _integer(0, 255), _SAFETY, "Exit code for an input without rows.", "N"),
    Option("multiline-cells", _flag, _INPUT, "Accept quoted cells that contain whole rows.", default=False),
    Option("no-hold", _flag, _SAFETY, "Send assigns whose device may still be with its former owner.", default=False),
    Option("baseline", _flag, _SENDING, "Query each customer before writing, to attribute lost answers exactly.",
           default=False),
    Option("verify", _flag, _SENDING, "Query the customers' devices at the end, as the command verify does.",
           default=False),
    Option("raw-csv", _flag, _OUTPUT, "Do not escape cells that a spreadsheet would run as formulas.", default=False),
    Option("publish", _dir_or_url, _OUTPUT, "Copy the run's files to a folder below this one when the run ends.",
           "DIR or URL"),
    Option("xlsx", _flag, _OUTPUT, "Also write reconciliation and attention as workbooks.", default=False),
    Option("tolerate", _outcome, _OUTPUT, "Outcome that does not cause exit code 1.", "OUTCOME", repeatable=True),
    Option("shards", _integer(1, 1000), _SHARDING, "Divide the run into this number of shards, for several machines.",
           "N"),
    Option("shards-at-once", _integer(1, 1000), _SHARDING,
           "Number of shards that share the rate at a time; by default all.", "N"),
    Option("shard", _integer(1, 1000), _SHARDING, "Run this shard of the run --run-id, which plan --shards prepared.",
           "I", for_plan=False),
    Option("phase", _phase, _SHARDING, "Part of the shard to run: unassign, or assign and all later stages.", "PHASE",
           for_plan=False),
    Option("yes", _flag, _GENERAL, "Do not ask before sending.", default=False, short="y", for_plan=False),
    Option("no-progress", _flag, _OUTPUT, "Do not show progress.", default=False, for_plan=False),
    Option("json", _flag, _OUTPUT, "Write the summary as one line of JSON to stdout.", default=False, for_check=True),
    Option("verbose", _flag, _OUTPUT, "Show more detail, and tracebacks.", default=False, short="v", for_check=True),
    Option("quiet", _flag, _OUTPUT, "Show errors only.", default=False, short="q", for_check=True),
)  # fmt: skip
OPTIONS_BY_KEY: Final = {option.key: option for option in OPTIONS}
