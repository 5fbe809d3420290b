"""A key that is replaced while a run is under way: it is read once more, and the run goes on with the new one."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.comparison.holdings import list_holdings
from telemetron_batch.comparison.lookup import LookupRequest, Surroundings
from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.key_source import KeySource
from telemetron_batch.domain.errors import ConfigError, QueryError, VerifyError
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.reports.summary import Summary
from telemetron_batch.run import pipeline
from telemetron_batch.run.check import check
from telemetron_batch.run.preview import preview_plan
from telemetron_batch.run.stored_config import continued_config
from telemetron_batch.storage.child_process import CommandFailedError
from tests.conftest import ENVIRON, KEY, Desk
from tests.support.keys import KeyGiver, KnowsKeys
from tests.support.scripted import BASE_URL, Event, Loses, Says, Seen

OLD, NEW = "old-key-of-the-tests-1", "new-key-of-the-tests-2"
CUSTOMERS = [(f"c{number}@x.com", f"SN-{number:03}", "assign") for number in range(20)]


def config_of(desk: Desk, giver: KeyGiver | KeySource, rows: Any = CUSTOMERS, **flags: Any) -> RunConfig:
    """Return the configuration of a run whose key a command gives."""
    options = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "r1", **flags}
    config = resolve([desk.file(rows)], options, {})
    return replace(config, key_source=giver if isinstance(giver, KeySource) else giver.source())


def run(desk: Desk, giver: KeyGiver | KeySource, rows: Any = CUSTOMERS, **flags: Any) -> Summary:
    config = config_of(desk, giver, rows, **flags)
    return pipeline.run(config, observer=desk.face, transport=desk.server, clock=desk.clock)


def attempts(desk: Desk, run_id: str = "r1") -> list[tuple[str, int | None]]:
    """Return how each attempt ended, by the journal."""
    path = desk.folder / "reports" / run_id / "journal.sqlite3"
    with sqlite3.connect(path) as journal:
        return journal.execute("SELECT verdict, status FROM attempts ORDER BY id").fetchall()


def all_text_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def rotated_after(requests: int) -> Callable[[Seen], Event]:
    """Return an API that takes the old key for some requests, and from then on only the new one."""
    old, new = KnowsKeys({OLD}), KnowsKeys({NEW})
    return lambda seen: old(seen) if seen.number <= requests else new(seen)


def test_a_run_goes_on_with_the_new_key(desk: Desk) -> None:
    giver = KeyGiver([OLD, NEW])
    desk.server.script = rotated_after(5)
    summary = run(desk, giver, concurrency="1")
    assert (summary.exit_code, giver.runs) == (ExitCode.DONE, 2)
    assert [seen.headers["x-api-key"] for seen in desk.server.seen] == [OLD] * 6 + [NEW] * 15
    assert desk.server.fleet.owners("SN-019") == {"c19@x.com"}


def test_eight_workers_that_are_refused_at_once_ask_for_one_new_key(desk: Desk) -> None:
    giver, api = KeyGiver([OLD, NEW]), KnowsKeys({NEW})
    desk.server.script, desk.server.latency = api, 5.0
    summary = run(desk, giver, concurrency="8", rate="1000/s")
    assert (summary.exit_code, giver.runs, len(api.refused)) == (ExitCode.DONE, 2, 8)


def test_a_refusal_of_the_key_counts_as_an_attempt_of_the_journal_but_not_against_the_call(desk: Desk) -> None:
    desk.server.script = KnowsKeys({NEW})
    summary = run(desk, KeyGiver([OLD, NEW]), CUSTOMERS[:1], attempts="1")
    assert summary.exit_code == ExitCode.DONE
    assert attempts(desk) == [("tryAgain", 401), ("answered", 200)]
    assert (summary.fields["attempts"], summary.fields["unclearAttempts"]) == (2, 0)


def test_the_same_key_again_ends_the_run_with_4(desk: Desk) -> None:
    giver = KeyGiver([OLD])
    desk.server.script = KnowsKeys({NEW})
    summary = run(desk, giver, concurrency="4")
    assert (summary.exit_code, giver.runs) == (ExitCode.CLIENT_REFUSED, 2)
    assert "--api-key-command gave the same key when asked again" in summary.fields["stop"]["reason"]
    assert set(summary.fields["counts"]) >= {"notSent"}
    assert summary.fields["counts"]["notSent"] == len(CUSTOMERS)


def test_a_new_key_that_is_refused_too_ends_the_run_with_4(desk: Desk) -> None:
    giver = KeyGiver([OLD, NEW])
    desk.server.script = KnowsKeys({"a third key"})
    summary = run(desk, giver)
    assert (summary.exit_code, giver.runs) == (ExitCode.CLIENT_REFUSED, 2)
    assert "gave another key, which is refused too" in summary.fields["stop"]["reason"]


def test_a_command_that_fails_when_it_is_asked_again_ends_the_run_with_4(desk: Desk) -> None:
    giver = KeyGiver([OLD, CommandFailedError("ended with exit status 7")])
    desk.server.script = KnowsKeys({NEW})
    summary = run(desk, giver)
    assert summary.exit_code == ExitCode.CLIENT_REFUSED
    assert "--api-key-command: the command ended with exit status 7" in summary.fields["stop"]["reason"]


def test_a_403_is_no_reason_to_ask_for_another_key(desk: Desk) -> None:
    giver = KeyGiver([OLD, NEW])
    desk.server.script = lambda _: Says(403, {"error": "Forbidden"})
    assert run(desk, giver).exit_code == ExitCode.CLIENT_REFUSED
    assert giver.runs == 1


@pytest.mark.parametrize("answer", ["", "two words", "schlüssel"])
def test_a_command_without_a_key_ends_the_command_with_2_and_leaves_no_folder(answer: str, desk: Desk) -> None:
    with pytest.raises(ConfigError) as refusal:
        run(desk, KeyGiver([answer]))
    assert refusal.value.exit_code == ExitCode.NOT_STARTED
    assert (desk.server.seen, (desk.folder / "reports").exists()) == ([], False)
    assert not answer or answer not in str(refusal.value)


def test_the_command_does_not_see_the_key_of_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRON_API_KEY", KEY)
    giver = KeyGiver([NEW])
    run(desk, giver)
    assert giver.environs == [{name: text for name, text in os.environ.items() if name != "TELEMETRON_API_KEY"}]


def test_neither_key_is_in_any_file_of_the_run(desk: Desk) -> None:
    def echo(seen: Seen) -> Event:
        key = seen.headers["x-api-key"]
        return Says(401 if key == OLD else 400, {"error": f"Bad key {key}, and SN is bad"})

    desk.server.script = echo
    run(desk, KeyGiver([OLD, NEW]), CUSTOMERS[:3])
    written = all_text_in(desk.folder / "reports")
    assert b"Bad key ***" in written
    assert OLD.encode() not in written
    assert NEW.encode() not in written


def test_a_lost_answer_before_the_rotation_stays_unclear(desk: Desk) -> None:
    rotated = rotated_after(1)
    desk.server.script = lambda seen: Loses() if seen.number == 1 else rotated(seen)
    summary = run(desk, KeyGiver([OLD, NEW]), CUSTOMERS[:1])
    assert (summary.exit_code, summary.fields["unclearAttempts"]) == (ExitCode.DONE, 1)


def test_a_key_file_is_read_once_more(desk: Desk) -> None:
    file = desk.folder / "key"
    file.write_text(OLD)
    file.chmod(0o600)
    knows = KnowsKeys({NEW})

    def script(seen: Seen) -> Event:
        file.write_text(NEW)
        return knows(seen)

    desk.server.script = script
    assert desk.run(CUSTOMERS, api_key_file=str(file)).summary.exit_code == ExitCode.DONE
    assert {seen.headers["x-api-key"] for seen in desk.server.seen} == {OLD, NEW}


def test_a_key_of_the_environment_is_refused_at_once(desk: Desk) -> None:
    desk.server.script = KnowsKeys({NEW})
    ran = desk.run(CUSTOMERS[:1])
    assert ran.summary.exit_code == ExitCode.CLIENT_REFUSED
    assert ran.json["stop"]["reason"] == "the API refuses this key (401: Invalid API key ***)"


# The identity of a run


def account_hash(desk: Desk, run_id: str) -> object:
    with sqlite3.connect(desk.folder / "reports" / run_id / "journal.sqlite3") as journal:
        return journal.execute("SELECT value FROM meta WHERE name = 'client'").fetchone()


def test_a_rotated_key_leaves_the_account_of_the_run_as_it_was(desk: Desk) -> None:
    run(desk, KeyGiver([OLD]), run_id="first")
    desk.server.script = KnowsKeys({NEW})
    rows = [*CUSTOMERS, ("d@x.com", "SN-100", "assign")]
    second = run(desk, KeyGiver([OLD, NEW]), rows, run_id="second", since_last=True)
    assert (second.exit_code, second.fields["counts"]["unchanged"]) == (ExitCode.DONE, len(CUSTOMERS))
    assert len(desk.server.seen) == len(CUSTOMERS) + 2
    assert account_hash(desk, "second") == account_hash(desk, "first")


def test_runs_of_a_long_lived_process_begin_with_the_key_of_the_day(desk: Desk) -> None:
    giver = KeyGiver([OLD, NEW])
    source = giver.source()
    run(desk, source.unread(), run_id="first")
    desk.server.script = KnowsKeys({NEW})
    run(desk, source.unread(), run_id="second", again=True)
    assert (giver.runs, len(desk.server.seen)) == (2, 2 * len(CUSTOMERS))


def test_sessions_of_one_run_share_their_pacer_over_a_rotation(desk: Desk) -> None:
    state = Path(os.environ["XDG_STATE_HOME"]) / "telemetron-batch"
    desk.server.script = KnowsKeys({NEW})
    assert run(desk, KeyGiver([OLD, NEW]), CUSTOMERS[:2], online=True).exit_code == ExitCode.DONE
    assert len([*state.glob("*.json")]) == 1


def test_with_an_organisation_the_next_night_with_the_new_key_is_of_the_same_job(desk: Desk) -> None:
    run(desk, KeyGiver([OLD]), run_id="first", organisation="acme")
    second = run(desk, KeyGiver([NEW]), run_id="second", organisation="acme", since_last=True)
    assert second.fields["counts"]["unchanged"] == len(CUSTOMERS)


# Other commands


def test_check_asks_for_another_key(desk: Desk) -> None:
    giver = KeyGiver([OLD, NEW])
    desk.server.script = KnowsKeys({NEW})
    assert check(config_of(desk, giver), transport=desk.server, clock=desk.clock).stop is None
    assert giver.runs == 2


def test_check_ends_with_4_for_the_same_key(desk: Desk) -> None:
    desk.server.script = KnowsKeys({NEW})
    stop = check(config_of(desk, KeyGiver([OLD])), transport=desk.server, clock=desk.clock).stop
    assert stop is not None
    assert stop.exit_code == ExitCode.CLIENT_REFUSED
    assert "gave the same key" in stop.sentence


def test_a_look_before_sending_goes_on_with_another_key(desk: Desk) -> None:
    giver = KeyGiver([OLD, NEW])
    desk.server.script = rotated_after(3)
    saved = preview_plan(config_of(desk, giver), desk.face, desk.clock, desk.server)
    assert saved.summary.preview is not None
    assert (saved.summary.preview.customers_not_known, giver.runs) == (0, 2)


def test_a_look_before_sending_ends_with_4_for_the_same_key(desk: Desk) -> None:
    desk.server.script = rotated_after(3)
    with pytest.raises(QueryError, match="gave the same key") as refusal:
        preview_plan(config_of(desk, KeyGiver([OLD])), desk.face, desk.clock, desk.server)
    assert refusal.value.exit_code == ExitCode.CLIENT_REFUSED


@pytest.mark.parametrize(("keys", "exit_code"), [([OLD, NEW], ExitCode.DONE), ([OLD], ExitCode.CLIENT_REFUSED)])
def test_verify_goes_on_with_another_key_or_ends_with_4(
    keys: list[str], exit_code: ExitCode, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(desk, KeyGiver([OLD]))
    desk.server.script = KnowsKeys({NEW})
    folder = desk.folder / "reports" / "r1"

    def with_command(*args: Any) -> RunConfig:
        return replace(continued_config(*args), key_source=KeyGiver(keys).source())

    monkeypatch.setattr(pipeline, "continued_config", with_command)
    try:
        ended = pipeline.verify(folder, ENVIRON, transport=desk.server, clock=desk.clock).exit_code
    except VerifyError as refusal:
        ended = refusal.exit_code
    assert ended == exit_code


@pytest.mark.parametrize("keys", [[OLD, NEW], [OLD]])
def test_holdings_goes_on_with_another_key_or_ends_with_4(keys: list[str], desk: Desk) -> None:
    desk.server.script = KnowsKeys({NEW})
    config = replace(config_of(desk, KeyGiver(keys)), files=())
    request = LookupRequest(config, desk.folder / "out.csv")
    surroundings = Surroundings(desk.face, desk.clock, desk.server)
    if len(keys) == 2:
        list_holdings(("a@x.com",), request, surroundings)
        assert (desk.folder / "out.csv").exists()
        return
    with pytest.raises(QueryError, match="gave the same key") as refusal:
        list_holdings(("a@x.com",), request, surroundings)
    assert refusal.value.exit_code == ExitCode.CLIENT_REFUSED


# What a journal knows of it


def test_a_command_in_a_journal_is_never_run(desk: Desk) -> None:
    giver = KeyGiver([OLD])
    run(desk, giver)
    folder = desk.folder / "reports" / "r1"
    with sqlite3.connect(folder / "journal.sqlite3") as journal:
        (text,) = journal.execute("SELECT value FROM meta WHERE name = 'options'").fetchone()
        forged = text[:-1] + ', "api_key_command": "touch ran"}'
        journal.execute("UPDATE meta SET value = ? WHERE name = 'options'", (forged,))
    config = continued_config(folder, {"TELEMETRON_BASE_URL": BASE_URL}, "resume r1")
    assert not config.key_source.is_given


def test_a_continued_run_takes_the_command_of_its_caller(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(OLD)
    file.chmod(0o600)
    folder = desk.run(CUSTOMERS, api_key_file=str(file)).folder
    environ = {"TELEMETRON_BASE_URL": BASE_URL, "TELEMETRON_API_KEY_COMMAND": f"echo {NEW}"}
    assert (
        continued_config(folder, environ, "resume r1").api_key == resolve([], {}, {"TELEMETRON_API_KEY": NEW}).api_key
    )


def test_a_continued_run_takes_the_command_of_the_profile_that_its_caller_names(desk: Desk, tmp_path: Path) -> None:
    profile = tmp_path / "telemetron-batch.toml"
    profile.write_text(f'[night]\napi-key-command = "echo {NEW}"\n')
    folder = desk.run(CUSTOMERS).folder
    environ = {
        "TELEMETRON_BASE_URL": BASE_URL,
        "TELEMETRON_CONFIG": str(profile),
        "TELEMETRON_PROFILE": "night",
    }
    assert continued_config(folder, environ, "resume r1").key_source.is_command
