"""Completion in real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.cli.completion import SHELLS

BIN = Path(sys.executable).parent
needs_bash = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a file, a folder and two runs."""
    (tmp_path / "export of may.csv").touch()
    (tmp_path / "elsewhere").mkdir()
    for run in ("night-1", "night-2"):
        (tmp_path / "reports" / run).mkdir(parents=True)
        (tmp_path / "reports" / run / "journal.sqlite3").touch()
    (tmp_path / "home").mkdir()
    return tmp_path


def shell(folder: Path, name: str, script: str) -> str:
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder / "home"), "LC_ALL": "C.UTF-8"}
    command = [name, *{"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}[name], script]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=60
    )
    assert ended.stderr == ""
    return ended.stdout


def in_bash(folder: Path, line: str) -> list[str]:
    """Return what bash offers at the end of a line: our words, or `compopt` with the kind of path."""
    words = line.split(" ")
    script = f"""
        eval "$(telemetron-batch completion bash)"
        compopt() {{ echo "shell: $2"; }}
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words) - 1}
        _telemetron_batch_completion telemetron-batch
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return shell(folder, "bash", script).split()


@needs_bash
def test_commands_are_completed(desk: Path) -> None:
    assert set(in_bash(desk, "telemetron-batch r")) == {"run", "runs", "report", "resume"}


@needs_bash
def test_options_are_completed(desk: Path) -> None:
    assert set(in_bash(desk, "telemetron-batch run --max-")) == {
        "--max-failed",
        "--max-skipped",
        "--max-unassign",
        "--max-new-customers",
        "--max-age",
    }


@needs_bash
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("run x.csv --action un", ["unassign"]),
        ("run x.csv --tolerate SK", ["skipped"]),
        ("run x.csv --delimiter s", ["semicolon"]),
        ("resume n", ["night-1", "night-2"]),
        ("report night-2", ["night-2"]),
        ("completion z", ["zsh"]),
        ("run ex", ["shell:", "default"]),
        ("plan x.csv ex", ["shell:", "default"]),
        ("run x.csv --api-key-file k", ["shell:", "default"]),
        ("run x.csv --config t", ["shell:", "default"]),
        ("run x.csv --reports-dir r", ["shell:", "dirnames"]),
        ("resume reports/n", ["shell:", "dirnames"]),
        ("run x.csv --run-id n", []),
    ],
)
def test_known_values_are_completed(desk: Path, line: str, offered: list[str]) -> None:
    assert in_bash(desk, f"telemetron-batch {line}") == offered


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh_completes_with_the_script(desk: Path) -> None:
    script = """
        autoload -U compinit; compinit -u -D; eval "$(telemetron-batch completion zsh)"
        compadd() { print -l -- "${completions[@]}"; }
        _describe() { print -l -- "${completions_with_descriptions[@]}"; }
        _path_files() { echo "files: $@"; }
        words=(telemetron-batch run --tolerate skip); CURRENT=4; _telemetron_batch_completion
        words=(telemetron-batch run --max-f); CURRENT=3; _telemetron_batch_completion
        words=(telemetron-batch run ex); CURRENT=3; _telemetron_batch_completion
    """
    offered = shell(desk, "zsh", script).splitlines()
    assert "skipped" in offered
    assert any(line.startswith("--max-failed") for line in offered)
    assert "files: -f" in offered


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish")
@pytest.mark.parametrize(
    ("line", "offered"),
    [("re", {"report", "resume"}), ("run x.csv --action un", {"unassign"}), ("run exp", {"export of may.csv"})],
)
def test_fish_completes_with_the_script(desk: Path, line: str, offered: set[str]) -> None:
    script = f"telemetron-batch completion fish | source; complete -C 'telemetron-batch {line}'"
    assert {answer.split("\t")[0] for answer in shell(desk, "fish", script).splitlines()} == offered


@pytest.mark.parametrize("name", SHELLS)
def test_every_shell_gets_a_script(name: str) -> None:
    ended = CliRunner().invoke(main, ["completion", name])
    assert ended.exit_code == 0
    assert "_TELEMETRON_BATCH_COMPLETE" in ended.stdout


def test_an_unsupported_shell_is_a_one_line_error() -> None:
    ended = CliRunner().invoke(main, ["completion", "tcsh"])
    assert ended.exit_code == 2
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.count("\n") == 1
