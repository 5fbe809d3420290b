"""The lease: two processes never hold a valid one, whatever is suspended for how long."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.errors import DiskError, LockedError
from telemetron_batch.storage import lease as leases
from telemetron_batch.storage.file_system import write_start
from telemetron_batch.storage.lease import LEASE_S, TAKEOVER_AFTER_S, Lease, LeaseAcquirer
from telemetron_batch.storage.lease_files import LeaseFile, LeaseFiles, LeaseOwner, boot_id, is_in_use, remote_holder
from telemetron_batch.storage.lock import LockOwner

HERE = LeaseOwner(11, "2025-01-02T03:04:05Z", "night", "host-a", "boot-a")
WRITE = "telemetron_batch.storage.lease_files.write_start"
THERE = LeaseOwner(22, "2025-01-02T03:05:06Z", "night", "host-b", "boot-b", "DAG nightly, try 2")


class Time:
    """The clock of one host, independent of other hosts."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


def names(lock: Path) -> list[str]:
    return sorted(path.name for path in lock.parent.iterdir())


def taken(lock: Path, holder: LeaseOwner = HERE, now: Callable[[], float] | None = None) -> Lease:
    lease = LeaseAcquirer(lock, holder, "run night", now or Time()).try_acquire()
    assert lease is not None
    return lease


def won_from(lock: Path, holder: LeaseOwner = THERE) -> Lease:
    """Return the lease after a takeover by another host, which saw no renewal for long enough."""
    now = Time(5_000.0)
    newcomer = LeaseAcquirer(lock, holder, "run night", now)
    assert newcomer.try_acquire() is None
    now.at += TAKEOVER_AFTER_S
    lease = newcomer.try_acquire()
    assert lease is not None
    return lease


def test_a_lease_file_names_the_owner_and_is_removed_on_release(lock: Path) -> None:
    lease = taken(lock, THERE)
    assert names(lock) == ["run.lease.1"]
    told = json.loads((lock.parent / "run.lease.1").read_text())
    assert (told["pid"], told["host"], told["run"], told["task"]) == (22, "host-b", "night", "DAG nightly, try 2")
    lease.release()
    assert names(lock) == []


def test_on_the_owners_host_a_process_with_the_kernel_lock_takes_over_at_once(lock: Path) -> None:
    taken(lock)
    newer = taken(lock, replace(HERE, pid=12))
    assert newer.number == 2
    assert newer.is_journal_detached
    assert names(lock) == ["run.lease.2"]


def test_on_another_host_it_first_watches_by_its_own_clock(lock: Path) -> None:
    taken(lock, HERE, Time(1_000_000.0))
    now = Time(7.0)
    newcomer = LeaseAcquirer(lock, THERE, "run night", now)
    assert newcomer.try_acquire() is None
    assert newcomer.current_holder == "process 11 on host host-a (run night, since 2025-01-02T03:04:05Z)"
    now.at += TAKEOVER_AFTER_S - 0.1
    assert newcomer.try_acquire() is None
    now.at += 0.1
    lease = newcomer.try_acquire()
    assert lease is not None
    assert lease.number == 2
    assert not lease.is_journal_detached  # a write of the former owner's may still be on its way


def test_the_term_is_shorter_than_the_takeover_time_with_a_margin_for_clocks() -> None:
    assert TAKEOVER_AFTER_S > 1.3 * LEASE_S
    assert LEASE_S > 5 * leases.RENEW_EVERY_S


def test_while_the_lease_is_renewed_another_host_is_refused_with_the_owner_named(lock: Path) -> None:
    now = Time()
    owner = taken(lock, THERE, now)
    newcomer = LeaseAcquirer(lock, HERE, "run night", now)
    assert newcomer.try_acquire() is None
    now.at += 3
    owner.renew()
    with pytest.raises(LockedError) as refusal:
        newcomer.try_acquire()
    words = "process 22 on host host-b (run night, since 2025-01-02T03:05:06Z, DAG nightly, try 2)"
    assert refusal.value.reason == f"run night is in use by {words}"
    assert "--wait" in refusal.value.advice
    assert refusal.value.exit_code == 6


