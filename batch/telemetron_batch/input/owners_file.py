"""Read a file that names the owners of devices (`--owners FILE`) as claims.

Its columns customerEmail and deviceIdentifier say who has what now. A column of actions is not followed: a file
with rows to assign and rows to unassign lists movements, so it is refused. So is a report of this program.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.actions import UNKNOWN_ACTION
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputFile, InputOptions, InputPurpose
from telemetron_batch.input.load import read_file
from telemetron_batch.input.own_reports import is_own_report
from telemetron_batch.input.source_file import input_errors
from telemetron_batch.rows.owner_claims import CLAIM_SCHEMA, ClaimKind, ClaimSink, WantedDevices
from telemetron_batch.rows.rows import RowBlock, identifiers_of

_RECONCILIATION_HEADERS: Final = ("customerEmail", "deviceIdentifier", "action", "outcome", "detail")
"""Neighbouring headers of a reconciliation.csv."""
_ADVICE: Final = "name a list of what each customer has now"


def read_owners_file(
    path: str, options: InputOptions, wanted: WantedDevices, sink: ClaimSink, *, spool: Path
) -> InputFile:
    """Read the owners of wanted devices into `sink`, and return the file as it was read.

    `options` are those of the rows; of these, the headers and the limits of what is read apply here too. Raises
    InputError if the file does not say who has what.
    """
    collector = _ClaimCollector(wanted, sink)
    file = read_file(path, _options_for_owners(options), spool=spool, sink=collector)
    with input_errors(path):
        if is_own_report(file.name, file.header) or _is_reconciliation(file.header):
            raise InputError("is a report of this program, no list of owners", f"{_ADVICE}, or say --owners runs")
        if len(collector.actions) > 1:
            what = "has rows to assign and rows to unassign: it lists movements, not owners"
            raise InputError(what, _ADVICE)
        if not file.rows:
            raise InputError("has no data rows, so no owner can be found in it", _ADVICE)
    return file


def _options_for_owners(options: InputOptions) -> InputOptions:
    """Return how to read the owners: delimiter, encoding, sheet and cells may differ from those of the rows."""
    return InputOptions(
        columns=options.columns,
        action_words=options.action_words,
        hidden=options.hidden,
        allow_suspect=options.allow_suspect,
        multiline_cells=options.multiline_cells,
        last_line=options.last_line or "warn",
        purpose=InputPurpose.OWNERS,
    )


def _is_reconciliation(header: tuple[str, ...]) -> bool:
    size = len(_RECONCILIATION_HEADERS)
    return any(header[at : at + size] == _RECONCILIATION_HEADERS for at in range(len(header)))


class _ClaimCollector:
    """Takes the blocks of an owners file, and passes on the claims about wanted devices."""

    def __init__(self, wanted: WantedDevices, sink: ClaimSink) -> None:
        self._wanted = wanted
        self._sink = sink
        self.actions: set[int] = set()
        """Codes of the known actions of all rows."""

    def append(self, block: RowBlock) -> None:
        """Pass on the claims of a block."""
        keys = block.keys
        self.actions |= {*np.unique(keys["action"].to_numpy()).tolist()} - {UNKNOWN_ACTION}
        is_valid = keys["problem"].to_numpy() == 0
        valid, invalid = np.flatnonzero(is_valid), np.flatnonzero(~is_valid)
        self._add(keys, valid, keys["deviceIdentifier"].take(pa.array(valid)), ClaimKind.OWNS)
        if len(invalid):
            self._add(keys, *identifiers_of(keys, invalid), ClaimKind.INVALID)

    def clear(self) -> None:
        """Drop all claims."""
        self.actions = set()
        self._sink.clear()

    def _add(self, keys: pa.RecordBatch, rows: Ints, devices: pa.Array, kind: ClaimKind) -> None:
        """Pass on the claims of these rows, each about one of these devices."""
        found, hashes = self._wanted.among(devices)
        if not len(found):
            return
        at = pa.array(rows[found])
        columns = [
            keys["customerEmail"].take(at),
            devices.take(pa.array(found)),
            pa.array(np.full(len(found), kind, np.int8)),
            keys["line"].take(at),
            keys["detail"].take(at),
        ]
        self._sink.add(pa.record_batch(columns, schema=CLAIM_SCHEMA), hashes)
