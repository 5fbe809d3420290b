"""A run's folder is trusted only if it is ours: other owners, links and writable modes are refused."""

import os
import sqlite3
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.key_source import KeyFile, KeySource
from telemetron_batch.domain.errors import BatchError, ConfigError, JournalError, UntrustedRunError
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.ownership import UntrustedPathError
from telemetron_batch.journal.codec import require_sound
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.takeover import replace_with_copy
from telemetron_batch.reports.summary import Summary
from telemetron_batch.run import pipeline
from telemetron_batch.run.listing import list_runs
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.sharding.barrier import collect_unreleased_by_shard
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.log import LOGGER, log_to_file
from telemetron_batch.storage.trusted_folders import shared_with_group
from tests.cli.test_commands import call
from tests.conftest import ENVIRON, KEY, Desk, Ran
from tests.support.scripted import BASE_URL

A = "a@x.com"
ROWS = [(A, "SN-1", "assign"), ("b@x.com", "SN-2", "assign")]
SOMEBODY = 12_002
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


def given_away(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, SOMEBODY, SOMEBODY)


def linked(folder: Path) -> None:
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def open_to_all(folder: Path) -> None:
    folder.chmod(0o777)


def open_to_the_group(folder: Path) -> None:
    folder.chmod(0o770)


def with_a_linked_journal(folder: Path) -> None:
    (folder / "journal.sqlite3").rename(folder.parent / "j")
    (folder / "journal.sqlite3").symlink_to(folder.parent / "j")


def with_a_journal_for_all(folder: Path) -> None:
    (folder / "journal.sqlite3").chmod(0o666)


def with_a_linked_witness(folder: Path) -> None:
    (folder / "journal.sqlite3-witness").unlink(missing_ok=True)
    (folder / "journal.sqlite3-witness").symlink_to(folder.parent / "w")


FOREIGN = [
    pytest.param(given_away, "belongs to", "chown -R", marks=as_root),
    pytest.param(linked, "is a symbolic link", "mv ", id="linked"),
    pytest.param(open_to_all, r"\(mode 0777\)", "chmod -R go-w ", id="open_to_all"),
    pytest.param(open_to_the_group, r"\(mode 0770\)", "chmod -R go-w ", id="open_to_the_group"),
    pytest.param(with_a_linked_journal, "is a symbolic link", "mv ", id="linked_journal"),
    pytest.param(with_a_journal_for_all, r"\(mode 0666\)", "chmod -R go-w ", id="journal_for_all"),
    pytest.param(with_a_linked_witness, "is a symbolic link", "mv ", id="linked_witness"),
]
WAYS: list[Callable[[Desk, Path], object]] = [
    lambda desk, _: desk.run(ROWS),
    lambda desk, folder: pipeline.resume(folder, ENVIRON, clock=desk.clock),
    lambda desk, folder: desk.verify(Ran(None, folder, desk.server)),  # type: ignore[arg-type]
    lambda _, folder: report_run(folder),
]


@pytest.mark.parametrize(("spoil", "what", "command"), FOREIGN)
@pytest.mark.parametrize("way", WAYS, ids=["run", "resume", "verify", "report"])
def test_a_run_that_is_not_ours_is_refused_with_advice(
    desk: Desk, way: Callable[[Desk, Path], object], spoil: Callable[[Path], None], what: str, command: str
) -> None:
    folder = desk.run(ROWS).folder
    sent = len(desk.server.seen)
    spoil(folder)
    with pytest.raises(ConfigError, match=what) as refusal:
        way(desk, folder)
    assert refusal.value.exit_code == 2
    assert command in refusal.value.advice
    assert str(folder) in refusal.value.reason
    assert len(desk.server.seen) == sent


@pytest.mark.parametrize(("spoil", "what", "_"), FOREIGN)
def test_the_list_of_runs_passes_over_what_is_not_ours(
    desk: Desk, spoil: Callable[[Path], None], what: str, _: str
) -> None:
    desk.run(ROWS, run_id="ours")
    spoil(desk.run([(A, "SN-3", "assign")], run_id="theirs").folder)
    listed = call("runs", "--reports-dir", desk.folder / "reports", "--json")
    assert listed.exit_code == 0
    assert '"ours"' in listed.stdout
    assert "theirs" not in listed.stdout
    assert "warning: run theirs is passed over: " in listed.stderr
    warnings: list[str] = []
    list_runs(desk.folder / "reports", warnings.append)
    with pytest.raises(AssertionError, match=what):
        raise AssertionError(*warnings)


