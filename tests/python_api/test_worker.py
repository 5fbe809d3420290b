"""Where the work runs, what reaches the caller while it runs, and how it is interrupted."""

import asyncio
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import telemetron_batch as tb
from telemetron_batch.domain.stops import StopReason
from telemetron_batch.python_api.worker import WorkerObserver, run_in_thread
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import Assigned, SandboxState
from telemetron_batch.storage.log import LOGGER

A = "ann@example.com"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def frame(devices: int = 2, prefix: str = "A") -> pd.DataFrame:
    return pd.DataFrame(
        {"customerEmail": A, "deviceIdentifier": [f"{prefix}{at}" for at in range(devices)], "action": "assign"}
    )


def test_progress_is_called_in_the_thread_of_the_caller_and_ends_with_the_end() -> None:
    seen: list[tb.Progress] = []
    threads: set[int] = set()

    def show(progress: tb.Progress) -> None:
        seen.append(progress)
        threads.add(threading.get_ident())

    result = tb.run(frame(4), sandbox=True, chunk_size=2, on_progress=show)
    last = seen[-1]
    assert threads == {threading.get_ident()}
    assert [one.is_over for one in seen] == [False] * (len(seen) - 1) + [True]
    assert (last.done, last.total, last.unit, last.fraction, last.is_down) == (2, 2, "calls", 1.0, False)
    assert last.outcomes == {"assigned": result.summary.counts["assigned"]} == {"assigned": 4}
    assert str(last).startswith("2 of 2 calls, took")


def test_progress_is_shown_of_looks_and_verifications_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRON_API_KEY", "key")
    units: list[tuple[str, int]] = []

    def show(progress: tb.Progress) -> None:
        units.append((progress.unit, progress.total))

    with SandboxState() as state, serve_in_thread(state, api_key="key") as url:
        tb.plan(frame(), base_url=url, online=True, run_id="r", on_progress=show)
        assert {*units} == {("customers", 1)}
        tb.resume("r", base_url=url)
        units.clear()
        tb.verify("r", base_url=url, on_progress=show)
        assert {*units} == {("customers", 1)}


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt(), SystemExit(3)])
def test_what_progress_raises_stops_the_run_cleanly_and_is_raised_again(error: BaseException) -> None:
    def fail(_: tb.Progress) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        tb.run(frame(6), sandbox=True, run_id="r", chunk_size=1, rate="1/h", on_progress=fail)
    assert caught.value is error
    summary = tb.report("r").summary
    assert summary.stop is not None
    assert summary.stop["code"] == StopReason.INTERRUPTED
    assert f"stopped by {type(error).__name__}" in summary.stop["reason"]
    assert summary.counts["notSent"] >= 5
    assert error.__notes__[0].startswith("telemetron_batch has ended: ")


def test_an_interrupt_before_anything_was_sent_sends_nothing() -> None:
    def work(observer: WorkerObserver) -> bool:
        observer.interrupt.cancel("stopped")
        return observer.confirm_plan(None)  # type: ignore[arg-type]

    assert run_in_thread(work) is False


def test_a_second_interrupt_does_not_wait_for_the_end_of_the_work() -> None:
    release = threading.Event()
    ended = threading.Event()

    def work(observer: WorkerObserver) -> None:
        observer._show(None)  # type: ignore[misc, arg-type]
        with observer.interrupt.on_cancel(lambda: signal.raise_signal(signal.SIGINT)):
            release.wait(30)
        ended.set()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_thread(_first_progress(work), interrupt)
    assert not ended.is_set()
    release.set()
    assert ended.wait(30)


def _first_progress(work: Any) -> Any:
    """Return work that shows some progress first; what it shows does not matter."""

    def with_progress(observer: WorkerObserver) -> Any:
        show = observer._show
        assert show is not None
        observer._show = lambda _: show("progress")  # type: ignore[arg-type]
        return work(observer)

    return with_progress


def test_an_exception_of_the_work_is_raised_in_the_caller() -> None:
    def work(_: WorkerObserver) -> None:
        raise LookupError("bug")

    with pytest.raises(LookupError, match="bug"):
        run_in_thread(work)


def test_all_functions_work_inside_a_running_event_loop() -> None:
    async def cell() -> list[int]:
        plan = tb.plan(frame(), sandbox=True, save=True, run_id="r")
        results = [tb.resume(plan), tb.report("r"), tb.run(frame(3), sandbox=True)]
        await asyncio.sleep(0)  # the caller's own loop still works
        return [result.exit_code for result in results]

    assert asyncio.run(cell()) == [0, 0, 0]