def test_a_waiting_process_gets_the_lease_when_the_owner_ends(lock: Path) -> None:
    now = Time()
    owner = taken(lock, THERE, now)
    newcomer = LeaseAcquirer(lock, HERE, "run night", now)
    assert newcomer.try_acquire() is None
    owner.release()
    lease = newcomer.try_acquire()
    assert lease is not None
    assert lease.is_journal_detached


def test_a_renewed_lease_is_valid_for_a_term_from_the_start_of_the_renewal(lock: Path) -> None:
    now = Time()
    lease = taken(lock, HERE, now)
    for _ in range(50):
        now.at += 3
        lease.renew()
    now.at += LEASE_S - 0.1
    assert lease.is_valid
    now.at += 0.1
    assert not lease.is_valid


def test_an_owner_delayed_beyond_its_term_continues_with_the_next_number(lock: Path) -> None:
    now = Time()
    lease = taken(lock, HERE, now)
    now.at += 3600
    lease.ensure_valid()
    assert lease.is_valid
    assert lease.number == 2
    assert names(lock) == ["run.lease.2"]


def test_an_owner_delayed_during_a_takeover_loses_the_run_to_the_named_process(lock: Path) -> None:
    now, heard = Time(), []
    lease = taken(lock, HERE, now)
    other = won_from(lock)
    now.at += TAKEOVER_AFTER_S
    assert not lease.is_valid
    with lease.on_lost(lambda: heard.append(1)), pytest.raises(LockedError, match="process 22 on host host-b"):
        lease.ensure_valid()
    assert heard == [1]
    lease.release()
    other.ensure_valid()
    assert other.is_valid


def slowly(monkeypatch: pytest.MonkeyPatch, now: Time, seconds: float) -> None:
    """Make each write take this many seconds."""

    def late(descriptor: int, content: bytes) -> None:
        now.at += seconds
        write_start(descriptor, content)

    monkeypatch.setattr(WRITE, late)


