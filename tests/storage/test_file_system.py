"""The calls that are made otherwise on Windows do the same here."""

import os
import stat
import sys
from pathlib import Path

import pytest

from telemetron_batch.storage import file_system


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    return os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)


def test_the_start_of_a_file_is_written_and_read_wherever_it_stands(descriptor: int) -> None:
    os.write(descriptor, b"0123456789")
    file_system.write_start(descriptor, b"abc")
    os.lseek(descriptor, 7, os.SEEK_SET)
    assert file_system.read_start(descriptor, 5) == b"abc34"
    os.close(descriptor)


def test_a_write_that_takes_only_a_part_is_continued(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda number, content: write(number, bytes(content)[:2]))
        file_system.write_start(descriptor, b"abcde")
    assert file_system.read_start(descriptor, 10) == b"abcde"
    os.close(descriptor)


@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_space_is_allocated(descriptor: int, platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    file_system.allocate(descriptor, 100_000)
    assert os.fstat(descriptor).st_size == 100_000
    assert file_system.read_start(descriptor, 10) == bytes(10)
    os.close(descriptor)


def test_modes_are_left_alone_on_windows_and_folders_are_not_opened(
    descriptor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_system.set_mode(descriptor, 0o644)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "open", None)
    file_system.set_mode(descriptor, 0o600)
    file_system.set_group(descriptor, 1)
    file_system.sync_folder(tmp_path)
    assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o644
    os.close(descriptor)
