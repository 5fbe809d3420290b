"""The commands `holdings` and `compare`: messages, exit codes, standard output and error."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from telemetron_batch.cli.commands import main
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState

KEY = "key-of-the-lookup-tests"


@pytest.fixture
def base_url() -> Iterator[str]:
    with SandboxState() as fleet, serve_in_thread(fleet, api_key=KEY) as url:
        fleet.assign("ann@x.com", [f"SN-{number}" for number in range(30)])
        yield url


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str, base_url: str = "") -> Result:
    return CliRunner().invoke(main, arguments, env={"TELEMETRON_API_KEY": KEY, "TELEMETRON_BASE_URL": base_url})


def test_holdings_shows_what_it_wrote_and_the_command_that_closes_the_accounts(base_url: str) -> None:
    ended = call("holdings", "ann@x.com", "-o", "closing.csv", base_url=base_url)
    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        "30 devices of 1 customer: closing.csv",
        "Look at it, then run: telemetron-batch run closing.csv",
    ]
    assert ended.stderr == ""


def test_the_command_shown_takes_the_base_url_of_the_command_line(base_url: str) -> None:
    ended = call("holdings", "ann@x.com", "-o", "closing.csv", "--reports-dir", "here", "--base-url", base_url)
    assert f"telemetron-batch run closing.csv --reports-dir here --base-url {base_url}" in ended.stdout


def test_with_json_standard_output_is_one_line(base_url: str) -> None:
    ended = call("holdings", "ann@x.com", "new@x.com", "-o", "closing.csv", "--json", base_url=base_url)
    fields = json.loads(ended.stdout)
    assert ended.stdout.count("\n") == 1
    assert (fields["devices"], fields["unknownCustomers"], fields["exitCode"]) == (30, ["new@x.com"], 1)
    assert ended.exit_code == 1


def test_quiet_prints_only_what_wants_attention(base_url: str) -> None:
    assert call("holdings", "ann@x.com", "-o", "1.csv", "-q", base_url=base_url).output == ""
    ended = call("holdings", "new@x.com", "-o", "2.csv", "-q", base_url=base_url)
    assert (ended.stdout, ended.stderr) == ("", "warning: 1 customer is unknown to Telemetron: new@x.com\n")


def test_compare_writes_what_differs(base_url: str, folder: Path) -> None:
    rows = "".join(f"ann@x.com,SN-{number}\n" for number in range(1, 31))
    (folder / "fleet.csv").write_text(f"customerEmail,deviceIdentifier\n{rows}")
    ended = call("compare", "fleet.csv", "-o", "changes.csv", "--remove-extra", base_url=base_url)
    assert ended.exit_code == 0
    assert "1 to assign, 1 to unassign; 1 customer with 30 devices compared: changes.csv" in ended.stdout
    assert (folder / "changes.csv").read_text() == (
        "customerEmail,deviceIdentifier,action\nann@x.com,SN-0,unassign\nann@x.com,SN-30,assign\n"
    )
    again = call("compare", "fleet.csv", "-o", "changes.csv", base_url=base_url)
    assert again.exit_code == 2
    assert again.stderr == "Error: changes.csv exists already; name another file, or replace it with --force\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["holdings", "-o", "x.csv"], "the API cannot list all customers"),
        (["holdings", "ann@x.com"], "Missing option '--output'"),
        (["holdings", "ann", "-o", "x.csv"], '"ann" is not an email address'),
        (["holdings", "a@x.com", "-o", "x.csv", "--keep-answers", "soon"], "'soon' is not a duration"),
        (["holdings", "a@x.com", "-o", "x.csv", "--rate", "fast"], "--rate: 'fast' is not a rate"),
        (["holdings", "a@x.com", "-o", "x.csv", "--sandbox"], "start one with telemetron-batch sandbox"),
        (["holdings", "a@x.com", "-o", "."], "is no regular file"),
        (["holdings", "a@x.com", "-o", "-"], "is no regular file"),
        (["holdings", "a@x.com", "-o", "no/folder/x.csv"], "cannot write into no/folder"),
        (["compare", "none.csv", "-o", "x.csv"], "there is no such file"),
        (["compare", "-o", "x.csv"], "Missing argument 'FILE'"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    ended = call(*arguments)
    text = ended.stderr or str(ended.exception)
    assert ended.exit_code == 2
    assert words in text
    assert text.count("\n") <= 1 or "Usage:" in text


def test_without_a_key_nothing_is_asked(base_url: str) -> None:
    ended = CliRunner().invoke(main, ["holdings", "a@x.com", "-o", "x.csv", "--base-url", base_url])
    assert (ended.exit_code, "there is no API key" in ended.stderr) == (2, True)


@pytest.mark.parametrize("command", ["holdings", "compare"])
def test_the_help_names_exit_codes_and_an_example(command: str) -> None:
    text = call(command, "--help").stdout
    assert f"telemetron-batch {command} " in text
    assert "run the same command again, which continues" in text
    assert "The API cannot list all customers" in text or command == "compare"
