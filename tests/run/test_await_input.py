"""The wait for an input that does not exist yet, or is still written to, on a clock that does not sleep."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import BatchError, ConfigError, InputError, NotReadyError
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.input import arrival
from telemetron_batch.run.await_input import await_input
from telemetron_batch.run.make_plan import make_plan
from telemetron_batch.run.save_plan import save_plan
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sharding.shard_plan import plan_shards
from tests.conftest import KEY, Desk
from tests.support.scripted import BASE_URL

TABLE = "customerEmail,deviceIdentifier,action\na@x.com,SN-1,assign\n"


@dataclass
class WorldClock:
    """A clock whose sleep does what happens in the world meanwhile, at its time."""

    events: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    at: float = 0.0
    longest_sleep: float = 0.0

    def wall(self) -> float:
        return 1_767_225_600.0 + self.at

    def uptime(self) -> float:
        return self.at

    def sleep_blocking(self, seconds: float) -> None:
        assert seconds > 0
        self.longest_sleep = max(self.longest_sleep, seconds)
        self.at += seconds
        for event in [one for one in self.events if one[0] <= self.at]:
            self.events.remove(event)
            event[1]()

    def run(self, main: Any) -> Any:
        raise NotImplementedError


class Listening(RunObserver):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_message(self, kind: str, text: str) -> None:
        self.messages.append(f"{kind}: {text}")


@pytest.fixture
def clock() -> WorldClock:
    return WorldClock()


@pytest.fixture
def observer() -> Listening:
    return Listening()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def config_of(*files: object, **flags: Any) -> RunConfig:
    return resolve([str(one) for one in files], {"base_url": BASE_URL, **flags}, {"TELEMETRON_API_KEY": KEY})


def wait(clock: WorldClock, *files: object, observer: RunObserver | None = None, **flags: Any) -> float:
    """Return the seconds after which the wait ended."""
    await_input(config_of(*files, **flags), clock, observer or RunObserver())
    return clock.at


def refusal(clock: WorldClock, *files: object, observer: RunObserver | None = None, **flags: Any) -> BatchError:
    with pytest.raises(BatchError) as refused:
        wait(clock, *files, observer=observer, **flags)
    assert "\n" not in str(refused.value)
    return refused.value


def test_nothing_is_waited_for_by_default(clock: WorldClock, file: Path) -> None:
    assert wait(clock, file) == 0


def test_a_file_that_is_there_is_not_waited_for(clock: WorldClock, file: Path) -> None:
    file.write_text(TABLE)
    assert wait(clock, file, wait_for_file="1h") == 0


def test_the_wait_ends_when_the_file_comes(clock: WorldClock, file: Path) -> None:
    clock.events = [(600, lambda: file.write_text(TABLE))]
    assert wait(clock, file, wait_for_file="1h") == 600


def test_a_file_that_does_not_come_ends_the_wait_with_3(clock: WorldClock, file: Path) -> None:
    error = refusal(clock, file, wait_for_file="1h")
    assert (error.exit_code, clock.at) == (ExitCode.STOPPED, 3600)
    advice = "nothing was sent; check the export, then run the same command again"
    assert str(error) == f"{file} did not come within 1 h 0 min; {advice}"


def test_without_time_to_come_a_missing_file_is_an_input_error(clock: WorldClock, file: Path) -> None:
    error = refusal(clock, file, settled_for="1m")
    assert (type(error), error.exit_code, clock.at) == (InputError, ExitCode.NOT_STARTED, 0)


def test_all_files_are_waited_for_and_the_missing_ones_named(clock: WorldClock, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.csv" for number in range(6)]
    files[0].write_text(TABLE)
    error = refusal(clock, *files, wait_for_file="10m")
    assert str(error).startswith(f"{files[1]}, {files[2]}, {files[3]} and 2 more did not come within 10 min 0 s")
    clock.at = 0.0
    clock.events = [(60.0 * number, lambda file=file: file.write_text(TABLE)) for number, file in enumerate(files)]
    assert wait(clock, *files, wait_for_file="10m") == 300


def test_an_empty_file_exists(clock: WorldClock, file: Path) -> None:
    file.touch()
    assert wait(clock, file, wait_for_file="1h") == 0
    assert wait(clock, file, wait_for_file="1h", settled_for="30s") == 30


def test_a_file_has_settled_after_so_long_without_a_change(clock: WorldClock, file: Path) -> None:
    file.write_text(TABLE)
    assert wait(clock, file, settled_for="5m") == 300


def append(file: Path) -> None:
    with file.open("a") as opened:
        opened.write("b@x.com,SN-2,assign\n")


def test_a_file_that_grows_has_to_settle_again(clock: WorldClock, file: Path) -> None:
    file.write_text(TABLE)
    clock.events = [(100, lambda: append(file)), (200, lambda: append(file))]
    assert wait(clock, file, wait_for_file="1h", settled_for="5m") == 500


def test_a_file_whose_time_alone_changes_has_to_settle_again(clock: WorldClock, file: Path) -> None:
    file.write_text(TABLE)
    clock.events = [(100, lambda: os.utime(file, (1, 1)))]
    assert wait(clock, file, wait_for_file="1h", settled_for="5m") == 400


def test_a_file_that_another_one_of_its_size_and_time_replaces_has_to_settle_again(
    clock: WorldClock, file: Path, tmp_path: Path
) -> None:
    def put_over() -> None:
        found, other = file.stat(), tmp_path / "other"
        other.write_text(TABLE.replace("SN-1", "SN-2"))
        os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
        other.replace(file)

    file.write_text(TABLE)
    clock.events = [(100, put_over)]
    assert wait(clock, file, wait_for_file="1h", settled_for="5m") == 400


def test_a_file_that_goes_away_while_it_settles_is_waited_for_again(clock: WorldClock, file: Path) -> None:
    file.write_text(TABLE)
    clock.events = [(100, file.unlink), (200, lambda: file.write_text(TABLE))]
    assert wait(clock, file, wait_for_file="1h", settled_for="5m") == 500


def test_a_file_that_comes_at_the_last_moment_has_time_to_settle(clock: WorldClock, file: Path) -> None:
    clock.events = [(3600, lambda: file.write_text(TABLE))]
    assert wait(clock, file, wait_for_file="1h", settled_for="5m") == 3900


def test_a_file_that_does_not_settle_ends_the_wait_with_3(clock: WorldClock, file: Path) -> None:
    file.write_text(TABLE)
    clock.events = [(60.0 * number, lambda: append(file)) for number in range(1, 100)]
    error = refusal(clock, file, wait_for_file="1h", settled_for="5m")
    assert (error.exit_code, clock.at) == (ExitCode.STOPPED, 3900)
    assert error.reason == f"{file} did not stay unchanged for 5 min 0 s within 1 h 5 min"


def test_a_pipe_cannot_settle_and_is_ready_when_it_exists(clock: WorldClock, file: Path) -> None:
    os.mkfifo(file)
    assert wait(clock, file, wait_for_file="1h", settled_for="5m") == 0


@pytest.mark.parametrize("option", ["wait_for_file", "settled_for"])
def test_standard_input_cannot_be_waited_for(option: str, clock: WorldClock) -> None:
    error = refusal(clock, "-", **{option: "1m"})
    assert (type(error), error.exit_code) == (ConfigError, ExitCode.NOT_STARTED)


def test_a_path_that_cannot_be_examined_is_an_error_at_once(clock: WorldClock, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refusal(clock, tmp_path / "loop", wait_for_file="1h").exit_code == ExitCode.NOT_STARTED
    assert clock.at == 0


# What else ends a wait


def test_the_deadline_ends_the_wait(clock: WorldClock, file: Path) -> None:
    error = refusal(clock, file, wait_for_file="2h", deadline="30m")
    assert (error.exit_code, clock.at) == (ExitCode.STOPPED, 1800)
    assert "did not come before the --deadline of 30 min 0 s" in str(error)


def test_the_wait_uses_up_the_deadline(clock: WorldClock, file: Path) -> None:
    clock.events = [(600, lambda: file.write_text(TABLE))]
    ready = await_input(config_of(file, wait_for_file="2h", deadline="30m"), clock, RunObserver())
    assert (ready.sending.deadline, ready.wait_for_file) == (1200, 0)


def test_the_local_time_of_the_end_ends_the_wait(clock: WorldClock, file: Path) -> None:
    config = config_of(file, wait_for_file="2h", until="06:00")
    config = replace(config, sending=replace(config.sending, until_at=clock.wall() + 600))
    with pytest.raises(NotReadyError, match=r"did not come until .* \(--until\)") as refused:
        await_input(config, clock, RunObserver())
    assert (refused.value.exit_code, clock.at) == (ExitCode.STOPPED, 600)


def test_an_interrupt_ends_the_wait_with_3(clock: WorldClock, file: Path) -> None:
    observer = RunObserver()
    observer.interrupt = interrupt = CancelToken()
    clock.events = [(60, lambda: interrupt.cancel("stopped"))]
    error = refusal(clock, file, wait_for_file="1h", observer=observer)
    assert (error.exit_code, clock.at) == (ExitCode.STOPPED, 60)
    assert str(error) == f"stopped while waiting for {file}, and nothing was sent; run the same command again"


# What is shown


def test_what_is_waited_for_is_shown_once_and_every_ten_minutes(
    clock: WorldClock, file: Path, observer: Listening
) -> None:
    clock.events = [(1500, lambda: file.write_text(TABLE))]
    wait(clock, file, wait_for_file="1h", settled_for="1m", observer=observer)
    told = [message.partition("; until")[0] for message in observer.messages]
    missing = f"waiting: {file} does not exist yet"
    assert told == [missing] * 3 + [f"waiting: {file} has to stay unchanged for 1 min 0 s"]


# Objects in a store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the states of objects by URL; an exception is raised."""
    states: dict[str, Any] = {}

    def find(url: str) -> Any:
        state = states.get(url)
        if isinstance(state, Exception):
            raise state
        return state

    monkeypatch.setattr(arrival, "find_state", find)
    return states