@pytest.mark.parametrize(("spoil", "_", "__"), FOREIGN)
def test_a_run_that_is_not_ours_does_not_count_as_processed_content(
    desk: Desk, spoil: Callable[[Path], None], _: str, __: str
) -> None:
    spoil(desk.run(ROWS, run_id="theirs").folder)
    told: list[tuple[str, str]] = []
    desk.face.on_message = lambda kind, text: told.append((kind, text))  # type: ignore[method-assign]
    assert desk.run(ROWS, run_id="ours").summary.exit_code == 0
    assert any(kind == "warning" and "run theirs is passed over" in text for kind, text in told)


@pytest.mark.parametrize(("spoil", "_", "__"), FOREIGN)
def test_since_last_ignores_runs_that_are_not_ours(desk: Desk, spoil: Callable[[Path], None], _: str, __: str) -> None:
    spoil(desk.run(ROWS, run_id="theirs", since_last=True).folder)
    ran = desk.run(ROWS, run_id="ours", since_last=True)
    assert "unchanged" not in ran.outcomes
    assert "run theirs is passed over" in ran.json["since"]["told"]


@as_root
def test_a_run_that_is_not_ours_is_no_newer_run(desk: Desk) -> None:
    given_away(desk.run(ROWS, run_id="theirs", as_of="2026-05-02").folder)
    assert desk.run(ROWS, run_id="ours", as_of="2026-05-01").summary.exit_code == 0


def test_a_new_run_folder_is_private(desk: Desk) -> None:
    (desk.folder / "reports").mkdir()
    (desk.folder / "reports").chmod(0o1777)
    folder = desk.run(ROWS).folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@as_root
def test_a_folder_created_by_another_user_is_not_used(desk: Desk) -> None:
    folder = desk.folder / "reports" / "r1"
    folder.mkdir(parents=True)
    os.chown(folder, SOMEBODY, SOMEBODY)
    (folder / "run.log").symlink_to(desk.folder / "precious")
    with pytest.raises(UntrustedRunError, match="belongs to"):
        desk.run(ROWS)
    assert not (desk.folder / "precious").exists()
    assert [path.name for path in folder.iterdir()] == ["run.log"]


@pytest.mark.parametrize("name", ["run.log", "run.lock", "run.lease.1", "sandbox.sqlite3", "journal.sqlite3-wal"])
def test_no_link_in_the_folder_is_followed(desk: Desk, name: str) -> None:
    precious = desk.folder / "precious"
    precious.write_text("")
    folder = desk.folder / "reports" / "r1"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(precious)
    with pytest.raises(BatchError) as refusal:
        pipeline.run(resolve([desk.file(ROWS)], flags(desk) | {"sandbox": True}, {}), clock=desk.clock)
    assert refusal.value.exit_code == 2
    assert precious.read_text() == ""


def flags(desk: Desk) -> dict[str, object]:
    return {"reports_dir": str(desk.folder / "reports"), "run_id": "r1"}


def test_a_scratch_folder_that_is_a_link_is_not_written_through(desk: Desk) -> None:
    folder = desk.run(ROWS).folder
    (desk.folder / "away").mkdir()
    (folder / "scratch-1").symlink_to(desk.folder / "away")
    with pytest.raises(UntrustedRunError, match="symbolic link"):
        report_run(folder)


# Shared by a group


def test_a_shared_folder_is_for_the_group_too(desk: Desk) -> None:
    folder = desk.run(ROWS, shared_reports_dir=True).folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2770
    assert call("report", folder).exit_code == 2
    assert call("report", folder, "--shared-reports-dir").exit_code == 0
    assert '"r1"' in call("runs", "--reports-dir", folder.parent, "--json", "--shared-reports-dir").stdout
    assert desk.run(ROWS, shared_reports_dir=True).summary.exit_code == 0


