"""The folder that users of one key share: any of them may create a file first."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import LockedError, PathError
from telemetron_batch.domain.ownership import UntrustedPathError
from telemetron_batch.run.locking import LockWaiter, acquire_locks, locks_of_key
from telemetron_batch.run.undo import configure_undo
from telemetron_batch.storage.group_folder import open_shared, require_group_folder
from telemetron_batch.storage.lock import key_fingerprint, organisation_name, state_dir
from tests.conftest import KEY, Desk
from tests.storage.test_trusted_folders import SOMEBODY, as_root
from tests.support.scripted import BASE_URL, Seen

GROUP = 12_345


@pytest.fixture(params=[0o022, 0o077, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    former = os.umask(request.param)
    yield request.param
    os.umask(former)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("folder_mode", "file_mode"), [(0o700, 0o600), (0o2770, 0o660), (0o770, 0o660), (0o1777, 0o666), (0o755, 0o600)]
)
def test_users_who_can_write_to_the_folder_can_write_the_file(tmp_path: Path, folder_mode: int, file_mode: int) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    folder.chmod(folder_mode)
    os.close(open_shared(folder / "x.lock"))
    assert stat.S_IMODE((folder / "x.lock").stat().st_mode) == file_mode
    os.close(open_shared(folder / "x.lock"))


@as_root
def test_a_file_gets_the_group_of_its_folder_also_without_the_set_group_id_bit(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    os.chown(tmp_path / "locks", 0, GROUP)
    (tmp_path / "locks").chmod(0o770)
    os.close(open_shared(tmp_path / "locks" / "x.lock"))
    assert (tmp_path / "locks" / "x.lock").stat().st_gid == GROUP


def test_links_and_pipes_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("dangling", "link", "pipe"):
        with pytest.raises(OSError, match=r"links|regular"):
            open_shared(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


def folder_of(tmp_path: Path, mode: int, owner: int | None = None, group: int = GROUP) -> Path:
    folder = tmp_path / "locks"
    folder.mkdir()
    if owner is not None:
        os.chown(folder, owner, group)
    folder.chmod(mode)
    return folder


@pytest.mark.parametrize("mode", [0o700, 0o2770, 0o1777, 0o775])
def test_a_folder_of_this_user_is_accepted(tmp_path: Path, mode: int) -> None:
    folder = folder_of(tmp_path, mode)
    assert require_group_folder(folder) == folder


@as_root
@pytest.mark.parametrize("mode", [0o2770, 0o1770])
def test_a_folder_of_another_user_is_accepted_if_it_is_shared_with_our_group(tmp_path: Path, mode: int) -> None:
    folder = folder_of(tmp_path, mode, SOMEBODY, os.getegid())
    assert require_group_folder(folder) == folder


@as_root
@pytest.mark.parametrize(
    ("mode", "group"), [(0o700, 0), (0o770, 0), (0o2770, GROUP), (0o2755, 0), (0o777, 0), (0o1777, GROUP)]
)
def test_a_folder_of_another_user_is_refused_otherwise(tmp_path: Path, mode: int, group: int) -> None:
    folder = folder_of(tmp_path, mode, SOMEBODY, group)
    with pytest.raises(
        UntrustedPathError, match=rf"--lock-dir: .*locks belongs to user {SOMEBODY} \(mode {mode:04o}\)"
    ):
        require_group_folder(folder)


def test_a_folder_in_which_all_users_can_replace_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedPathError, match="all users can replace files in it"):
        require_group_folder(folder_of(tmp_path, 0o777))


def test_a_path_that_is_no_folder_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").write_text("")
    told = {
        "link": "symbolic link",
        "file": "no folder",
        "nowhere": "No such file",
        "x" * 300: "too long",
    }
    for name, words in told.items():
        with pytest.raises(UntrustedPathError, match=words) as refusal:
            require_group_folder(tmp_path / name)
        assert refusal.value.advice


# What is locked


def config_of(desk: Desk, key: str = KEY, **flags: object):  # type: ignore[no-untyped-def]
    options = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "r1", **flags}
    return resolve([], options, {"TELEMETRON_API_KEY": key})


def test_a_key_is_locked_for_the_user_and_in_the_folder_of_the_group(desk: Desk) -> None:
    locks = folder_of(desk.folder, 0o700)
    files = [one.file for one in locks_of_key(config_of(desk, lock_dir=str(locks), organisation="acme"))]
    names = [key_fingerprint(BASE_URL, KEY), organisation_name(BASE_URL, "acme")]
    assert files == [folder / f"{name}.lock" for folder in (state_dir(), locks) for name in names]


def test_two_keys_of_one_organisation_exclude_each_other(desk: Desk) -> None:
    waiting = LockWaiter.no_wait("theirs")
    with acquire_locks(locks_of_key(config_of(desk, "key-number-1", organisation="acme")), waiting):
        with pytest.raises(LockedError, match="this base URL and organisation is in use"):
            acquire_locks(locks_of_key(config_of(desk, "key-number-2", organisation="acme")), waiting).__enter__()
        with pytest.raises(LockedError, match="this base URL and key is in use"):
            acquire_locks(locks_of_key(config_of(desk, "key-number-1")), waiting).__enter__()
        with acquire_locks(locks_of_key(config_of(desk, "key-number-2")), waiting):
            pass


def test_the_pacer_state_is_in_the_group_folder_also_for_resume_and_verify(desk: Desk) -> None:
    locks = folder_of(desk.folder, 0o700)
    held: list[set[str]] = []

    def look(_: Seen) -> None:
        held.append({path.suffix for path in locks.iterdir()})

    desk.server.script = look
    ran = desk.run([("a@x.com", "SN-1", "assign")], lock_dir=str(locks), organisation="acme")
    name = organisation_name(BASE_URL, "acme")
    assert (locks / f"{name}.json").stat().st_size
    for path in locks.iterdir():
        path.unlink()
    desk.verify(ran)
    assert {path.name for path in locks.iterdir()} >= {f"{name}.lock", f"{key_fingerprint(BASE_URL, KEY)}.lock"}


def test_a_lock_folder_that_cannot_be_used_sends_nothing(desk: Desk) -> None:
    with pytest.raises(PathError, match=r"--lock-dir: .*nowhere cannot be used.*; create it: mkdir -m 2770"):
        desk.run([("a@x.com", "SN-1", "assign")], lock_dir=str(desk.folder / "nowhere"))
    assert desk.server.seen == []


def test_undo_uses_the_organisation_and_lock_folder_of_its_run(desk: Desk) -> None:
    locks = folder_of(desk.folder, 0o700)
    ran = desk.run([("a@x.com", "SN-1", "assign")], lock_dir=str(locks), organisation="acme")
    environ = {"TELEMETRON_API_KEY": KEY, "TELEMETRON_BASE_URL": BASE_URL}
    config = configure_undo(ran.folder, {}, environ)
    assert (config.organisation, config.lock_dir) == ("acme", locks)
    assert configure_undo(ran.folder, {}, {**environ, "TELEMETRON_ORGANISATION": "other"}).organisation == "other"
    assert configure_undo(ran.folder, {"organisation": "third"}, environ).organisation == "third"
