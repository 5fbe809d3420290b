"""Turn the columns of a DataFrame into texts, exactly as `str` writes their values; missing values become empty.

A key column may hold texts, whole numbers and UUIDs. Anything else there shows that an identifier was read as something
that it is not, such as a float that has lost digits and zeros; it is refused, and never repaired.
"""

from collections.abc import Callable, Hashable, Iterable
from decimal import Decimal
from numbers import Integral
from typing import Any, Final
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.printable import encodable, printable

ColumnTexts = Callable[[int, int], pa.Array]
"""Returns the texts of the rows from a first one up to, not including, a last one; without nulls."""

_ADVICE: Final = "read the column as text (dtype=str), as in pd.read_csv(..., dtype=str); a float has lost its zeros"
_MAX_SHOWN: Final = 40


def column_name(label: Hashable) -> str:
    """Return the label of a column as a header: of several levels the ones that are not empty, with blanks between."""
    levels = label if isinstance(label, tuple) else (label,)
    texts = ("" if _is_missing(level) else encodable(str(level)) for level in levels)
    return " ".join(" ".join(texts).split())


def column_texts(column: "pd.Series[Any]", name: str, *, is_key: bool) -> ColumnTexts:
    """Return what gives the texts of a column. Raises InputError for values of a key column that are not texts."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _category_texts(column, name, is_key=is_key)
    convert = _text_converter(column.dtype, is_key=is_key)

    def texts(first: int, last: int) -> pa.Array:
        try:
            converted = convert(column.iloc[first:last])
        except _RefusedError as refused:
            raise _input_error(name, first + refused.position + 1, refused.value) from None
        except UnicodeEncodeError as error:
            what = f'column "{printable(name)}" holds a text that is not valid Unicode ({error.reason})'
            raise InputError(what, "correct it, for example by str.encode and decode with errors='replace'") from error
        return pc.fill_null(converted.cast(pa.string()), "")

    return texts


class _RefusedError(Exception):
    """A value of a key column that is no text and no whole number."""

    def __init__(self, position: int, value: object) -> None:
        super().__init__(position)
        self.position = position
        self.value = value


def _input_error(name: str, line: int, value: object) -> InputError:
    shown = printable(str(value)[:_MAX_SHOWN])
    what = f'column "{printable(name)}" holds a {type(value).__name__} ({shown}, line {line}), which is no identifier'
    return InputError(what, _ADVICE)


def _category_texts(column: "pd.Series[Any]", name: str, *, is_key: bool) -> ColumnTexts:
    """Return what gives the texts of a categorical column: each category is converted once, if a row has it."""
    codes = column.cat.codes
    used = np.unique(codes[codes >= 0])
    categories = column.cat.categories.to_series().iloc[used]
    if is_key:
        _require_texts(categories, name, codes, used)
    texts = column_texts(categories, name, is_key=False)(0, len(categories))

    def of_rows(first: int, last: int) -> pa.Array:
        part = codes.iloc[first:last].to_numpy()
        places = pa.array(np.searchsorted(used, part), mask=part < 0)
        return pc.fill_null(texts.take(places), "")

    return of_rows


def _require_texts(categories: "pd.Series[Any]", name: str, codes: "pd.Series[Any]", used: Any) -> None:
    """Raise InputError for the first row with a category that is neither a text nor a whole number."""
    bad = [code for code, value in zip(used.tolist(), categories, strict=True) if not _may_be_key(value)]
    if bad:
        row = int(np.flatnonzero(codes.isin(bad).to_numpy())[0])
        raise _input_error(name, row + 1, categories.iloc[np.searchsorted(used, codes.iloc[row])])


def _text_converter(dtype: Any, *, is_key: bool) -> Callable[["pd.Series[Any]"], pa.Array]:
    """Return the fastest conversion that is exact for a type of column."""
    if isinstance(dtype, pd.SparseDtype):
        return _key_objects if is_key else _objects
    if isinstance(dtype, pd.StringDtype) or pd.api.types.is_integer_dtype(dtype):
        return _by_arrow
    if isinstance(dtype, pd.ArrowDtype) and _is_text(dtype.pyarrow_dtype):
        return _by_arrow
    if isinstance(dtype, np.dtype) and dtype.kind in "fb" and not is_key:
        return _by_numpy
    return _key_objects if is_key else _objects


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _by_arrow(column: "pd.Series[Any]") -> pa.Array:
    """Convert texts and whole numbers."""
    converted = pa.array(column, from_pandas=True)
    return converted.combine_chunks() if isinstance(converted, pa.ChunkedArray) else converted


def _by_numpy(column: "pd.Series[Any]") -> pa.Array:
    """Convert floats and booleans."""
    values = column.to_numpy()
    return pa.array(values.astype(str), pa.string(), mask=np.isnan(values) if values.dtype.kind == "f" else None)


def _key_objects(column: "pd.Series[Any]") -> pa.Array:
    """Convert the values of a key column. Raises _RefusedError."""
    texts = _all_texts(column)
    if texts is not None:
        return texts
    for position, value in enumerate(column):
        if not _may_be_key(value):
            raise _RefusedError(position, value)
    return _objects(column)


def _objects(column: "pd.Series[Any]") -> pa.Array:
    """Convert any values, one by one unless all are texts."""
    texts = _all_texts(column)
    return pa.array(_each_text(column), pa.string()) if texts is None else texts


def _all_texts(column: "pd.Series[Any]") -> pa.Array | None:
    """Return the values if all are texts or missing; else None."""
    if column.dtype != object:
        return None
    try:
        found = pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None  # values of several types
    return found if isinstance(found, pa.Array) and _is_text(found.type) else None


def _each_text(values: Iterable[object]) -> list[str | None]:
    return [None if _is_missing(value) else _text(value) for value in values]


def _text(value: object) -> str:
    """Return a value as text; of a text with a type of its own, such as a member of an enumeration, the text."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def _may_be_key(value: object) -> bool:
    """Return whether a value of a key column is a text, a whole number, a UUID, or missing."""
    if isinstance(value, str | UUID) or _is_missing(value):
        return True
    if isinstance(value, Decimal):  # 12.0 and 1E+2 are no identifiers, though they are whole numbers
        return str(value).isdecimal()
    return not isinstance(value, bool) and isinstance(value, Integral)


def _is_missing(value: object) -> bool:
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, float | np.floating | Decimal):
        return bool(value != value)  # true for NaN only
    return isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value))
