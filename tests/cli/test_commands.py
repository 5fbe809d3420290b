"""The commands: messages, exit codes, and standard output and error."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from telemetron_batch.cli.commands import main
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState

ROWS = "customerEmail,deviceIdentifier,action\na@x.com,SN-1,assign\na@x.com,SN-2,assign\na@x.com,,assign\n"


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return str(path)


def call(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], env=environment)


def run(rows: str, *arguments: object, **environment: str) -> Result:
    reports = Path(rows).parent / "reports"
    return call("run", rows, "--sandbox", "--reports-dir", reports, "--run-id", "r", *arguments, **environment)


def test_the_exit_code_is_that_of_the_run(rows: str) -> None:
    ended = run(rows)
    assert ended.exit_code == 1
    assert "2 of 3 rows are where they should be; 1 want attention." in ended.stdout
    assert "attention.csv" in ended.stdout


def test_messages_go_to_standard_error_and_results_to_standard_output(rows: str) -> None:
    ended = run(rows)
    assert "3 rows: 2 devices of 1 customer in 1 call" in ended.stderr
    assert 'customerEmail is "customerEmail"' in ended.stderr
    assert "3 rows: 2 devices" not in ended.stdout


def test_with_json_standard_output_is_one_line(rows: str) -> None:
    ended = run(rows, "--json")
    assert ended.stdout.count("\n") == 1
    assert json.loads(ended.stdout)["counts"]["invalid"] == 1


def test_quiet_prints_one_line_if_rows_want_attention(rows: str) -> None:
    ended = run(rows, "--quiet")
    path = Path(rows).parent / "reports" / "r" / "attention.csv"
    expected = f"r: 2 of 3 rows are where they should be; 1 want attention; {path}\n"
    assert (ended.stdout, ended.stderr) == ("", expected)


def test_quiet_prints_nothing_if_all_rows_are_settled(rows: str) -> None:
    Path(rows).write_text("customerEmail,deviceIdentifier,action\na@x.com,SN-1,assign\n")
    ended = run(rows, "--quiet")
    assert (ended.exit_code, ended.output) == (0, "")


def test_quiet_names_the_run_that_stopped(rows: str) -> None:
    text = "".join(f"u{number}@x.com,SN-{number},assign\n" for number in range(3))
    Path(rows).write_text(f"customerEmail,deviceIdentifier,action\n{text}")
    ended = run(rows, "--quiet", "--rate", "1/s", "--deadline", "1s")
    assert ended.exit_code == 3
    stopped, which = ended.stderr.splitlines()
    assert stopped.startswith("Stopped: the deadline has passed")
    assert which.startswith("r: ")
    assert which.endswith(f" want attention; {Path(rows).parent / 'reports' / 'r' / 'attention.csv'}")


def test_a_repeated_finished_run_has_the_same_exit_code(rows: str) -> None:
    assert run(rows).exit_code == run(rows).exit_code == 1


def test_report_writes_the_files_again(rows: str) -> None:
    run(rows)
    folder = Path(rows).parent / "reports" / "r"
    before = (folder / "reconciliation.csv").read_bytes()
    (folder / "reconciliation.csv").unlink()
    assert call("report", folder).exit_code == 1
    assert call("report", "r", "--reports-dir", folder.parent, "--json").exit_code == 1
    assert (folder / "reconciliation.csv").read_bytes() == before


def test_resume_of_a_finished_run_sends_nothing(rows: str) -> None:
    run(rows)
    assert call("resume", "r", "--reports-dir", Path(rows).parent / "reports").exit_code == 1


def test_a_missing_run_is_a_one_line_error(tmp_path: Path) -> None:
    ended = call("report", "nowhere", "--reports-dir", tmp_path)
    assert ended.exit_code == 2
    assert ended.stderr == f"Error: there is no run in {tmp_path / 'nowhere'}; name its id or its folder\n"


def test_plan_prints_tables_and_writes_nothing(rows: str) -> None:
    ended = call("plan", rows)
    assert ended.exit_code == 0
    assert "empty key cell" in ended.stdout
    assert [path.name for path in Path(rows).parent.iterdir()] == ["rows.csv"]


def test_plan_prints_json(rows: str) -> None:
    plan = json.loads(call("plan", rows, "--json", "--rate", "2/s").stdout)
    assert (plan["rows"], plan["calls"], plan["devices"], plan["invalid"]) == (3, 1, 2, 1)
    assert plan["stages"] == [{"stage": 2, "action": "assign", "calls": 1, "devices": 2}]
    assert plan["problems"] == [{"problem": "empty key cell", "rows": 1, "firstLines": [4]}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "fast"], "--rate: 'fast' is not a rate"),
        (["--chunk-size", "0"], "--chunk-size: '0' is not a whole number of at least 1"),
        (["--base-url", "http://example.com"], "--base-url: 'http://example.com' would send the key unencrypted"),
        (["--column", "serial=X"], "--column: there is no column 'serial'"),
        (["--profile", "nightly"], "telemetron-batch.toml"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(
    rows: str, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = call("run", rows, *arguments)
    assert ended.exit_code == 2
    assert ended.stderr.count("\n") == 1
    assert words in ended.stderr


def test_a_missing_column_lists_the_headers_found(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Kunde;Serial;Movement\na@x.com;S1;assign\n")
    ended = call("plan", path)
    assert ended.exit_code == 2
    assert "Kunde" in ended.stderr
    assert "--column" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_verbose_adds_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in call("plan", tmp_path / "none.csv", "-v").stderr


def test_an_empty_file_has_its_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("customerEmail,deviceIdentifier,action\n")
    assert run(str(path)).exit_code == 2
    assert run(str(path), "--empty-exit-code", "99").exit_code == 99


def test_plan_gives_an_empty_file_the_same_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS.splitlines()[0])
    assert call("plan", path).exit_code == 2
    assert call("plan", path, "--allow-empty").exit_code == 0
    assert call("plan", path, "--empty-exit-code", "99").exit_code == 99


def test_refused_options_are_named_as_flags(rows: str) -> None:
    run(rows)
    ended = run(rows, "--column", "action=action", "--action-word", "RET=unassign", "--chunk-size", "7")
    assert ended.exit_code == 2
    assert "other options (--action-word, --chunk-size, --column)" in ended.stderr


def test_options_come_from_the_environment_too(rows: str) -> None:
    ended = run(rows, "--json", TELEMETRON_TOLERATE="invalid", TELEMETRON_CHUNK_SIZE="1")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout)["calls"] == 2


def test_an_unknown_variable_is_a_warning(rows: str) -> None:
    assert "TELEMETRON_CHUNKSIZE" in run(rows, TELEMETRON_CHUNKSIZE="1").stderr


def test_a_bad_rate_of_the_sandbox_is_one_line() -> None:
    ended = call("sandbox", "--rate", "often")
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)


def test_check_needs_a_key() -> None:
    ended = call("check")
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)


def test_check_reports_an_unreachable_api() -> None:
    ended = call("check", "--base-url", "http://127.0.0.1:9/api", "--json", TELEMETRON_API_KEY="some-key")
    assert ended.exit_code == 3
    assert json.loads(ended.stdout)["ok"] is False
    assert ended.stderr.startswith("Error: the API cannot be reached")
    assert ended.output.endswith(ended.stdout)  # JSON is the last output


def test_check_reports_success() -> None:
    with SandboxState() as fleet, serve_in_thread(fleet) as base_url:
        ended = call("check", "--base-url", base_url, TELEMETRON_API_KEY="some-key")
    there, proxy, seconds = ended.stdout.splitlines()
    assert (ended.exit_code, there, proxy) == (0, f"{base_url} is there, and it accepts this key.", "proxy: none")
    assert re.fullmatch(r"time: DNS \d+ ms, connect \d+ ms, answer \d+ ms", seconds)


def test_check_names_the_proxy_without_its_credentials(tmp_path: Path) -> None:
    url = tmp_path / "proxy"
    url.write_text("http://me:hunter2@127.0.0.1:9")
    url.chmod(0o600)
    ended = call("check", "--proxy", f"@{url}", "--json", TELEMETRON_API_KEY="some-key")
    told = json.loads(ended.stdout)
    assert (ended.exit_code, told["proxy"]) == (3, "http://127.0.0.1:9 (--proxy)")
    assert "the proxy cannot be reached" in told["reason"]
    assert "hunter2" not in ended.output


@pytest.mark.parametrize("option", ["--proxy=http://me:hunter2@proxy:3128", "--limit-url=redis://:hunter2@host/0"])
def test_a_password_in_a_url_is_no_argument(option: str) -> None:
    ended = call("run", "rows.csv", option)
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert "@FILE" in ended.stderr
    assert "hunter2" not in ended.output


def test_a_file_with_the_url_of_the_proxy_that_others_can_read_is_refused(tmp_path: Path) -> None:
    url = tmp_path / "proxy"
    url.write_text("http://me:hunter2@127.0.0.1:9")
    url.chmod(0o644)
    ended = call("check", "--proxy", f"@{url}", TELEMETRON_API_KEY="some-key")
    assert ended.exit_code == 2
    assert f"chmod 600 {url}" in ended.stderr


def test_standard_input_can_be_the_input(tmp_path: Path) -> None:
    arguments = ["run", "-", "--sandbox", "--reports-dir", str(tmp_path), "--run-id", "r"]
    ended = CliRunner().invoke(main, arguments, input=ROWS)
    assert ended.exit_code == 1
    assert CliRunner().invoke(main, arguments, input=ROWS).exit_code == 1
    changed = CliRunner().invoke(main, arguments, input=ROWS + "b@x.com,SN-9,assign\n")
    assert (changed.exit_code, "another input" in changed.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["run"], ["run", "x.csv", "--nope"], ["frobnicate"], ["completion"]])
def test_a_usage_error_is_one_line(arguments: list[str]) -> None:
    ended = call(*arguments)
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert "--help" in ended.stderr


def test_without_a_command_the_help_is_shown() -> None:
    ended = call()
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Usage: ")
    assert "Commands:" in ended.stderr


def test_help_shows_default_durations_with_units() -> None:
    text = " ".join(call("run", "--help").stdout.split())
    assert "has been down for this long. [default: 15m]" in text
    assert "Total deadline for each attempt. [default: 30]" in text
    assert "last full run is older. [default: 7d]" in text


def test_with_json_an_error_is_one_line_of_json(tmp_path: Path) -> None:
    ended = call("run", tmp_path / "none.csv", "--sandbox", "--json", "--reports-dir", tmp_path / "r")
    assert json.loads(ended.stdout)["exitCode"] == ended.exit_code == 2


def test_control_characters_of_a_binary_file_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\x1b[31mred,\x07bell\n\x1b[2J\n")
    assert "\x1b" not in call("plan", tmp_path / "x.csv").stderr


# In shards


def shards_of(rows: str, base_url: str, *arguments: object) -> Result:
    where = ("--base-url", base_url, "--reports-dir", Path(rows).parent / "reports", "--run-id", "r")
    return call(*arguments, *where, TELEMETRON_API_KEY="some-key")


def test_a_sharded_run_is_planned_run_and_reported(rows: str) -> None:
    with SandboxState() as fleet, serve_in_thread(fleet) as base_url:
        planned = shards_of(rows, base_url, "plan", rows, "--shards", 2)
        assert "telemetron-batch run --run-id r --shard N" in planned.stdout
        expected = json.loads(shards_of(rows, base_url, "plan", rows, "--shards", 2, "--json").stdout)
        assert (expected["runId"], expected["shardsAtOnce"]) == ("r", 2)
        assert [shard["callsByPhase"] for shard in expected["shards"]] == [
            {"unassign": 0, "assign": 1},
            {"unassign": 0, "assign": 0},
        ]
        one = shards_of(rows, base_url, "run", "--shard", 1)
        assert (one.exit_code, one.stdout) == (0, "Shard 1 of 2: 1 of 1 call settled, 2 assigned\n")
        two = shards_of(rows, base_url, "run", "--shard", 2, "--json")
        assert json.loads(two.stdout)["callsSettled"] == 0
    ended = call("report", "r", "--reports-dir", Path(rows).parent / "reports")
    assert ended.exit_code == 1
    assert "2 of 3 rows are where they should be; 1 want attention." in ended.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run",), "Missing argument 'FILE...'"),
        (("run", "FILE", "--shard", 1, "--run-id", "r"), "a shard takes no FILE"),
        (("run", "--shard", 1), "--shard needs --run-id; name the run"),
        (("run", "FILE", "--phase", "assign"), "--phase needs --shard"),
        (("run", "FILE", "--shards", 3), "plan the run in shards"),
        (("run", "--shard", 1, "--run-id", "none"), "there is no run in"),
        (("plan", "FILE", "--shards", 3, "--sandbox"), "--sandbox is for one process"),
    ],
)
def test_wrong_combinations_of_shard_options_are_refused(rows: str, words: tuple[object, ...], expected: str) -> None:
    arguments = (rows if word == "FILE" else word for word in words)
    ended = call(*arguments, "--reports-dir", Path(rows).parent / "reports", TELEMETRON_API_KEY="some-key")
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert expected in ended.stderr


STRUCK = """
import os, runpy, sys

number, at, sys.argv[1:] = int(sys.argv[1]), sys.argv[2], sys.argv[3:]

def hook(event, told):
    global number
    if number and event in ("import", "open") and str(told[0]).endswith(at):
        number = os.kill(os.getpid(), number)

sys.addaudithook(hook)
runpy.run_module("telemetron_batch", run_name="__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "at",
    [
        "click",
        "telemetron_batch.config.options",
        "telemetron_batch.run.pipeline",
        "pyarrow",
        "telemetron_batch.cli.terminal",
        ".reconciliation.csv.new",
    ],
)
def test_a_signal_before_or_after_sending_exits_with_code_3(rows: str, number: signal.Signals, at: str) -> None:
    command = [sys.executable, "-c", STRUCK, str(int(number)), at, "run", rows, "--sandbox", "--quiet"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(rows).parent, timeout=60, check=False)
    assert ended.returncode == 3
    if at == ".reconciliation.csv.new":  # the run was begun, under a generated id
        assert re.fullmatch(r"Stopped\. Run telemetron-batch resume rows-\w+\.\n", ended.stderr)
    else:
        assert ended.stderr in ("Stopped.\n", "Stopped. Run the same command again.\n")
    assert ended.stdout == ""
