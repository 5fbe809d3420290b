"""The calls of one shard, made by one process: a journal of its own, a place among those that share the rate."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import httpx2

from telemetron_batch.config.airflow_context import describe
from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.stored import load_stored_config, with_base_url
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.stops import Stop, StopReason, WayOn, listed_flags
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.resume_hint import stopping_if_sent, system_errors_in_words
from telemetron_batch.reports.summary import ShardSummary
from telemetron_batch.run.finish import serialize_stop
from telemetron_batch.run.locking import LockWaiter, acquire_lease, acquire_locks, locks_of_key, open_journal
from telemetron_batch.run.metadata import ensure_same_run
from telemetron_batch.run.replan import check_order_again
from telemetron_batch.run.requirements import check_rate_limit_backend, require_connections, require_key
from telemetron_batch.sending.holds import (
    UnreleasedDevices,
    UnreleasedReport,
    ask_again,
    collect_unreleased,
    release_resolved_holds,
    unknown_customers,
    unreleased_among,
)
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.send import send
from telemetron_batch.sending.session import ApiTarget, Job
from telemetron_batch.sharding.barrier import barrier, unfinished
from telemetron_batch.sharding.gather import Extent, gathered_from, require_journal, require_same
from telemetron_batch.sharding.partition import CALLS, FIRST_ASSIGN_STAGE, Shard, ShardCalls, check_calls, shard_folder
from telemetron_batch.sharding.rate_slots import acquire_slot, slot_rate
from telemetron_batch.sharding.shard_plan import LEFT_BEHIND, ShardLayout, describe_shards, lock_of_shard, require_shard
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.storage.commands import shard_command
from telemetron_batch.storage.lease import Lease
from telemetron_batch.storage.log import LOGGER, log_to_file
from telemetron_batch.storage.trusted_folders import shared_with_group

_LOOK_AGAIN: Final = 1.0


@system_errors_in_words()
def run_shard(
    config: RunConfig,
    *,
    face: RunObserver | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> ShardSummary:
    """Make the calls of one shard, or go on with them: `config` names run, shard and phase.

    With the options that the run was planned with, and what `config` says besides. Without a
    phase the assigns are made when all shards have unassigned. Rows that failed are no
    failure of the shard. Raises BatchError where it cannot start.
    """
    with shared_with_group(config.shared_reports_dir):
        return _run_shard(config, face or RunObserver(), transport, clock or RealClock())


def _run_shard(
    config: RunConfig, face: RunObserver, transport: httpx2.AsyncBaseTransport | None, clock: Clock
) -> ShardSummary:
    run = config.reports_dir / str(config.run_id)
    config, division, extent = _as_planned(config, run)
    require_connections(config)
    check_rate_limit_backend(config, clock)
    one, phase = division.shard(config.shard or 0), config.phase
    folder = shard_folder(run, one.number)
    require_shard(run, one.number)
    check_calls(folder / CALLS, one)
    with (
        acquire_lease(lock_of_shard(run, one.number), LockWaiter.of(config, clock, face)) as lease,
        _own_journal(run, one, extent, lease) as journal,
        stopping_if_sent(journal),
        log_to_file(folder / "run.log", *config.secrets, may_write=lambda: lease.is_valid),
    ):
        work = _ShardRun(config, run, division, one, journal, face, clock, lease, transport, clock.wall())
        work.check_order(phase)
        stop = work.make(phase)
        LOGGER.info("shard ended: %s", stop.sentence if stop else "all calls settled")
        return work.summary(phase, stop)


def _as_planned(config: RunConfig, run: Path) -> tuple[RunConfig, ShardLayout, Extent | None]:
    """What the run was planned with, and over it what is said now; what it has gathered from the shard.

    Raises BatchError.
    """
    with open_journal(run) as journal:
        division = ShardLayout.of(journal)
        if division is None:
            raise JournalError(f"run {run.name} was started without shards", "run it without --shard")
        told = {**config.given_options, "base_url": journal.meta(Fact.BASE_URL)}
        known = load_stored_config(run, {**journal.meta(Fact.OPTIONS), **told}, with_key=config.api_key is None)
        phase = f" --phase {config.phase}" if config.phase else ""
        known = with_base_url(known, config.sending.base_url, f"{shard_command(run, config.shard)}{phase}")
        sending = replace(known.sending, limit_url=config.sending.limit_url or known.sending.limit_url)
        known = replace(
            known,
            sending=sending,
            api_key=config.api_key or known.api_key,
            shard=config.shard,
            phase=config.phase,
            wait=config.wait,
            output=config.output,
            base_url_flag=config.base_url_flag,
            airflow=config.airflow,
        )
        ensure_same_run(known, journal, run)
        extent = gathered_from(journal, division.shard(known.shard or 0))
    require_key(known)
    return known, division, extent


@contextmanager
def _own_journal(run: Path, shard: Shard, extent: Extent | None, lease: Lease) -> Iterator[Journal]:
    """The shard's journal, made where there is none yet; refused where it holds less than was gathered from it."""
    folder = shard_folder(run, shard.number)
    require_journal(run, shard, extent)
    if not (folder / JOURNAL_NAME).exists():
        facts: dict[str, object] = {Fact.RUN_ID: run.name, Fact.SHARD: shard.number, Fact.CALLS: shard.sha256}
        JournalDraft(folder / JOURNAL_NAME).publish(facts)
    with open_journal(folder, lease) as journal:
        require_same(journal, shard, extent)
        journal.require_complete()
        yield journal


