"""A lock is held only by a living process, and its file names the holder."""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetron_batch.domain.errors import ConfigError, DiskError, LockedError
from telemetron_batch.storage.lock import Lock, LockOwner, is_held, key_fingerprint, state_dir

HOLD = """
import os, sys, time
from pathlib import Path
from telemetron_batch.storage.lock import Lock, LockOwner
Lock.acquire(Path(sys.argv[1]), LockOwner(os.getpid(), "2025-01-02T03:04:05Z", "night-run"), "this run")
print("held", flush=True)
sys.stdin.read()
"""
ME = LockOwner(1, "now", "mine")

Holder = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def held() -> Iterator[Holder]:
    """Yield a function that starts another process, which acquires a lock and keeps it."""
    holders = []

    def hold(path: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(path)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        holder.communicate()


def test_the_second_process_is_refused_with_the_holder_named(held: Holder, tmp_path: Path) -> None:
    holder = held(tmp_path / "lock")
    with pytest.raises(LockedError) as refusal:
        Lock.acquire(tmp_path / "lock", ME, "this run")
    owner = f"process {holder.pid} (run night-run, since 2025-01-02T03:04:05Z)"
    assert refusal.value.reason == f"this run is in use by {owner}"
    assert "--wait" in refusal.value.advice
    assert refusal.value.exit_code == 6


def test_is_held_does_not_prevent_acquiring_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    Lock.acquire(path, ME, "this run").release()
    has_ended = threading.Event()

    def look() -> None:
        while not has_ended.is_set():
            is_held(path)

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(500):
            Lock.acquire(path, ME, "this run").release()
    finally:
        has_ended.set()
        for looker in lookers:
            looker.join()


def test_a_lock_is_released_when_its_owner_is_killed(held: Holder, tmp_path: Path) -> None:
    holder = held(tmp_path / "lock")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    Lock.acquire(tmp_path / "lock", ME, "this run").release()


def test_a_refused_process_leaves_the_holders_name(held: Holder, tmp_path: Path) -> None:
    held(tmp_path / "lock")
    before = (tmp_path / "lock").read_bytes()
    with pytest.raises(LockedError):
        Lock.acquire(tmp_path / "lock", ME, "this run")
    assert (tmp_path / "lock").read_bytes() == before


def test_a_released_lock_can_be_acquired_again(tmp_path: Path) -> None:
    Lock.acquire(tmp_path / "lock", LockOwner(1, "x" * 500, "a long name"), "this").release()
    again = Lock.acquire(tmp_path / "lock", ME, "this")
    with pytest.raises(LockedError, match="run mine"):
        Lock.acquire(tmp_path / "lock", ME, "this")
    again.release()


def test_a_shared_lock_is_only_for_processes_of_one_run(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    mine = [Lock.acquire(path, ME, "the key", shared=True) for _ in range(3)]
    other = LockOwner(2, "later", "theirs")
    for shared in (True, False):
        with pytest.raises(LockedError, match=r"the key is in use by process 1 \(run mine, since now\)"):
            Lock.acquire(path, other, "the key", shared=shared)
    with pytest.raises(LockedError):
        Lock.acquire(path, ME, "the key")
    for lock in mine[:2]:
        lock.release()
    with pytest.raises(LockedError):
        Lock.acquire(path, other, "the key", shared=True)
    mine[2].release()
    theirs = Lock.acquire(path, other, "the key", shared=True)
    with pytest.raises(LockedError, match="run theirs"):
        Lock.acquire(path, ME, "the key", shared=True)
    theirs.release()
    alone = Lock.acquire(path, ME, "the key")
    with pytest.raises(LockedError, match="run mine"):
        Lock.acquire(path, ME, "the key", shared=True)
    alone.release()


def test_locks_of_different_names_are_independent(tmp_path: Path) -> None:
    one, other = Lock.acquire(tmp_path / "a", ME, "a"), Lock.acquire(tmp_path / "b", ME, "b")
    one.release()
    other.release()


def test_a_lock_is_held_before_its_owner_has_written_its_name(tmp_path: Path) -> None:
    lock = Lock.acquire(tmp_path / "lock", ME, "this")
    lock.path.write_text("")
    with pytest.raises(LockedError, match="in use by another process"):
        Lock.acquire(tmp_path / "lock", ME, "this")
    lock.release()


def test_lock_and_folder_are_the_owners_only(tmp_path: Path) -> None:
    lock = Lock.acquire(tmp_path / "new" / "lock", ME, "this")
    lock.release()
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(lock.path.parent.stat().st_mode) == 0o700


def test_a_link_instead_of_a_lock_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match="cannot write"):
        Lock.acquire(tmp_path / "lock", ME, "this")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="name a folder that can be written to"):
        Lock.acquire(tmp_path / "file" / "lock", ME, "this")


def test_a_full_disk_is_reported_when_the_owners_name_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("telemetron_batch.storage.lock.write_start", full)
    with pytest.raises(DiskError):
        Lock.acquire(tmp_path / "lock", ME, "this")


# The folder for what outlives a run


def test_state_is_kept_in_xdg_state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_dir() == tmp_path / "telemetron-batch"
    assert stat.S_IMODE(state_dir().stat().st_mode) == 0o700


def test_state_is_kept_in_the_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir() == tmp_path / ".local" / "state" / "telemetron-batch"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for temporary files, for a user without a home."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_without_a_writable_home_state_is_kept_in_the_temporary_folder(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    assert state_dir() == temporary / f"telemetron-batch-{os.getuid()}"
    assert stat.S_IMODE(state_dir().stat().st_mode) == 0o700


def test_a_user_without_an_account_has_a_state_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert state_dir().parent == temporary


# Names


def test_a_key_fingerprint_is_stable_and_differs_by_url_and_key() -> None:
    name = key_fingerprint("https://a", "key")
    assert name == key_fingerprint("https://a", "key")
    assert (
        len(
            {
                name,
                key_fingerprint("https://a", "kez"),
                key_fingerprint("https://b", "key"),
                key_fingerprint("https://ak", "ey"),
            }
        )
        == 4
    )


def test_a_key_fingerprint_is_the_same_for_all_spellings_of_one_api() -> None:
    spellings = ["http://localhost:8765/v1", "HTTP://127.0.0.1:8765//v1/", "http://[::1]:8765/x/../v1"]
    assert len({key_fingerprint(url, "key") for url in spellings}) == 1


def test_a_key_fingerprint_reveals_neither_url_nor_key() -> None:
    name = key_fingerprint("https://example.com", "sk-live-1")
    assert set(name) <= set("0123456789abcdef")
    assert len(name) == 24
