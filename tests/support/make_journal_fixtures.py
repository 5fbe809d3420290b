"""Makes the journals that are checked in below `tests/journals/`: `python -m tests.support.make_journal_fixtures`.

    python -m tests.support.make_journal_fixtures              make the states that the current schema has no fixture of
    python -m tests.support.make_journal_fixtures STATE ...    make these of the current schema again
    python -m tests.support.make_journal_fixtures --expected   keep all journals; write again what is expected of them

Every state is made in a process of its own, over the virtual clock and the scripted server of the tests. A process that
is to be killed kills itself. Journals come out alike each time but for what SQLite decides: the salts of a write-ahead
log, and which writes share a commit.

A journal that a released version wrote is never made again. After a change of the schema, commit the fixtures of the
new schema beside those of the older ones.
`--expected` is for a deliberate change of a text or of a column; its diff shows what changes for stored journals.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import httpx2

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import BatchError, DiskError
from telemetron_batch.journal import create, journal
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.schema import SCHEMA_VERSION
from telemetron_batch.reports.summary import Summary
from telemetron_batch.run import pipeline
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from telemetron_batch.storage import clock
from tests.conftest import FakeClock
from tests.support.journal_fixtures import (
    DAY,
    ENVIRON,
    ENVIRON_WITH_URL,
    JOURNALS,
    REPORTS,
    Files,
    Fixture,
    copy_run,
    fixtures,
    left_out_since,
    line_of_runs,
    report,
    resume,
)
from tests.support.scripted import BASE_URL, Event, Hangs, Loses, Refuses, Rewrites, Says, ScriptedServer, Seen

Row = tuple[str, ...]
Script = Callable[[Seen], Event]
Make = Callable[["Scene"], None]

A, B, C, D = "a@x.com", "b@x.com", "c@x.com", "d@x.com"
NOBODY, LOST, LOCKED = "nobody@x.com", "lost@x.com", "locked@x.com"
HEADER: Final = ("customerEmail", "deviceIdentifier", "action")
NIGHT_BEFORE: Final = "night-before"
"""A finished run of the same rows, one day before the runs that stop or die."""
REFUSED: Final = Says(401, {"error": "Unauthorized"})
_STATES: Final[dict[str, Make]] = {}


def state(make: Make) -> Make:
    """Register a state under the name of its function."""
    _STATES[make.__name__.replace("_", "-")] = make
    return make


class Scene:
    """The environment in which the journal of one state is made: folder, clock, server and later options."""

    def __init__(self, name: str) -> None:
        self.run_id = name
        self.clock = FakeClock()
        self.server = ScriptedServer()
        self.face = RunObserver()
        self.resumed_by: str | None = None
        self.options: dict[str, Any] = {}
        """Options that change when the run continues."""
        self.shape: dict[str, Any] = {}
        """Options of a later run of the same job."""
        self.after: list[str] = []

    def file(self, rows: Sequence[Row], name: str = "rows.csv", header: Row = HEADER) -> str:
        path = Path("input") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(",".join(row) + "\n" for row in [header, *rows]), encoding="utf-8")
        os.utime(path, (self.clock.wall(), self.clock.wall()))
        return str(path)

    def run(self, *paths: str, **flags: Any) -> Summary:
        where = {"base_url": BASE_URL, "reports_dir": str(REPORTS), "run_id": self.run_id, "concurrency": "1"}
        config = resolve(paths, {**where, **flags}, ENVIRON)
        return pipeline.run(config, observer=self.face, transport=self.server, clock=self.clock)

    def stop(self, script: Script, **flags: Any) -> None:
        """Make a run of twelve calls that is stopped and continued later."""
        self.server.script = script
        self.after = [NIGHT_BEFORE]
        assert self.run(self.file(customers(12)), **flags).fields["state"] == "stopped"
        self.resumed_by = "run"

    def verify(self) -> Summary:
        folder = REPORTS / self.run_id
        return pipeline.verify(folder, ENVIRON_WITH_URL, observer=self.face, transport=self.server, clock=self.clock)

    def plan_shards(self, rows: Sequence[Row], shards: int) -> None:
        where = {"base_url": BASE_URL, "reports_dir": str(REPORTS), "run_id": self.run_id, "shards": str(shards)}
        plan_shards(resolve([self.file(rows)], where, ENVIRON), observer=self.face, clock=self.clock)
        self.after = [NIGHT_BEFORE]
        self.resumed_by = "shards"

    def run_shard(self, shard: int, phase: Phase | None = None) -> int:
        where = {"base_url": BASE_URL, "reports_dir": str(REPORTS), "run_id": self.run_id, "shard": str(shard)}
        config = resolve((), {**where, **({} if phase is None else {"phase": str(phase)})}, ENVIRON)
        return run_shard(config, observer=self.face, transport=self.server, clock=self.clock).exit_code

    def report(self) -> Summary:
        return report_run(REPORTS / self.run_id, clock=self.clock)

    def save(self) -> None:
        """Record how the run continues."""
        emails = [email for (email,) in self.server.fleet._db.execute("SELECT email FROM customer ORDER BY number")]
        world = {
            "run": self.run_id,
            "resumedBy": self.resumed_by,
            "options": self.options,
            "shape": self.shape,
            "after": self.after,
            "at": round(self.clock.wall() + 3600.0),
            "customers": {email: self.server.fleet.devices_of(email) for email in emails},
        }
        Path("world.json").write_text(json.dumps(world, indent=2) + "\n", encoding="utf-8")

    def die(self) -> None:
        """Record how the run continues, and kill this process."""
        self.save()
        os.kill(os.getpid(), signal.SIGKILL)

    def die_at(self, number: int, other: Script = lambda _: None) -> Script:
        """Return a script that kills the process at a request, before the server acts."""

        def script(seen: Seen) -> Event:
            if seen.number == number:
                self.die()
            return other(seen)

        return script


def customers(number: int, device: str = "SN") -> list[Row]:
    """Return one device for each of a number of customers."""
    return [(f"c{at:02}@x.com", f"{device}-{at}", "assign") for at in range(number)]


def devices(number: int, customer: str = A, action: str = "assign") -> list[Row]:
    """Return a number of devices of one customer."""
    return [(customer, f"{customer[0].upper()}-{at:03}", action) for at in range(number)]


def handed_on(number: int) -> list[Row]:
    """Return a number of customers, each of whom passes a device to the next."""
    names = [f"c{at}@x.com" for at in range(number)]
    pairs = enumerate(zip(names, [*names[1:], names[0]], strict=True))
    return [row for at, (one, other) in pairs for row in ((one, f"H-{at}", "unassign"), (other, f"H-{at}", "assign"))]


def from_request(number: int, event: Event) -> Script:
    """Apply the same event to every request from this one on."""
    return lambda seen: event if seen.number >= number else None


# Finished


@state
def finished(scene: Scene) -> None:
    """Every outcome that a single run can have, and every problem of a row."""
    for customer, held in {A: ["SN-2", "SN-3"], LOCKED: ["SN-30"], C: ["AA:BB:CC:DD:EE:01"]}.items():
        scene.server.fleet.assign(customer, held)
    rows = [
        (A, "SN-1", "assign"),
        (A, "SN-2", "assign"),
        (A, "SN-3", "unassign"),
        (A, "UNKNOWN-4", "assign"),
        (A, "SN-5", "unassign"),
        (A, "SN-1", "assign"),
        (A, "POISON-6", "assign"),
        (A, "SN-7", "assign"),
        (NOBODY, "SN-8", "unassign"),
        (LOST, "SN-9", "assign"),
        (LOCKED, "SN-30", "unassign"),
        (B, "SN-30", "assign"),
        (B, "SN-11", "assign"),
        (A, "SN-12", "retire"),
        (B, "SN-12", "assign"),
        (C, "AA:BB:CC:DD:EE:01", "unassign"),
        (B, "aabb.ccdd.ee01", "assign"),
        ("a@x", "SN-13", "assign"),
        (A, "", "assign"),
        (A, "#REF!", "assign"),
        (A, "=1+1", "assign"),
        (A, "SN\x0713", "assign"),
        (A, "S" * 257, "assign"),
        (A, "SN-14", "assign", "one cell", "and another"),
    ]
    lines = [(*row, f"order {number}") if len(row) == 3 else row for number, row in enumerate(rows)]
    passing = {1: Says(429, {"error": "slow down"}, {"Retry-After": "2"}), 4: Says(503, {"error": "later"})}

    def script(seen: Seen) -> Event:
        if any(device.startswith("POISON") for device in seen.devices):
            return Says(400, {"error": "Something about a device is wrong"})
        if seen.customer == LOCKED:
            return Says(400, {"error": "The customer is locked"})
        return Loses(acted=False) if seen.customer == LOST else passing.get(seen.number)

    scene.server.script = script
    assert scene.run(scene.file(lines, header=(*HEADER, "Order")), attempts="2").fields["state"] == "finished"


@state
def night_before(scene: Scene) -> None:
    scene.clock.monotonic -= DAY
    scene.run(scene.file([*customers(12), *_with_owners(scene)]))


@state
def finished_empty(scene: Scene) -> None:
    scene.run(scene.file([]), allow_empty=True)
    scene.shape = {"allow_empty": True}


@state
def finished_with_device_types(scene: Scene) -> None:
    rows = [(A, "UNKNOWN-1", "assign", "sensor"), (A, "UNKNOWN-2", "assign", "gateway"), (A, "SN-3", "assign", "")]
    scene.shape = {"auto_create_devices": True}
    scene.run(scene.file(rows, header=(*HEADER, "deviceType")), **scene.shape)


@state
def finished_of_several_inputs(scene: Scene) -> None:
    first = scene.file([(A, "SN-1", "unassign"), (B, "SN-2", "assign")], "first.csv")
    second = scene.file([(B, "SN-1", "assign", "x"), (B, "SN-2", "assign", "y")], "second.csv", (*HEADER, "Order"))
    scene.server.fleet.assign(A, ["SN-1"])
    scene.run(first, second)


@state
def finished_with_a_baseline(scene: Scene) -> None:
    scene.server.fleet.assign(A, ["SN-1", "SN-9"])
    scene.server.script = lambda seen: Loses(acted=True) if seen.number in (2, 4) else None
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (A, "SN-9", "unassign"), (B, "SN-8", "assign")]
    scene.run(scene.file(rows), baseline=True)


@state
def finished_with_lost_answers(scene: Scene) -> None:
    """Results that a lost attempt may have caused, a refusal after a lost attempt, and a failed connection."""
    scene.server.fleet.assign(A, ["SN-9"])
    refused = Says(400, {"error": "The customer is locked"})
    once: dict[str, list[Event]] = {
        A: [Loses(acted=True), None, Hangs(acted=True)],
        B: [Loses(acted=True), refused],
        C: [Refuses()],
        D: [Loses(acted=False), Loses(acted=False), Says(500, {"error": "boom"})],
    }
    scene.server.script = lambda seen: once[seen.customer].pop(0) if once.get(seen.customer) else None
    rows = [(A, "SN-1", "assign"), (A, "SN-9", "unassign"), (B, "SN-2", "assign"), (C, "SN-3", "assign")]
    scene.run(scene.file([*rows, *customers(3, "X"), (D, "SN-4", "assign")]), attempts="3", timeout="5")


@state
def finished_with_odd_answers(scene: Scene) -> None:
    """Answers that omit a device once or always, name other devices or are unusable, and odd refusals."""
    foreign = {"identifier": "SN-99", "deviceId": "dev_x", "wasCreated": False}
    always: dict[str, Event] = {
        A: Rewrites(lambda answer: answer | {"assignedDevices": [], "alreadyAssigned": []}),
        B: Rewrites(lambda answer: answer | {"assignedDevices": [*_assigned(answer), foreign]}),
    }
    once: dict[int, Event] = {
        1: Rewrites(lambda answer: answer | {"assignedDevices": []}),
        2: Says(200, {"success": False}),
        4: Says(409, {"error": "Busy"}),
    }
    scene.server.script = lambda seen: once.get(seen.number) or always.get(seen.customer)
    rows = [*customers(2), *devices(2, A), *devices(2, B), (C, "UNKNOWN-1", "assign")]
    scene.run(scene.file(rows))


def _assigned(answer: Mapping[str, object]) -> Sequence[object]:
    listed = answer["assignedDevices"]
    assert isinstance(listed, list)
    return listed


@state
def finished_with_split_calls(scene: Scene) -> None:
    _split(scene, "30m")


@state
def verified(scene: Scene) -> None:
    """A run with an unconfirmed row, and a customer who was changed elsewhere before the verify."""
    scene.server.script = lambda seen: Loses(acted=True) if seen.customer == LOST else None
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "assign"), (NOBODY, "SN-3", "unassign"), (LOST, "SN-4", "assign")]
    scene.run(scene.file(rows), attempts="1")
    scene.server.script = lambda _: None
    scene.server.fleet.unassign(B, ["SN-2"])
    scene.clock.monotonic += 60
    scene.verify()


@state
def verified_at_its_end(scene: Scene) -> None:
    scene.run(scene.file(customers(3)), verify=True)


# Stopped, with rows that are open


@state
def stopped_by_deadline(scene: Scene) -> None:
    scene.stop(lambda _: None, rate="2/s", deadline="3s")


@state
def stopped_by_signal(scene: Scene) -> None:
    interrupt = scene.face.interrupt = CancelToken()
    scene.stop(lambda seen: interrupt.cancel("stopped by SIGTERM") if seen.number == 5 else None)


@state
def stopped_by_max_failed(scene: Scene) -> None:
    refused = Says(400, {"error": "The customer is locked"})
    scene.stop(lambda seen: refused if seen.number in (2, 4, 6) else None, max_failed="2")
    scene.options = {"max_failed": "5"}


@state
def stopped_by_max_skipped(scene: Scene) -> None:
    """Unassign seven devices, of which the customer has the first four."""
    rows = devices(7, action="unassign")
    scene.server.fleet.assign(A, [device for _, device, _ in rows[:4]])
    scene.run(scene.file(rows), max_skipped="1", chunk_size="1")
    scene.options, scene.resumed_by = {"max_skipped": "5"}, "run"


@state
def stopped_by_max_new_customers(scene: Scene) -> None:
    scene.stop(lambda _: None, max_new_customers="3")
    scene.options = {"max_new_customers": "20"}


@state
def stopped_by_outage(scene: Scene) -> None:
    scene.stop(from_request(5, Says(502, b"")), give_up_after="60s", concurrency="3")


@state
def stopped_by_api_unreachable(scene: Scene) -> None:
    scene.stop(lambda _: Refuses(), give_up_after="60s")


@state
def stopped_by_api_asks_to_wait(scene: Scene) -> None:
    scene.stop(from_request(5, Says(429, {"error": "quota"}, {"Retry-After": "900"})), longest_wait="5m")


@state
def stopped_by_key_refused(scene: Scene) -> None:
    scene.stop(from_request(5, REFUSED))


@state
def stopped_by_redirect(scene: Scene) -> None:
    scene.stop(from_request(5, Says(302, b"", {"Location": "https://elsewhere.example.com/"})))


@state
def stopped_by_not_the_api(scene: Scene) -> None:
    scene.stop(lambda _: Says(404, b"<html>no such page</html>", {"content-type": "text/html"}))


@state
def stopped_by_proxy_login(scene: Scene) -> None:
    scene.stop(from_request(5, Refuses(httpx2.ProxyError, "407 Proxy Authentication Required")))


@state
def stopped_by_proxy_refused(scene: Scene) -> None:
    scene.stop(from_request(5, Refuses(httpx2.ProxyError, "403 Forbidden")))


@state
def stopped_by_full_disk(scene: Scene) -> None:
    """Use the disk reserve after the fifth attempt."""
    with patch.object(Journal, "is_short_of_disk", property(lambda self: self.last_attempt >= 5)):
        scene.stop(lambda _: None)


@state
def stopped_by_error(scene: Scene) -> None:
    """Make one write to the journal fail."""
    started = Journal.record_start

    async def refusing(self: Journal, *attempt: Any) -> int:
        if self.last_attempt == 5:
            raise DiskError("the journal cannot be written (disk I/O error)", "make room")
        return await started(self, *attempt)

    with patch.object(Journal, "record_start", refusing):
        scene.stop(lambda _: None)


@state
def stopped_in_split_calls(scene: Scene) -> None:
    _split(scene, "4s")
    scene.resumed_by, scene.after = "run", [NIGHT_BEFORE]


def _split(scene: Scene, deadline: str) -> None:
    """Calls that are too large, that contain one rejected device, and that always fail with a server error."""
    too_many = Says(413, {"error": "Too many devices in a request"})

    def script(seen: Seen) -> Event:
        if seen.customer == A and len(seen.devices) > 6:
            return too_many
        if "A-003" in seen.devices and seen.customer == A:
            return Says(400, {"error": "Something about a device is wrong"})
        if "B-005" in seen.devices and seen.customer == B:
            return Says(500, {"error": "boom"})
        return None

    scene.server.script = script
    rows = [*devices(16, A), *devices(8, B), *customers(40, "X")]
    scene.run(scene.file(rows), rate="10/s", concurrency="3", deadline=deadline)


@state
def stopped_with_made_up_id(scene: Scene) -> None:
    where = {"base_url": BASE_URL, "reports_dir": str(REPORTS), "rate": "2/s", "deadline": "3s"}
    config = resolve([scene.file(customers(12))], where, ENVIRON)
    summary = pipeline.run(config, observer=scene.face, transport=scene.server, clock=scene.clock)
    scene.run_id, scene.resumed_by, scene.after = summary.folder.name, "run", [NIGHT_BEFORE]


@state
def stopped_while_it_verifies_at_its_end(scene: Scene) -> None:
    scene.server.script = from_request(15, REFUSED)
    scene.run(scene.file(customers(12)), verify=True)
    scene.resumed_by, scene.after = "run", [NIGHT_BEFORE]


@state
def stopped_verify(scene: Scene) -> None:
    scene.run(scene.file(customers(12)))
    scene.server.script = from_request(16, REFUSED)
    try:
        scene.verify()
    except BatchError:
        scene.resumed_by = "verify"


# Killed


@state
def killed_before_the_first_attempt(scene: Scene) -> None:
    scene.resumed_by, scene.after = "run", [NIGHT_BEFORE]
    scene.face.on_start = scene.die  # type: ignore[method-assign]
    scene.run(scene.file(customers(12)))


@state
def killed_with_attempts_in_flight(scene: Scene) -> None:
    scene.resumed_by = "run"
    _die_in_flight(scene)


def _die_in_flight(scene: Scene) -> None:
    """Kill the process when the server has acted on one attempt in flight and not on another."""
    scene.after = [NIGHT_BEFORE]
    hanging = {"c03@x.com": Hangs(acted=True), "c05@x.com": Hangs(acted=False)}

    def acting(seen: Seen) -> Event:
        if seen.customer == "c03@x.com":
            scene.server.fleet.assign(seen.customer, seen.devices)
        return hanging.get(seen.customer)

    scene.server.script = scene.die_at(8, acting)
    scene.run(scene.file([*customers(12), ("?", "SN-1", "assign")]), concurrency="4", rate="1000/s")


@state
def killed_before_its_files_were_written(scene: Scene) -> None:
    scene.resumed_by, scene.after = "run", [NIGHT_BEFORE]
    scene.face.on_stop = scene.die  # type: ignore[method-assign]
    scene.run(scene.file(customers(4)))


@state
def records_lost(scene: Scene) -> None:
    """Lose the write-ahead log of a killed process (see `_collect`)."""
    _die_in_flight(scene)


# Shards


@state
def shards_planned(scene: Scene) -> None:
    scene.plan_shards(_with_owners(scene), 2)


@state
def shards_partly_made(scene: Scene) -> None:
    """One shard has run as far as it can without the other, which has not started."""
    scene.plan_shards(_with_owners(scene), 2)
    scene.run_shard(1)


@state
def shards_partly_gathered(scene: Scene) -> None:
    shards_partly_made(scene)
    scene.report()


@state
def shards_killed(scene: Scene) -> None:
    """All shards have unassigned; one has finished, the other was killed during its assigns."""
    scene.plan_shards(_with_owners(scene), 2)
    for shard in (1, 2):
        assert scene.run_shard(shard, Phase.UNASSIGN) == 0
    assert scene.run_shard(1, Phase.ASSIGN) == 0
    scene.server.script = scene.die_at(len(scene.server.seen) + 2)
    scene.run_shard(2, Phase.ASSIGN)


@state
def shards_finished(scene: Scene) -> None:
    scene.plan_shards(_with_owners(scene), 2)
    for phase in Phase:
        for shard in (1, 2):
            assert scene.run_shard(shard, phase) == 0
    assert scene.report().fields["state"] == "finished"
    scene.resumed_by = None


def _with_owners(scene: Scene) -> list[Row]:
    rows = handed_on(6)
    for customer, device, action in rows:
        if action == "unassign":
            scene.server.fleet.assign(customer, [device])
    return rows


# Nights of one job


@state
def nights_1(scene: Scene) -> None:
    """The first nightly run, which sends everything."""
    _night(scene, [*devices(2, A), *devices(2, B)])


@state
def nights_2(scene: Scene) -> None:
    """The second nightly run, which leaves out settled rows and is stopped."""
    _interrupted_night(scene)
    scene.resumed_by = "run"


@state
def nights_3(scene: Scene) -> None:
    """The third nightly run, after the second was stopped."""
    _interrupted_night(scene)
    scene.server.script = lambda _: None
    _night(scene, [*devices(2, A), *devices(2, C), *devices(2, D)])


def _interrupted_night(scene: Scene) -> None:
    nights_1(scene)
    scene.server.script = from_request(len(scene.server.seen) + 2, REFUSED)
    _night(scene, [*devices(2, A), *devices(2, C), *devices(2, B, "unassign"), *devices(1, D)])


def _night(scene: Scene, rows: Sequence[Row]) -> None:
    number = len([*REPORTS.glob("nights-*")]) + 1
    scene.clock.sleep_blocking(DAY)
    scene.run_id = f"nights-{number}"
    shutil.rmtree("input", ignore_errors=True)
    scene.run(scene.file(rows, f"erp-{number}.csv"), since_last=True)
    scene.after = [f"nights-{earlier}" for earlier in range(1, number)]


# Making them


@contextmanager
def _reproducible() -> Iterator[None]:
    """Replace random values and details of this machine."""
    started = Journal.record_start

    async def stamped(self: Journal, call: int, positions: Any, at: float, _: float | None = None) -> int:
        return await started(self, call, positions, at, round(at - FakeClock().wall(), 3))

    with (
        patch.object(clock, "jitter", lambda: 0.5),
        patch.object(create, "token_hex", lambda size: "5a" * size),
        patch.object(journal, "boot_number", lambda: 1),
        patch.object(Journal, "record_start", stamped),
    ):
        yield


def _make_here(name: str) -> None:
    """Make one state in the current folder; may not return."""
    scene = Scene(name)
    with _reproducible():
        _STATES[name](scene)
    scene.save()


def _make(name: str, target: Path) -> None:
    """Make one state in a separate process and copy it to the checked-in folder."""
    root = Path(__file__).parents[2]
    with _own_place() as place:
        environ = {**os.environ, "PYTHONPATH": str(root)}
        made = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--here", name], cwd=place, env=environ, check=False
        )
        assert made.returncode in (0, -signal.SIGKILL), name
        _collect(name, place, target)


def _collect(name: str, place: Path, target: Path) -> None:
    """Copy the result of a process, replacing an existing fixture."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copyfile(place / "world.json", target / "world.json")
    shutil.copytree(place / "input", target / "input")
    copy_run(place / REPORTS / json.loads((target / "world.json").read_text())["run"], target)
    if name == "records-lost":
        (target / f"{JOURNAL_NAME}-wal").unlink()


