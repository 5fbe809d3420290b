"""Every field of summary.json is described, whatever the end of the run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.actions import Phase
from telemetron_batch.reports.summary_schema import summary_schema
from telemetron_batch.run import pipeline
from telemetron_batch.run.save_plan import save_plan
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage.system_users import SystemUsers
from tests.conftest import KEY, Desk
from tests.support.journal_fixtures import Fixture, fixtures
from tests.support.scripted import BASE_URL, Says

SCHEMA = summary_schema()
OF_A_SHARD = {"$ref": "#/$defs/shard", "$defs": SCHEMA["$defs"]}
ROWS = [("a@x.com", "A1", "assign"), ("b@x.com", "B1", "unassign"), ("b@x.com", "?", "assign")]
NOT_COMPARED = {"version": "0.2.0"}
"""Fields that expected files leave out, because they change with the version."""


def problems(document: Any, schema: dict[str, Any] = SCHEMA) -> list[str]:
    """Return where a document differs from a schema."""
    found = Draft202012Validator(schema).iter_errors(document)
    return [f"{'/'.join(map(str, one.path))}: {one.message}" for one in found]


def written(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.server.fleet.assign("b@x.com", ["B1", "B2"], create=True)
    return desk


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the schemas of objects with named fields, wherever they stand."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)


def test_every_field_is_described_and_no_other_is_allowed() -> None:
    for one in objects(SCHEMA):
        assert one["additionalProperties"] is False
        if "minimum" not in next(iter(one["properties"].values())):  # a table of counts describes itself
            assert [name for name, field in one["properties"].items() if not field.get("description")] == []


def test_a_field_that_is_not_described_is_found(desk: Desk) -> None:
    found = desk.run(ROWS).json
    assert problems(found) == []
    assert len(problems({**found, "surprise": 1})) == 1
    assert len(problems({**found, "counts": {**found["counts"], "lost": 1}})) == 1
    assert len(problems({name: value for name, value in found.items() if name != "rows"})) == 1


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"verify": True},
        {"baseline": True, "xlsx": True},
        {"online": True},
        {"as_of": "2026-05-31", "organisation": "acme", "tolerate": ("invalid",), "column": ("action=action",)},
        {"since_last": True},
        {"auto_create_devices": True, "device_type": "T"},
        {"rate": "auto"},
        {"max_failed": "0", "chunk_size": "1"},
    ],
    ids=lambda flags: " ".join(flags) or "plain",
)
def test_a_finished_run(desk: Desk, flags: dict[str, Any]) -> None:
    assert problems(desk.run(ROWS, **flags).json) == []


def test_a_run_of_a_workbook_of_owners_and_of_an_undo_file(desk: Desk) -> None:
    owners = desk.file("customerEmail,deviceIdentifier\nb@x.com,B1\n", "owners.csv")
    returns = desk.file("deviceIdentifier,action\nB1,unassign\nB9,unassign\n", "returns.csv")
    ran = desk.run(returns, owners=owners)
    assert ran.json["ownersNotFound"] == 1
    assert problems(ran.json) == []
    undone = desk.run(str(ran.folder / "undo.csv"), run_id="undo")
    assert problems(undone.json) == []


def test_a_later_run_that_leaves_out_what_is_settled(desk: Desk) -> None:
    desk.run(ROWS, run_id="n1", job="nights", since_last=True)
    later = desk.run(ROWS, run_id="n2", job="nights", since_last=True)
    assert later.json["since"]["run"] == "n1"
    assert problems(later.json) == []


def test_a_run_without_rows(desk: Desk) -> None:
    assert problems(desk.run([], allow_empty=True).json) == []
    assert problems(desk.run([], empty_exit_code="99", run_id="r2").json) == []


@pytest.mark.parametrize(
    ("status", "body", "flags", "code"),
    [
        (401, {"error": "bad key"}, {}, 4),
        (503, {"error": "down"}, {"give_up_after": "30s"}, 3),
        (400, {"error": "no such device"}, {"max_failed": "0", "chunk_size": "1"}, 5),
        (500, {"error": "oops"}, {"attempts": "1"}, 1),
    ],
    ids=["refused", "outage", "brake", "unconfirmed"],
)
def test_a_run_that_does_not_go_well(desk: Desk, status: int, body: Any, flags: dict[str, Any], code: int) -> None:
    desk.server.script = lambda _: Says(status, body)
    ran = desk.run(ROWS, **flags)
    assert ran.summary.exit_code == code
    assert problems(ran.json) == []


def test_a_saved_plan_that_needs_an_approval_and_one_that_is_sent(desk: Desk) -> None:
    path = desk.file(ROWS)
    flags = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "r1"}
    config = resolve([path], flags, {"TELEMETRON_API_KEY": KEY})
    save_plan(config, desk.face, desk.clock, SystemUsers())
    ran = desk.run(ROWS)
    assert ran.json["approval"]["plannedBy"]
    assert problems(ran.json) == []


def test_a_verification_afterwards(desk: Desk) -> None:
    assert problems(desk.verify(desk.run(ROWS)).json) == []


def test_files_that_are_published_cannot_be_published_or_cannot_be_written(desk: Desk) -> None:
    published = desk.run(ROWS, publish=str(desk.folder / "copies"))
    assert problems(published.json) == []
    (desk.folder / "file").write_text("")
    failed = desk.run(ROWS, run_id="r2", again=True, publish=str(desk.folder / "file"))
    assert failed.json["unpublished"]
    assert problems(failed.json) == []
    (desk.folder / "reports" / "r3" / "undo.csv").mkdir(parents=True, mode=0o700)
    (desk.folder / "reports" / "r3").chmod(0o700)
    (desk.folder / "reports" / "r3" / "undo.csv" / "x").write_text("")
    unwritten = desk.run(ROWS, run_id="r3", again=True)
    assert unwritten.json["unwritten"]
    assert problems(unwritten.json) == []


def test_a_run_in_shards_and_each_of_its_shards(desk: Desk) -> None:
    where = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "r1"}

    def config(*files: str, **flags: Any) -> Any:
        return resolve(files, {**where, **flags}, {"TELEMETRON_API_KEY": KEY})

    folder = plan_shards(config(desk.file(ROWS), shards="2"), clock=desk.clock).folder
    for phase in Phase:
        for shard in ("1", "2"):
            flags = {"shard": shard, "phase": str(phase)}
            summary = run_shard(config(**flags), observer=desk.face, transport=desk.server, clock=desk.clock)
            assert problems(written(summary.folder), OF_A_SHARD) == []
            assert problems(json.loads(summary.as_json()), OF_A_SHARD) == []
    assert problems(written(report_run(folder, clock=desk.clock).folder)) == []


class Death(BaseException):
    """The end of the process."""


def dies(_: object) -> None:
    raise Death


def test_a_report_of_a_killed_run(desk: Desk) -> None:
    desk.server.script = dies
    with pytest.raises((Death, BaseExceptionGroup)):
        desk.run(ROWS)
    reported = pipeline.report(desk.folder / "reports" / "r1")
    assert reported.fields["stop"]["code"] == "processEnded"
    assert problems(written(reported.folder)) == []


def test_the_json_of_a_command_has_the_same_fields(desk: Desk) -> None:
    assert problems(json.loads(desk.run(ROWS).summary.as_json())) == []


@pytest.mark.parametrize("fixture", fixtures(), ids=lambda fixture: fixture.name)
def test_what_reports_make_of_earlier_journals(fixture: Fixture) -> None:
    for name in ("expected", "resumed"):
        if (fixture.folder / name / "summary.json").exists():
            found = {**NOT_COMPARED, **written(fixture.folder / name)}
            found["inputs"] = [{"records": one["rows"], **one} for one in found["inputs"]]
            assert problems(found) == []
