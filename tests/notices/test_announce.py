"""The ends of runs, as those who listen hear them: each exactly once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.config.notices import NoticeOptions
from telemetron_batch.domain.errors import BatchError, ConfigError, LockedError
from telemetron_batch.domain.model import Secret
from telemetron_batch.journal.layout import LOCK_NAME
from telemetron_batch.notices.announce import Audience, CommandEnd, announced
from telemetron_batch.notices.deliveries import Deliveries
from telemetron_batch.run import pipeline
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.lock import Lock, LockOwner
from tests.conftest import ENVIRON, KEY, Desk, FakeClock, Ran
from tests.support.listeners import Listener, listening
from tests.support.listening import free_port
from tests.support.scripted import Says

A, B = "ann@x.com", "bob@x.com"
GOOD = [(A, "SN-1", "assign")]
MIXED = [(A, "SN-1", "assign"), ("nobody", "SN-2", "assign")]
PATH = "/ping/0a1b2c3d4e5f"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as one:
        yield one


class Ears(RunObserver):
    """Collects messages; a person answers no to all questions if `answers_no`."""

    def __init__(self, *, answers_no: bool = False, is_attended: bool = False) -> None:
        self.lines: list[str] = []
        self._answers_no, self._is_attended = answers_no, is_attended

    @property
    def is_attended(self) -> bool:
        return self._is_attended

    @property
    def asks(self) -> bool:
        return self._answers_no

    def confirm_plan(self, plan: object) -> bool:  # noqa: ARG002
        return not self._answers_no

    def on_message(self, kind: str, text: str) -> None:
        self.lines.append(f"{kind}: {text}")


def told(desk: Desk, rows: Any, listener: Listener, **flags: Any) -> Ran:
    """Run, and tell everything to the listener."""
    options = {
        "notify": (f"json://me:sesame99@{listener.host}/hook",),
        "notify_on": "attention,stopped,refused,finished",
        "ping": f"http://{listener.host}{PATH}?team=erp",
        "metrics": str(desk.folder / "t.prom"),
    }
    return desk.run(rows, **{**options, **flags})


def pings(listener: Listener) -> list[tuple[str, str]]:
    """What the pings added to their URL, and their bodies."""
    return [(path.removeprefix(PATH).removesuffix("?team=erp"), body) for path, body in listener.pings]


def exit_code_metric(desk: Desk) -> str:
    [line] = [
        one for one in (desk.folder / "t.prom").read_text().splitlines() if one.startswith("telemetron_batch_exit")
    ]
    return line.rpartition(" ")[2]


def test_a_finished_run_is_told_once_and_its_repetition_pings_only(desk: Desk, listener: Listener) -> None:
    told(desk, GOOD, listener)
    assert listener.titles == ["telemetron-batch: r1: The one row is where it should be"]
    assert pings(listener) == [("/start", ""), ("", "0")]
    written = {path.name: path.read_bytes() for path in (desk.folder / "reports" / "r1").iterdir()}
    told(desk, GOOD, listener)
    assert len(listener.titles) == 1
    assert pings(listener)[2:] == [("/start", ""), ("", "0")]
    assert exit_code_metric(desk) == "0.0"
    after = {path.name: path.read_bytes() for path in (desk.folder / "reports" / "r1").iterdir()}
    assert after == written


def test_rows_that_want_attention_are_told_with_their_causes_and_without_addresses(
    desk: Desk, listener: Listener
) -> None:
    told(desk, [*MIXED, (B, "SN-UNKNOWN", "unassign")], listener, ping_fail_on="attention")
    [message] = listener.messages
    assert "2 want attention" in message["title"]
    assert "Why rows want attention:\n- 1 " in message["message"]
    assert str(desk.folder / "reports/r1/report.html") in message["message"]
    for secret in ("ann@x.com", "bob@x.com", "nobody", "SN-2", "SN-UNKNOWN"):
        assert secret not in str(message)
    assert pings(listener) == [("/start", ""), ("/fail", "1")]


def test_details_are_told_only_if_wanted(desk: Desk, listener: Listener) -> None:
    told(desk, MIXED, listener, notify_details=True)
    assert "line 3, nobody, SN-2" in listener.messages[0]["message"]


def test_a_run_that_the_api_stops_and_its_continuation_are_two_ends(desk: Desk, listener: Listener) -> None:
    desk.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    assert told(desk, GOOD, listener).summary.exit_code == 4
    desk.server.script = lambda _: None
    assert told(desk, GOOD, listener).summary.exit_code == 0
    assert [title.partition(" (")[0] for title in listener.titles] == [
        "telemetron-batch: r1 was refused: the API refuses this key",
        "telemetron-batch: r1: The one row is where it should be",
    ]
    assert pings(listener) == [("/start", ""), ("/fail", "4"), ("/start", ""), ("", "0")]


def test_a_brake_before_sending_is_told(desk: Desk, listener: Listener) -> None:
    with pytest.raises(BatchError):
        told(desk, GOOD, listener, min_rows="5")
    assert listener.titles == ["telemetron-batch: r1 was refused: the input has 1 rows, fewer than --min-rows 5"]
    assert pings(listener) == [("/start", ""), ("/fail", "2")]
    assert exit_code_metric(desk) == "2.0"


def test_a_missing_input_is_told(desk: Desk, listener: Listener) -> None:
    with pytest.raises(BatchError):
        told(desk, str(desk.folder / "missing.csv"), listener)
    assert "there is no such file" in listener.titles[0]


def test_an_empty_input_is_finished_with_its_own_code(desk: Desk, listener: Listener) -> None:
    assert told(desk, [], listener, empty_exit_code="99").summary.exit_code == 99
    assert listener.titles == ["telemetron-batch: r1: The input has no rows; nothing was sent"]
    assert pings(listener) == [("/start", ""), ("", "99")]


def test_a_brake_on_the_way_is_a_stop(desk: Desk, listener: Listener) -> None:
    desk.server.script = lambda _: Says(404, {"error": "Customer not found"})
    rows = [(A, f"SN-{number}", "unassign") for number in range(5)]
    assert told(desk, rows, listener, max_failed="0").summary.exit_code == 5
    assert [title.partition(": 5")[0] for title in listener.titles] == ["telemetron-batch: r1 stopped"]
    assert pings(listener)[-1] == ("/fail", "5")
    assert exit_code_metric(desk) == "5.0"


def test_a_run_that_another_process_has_is_told_by_that_process(desk: Desk, listener: Listener) -> None:
    folder = desk.folder / "reports" / "r1"
    folder.mkdir(parents=True, mode=0o700)
    held = Lock.acquire(folder / LOCK_NAME, LockOwner(1, "now", "r1"), "the run")
    with pytest.raises(LockedError):
        told(desk, GOOD, listener)
    held.release()
    assert (listener.titles, pings(listener)) == ([], [("/start", ""), ("/fail", "6")])


class Patient(RunObserver):
    """Looks again by itself, as a task of Airflow."""

    looks_again = True


def test_a_command_that_looks_again_tells_no_failure_meanwhile(desk: Desk, listener: Listener) -> None:
    folder = desk.folder / "reports" / "r1"
    folder.mkdir(parents=True, mode=0o700)
    desk.face = Patient()
    held = Lock.acquire(folder / LOCK_NAME, LockOwner(1, "now", "r1"), "the run")
    with pytest.raises(LockedError):
        told(desk, GOOD, listener)
    held.release()
    assert (listener.titles, pings(listener)) == ([], [("/start", "")])


def test_a_no_to_the_question_is_no_news(desk: Desk, listener: Listener) -> None:
    desk.face = Ears(answers_no=True, is_attended=True)
    with pytest.raises(BatchError, match="not confirmed"):
        told(desk, GOOD, listener)
    assert listener.titles == []


def test_a_no_to_the_question_whether_to_repeat_is_no_news(desk: Desk, listener: Listener) -> None:
    told(desk, GOOD, listener)
    desk.face = Ears(answers_no=True, is_attended=True)
    with pytest.raises(BatchError, match="already processed"):
        told(desk, GOOD, listener, run_id="r2")
    assert len(listener.titles) == 1
    desk.face = Ears()
    with pytest.raises(BatchError, match="already processed"):
        told(desk, GOOD, listener, run_id="r2")
    assert "r2 was refused: run r1 has already processed exactly this content" in listener.titles[1]


def test_a_missing_key_is_told_unless_a_person_sees_it(desk: Desk, listener: Listener) -> None:
    flags = {
        "reports_dir": str(desk.folder),
        "notify": (f"json://{listener.host}",),
        "base_url": "http://127.0.0.1:9/x",
    }
    config = resolve([desk.file(GOOD)], flags, {})
    for observer in (Ears(), Ears(is_attended=True)):
        with pytest.raises(ConfigError, match="no API key"):
            pipeline.run(config, observer=observer, clock=desk.clock)
    assert listener.titles == ["telemetron-batch: rows-20260101T000000Z was refused: there is no API key"]


def test_a_bug_is_told_and_stays_an_exception(desk: Desk, listener: Listener) -> None:
    class Broken(RunObserver):
        def confirm_plan(self, plan: object) -> bool:
            raise RuntimeError(f"ann@x.com {plan}")

    desk.face = Broken()
    with pytest.raises(RuntimeError):
        told(desk, GOOD, listener)
    assert listener.titles == ["telemetron-batch: r1 was refused: an error of the program ended it (RuntimeError)"]
    assert pings(listener) == [("/start", ""), ("/fail", "7")]


def test_resume_tells_to_the_urls_of_its_own_environment(desk: Desk, listener: Listener) -> None:
    desk.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    ran = told(desk, GOOD, listener, notify_on="finished", metrics=None)
    with listening() as other:
        with pytest.raises(BatchError):
            pipeline.resume(
                ran.folder, {**ENVIRON, "TELEMETRON_NOTIFY": f"json://{other.host}", "TELEMETRON_PROXY": "x"}
            )
        assert len(other.titles) == 1
        assert "TELEMETRON_PROXY" in other.titles[0]
    assert listener.titles == []


def test_the_api_key_reaches_nobody(desk: Desk, listener: Listener) -> None:
    told(desk, MIXED, listener, notify_details=True)
    with pytest.raises(BatchError):
        told(desk, [(A, KEY, "assign")], listener, run_id="r2", expect_rows="7")
    told(desk, [("nobody", KEY, "assign")], listener, run_id="r3", notify_details=True)
    heard = "".join(f"{one.path}{one.headers}{one.body}" for one in listener.heard)
    assert len(listener.heard) == 9
    assert KEY not in heard
    assert "x-api-key" not in heard


def test_records_hold_scheme_and_host_of_urls_only(desk: Desk, listener: Listener) -> None:
    ran = told(desk, MIXED, listener)
    for path in ran.folder.iterdir():
        assert b"sesame99" not in path.read_bytes(), path
        assert b"0a1b2c3d4e5f" not in path.read_bytes(), path
    assert ran.json["options"]["notify"] == [f"json://{listener.host}"]
    assert ran.json["options"]["ping"] == f"http://{listener.host}"


def test_what_was_sent_is_in_the_log_of_the_run(desk: Desk, listener: Listener) -> None:
    log = (told(desk, MIXED, listener).folder / "run.log").read_text()
    for notice in ("ping /start to http://", "message to json://", "ping to http://", "metrics in "):
        assert f'"text": "sent: {notice}' in log


def test_notices_that_fail_are_warnings_and_change_nothing(desk: Desk) -> None:
    desk.face = ears = Ears()
    nowhere = f"127.0.0.1:{free_port()}"
    ran = desk.run(
        GOOD,
        notify=(f"json://me:sesame99@{nowhere}/hook",),
        notify_on="finished",
        ping=f"http://{nowhere}{PATH}",
        metrics=str(desk.folder / "missing" / "t.prom"),
    )
    assert ran.summary.exit_code == 0
    warnings = [line for line in ears.lines if "failed" in line]
    assert [line.partition(" failed: ")[0] for line in warnings] == [
        f"warning: ping /start to http://{nowhere}",
        f"warning: message to json://{nowhere} (r1)",
        f"warning: ping to http://{nowhere}",
        f"warning: metrics in {desk.folder}/missing/t.prom",
    ]
    log = (ran.folder / "run.log").read_text()
    assert log.count('"level": "warning"') == 4
    assert "sesame99" not in "".join(ears.lines) + log


def audience(listener: Listener, limit_s: float, observer: RunObserver) -> Audience:
    options = NoticeOptions(ping=Secret(f"http://{listener.host}/p"), notify=(Secret(f"json://{listener.host}"),))
    return Audience(options, resolve((), {}, {}).sending.network, tuple, observer, FakeClock(), Deliveries(limit_s))


@pytest.mark.slow
def test_servers_that_hang_delay_the_end_no_longer_than_the_limit() -> None:
    ears = Ears()
    with (
        listening(hangs=True) as listener,
        pytest.raises(BatchError, match="no such"),
        announced(audience(listener, 0.3, ears), CommandEnd("r1")),
    ):
        raise BatchError("no such run")
    assert [line.partition(" failed: ")[2] for line in ears.lines] == ["not sent within 0.3 s"] * 3


def test_a_redirect_is_a_warning(desk: Desk) -> None:
    desk.face = ears = Ears()
    with listening() as elsewhere, listening(status=301, location=f"http://{elsewhere.host}/x") as listener:
        desk.run(GOOD, ping=f"http://{listener.host}{PATH}")
        assert elsewhere.heard == []
    assert [line for line in ears.lines if "redirects elsewhere (HTTP 301)" in line] == ears.lines[-2:]


@pytest.mark.parametrize(("option", "extra"), [("notify", "notify"), ("metrics", "metrics")])
def test_a_missing_library_is_refused_with_the_command_that_installs_it(
    option: str, extra: str, desk: Desk, monkeypatch: pytest.MonkeyPatch, listener: Listener
) -> None:
    from importlib import util

    monkeypatch.setattr(util, "find_spec", lambda _: None)
    value = (f"json://{listener.host}",) if option == "notify" else str(desk.folder / "t.prom")
    with pytest.raises(ConfigError) as refused:
        desk.run(GOOD, **{option: value, "ping": f"http://{listener.host}{PATH}"})
    assert f"pip install 'telemetron-batch[{extra}]'" in str(refused.value)
    assert (PATH + "/fail", "2") in listener.pings
    assert not (desk.folder / "reports" / "r1").exists()


def test_a_url_that_apprise_cannot_use_is_refused_before_anything_is_sent(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"Apprise cannot use the URL nosuch://\*\*\*"):
        desk.run(GOOD, notify=("nosuch://sesame99",))
    assert desk.server.seen == []


def test_without_these_options_nothing_is_started(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Deliveries, "begin", fail)
    assert desk.run(GOOD).summary.exit_code == 0


def test_a_failure_to_tell_is_no_failure_of_the_run(desk: Desk, listener: Listener, monkeypatch: Any) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("counts")

    monkeypatch.setattr("telemetron_batch.notices.text.compose", fail)
    desk.face = ears = Ears()
    assert told(desk, GOOD, listener).summary.exit_code == 0
    assert ears.lines[-1] == "warning: the end of the run was not told (KeyError)"


def test_the_log_of_a_run_is_closed_at_its_end(desk: Desk, listener: Listener) -> None:
    ran = told(desk, GOOD, listener)
    assert isinstance(ran.folder, Path)
    assert not [one for one in Path("/proc/self/fd").iterdir() if one.is_symlink() and str(ran.folder) in _target(one)]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
