"""Input from object stores and files published to them, with a store in memory and with S3 emulated by `moto`.

The S3 tests need `make remote`, which installs `moto`, and are skipped without it.
"""

import builtins
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import BatchError, BrakeError, ConfigError, DiskError, InputError, PublishError
from telemetron_batch.run import pipeline
from telemetron_batch.run.make_plan import make_plan
from telemetron_batch.sharding.report import report_run
from telemetron_batch.storage import object_store
from tests.conftest import KEY, Desk
from tests.support.object_store import memory_store
from tests.support.scripted import BASE_URL, Says

ROWS = "customerEmail,deviceIdentifier,action\na@x.com,SN-1,assign\nb@x.com,SN-2,assign\n"


@pytest.fixture
def memory() -> Iterator[Any]:
    store = memory_store()
    yield store
    store.store.clear()


def put(store: Any, path: str, text: str = ROWS) -> str:
    store.pipe_file(path, text.encode())
    return f"gs:/{path}"


def run(desk: Desk, path: str, **flags: Any):
    options = {"base_url": "http://127.0.0.1:9/api/ext-v1", "reports_dir": str(desk.folder / "reports"), **flags}
    config = resolve([path], options, {"TELEMETRON_API_KEY": KEY})
    return pipeline.run(config, observer=desk.face, transport=desk.server, clock=desk.clock)


# Input


def test_the_state_of_an_object_differs_when_it_is_written_again(memory: Any) -> None:
    url = put(memory, "/exports/night.csv")
    before = object_store.find_state(url)
    assert before == object_store.find_state(url)
    put(memory, "/exports/night.csv", ROWS.replace("SN-1", "SN-9"))
    assert object_store.find_state(url) != before


@pytest.mark.usefixtures("memory")
def test_an_object_that_does_not_exist_has_no_state() -> None:
    assert object_store.find_state("gs://exports/nothing.csv") is None


def test_a_folder_of_objects_has_the_state_of_what_cannot_settle(memory: Any) -> None:
    put(memory, "/exports/night.csv")
    assert object_store.find_state("gs://exports") == ()


def test_a_run_waits_for_an_object(desk: Desk, memory: Any) -> None:
    sleep = desk.clock.sleep_blocking
    desk.clock.sleep_blocking = lambda seconds: (sleep(seconds), put(memory, "/exports/night.csv"))  # type: ignore
    assert run(desk, "gs://exports/night.csv", wait_for_file="1h").counts["assigned"] == 2


def test_an_object_is_read_like_a_file_and_named_by_its_url(desk: Desk, memory: Any) -> None:
    url = put(memory, "/exports/night-7.csv")
    summary = run(desk, url)
    assert summary.fields["input"]["name"] == url
    assert summary.fields["inputs"][0]["path"] == url
    assert summary.counts["assigned"] == 2
    assert summary.folder.name.startswith("night-7-2026")
    local = run(desk, desk.file(ROWS), run_id="local", again=True)
    assert summary.fields["input"]["sha256"] == local.fields["input"]["sha256"]


def test_several_objects_of_one_name_are_one_run(desk: Desk, memory: Any) -> None:
    one, other = put(memory, "/a/rows.csv"), put(memory, "/b/rows.csv", ROWS.replace("SN-", "TN-"))
    config = resolve([one, other], {"reports_dir": str(desk.folder / "reports")}, {"TELEMETRON_API_KEY": KEY})
    plan = make_plan(config, desk.clock)
    assert [file.name for file in plan.files] == [one, other]
    assert plan.rows == 4


