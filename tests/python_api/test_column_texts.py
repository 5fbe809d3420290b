from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from telemetron_batch.domain.errors import InputError
from telemetron_batch.python_api.column_texts import column_name, column_texts

MOMENT = datetime(2026, 3, 12, 8, 30, tzinfo=UTC)


class Kind(StrEnum):
    GATE = "gate"


class OldKind(str, Enum):  # noqa: UP042 - what programs of others have
    GATE = "gate"


def texts(values, dtype=None, *, is_key: bool = False) -> list[str]:
    column = values if isinstance(values, pd.Series) else pd.Series(values, dtype=dtype)
    convert = column_texts(column, "c", is_key=is_key)
    return convert(0, len(column)).to_pylist()


MISSING = [None, np.nan, pd.NA, pd.NaT, float("nan"), np.float64("nan"), Decimal("nan"), np.datetime64("NaT")]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["0012", None, " a "], "str", ["0012", "", " a "]),
        (["0012", None, "NA"], pd.StringDtype("python"), ["0012", "", "NA"]),
        (["0012", None], pd.StringDtype("pyarrow"), ["0012", ""]),
        (["0012", None], pd.ArrowDtype(pa.string()), ["0012", ""]),
        (["0012", None], pd.ArrowDtype(pa.large_string()), ["0012", ""]),
        (["0012", None], object, ["0012", ""]),
        ([np.str_("0012"), Kind.GATE, OldKind.GATE], object, ["0012", "gate", "gate"]),
        ([1, -2, 2**62], "int64", ["1", "-2", str(2**62)]),
        ([1, 2**64 - 1], "uint64", ["1", str(2**64 - 1)]),
        ([7], "int8", ["7"]),
        ([1, None], "Int64", ["1", ""]),
        ([1, None], pd.ArrowDtype(pa.int64()), ["1", ""]),
        ([1, np.int32(2), 10**30, "x"], object, ["1", "2", str(10**30), "x"]),
        ([Decimal("12"), None], object, ["12", ""]),
        (MISSING, object, [""] * len(MISSING)),
        ([np.nan, np.nan], "float64", ["", ""]),
        (["0012", None, "0012", "7"], "category", ["0012", "", "0012", "7"]),
        ([3, 4, 3], "category", ["3", "4", "3"]),
        ([None, None], "category", ["", ""]),
        ([UUID(int=5)], object, ["00000000-0000-0000-0000-000000000005"]),
        ([], object, []),
    ],
)
def test_a_key_column_of_texts_and_whole_numbers_keeps_every_sign(values, dtype, expected) -> None:
    assert texts(values, dtype, is_key=True) == expected
    assert texts(values, dtype) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1.0, 0.1, np.nan, 1e16, np.inf], "float64", ["1.0", "0.1", "", "1e+16", "inf"]),
        ([0.1, None], "float32", ["0.1", ""]),
        ([0.5, None], "Float64", ["0.5", ""]),
        ([0.5, None], pd.ArrowDtype(pa.float64()), ["0.5", ""]),
        ([True, False], "bool", ["True", "False"]),
        ([True, None], "boolean", ["True", ""]),
        ([True, np.bool_(False), 1.5, b"x"], object, ["True", "False", "1.5", "b'x'"]),
        ([b"x", b"y"], object, ["b'x'", "b'y'"]),
        ([MOMENT.replace(tzinfo=None), None], "datetime64[ns]", ["2026-03-12 08:30:00", ""]),
        ([MOMENT], object, ["2026-03-12 08:30:00+00:00"]),
        ([date(2026, 3, 12)], object, ["2026-03-12"]),
        ([timedelta(hours=1)], "timedelta64[ns]", ["0 days 01:00:00"]),
        ([Decimal("1.50")], object, ["1.50"]),
        ([Decimal("1.50")], pd.ArrowDtype(pa.decimal128(5, 2)), ["1.50"]),
        ([[1, 2], {"a": 1}, (3,)], object, ["[1, 2]", "{'a': 1}", "(3,)"]),
        ([1.5, None, 1.5], "category", ["1.5", "", "1.5"]),
        ([pd.Period("2026-03", "M")], "period[M]", ["2026-03"]),
        (pd.Series(pd.arrays.SparseArray([0, 0, 5])), None, ["0", "0", "5"]),
        ([1 + 2j], "complex128", ["(1+2j)"]),
    ],
)
def test_any_other_column_has_the_text_of_each_value(values, dtype, expected) -> None:
    assert texts(values, dtype) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "line", "kind"),
    [
        ([np.nan, 12.0], "float64", 2, "float"),
        ([None, 12.5], "Float64", 2, "float64"),
        ([None, 12.5], pd.ArrowDtype(pa.float64()), 2, "float"),
        (["A1", 12.0], object, 2, "float"),
        (["A1", np.float32(12.0)], object, 2, "float32"),
        (["A1", True], object, 2, "bool"),
        ([True], "bool", 1, "bool"),
        ([True, None], "boolean", 1, "bool"),
        (["A1", b"A2"], object, 2, "bytes"),
        ([b"A1"], object, 1, "bytes"),
        ([b"A1"], pd.ArrowDtype(pa.binary()), 1, "bytes"),
        (["A1", MOMENT], object, 2, "datetime"),
        ([date(2026, 3, 12)], object, 1, "date"),
        ([MOMENT], None, 1, "Timestamp"),
        ([timedelta(1)], "timedelta64[ns]", 1, "Timedelta"),
        ([Decimal("12.0")], object, 1, "Decimal"),
        ([Decimal("1E+3")], object, 1, "Decimal"),
        (["A1", ["A2"]], object, 2, "list"),
        ([1 + 2j], "complex128", 1, "complex"),
        ([None, 1.5, 2.5], "category", 2, "float64"),
        (["A1", "A2", 2.0], "category", 3, "float"),
        (pd.Series(pd.arrays.SparseArray([np.nan, 2.0])), None, 2, "float64"),
    ],
)
def test_a_key_column_with_a_damaged_value_is_refused_with_its_column_line_and_type(values, dtype, line, kind) -> None:
    with pytest.raises(
        InputError, match=rf'column "c" holds a {kind} \(.*, line {line}\), .*; read the column as text'
    ):
        texts(values, dtype, is_key=True)


def test_a_category_that_no_row_has_is_no_damage() -> None:
    column = pd.Series(["A1", 2.0], dtype="category")[:1]
    assert texts(column, is_key=True) == ["A1"]


def test_a_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InputError, match='column "c" holds a text that is not valid Unicode'):
        texts(["a", "\ud800"], object)


def test_parts_of_a_column_are_those_rows_only() -> None:
    column = pd.Series(["a", 1.5, None, "d"], index=[9, 9, 0, 1], dtype=object)
    convert = column_texts(column, "c", is_key=False)
    assert convert(1, 3).to_pylist() == ["1.5", ""]
    with pytest.raises(InputError, match="line 2"):
        column_texts(column, "c", is_key=True)(1, 3)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Serial No", "Serial No"),
        (7, "7"),
        (None, ""),
        (np.nan, ""),
        (("device", "serial"), "device serial"),
        (("customerEmail", ""), "customerEmail"),
        (("a", np.nan, 3), "a 3"),
        ("two\nlines", "two lines"),
        (pd.Timestamp("2026-03-12"), "2026-03-12 00:00:00"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_label_of_any_kind_becomes_a_header_of_one_line(label, name: str) -> None:
    assert column_name(label) == name
