"""The first line that a command writes, and commands that fail, hang, write too much or leave others behind."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from telemetron_batch.storage.child_process import CommandFailedError, OutputCommand


def shell(script: str, timeout_s: float = 10.0) -> OutputCommand:
    return OutputCommand(("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]}, timeout_s)


def refusal(command: OutputCommand) -> str:
    with pytest.raises(CommandFailedError) as failed:
        command.first_line()
    return str(failed.value)


def is_alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int) -> bool:
    """Return whether a process ends: the system takes a moment for what was killed."""
    for _ in range(200):
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_the_first_line_is_returned() -> None:
    assert shell("echo one; echo two").first_line() == b"one"


def test_a_line_needs_no_end() -> None:
    assert shell("printf one").first_line() == b"one"


def test_no_shell_interprets_the_arguments() -> None:
    assert OutputCommand(("echo", "$HOME;", "ls *"), dict(os.environ), 10.0).first_line() == b"$HOME; ls *"


def test_the_environment_is_the_one_that_is_given() -> None:
    assert OutputCommand(("/usr/bin/env",), {"ONLY": "this"}, 10.0).first_line() == b"ONLY=this"


def test_standard_input_is_empty() -> None:
    assert shell("cat; echo end").first_line() == b"end"


def test_an_exit_status_other_than_0_is_a_failure() -> None:
    assert refusal(shell("echo key; exit 3")) == "ended with exit status 3"


def test_an_end_by_a_signal_is_a_failure() -> None:
    assert refusal(shell("echo key; kill -9 $$")) == "was ended by signal 9"


def test_a_command_that_does_not_exist_is_a_failure(tmp_path: Path) -> None:
    assert refusal(OutputCommand((str(tmp_path / "no"),), {}, 1.0)) == "cannot be started (No such file or directory)"


def test_an_argument_that_the_system_refuses_is_a_failure() -> None:
    assert refusal(OutputCommand(("echo", "a\0b"), {}, 1.0)) == "cannot be started (an argument is not valid)"


def test_nothing_of_the_error_output_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert "secret" not in refusal(shell("echo secret >&2; exit 1"))
    assert capfd.readouterr() == ("", "")


def test_endless_output_ends_the_command() -> None:
    assert refusal(shell("exec yes key")) == "was ended by signal 13"


@pytest.mark.slow
def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; wait"
    assert refusal(shell(script, timeout_s=0.5)) == "took longer than 0.5 s"
    for name in ("child", "self"):
        assert ends(int((tmp_path / name).read_text()))


@pytest.mark.slow
def test_a_child_that_outlives_its_command_and_keeps_the_output_open_is_killed(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/child; echo key"
    assert refusal(shell(script, timeout_s=0.5)) == "took longer than 0.5 s"
    assert ends(int((tmp_path / "child").read_text()))


@pytest.mark.slow
def test_a_process_that_has_left_the_group_cannot_hold_up_the_end() -> None:
    code = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(20)"
    script = f"'{sys.executable}' -c '{code}'"
    assert refusal(shell(f"{script} & wait", timeout_s=1.0)) == "took longer than 1 s"


@pytest.mark.slow
def test_an_aborted_command_is_killed(tmp_path: Path) -> None:
    command = shell(f"echo $$ > {tmp_path}/self; exec sleep 300")
    threading.Timer(0.5, command.abort).start()
    assert refusal(command) == "was ended, because the run ends"
    assert ends(int((tmp_path / "self").read_text()))


def test_a_command_that_was_aborted_before_its_start_is_not_started(tmp_path: Path) -> None:
    command = shell(f"touch {tmp_path}/started")
    command.abort()
    assert refusal(command) == "was not started, because the run ends"
    assert not (tmp_path / "started").exists()
