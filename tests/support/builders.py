"""Short constructors of rows, blocks and input files for unit tests."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import ACTIONS, UNKNOWN_ACTION, Action
from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.model import InputFile, PlanOptions, Problem
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.journal.codec import answer_json, decode_answers
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reports.csv_files import ReportInput
from telemetron_batch.rows.rows import KEY_SCHEMA, RowBlock, Rows, RowsBuilder
from telemetron_batch.storage.spill import Scratch

A, B, C = "a@x.com", "b@x.com", "c@x.com"
KEYS = ("customerEmail", "deviceIdentifier", "action")

Row = tuple[str, ...]
"""Customer, device and action; optionally the device type or the name of a problem."""


def keys_of(rows: Sequence[Row], first_line: int = 2) -> pa.RecordBatch:
    """Return the key columns of rows on consecutive lines."""
    lines = range(first_line, first_line + len(rows))
    columns = zip(*(_key(row, line) for row, line in zip(rows, lines, strict=True)), strict=True)
    texts = [*columns] or [()] * len(KEY_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(texts, KEY_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=KEY_SCHEMA)


def _key(row: Row, line: int) -> tuple[object, ...]:
    customer, device, word, rest = row[0], row[1], row[2], row[3] if len(row) > 3 else ""
    action = Action(word).code if word in ACTIONS else UNKNOWN_ACTION
    wrong = Problem[rest] if rest in Problem.__members__ else Problem.NONE
    cells = [customer, device, word] if wrong is Problem.CELL_COUNT else None
    if cells:
        customer, device, action, word = "", "", UNKNOWN_ACTION, ""
    detail = f"wrong: {rest}" if wrong else ""
    return line, customer, device, action, word, "" if wrong else rest, wrong, detail, cells, 0


def rows_of(*files: Sequence[Row], scratch: Scratch | None = None) -> Rows:
    """Return the rows of one or more files, as the loader passes them on."""
    builder = RowsBuilder(scratch)
    for number, rows in enumerate(files):
        builder.add(number, keys_of(rows))
    return builder.rows()


def planned(
    *files: Sequence[Row],
    chunk_size: int = 500,
    auto_create: bool = False,
    hold: bool = False,
    scratch: Scratch | None = None,
    left_out: npt.NDArray[np.int64] | None = None,
) -> Plan:
    """Return the plan of one or more files; other rows can hold assigns only with `hold`."""
    options = PlanOptions(chunk_size=chunk_size, auto_create_devices=auto_create, hold_by_input=hold)
    return plan_calls(rows_of(*files, scratch=scratch), options, left_out)


def settle(ledger: Ledger, *answers: tuple[int, Answer]) -> None:
    """Add answers to a ledger, each for a call."""
    if not answers:
        return
    calls = np.array([call for call, _ in answers], np.int64)
    ledger.add_answers(calls, decode_answers([answer_json(answer) for _, answer in answers]))


def report_of(plan: Plan, *files: InputFile, raw: bool = True, outcomes: Sequence[Outcome] = ()) -> ReportInput:
    """Return the report of a run with these outcomes, in the order of the plan; further rows were not sent."""
    ledger, left = Ledger(plan), iter(outcomes)
    for call in range(1, plan.calls + 1):
        ended = zip(range(len(plan.rows_of(call))), left, strict=False)
        settle(ledger, (call, Answer({at: DeviceResult(outcome) for at, outcome in ended})))
    return ReportInput(files, ledger.close("a signal came"), raw)


def sent_rows(plan: Plan) -> list[int]:
    """Return the numbers of the sent rows, call after call."""
    return [row for number in range(1, plan.calls + 1) for row in plan.rows_of(number).tolist()]


def repeated_rows(plan: Plan) -> list[int]:
    """Return for each row the row that it repeats, or -1."""
    return plan.original_of(0, len(plan.rows)).tolist()


def file_of(header: Iterable[str] = KEYS, rows: int = 0, *, name: str = "rows.csv", **columns: str) -> InputFile:
    """Return an input file with this header; `columns` maps fields to headers with other names."""
    header = tuple(header)
    return InputFile(
        name=name,
        path=f"/in/{name}",
        sha256=f"hash of {name}",
        rows=rows,
        header=header,
        header_line=1,
        encoding="utf-8",
        delimiter=",",
        columns={key: key for key in KEYS if key in header} | columns,
    )


def block_of(keys: pa.RecordBatch, cells: Sequence[Sequence[str]], file: int = 0) -> RowBlock:
    """Return a block of rows with their cells as written."""
    width = len(cells[0]) if cells else 0
    columns = [pa.array([row[at] for row in cells], pa.string()) for at in range(width)]
    return RowBlock(file, keys, pa.RecordBatch.from_arrays(columns, names=[str(at) for at in range(width)]))
