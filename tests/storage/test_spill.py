"""Columns, arrays and tables have the same content in memory and in files."""

import shutil
import threading
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetron_batch.storage.sparse_texts import SparseTextColumn
from telemetron_batch.storage.spill import (
    PARTS,
    PartitionedTable,
    RunLengthColumn,
    Scratch,
    SpillColumn,
    SpillLimits,
    drop_pages,
    spill_batch,
)

SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
ROOM = st.builds(SpillLimits, memory=st.sampled_from([0, 40, 200, 1 << 20]), parts=st.integers(1, 5))
NUMBERS = st.lists(st.lists(st.integers(0, 1000), max_size=8), max_size=6)


def table_of(numbers: list[int]) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(numbers, pa.int64()), "text": pa.array([f"t{n}" for n in numbers])})


@given(ROOM, NUMBERS)
@SETTINGS
def test_a_column_keeps_its_values_in_order(tmp_path: Path, limits: SpillLimits, blocks: list[list[int]]) -> None:
    with Scratch(tmp_path / "s", limits) as scratch:
        column = SpillColumn(scratch, np.int32)
        for block in blocks:
            column.add(np.array(block, np.int64))
        assert column.array().tolist() == [number for block in blocks for number in block]


@given(ROOM, st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=6), st.data())
@SETTINGS
def test_a_run_length_column_keeps_its_numbers(
    tmp_path: Path, limits: SpillLimits, blocks: list[list[int]], data: st.DataObject
) -> None:
    numbers = [number for block in blocks for number in block]
    places = data.draw(st.lists(st.integers(0, len(numbers) - 1))) if numbers else []
    with Scratch(tmp_path / "s", limits) as scratch:
        runs = RunLengthColumn(scratch)
        for block in blocks:
            runs.add(np.array(block, np.int64))
        assert runs.at(np.array(places, np.int64)).tolist() == [numbers[place] for place in places]


@given(ROOM, NUMBERS, st.booleans(), st.sampled_from([1, 24 << 20]))
@SETTINGS
def test_records_with_equal_hashes_go_into_one_partition_in_order(
    tmp_path: Path, limits: SpillLimits, blocks: list[list[int]], only_even: bool, at_once: int
) -> None:
    together = patch("telemetron_batch.storage.spill._FLUSH_BYTES", range(at_once, at_once + 1))
    with Scratch(tmp_path / "s", limits) as scratch, together:
        spread = PartitionedTable(scratch)
        for block in blocks:
            numbers = np.array(block, np.uint64)
            spread.add(table_of(block), numbers, numbers % 2 == 0 if only_even else None)
        wanted = [number for block in blocks for number in block if not only_even or number % 2 == 0]
        seen = [(part, number) for part, table in spread.iter_parts() for number in table["n"].to_pylist()]
        assert [part for part, _ in seen] == spread.partition_of(np.array([n for _, n in seen], np.uint64)).tolist()
        parts = [table.to_pydict() for table in spread.drain_parts()]
    assert sorted(number for part in parts for number in part["n"]) == sorted(wanted)
    for part in parts:
        assert part["n"] == [number for number in wanted if number in part["n"]]
        assert part["text"] == [f"t{number}" for number in part["n"]]


@given(ROOM, st.integers(1, 30), st.dictionaries(st.integers(0, 29), st.text(max_size=5)), st.data())
@SETTINGS
def test_texts_of_rows_are_read_as_they_were_added(
    tmp_path: Path, limits: SpillLimits, rows: int, said: dict[int, str], data: st.DataObject
) -> None:
    with Scratch(tmp_path / "s", limits) as scratch:
        texts = SparseTextColumn(scratch, rows)
        told = {row: text for row, text in said.items() if row < rows}
        for row, text in told.items():
            texts.add(np.array([row]), pa.array([text]))
        texts.close()
        for _ in range(2):  # they can be read again
            first = data.draw(st.integers(0, rows))
            end = data.draw(st.integers(first, rows))
            assert texts.texts(first, end).to_pylist() == [told.get(row, "") for row in range(first, end)]


def test_the_number_of_partitions_grows_with_the_expected_size_within_bounds(tmp_path: Path) -> None:
    parts = []
    with Scratch(tmp_path / "s") as scratch:
        for size in (0, 1 << 20, 3 << 30, 1 << 50):
            scratch.reserve(size)
            parts.append(scratch.parts)
    assert parts[:2] == [PARTS, PARTS]
    assert PARTS < parts[2] < parts[3] < 1 << 15


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_an_array_starts_with_zeros_and_keeps_its_values(tmp_path: Path, memory: int) -> None:
    with Scratch(tmp_path / "s", SpillLimits(memory=memory)) as scratch:
        array = scratch.array(1000, np.int32)
        array[[3, 999]] = 7
        drop_pages(array)
        assert np.flatnonzero(array).tolist() == [3, 999]
        assert (tmp_path / "s").exists() == (memory == 0)
    assert not (tmp_path / "s").exists()


def test_a_spilled_batch_reads_as_before(tmp_path: Path) -> None:
    with Scratch(tmp_path / "s", SpillLimits(memory=0)) as scratch:
        assert spill_batch(scratch, table_of([1, 2])).equals(table_of([1, 2]))


def test_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1").write_bytes(b"old")
    Scratch(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_write_error_is_raised_before_anything_is_read(tmp_path: Path) -> None:
    with (
        Scratch(tmp_path / "s", SpillLimits(memory=0)) as scratch,
        patch("telemetron_batch.storage.spill._FLUSH_BYTES", range(1, 2)),
    ):
        spread = PartitionedTable(scratch)
        spread.add(table_of([1]), np.array([1], np.uint64))
        scratch.writer_pool.submit(shutil.rmtree, tmp_path / "s").result()
        spread.add(table_of([2]), np.array([2], np.uint64))
        with pytest.raises(FileNotFoundError):
            next(spread.iter_parts())


def test_nothing_is_written_after_removal(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "s", SpillLimits(memory=0))
    path, gate = scratch.path(), threading.Event()
    scratch.writer_pool.submit(lambda: gate.wait() and path.touch())
    removing = threading.Thread(target=scratch.remove)
    removing.start()
    gate.set()
    removing.join()
    assert not (tmp_path / "s").exists()


def test_without_a_folder_everything_stays_in_memory() -> None:
    scratch = Scratch(limits=SpillLimits(memory=0))
    spread = PartitionedTable(scratch)
    spread.add(table_of([1, 2, 3]), np.array([1, 2, 3], np.uint64))
    assert [table.num_rows for table in spread.drain_parts()] == [3]
    assert scratch.array(3, np.int8).tolist() == [0, 0, 0]
