"""The lookup gives the same in memory and in files, block by block, also if the input or the source is read again."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from telemetron_batch.owners.lookup import CustomerLookup, OwnerCounts, SourceFacts
from telemetron_batch.rows.owner_claims import CLAIM_SCHEMA, ClaimKind, ClaimSink, WantedDevices, comparable
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.spill import Scratch, SpillLimits
from telemetron_batch.storage.text_hash import hash_texts
from tests.support.builders import A, B, block_of, keys_of

ROWS = [("", f"SN-{number % 40}", "unassign") if number % 3 else (B, "SN-1", "unassign") for number in range(100)]


class Listed:
    """A source that lists the even devices, after a first reading that it drops."""

    def read(self, wanted: WantedDevices, sink: ClaimSink) -> SourceFacts:
        for _ in range(2):
            sink.clear()
            for number in range(0, 60, 2):
                devices = pa.array([f"SN-{number}"])
                found, hashes = wanted.among(devices)
                columns = [[A], [f"SN-{number}"], [ClaimKind.OWNS], [number], [""]]
                arrays = [pa.array(one, field.type) for one, field in zip(columns, CLAIM_SCHEMA, strict=True)]
                if len(found):
                    sink.add(pa.record_batch(arrays, schema=CLAIM_SCHEMA), hashes)
        return SourceFacts(
            lambda lines: pa.array([f"list line {line}" for line in lines.tolist()], pa.string()), "nowhere"
        )

    def settle(self, claims: pa.RecordBatch) -> pa.RecordBatch:
        return claims


def completed(scratch: Scratch, blocks: Sequence[RowBlock]) -> tuple[list[tuple[str, str]], OwnerCounts]:
    """Return customer and detail of all rows, after the input was read twice from its beginning."""
    lookup = CustomerLookup(Listed(), scratch)
    for _ in range(2):
        lookup.clear()
        for block in blocks:
            lookup.note(block)
    lookup.find()
    keys = [lookup.complete(block).keys for block in blocks]
    columns = [[text for one in keys for text in one[name].to_pylist()] for name in ("customerEmail", "detail")]
    return [*zip(*columns, strict=True)], lookup.counts


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_every_row_gets_the_owner_of_its_own_device(size: int, memory: int, tmp_path: Path) -> None:
    blocks = [block_of(keys_of(ROWS[first : first + size]), []) for first in range(0, len(ROWS), size)]
    with Scratch(tmp_path / "scratch", SpillLimits(memory=memory, parts=3)) as scratch:
        found, counts = completed(scratch, blocks)
    expected = []
    for customer, device, _ in ROWS:
        number = int(device.removeprefix("SN-"))
        looked_up = (A, f"owner from list line {number}") if number % 2 == 0 else ("", "nowhere")
        expected.append((customer, "") if customer else looked_up)
    assert found == expected
    wanted = [customer for (customer, *_), _ in zip(ROWS, found, strict=True) if not customer]
    assert counts.found + counts.not_found == len(wanted)
    assert counts.found == sum(detail.startswith("owner") for _, detail in found)


def test_devices_of_every_spelling_are_wanted_and_no_others() -> None:
    wanted = WantedDevices(hash_texts(comparable(pa.array(["SN-1", "---"]))))
    found, _ = wanted.among(pa.array(["sn 1", "SN1", "SN-11", "---", "--", "", "SN-1"]))
    assert found.tolist() == [0, 1, 3, 6]
