"""Cells with several identifiers are split, and empty cells are filled from above."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Split
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.expansion import GroupedListDetector, with_split_cells, with_values_above
from telemetron_batch.input.number_formats import CellKind
from telemetron_batch.input.text_reader import cells_of
from tests.conftest import Desk
from tests.end_to_end.test_round_trip import read
from tests.support.builders import A


def piece(*rows: list[str], first: int = 2, faults: dict[int, str] | None = None) -> CellBlock:
    faults = faults or {}
    return CellBlock(
        np.arange(first, first + len(rows)),
        cells_of([*rows], len(rows[0])),
        faults,
        wrong_width_cells={row: ["x"] for row in faults},
    )


def rows_of(*pieces: CellBlock) -> list[list[str]]:
    return [[*row.values()] for one in pieces for row in one.cells.to_pylist()]


CELL = st.text(alphabet="ab ,;\n", max_size=5)


@given(st.lists(st.tuples(CELL, st.booleans()), min_size=1, max_size=6))
def test_no_part_of_a_split_cell_is_lost_and_every_record_keeps_a_row(cells: list[tuple[str, bool]]) -> None:
    faults = {at: "wrong" for at, (_, wrong) in enumerate(cells) if wrong}
    (split,) = with_split_cells([piece(*([text] for text, _ in cells), faults=faults)], 0, ",;\n")
    numbers = split.piece_numbers if split.piece_numbers is not None else np.zeros(len(split.lines), np.int64)
    found = [*zip(split.lines.tolist(), numbers.tolist(), (row[0] for row in rows_of(split)), strict=True)]
    expected = []
    for line, (text, wrong) in enumerate(cells, start=2):
        parts = (
            []
            if wrong or not re.search("[,;\n]", text.strip())
            else [*filter(None, map(str.strip, re.split("[,;\n]", text)))]
        )
        if len(parts) > 1:
            expected += [(line, at, part) for at, part in enumerate(parts, start=1)]
        else:
            expected.append((line, 0, parts[0] if parts else text))
    assert found == expected
    assert [split.lines[at] for at in split.width_errors] == [2 + at for at in faults]
    assert split.wrong_width_cells.keys() == split.width_errors.keys()


def test_an_empty_cell_takes_the_value_above_across_blocks() -> None:
    pieces = [piece(["a", "1"], [" ", "2"], ["", ""]), piece(["", "3"], ["b", "4"], ["", "5"], first=5)]
    filled = rows_of(*with_values_above(pieces, {"customerEmail": 0}))
    assert filled == [["a", "1"], ["a", "2"], ["", ""], ["a", "3"], ["b", "4"], ["b", "5"]]


def test_a_record_of_the_wrong_width_gives_no_value_and_hides_those_above() -> None:
    pieces = [piece(["a", "1"], ["b", "2"], ["", "3"], ["c", "4"], ["", "5"], faults={1: "wrong"})]
    filled = [row[0] for row in rows_of(*with_values_above(pieces, {"customerEmail": 0}))]
    assert (filled[0], filled[2:]) == ("a", ["", "c", "c"])


def test_a_value_is_filled_down_with_the_kind_of_its_cell_across_blocks() -> None:
    first = piece(["1.5", "1"], ["", "2"], ["", "3"], ["7", "4"])
    second = piece(["", "5"], ["", "6"], ["", ""], ["8", "7"], first=6)
    pieces = [
        replace(first, kinds={"deviceIdentifier": {0: CellKind.FRACTION, 3: CellKind.PADDED}}),
        replace(second, kinds={"deviceIdentifier": {1: CellKind.NO_VALUE}}),
    ]
    one, other = with_values_above(pieces, {"deviceIdentifier": 0})
    fraction, padded = CellKind.FRACTION, CellKind.PADDED
    assert one.kinds == {"deviceIdentifier": {0: fraction, 1: fraction, 2: fraction, 3: padded}}
    assert other.kinds == {"deviceIdentifier": {0: padded, 1: CellKind.NO_VALUE}}
    assert rows_of(one, other) == [
        *(["1.5", "1"], ["1.5", "2"], ["1.5", "3"], ["7", "4"]),
        *(["7", "5"], ["", "6"], ["", ""], ["8", "7"]),
    ]


def test_the_parts_of_a_split_cell_have_the_kinds_of_their_record() -> None:
    kinds = {"customerEmail": {1: CellKind.NO_VALUE, 2: CellKind.NO_VALUE}}
    (split,) = with_split_cells([replace(piece(["1", "a"], ["2;3", ""], ["4", ""]), kinds=kinds)], 0, ";")
    assert split.kinds == {"customerEmail": dict.fromkeys((1, 2, 3), CellKind.NO_VALUE)}


@pytest.mark.parametrize(
    ("said", "split"),
    [
        ("deviceIdentifier", Split("deviceIdentifier")),
        ("deviceidentifier=/", Split("deviceIdentifier", "/")),
        ("deviceIdentifier=/space", Split("deviceIdentifier", "/ ")),
        ("customerEmail=;\\n", Split("customerEmail", ";\n")),
    ],
)
def test_separators_are_literal_characters(said: str, split: Split) -> None:
    assert resolve(["x"], {"split": said}, {}).input.split == split


@pytest.mark.parametrize("said", ["action", "serial", "deviceIdentifier=x", "deviceIdentifier=é"])
def test_other_columns_and_letters_are_refused(said: str) -> None:
    with pytest.raises(ConfigError, match="--split"):
        resolve(["x"], {"split": said}, {})


def test_the_parts_of_a_record_are_numbered_and_can_be_fed_back(desk: Desk) -> None:
    content = 'customerEmail,deviceIdentifier,action\na@x.com,"SN-1; SN-2;UNKNOWN-1",assign\na@x.com,SN-3,assign\n'
    ran = desk.run(content, split="deviceIdentifier")
    assert [row["line"] for row in ran.rows] == ["2.1", "2.2", "2.3", "3"]
    assert ran.outcomes == ["assigned", "assigned", "skipped", "assigned"]
    assert (ran.json["rows"], ran.json["inputs"][0]["records"]) == (4, 2)
    wanting = read(ran.folder / "attention.csv")
    assert [row["deviceIdentifier"] for row in wanting] == ["UNKNOWN-1"]
    undone = desk.run(str(ran.folder / "undo.csv"), run_id="undo", split="deviceIdentifier")
    assert undone.outcomes == ["unassigned"] * 3
    assert [*desk.server.fleet.devices_of(A)] == []


def test_fill_down_is_proposed_only_if_most_cells_are_empty_below_a_filled_one() -> None:
    def told(*emails: str) -> list[str]:
        groups = GroupedListDetector()
        names = ["customerEmail", "deviceIdentifier", "actionWord", "problem"]
        groups.add(
            pa.record_batch(
                [pa.array(emails), *([text] * len(emails) for text in ("S", "a")), [0] * len(emails)], names
            )
        )
        return [*groups.warnings()]

    assert told("a", "", "b", "c") == []
    assert told("", "", "b") == []
    assert told("a") == []
    assert told("a", "", "", "b") == []
    assert "--fill-down customerEmail reads" in told("a", "", "")[0]
