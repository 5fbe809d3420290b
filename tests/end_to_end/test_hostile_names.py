"""Names and texts from outside never control the terminal, in the output of any command."""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.domain.printable import IGNORABLE, is_printable, json_text, printable
from tests.support.ptys import OnTerminal
from tests.support.sheets import BOOK, packed, parts, row, sheet

TITLE = "\x1b]0;PWNED\x07"
NAME = f"a{TITLE}\x1b[31m\x9b32m\u202e\u2066[red]:skull:\nError\u034f"
"""Title and colours of a terminal by C0 and C1, text turned around, markup of our own library, a line of its own."""
ROWS = "customerEmail,deviceIdentifier,action,note\na@x.com,SN-1,assign,x\nb@x.com,SN-2,unassign,y\n"


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that runs a command, checks that its output is printable, and returns it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def invoke(*arguments: str, code: int | None = None) -> str:
        result = CliRunner().invoke(main, arguments)
        assert is_printable(result.output.replace("\n", "")), ascii(result.output)
        assert "Error\u034f" not in result.output
        assert result.exit_code not in {7, *([] if code is None else {*range(8)} - {code})}, result.output
        return result.output

    return invoke


def sandbox_run(shown: Callable[..., str], file: str, *more: str) -> str:
    return shown("run", file, "--sandbox", "--yes", "--reports-dir", "reports", "--run-id", "x", *more)


@pytest.fixture
def hostile_file(tmp_path: Path) -> str:
    path = tmp_path / f"{NAME}.csv"
    path.write_text(ROWS)
    return str(path)


@pytest.mark.parametrize("more", [(), ("--json",), ("-v",)])
def test_the_name_of_a_file_is_shown_printable(shown: Callable[..., str], hostile_file: str, more: tuple[str]) -> None:
    assert r"\x1b]0;PWNED" in shown("plan", hostile_file, *more).replace(r"\u001b", r"\x1b")
    sandbox_run(shown, hostile_file, *more)


def test_no_output_of_a_run_contains_a_control_character(
    shown: Callable[..., str], hostile_file: str, tmp_path: Path
) -> None:
    sandbox_run(shown, hostile_file)
    for name in ("run.log", "summary.json", "report.html"):
        text = (tmp_path / "reports" / "x" / name).read_text("utf-8")
        assert is_printable(text.replace("\n", "")), name
    assert json.loads((tmp_path / "reports" / "x" / "summary.json").read_text())["input"]["name"] == f"{NAME}.csv"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_texts_of_journal_and_lease_are_shown_printable(
    shown: Callable[..., str], hostile_file: str, tmp_path: Path, more: tuple[str]
) -> None:
    sandbox_run(shown, hostile_file)
    folder = tmp_path / "reports" / "x"
    with sqlite3.connect(folder / "journal.sqlite3") as journal:
        (text,) = journal.execute("select value from meta where name='summary'").fetchone()
        summary = json.loads(text)
        summary["startedAt"] = NAME
        journal.execute("update meta set value=? where name='summary'", (json.dumps(summary),))
    (folder / "run.lease.1").write_text(
        json.dumps({"pid": 1, "since": NAME, "run": NAME, "host": NAME, "boot": "another", "apart": 0})
    )
    (folder / "run.lease.1").chmod(0o600)
    shown("runs", "--reports-dir", "reports", *more)
    (folder / "run.lease.1").unlink()
    shown("runs", "--reports-dir", "reports", *more)
    shown("report", str(folder))
    shown("resume", str(folder), "--yes")


def test_the_list_of_runs_has_one_line_for_each_run(shown: Callable[..., str], hostile_file: str) -> None:
    sandbox_run(shown, hostile_file)
    assert len(shown("runs", "--reports-dir", "reports").splitlines()) == 2


