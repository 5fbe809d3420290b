"""A profile is added or replaced, and nothing else in the file changes."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.init.profile_file import read_profiles, with_profile, write_profiles

KEPT = """# ours
rate = "1/s" # for all

[nightly]
column = { action = "Art" }

# the desk's
[desk]
action = "unassign"
[desk.action-word]
RET = "unassign"

# the last
[last]
note = "x"
"""
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in ("profile", "profiles")
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def test_a_profile_is_added_at_the_end() -> None:
    after = with_profile(KEPT, "new", {"action": "assign", "multiline-cells": True})
    assert after == KEPT + '\n[new]\naction = "assign"\nmultiline-cells = true\n'
    assert with_profile("", "new", {}) == "[new]\n"


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n", " # comment"])
def test_a_profile_is_added_after_any_end_of_the_file(end: str) -> None:
    assert tomllib.loads(with_profile(f"rate = '1/s'{end}", "p", {})) == {"rate": "1/s", "p": {}}


@pytest.mark.parametrize("text", ["[p]", "[profile.p]", "[profiles.p]", "p = {}", "[p.column]\naction = 'x'"])
def test_an_existing_profile_is_not_overwritten(text: str) -> None:
    with pytest.raises(ConfigError, match=r"there is a profile 'p' already; .* --force"):
        with_profile(text, "p", {})


def test_with_force_only_the_profile_of_that_name_goes() -> None:
    after = with_profile(KEPT, "desk", {"action": "assign"}, force=True)
    tables = tomllib.loads(after)
    assert tables == {**tomllib.loads(KEPT), "desk": {"action": "assign"}}
    assert [line for line in ("# ours", "# the desk's", "# the last", "# for all") if line not in after] == []


@pytest.mark.parametrize("parent", ["profile", "profiles"])
@pytest.mark.parametrize("rest", ["", "\n[profile.q]\nrate = '2/s'\n", "\n[q]\n"])
def test_with_force_a_profile_under_a_parent_goes_too(parent: str, rest: str) -> None:
    after = tomllib.loads(with_profile(f"[{parent}.p]\nrate = '1/s'\n{rest}", "p", {"action": "assign"}, force=True))
    assert after["p"] == {"action": "assign"}
    assert "p" not in after.get(parent, {})
    assert {key: table for key, table in after.items() if key != "p"} == tomllib.loads(rest)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("p = { rate = '1/s' }\n", ""),
        ("p.rate = '1/s'\na = 1\n", "a = 1\n"),
        ("profile.p.rate = '1/s'\na = 1\n", "a = 1\n"),
        ("[a]\nx = '''\n[p]\n'''\n[p]", "[a]\nx = '''\n[p]\n'''\n"),
        ("[p]\n[a]\n# of columns\n[p.column]\n# of b\n[b]\n", "[a]\n# of columns\n# of b\n[b]\n"),
        ("[[p.x]]\n# of y\n[p.y]\nz = 1\n# end", "# of y\n# end\n"),
    ],
)
def test_with_force_a_profile_is_replaced_however_it_is_written(text: str, kept: str) -> None:
    assert with_profile(text, "p", {}, force=True) == f"{kept}\n[p]\n".lstrip("\n")


@pytest.mark.parametrize("parent", ["profile", "profiles"])
def test_a_profile_that_cannot_be_replaced_safely_is_refused(parent: str) -> None:
    with pytest.raises(ConfigError, match="edit the file by hand"):
        with_profile(f"{parent} = {{ p = {{ rate = '1/s' }}, q = {{}} }}", "p", {"action": "assign"}, force=True)


def test_windows_line_ends_stay() -> None:
    after = with_profile("[a]\r\nrate = '1/s'\r\n[p]\r\nrate = '2/s'\r\n# last\r\n[b]\r\n", "p", {}, force=True)
    assert after == "[a]\r\nrate = '1/s'\r\n# last\r\n[b]\n\n[p]\n"


@pytest.mark.parametrize("text", ["[p", "a = 1\na = 2", "\ufeff[p]"])
def test_a_file_that_is_not_toml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        with_profile(text, "q", {})


@pytest.mark.parametrize("name", ["profile", "profiles"])
def test_the_name_of_the_parent_table_is_no_name_for_a_profile(name: str) -> None:
    with pytest.raises(ConfigError):
        with_profile("", name, {}, force=True)


@given(NAMES, st.dictionaries(NAMES, TEXTS | st.booleans() | st.dictionaries(NAMES, TEXTS, max_size=3), max_size=4))
def test_any_profile_is_read_back_as_written(name: str, keys: dict[str, str | bool | dict[str, str]]) -> None:
    assert tomllib.loads(with_profile("", name, keys))[name] == keys
    twice = with_profile(with_profile("x = 1", name, keys) if name != "x" else "", name, {"a": "b"}, force=True)
    assert tomllib.loads(twice)[name] == {"a": "b"}


def test_the_file_is_written_atomically_and_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    assert read_profiles(file) == ""
    write_profiles(file, "a = 1\r\n")
    assert (read_profiles(file), file.stat().st_mode & 0o777) == ("a = 1\r\n", 0o644)
    file.chmod(0o600)
    (tmp_path / "link.toml").symlink_to(file)
    write_profiles(tmp_path / "link.toml", "a = 2")
    assert (read_profiles(file), file.stat().st_mode & 0o777) == ("a = 2", 0o600)
    assert (tmp_path / "link.toml").is_symlink()


def test_a_file_that_cannot_be_read_or_written_gives_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_profiles(tmp_path / "p.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_profiles(tmp_path)
    with pytest.raises(ConfigError, match="cannot write"):
        write_profiles(tmp_path / "nowhere" / "p.toml", "")