def test_a_shared_folder_is_not_for_all_users(desk: Desk) -> None:
    folder = desk.run(ROWS, shared_reports_dir=True).folder
    folder.chmod(0o777)
    with pytest.raises(UntrustedRunError, match=r"mode 0777") as refusal:
        desk.run(ROWS, shared_reports_dir=True)
    assert "chmod -R o-w" in refusal.value.advice


@as_root
def test_a_shared_folder_of_another_group_is_refused(desk: Desk) -> None:
    folder = desk.run(ROWS, shared_reports_dir=True).folder
    os.chown(folder, 0, SOMEBODY)
    folder.chmod(0o770)
    with pytest.raises(UntrustedRunError, match="others than its owner"):
        desk.run(ROWS, shared_reports_dir=True)


def test_without_nofollow_links_are_detected_before_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted_folders, "_HAS_DESCRIPTORS", False)
    monkeypatch.setattr(trusted_folders, "NO_LINK", 0)
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(UntrustedPathError, match="symbolic link"):
        trusted_folders.open_file(tmp_path / "link", os.O_WRONLY | os.O_CREAT)
    os.close(trusted_folders.open_file(tmp_path / "file", os.O_WRONLY | os.O_CREAT))
    assert trusted_folders.read_file(tmp_path / "file") == b""
    with trusted_folders.folder_at(tmp_path) as folder:
        os.close(folder.make("aside", 0o600))
        folder.rename("aside", "link")
    assert not (tmp_path / "precious").exists()


def test_a_pipe_instead_of_a_file_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UntrustedPathError, match="is no file"):
        trusted_folders.read_file(tmp_path / "pipe")


# Shards


def shards(desk: Desk, action: str = "assign") -> Path:
    told = {**flags(desk), "base_url": BASE_URL, "shards": "2"}
    path = desk.file([(f"u{n}@x.com", f"SN-{n}", action) for n in range(4)])
    return plan_shards(resolve([path], told, {"TELEMETRON_API_KEY": KEY}), clock=desk.clock).folder


def shard(desk: Desk, base_url: str | None = BASE_URL) -> object:
    told = {**flags(desk), "shard": "1", "base_url": base_url}
    config = resolve([], told, {"TELEMETRON_API_KEY": KEY})
    return run_shard(config, transport=desk.server, clock=desk.clock)


@pytest.mark.parametrize("name", ["shards", "shards/1", "shards/1/calls.arrow", "shards/1/left.arrow"])
def test_nothing_of_a_shard_is_read_through_a_link(desk: Desk, name: str) -> None:
    folder = shards(desk)
    if (folder / name).exists():
        (folder / name).rename(desk.folder / "away")
    (folder / name).symlink_to(desk.folder / "away")
    works: list[Callable[[], object]] = [
        lambda: shard(desk),
        lambda: collect_unreleased_by_shard(folder, clock=desk.clock),
        lambda: report_run(folder),
    ]
    for work in works:
        with pytest.raises(UntrustedRunError, match="symbolic link"):
            work()


def test_a_shard_that_others_can_write_to_is_not_made(desk: Desk) -> None:
    folder = shards(desk)
    (folder / "shards" / "1").chmod(0o777)
    with pytest.raises(UntrustedRunError, match="mode 0777"):
        shard(desk)


@pytest.mark.parametrize("size", [100, -200])
def test_a_damaged_file_of_unreleased_devices_is_reported(desk: Desk, size: int) -> None:
    folder = shards(desk, "unassign")
    shard(desk)
    path = folder / "shards" / "1" / "left.arrow"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(JournalError, match=r"left\.arrow is damaged .*; move .* away"):
        collect_unreleased_by_shard(folder, clock=desk.clock)
    path.unlink()
    assert collect_unreleased_by_shard(folder, clock=desk.clock).unfinished == (2,)


# Whose API gets the key


def test_a_shard_sends_no_key_to_a_base_url_from_the_journal_alone(desk: Desk) -> None:
    shards(desk)
    with pytest.raises(ConfigError, match=f"was started with --base-url {BASE_URL}") as refusal:
        shard(desk, None)
    where = f"--reports-dir {desk.folder / 'reports'}"
    assert refusal.value.advice.endswith(f"telemetron-batch run --run-id r1 --shard 1 {where} --base-url {BASE_URL}")
    assert desk.server.seen == []
    shard(desk)
    assert desk.server.seen


