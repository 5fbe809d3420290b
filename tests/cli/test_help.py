"""The help of all commands: short summaries, options by purpose, an example and exit codes."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.domain.stops import ExitCode

TITLES = ["Input", "Safety limits", "Sending", "Output", "Sharding", "General"]
COMMANDS = sorted(main.commands)


def help_of(*command: str) -> str:
    return CliRunner().invoke(main, [*command, "--help"], prog_name="telemetron-batch", terminal_width=80).stdout


def test_no_summary_of_a_command_is_cut() -> None:
    summaries = help_of().partition("Commands:")[2]
    assert "..." not in summaries
    for name in COMMANDS:
        assert 0 < len(main.commands[name].get_short_help_str(1000)) <= 55
        assert re.search(rf"^  {name} +\S", summaries, re.MULTILINE)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_options_are_grouped_by_purpose(command: str) -> None:
    lines = help_of(command).splitlines()
    assert [line.removesuffix(":") for line in lines if line.removesuffix(":") in TITLES] == TITLES
    sections = re.split(r"^(\S.*):$", help_of(command), flags=re.MULTILINE)
    safety = sections[sections.index("Safety limits") + 1]
    assert "--max-failed" in safety
    assert "--rate" not in safety


def test_the_options_that_only_serve_has_come_first() -> None:
    sections = re.split(r"^(\S.*):$", help_of("serve"), flags=re.MULTILINE)
    own, general = (sections[sections.index(title) + 1] for title in ("Server", "General"))
    assert sections.index("Server") < sections.index("Input")
    assert {"--host", "--users", "--max-upload"} <= set(re.findall(r"^  (--[a-z-]+)", own, re.MULTILINE))
    assert "--base-url" in general
    assert "--profile" in general
    assert "--base-url" not in own


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_and_the_exit_codes(command: str) -> None:
    text = help_of(command)
    example, _, codes = text.partition("\nExample:\n")[2].partition("\nExit codes:\n")
    program, name, *arguments = shlex.split(example)
    assert (program, name) == ("telemetron-batch", command)
    found = [int(code) for code in re.findall(r"^  (\d)  [A-Z].*\.$", codes, re.MULTILINE)]
    assert found == sorted(found)
    assert {0, 2} <= {*found} <= {*ExitCode}
    parsed = main.commands[command]
    assert isinstance(parsed, click.Command)
    parsed.make_context(command, [one for one in arguments if not one.startswith((">", "~"))]).close()