def test_a_renewal_counts_from_its_start(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Time()
    lease = taken(lock, HERE, now)
    slowly(monkeypatch, now, 10.0)
    now.at = 15.0
    lease.renew()
    now.at = 15.0 + LEASE_S - 0.1
    assert lease.is_valid
    now.at += 0.1
    assert not lease.is_valid


def test_a_renewal_that_finishes_after_the_term_does_not_count(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Time()
    lease = taken(lock, HERE, now)
    slowly(monkeypatch, now, 15.0)
    now.at = LEASE_S - 10
    lease.renew()
    assert not lease.is_valid


def test_a_lease_file_below_a_higher_one_does_not_count(lock: Path) -> None:
    newcomer = LeaseAcquirer(lock, HERE, "run night", Time())
    look = newcomer._files.highest

    def asleep_after_the_first_look() -> LeaseFile | None:
        seen = look()
        newcomer._files.highest = look  # type: ignore[method-assign]
        newcomer._files.create(2, b"{}")
        return seen

    newcomer._files.highest = asleep_after_the_first_look  # type: ignore[method-assign]
    assert newcomer.try_acquire() is None
    assert names(lock) == ["run.lease.2"]


def test_a_renewal_that_finds_a_higher_number_loses_the_run(lock: Path) -> None:
    now = Time()
    lease = taken(lock, HERE, now)
    LeaseFiles(lock).create(2, b"{}")
    lease.renew()
    assert not lease.is_valid
    with pytest.raises(LockedError, match="a process on another host"):
        lease.ensure_valid()


def test_an_acquirer_starts_over_when_the_late_owner_takes_the_next_number(lock: Path) -> None:
    now = Time()
    owner = taken(lock, HERE, now)
    newcomer = LeaseAcquirer(lock, THERE, "run night", now)
    assert newcomer.try_acquire() is None
    now.at += TAKEOVER_AFTER_S
    owner.ensure_valid()
    with pytest.raises(LockedError, match="process 11 on host host-a"):
        newcomer.try_acquire()


def test_releasing_a_lost_lease_leaves_its_file(lock: Path) -> None:
    lease = taken(lock, HERE)
    LeaseFiles(lock).create(2, b"{}")
    lease.renew()
    lease.release()
    assert names(lock) == ["run.lease.1", "run.lease.2"]


def test_a_possible_late_write_is_remembered_until_the_journal_is_copied(lock: Path) -> None:
    taken(lock)
    won_from(lock)  # and dies before it has made the copy
    again = taken(lock, replace(THERE, pid=23))
    assert not again.is_journal_detached
    again.mark_journal_detached()
    assert taken(lock, replace(THERE, pid=24)).is_journal_detached


def test_storage_errors_are_ignored_until_the_term_ends(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Time()
    lease = taken(lock, HERE, now)

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(WRITE, broken)
        now.at += 10
        lease.renew()
        assert lease.is_valid
    now.at += 10
    lease.renew()
    now.at += LEASE_S
    monkeypatch.setattr(WRITE, broken)
    with pytest.raises(LockedError, match=r"could not be renewed for 30 s \(Input/output error\)"):
        lease.ensure_valid()


def test_a_disk_too_full_for_a_lease_file_is_reported_and_leaves_none(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WRITE, full)
    with pytest.raises(DiskError, match="make room"):
        LeaseAcquirer(lock, HERE, "run night", Time()).try_acquire()
    assert names(lock) == []


def test_a_lease_counts_as_use_only_if_it_is_of_another_host(lock: Path) -> None:
    mine = LeaseOwner.of(LockOwner(1, "now", "night"))
    assert mine.boot == boot_id()
    lease = taken(lock, mine)
    assert remote_holder(lock) is None
    assert not is_in_use(lock)
    lease.release()
    taken(lock, THERE)
    assert remote_holder(lock) is not None
    assert is_in_use(lock)


def test_a_thread_renews_the_lease(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.001)
    lease = taken(lock)
    before = (lock.parent / "run.lease.1").read_bytes()
    until = time.monotonic() + 10
    with lease.auto_renew():
        while time.monotonic() < until and (lock.parent / "run.lease.1").read_bytes() == before:
            time.sleep(0.001)
    assert (lock.parent / "run.lease.1").read_bytes() != before
    lease.release()


# Several processes, each of which may be stopped at any step for any time


class Killed(BaseException):
    """Ends the thread of a killed process."""


class World:
    """A folder on shared storage, and the true time, which no host knows."""

    def __init__(self) -> None:
        self.time = 0.0
        self.files: dict[int, bytes] = {}


class SteppedFiles(LeaseFiles):
    """Lease files whose every operation waits for permission before it runs and before it returns."""

    def __init__(self, world: World, wait: Callable[[], None]) -> None:
        self._world, self._wait = world, wait

    def _step(self, what: Callable[[dict[int, bytes]], object]) -> object:
        self._wait()
        answer = what(self._world.files)
        self._wait()
        return answer

    def _numbers(self) -> list[int]:
        return list(self._step(list))  # type: ignore[call-overload,no-any-return]

    def read(self, number: int) -> bytes | None:
        return self._step(lambda files: files.get(number))  # type: ignore[return-value]

    def create(self, number: int, content: bytes) -> bool:
        return bool(self._step(lambda files: number not in files and (files.update({number: content}) or True)))

    def rewrite(self, number: int, content: bytes) -> bool:
        return bool(self._step(lambda files: number in files and (files.update({number: content}) or True)))

    def remove(self, number: int) -> None:
        self._step(lambda files: files.pop(number, None))


class Process:
    """A process that acquires the run and keeps it until it ends, is killed or loses it."""

    def __init__(self, world: World, host: int, pid: int) -> None:
        self.host = host
        self._rate = (0.95, 1.0, 1.05)[host]
        self._world = world
        self._turn, self._parked = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = self._wants_to_end = False
        self.is_over = False
        self.lease: Lease | None = None
        holder = LeaseOwner(pid, "now", "night", f"host-{host}", f"boot-{host}")
        self._newcomer = LeaseAcquirer(Path("run.lock"), holder, "run night", self._now)
        self._newcomer._files = SteppedFiles(world, self._wait)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        self._parked.acquire()

    @property
    def believes(self) -> bool:
        return self.lease is not None and not self.is_over and self.lease.is_valid

    def step(self) -> None:
        """Continue to the next step."""
        if not self.is_over:
            self._turn.release()
            self._parked.acquire()

    def end(self) -> None:
        self._wants_to_end = True

    def kill(self) -> None:
        self._killed = True
        self.step()
        self._thread.join()

    def _now(self) -> float:
        return 1000.0 * self.host + self._rate * self._world.time

    def _wait(self) -> None:
        if self._killed:
            return
        self._parked.release()
        self._turn.acquire()
        if self._killed:
            raise Killed

    def _live(self) -> None:
        try:
            self._wait()
            while self.lease is None:
                try:
                    self.lease = self._newcomer.try_acquire()
                except LockedError:
                    self._wait()
            while not self._wants_to_end:
                self.lease.renew()
                if self.lease._lost is not None:
                    break
                self._wait()
            self.lease.release()
        except Killed:
            pass
        finally:
            self.is_over = True
            self._parked.release()


Step = tuple[int, int, float, str]
"""Host, number of steps, event for the host (end or kill), and seconds that pass afterwards."""
SECONDS = (0.5, 3.0, 14.0, 27.0, 31.0, 44.0, 48.0, 200.0)


def a_night(random: Random) -> Iterator[Step]:
    """Yield random steps of three hosts of random speed; now and then much time passes."""
    haste = [random.choice((1, 3, 10)) for _ in range(3)]
    standing, dying = random.choice((0.02, 0.1, 0.4)), random.choice((0.0, 0.02, 0.05))
    for _ in range(250):
        host = random.choices(range(3), haste)[0]
        seconds = random.choice(SECONDS) if random.random() < standing else random.choice((0.0, 0.0, 0.3, 2.0))
        also = random.choice("ek") if random.random() < dying else ""
        yield host, random.choice((1, 1, 2, 5, 14)), seconds, also


def owners_over(steps: Iterable[Step]) -> Iterator[int]:
    """Yield the number of processes with a valid lease after each step."""
    world = World()
    alive = [Process(world, host, host) for host in range(3)]
    pids = iter(range(3, 1000))
    try:
        for host, times, seconds, also in steps:
            if also == "e":
                alive[host].end()
            if also == "k":
                alive[host].kill()
            for _ in range(times):
                alive[host].step()
                yield sum(process.believes for process in alive)
            if alive[host].is_over:  # its kernel lock is free
                alive[host] = Process(world, host, next(pids))
            world.time += seconds
            yield sum(process.believes for process in alive)
    finally:
        for process in alive:
            process.kill()


@given(st.integers(0, 1 << 32))
def test_two_processes_never_hold_a_valid_lease(seed: int) -> None:
    assert max(owners_over(a_night(Random(seed)))) <= 1


def test_the_lease_changes_its_owner_in_such_a_world() -> None:
    owned = (0, 20, 1.0, "")
    watched = [(1, 20, 24.0, "")] * 3
    believed = [*owners_over([owned, (0, 0, 0.0, "k"), *watched])]
    assert believed[20] == 1
    assert 0 in believed[21:]
    assert believed[-2] == 1