def test_an_object_is_examined_for_its_size_and_at_the_download(
    desk: Desk, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, written, asked = put(memory, "/rows.csv"), type(memory).modified, []
    monkeypatch.setattr(type(memory), "modified", lambda *place: asked.append(place) or written(*place))
    assert run(desk, url).counts["assigned"] == 2
    assert len(asked) == 2


def test_a_file_url_is_a_path(desk: Desk) -> None:
    path = desk.file(ROWS, "with blank.csv")
    summary = run(desk, f"file://{path.replace(' ', '%20')}")
    assert summary.fields["inputs"][0]["path"] == path


def test_the_same_command_recognizes_the_object(desk: Desk, memory: Any) -> None:
    url = put(memory, "/rows.csv")
    first = run(desk, url, run_id="r1")
    assert run(desk, url, run_id="r1").fields == first.fields
    put(memory, "/rows.csv", ROWS.replace("SN-1", "SN-7"))
    with pytest.raises(BatchError, match="started with another input"):
        run(desk, url, run_id="r1")


def test_the_age_of_an_object_is_that_of_its_last_write(desk: Desk, memory: Any) -> None:
    url = put(memory, "/rows.csv")
    memory.store["/rows.csv"].modified = datetime.fromtimestamp(desk.clock.wall() - 7200, UTC)
    with pytest.raises(BrakeError, match=f"{url} was written 7200 s ago"):
        run(desk, url, max_age="1h")
    assert run(desk, url, max_age="3h").exit_code == 0


def test_free_space_is_checked_before_the_download(desk: Desk, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = put(memory, "/rows.csv")

    def fetched(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(object_store, "_SPARE_BYTES", 1 << 60)
    monkeypatch.setattr(type(memory), "get_file", fetched)
    with pytest.raises(DiskError, match="MiB free"):
        run(desk, url)


@pytest.mark.usefixtures("memory")
def test_a_missing_object_is_reported_on_one_line_and_nothing_is_sent(desk: Desk) -> None:
    with pytest.raises(InputError) as refusal:
        run(desk, "gs://no/rows.csv")
    assert str(refusal.value).startswith("gs://no/rows.csv: cannot be fetched (there is no such object or bucket)")
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2
    assert desk.server.seen == []
    assert [*(desk.folder / "reports").iterdir()] == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://example.com/rows.csv", "https:// is not supported"),
        ("http://user:geheim@example.com/rows.csv", "http:// is not supported"),
        ("sftp://user:ge/heim@host/rows.csv", "sftp:// is not supported"),
        ("ftp://host/rows.csv", "ftp:// is not supported"),
        ("reference://x", "reference:// is not supported"),
        ("local:///etc/passwd", "local:// is not supported"),
        ("memory://x/y", "memory:// is not supported"),
        ("data://text/plain,abc", "data:// is not supported"),
        ("zip://a.csv::http://user:geheim@127.0.0.1:1/x.zip", "zip:// is not supported"),
        ("s3://bucket/a.csv::http://user:geheim@127.0.0.1:1/x", "one URL inside another"),
        ("gs://bucket/\nrows.csv", "must not contain control characters"),
        ("s3://user:geheim@bucket/rows.csv", "a URL must not contain credentials"),
        ("s3://bucket/rows.csv?X-Amz-Signature=geheim", "a URL must not contain credentials"),
        ("s3:///rows.csv", "names no bucket"),
    ],
)
def test_an_invalid_url_is_refused_without_its_secrets(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refusal:
        resolve([url], {}, {})
    assert "geheim" not in str(refusal.value)
    with pytest.raises(ConfigError, match=why) as refusal:
        resolve([], {"publish": url}, {})
    assert "geheim" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.csv", "gs://b/x.csv::http://127.0.0.1:9/x", "memory://b/x.csv"])
@pytest.mark.usefixtures("memory")
def test_other_schemes_are_never_opened(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda *_, **__: pytest.fail("opened"))
    (tmp_path / "x.csv").write_text(ROWS)
    with pytest.raises(InputError, match="is not supported"):
        object_store.size_of(url)
    with pytest.raises(PublishError, match="is not supported"):
        object_store.upload([tmp_path / "x.csv"], url)


def test_the_scheme_may_be_written_in_capitals(desk: Desk, memory: Any) -> None:
    assert run(desk, put(memory, "/rows.csv").replace("gs:", "GS:")).counts["assigned"] == 2


def test_a_missing_library_is_reported_with_the_install_command(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name.startswith("fsspec"):
            raise ImportError(name)
        return there(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'telemetron-batch\[remote\]'") as refusal:
        run(desk, "s3://bucket/rows.csv")
    assert refusal.value.exit_code == 2


# Publishing


def test_the_files_of_a_run_are_published_the_summary_last(desk: Desk, memory: Any) -> None:
    ran = desk.run([("a@x.com", "SN-1", "assign")], publish="gs://pub/nights")
    assert ran.summary.exit_code == 0
    assert ran.json["published"] == "gs://pub/nights/r1"
    there = {path.rpartition("/")[2]: memory.cat_file(path) for path in memory.find("/pub/nights/r1")}
    assert there == {name: (ran.folder / name).read_bytes() for name in [*ran.json["files"], "summary.json"]}
    assert "journal.sqlite3" not in there
    ages = {path: facts.modified for path, facts in memory.store.items()}
    assert max(ages, key=ages.__getitem__).endswith("summary.json")


def test_they_can_be_published_to_a_folder(desk: Desk, tmp_path: Path) -> None:
    ran = desk.run([("a@x.com", "SN-1", "assign")], publish=f"file://{tmp_path}/pub")
    assert ran.json["published"] == f"{tmp_path}/pub/r1"
    there = sorted(path.name for path in (tmp_path / "pub" / "r1").iterdir())
    assert there == sorted([*ran.json["files"], "summary.json"])


def test_a_stopped_run_is_published_and_published_again_when_continued(desk: Desk, memory: Any) -> None:
    rows = [(f"u{number}@x.com", f"SN-{number}", "assign") for number in range(6)]
    first = desk.run(rows, publish="gs://pub", rate="1/s", deadline="2s")
    assert first.summary.exit_code == 3
    assert json.loads(memory.cat_file("/pub/r1/summary.json"))["state"] == "stopped"
    desk.run(rows, publish="gs://pub", rate="1/s")
    assert json.loads(memory.cat_file("/pub/r1/summary.json"))["state"] == "finished"


def test_report_and_verify_publish_what_they_write(desk: Desk, memory: Any) -> None:
    ran = desk.run([("a@x.com", "SN-1", "assign")], publish="gs://pub")
    memory.store.clear()
    assert report_run(ran.folder).fields["published"] == "gs://pub/r1"
    assert memory.exists("/pub/r1/report.html")
    memory.store.clear()
    assert desk.verify(ran).json["published"] == "gs://pub/r1"
    assert b"verify" in memory.cat_file("/pub/r1/summary.json")


@pytest.fixture
def broken(memory: Any, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make every upload to the store fail."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(type(memory), "put_file", refused)
    return monkeypatch


@pytest.mark.usefixtures("broken")
def test_a_run_that_cannot_be_published_ends_with_3(desk: Desk) -> None:
    ran = desk.run([("a@x.com", "SN-1", "assign")], publish="gs://pub")
    assert ran.summary.exit_code == ran.json["exitCode"] == 3
    assert ran.json["state"] == "finished"
    assert ran.json["published"] is None
    assert ran.json["stop"]["reason"] == "its files could not be published to gs://pub/r1 (access is denied: Forbidden)"
    assert f"run the same command again with --base-url {BASE_URL} to publish them" in ran.json["stop"]["advice"]
    assert ran.outcomes == ["assigned"]


def test_the_same_command_again_publishes_and_sends_nothing(desk: Desk, memory: Any, broken: Any) -> None:
    rows = [("a@x.com", "SN-1", "assign"), ("a@x.com", "UNKNOWN-1", "assign")]
    desk.run(rows, publish="gs://pub")
    broken.undo()
    sent = len(desk.server.seen)
    again = desk.run(rows, publish="gs://pub")
    assert (again.summary.exit_code, again.json["exitCode"]) == (1, 1)  # the run's own
    assert again.json["published"] == "gs://pub/r1"
    assert again.json["stop"] is None
    assert len(desk.server.seen) == sent
    assert memory.cat_file("/pub/r1/summary.json") == (again.folder / "summary.json").read_bytes()
    files = {path.name: path.stat().st_mtime_ns for path in again.folder.iterdir()}
    assert desk.run(rows, publish="gs://pub").json == again.json
    assert {path.name: path.stat().st_mtime_ns for path in again.folder.iterdir()} == files


@pytest.mark.usefixtures("memory")
def test_a_finished_run_can_be_published_afterwards(desk: Desk) -> None:
    rows = [("a@x.com", "SN-1", "assign")]
    desk.run(rows)
    assert desk.run(rows, publish="gs://pub").json["published"] == "gs://pub/r1"


@pytest.mark.usefixtures("broken")
def test_a_stopped_run_that_cannot_be_published_keeps_its_stop_reason(desk: Desk) -> None:
    desk.server.script = lambda _: Says(401, {"error": "no such key"})
    ran = desk.run([("a@x.com", "SN-1", "assign")], publish="gs://pub")
    assert ran.json["exitCode"] == 4
    assert "refuses this key" in ran.json["stop"]["reason"]
    assert ran.json["unpublished"] == "gs://pub/r1 (access is denied: Forbidden)"


def test_a_run_is_not_published_into_its_own_folder(desk: Desk) -> None:
    ran = desk.run([("a@x.com", "SN-1", "assign")], publish=str(desk.folder / "reports"))
    assert ran.json["exitCode"] == 3
    assert "that is the run's own folder" in ran.json["stop"]["reason"]


# S3


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """Run a server that emulates S3, with one bucket."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    keep = dict(os.environ)
    names = {
        "AWS_ACCESS_KEY_ID": "AKIAOFTHETESTS",
        "AWS_SECRET_ACCESS_KEY": "geheim",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ |= {**names, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
    try:
        store = fsspec.filesystem("s3")
        store.mkdir("bucket")
        yield store
    finally:
        server.stop()
        os.environ.clear()
        os.environ |= keep


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_input_from_s3_and_files_published_to_s3(desk: Desk, s3: Any) -> None:
    s3.pipe_file("bucket/exports/night.csv", ROWS.encode())
    summary = run(desk, "s3://bucket/exports/night.csv", run_id="night", publish="s3://bucket/reports", max_age="9999d")
    assert summary.exit_code == 0
    assert summary.fields["published"] == "s3://bucket/reports/night"
    files = [*summary.fields["files"], "summary.json"]
    for name in files:
        assert s3.cat_file(f"bucket/reports/night/{name}") == (summary.folder / name).read_bytes()
    assert sorted(s3.ls("bucket/reports/night", detail=False)) == sorted(f"bucket/reports/night/{one}" for one in files)
    log = (summary.folder / "run.log").read_text() + json.dumps(summary.fields)
    assert "geheim" not in log
    sys.stdout.write(f"\n{len(files)} files to S3 and back\n")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("s3")
def test_a_missing_bucket_is_reported(desk: Desk) -> None:
    with pytest.raises(InputError, match="there is no such object or bucket"):
        run(desk, "s3://nobody/rows.csv")
    ran = desk.run([("a@x.com", "SN-1", "assign")], publish="s3://nobody/reports")
    assert ran.json["exitCode"] == 3
    assert "no such object or bucket" in ran.json["stop"]["reason"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("s3")
def test_no_network_is_reported_and_nothing_is_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(InputError, match="cannot be fetched") as refusal:
        run(desk, "s3://bucket/rows.csv")
    assert "\n" not in str(refusal.value)
    assert desk.server.seen == []
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("s3")
def test_missing_credentials_are_reported_and_nothing_is_sent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(InputError, match="credentials"):
        run(desk, "s3://bucket/rows.csv")
    assert desk.server.seen == []
    fsspec.filesystem("s3").clear_instance_cache()
