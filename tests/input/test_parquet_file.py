"""Parquet: the rows of all row groups arrive as exact texts; a damaged file is refused in one line."""

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions, Problem
from telemetron_batch.input import parquet_file
from tests.input.test_load import PLAIN, Reading


def table(devices: Any, **more: Any) -> pa.Table:
    devices = devices if isinstance(devices, pa.Array) else pa.array(devices)
    count = len(devices)
    columns = {"customerEmail": ["a@b.cc"] * count, "deviceIdentifier": devices, "action": ["assign"] * count}
    return pa.table({**columns, **more})


def write(folder: Path, rows: pa.Table, name: str = "a.parquet", **options: Any) -> Path:
    pq.write_table(rows, folder / name, **options)
    return folder / name


def read(folder: Path, rows: pa.Table, options: InputOptions = PLAIN, **written: Any) -> Reading:
    return Reading(folder, write(folder, rows, **written), options=options)


def refused(folder: Path, path: Path | str, options: InputOptions = PLAIN) -> str:
    with pytest.raises(InputError) as refusal:
        Reading(folder, path, options=options)
    return str(refusal.value)


def test_rows_of_all_row_groups_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "_BLOCK_ROWS", 7)
    serials = [f"{number:06}" for number in range(100)]
    reading = read(tmp_path, table(serials), row_group_size=30)
    assert reading.column("deviceIdentifier") == serials
    assert reading.column("line") == [*range(1, 101)]
    assert len(reading.blocks) > 10
    assert (reading.file.encoding, reading.file.delimiter, reading.file.header_line) == ("parquet", "", 0)


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
def test_every_compression_is_read(tmp_path: Path, codec: str) -> None:
    assert read(tmp_path, table(["0012"]), compression=codec).column("deviceIdentifier") == ["0012"]


def test_values_arrive_as_exact_texts(tmp_path: Path) -> None:
    devices = pa.array([12345678901234567890, 12, None], pa.uint64())
    reading = read(tmp_path, table(devices, price=[1.5, None, 2.0], note=pa.array(["x", "", None]).dictionary_encode()))
    assert [cells[1:] for cells in reading.cells] == [
        ["12345678901234567890", "assign", "1.5", "x"],
        ["12", "assign", "", ""],
        ["", "assign", "2", ""],
    ]
    assert reading.column("problem") == [0, 0, Problem.EMPTY_KEY]


def test_floating_point_serials_are_refused_as_damage(tmp_path: Path) -> None:
    path = write(tmp_path, table([1.0, 2.0]))
    for options in (PLAIN, InputOptions(allow_suspect=True)):
        message = refused(tmp_path, path, options)
        assert '"deviceIdentifier" holds values of type double, which may have changed them' in message
    assert "holds values of type bool" in refused(tmp_path, write(tmp_path, table([True])))


def test_columns_are_found_by_alias_and_by_name(tmp_path: Path) -> None:
    rows = pa.table({"Kunde": ["a@b.cc"], "Serial No": ["S1"], "Email": [1.5]})
    options = InputOptions(columns={"customerEmail": "Kunde"}, action=Action.ASSIGN)
    assert read(tmp_path, rows, options).column("problem") == [0]
    message = refused(tmp_path, write(tmp_path, rows))
    assert 'no column for action; columns seen: "Kunde", "Serial No", "Email"' in message


def test_a_column_found_twice_is_refused(tmp_path: Path) -> None:
    columns = [pa.array(["a@b.cc"]), pa.array(["S1"]), pa.array(["S2"])]
    rows = pa.Table.from_arrays(columns, names=["email", "serial", "serial"])
    assert "deviceIdentifier is found 2 times" in refused(
        tmp_path, write(tmp_path, rows), InputOptions(action=Action.ASSIGN)
    )


def test_a_file_is_recognised_by_its_bytes(tmp_path: Path) -> None:
    assert read(tmp_path, table(["S1"]), name="export.dat").file.encoding == "parquet"
    text = tmp_path / "par.csv"
    text.write_text("PAR1;Email;Serial;Action\n1;a@b.cc;S1;assign\n")
    assert Reading(tmp_path, text).file.encoding == "utf-8"
    (tmp_path / "b.parquet").write_text("customerEmail,deviceIdentifier,action\n")
    assert "is not a Parquet file, whatever its name says" in refused(tmp_path, tmp_path / "b.parquet")


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, table(pa.array([], pa.string()))).file.rows == 0
    nothing = tmp_path / "nothing.parquet"
    nothing.write_bytes(b"")
    assert "is not a Parquet file" in refused(tmp_path, nothing)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path, table(["S1"])).read_bytes()
    for size in (4, 8, 100, len(whole) - 1):
        (tmp_path / "b.parquet").write_bytes(whole[:size])
        assert "is a Parquet file that was cut short; fetch" in refused(tmp_path, tmp_path / "b.parquet")


def test_a_damaged_file_ends_with_one_line(tmp_path: Path) -> None:
    whole = write(tmp_path, table([f"S{number}" for number in range(2000)], x=[*range(2000)])).read_bytes()
    source = random.Random(1)
    messages = [*filter(None, (refusal_of(tmp_path, whole, source) for _ in range(200)))]
    assert len(messages) > 50
    assert not any("\n" in message for message in messages)


def refusal_of(folder: Path, whole: bytes, source: random.Random) -> str:
    """Damage some bytes of a file, and return why it is refused; "" if it is read."""
    damaged = bytearray(whole)
    for _ in range(source.randint(1, 20)):
        damaged[source.randrange(4, len(whole) - 4)] = source.randrange(256)
    (folder / "b.parquet").write_bytes(damaged)
    with suppress(InputError):
        Reading(folder, folder / "b.parquet")
        return ""
    return refused(folder, folder / "b.parquet")


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    broken = pa.array([b"\xff"], pa.binary()).view(pa.string())
    assert "is a damaged Parquet file (Invalid UTF8" in refused(tmp_path, write(tmp_path, table(["S1"], note=broken)))


def test_an_encrypted_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    whole = write(tmp_path, table(["S1"])).read_bytes()
    (tmp_path / "b.parquet").write_bytes(b"PARE" + whole[4:-4] + b"PARE")
    assert "is an encrypted Parquet file; write it without" in refused(tmp_path, tmp_path / "b.parquet")


def test_a_trailer_row_gives_the_number_of_rows(tmp_path: Path) -> None:
    rows = pa.table({"customerEmail": ["a@b.cc", "T1"], "deviceIdentifier": ["S1", "1"], "action": ["assign", ""]})
    reading = read(tmp_path, rows, InputOptions(trailer_count="T1;([0-9]+)"))
    assert (reading.file.trailer_count, reading.column("deviceIdentifier")) == (1, ["S1"])


def test_more_columns_than_a_table_has_are_refused(tmp_path: Path) -> None:
    rows = pa.table({f"c{number}": ["x"] for number in range(16_385)})
    assert "has 16385 columns" in refused(tmp_path, write(tmp_path, rows))
