"""An entry for this user alone, as systemd makes it for credentials, opens a file to nobody else."""

import os
import stat
import struct
from pathlib import Path

import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.storage.access_list import effective_mode

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF
Entries = dict[tuple[int, int], int]


def listed(path: Path, entries: Entries) -> Path:
    """Give a file an access list, as `setfacl` does."""
    everyone = {(USER_OBJ, NOBODY): 4, (GROUP_OBJ, NOBODY): 0, (MASK, NOBODY): 4, (OTHER, NOBODY): 0, **entries}
    packed = [struct.pack("<HHI", tag, bits, number) for (tag, number), bits in sorted(everyone.items())]
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(packed))
    except OSError:
        pytest.skip("this file system has no access lists")
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "api-key"
    path.write_text("key-of-the-tests-0123456789\n")
    path.chmod(0o400)
    return path


def mode_of(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return effective_mode(descriptor)
    finally:
        os.close(descriptor)


def test_without_a_list_it_is_the_mode(key: Path) -> None:
    assert mode_of(key) == 0o400
    key.chmod(0o640)
    assert mode_of(key) == 0o640


def test_an_entry_for_this_user_or_root_grants_nothing_to_others(key: Path) -> None:
    listed(key, {(USER, os.geteuid()): 4, (USER, 0): 4})
    assert stat.S_IMODE(key.stat().st_mode) == 0o440  # what a plain look at the mode would refuse
    assert mode_of(key) == 0o400


@pytest.mark.parametrize(
    "entry", [{(USER, 54321): 4}, {(GROUP, 54321): 4}, {(GROUP_OBJ, NOBODY): 4}], ids=["user", "group", "own group"]
)
def test_any_other_entry_counts(key: Path, entry: Entries) -> None:
    listed(key, {(USER, os.geteuid()): 4, **entry})
    assert mode_of(key) == 0o440


def test_an_entry_beyond_the_mask_grants_nothing(key: Path) -> None:
    listed(key, {(USER, 54321): 4, (MASK, NOBODY): 0})
    assert mode_of(key) == 0o400


def test_the_key_is_read_from_a_credential_and_not_from_a_file_of_several(key: Path) -> None:
    listed(key, {(USER, os.geteuid()): 4})
    config = resolve(["x.csv"], {"api_key_file": str(key)}, {})
    assert config.api_key is not None
    listed(key, {(USER, os.geteuid()): 4, (USER, 54321): 4})
    with pytest.raises(ConfigError, match="others can read the key"):
        resolve(["x.csv"], {"api_key_file": str(key)}, {})
