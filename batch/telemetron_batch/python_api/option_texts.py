"""Turn Python values of options into the texts that the table of options parses.

So there is one set of rules for the values. Every problem is reported under the name that the caller wrote.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, Final

from telemetron_batch.config.options import OPTIONS_BY_KEY, Option
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.printable import printable
from telemetron_batch.python_api import options as types

SHARDING: Final = frozenset({"shards", "shards_at_once", "shard", "phase"})
"""Options that Python does not have: a shard is a process of its own."""
TERMINAL: Final = frozenset({"json", "no_progress", "quiet", "verbose", "yes"})
"""Options of a terminal: accepted, and without effect."""
FILE_FORMAT: Final = (
    "delimiter",
    "encoding",
    "hidden",
    "last_line",
    "max_age",
    "multiline_cells",
    "query",
    "settled_for",
    "sheet",
    "source_url_file",
    "trailer_count",
    "wait_for_file",
)
"""Options that describe a file or a query, which a DataFrame is not."""
_OWNERS_FILE: Final = "FILE or runs"
_INSTEAD: Final = {
    "api_key": "set TELEMETRON_API_KEY, or use api_key_file or api_key_command",
    **dict.fromkeys(SHARDING, "a shard is a process of its own: use the command telemetron-batch"),
}
_SEE: Final = "see the page Python of the documentation, or telemetron-batch run --help"


class _NotTakenError(ValueError):
    """A value of a type that the option does not take."""


def option_texts(given: Mapping[str, object], known: Collection[str]) -> dict[str, Any]:
    """Return the given options as flags of the command line, by key; None counts as not given.

    Raises ConfigError that names every unknown option and every value of a wrong type.
    """
    problems: list[str] = []
    flags: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            problems.append(_unknown(key, known))
        elif value is not None:
            try:
                flags[key] = _flag(key, value)
            except _NotTakenError as exc:
                problems.append(f"{key}: {exc}")
    if problems:
        raise ConfigError("; ".join(problems), _SEE)
    return {key: value for key, value in flags.items() if key not in TERMINAL}


def key_of(option: Option) -> str:
    """Return how a caller in Python writes an option."""
    return option.key


def refuse_file_options(given: Mapping[str, object]) -> None:
    """Raise ConfigError for an option that describes a file or a query; the source is a DataFrame."""
    found = [key for key in FILE_FORMAT if given.get(key) is not None]
    if found:
        raise ConfigError(f"{', '.join(found)}: not for a source that is a DataFrame", "leave it out")


def _unknown(key: str, known: Collection[str]) -> str:
    if key in _INSTEAD:
        return f"{key}: is not an option in Python; {_INSTEAD[key]}"
    if key in OPTIONS_BY_KEY:
        return f"{key}: is not an option of this function"
    close = get_close_matches(key, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown option {printable(key)!r}{hint}"


def _flag(key: str, value: object) -> Any:
    """Return a value as the command line gives it. Raises _NotTakenError."""
    option = OPTIONS_BY_KEY.get(key)
    if option is None:  # `profile` and `config`
        return _file(value)
    if key == "yes" and value is False:
        raise _NotTakenError("no question is asked in Python, so it cannot be False")
    _, convert = KINDS[kind_of(option)]
    text = convert(value)
    is_file_named_runs = option.metavar == _OWNERS_FILE and text == "runs" and not isinstance(value, str)
    return "./runs" if is_file_named_runs else text


def kind_of(option: Option) -> str:
    """Return the key in `KINDS` of an option, by the placeholder of its value."""
    if not option.metavar:
        return "flag"
    if option.repeatable:
        return "pairs" if "=" in option.metavar else "texts"
    return _KIND_OF_PLACEHOLDER.get(option.metavar, "text")


_KIND_OF_PLACEHOLDER: Final = {
    "N": "whole",
    "N or P%": "count",
    "SECONDS": "duration",
    "DURATION": "duration",
    "FILE": "file",
    "DIR": "file",
    "DIR or URL": "file",
    _OWNERS_FILE: "file",
    "TIME": "time",
    "HH:MM": "local time",
}


def _wrong(value: object, wanted: str) -> _NotTakenError:
    return _NotTakenError(f"takes {wanted}, not {type(value).__name__}")


def _bool(value: object) -> bool:
    # numpy has a boolean of its own, and numpy is not imported for this
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise _wrong(value, "True or False")


def _text(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise _wrong(value, "a text")


def _whole(value: object, wanted: str = "a whole number") -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _wrong(value, wanted)
    return str(int(value))


def _count(value: object) -> str:
    return _whole(value, 'a number of rows or a percentage such as "5%"')


def _duration(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.3f}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _wrong(value, 'seconds, a timedelta or a text such as "15m"')
    return f"{float(value):.3f}"


def _file(value: object) -> str:
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return str.__str__(path)
    raise _wrong(value, "a path")


def _time(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _NotTakenError("is a datetime without a time zone; give it one, such as datetime.UTC")
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise _wrong(value, "a datetime, a date or a text")


def _local_time(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, time) or value.tzinfo is not None or value.second or value.microsecond:
        raise _wrong(value, 'a time of the day in hours and minutes, or a text such as "06:00"')
    return f"{value:%H:%M}"


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [_text(value)]
    if isinstance(value, Sequence | Set) and all(isinstance(one, str) for one in value):
        return [_text(one) for one in value]
    raise _wrong(value, "a text or a list of texts")


def _pairs(value: object) -> list[str]:
    if not isinstance(value, Mapping):
        return _texts(value)
    return [*_joined(value)]


def _joined(pairs: Mapping[object, object]) -> Iterator[str]:
    for name, text in pairs.items():
        if not (isinstance(name, str) and isinstance(text, str)):
            raise _wrong(text if isinstance(name, str) else name, "a mapping of texts to texts")
        if "=" in name:
            raise _NotTakenError(f"{printable(name)!r} has an equals sign, which separates the two")
        yield f"{_text(name)}={_text(text)}"


KINDS: Final[Mapping[str, tuple[object, Callable[[object], Any]]]] = {
    "flag": (types.Flag, _bool),
    "text": (types.Text, _text),
    "whole": (types.Whole, _whole),
    "count": (types.Count, _count),
    "duration": (types.Duration, _duration),
    "file": (types.File, _file),
    "time": (types.Time, _time),
    "local time": (types.LocalTime, _local_time),
    "texts": (types.Texts, _texts),
    "pairs": (types.Pairs, _pairs),
}
"""The type of each kind of value, and what turns a value into a text."""
