"""A replaced journal keeps all its records, and late writes of a former owner do not reach it."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.errors import DiskError, LockedError
from telemetron_batch.journal import takeover
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import ImmutableJournal
from telemetron_batch.journal.takeover import replace_with_copy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite3"
    JournalDraft(path).publish({"runId": "r1", "count": 0})
    return path


def lost() -> None:
    raise LockedError("it is another's")


def test_the_copy_contains_all_commits_including_the_log(path: Path) -> None:
    journal = Journal(path)
    journal.set_facts(count=7)
    replace_with_copy(path)
    with closing(Journal(path)) as again:
        assert again.fact("count") == 7
    assert not [*path.parent.glob("*.apart*")]


def test_late_writes_of_a_former_owner_are_not_visible(path: Path) -> None:
    former = Journal(path)
    former.set_facts(count=1)
    replace_with_copy(path)
    with closing(Journal(path)) as newer:
        newer.set_facts(count=2)
        former.set_facts(count=3, more="x" * 100_000)
        newer.set_facts(also=1)
    with closing(Journal(path)) as again:
        assert (again.fact("count"), again.fact("also"), again.fact("more")) == (2, 1, None)


@pytest.mark.parametrize("killed_at", ["replace", "unlink"])
def test_after_a_kill_the_replacement_can_be_repeated(
    path: Path, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = Journal(path)
    former.set_facts(count=7)

    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if killed_at == "replace":
            patch.setattr(Path, "replace", kill)
        else:
            patch.setattr(takeover, "sync_folder", kill)
            patch.setattr(takeover, "_SIDECARS", ())
        with pytest.raises(Killed):
            replace_with_copy(path)
    replace_with_copy(path)
    with closing(Journal(path)) as again:
        assert again.fact("count") == 7


def test_a_journal_that_is_being_written_is_not_copied(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = takeover.shutil.copyfileobj

    def copy_while_it_changes(*files_and_size: Any) -> None:
        copy(*files_and_size)
        with path.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(takeover.shutil, "copyfileobj", copy_while_it_changes)
    with pytest.raises(LockedError, match="is being written by another process"):
        replace_with_copy(path)


def test_without_room_for_a_copy_nothing_is_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(takeover.shutil, "copyfileobj", full)
    with pytest.raises(DiskError, match="make room"):
        replace_with_copy(path)
    assert path.read_bytes() == before


def test_a_fact_can_be_read_without_changing_the_journal(path: Path) -> None:
    before = {one.name: one.stat().st_mtime_ns for one in path.parent.iterdir()}
    with closing(ImmutableJournal(path)) as journal:
        assert journal.fact("runId") == "r1"
        assert journal.fact("nothing") is None
    assert {one.name: one.stat().st_mtime_ns for one in path.parent.iterdir()} == before


# A journal that was lost


def test_a_lost_journal_is_not_written_to(path: Path) -> None:
    journal = Journal(path, lost)
    with pytest.raises(LockedError):
        journal.set_facts(count=1)
    journal.close()
    with closing(Journal(path)) as again:
        assert again.fact("count") == 0


LOSE = """
import asyncio, sys
from pathlib import Path
from telemetron_batch.domain.errors import LockedError
from telemetron_batch.journal.journal import Journal
is_lost = False
def confirm():
    if is_lost: raise LockedError("it is another's")
journal = Journal(Path(sys.argv[1]), confirm)
asyncio.run(journal.record_start(1, None, 1.5))
journal.set_facts(count=5)
is_lost = True
journal.close()
"""


def test_a_process_that_lost_its_run_ends_without_a_checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    before = path.read_bytes()
    subprocess.run([sys.executable, "-c", LOSE, str(path)], check=True, timeout=60)
    assert path.read_bytes() == before
    assert path.with_name("journal.sqlite3-wal").stat().st_size > 0
