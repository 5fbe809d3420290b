"""Typed values become exactly one text, and types that cannot hold a key are refused."""

import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from telemetron_batch.domain.errors import InputError
from telemetron_batch.input.value_texts import reject_key_type, texts_of

MOMENT = datetime(2026, 5, 31, 2, 0, 0, 500_000, UTC)
IDENTITY = uuid.UUID("12345678-1234-5678-1234-567812345678")
DISTANT_DATES = ["2941775-04-07", "15659-07-15", "", "-2937836-09-26"]

TEXTS = {
    "texts": (pa.array(["0012", None, ""]), ["0012", "", ""]),
    "large texts": (pa.array(["a"], pa.large_string()), ["a"]),
    "views of texts": (pa.array(["a", None], pa.string_view()), ["a", ""]),
    "a dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), ["a", "", "a"]),
    "a dictionary of numbers": (pa.array([7, 7, None]).dictionary_encode(), ["7", "7", ""]),
    "runs": (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), ["a", "a", "b"]),
    "whole numbers": (pa.array([12345678901234567890, 0], pa.uint64()), ["12345678901234567890", "0"]),
    "negative numbers": (pa.array([-128], pa.int8()), ["-128"]),
    "nothing": (pa.nulls(2), ["", ""]),
    "booleans": (pa.array([True, False, None]), ["true", "false", ""]),
    "floats": (pa.array([1.5, 0.1, 1e20]), ["1.5", "0.1", "1e+20"]),
    "short floats": (pa.array([0.1], pa.float32()), ["0.1"]),
    "half floats": (pa.array(np.array([1.5], np.float16)), ["1.5"]),
    "decimals": (pa.array([Decimal("12.50"), None], pa.decimal128(10, 2)), ["12.50", ""]),
    "small decimals": (pa.array([Decimal("0.0000000001")], pa.decimal128(20, 10)), ["0.0000000001"]),
    "decimals of hundreds": (pa.array([Decimal(1200)], pa.decimal128(10, -2)), ["1200"]),
    "dates": (pa.array([date(2026, 5, 31)]), ["2026-05-31"]),
    "times": (pa.array([time(2, 0, 0, 5)]), ["02:00:00.000005"]),
    "moments": (pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("ms")), ["2026-05-31 02:00:00.500"]),
    "moments in UTC": (pa.array([MOMENT], pa.timestamp("us", "UTC")), ["2026-05-31 02:00:00.500000Z"]),
    "moments elsewhere": (pa.array([MOMENT], pa.timestamp("ms", "+02:00")), ["2026-05-31 04:00:00.500+0200"]),
    "distant dates": (pa.array([2**30, 5_000_000, None, -(2**30)], pa.int32()).view(pa.date32()), DISTANT_DATES),
    "distant days": (pa.array([2**30 * 86_400_000, 0]).view(pa.date64()), ["2941775-04-07", "1970-01-01"]),
    "distant moments": (
        pa.array([2**40, -(2**40), 0]).view(pa.timestamp("s")),
        ["36812-02-20 00:36:16", "-32873-11-12 23:23:44", "1970-01-01 00:00:00"],
    ),
    "distant moments in a zone": (
        pa.array([2**40 * 1000 + 5]).view(pa.timestamp("ms", "+02:00")),
        ["36812-02-20 00:36:16.005Z"],
    ),
    "the last moments": (pa.array([2**63 - 1]).view(pa.timestamp("ns")), ["2262-04-11 23:47:16.854775807"]),
    "moments of late years": (pa.array([939 * 10**9]).view(pa.timestamp("s", "UTC")), ["31725-09-22 13:20:00Z"]),
    "the end of a day": (
        pa.array([86_400, 0, -5], pa.int32()).view(pa.time32("s")),
        ["24:00:00", "00:00:00", "-00:00:05"],
    ),
    "late times": (pa.array([90_000_000_001]).view(pa.time64("us")), ["25:00:00.000001"]),
    "durations": (pa.array([timedelta(seconds=90)], pa.duration("s")), ["90"]),
    "bytes": (pa.array([b"\x00\xff", None]), ["\\x00ff", ""]),
    "short bytes": (pa.array([b"ab"], pa.binary(2)), ["\\x6162"]),
    "a UUID": (pa.array([IDENTITY.bytes], pa.uuid()), [str(IDENTITY)]),
    "a list": (pa.array([[1, 2], [], None]), ["[1,2]", "[]", ""]),
    "a list of texts": (pa.array([['é"', None]]), ['["é\\"",null]']),
    "a structure": (pa.array([{"a": 1, "b": {"c": Decimal("1.50")}}]), ['{"a":1,"b":{"c":"1.50"}}']),
    "a map": (pa.array([[("k", b"\x01")]], pa.map_(pa.string(), pa.binary())), ['[["k","\\\\x01"]]']),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_value_becomes_its_text(name: str) -> None:
    values, texts = TEXTS[name]
    found = texts_of(values)
    assert found.type == pa.string()
    assert found.to_pylist() == texts


def test_text_that_is_not_utf_8_is_not_let_through() -> None:
    broken = pa.array([b"\xff"], pa.binary()).view(pa.string())
    with pytest.raises(pa.ArrowInvalid):
        texts_of(broken)


@pytest.mark.parametrize(
    "value_type",
    [
        pa.string(),
        pa.large_string(),
        pa.int64(),
        pa.uint8(),
        pa.null(),
        pa.decimal128(20, 0),
        pa.uuid(),
        pa.dictionary(pa.int8(), pa.string()),
    ],
)
def test_texts_and_whole_numbers_can_be_keys(value_type: pa.DataType) -> None:
    reject_key_type("Serial", value_type)


@pytest.mark.parametrize(
    "value_type",
    [
        pa.float64(),
        pa.float16(),
        pa.bool_(),
        pa.date32(),
        pa.timestamp("us"),
        pa.time64("us"),
        pa.duration("s"),
        pa.binary(),
        pa.binary(16),
        pa.decimal128(20, 2),
        pa.list_(pa.string()),
        pa.struct([("a", pa.string())]),
        pa.dictionary(pa.int8(), pa.float64()),
    ],
)
def test_no_other_type_can_be_a_key(value_type: pa.DataType) -> None:
    with pytest.raises(InputError, match=r"the column of Serial holds values of type .* write the column as text"):
        reject_key_type("Serial", value_type)