URL = "s3://exports/night.csv"


def test_an_object_is_waited_for_and_has_to_settle(
    clock: WorldClock, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.events = [(300, lambda: store.update({URL: ("1", "a")})), (340, lambda: store.update({URL: ("1", "b")}))]
    looks: list[float] = []
    find = arrival.find_state
    monkeypatch.setattr(arrival, "find_state", lambda url: looks.append(clock.at) or find(url))
    assert wait(clock, URL, wait_for_file="1h", settled_for="1m") == 400
    assert len(looks) == 41
    assert clock.longest_sleep == 1


def test_a_store_that_refuses_is_an_error_at_once(clock: WorldClock, store: dict[str, Any]) -> None:
    store[URL] = InputError("cannot be fetched (access is denied)")
    assert "access is denied" in str(refusal(clock, URL, wait_for_file="1h"))
    assert clock.at == 0


def test_a_store_that_fails_later_counts_as_an_object_that_is_not_there(
    clock: WorldClock, store: dict[str, Any]
) -> None:
    clock.events = [
        (60, lambda: store.update({URL: InputError("cannot be fetched (no connection)")})),
        (120, lambda: store.update({URL: ("1", "a")})),
    ]
    assert wait(clock, URL, wait_for_file="1h") == 120


# The commands that wait


def test_a_run_waits_and_then_sends(desk: Desk) -> None:
    path = desk.folder / "late.csv"
    sleep, slept = desk.clock.sleep_blocking, []

    def sleep_and_write(seconds: float) -> None:
        sleep(seconds)
        slept.append(seconds)
        if sum(slept) >= 60 and not path.exists():
            path.write_text(TABLE)

    desk.clock.sleep_blocking = sleep_and_write  # type: ignore[method-assign]
    assert desk.run(str(path), wait_for_file="1h", settled_for="30s").outcomes == ["assigned"]
    assert 89 < sum(slept) < 100


def test_a_run_whose_input_does_not_come_leaves_nothing_and_the_next_try_runs(desk: Desk) -> None:
    path = desk.folder / "late.csv"
    with pytest.raises(NotReadyError):
        desk.run(str(path), wait_for_file="1h")
    assert (desk.server.seen, (desk.folder / "reports").exists()) == ([], False)
    path.write_text(TABLE)
    assert desk.run(str(path), wait_for_file="1h").outcomes == ["assigned"]


def test_a_run_that_has_its_input_in_its_journal_waits_for_nothing(desk: Desk) -> None:
    path = desk.file(TABLE)
    desk.run(path)
    before = desk.clock.monotonic
    assert desk.run(path, wait_for_file="1h", settled_for="1h").outcomes == ["assigned"]
    assert desk.clock.monotonic - before < 3600


@pytest.mark.parametrize("command", [make_plan, save_plan, lambda config, clock: plan_shards(config, clock=clock)])
def test_plan_waits_in_all_its_forms(command: Callable[..., Any], desk: Desk) -> None:
    config = config_of(desk.folder / "late.csv", wait_for_file="1h", shards="2", reports_dir=str(desk.folder / "r"))
    with pytest.raises(NotReadyError):
        command(config, clock=desk.clock)
    assert not (desk.folder / "r").exists()
