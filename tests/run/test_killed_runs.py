"""A killed run is told once, by the next command of its job, to the URLs of that command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.journal.facts_reader import FactsReader
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.run import pipeline
from tests.conftest import ENVIRON, Desk
from tests.support.listeners import Listener, listening
from tests.support.scripted import Says, Seen

ROWS = [("ann@x.com", "SN-1", "assign")]
OTHER_ROWS = [("ann@x.com", "SN-2", "assign")]


class Death(BaseException):
    """The process is no more."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as one:
        yield one


def killed(desk: Desk, run: str, name: str = "erp-1.csv", **flags: Any) -> Path:
    """Let a run die while its call is under way, and return its folder, as a killed process leaves it."""

    def die(_: Seen) -> Says:
        raise Death

    desk.server.script = die
    with suppress(BaseExceptionGroup):
        desk.run(desk.file(ROWS, name), run_id=run, **flags)
    desk.server.script = lambda _: None
    folder = desk.folder / "reports" / run
    for told in folder.glob(".told-*"):
        told.unlink()
    with closing(FactsReader(folder / JOURNAL_NAME)) as journal:
        assert (journal.fact("endedAt"), journal.has_attempts()) == (None, True)
    return folder


def run(desk: Desk, listener: Listener, run: str, name: str = "erp-2.csv", **flags: Any) -> None:
    path = desk.file(OTHER_ROWS, name)
    desk.run(path, **{"run_id": run, "notify": (f"json://{listener.host}",), "notify_on": "stopped", **flags})


def test_the_next_night_tells_it_once(desk: Desk, listener: Listener) -> None:
    folder = killed(desk, "n1")
    run(desk, listener, "n2")
    [message] = listener.messages
    assert message["title"] == "telemetron-batch: n1 stopped: its process was killed, or the machine went down"
    assert f"What to do: run telemetron-batch resume {folder} --base-url http" in message["message"]
    run(desk, listener, "n3", "erp-3.csv", again=True)
    assert len(listener.messages) == 1


def test_the_command_that_continues_it_tells_it_and_then_its_end(desk: Desk, listener: Listener) -> None:
    folder = killed(desk, "n1")
    environ = {"TELEMETRON_NOTIFY": f"json://{listener.host}", "TELEMETRON_NOTIFY_ON": "stopped,finished"}
    base_url = ENVIRON["TELEMETRON_BASE_URL"]
    with pytest.raises(BatchError):
        pipeline.resume(folder, {"TELEMETRON_BASE_URL": base_url, **environ})  # without a key
    assert [title.partition(" stopped")[0] for title in listener.titles] == ["telemetron-batch: n1"]
    assert "it continues now" in listener.messages[0]["message"]
    desk.run(
        desk.file(ROWS, "erp-1.csv"), run_id="n1", notify=(f"json://{listener.host}",), notify_on="stopped,finished"
    )
    assert len(listener.titles) == 2
    assert "The one row is where it should be" in listener.titles[1]


def test_a_run_that_is_killed_twice_is_told_twice(desk: Desk, listener: Listener) -> None:
    killed(desk, "n1")
    run(desk, listener, "n2")
    desk.clock.sleep_blocking(60)
    killed(desk, "n1")
    run(desk, listener, "n3", "erp-3.csv", again=True)
    assert [title.startswith("telemetron-batch: n1 stopped") for title in listener.titles] == [True, True]


@pytest.mark.parametrize(
    "flags",
    [
        {"job": "another"},
        {"organisation": "another"},
        {"notify_on": "refused"},
        {"base_url": "http://127.0.0.1:9/other"},
    ],
)
def test_other_jobs_and_unwanted_kinds_tell_nothing(flags: dict[str, str], desk: Desk, listener: Listener) -> None:
    killed(desk, "n1")
    with suppress(BatchError):
        run(desk, listener, "n2", **flags)
    assert [title for title in listener.titles if "n1" in title] == []


def test_a_run_that_ended_by_an_error_was_not_killed(desk: Desk, listener: Listener) -> None:
    def die(_: Seen) -> Says:
        raise Death

    desk.server.script = die
    with suppress(BaseExceptionGroup):
        desk.run(desk.file(ROWS, "erp-1.csv"), run_id="n1")
    desk.server.script = lambda _: None
    run(desk, listener, "n2")
    assert listener.titles == []


def test_a_command_that_never_began_to_work_leaves_the_kill_to_the_next(desk: Desk, listener: Listener) -> None:
    folder = killed(desk, "n1")
    desk.clock.sleep_blocking(60)
    with pytest.raises(BatchError):
        pipeline.resume(folder, {"TELEMETRON_BASE_URL": ENVIRON["TELEMETRON_BASE_URL"]}, clock=desk.clock)
    run(desk, listener, "n2")
    assert [title.startswith("telemetron-batch: n1 stopped") for title in listener.titles] == [True]


@pytest.mark.parametrize("others", [{"notify": ()}, {"notify_on": "refused"}])
def test_a_command_that_tells_no_stops_leaves_the_kill_to_the_next(
    others: dict[str, Any], desk: Desk, listener: Listener
) -> None:
    killed(desk, "n1")
    run(desk, listener, "n2", ping=f"http://{listener.host}/p", **others)
    run(desk, listener, "n3", "erp-3.csv", again=True)
    assert [title.startswith("telemetron-batch: n1 stopped") for title in listener.titles] == [True]


def test_a_damaged_journal_and_strange_folders_do_not_keep_a_run_from_starting(desk: Desk, listener: Listener) -> None:
    folder = killed(desk, "n1")
    (folder / JOURNAL_NAME).write_bytes(b"garbage")
    (desk.folder / "reports" / "file").write_text("")
    (desk.folder / "reports" / "empty").mkdir()
    run(desk, listener, "n2", notify_on="stopped,finished")
    assert len(listener.titles) == 1


@pytest.mark.slow
def test_a_run_killed_by_the_system_is_told_by_the_next_night(tmp_path: Path) -> None:
    (tmp_path / "erp-1.csv").write_text("customerEmail,deviceIdentifier,action\nann@x.com,SN-1,assign\n")
    command = [sys.executable, "-m", "telemetron_batch", "run", "erp-1.csv", "--run-id"]
    with listening(hangs=True) as api, listening() as listener:
        job = {"TELEMETRON_JOB": "night", "TELEMETRON_BASE_URL": f"http://{api.host}/api/ext-v1"}
        environ = {**os.environ, **job, "TELEMETRON_API_KEY": "key", "XDG_STATE_HOME": str(tmp_path)}
        with subprocess.Popen([*command, "n1"], cwd=tmp_path, env=environ) as first:
            while not api.heard and first.poll() is None:
                time.sleep(0.05)
            first.kill()
        api.hangs, api.status = False, 401
        environ["TELEMETRON_NOTIFY"] = f"json://{listener.host}"
        second = subprocess.run([*command, "n2"], cwd=tmp_path, env=environ, check=False)
    assert (first.returncode, second.returncode) == (-signal.SIGKILL, 4)
    assert [title.partition(":")[2].partition(":")[0] for title in listener.titles] == [
        " n1 stopped",
        " n2 was refused",
    ]
