"""The schema of profiles accepts what the program reads, and refuses what it refuses."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from telemetron_batch.cli.commands import main
from telemetron_batch.config.config import resolve
from telemetron_batch.config.options import OPTIONS, Option
from telemetron_batch.config.profile_schema import profile_schema
from telemetron_batch.domain.errors import ConfigError
from tests.support.docs import PAGES, code_blocks

SCHEMA = profile_schema()


def problems(toml: str) -> list[str]:
    """Return what editors would underline in a profile file; they read times of TOML as texts."""
    document = json.loads(json.dumps(tomllib.loads(toml), default=str))
    return [one.message for one in Draft202012Validator(SCHEMA).iter_errors(document)]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_in_it_with_its_help_and_its_default(option: Option) -> None:
    for properties in (SCHEMA["properties"], SCHEMA["$defs"]["profile"]["properties"]):
        found = properties[option.name]
        assert found["description"] == option.help
        if option.default is not None:
            assert problems(f"{option.name} = {json.dumps(found['default'])}") == []


def accepted(tmp_path: Path, toml: str) -> bool:
    """Return whether the program accepts a profile."""
    (tmp_path / "p.toml").write_text(toml)
    try:
        resolve(["x.csv"], {"config": str(tmp_path / "p.toml"), "profile": "p"}, {"TELEMETRON_API_KEY": "key"})
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(
    "line",
    [
        "rate = '600/min'",
        "rate = 'auto'",
        "max-failed = '5%'",
        "max-failed = 12",
        "max_failed = '5 %'",
        "concurrency = 4",
        "timeout = 12.5",
        "timeout = '30s'",
        "deadline = '1h 30m'",
        "verify = true",
        "sheet = 'Tabelle 1'",
        "tolerate = 'skipped'",
        "tolerate = ['skipped', 'held']",
        "column = { customerEmail = 'Kunde' }",
        "column = ['customerEmail=Kunde', 'action=Was']",
        "action-word = { Zugang = 'assign' }",
        "action = 'unassign'",
        "as-of = 2026-05-31",
        "hidden = 'skip'",
        "last-line = 'refuse'",
        "fill-down = 'customerEmail'",
        "organisation = 'acme'",
    ],
)
def test_what_the_program_accepts_is_accepted(tmp_path: Path, line: str) -> None:
    toml = f"[p]\n{line}\n"
    assert accepted(tmp_path, toml)
    assert problems(toml) == []
    assert problems(f"{line}\n[profile.p]\nxlsx = true\n[profiles.q]\n{line}\n") == []


@pytest.mark.parametrize(
    "line",
    [
        "max-faild = '5%'",
        "max-failed = 'many'",
        "max-failed = -1",
        "concurrency = 0",
        "concurrency = 'lots'",
        "timeout = 'soon'",
        "action = 'remove'",
        "tolerate = ['fine']",
        "column = { customer = 'Kunde' }",
        "action-word = { Zugang = 'give' }",
        "hidden = 'perhaps'",
        "empty-exit-code = 256",
        "verify = 'perhaps'",
        "rate = '10'",
    ],
)
def test_what_the_program_refuses_is_refused(tmp_path: Path, line: str) -> None:
    toml = f"[p]\n{line}\n"
    assert not accepted(tmp_path, toml)
    assert problems(toml) != []


def test_an_unknown_key_above_the_tables_is_refused() -> None:
    assert problems("max-faild = 5\n") != []


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (
            "Kunde;Seriennummer;Bewegung\na@x.de;A1;Zugang\n",
            ("column", "customerEmail=Kunde", "column", "action=Bewegung", "column", "deviceIdentifier=Seriennummer",
             "action-word", "zugang=assign", "delimiter", ";"),
        ),
        ("customerEmail,deviceIdentifier\na@x.de,A1\n", ("action", "unassign", "encoding", "utf-8")),
    ],
)  # fmt: skip
def test_a_profile_that_init_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, options: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(content)
    flags = [f"--{word}" if at % 2 == 0 else word for at, word in enumerate(options)]
    assert CliRunner().invoke(main, ["init", "a.csv", *flags]).exit_code == 0
    toml = (tmp_path / "telemetron-batch.toml").read_text()
    assert len(next(iter(tomllib.loads(toml).values()))) >= 2
    assert problems(toml) == []


@pytest.mark.parametrize(
    "toml", [code for page in PAGES for code in code_blocks(page.read_text(), "toml")], ids=lambda _: "docs"
)
def test_a_profile_of_the_docs(toml: str) -> None:
    assert problems(toml) == []


def test_a_value_that_no_rule_describes_is_a_text() -> None:
    values: list[Any] = [SCHEMA["properties"][name]["type"] for name in ("job", "reports-dir", "device-type")]
    assert values == ["string"] * 3
