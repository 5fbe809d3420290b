"""`notify --test`, and commands that are refused before they begin."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from telemetron_batch.cli.commands import main
from tests.support.listeners import Listener, listening
from tests.support.listening import free_port
from tests.support.ptys import OnTerminal

PYTHON = (sys.executable, "-m", "telemetron_batch")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as one:
        yield one


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TELEMETRON_API_KEY", "key-of-the-tests")
    (tmp_path / "rows.csv").write_text("customerEmail,deviceIdentifier,action\na@x.com,D1,assign\n")
    return tmp_path


def command(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_a_test_reaches_everybody_and_says_so(listener: Listener) -> None:
    tested = command(
        "notify", "--test", "--notify", f"json://{listener.host}", "--ping", f"http://{listener.host}/p?x=1"
    )
    assert (tested.exit_code, tested.stdout) == (
        0,
        f"message to json://{listener.host} (test): sent\nping to http://{listener.host}: sent\n",
    )
    assert listener.titles == ["telemetron-batch: test message"]
    assert listener.pings == [("/p?x=1", "0")]


def test_a_test_takes_the_urls_of_a_profile_with_passwords_and_needs_no_key(
    listener: Listener, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TELEMETRON_API_KEY")
    (place / "telemetron-batch.toml").write_text(f'[night]\nnotify = ["json://me:sesame99@{listener.host}"]\n')
    tested = command("notify", "--test", "--profile", "night")
    assert (tested.exit_code, "sesame99" in tested.output) == (0, False)
    assert "authorization" in listener.heard[0].headers


def test_a_test_that_fails_says_why_and_ends_with_1(listener: Listener) -> None:
    nowhere = f"json://127.0.0.1:{free_port()}/secretsecret"
    tested = command("notify", "--test", "--notify", nowhere, "--notify", f"json://{listener.host}")
    first, second = tested.stdout.splitlines()
    assert (tested.exit_code, second) == (1, f"message to json://{listener.host} (test): sent")
    assert first.startswith(f"message to {nowhere.rpartition('/')[0]} (test): failed: ")
    assert "secretsecret" not in tested.output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--test"], "neither --notify nor --ping is given"),
        (["--notify", "json://a.example"], "add --test"),
        (["--test", "--notify", "nosuch://a.example"], "Apprise cannot use the URL nosuch://***"),
        (
            ["--test", "--notify", "json://me:sesame99@a.example"],
            "do not put a URL with a password on the command line",
        ),
        (["--test", "--ping", "https://me:sesame99@a.example"], "set TELEMETRON_PING"),
    ],
)
def test_a_test_without_usable_urls_is_refused(words: list[str], problem: str) -> None:
    refused = command("notify", *words)
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert problem in refused.output
    assert "sesame99" not in refused.output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run", "rows.csv", "--rate", "fast"], "rows.csv was refused: --rate: 'fast' is not a rate"),
        (["run", "rows.csv", "--run-id", "n1", "--mx-failed", "5"], "n1 was refused: No such option '--mx-failed'"),
        (["run", "rows.csv", "--min-rows"], "a run was refused: Option '--min-rows' requires an argument"),
        (["run", "rows.csv", "--profile", "missing"], "rows.csv was refused: cannot read telemetron-batch.toml"),
        (["run"], "a run was refused: Missing argument 'FILE...'"),
        (["run", "rows.csv", "--api-key-file", "gone"], "rows.csv was refused: --api-key-file: cannot read gone"),
        (["run", "missing.csv", "--sandbox", "--run-id", "n1"], "n1 was refused: missing.csv: there is no such file"),
        (["resume", "nobody"], "nobody was refused: there is no run in reports/nobody"),
        (["undo", "nobody"], "nobody was refused: there is no run in reports/nobody"),
        (["resume"], "a run was refused: Missing argument 'RUN'"),
    ],
)
def test_a_refused_command_is_told_once(
    words: list[str], problem: str, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEMETRON_NOTIFY", f"json://{listener.host}")
    monkeypatch.setenv("TELEMETRON_PING", f"http://{listener.host}/p")
    monkeypatch.setenv("TELEMETRON_METRICS", "t.prom")
    assert command(*words).exit_code == 2
    assert [title.startswith(f"telemetron-batch: {problem}") for title in listener.titles] == [True], listener.titles
    assert listener.pings[-1] == ("/p/fail", "2")
    assert "telemetron_batch_exit_code" in Path("t.prom").read_text()


def test_urls_of_the_refused_command_line_itself_are_used(listener: Listener) -> None:
    refused = command(
        "run", "rows.csv", "--nonsense", f"--notify=json://{listener.host}", "--ping", f"http://{listener.host}/p"
    )
    assert refused.exit_code == 2
    assert (len(listener.titles), listener.pings) == (1, [("/p/fail", "2")])


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "rows.csv", "--rate", "fast"],
        ["plan", "--nonsense"],
        ["runs", "--nonsense"],
        ["report", "nobody"],
        ["verify", "nobody"],
        ["run", "--run-id", "n1", "--shard", "1", "--rate", "fast"],
        ["run", "--run-id", "n1", "--shard", "1"],
    ],
)
def test_commands_that_make_no_run_and_shards_tell_nothing(
    words: list[str], listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEMETRON_NOTIFY", f"json://{listener.host}")
    monkeypatch.setenv("TELEMETRON_PING", f"http://{listener.host}/p")
    assert command(*words).exit_code == 2
    assert listener.heard == []


def test_resume_takes_the_urls_of_its_command_line(listener: Listener) -> None:
    assert command("run", "rows.csv", "--sandbox", "--run-id", "n1", "--yes").exit_code in (0, 1)
    urls = (
        "--notify",
        f"json://{listener.host}",
        "--notify",
        f"json://{listener.host}/b",
        "--ping",
        f"http://{listener.host}/p",
    )
    assert command("resume", "n1", *urls, "--notify-on", "finished,attention").exit_code in (0, 1)
    assert listener.titles == []  # it had finished
    assert [path for path, _ in listener.pings] == ["/p/start", "/p"]


def test_resume_refuses_a_password_in_any_of_its_urls() -> None:
    refused = command("resume", "n1", "--notify", "json://a.example", "--notify", "json://me:sesame99@a.example")
    assert (refused.exit_code, "TELEMETRON_NOTIFY" in refused.output, "sesame99" in refused.output) == (2, True, False)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--rate", "fast"], ["--nonsense"]])
def test_a_person_at_a_terminal_sees_a_usage_error_and_nobody_else_is_told(
    words: list[str], listener: Listener, place: Path
) -> None:
    told = {"TELEMETRON_NOTIFY": f"json://{listener.host}", "TELEMETRON_PING": f"http://{listener.host}/p"}
    program = OnTerminal([*PYTHON, "run", str(place / "rows.csv"), *words], columns=200, environment=told)
    assert program.finish() == 2
    assert "Error: " in program.written
    assert listener.heard == []


@pytest.mark.slow
def test_a_person_at_a_terminal_who_says_no_or_leaves_tells_nobody(listener: Listener, place: Path) -> None:
    told = {"TELEMETRON_NOTIFY": f"json://{listener.host}"}
    for answer in ("n\n", "\x04"):
        run = [*PYTHON, "run", str(place / "rows.csv"), "--sandbox", "--reports-dir", str(place)]
        program = OnTerminal(run, columns=200, environment=told)
        program.until(lambda text: "[y/N]" in text)
        program.type(answer)
        assert program.finish() == 2
        assert "Error: not confirmed; nothing was sent" in program.written
    assert listener.heard == []
