"""Files with random changes of bytes are read without losing a row, or refused with a message."""

import csv
import gzip
import io
import json
import os
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from telemetron_batch.cli.commands import main
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input.load import load
from tests.input.test_workbook import save

# ruff: noqa: T201 - how far it came depends on the machine

pytestmark = pytest.mark.slow

SAMPLES = Path(__file__).parents[2] / "sample_data"
LIMIT = float(os.environ.get("TESTS_FUZZ_SECONDS", "30"))
"""Seconds for each of the two entry points."""
EXAMPLES = 4000
KEPT = 4000
"""Bytes of each sample: enough for every kind of line, few enough for thousands of tries."""


def _seeds() -> list[tuple[str, bytes]]:
    texts = {path.name: path.read_bytes()[:KEPT].rpartition(b"\n")[0] for path in sorted(SAMPLES.glob("*.csv"))}
    packed = {f"{name}.gz": gzip.compress(text, mtime=0) for name, text in texts.items()}
    packed |= {f"{name}.zip": _zipped(name, text) for name, text in texts.items()}
    coded = {
        f"{encoding}-{name}": text.decode("utf-8-sig").encode(encoding, errors="replace")
        for name, text in texts.items()
        for encoding in ("utf-16", "utf-16-be", "cp1252")
    }
    return [*texts.items(), *packed.items(), *coded.items(), ("book.xlsx", _workbook())]


def _zipped(name: str, text: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _workbook() -> bytes:
    rows = ["Email,Serial,Action", "a@b.cc,S-1,add", "x@y.zz,#N/A,return", "x@y.zz,12,return"]
    with TemporaryDirectory() as folder:
        sheets = {"Notes": [["x"]], "Data": [line.split(",") for line in rows]}
        return save(Path(folder) / "book.xlsx", sheets).read_bytes()


SEEDS = dict(_seeds())
BITS = [
    b"",
    b"\0",
    b'"',
    b'""',
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b"\x1a",
    b"\xff",
    b"\xef\xbb\xbf",
    b"=",
    b"\xc3",
]
PART = st.sampled_from(BITS) | st.binary(max_size=12) | st.sampled_from([b"1.2E+11", b"12.03.2025", b"Total,1,\n"])
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), PART), min_size=1, max_size=6)


def changed(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Replace some bytes at each position."""
    for share, gone, come in changes:
        at = int(share * len(content))
        content = content[:at] + come + content[at + gone :]
    return content


class Deadline:
    """Skips further examples when the time is up, so that the test never takes longer."""

    def __init__(self) -> None:
        self.end = time.monotonic() + LIMIT
        self.read = 0

    def passed(self) -> bool:
        late = time.monotonic() > self.end
        self.read += not late
        return late


def options() -> settings:
    return settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[*HealthCheck])


@given(
    seed=st.sampled_from([*SEEDS]),
    changes=CHANGES,
    multiline=st.booleans(),
    trailer=st.sampled_from([None, ",([0-9]*)"]),
)
@options()
@example(seed="erp_export.csv", changes=[(1.0, 0, b"")], multiline=False, trailer=None)
def _loads(folder: Path, deadline: Deadline, seed: str, changes: list, multiline: bool, trailer: str | None) -> None:
    if deadline.passed():
        return
    path = folder / seed
    path.write_bytes(changed(SEEDS[seed], changes))
    blocks = []
    action = Action.UNASSIGN if "returns" in seed else None
    wanted = InputOptions(multiline_cells=multiline, trailer_count=trailer, action=action)
    refusal: BatchError | None = None
    try:
        loaded = load([str(path)], wanted, spool=folder, sink=blocks)
    except BatchError as exc:
        refusal = exc
    if refusal is not None:
        assert (refusal.exit_code, "\n" in str(refusal)) == (2, False)
        return
    assert sum(block.keys.num_rows for block in blocks) == len(loaded.rows) == loaded.files[0].rows
    assert all(block.keys.num_rows == block.cells.num_rows for block in blocks)
    lines = [line for block in blocks for line in block.keys["line"].to_pylist()]
    assert lines == sorted(set(lines))
    for block in blocks:
        block.keys.validate(full=True)
        block.cells.validate(full=True)


def test_any_bytes_are_loaded_without_losing_a_row_or_refused(tmp_path: Path) -> None:
    deadline = Deadline()
    _loads(tmp_path, deadline)
    print(f"{deadline.read} files loaded")
    assert deadline.read > 100


@given(seed=st.sampled_from([*SEEDS]), changes=CHANGES)
@options()
def _plans(folder: Path, deadline: Deadline, seed: str, changes: list) -> None:
    if deadline.passed():
        return
    path = folder / seed
    path.write_bytes(changed(SEEDS[seed], changes))
    said = ["--action", "unassign"] if "returns" in seed else []
    ended = CliRunner().invoke(main, ["plan", str(path), "--json", *said])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code in (0, 2)
    assert "Traceback" not in ended.output
    told = json.loads(ended.stdout.splitlines()[-1])
    if ended.exit_code == 2:
        assert ended.stderr.count("\n") == 1
        assert ended.stderr.startswith("Error: ")
        return
    held = told["heldByInvalid"] + told["heldBySpelling"]
    assert told["rows"] == told["devices"] + told["duplicates"] + told["invalid"] + held == told["inputs"][0]["rows"]


def test_any_bytes_make_plan_end_with_a_plan_or_a_message(tmp_path: Path) -> None:
    deadline = Deadline()
    _plans(tmp_path, deadline)
    print(f"{deadline.read} files planned")
    assert deadline.read > 50


def test_an_unchanged_seed_is_read_in_full(tmp_path: Path) -> None:
    for name, content in SEEDS.items():
        path = tmp_path / name
        path.write_bytes(content)
        action = Action.UNASSIGN if "returns" in name else None
        assert len(load([str(path)], InputOptions(action=action), spool=tmp_path).rows) > 2


def test_another_csv_reader_finds_as_many_rows(tmp_path: Path) -> None:
    content = (SAMPLES / "erp_export.csv").read_text("utf-8-sig")
    (tmp_path / "a.csv").write_text(content, newline="")
    records = [record for record in csv.reader(io.StringIO(content), delimiter=";") if any(record)]
    loaded = load([str(tmp_path / "a.csv")], InputOptions(), spool=tmp_path)
    assert len(loaded.rows) == len(records) - loaded.files[0].header_line
