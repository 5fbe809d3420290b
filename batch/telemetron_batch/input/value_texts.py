"""Turn typed columns into texts exactly, and tell which types cannot hold a key.

Nothing is rounded: a value becomes the text that stands for it and for no other value of its type.
"""

import json
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.errors import InputError

_TEXTS: Final = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BINARY: Final = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)
_NARROW_BITS: Final = 32
_MAX_INT64: Final = 2**63 - 1
_DISTANT_S: Final = 940_000_000_000
"""Seconds between 1970 and a moment before the year 32767, the last that Arrow writes."""
_DAY_S: Final = 86_400
_CYCLE_DAYS: Final = 146_097
"""Days of the 400 years after which the calendar repeats."""
_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def texts_of(column: pa.Array) -> pa.Array:
    """Return the values as strings; null becomes an empty text. Raises ArrowInvalid for text that is not UTF-8."""
    column = _plain(column)
    if _is_any(_TEXTS, column.type):
        texts = column.cast(pa.string())
        texts.validate(full=True)
        return pc.fill_null(texts, "")
    if _is_any(_BINARY, column.type):
        return _texts_one_by_one(column, _hex)
    if pa.types.is_nested(column.type) or pa.types.is_interval(column.type):
        return _texts_one_by_one(column, json_text)
    if pa.types.is_null(column.type):
        return pa.repeat("", len(column))
    texts = pc.fill_null(column.cast(pa.string()), "")
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type) or pa.types.is_time(column.type):
        return _with_distant_times(column, texts)
    return _without_exponents(texts) if pa.types.is_decimal(column.type) else texts


def reject_key_type(name: str, value_type: pa.DataType) -> None:
    """Raise InputError unless a column of this type can hold a key: texts, whole numbers, and nothing at all."""
    plain = _plain(pa.array([], value_type)).type
    is_whole = pa.types.is_integer(plain) or (pa.types.is_decimal(plain) and plain.scale <= 0)
    if is_whole or _is_any(_TEXTS, plain) or pa.types.is_null(plain):
        return
    damage = ", which may have changed them" if pa.types.is_floating(plain) else ""
    raise InputError(
        f"the column of {name} holds values of type {plain}{damage}, and texts or whole numbers are expected",
        "write the column as text where the file is made",
    )


def json_text(value: Any) -> str:
    """Return a nested value as JSON in one line; what JSON does not have becomes a text in it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_json_default)


def _plain(column: pa.Array) -> pa.Array:
    """Return the values without dictionary, run-end encoding and extension type; a UUID as its text."""
    value_type = column.type
    if isinstance(value_type, pa.UuidType):
        return _texts_one_by_one(column.storage, lambda octets: str(UUID(bytes=octets)))
    if isinstance(value_type, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_dictionary(value_type):
        return _plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(value_type):
        return _plain(pc.run_end_decode(column))
    return column


def _is_any(tests: tuple[Any, ...], value_type: pa.DataType) -> bool:
    return any(test(value_type) for test in tests)


def _texts_one_by_one(column: pa.Array, text_of: Any) -> pa.Array:
    return pa.array(["" if value is None else text_of(value) for value in column.to_pylist()], pa.string())


def _hex(octets: bytes) -> str:
    return f"\\x{octets.hex()}"


def _json_default(value: object) -> str:
    return _hex(value) if isinstance(value, bytes) else str(value)


def _with_distant_times(column: pa.Array, texts: pa.Array) -> pa.Array:
    """Return the texts of times with those that Arrow has no text for, such as a date in the year 40000."""
    is_distant = pc.starts_with(texts, "<value out of range")
    if pa.types.is_timestamp(column.type):  # in a zone Arrow gives distant years wrong
        limit = min(_DISTANT_S * 10 ** _DIGITS[column.type.unit], _MAX_INT64)
        numbers = pc.fill_null(column.view(pa.int64()), 0)
        is_distant = pc.or_(is_distant, pc.or_(pc.greater(numbers, limit), pc.less(numbers, -limit)))
    if not pc.any(is_distant).as_py():
        return texts
    width = pa.int32() if column.type.bit_width == _NARROW_BITS else pa.int64()
    numbers = column.filter(is_distant).view(width).to_pylist()
    exact = [_time_text(number, column.type) for number in numbers]
    return pc.replace_with_mask(texts, is_distant, pa.array(exact, pa.string()))


def _time_text(number: int, value_type: pa.DataType) -> str:
    """Return a date, time or moment, counted in its unit, as Arrow writes those in its range; a zone becomes UTC."""
    if pa.types.is_date32(value_type):
        return _date_text(number)
    if pa.types.is_date64(value_type):
        return _date_text(number // (_DAY_S * 1000))
    digits = _DIGITS[value_type.unit]
    seconds, fraction = divmod(number, 10**digits)
    days, seconds = (0, seconds) if pa.types.is_time(value_type) else divmod(seconds, _DAY_S)
    sign = "-" if seconds < 0 else ""
    if sign:
        seconds, fraction = divmod(-number, 10**digits)
    clock = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    clock += f".{fraction:0{digits}d}" if digits else ""
    return clock if pa.types.is_time(value_type) else f"{_date_text(days)} {clock}{'Z' if value_type.tz else ''}"


def _date_text(days: int) -> str:
    """Return the date of a number of days after 1970-01-01, for any year: the calendar repeats after 400 of them."""
    cycles, rest = divmod(days, _CYCLE_DAYS)
    near = date(1970, 1, 1) + timedelta(days=rest)
    year = near.year + 400 * cycles
    return f"{'-' if year < 0 else ''}{abs(year):04d}-{near.month:02d}-{near.day:02d}"


def _without_exponents(texts: pa.Array) -> pa.Array:
    """Return decimal numbers with all their digits: very small ones have an exponent."""
    with_exponent = pc.match_substring(texts, "E")
    if not pc.any(with_exponent).as_py():
        return texts
    whole = [format(Decimal(text), "f") for text in texts.filter(with_exponent).to_pylist()]
    return pc.replace_with_mask(texts, with_exponent, pa.array(whole, pa.string()))