def stopped(desk: Desk) -> Ran:
    return desk.run([(f"u{n}@x.com", f"SN-{n}", "assign") for n in range(9)], rate="1/s", deadline="2s")


@pytest.mark.parametrize("command", ["resume", "verify"])
def test_no_key_is_sent_to_a_base_url_from_the_journal_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    folder = stopped(desk).folder
    monkeypatch.setenv("TELEMETRON_API_KEY", KEY)
    ended = call(command, folder)
    assert ended.exit_code == 2
    assert ended.stderr.endswith(f"run: telemetron-batch {command} {folder} --base-url {BASE_URL}\n")
    other = call(command, folder, "--base-url", "http://127.0.0.1:10/api/ext-v1")
    assert other.exit_code == 2
    assert f"was started with --base-url {BASE_URL}" in other.stderr


@pytest.mark.parametrize("how", ["flag", "variable", "profile", "spelling"])
def test_the_base_url_may_come_from_every_source(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    folder = stopped(desk).folder
    asked: list[str] = []

    def run(config: RunConfig, **_: object) -> Summary:
        asked.append(config.sending.base_url)
        return report_run(folder)

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setenv("TELEMETRON_API_KEY", KEY)
    told = {
        "flag": ("--base-url", BASE_URL),
        "spelling": ("--base-url", f"{BASE_URL.replace('127.0.0.1', 'localhost')}/"),
    }
    if how == "variable":
        monkeypatch.setenv("TELEMETRON_BASE_URL", BASE_URL)
    if how == "profile":
        (tmp_path / "p.toml").write_text(f"[p]\nbase-url = '{BASE_URL}'\n")
        monkeypatch.setenv("TELEMETRON_CONFIG", str(tmp_path / "p.toml"))
        monkeypatch.setenv("TELEMETRON_PROFILE", "p")
    assert call("resume", folder, *told.get(how, ())).exit_code == 3
    assert asked == [BASE_URL.replace("127.0.0.1", "localhost") if how == "spelling" else BASE_URL]


def test_a_sandbox_and_a_report_need_no_base_url(desk: Desk) -> None:
    rows = desk.file(ROWS)
    assert call("run", rows, "--sandbox", "--reports-dir", desk.folder / "reports", "--run-id", "s").exit_code == 0
    assert call("resume", desk.folder / "reports" / "s").exit_code == 0
    assert call("report", stopped(desk).folder).exit_code == 3


def test_the_advice_names_a_base_url_only_if_it_was_a_flag(desk: Desk) -> None:
    assert stopped(desk).json["stop"]["advice"] == f"run the same command again with --base-url {BASE_URL} to go on"
    path = desk.file([(f"v{n}@x.com", f"SN-{n}", "assign") for n in range(9)])
    told = {**flags(desk), "run_id": "r2", "rate": "1/s", "deadline": "2s"}
    config = resolve([path], told, ENVIRON)
    stop = pipeline.run(config, transport=desk.server, clock=desk.clock).fields["stop"]
    assert stop["advice"] == "run the same command again to go on"
    steps = {line.run_id: line.next_step for line in list_runs(desk.folder / "reports")}
    assert steps["r1"].endswith(f"/r1 --base-url {BASE_URL}")
    assert steps["r2"].endswith("/r2")


# Publishing


def test_a_journal_does_not_choose_the_published_files(desk: Desk) -> None:
    (desk.folder / "precious").write_text("a secret")
    folder = desk.run(ROWS).folder
    with closing(Journal(folder / "journal.sqlite3")) as journal:
        summary = journal.fact("summary")
        journal.set_facts(summary={**summary, "files": [str(desk.folder / "precious"), "../../precious", "undo.csv"]})
    desk.run(ROWS, publish=str(desk.folder / "pub"))
    names = {path.name for path in (desk.folder / "pub" / "r1").iterdir()}
    assert names == {"reconciliation.csv", "attention.csv", "undo.csv", "summary.json", "report.html"}


def test_published_files_are_not_read_through_a_link(desk: Desk) -> None:
    (desk.folder / "precious").write_text("a secret")
    folder = desk.run(ROWS).folder
    (folder / "undo.csv").unlink()
    (folder / "undo.csv").symlink_to(desk.folder / "precious")
    ran = desk.run(ROWS, publish=str(desk.folder / "pub"))
    assert ran.summary.exit_code == 3
    assert "symbolic link" in ran.summary.fields["unpublished"]
    assert not (desk.folder / "pub" / "r1" / "undo.csv").exists()


def test_nothing_is_published_through_a_link(desk: Desk) -> None:
    (desk.folder / "home").mkdir()
    (desk.folder / "pub").mkdir()
    (desk.folder / "pub" / "r1").symlink_to(desk.folder / "home")
    ran = desk.run(ROWS, publish=str(desk.folder / "pub"))
    assert ran.summary.exit_code == 3
    assert [*(desk.folder / "home").iterdir()] == []


def test_links_in_the_folder_for_copies_are_replaced_and_not_followed(desk: Desk) -> None:
    precious = desk.folder / "precious"
    precious.write_text("as it was")
    target = desk.folder / "pub" / "r1"
    target.mkdir(parents=True)
    (target / ".attention.csv.new").symlink_to(precious)
    (target / "undo.csv").symlink_to(precious)
    assert desk.run(ROWS, publish=str(desk.folder / "pub")).summary.exit_code == 0
    assert precious.read_text() == "as it was"
    assert not (target / "undo.csv").is_symlink()
    assert {path.name for path in target.iterdir() if path.name.startswith(".")} == {".attention.csv.new"}


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_published_copies_are_at_most_readable_by_the_group(desk: Desk) -> None:
    desk.run(ROWS, publish=str(desk.folder / "a" / "pub"))
    target = desk.folder / "a" / "pub" / "r1"
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o640}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (target, target.parent, target.parent.parent)} == {0o750}


