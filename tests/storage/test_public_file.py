"""Files for others appear whole, readable by all, whatever the umask."""

import os
import stat
from pathlib import Path

import pytest

from telemetron_batch.storage.public_file import write_public


def test_everybody_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_public(tmp_path / "a.prom", b"one")
    finally:
        os.umask(before)
    assert (tmp_path / "a.prom").read_bytes() == b"one"
    assert stat.S_IMODE((tmp_path / "a.prom").stat().st_mode) == 0o644


def test_a_link_of_that_name_is_neither_followed_nor_replaced(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "t.prom").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError, match="no regular file"):
        write_public(tmp_path / "t.prom", b"new")
    assert (tmp_path / "victim").read_text() == "kept"
    assert (tmp_path / "t.prom").is_symlink()


def test_the_old_file_stays_if_the_new_one_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_public(tmp_path / "a.prom", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_public(tmp_path / "a.prom", b"new")
    assert (tmp_path / "a.prom").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.prom"]
