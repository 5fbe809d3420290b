"""Write an input file whose rows our loader returns exactly as they are.

The file is written aside and read again by the loader before it gets its name. A row that the loader would refuse
or alter is left out and named.
"""

import csv
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.load import load
from telemetron_batch.input.normalize import apply_to_text, guarded, unguarded
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import atomic_write, disk_errors_in
from telemetron_batch.storage.spill import Scratch

_HEADER: Final = b"customerEmail,deviceIdentifier,action\n"
_FIRST_LINE: Final = 2
"""The line of the first row."""
_NO_CELL: Final = "^$|[\\x00-\\x1f\\x7f]"
"""Identifiers that are empty or have a control character; a line break would end a row."""
_NO_CELL_REASON: Final = "it is empty or has a control character"
_ALTERED_REASON: Final = "read from a file, it would become another identifier"
_SKIPPED_REASON: Final = "read from a file, it would not be taken for a row"
_QUOTED: Final = '[",]'
MAX_NAMED: Final = 1000
"""Devices that are left out and remembered."""
_COPY_BYTES: Final = 4 << 20
_ORDER: Final = (Action.UNASSIGN, Action.ASSIGN)
"""Removals come first in the file, as they do in the plan."""
_WORDS: Final = pa.array([*map(str, ACTIONS)])


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A device for which no row can be written."""

    customer: str
    device: str
    reason: str


@dataclass(slots=True)
class LeftOutDevices:
    """The devices for which no row can be written: their number, and the first ones."""

    count: int = 0
    first: list[LeftOut] = field(default_factory=list)

    def add(self, one: LeftOut) -> None:
        """Count a device."""
        self.count += 1
        if self.has_room:
            self.first.append(one)

    @property
    def has_room(self) -> bool:
        """Whether one more device is remembered."""
        return len(self.first) < MAX_NAMED


class InputDraft:
    """The rows of an input file before it gets its name. A context manager."""

    def __init__(self, folder: Path, options: InputOptions) -> None:
        """Write aside into this folder; of the options only `allow_suspect` matters."""
        self._folder = folder
        self._options = InputOptions(allow_suspect=options.allow_suspect)
        self._open = ExitStack()
        self._files: dict[Action, BinaryIO] = {}
        self.rows = dict.fromkeys(_ORDER, 0)
        """Number of rows by action."""
        self.left_out = LeftOutDevices()

    def __enter__(self) -> "InputDraft":
        with disk_errors_in(self._folder):
            self._files = {action: self._open.enter_context(self._part(action).open("xb")) for action in _ORDER}
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, customers: pa.Array, devices: pa.Array, action: Action) -> pa.Array:
        """Append rows with one action; return the devices of those that were appended, one a line."""
        unusable = pc.match_substring_regex(devices, _NO_CELL)
        if pc.any(unusable).as_py():
            named = zip(customers.filter(unusable).to_pylist(), devices.filter(unusable).to_pylist(), strict=True)
            for customer, device in named:
                self.left_out.add(LeftOut(customer, device, _NO_CELL_REASON))
            customers, devices = customers.filter(pc.invert(unusable)), devices.filter(pc.invert(unusable))
        self.rows[action] += len(devices)
        with disk_errors_in(self._folder):
            self._files[action].write(_lines(customers, devices, action))
        return devices

    def leave_out(self, action: Action, chosen: Flags, reason_of: Callable[[int], str]) -> None:
        """Leave out rows with this action, by their numbers from 0. No row of the action can be added afterwards."""
        if not chosen.any():
            return
        path = self._part(action)
        with disk_errors_in(self._folder):
            self._files[action].close()
            shorter = self._copy_without(path, lambda number: reason_of(number) if chosen[number] else None)
            shorter.replace(path)

    def publish(self, output: Path) -> None:
        """Leave out the rows that the loader would not return as they are, and give the file its name."""
        with disk_errors_in(self._folder):
            draft = self._joined()
        while refused := self._refused(draft):
            with disk_errors_in(self._folder):
                draft = self._without(draft, refused)
        with atomic_write(output) as file, draft.open("rb") as source:
            shutil.copyfileobj(source, file, _COPY_BYTES)

    def _part(self, action: Action) -> Path:
        return self._folder / f"{action}.csv"

    def _joined(self) -> Path:
        """Return a file with all rows."""
        self._open.close()
        path = self._folder / "draft.csv"
        with path.open("xb") as file:
            file.write(_HEADER)
            for action in _ORDER:
                with self._part(action).open("rb") as source:
                    shutil.copyfileobj(source, file, _COPY_BYTES)
                self._part(action).unlink()
        return path

    def _refused(self, draft: Path) -> dict[int, str]:
        """Return the lines of the rows that the loader would not return as they are, with the reasons."""
        rows = sum(self.rows.values())
        read_back = _ReadBack(_FIRST_LINE + rows)
        if rows:
            with Scratch(self._folder / "read-back") as scratch:
                load([str(draft)], self._options, spool=self._folder, sink=read_back, scratch=scratch)
        return read_back.refused()

    def _without(self, draft: Path, refused: dict[int, str]) -> Path:
        """Return the file without these lines, after counting their rows as left out."""
        path = self._copy_without(draft, lambda number: refused.get(number + 1))
        draft.unlink()
        return path

    def _copy_without(self, source: Path, reason_of: Callable[[int], str | None]) -> Path:
        """Return a copy without the lines that have a reason, by their numbers from 0; count them as left out."""
        path = source.with_name(f"{source.stem}+.csv")
        with source.open("rb") as lines, path.open("xb") as file:
            for number, line in enumerate(lines):
                reason = reason_of(number)
                if reason is None:
                    file.write(line)
                    continue
                self._count_left_out(line.decode(), reason)
        return path

    def _count_left_out(self, line: str, reason: str) -> None:
        self.rows[Action(line.rstrip("\n").rpartition(",")[2])] -= 1
        self.left_out.count += 1
        if self.left_out.has_room:  # of a million lines, only those that are named are parsed
            customer, device, _ = next(csv.reader([line]))
            self.left_out.first.append(LeftOut(customer, apply_to_text(unguarded, device), reason))


class _ReadBack:
    """Compares the rows that the loader returns with the cells as written. Takes the blocks of the loader."""

    def __init__(self, end: int) -> None:
        """`end` is the line after the last row."""
        self._end = end
        self.clear()

    def clear(self) -> None:
        """Forget all blocks, because the file is read again."""
        self._next = _FIRST_LINE
        self._refused: dict[int, str] = {}

    def append(self, block: RowBlock) -> None:
        """Note the rows of a block that are refused or altered, and the lines that are no rows."""
        lines = block.keys["line"].to_numpy()
        if not len(lines):
            return
        self._note_skipped(lines, int(lines[-1]) + 1)
        wrong = np.flatnonzero((block.keys["problem"].to_numpy() != 0) | _is_altered(block))
        details = block.keys["detail"].take(pa.array(wrong)).to_pylist()
        for line, detail in zip(lines[wrong].tolist(), details, strict=True):
            self._refused[line] = detail or _ALTERED_REASON

    def refused(self) -> dict[int, str]:
        """Return the lines that are refused, with the reasons."""
        self._note_skipped(np.empty(0, np.int64), self._end)
        return self._refused

    def _note_skipped(self, lines: Ints, end: int) -> None:
        if end - self._next != len(lines):
            skipped = np.setdiff1d(np.arange(self._next, end), lines).tolist()
            self._refused |= dict.fromkeys(skipped, _SKIPPED_REASON)
        self._next = end


def _is_altered(block: RowBlock) -> Flags:
    """Return which rows differ from their cells without the guard against formulas."""
    keys, (customers, devices, words) = block.keys, block.cells.columns
    action = pa.array(keys["action"].to_numpy().astype(np.int32), mask=keys["action"].to_numpy() < 0)
    same = (
        pc.equal(keys["customerEmail"], unguarded(customers)),
        pc.equal(keys["deviceIdentifier"], unguarded(devices)),
        pc.fill_null(pc.equal(_WORDS.take(action), words), False),
    )
    flags: npt.NDArray[np.bool_] = ~np.logical_and.reduce([one.to_numpy(zero_copy_only=False) for one in same])
    return flags


def _lines(customers: pa.Array, devices: pa.Array, action: Action) -> bytes:
    """Return rows as lines of a CSV file."""
    if not len(devices):
        return b""
    lines = pc.binary_join_element_wise(_cells(customers), _cells(devices), f"{action}\n", ",")
    return b"".join(_texts(lines))


def _texts(lines: pa.Array) -> Iterator[bytes]:
    for chunk in lines.chunks if isinstance(lines, pa.ChunkedArray) else [lines]:
        _, offsets, content = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        yield content.slice(int(bounds[0]), int(bounds[-1] - bounds[0])).to_pybytes()


def _cells(texts: pa.Array) -> pa.Array:
    """Return the texts as cells that no spreadsheet runs and no reader cuts."""
    texts = guarded(texts)
    quoted = pc.match_substring_regex(texts, _QUOTED)
    if not pc.any(quoted).as_py():
        return texts
    doubled = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    return pc.if_else(quoted, doubled, texts)
