"""Mappings that are kept under a name."""

from pathlib import Path

import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.init.saved_mappings import remove_mapping, save_mapping, saved_mappings

OPTIONS = InputOptions(
    columns={"customerEmail": "Kunde", "deviceIdentifier": "Nr."}, action_words={"ret": Action.UNASSIGN}
)


def test_a_mapping_comes_back_as_flags_that_mean_the_same(tmp_path: Path) -> None:
    save_mapping(tmp_path / "m.toml", "Returns desk", OPTIONS)
    flags = saved_mappings(tmp_path / "m.toml")["Returns desk"]
    config = resolve((), {**flags, "sandbox": True}, {})
    assert config.input == OPTIONS


def test_a_mapping_is_a_profile_of_the_command_line(tmp_path: Path) -> None:
    save_mapping(tmp_path / "m.toml", "desk", OPTIONS)
    flags = {"config": str(tmp_path / "m.toml"), "profile": "desk", "sandbox": True}
    assert resolve((), flags, {}).input == OPTIONS


def test_what_else_a_file_holds_is_never_read_as_a_mapping(tmp_path: Path) -> None:
    text = '[desk]\nbase-url = "https://evil.example/api/ext-v1"\napi-key-file = "/k"\naction = "assign"\n'
    (tmp_path / "m.toml").write_text(text)
    assert saved_mappings(tmp_path / "m.toml") == {"desk": {"action": "assign"}}


def test_saving_again_replaces_and_removing_forgets(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    save_mapping(file, "a", OPTIONS)
    save_mapping(file, "b", OPTIONS)
    save_mapping(file, "a", InputOptions(action=Action.ASSIGN))
    assert saved_mappings(file)["a"] == {"action": "assign"}
    remove_mapping(file, "a")
    remove_mapping(file, "never there")
    assert list(saved_mappings(file)) == ["b"]


@pytest.mark.parametrize("name", ["", "x" * 61, "a\nb", "profile", "column"])
def test_a_name_that_no_profile_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        save_mapping(tmp_path / "m.toml", name, OPTIONS)


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert saved_mappings(tmp_path / "m.toml") == {}