@contextmanager
def _own_place() -> Iterator[Path]:
    """Use an empty current folder with separate locks and pacer state."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "place"
        place.mkdir()
        with patch.dict(os.environ, {"XDG_STATE_HOME": str(Path(folder) / "state")}), chdir(place):
            yield place


def _expect(fixture: Fixture) -> None:
    """Write the expected files of a fixture, as this version produces them."""
    files = _elsewhere(report, fixture)
    files["runs.json"] = _elsewhere(line_of_runs, fixture)
    files["since_last.json"] = _elsewhere(left_out_since, fixture)
    _write(fixture.folder / "expected", files)
    if fixture.world["resumedBy"] is not None:
        _write(fixture.folder / "resumed", _elsewhere(resume, fixture))


def _elsewhere(look: Callable[[Fixture], Any], fixture: Fixture) -> Any:
    with _own_place(), patch.object(clock, "jitter", lambda: 0.5):
        return look(fixture)


def _write(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def main(arguments: Sequence[str]) -> None:
    """Make the fixtures."""
    if arguments[:1] == ["--here"]:
        _make_here(arguments[1])
        return
    made = fixtures()
    if arguments != ["--expected"]:
        current = JOURNALS / f"schema-{SCHEMA_VERSION}"
        names = arguments or [name for name in _STATES if not (current / name).exists()]
        for name in names:
            _make(name, current / name)
        made = [Fixture(current / name) for name in names]
    for fixture in made:
        _expect(fixture)
        print(fixture.name)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
