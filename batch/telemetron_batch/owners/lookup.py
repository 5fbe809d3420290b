"""Look up the customers of the rows that name none, in bounded memory.

The wanted devices and the claims about them are joined one partition at a time. Only claims about wanted devices
are kept, so a large source costs time, not memory.
"""

from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.owners.verdict import OriginNames, Verdicts, judge
from telemetron_batch.rows.owner_claims import CLAIM_SCHEMA, ClaimSink, WantedDevices, comparable, lack_owners
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.sparse_texts import SparseTextColumn
from telemetron_batch.storage.spill import PartitionedTable, Scratch, SpillColumn, to_batch
from telemetron_batch.storage.text_hash import Hashes, hash_texts

_JOIN_SCHEMA: Final = pa.schema([pa.field("row", pa.int64()), *CLAIM_SCHEMA])
"""A wanted device has its number among the wanted ones as `row`; a claim has -1."""
_CLAIM: Final = -1


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What to say of the owners that a source gave."""

    names: OriginNames
    nowhere: str
    """The detail of a row whose device the source does not know."""


class OwnersSource(Protocol):
    """A source of claims: an owners file, or the journals of earlier runs."""

    def read(self, wanted: WantedDevices, sink: ClaimSink, /) -> SourceFacts:
        """Pass on all claims about wanted devices, in any spelling."""

    def settle(self, claims: pa.RecordBatch, /) -> pa.RecordBatch:
        """Return final claims from all those about the same devices."""


class ClaimTable:
    """Collects claims, partitioned by device; spills to files."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self.table = PartitionedTable(scratch)

    def add(self, claims: pa.RecordBatch, hashes: Hashes) -> None:
        """Append claims."""
        self.table.add(claims, hashes)

    def clear(self) -> None:
        """Drop all claims."""
        self.table = PartitionedTable(self._scratch)


@dataclass(frozen=True, slots=True)
class OwnerCounts:
    """How many rows that lacked their customer have one now, and how many do not."""

    found: int = 0
    not_found: int = 0


class CustomerLookup:
    """Looks up the customers of a run's rows: an `OwnerLookup` of the loader."""

    def __init__(self, source: OwnersSource, scratch: Scratch) -> None:
        self._source = source
        self._scratch = scratch
        self.clear()

    def clear(self) -> None:
        """Drop all rows."""
        self._wanted = PartitionedTable(self._scratch)
        self._hashes = SpillColumn(self._scratch, np.uint64)
        self._rows = self._done = 0
        self.counts = OwnerCounts()

    def note(self, block: RowBlock) -> None:
        """Note the rows of a block that lack their customer."""
        devices = block.keys["deviceIdentifier"].filter(pa.array(lack_owners(block.keys)))
        if not len(devices):
            return
        hashes = hash_texts(comparable(devices))
        rows = np.arange(self._rows, self._rows + len(devices))
        self._wanted.add(pa.record_batch({"row": pa.array(rows), "deviceIdentifier": devices}), hashes)
        self._hashes.add(hashes)
        self._rows += len(devices)

    def find(self) -> None:
        """Read the source, unless no row lacks its customer, and decide on each row."""
        self._customers, self._details, self._problems = (
            SparseTextColumn(self._scratch, self._rows),
            SparseTextColumn(self._scratch, self._rows),
            self._scratch.array(self._rows, np.int8),
        )
        if self._rows:
            claims = ClaimTable(self._scratch)
            facts = self._source.read(WantedDevices(self._hashes.array()), claims)
            for part in self._join(claims).drain_parts():
                self._judge(to_batch(part), facts)
        self._customers.close()
        self._details.close()
        found = int(np.count_nonzero(self._problems == 0))
        self.counts = OwnerCounts(found, self._rows - found)

    def _join(self, claims: ClaimTable) -> PartitionedTable:
        """Return wanted devices and claims in one table, so that equal devices are in the same partition."""
        joined = PartitionedTable(self._scratch)
        for table in self._wanted.drain_parts():
            for batch in table.to_batches():
                joined.add(_as_join(batch, batch["row"]), hash_texts(comparable(batch["deviceIdentifier"])))
        for table in claims.table.drain_parts():
            for batch in table.to_batches():
                row = pa.array(np.full(batch.num_rows, _CLAIM))
                joined.add(_as_join(batch, row), hash_texts(comparable(batch["deviceIdentifier"])))
        return joined

    def _judge(self, part: pa.RecordBatch, facts: SourceFacts) -> None:
        """Decide on the rows of a partition."""
        is_wanted = pc.not_equal(part["row"], _CLAIM)
        wanted = part.filter(is_wanted)
        if not wanted.num_rows:
            return
        claims = self._source.settle(part.filter(pc.invert(is_wanted)).select(CLAIM_SCHEMA.names))
        verdicts: Verdicts = judge(wanted["deviceIdentifier"], claims, facts.names, facts.nowhere)
        rows = wanted["row"].to_numpy()
        self._customers.add(rows, verdicts.customer)
        self._details.add(rows, verdicts.detail)
        self._problems[rows] = verdicts.problem

    def complete(self, block: RowBlock) -> RowBlock:
        """Return a block with the customers found; rows without one get their problem and its detail."""
        flags = lack_owners(block.keys)
        count = int(np.count_nonzero(flags))
        if not count:
            return block
        first, self._done = self._done, self._done + count
        mask = pa.array(flags)
        found = {
            "customerEmail": self._customers.texts(first, self._done),
            "problem": pa.array(np.asarray(self._problems[first : self._done])),
            "detail": self._details.texts(first, self._done),
        }
        keys = block.keys
        for name, values in found.items():
            column = pc.replace_with_mask(keys[name], mask, values)
            keys = keys.set_column(keys.schema.get_field_index(name), keys.schema.field(name), column)
        return replace(block, keys=keys)


def _as_join(batch: pa.RecordBatch, row: pa.Array) -> pa.RecordBatch:
    """Return the records in the columns of the join; columns that they do not have are blank."""
    columns = [row]
    for field in CLAIM_SCHEMA:
        known = field.name in batch.schema.names
        blank = "" if field.type == pa.string() else 0
        columns.append(batch[field.name] if known else pa.repeat(pa.scalar(blank, field.type), batch.num_rows))
    return pa.record_batch(columns, schema=_JOIN_SCHEMA)
