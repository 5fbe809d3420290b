"""The kept result of a query: ours, and without the address of a person who was forgotten."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.row_snapshot import write_snapshot
from telemetron_batch.retention.run_files import foreign_files
from telemetron_batch.run.query_snapshot import SNAPSHOT_NAME
from tests.retention.conftest import Archive
from tests.support.traces import places_with

NAMES = ("customerEmail", "deviceIdentifier", "action", "note")
ANN = "ann@example.com"


def test_a_kept_query_result_has_no_address_left(archive: Archive) -> None:
    ran = archive.run([(ANN, "SN-1", "assign")])
    kept = ran.folder / SNAPSHOT_NAME
    batches = [[(ANN, "SN-1", "assign", f"for {ANN}"), ("bob@example.com", "SN-2", "assign", None)]]
    write_snapshot(NAMES, batches, kept, InputOptions())
    assert places_with(ran.folder, ANN)
    archive.forget(ANN)
    assert places_with(archive.reports, ANN) == []
    rows = pq.read_table(kept).to_pylist()
    assert rows[0]["note"] == f"for {rows[0]['customerEmail']}"
    assert rows[1] == dict(zip(NAMES, ("bob@example.com", "SN-2", "assign", ""), strict=True))


def test_a_kept_query_result_is_one_of_our_files(archive: Archive) -> None:
    ran = archive.run([(ANN, "SN-1", "assign")])
    write_parquet(ran.folder / SNAPSHOT_NAME)
    assert foreign_files(ran.folder) == []
    archive.run([(ANN, "SN-2", "assign")])
    archive.prune()
    assert archive.runs == ["n2"]


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table({"customerEmail": [ANN]}), path)
