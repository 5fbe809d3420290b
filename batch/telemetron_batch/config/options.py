"""Every option once: its name, how its text is read, its default and its help.

The command line, the environment and the profiles are all made from this table, so
they cannot differ. A reader takes text and gives a value, or raises ValueError with
words that complete "--name: ...".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Action, Phase
from telemetron_batch.domain.base_url import is_loopback, normalised
from telemetron_batch.domain.delimiters import parse_delimiter
from telemetron_batch.domain.model import HiddenRows, Secret, Split
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.urls import is_url, strip_file_scheme, validate_object_url

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
_OF_NEW_INPUT: Final = frozenset(
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
"""Options that mean nothing for an undo.csv, or are taken from its run."""
REDACTED: Final = "***"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,3})?"
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}"
_MOMENT: Final = re.compile(
    rf"(?:{_DATE})[Tt ][0-9:]{{2,8}}(?:[.,][0-9]{{1,9}})?(?:[Zz]|[+-][0-9]{{2}}:?(?:[0-9]{{2}})?)"
)
_DURATION: Final = re.compile(rf"{_NUMBER}|(?:{_NUMBER}\s*(?:s|min|m|h|d)\s*){{1,4}}")


@dataclass(frozen=True, slots=True)
class CountOrPercent:
    """A number of rows, or a share of them."""

    number: float
    percent: bool

    def __str__(self) -> str:
        return f"{self.number:g}{'%' if self.percent else ''}"

    def of(self, rows: int) -> float:
        """The number of rows that this is, of so many."""
        return rows * self.number / 100 if self.percent else self.number


@dataclass(frozen=True, slots=True)
class Option:
    """One option of `run`."""

    name: str
    parse: Callable[[str], Any]
    help: str
    metavar: str = ""
    """Empty: a flag."""
    default: Any = None
    short: str = ""
    repeatable: bool = False
    for_plan: bool = True
    """Does `plan` take it too?"""
    for_check: bool = False
    """Does `check` take it too?"""
    resumes: bool = False
    """Do `resume` and `verify` take it too, over what the run was started with?"""

    @property
    def key(self) -> str:
        """The name as a Python identifier, and as a key of a profile."""
        return self.name.replace("-", "_")

    @property
    def for_init(self) -> bool:
        """Does it describe the input, so that `init` takes it too?"""
        return self.name in _INIT_OPTIONS

    @property
    def undoes(self) -> bool:
        """Does `undo` take it too?"""
        return self.name == "verbose" or not (self.for_init or self.name in _OF_NEW_INPUT)

    @property
    def default_text(self) -> str:
        """The default as it would be given; empty if there is none."""
        if not isinstance(self.default, float):
            return "" if self.default is None else str(self.default)
        for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
            if self.default and self.default % seconds == 0:
                return f"{self.default / seconds:g}{unit}"
        return f"{self.default:g}"

    @property
    def is_path(self) -> bool:
        """Whether it names a file or folder, whose name may be any bytes."""
        return self.metavar.partition(" ")[0] in ("DIR", "FILE")

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return f"TELEMETRON_{self.key.upper()}"


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()


def _absolute(text: str) -> str:
    """Return the path of a folder, whatever folder it will be read from later."""
    try:
        return str(Path(_text(text)).absolute())
    except OSError as exc:
        raise ValueError(f"{text!r} is relative to a folder that is gone: give an absolute path") from exc


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"{text!r} is neither yes nor no")


def _integer(least: int, most: int = 10**12) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,13}", text.strip()) or not least <= int(text) <= most:
            bounds = f"of at least {least}" if most == 10**12 else f"from {least} to {most}"
            raise ValueError(f"{text!r} is not a whole number {bounds}")
        return int(text)

    return read


def _duration(text: str) -> float:
    """Read 90, 90s, 15m, 1h30m or 2d as seconds."""
    word = text.strip().lower()
    if not _DURATION.fullmatch(word):
        raise ValueError(f"{text!r} is not a duration: write it as 90s, 15m, 1h30m or 2d")
    parts = re.findall(rf"({_NUMBER})\s*(s|min|m|h|d)?", word)
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _positive_duration(text: str) -> float:
    seconds = _duration(text)
    if seconds <= 0:
        raise ValueError(f"{text!r} is no time at all")
    return seconds


def _moment(text: str) -> datetime:
    """Read a date-time with a zone as UTC; a date is its midnight in UTC."""
    word = text.strip()
    try:
        if re.fullmatch(_DATE, word):
            return datetime.combine(date.fromisoformat(word), time(), UTC)
        if _MOMENT.fullmatch(word):
            return datetime.fromisoformat(word.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    example = "write it as 2026-05-31T02:00:00Z, 2026-05-31T02:00:00+02:00 or 2026-05-31"
    raise ValueError(f"{text!r} is neither a time with its zone nor a date: {example}")


def _share(text: str) -> CountOrPercent:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if match is None or (match[2] and float(match[1]) > 100) or (not match[2] and "." in match[1]):
        raise ValueError(f"{text!r} is neither a number of rows nor a share such as 5%")
    return CountOrPercent(float(match[1]), percent=bool(match[2]))


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text.strip())
        url = normalised(text.strip())
        usable = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    # Of an international host name the ASCII form is looked at, and kept.
    if not usable or not re.fullmatch(r"[!-~]+", url) or not re.fullmatch(r"[^\x00-\x20\x7f]+", text.strip()):
        raise ValueError(f"that is not a URL such as {DEFAULT_BASE_URL}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a base URL has no user, password, query or fragment")
    if parts.scheme == "http" and not is_loopback(str(parts.hostname)):
        raise ValueError(f"{text!r} would send the key unencrypted: use https (http is for this machine only)")
    return url


def _limit_url(text: str) -> Secret:
    """A URL of Redis, whose password nobody is told: also not the one who mistyped it."""
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", text.strip()) or not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise ValueError("that is not a URL such as redis://host:6379/0")
    return Secret(text.strip())


def _dir_or_url(text: str) -> str:
    """A folder, or a URL of an object store."""
    return validate_object_url(_text(text)) if is_url(strip_file_scheme(_text(text))) else _text(text)


def redacted(url: Secret) -> str:
    """A URL for the records: without its password, of which a sign remains."""
    parts = urlsplit(url.reveal())
    user, colon, _ = parts.netloc.rpartition("@")[0].partition(":")
    if not colon:
        return url.reveal()
    return parts._replace(netloc=f"{user}:{REDACTED}@{parts.netloc.rpartition('@')[2]}").geturl()


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
    try:
        return Action(text.strip().lower())
    except ValueError:
        raise ValueError(f"{text!r} is neither assign nor unassign") from None


def _phase(text: str) -> Phase:
    try:
        return Phase(text.strip().lower())
    except ValueError:
        raise ValueError(f"{text!r} is neither unassign nor assign") from None


def _hidden(text: str) -> HiddenRows:
    try:
        return HiddenRows(text.strip().lower())
    except ValueError:
        raise ValueError(f"{text!r} is none of refuse, skip and read") from None


def _action_word(text: str) -> tuple[str, Action]:
    word, action = _key_value(text)
    return word.lower(), _action(action)


def _outcome(text: str) -> Outcome:
    names = {outcome.value.lower(): outcome for outcome in Outcome}
    if text.strip().lower() not in names:
        raise ValueError(f"{text!r} is no outcome: it is one of {', '.join(Outcome)}")
    return names[text.strip().lower()]


def _field(name: str) -> str:
    names = {field.lower(): field for field in FIELDS}
    if name.strip().lower() not in names:
        raise ValueError(f"there is no column {name!r}: it is one of {', '.join(FIELDS)}")
    return names[name.strip().lower()]


def _split(text: str) -> Split:
    name, _, signs = text.partition("=")
    field = _field(name)
    if field not in ("customerEmail", "deviceIdentifier"):
        raise ValueError(f"cells of {field} are not split: name deviceIdentifier or customerEmail")
    separators = signs.replace("space", " ").replace("tab", "\t").replace("\\n", "\n")
    if not separators:
        return Split(field)
    if not separators.isascii() or any(sign.isalnum() for sign in separators):
        raise ValueError(f"{signs!r} are no separators: give signs such as , ; / or the word space")
    return Split(field, separators)


def _last_line(text: str) -> str:
    word = text.strip().lower()
    if word not in ("warn", "refuse"):
        raise ValueError(f"{text!r} is neither warn nor refuse")
    return word


def _encoding(text: str) -> str:
    try:
        "".encode(text.strip())
    except LookupError:
        raise ValueError(f"{text!r} is not an encoding that Python knows") from None
    return text.strip()


def _trailer_regex(text: str) -> str | None:
    """Read a pattern with one group; an empty text takes back what a profile says."""
    if not text:
        return None
    try:
        groups = re.compile(text).groups
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"{text!r} is not a regular expression ({exc})") from None
    if groups != 1:
        raise ValueError(f"{text!r} has {groups} groups; one is needed, around the number, as in '^T1,([0-9]+)'")
    return text


_N1, _N0 = _integer(1), _integer(0)

OPTIONS: Final = (
    Option("base-url", _base_url, "Where the API is; http only on this host.", "URL", DEFAULT_BASE_URL, for_check=True),
    Option("sandbox", _flag, "Run against an embedded stand-in for the API; needs no key.", default=False),
    Option("api-key-file", _text, "File with the API key, if TELEMETRON_API_KEY has none.", "FILE", for_check=True),
    Option("organisation", _text, "Whose account it is: jobs, locks and shared limit then survive a new key.", "NAME",
           resumes=True),
    Option("reports-dir", _text, "Folder under which each run has its folder.", "DIR", "reports"),
    Option("shared-reports-dir", _flag, "Accept folders of runs to which our group can write.", default=False),
    Option("run-id", _run_id, "Name of the run; the same command and name go on with a stopped run.", "ID"),
    Option("rate", Rate.parse, "Ceiling on attempts: N/s, N/min, N/h, or auto to find it.", "RATE", Rate.parse("10/s")),
    Option("limit-url", _limit_url, "Redis in which all processes with one base URL and key share the rate.", "URL"),
    Option("concurrency", _N1, "Calls in flight.", "N", 8),
    Option("chunk-size", _N1, "Devices a call.", "N", 500),
    Option("timeout", _positive_duration, "Total deadline of one attempt.", "SECONDS", 30.0, for_check=True),
    Option("attempts", _N1, "Attempts a call.", "N", 6),
    Option("give-up-after", _duration, "How long the API may be down before the run stops.", "DURATION", 900.0),
    Option("longest-wait", _positive_duration, "Stop when the API asks to wait longer (--give-up-after).", "DURATION"),
    Option("wait", _duration, "How long to wait for another run with this id or key.", "DURATION", 0.0),
    Option("lock-dir", _absolute, "Folder of a group: users who name it take turns with one key on this host.", "DIR",
           resumes=True),
    Option("deadline", _positive_duration, "Stop cleanly after this time; the rest is notSent.", "DURATION"),
    Option("action", _action, "Action of every row, for files without such a column.", "ACTION"),
    Option(
        "column", _column, "Which header is which column, e.g. customerEmail=Kunde.", "NAME=HEADER",
        repeatable=True,
    ),
    Option(
        "action-word", _action_word, "What the file's own word means, e.g. RET=unassign.", "WORD=ACTION",
        repeatable=True,
    ),
    Option("delimiter", parse_delimiter, "Delimiter of the input, if it is not found.", "CHAR"),
    Option(
        "split", _split, "Column whose cells hold several values (between , ; and line ends); each is a row.",
        "NAME[=SIGNS]",
    ),
    Option(
        "fill-down", _field, "Column whose empty cells take the value above.", "NAME", repeatable=True,
    ),
    Option("encoding", _encoding, "Encoding of the input, if it is not found.", "NAME"),
    Option("sheet", _text, "Sheet of a workbook; by default the first with the headers.", "NAME"),
    Option("hidden", _hidden, "Hidden or filtered rows of a workbook: refuse, skip or read.", "WORD",
           HiddenRows.REFUSE),
    Option("auto-create-devices", _flag, "Create devices that Telemetron does not know.", default=False),
    Option("device-type", _text, "Type of created devices, where no deviceType column says it.", "TYPE"),
    Option("max-failed", _share, "Stop when more rows than this have failed.", "N or P%"),
    Option("max-skipped", _share, "Stop when more unassigns than this had no effect.", "N or P%"),
    Option("max-unassign", _share, "Send nothing if more rows than this are unassigns.", "N or P%"),
    Option("max-new-customers", _N0, "Stop when more customers than this were created.", "N"),
    Option("min-rows", _N0, "Send nothing if the input has fewer rows.", "N"),
    Option("max-age", _positive_duration, "Send nothing if an input file is older.", "DURATION"),
    Option("expect-rows", _N0, "Send nothing if the input has another number of rows.", "N"),
    Option("trailer-count", _trailer_regex, "Pattern for the last line; its group: the rows.", "REGEX"),
    Option("last-line", _last_line, "What to do when the last line has no end: the file may be cut. warn or refuse.",
           "WORD", default="warn"),
    Option("as-of", _moment, "Time of which the input is the state: keeps the nights of a job in order.", "TIME"),
    Option("out-of-order", _flag, "Send although a newer night of this job has sent already.", default=False),
    Option("job", _text, "Name of the job; by default the profile, else the files' names but for digits.", "NAME"),
    Option("again", _flag, "Process content that a finished run has already processed.", default=False),
    Option("since-last", _flag, "Leave out what the last finished run settled surely.", default=False),
    Option("full-every", _positive_duration, "With --since-last: leave nothing out when the last full run is older.",
           "DURATION", default=604_800.0),
    Option("allow-suspect", _flag, "Send identifiers that look damaged by a spreadsheet.", default=False),
    Option("allow-empty", _flag, "An input without rows is no error.", default=False),
    Option("empty-exit-code", _integer(0, 255), "Exit code for an input without rows.", "N"),
    Option("multiline-cells", _flag, "Quoted cells may hold whole lines of rows.", default=False),
    Option("no-hold", _flag, "Assign also what its former owner may still have.", default=False),
    Option("baseline", _flag, "Read each customer before writing, to tell lost answers exactly.", default=False),
    Option("verify", _flag, "Ask at the end what the customers hold, as the command verify does.", default=False),
    Option("raw-csv", _flag, "Write cells that a spreadsheet would run as formulas as they are.", default=False),
    Option("publish", _dir_or_url, "Copy the run's files to a folder of this when it ends.", "DIR or URL"),
    Option("xlsx", _flag, "Write reconciliation and attention as workbooks too.", default=False),
    Option("tolerate", _outcome, "Outcome that does not count for exit code 1.", "OUTCOME", repeatable=True),
    Option("shards", _integer(1, 1000), "Divide the run, to be made past one machine.", "N"),
    Option("shards-at-once", _integer(1, 1000), "So many shards share the rate; by default all.", "N"),
    Option("shard", _integer(1, 1000), "Make this shard of the run --run-id, planned in shards.", "I", for_plan=False),
    Option("phase", _phase, "Of a shard: unassign, or assign and what follows.", "PHASE", for_plan=False),
    Option("yes", _flag, "Do not ask before sending.", default=False, short="y", for_plan=False),
    Option("no-progress", _flag, "No progress display.", default=False, for_plan=False),
    Option("json", _flag, "The summary as one line of JSON on stdout.", default=False, for_check=True),
    Option("verbose", _flag, "More detail, and tracebacks.", default=False, short="v", for_check=True),
    Option("quiet", _flag, "Errors only.", default=False, short="q", for_check=True),
)  # fmt: skip
OPTIONS_BY_KEY: Final = {option.key: option for option in OPTIONS}
