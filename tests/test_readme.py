"""README, help and program do not drift apart."""

import re
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.config.options import OPTIONS
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.stops import ExitCode
from tests.support.readme import README, blocks, part

TEXT = README.read_text()


@pytest.mark.parametrize("name", blocks())
def test_a_part_made_from_the_code_is_up_to_date(name: str) -> None:
    assert part(TEXT, name) == blocks()[name]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_is_in_the_help_of_run_and_of_plan_where_it_applies(option) -> None:
    run_help = CliRunner().invoke(main, ["run", "--help"]).output
    plan_help = CliRunner().invoke(main, ["plan", "--help"]).output
    assert f"--{option.name}" in run_help
    assert (f"--{option.name} " in plan_help) == option.for_plan


@pytest.mark.parametrize("command", main.commands)
def test_every_command_is_told_of(command: str) -> None:
    assert re.search(rf"^\| `{command}[ `]", TEXT, re.MULTILINE)


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_told_of(code: ExitCode) -> None:
    assert re.search(rf"^\| {int(code)} \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_told_of(outcome: Outcome) -> None:
    assert re.search(rf"^\|.*`{outcome}`.*\|$", TEXT, re.MULTILINE)


def test_the_profile_it_shows_is_read_as_it_says(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from telemetron_batch.config.config import resolve

    shown = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert shown is not None
    assert tomllib.loads(shown[1])
    (tmp_path / "telemetron-batch.toml").write_text(shown[1])
    monkeypatch.chdir(tmp_path)
    config = resolve(["x.csv"], {"profile": "nightly"}, {})
    assert (str(config.sending.rate), str(config.reports_dir)) == ("600/min", "/var/lib/telemetron")
    assert config.input.action_words == {"zugang": "assign", "abgang": "unassign"}


def test_links_lead_to_files_that_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if not link.startswith("http")]
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_help_and_usage_errors_do_not_wait_for_pandas() -> None:
    code = (
        "import sys; from telemetron_batch.cli import commands; commands.main(['run', '--help'], standalone_mode=False)"
    )
    code += "; print('pandas' in sys.modules)"
    python = sys.executable
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=README.parent, check=True)
    assert shown.stdout.splitlines()[-1] == "False"
