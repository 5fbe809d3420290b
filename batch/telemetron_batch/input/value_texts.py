"""Turn typed columns into texts exactly, and tell which types cannot hold a key.

Nothing is rounded: a value becomes the text that stands for it and for no other value of its type.
"""

import json
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


def _without_exponents(texts: pa.Array) -> pa.Array:
    """Return decimal numbers with all their digits: very small ones have an exponent."""
    with_exponent = pc.match_substring(texts, "E")
    if not pc.any(with_exponent).as_py():
        return texts
    whole = [format(Decimal(text), "f") for text in texts.filter(with_exponent).to_pylist()]
    return pc.replace_with_mask(texts, with_exponent, pa.array(whole, pa.string()))