@dataclass(frozen=True, slots=True)
class _ShardRun:
    """The work of one process on one shard."""

    config: RunConfig
    run: Path
    division: ShardLayout
    shard: Shard
    journal: Journal
    face: RunObserver
    clock: Clock
    lease: Lease
    transport: httpx2.AsyncBaseTransport | None
    began: float
    """Moment of the wall clock."""

    @property
    def folder(self) -> Path:
        """The shard's."""
        return shard_folder(self.run, self.shard.number)

    def check_order(self, phase: Phase | None) -> None:
        """Raise BrakeError if there are calls to be made and a newer night of the job has sent something."""
        phases = Phase if phase is None else (phase,)
        if any(self._open(self._calls(one)) for one in phases):
            self._check_order()

    def _check_order(self) -> None:
        with open_journal(self.run) as journal:
            check_order_again(self.config, journal, self.run, self.face)

    def make(self, phase: Phase | None) -> Stop | None:
        """Make the calls of a phase, or of one after the other. None, or why that ended before all are settled."""
        stop = None if phase is Phase.ASSIGN else self._with_recorded_end(Phase.UNASSIGN, self._unassign)
        if stop is not None or phase is Phase.UNASSIGN:
            return stop
        return self._with_recorded_end(Phase.ASSIGN, partial(self._assign, first_all=phase is None))

    def _with_recorded_end(self, phase: Phase, work: Callable[[], Stop | None]) -> Stop | None:
        """Do the work of a phase and put on record how it ended."""
        self._note(phase, Stop(StopReason.PROCESS_ENDED), None)
        if self.config.airflow:
            self.journal.event(self.clock.wall(), "airflow", describe(self.config.airflow))
        stop = work()
        self._note(phase, stop, self.clock.wall())
        return stop

    def _note(self, phase: Phase, stop: Stop | None, ended_at: float | None) -> None:
        """Put on record how a phase ended; how the unassigns did is kept when the assigns are made."""
        told = serialize_stop(stop)
        kept = {"unassigning": told} if phase is Phase.UNASSIGN else {}
        self.journal.set_facts(phase=phase, stop=told, endedAt=ended_at, **kept)

    def _unassign(self) -> Stop | None:
        """Make the unassign calls, then tell the others what they left behind."""
        # Who gives these devices to others is not known here, so all of it may matter.
        if stale := unknown_customers(self.journal, self._calls(Phase.UNASSIGN)):
            ask_again(self.journal, stale)
        told = UnreleasedReport.read(self.folder / LEFT_BEHIND)
        if told is not None and told.complete and not self._open(self._calls(Phase.UNASSIGN)):
            return None
        (self.folder / LEFT_BEHIND).unlink(missing_ok=True)
        stop = self._send(self._calls(Phase.UNASSIGN), UnreleasedDevices())
        self._publish_unreleased()
        return stop

    def _publish_unreleased(self) -> None:
        """Write what the unassigns have left behind."""
        collect_unreleased(self._calls(Phase.UNASSIGN), self.journal).write(self.folder / LEFT_BEHIND)

    def _assign(self, *, first_all: bool) -> Stop | None:
        """Make the other calls, but for those devices that may still be with a former owner.

        While one of its devices is yet to be unassigned, in whatever shard, a shard makes no more than the
        first assigns: what is held because of that comes before what would take the same device back.
        """
        if not (self.folder / LEFT_BEHIND).exists():
            self._publish_unreleased()
        if first_all and (missing := self._wait_for_other_shards()):
            return _waiting_stop(missing)
        calls, taken = self._calls(Phase.ASSIGN), barrier(self.run, clock=self.clock)
        release_resolved_holds(self.journal, calls, taken.unreleased)
        stuck = unreleased_among(taken.unreleased, calls.devices())
        if not stuck.has_pending:
            return self._send(calls, stuck)
        stop = self._send(self._calls(Phase.ASSIGN, FIRST_ASSIGN_STAGE), stuck)
        return stop or (_waiting_stop(taken.unfinished) if self._open(calls) else None)

    def _wait_for_other_shards(self) -> Sequence[int]:
        """Shards whose unassigns are not all settled, after waiting for them as long as the user said."""
        waiting = LockWaiter.of(self.config, self.clock, self.face)

        while (missing := [*unfinished(self.run, self.division)]) and not waiting.expired:
            self.clock.pause(_LOOK_AGAIN)
        return missing

    def _send(self, calls: ShardCalls, stuck: UnreleasedDevices) -> Stop | None:
        """Send what of these calls is open, in one of the places that share the rate."""
        if not self._open(calls):
            return None
        waiting, at_once = LockWaiter.of(self.config, self.clock, self.face), self.division.concurrent
        with (
            acquire_locks(locks_of_key(self.config, shared=True), waiting),
            acquire_slot(self.run, self.shard.number, at_once, waiting) as place,
        ):
            self._check_order()  # once more: a newer night may have sent while this one waited for the key
            share = slot_rate(self.config, at_once, place.number - 1)
            sending = replace(self.config.sending, process_rate=share, verify=False, deadline=self._time_left())
            config = replace(self.config, sending=sending)
            job = Job(config, calls, self.journal, self.face, self.clock, self.lease, stuck, place.pacer_file)
            stop = send(
                job, ApiTarget(sending.base_url, config.api_key or Secret(""), self.transport, config.organisation)
            )
            self.lease.ensure_valid()
            return stop

    def _time_left(self) -> float | None:
        """Seconds to the deadline, for both phases and what is between them."""
        deadline = self.config.sending.deadline
        return None if deadline is None else max(0.0, self.began + deadline - self.clock.wall())

    def _open(self, calls: ShardCalls) -> int:
        """How many of these calls are not settled."""
        return calls.unsettled(self.journal.settled_of(calls.last).devices)

    def _calls(self, phase: Phase, last_stage: int | None = None) -> ShardCalls:
        return ShardCalls(self.folder / CALLS, phase, last_stage)

    def summary(self, phase: Phase | None, stop: Stop | None) -> ShardSummary:
        """What all the work on the shard has come to, also in its folder."""
        made = [self._calls(one) for one in Phase]
        attempts, refusals, unclear = self.journal.attempt_totals()
        settled = self.journal.settled_of(made[0].last)
        fields = {
            "runId": self.run.name,
            "shard": self.shard.number,
            "shards": len(self.division.shards),
            "phase": phase,
            "state": "stopped" if stop else "finished",
            "exitCode": int(stop.exit_code) if stop else 0,
            "stop": None if stop is None else stop.as_json(WayOn(listed_flags("", self.config.base_url_flag))),
            "resumeAt": iso(stop.resume_at) or None if stop else None,
            "calls": sum(calls.calls for calls in made),
            "callsSettled": sum(calls.calls - calls.unsettled(settled.devices) for calls in made),
            "counts": {str(outcome): count for outcome, count in settled.outcomes.items()},
            "attempts": attempts,
            "refusals": refusals,
            "unclearAttempts": unclear,
            "endedAt": iso(self.clock.wall()),
        }
        summary = ShardSummary(self.folder, fields)
        summary.write()
        return summary


def _waiting_stop(shards: Sequence[int]) -> Stop:
    return Stop(StopReason.OTHER_SHARDS_UNASSIGN, f"{describe_shards(shards)} not made all unassign calls yet")