# Files one by one


def test_a_copy_of_a_journal_is_not_written_through_a_link(desk: Desk) -> None:
    (desk.folder / "precious").write_text("as it was")
    folder = desk.run(ROWS).folder
    (folder / "journal.sqlite3.apart").symlink_to(desk.folder / "precious")
    replace_with_copy(folder / "journal.sqlite3")
    assert (desk.folder / "precious").read_text() == "as it was"
    with closing(Journal(folder / "journal.sqlite3")) as journal:
        assert journal.fact("runId") == "r1"


def test_the_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "run.log").symlink_to(tmp_path / "precious")
    with pytest.raises(UntrustedRunError, match="symbolic link"), log_to_file(tmp_path / "run.log"):
        LOGGER.info("a line")
    assert (tmp_path / "precious").read_text() == "as it was"


@pytest.mark.usefixtures("no_umask")
def test_the_state_of_a_sandbox_is_private(tmp_path: Path) -> None:
    with SandboxState(tmp_path / "db") as fleet:
        fleet.seed([(A, "SN-1", "assign")])
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}


def bent(batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
    """Return the batch with a wrong offset in its texts."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    blob, old = sink.getvalue().to_pybytes(), struct.pack("<3i", 0, 1000, 2001)
    assert blob.count(old) == 1
    return pa.ipc.open_stream(blob.replace(old, struct.pack("<3i", 0, offset, 2001))).read_next_batch()


@pytest.mark.parametrize("offset", [3_000_000, 2002, -1])
def test_a_journal_with_offsets_outside_its_texts_is_damaged(tmp_path: Path, offset: int) -> None:
    texts = pa.record_batch({"a": ["z" * 1000, "q" * 1001]})
    path = tmp_path / "journal.sqlite3"
    JournalDraft(path).publish({"runId": "r1"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, texts.schema) as stream:
        stream.write_batch(bent(texts, offset))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO blocks (file, keys, cells) VALUES (0, ?, ?)", (sink.getvalue().to_pybytes(),) * 2
        )
    with closing(Journal(path)) as journal, pytest.raises(JournalError, match="is damaged"):
        [*journal.key_columns()]
    with closing(Journal(path)) as journal, pytest.raises(JournalError, match="is damaged"):
        [*journal.blocks()]


def test_valid_batches_of_all_types_are_sound() -> None:
    lists = pa.array([["a", None], [], None, ["b"]], pa.list_(pa.string()))
    columns = {"t": ["a", "", None, "ü"], "n": [1, 2, None, 4], "l": lists, "b": [True, None, False, True]}
    batch = pa.record_batch(columns)
    for one in (batch, batch.slice(1, 2), batch.slice(4), pa.record_batch({"e": pa.array([], pa.string())})):
        require_sound(one)
    beyond = pa.ListArray.from_buffers(
        pa.list_(pa.int32()), 2, [None, pa.py_buffer(struct.pack("<3i", 0, 9, 1))], children=[pa.array([1], pa.int32())]
    )
    with pytest.raises(ValueError, match="an offset outside its data"):
        require_sound(pa.record_batch({"l": beyond}))


# The file with the key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "key").write_text(f"{KEY}\n")
    (folder / "key").chmod(0o600)
    return folder / "key"


def test_a_key_is_read_from_a_file_of_this_user(key_file: Path) -> None:
    assert KeySource(KeyFile(str(key_file))).first_key() == Secret(KEY)


def test_a_key_is_read_through_links_that_others_cannot_change(key_file: Path, tmp_path: Path) -> None:
    """As Kubernetes mounts secrets: key -> ..data/key, ..data -> ..2026_05_31."""
    (tmp_path / "mount" / "..2026_05_31").mkdir(parents=True)
    (tmp_path / "mount" / "..data").symlink_to("..2026_05_31")
    (tmp_path / "mount").chmod(0o1777)
    key_file.rename(tmp_path / "mount" / "..2026_05_31" / "key")
    (tmp_path / "mount" / "key").symlink_to("..data/key")
    assert KeySource(KeyFile(str(tmp_path / "mount" / "key"))).first_key() == Secret(KEY)


def in_an_open_folder(link: Path, _: Path) -> None:
    link.parent.chmod(0o777)


def to_an_open_folder(_: Path, key: Path) -> None:
    key.parent.chmod(0o770)


def of_somebody(link: Path, _: Path) -> None:
    os.chown(link, SOMEBODY, SOMEBODY, follow_symlinks=False)


def to_a_file_of_somebody(_: Path, key: Path) -> None:
    os.chown(key, SOMEBODY, SOMEBODY)


@pytest.mark.parametrize(
    "spoil",
    [
        in_an_open_folder,
        to_an_open_folder,
        pytest.param(of_somebody, marks=as_root),
        pytest.param(to_a_file_of_somebody, marks=as_root),
    ],
)
def test_a_link_to_a_key_that_others_can_change_is_refused(
    key_file: Path, tmp_path: Path, spoil: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "links").mkdir(mode=0o700)
    link = tmp_path / "links" / "key"
    link.symlink_to(key_file)
    assert KeySource(KeyFile(str(link))).first_key() == Secret(KEY)
    spoil(link, key_file)
    with pytest.raises(ConfigError, match=r"^--api-key-file: ") as refusal:
        KeySource(KeyFile(str(link))).first_key()
    assert refusal.value.advice.startswith("run: ch")


@as_root
def test_a_key_in_a_file_of_another_user_is_refused(key_file: Path) -> None:
    os.chown(key_file, SOMEBODY, SOMEBODY)
    with pytest.raises(ConfigError, match="belongs to"):
        KeySource(KeyFile(str(key_file))).first_key()


def test_a_pipe_instead_of_a_key_file_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="is no regular file"):
        KeySource(KeyFile(str(tmp_path / "pipe"))).first_key()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_key_that_others_can_read_or_change_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(ConfigError, match=r"others can read the key.*chmod 600"):
        KeySource(KeyFile(str(key_file))).first_key()


def test_a_circular_link_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfigError, match="cannot read"):
        KeySource(KeyFile(str(tmp_path / "a"))).first_key()


def test_the_group_is_trusted_only_within_the_context() -> None:
    with shared_with_group(True), shared_with_group(False):
        assert trusted_folders.file_mode() == 0o660
    assert trusted_folders.file_mode() == 0o600
