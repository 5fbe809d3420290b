"""The file of the users, and the commands that write it."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from telemetron_batch.domain.errors import BatchError, ConfigError
from telemetron_batch.web.accounts import add_user, list_users, remove_user
from telemetron_batch.web.passwords import hash_password, is_password
from telemetron_batch.web.people import Role
from telemetron_batch.web.users import Account, UserFile, user_name
from tests.support.desk import HASH, PASSWORD, user_file
from tests.support.ptys import OnTerminal


def test_the_file_is_readable_by_its_owner_only_and_holds_no_password(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    add_user(path, "ann", "operator", lambda _: "a long password")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "a long password" not in path.read_text()
    assert json.loads(path.read_text())["users"]["ann"]["passwordHash"].startswith("$argon2id$")


def test_a_password_is_known_by_its_hash() -> None:
    stored = hash_password("a long password")
    assert is_password(stored, "a long password")
    assert not is_password(stored, "a long passwort")
    assert not is_password(None, "a password that nobody has")


def test_hashing_takes_the_memory_that_rfc_9106_asks_for() -> None:
    assert "m=65536,t=3,p=4" in hash_password("a long password").reveal()


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_a_password_of_unfit_length_is_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(ConfigError, match="8 to 1024"):
        add_user(tmp_path / "users.json", "ann", "operator", lambda _: password)
    assert not (tmp_path / "users.json").exists()


def test_adding_a_user_again_changes_role_and_password(tmp_path: Path) -> None:
    path = user_file(tmp_path, ann="operator", bob="viewer")
    assert "changed" in add_user(path, "Ann", "approver", lambda _: "a new password")
    assert UserFile(path).accounts()["ann"].role is Role.APPROVER
    assert list_users(path) == ["ann  approver", "bob  viewer"]


def test_a_removed_user_is_gone_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    path = user_file(tmp_path, ann="operator", bob="viewer")
    remove_user(path, "ANN")
    assert [*UserFile(path).accounts()] == ["bob"]
    with pytest.raises(ConfigError, match="no user ann"):
        remove_user(path, "ann")


def test_names_that_differ_by_case_are_one_user() -> None:
    assert user_name(" Ann@Example.COM ") == "ann@example.com"


@pytest.mark.parametrize("text", ["", "../x", "a/b", "a b", "-x", "ä", "K\u212aelvin", "a\nb", "x" * 129, "a:b"])
def test_a_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a user name"):
        user_name(text)


def test_a_change_of_the_file_is_seen_at_once(tmp_path: Path) -> None:
    path = user_file(tmp_path, ann="operator")
    users = UserFile(path)
    assert users.accounts()["ann"].role is Role.OPERATOR
    UserFile(path).put(Account("ann", Role.VIEWER, HASH))
    assert users.accounts()["ann"].role is Role.VIEWER


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = user_file(tmp_path, ann="operator")
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        UserFile(path).accounts()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = user_file(tmp_path, ann="operator")
    os.chown(path, 12345, 12345)
    with pytest.raises(BatchError, match="belongs to user 12345"):
        UserFile(path).accounts()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"users": []}',
        '{"users": {"ann": {}}}',
        '{"users": {"Ann": {"role": "viewer", "passwordHash": null}}}',
        '{"users": {"ann": {"role": "king", "passwordHash": null}}}',
        '{"users": {"ann": {"role": "viewer", "passwordHash": "secret"}}}',
        '{"users": {"ann": {"role": "viewer", "passwordHash": 7}}}',
    ],
)
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, content: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no file of users"):
        UserFile(path).accounts()


def test_a_hash_is_not_shown_where_an_account_is_printed() -> None:
    assert "argon2" not in repr(Account("ann", Role.VIEWER, HASH))


def test_the_password_is_asked_twice_on_a_terminal_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    command = [sys.executable, "-m", "telemetron_batch", "serve-user", "add", "ann", "--role", "viewer"]
    terminal = OnTerminal([*command, "--users", str(path)])
    for question in ("Password of ann: ", "Repeat for confirmation: "):
        terminal.until(lambda text, question=question: question in text)  # type: ignore[misc]
        terminal.type(f"{PASSWORD}\n")
    assert terminal.finish() == 0
    assert PASSWORD not in terminal.written
    assert is_password(UserFile(path).accounts()["ann"].password_hash, PASSWORD)