def test_a_loop_that_must_not_wait_calls_run_in_a_thread() -> None:
    async def cell() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        result = await asyncio.to_thread(tb.run, frame(), sandbox=True)
        ticking.cancel()
        return result.exit_code, ticks

    exit_code, ticks = asyncio.run(cell())
    assert exit_code == 0
    assert ticks > 1


def test_runs_in_several_threads_at_once_keep_their_results_and_logs_apart() -> None:
    level = LOGGER.level
    together = threading.Barrier(3)

    def one(name: str) -> tb.Result:
        together.wait(30)
        return tb.run(frame(5, name), sandbox=True, run_id=name, chunk_size=1, rate="100/s")

    with ThreadPoolExecutor(3) as pool:
        results = [*pool.map(one, ("x", "y", "z"))]
    for result, name in zip(results, ("x", "y", "z"), strict=True):
        assert result.reconciliation()["deviceIdentifier"].tolist() == [f"{name}{at}" for at in range(5)]
        log = (result.folder / "run.log").read_text()
        assert f"run {name}:" in log
        assert log.count('"run ') == log.count("ended: exit code 0") == 1
    assert LOGGER.level == level
    assert not [one for one in LOGGER.handlers if not isinstance(one, logging.NullHandler)]


def test_two_threads_with_one_key_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRON_API_KEY", "key")
    may_answer = threading.Event()

    class Waiting(SandboxState):
        def assign(self, email: str, devices: Iterable[str], *, create: bool = False) -> Assigned | None:
            may_answer.wait(20)
            return super().assign(email, devices, create=create)

    with Waiting() as state, serve_in_thread(state, api_key="key") as url:
        refused: list[tb.BatchError] = []

        def other(_: tb.Progress) -> None:
            if not refused:
                with pytest.raises(tb.BatchError) as caught:
                    tb.run(frame(2, "B"), base_url=url, run_id="other")
                refused.append(caught.value)
                may_answer.set()

        tb.run(frame(), base_url=url, run_id="first", on_progress=other)
    assert refused[0].exit_code == 6
    assert "is in use by process" in refused[0].reason


def test_handlers_of_signals_stay_as_they_are() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    seen: list[list[Any]] = []

    def look(_: tb.Progress) -> None:
        seen.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])

    tb.run(frame(), sandbox=True, on_progress=look)
    assert seen
    assert all(one == handlers for one in seen)


def test_messages_of_a_run_are_logged_without_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    def work(observer: WorkerObserver) -> None:
        observer.on_message("warning", "bad \x1b[31m")
        observer.on_message("waiting", "for a lock")
        observer.on_message("pause", "which the session logs itself")

    with caplog.at_level(logging.INFO, "telemetron_batch"):
        run_in_thread(work)
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("WARNING", "bad \\x1b[31m"),
        ("INFO", "for a lock"),
    ]


SCRIPT = """
import pandas as pd, telemetron_batch as tb
frame = pd.DataFrame({"customerEmail": "a@example.com", "deviceIdentifier": [f"A{n}" for n in range(50)]})
print("began", flush=True)
try:
    show = lambda progress: print(progress.done, flush=True)
    tb.run(frame, sandbox=True, action="assign", run_id="r", chunk_size=1, rate="5/s", on_progress=show)
except KeyboardInterrupt as exc:
    print("interrupted", tb.report("r").summary.state, *exc.__notes__, flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        yield process
        process.kill()


@pytest.mark.slow
def test_ctrl_c_in_a_program_stops_the_run_cleanly(program: "subprocess.Popen[str]") -> None:
    assert program.stdout is not None
    for line in program.stdout:
        if line.strip().isdigit() and int(line) >= 2:
            break
    program.send_signal(signal.SIGINT)
    output, errors = program.communicate(timeout=60)
    assert "interrupted stopped telemetron_batch has ended: " in output
    assert errors == ""
    assert program.returncode == 0


@pytest.mark.slow
def test_a_killed_program_loses_nothing(program: "subprocess.Popen[str]", tmp_path: Path) -> None:
    assert program.stdout is not None
    for line in program.stdout:
        if line.strip().isdigit() and int(line) >= 2:
            break
    program.kill()
    program.wait()
    result = tb.resume(tmp_path / "reports" / "r")
    assert result.exit_code == 0
    assert result.summary.counts["assigned"] + result.summary.counts["alreadyAssigned"] == 50


def test_a_stop_of_the_api_is_a_result_and_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRON_API_KEY", "wrong")
    with SandboxState() as state, serve_in_thread(state, api_key="right") as url:
        result = tb.run(frame(), base_url=url, run_id="r")
    assert result.exit_code == 4
    assert isinstance(result.summary.stop, dict)
