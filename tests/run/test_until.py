"""The local time at which a run stops, counted from the first start of its run id."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import (
    BrakeError,
    InputError,
    LockedError,
    NotReadyError,
    QueryError,
    UntilPassedError,
)
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.run import pipeline
from telemetron_batch.run.save_plan import save_plan
from telemetron_batch.run.until import FIRST_START_FILE
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage.lock import Lock, LockOwner, key_fingerprint, lock_folders
from tests.conftest import ENVIRON, KEY, Desk, Ran
from tests.support.scripted import BASE_URL

ROWS = [(f"c{number}@x.com", f"SN-{number:03}", "assign") for number in range(50)]
SLOW = {"concurrency": "1", "rate": "1/min"}
"""Options with which the rows take nearly an hour."""
MISSING = "/nowhere/rows.csv"


def local_time_in(desk: Desk, seconds: float) -> str:
    """Return the local time of day some time from now; cut to the minute, so up to a minute earlier."""
    return f"{datetime.fromtimestamp(desk.clock.wall() + seconds):%H:%M}"


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.clock.monotonic += 30.0 - desk.clock.wall() % 60  # half a minute after a full minute
    return desk


def later(desk: Desk, hours: float) -> None:
    desk.clock.sleep_blocking(hours * 3600)


def stopped_run(desk: Desk, **flags: Any) -> Ran:
    """Return a run that its local time, ten minutes after its start, has stopped."""
    ran = desk.run(ROWS, until=local_time_in(desk, 600), **SLOW, **flags)
    assert ran.summary.exit_code == ExitCode.STOPPED
    return ran


def refused(work: Callable[[], Any]) -> str:
    with pytest.raises(UntilPassedError) as refusal:
        work()
    assert refusal.value.exit_code == ExitCode.STOPPED
    return str(refusal.value)


def test_a_run_stops_cleanly_at_its_local_time(desk: Desk) -> None:
    began = desk.clock.wall()
    ran = stopped_run(desk)
    assert 540 <= desk.clock.wall() - began < 660
    counts = ran.json["counts"]
    assert (counts["assigned"] + counts["notSent"], counts["assigned"]) == (50, len(desk.server.seen))
    assert 0 < counts["assigned"] < 15
    assert ran.json["stop"]["code"] == "deadline"
    assert ran.json["stop"]["reason"].startswith("the deadline of --until ")
    assert "add --until none to send the rest, then run the same command again" in ran.json["stop"]["advice"]


def test_a_later_try_ends_at_once_and_sends_nothing(desk: Desk) -> None:
    until = local_time_in(desk, 600)
    stopped_run(desk)
    sent = len(desk.server.seen)
    later(desk, 3)
    line = refused(lambda: desk.run(ROWS, until=until, **SLOW))
    assert f"--until {until} was over for run r1 at 20" in line
    assert "; add --until none to send the rest, then run the same command again" in line
    assert len(desk.server.seen) == sent


def test_resume_ends_at_once_too_and_none_lifts_the_time(desk: Desk) -> None:
    folder = stopped_run(desk).folder
    later(desk, 30)

    def resume(**variables: str) -> Any:
        environ = {**ENVIRON, **variables}
        config = pipeline.continued_config(folder, environ, "resume r1")
        return pipeline.run(config, transport=desk.server, clock=desk.clock)

    refused(resume)
    assert resume(TELEMETRON_UNTIL="none").exit_code == ExitCode.DONE


def test_without_the_option_the_rest_is_sent(desk: Desk) -> None:
    stopped_run(desk)
    later(desk, 3)
    assert desk.run(ROWS).summary.exit_code == ExitCode.DONE


def test_a_try_before_the_local_time_goes_on_until_then(desk: Desk) -> None:
    until = local_time_in(desk, 1800)
    first = desk.run(ROWS, until=until, deadline="5m", **SLOW)
    assert first.json["stop"]["reason"] == "the deadline has passed"
    second = desk.run(ROWS, until=until, **SLOW)
    assert second.json["stop"]["reason"] == f"the deadline of --until {until} has passed"
    assert 20 < second.json["counts"]["assigned"] < 35


def test_a_finished_run_reports_its_end_after_the_local_time_too(desk: Desk) -> None:
    until = local_time_in(desk, 3600)
    desk.run(ROWS, until=until)
    later(desk, 30)
    assert desk.run(ROWS, until=until).summary.exit_code == ExitCode.DONE


def test_of_deadline_and_local_time_the_earlier_one_stops_the_run(desk: Desk) -> None:
    ran = desk.run(ROWS, until=local_time_in(desk, 600), deadline="20m", **SLOW)
    assert "--until" in ran.json["stop"]["reason"]


def test_the_start_of_the_first_process_counts_not_that_of_the_last(desk: Desk) -> None:
    until = local_time_in(desk, 12 * 3600)
    desk.run(ROWS, until=until, deadline="5m", **SLOW)
    later(desk, 13)
    refused(lambda: desk.run(ROWS, until=until))


# Before there is a journal


def test_a_run_whose_input_did_not_come_until_then_does_not_wait_for_the_next_day(desk: Desk) -> None:
    until = local_time_in(desk, 3600)
    with pytest.raises(NotReadyError, match=r"\(--until\)"):
        desk.run(MISSING, until=until, wait_for_file="10h")
    later(desk, 0.5)
    refused(lambda: desk.run(MISSING, until=until, wait_for_file="10h"))
    refused(lambda: desk.run(ROWS, until=until))
    assert desk.server.seen == []


def test_the_note_of_the_first_start_does_not_block_the_next_try(desk: Desk) -> None:
    until = local_time_in(desk, 10 * 3600)
    with pytest.raises(NotReadyError):
        desk.run(MISSING, until=until, wait_for_file="1h")
    folder = desk.folder / "reports" / "r1"
    assert [path.name for path in folder.iterdir()] == [FIRST_START_FILE]
    assert desk.run(ROWS, until=until).summary.exit_code == ExitCode.DONE
    assert not (folder / FIRST_START_FILE).exists()


def test_a_damaged_note_counts_as_none(desk: Desk) -> None:
    folder = desk.folder / "reports" / "r1"
    folder.mkdir(parents=True, mode=0o700)
    for text in ("", "[]", '{"firstStartedAt": null}', "\x00"):
        (folder / FIRST_START_FILE).write_text(text)
        with pytest.raises(NotReadyError):
            desk.run(MISSING, until=local_time_in(desk, 10 * 3600), wait_for_file="1h")
        assert json.loads((folder / FIRST_START_FILE).read_text())["firstStartedAt"] > 0


def test_a_run_that_could_not_start_leaves_no_note_so_that_it_can_start_later(desk: Desk) -> None:
    until = local_time_in(desk, 600)
    with pytest.raises(InputError):
        desk.run(MISSING, until=until)
    with pytest.raises(BrakeError):
        desk.run(ROWS, until=until, min_rows="100")
    assert not (desk.folder / "reports" / "r1").exists()
    later(desk, 3)
    assert desk.run(ROWS, until=until).summary.exit_code == ExitCode.DONE


@pytest.fixture
def held_key() -> Iterator[None]:
    """Hold the lock of the key, as another run does."""
    file = lock_folders(None)[-1] / f"{key_fingerprint(BASE_URL, KEY)}.lock"
    lock = Lock.acquire(file, LockOwner(1, "now", "other"), "this base URL and key", shared=False)
    yield
    lock.release()


@pytest.mark.usefixtures("held_key")
def test_the_wait_for_another_run_ends_at_the_local_time(desk: Desk) -> None:
    until, began = local_time_in(desk, 3600), desk.clock.wall()
    refused(lambda: desk.run(ROWS, until=until, wait="10h"))
    assert desk.clock.wall() - began < 3700
    later(desk, 1)
    refused(lambda: desk.run(ROWS, until=until, wait="10h"))


@pytest.mark.usefixtures("held_key")
def test_a_lock_that_is_held_before_the_local_time_is_still_an_error_6(desk: Desk) -> None:
    with pytest.raises(LockedError):
        desk.run(ROWS, until=local_time_in(desk, 3600))


# Saved plans and shards


def test_a_saved_plan_counts_from_the_moment_at_which_it_is_first_sent(desk: Desk) -> None:
    until = local_time_in(desk, 3600)
    options = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "r1", "until": until}
    save_plan(resolve([desk.file(ROWS)], options, {}), clock=desk.clock)
    later(desk, 5)
    assert desk.run(desk.file(ROWS), until=until).summary.exit_code == ExitCode.DONE


def test_a_look_before_sending_counts_as_a_start(desk: Desk) -> None:
    until = local_time_in(desk, 600)
    with pytest.raises(QueryError, match="--until"):
        desk.run(ROWS, until=until, online=True, **SLOW)
    later(desk, 1)
    refused(lambda: desk.run(ROWS, until=until, online=True))


def test_shards_count_from_their_plan(desk: Desk) -> None:
    until = local_time_in(desk, 3600)
    options = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "r1"}
    key = {"TELEMETRON_API_KEY": KEY}
    plan_shards(resolve([desk.file(ROWS)], {**options, "shards": "2", "until": until}, key), clock=desk.clock)

    def make(shard: int, **flags: str) -> Any:
        config = resolve([], {**options, "shard": str(shard), **flags}, key)
        return run_shard(config, observer=desk.face, transport=desk.server, clock=desk.clock)

    later(desk, 0.75)
    stopped = make(1, concurrency="1", rate="2/min")
    assert (stopped.exit_code, stopped.fields["stop"]["code"]) == (ExitCode.STOPPED, "deadline")
    sent = len(desk.server.seen)
    assert 0 < sent < 20
    refused(lambda: make(2))
    assert len(desk.server.seen) == sent
    assert make(1, until="none").exit_code == make(2, until="none").exit_code == ExitCode.DONE