@pytest.mark.slow
def test_names_are_shown_printable_on_a_terminal(shown: Callable[..., str], hostile_file: str, tmp_path: Path) -> None:
    sandbox_run(shown, hostile_file)
    for command in (["runs", "--reports-dir", str(tmp_path / "reports")], ["plan", hostile_file]):
        program = OnTerminal([sys.executable, "-m", "telemetron_batch", *command], environment={"COLUMNS": "200"})
        assert program.finish() == 0
        assert r"\x1b]0;PWNED" in program.written
        assert not {TITLE, "\x9b", "\u202e", "\u2066", "\u034f"} & {
            *program.written,
            TITLE * (TITLE in program.written),
        }


def test_the_name_of_a_folder_is_shown_printable(shown: Callable[..., str], hostile_file: str, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    shown("run", hostile_file, "--sandbox", "--yes", "--reports-dir", str(folder), "--run-id", "x")
    shown("runs", "--reports-dir", str(folder))
    (folder / "x").rename(folder / NAME)
    shown("runs", "--reports-dir", str(folder))
    shown("report", str(folder / NAME))
    shown("report", str(folder / f"not {NAME}"), code=2)


def test_headers_and_cells_are_shown_printable(shown: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    odd = NAME.replace("\n", " ")
    path.write_text(f'"{odd}","{odd}2","{odd}3"\na@x.com,"SN-{odd}",assign\n"{odd}",SN-2,"{odd}"\n')
    shown("plan", str(path), code=2)
    column = [f"--column=customerEmail={odd}", f"--column=deviceIdentifier={odd}2", f"--column=action={odd}3"]
    shown("plan", str(path), *column, code=0)
    sandbox_run(shown, str(path), *column)
    page = (tmp_path / "reports" / "x" / "report.html").read_text("utf-8")
    assert is_printable(page.replace("\n", ""))


def test_names_of_sheets_are_shown_printable(shown: Callable[..., str], tmp_path: Path) -> None:
    odd = "a\x85\x9b31m\u202e"
    content = parts(sheet(row(2, "a@b.cc", "SN-1", "assign")))
    content[BOOK] = content[BOOK].replace('name="', f'name="{odd}', 1)
    path = tmp_path / "rows.xlsx"
    packed(path, content)
    shown("plan", str(path), "--sheet", odd, code=2)
    shown("plan", str(path))


def test_profiles_and_their_keys_are_shown_printable(shown: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "p.toml").write_text('["a\\u001b[31m\\u202e"]\n"b\\u009b" = 1\n')
    for name in ("nobody\x1b[31m", "a\x1b[31m\u202e"):
        shown("plan", "rows.csv", "--config", "p.toml", "--profile", name, code=2)
    (tmp_path / "\x1b[31m.toml").write_text("x = \x1b")
    shown("plan", "rows.csv", "--config", "\x1b[31m.toml", code=2)
    shown("init", "rows.csv", "--profile", "b\x1b[31m", "--config", "\x1b[32m.toml")


@pytest.mark.parametrize("command", ["run", "plan", "resume", "report", "verify", "runs", "check", "init", "\x1b[31m"])
def test_wrong_arguments_are_shown_printable(shown: Callable[..., str], command: str) -> None:
    shown(command, f"--{NAME}", NAME, code=2)
    shown(command, NAME, NAME)


def test_invisible_characters_are_escaped() -> None:
    for sign in ("\x1b", "\x7f", "\x85", "\u202e", "\u061c", "\u034f", "\ufe0f", "\u3164", "\U000e0041", "\udc80"):
        assert is_printable(printable(sign))
        assert printable(f"a{sign}b") == f"a{ascii(sign)[1:-1]}b"
        assert is_printable(json_text([sign]))
        assert json.loads(json_text({sign: sign})) == {sign: sign}
    assert printable("é 😀 ñ 東京 ß\u0301") == "é 😀 ñ 東京 ß\u0301"
    assert json_text({"a": [1, "é"]}, indent=2) == '{\n  "a": [\n    1,\n    "é"\n  ]\n}'
    assert len(IGNORABLE) > 1
