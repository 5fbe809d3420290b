"""Make the calls of one shard in one process, with its own journal and a slot of the rate."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import httpx2

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.config.airflow_context import describe
from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.stored import load_stored_config, with_access
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.errors import ConfigError, JournalError
from telemetron_batch.domain.stops import ResumeHint, Stop, StopReason, listed_flags
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.resume_hint import errors_as_stop_if_sent, translate_system_errors
from telemetron_batch.reports.summary import ShardSummary
from telemetron_batch.run.finish import serialize_stop
from telemetron_batch.run.locking import LockWaiter, acquire_lease, acquire_locks, locks_of_key, open_journal, run_log
from telemetron_batch.run.metadata import ensure_same_run
from telemetron_batch.run.replan import check_order_again
from telemetron_batch.run.requirements import (
    check_rate_limit_backend,
    require_connections,
    require_key,
    require_network,
)
from telemetron_batch.run.until import with_until
from telemetron_batch.sending.holds import (
    UnreleasedDevices,
    UnreleasedReport,
    collect_unreleased,
    release_resolved_holds,
    reopen_results,
    unknown_customers,
    unreleased_among,
)
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.send import send
from telemetron_batch.sending.session import SendContext
from telemetron_batch.sharding.barrier import collect_unreleased_by_shard, unfinished
from telemetron_batch.sharding.lost_records import JournalCounts, gathered_from, require_journal, require_same
from telemetron_batch.sharding.partition import CALLS, FIRST_ASSIGN_STAGE, Shard, ShardCalls, check_calls, shard_folder
from telemetron_batch.sharding.rate_slots import acquire_slot, slot_rate
from telemetron_batch.sharding.shard_plan import (
    UNRELEASED_FILE,
    ShardLayout,
    describe_shards,
    lock_of_shard,
    require_shard,
)
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.storage.commands import shard_command
from telemetron_batch.storage.lease import Lease
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.storage.trusted_folders import shared_with_group
from telemetron_batch.verification.answers import forget_answers

_POLL_S: Final = 1.0


@translate_system_errors()
def run_shard(
    config: RunConfig,
    *,
    observer: RunObserver | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> ShardSummary:
    """Make or continue the calls of one shard; `config` names run, shard and phase.

    The options are those of the plan, overridden by those given in `config`. Without a phase, the assigns start
    when all shards have unassigned. Failed rows do not make the shard fail. Raises BatchError if it cannot start.
    """
    with shared_with_group(config.shared_reports_dir):
        return _run_shard(config, observer or RunObserver(), transport, clock or RealClock())


def _run_shard(
    config: RunConfig, observer: RunObserver, transport: httpx2.AsyncBaseTransport | None, clock: Clock
) -> ShardSummary:
    run = config.folder
    if config.approval is ApprovalPolicy.SECOND:
        raise ConfigError(
            "a shard cannot need an approval", "run it without --approval, or make the run without shards"
        )
    config, layout, extent = _planned_config(config, run)
    config = with_until(config, clock)
    require_network(config)
    require_connections(config)
    check_rate_limit_backend(config, clock)
    one, phase = layout.shard(config.shard or 0), config.phase
    folder = shard_folder(run, one.number)
    require_shard(run, one.number)
    check_calls(folder / CALLS, one)
    with (
        acquire_lease(lock_of_shard(run, one.number), LockWaiter.of(config, clock, observer)) as lease,
        _own_journal(run, one, extent, lease) as journal,
        errors_as_stop_if_sent(journal),
        run_log(config, folder, lease),
    ):
        work = _ShardRun(config, run, layout, one, journal, observer, clock, lease, transport, clock.wall())
        work.check_order(phase)
        stop = work.make(phase)
        LOGGER.info("shard ended: %s", stop.sentence if stop else "all calls settled")
        return work.summary(phase, stop)


def _planned_config(config: RunConfig, run: Path) -> tuple[RunConfig, ShardLayout, JournalCounts | None]:
    """Return the options of the plan overridden by those given now, the layout, and what was gathered from the shard.

    Raises BatchError.
    """
    with open_journal(run) as journal:
        layout = ShardLayout.of(journal)
        if layout is None:
            raise JournalError(f"run {run.name} was started without shards", "run it without --shard")
        given = {**config.given_options, "base_url": journal.fact(Fact.BASE_URL)}
        planned = load_stored_config(
            run, {**journal.fact(Fact.OPTIONS), **given}, with_key=not config.key_source.is_given
        )
        phase = f" --phase {config.phase}" if config.phase else ""
        planned = with_access(planned, config.sending, f"{shard_command(run, config.shard)}{phase}")
        sending = replace(planned.sending, limit_url=config.sending.limit_url or planned.sending.limit_url)
        planned = replace(
            planned,
            sending=sending,
            key_source=config.key_source if config.key_source.is_given else planned.key_source,
            shard=config.shard,
            phase=config.phase,
            wait=config.wait,
            output=config.output,
            base_url_flag=config.base_url_flag,
            airflow=config.airflow,
        )
        ensure_same_run(planned, journal, run)
        extent = gathered_from(journal, layout.shard(planned.shard or 0))
    require_key(planned)
    return planned, layout, extent


@contextmanager
def _own_journal(run: Path, shard: Shard, extent: JournalCounts | None, lease: Lease) -> Iterator[Journal]:
    """Open the shard's journal, created if it does not exist; refuse one that has less than was gathered from it."""
    folder = shard_folder(run, shard.number)
    require_journal(run, shard, extent)
    if not (folder / JOURNAL_NAME).exists():
        facts: dict[str, object] = {Fact.RUN_ID: run.name, Fact.SHARD: shard.number, Fact.CALLS_HASH: shard.sha256}
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
    layout: ShardLayout
    shard: Shard
    journal: Journal
    observer: RunObserver
    clock: Clock
    lease: Lease
    transport: httpx2.AsyncBaseTransport | None
    began: float
    """Wall-clock time."""

    @property
    def folder(self) -> Path:
        """The shard's folder."""
        return shard_folder(self.run, self.shard.number)

    def check_order(self, phase: Phase | None) -> None:
        """Raise BrakeError if calls are open and a newer run of the job has sent something."""
        calls = [self._calls(one) for one in (Phase if phase is None else (phase,))]
        settled = self.journal.settled_of(calls[0].last).devices  # `last` is the same for all phases
        if any(one.unsettled(settled) for one in calls):
            self._check_order()

    def _check_order(self) -> None:
        with open_journal(self.run) as journal:
            check_order_again(self.config, journal, self.run, self.observer)

    def make(self, phase: Phase | None) -> Stop | None:
        """Make the calls of a phase, or of both; return why that ended before all are settled, None if all are."""
        stop = None if phase is Phase.ASSIGN else self._with_recorded_end(Phase.UNASSIGN, self._unassign)
        if stop is not None or phase is Phase.UNASSIGN:
            return stop
        return self._with_recorded_end(Phase.ASSIGN, partial(self._assign, wait_for_other_shards=phase is None))

    def _with_recorded_end(self, phase: Phase, work: Callable[[], Stop | None]) -> Stop | None:
        """Do the work of a phase and store how it ended."""
        self._note(phase, Stop(StopReason.PROCESS_ENDED), None)
        if self.config.airflow:
            self.journal.record_event(self.clock.wall(), "airflow", describe(self.config.airflow))
        stop = work()
        self._note(phase, stop, self.clock.wall())
        return stop

    def _note(self, phase: Phase, stop: Stop | None, ended_at: float | None) -> None:
        """Store how a phase ended; the end of the unassigns is kept while the assigns are made."""
        stored = serialize_stop(stop)
        kept = {"unassigning": stored} if phase is Phase.UNASSIGN else {}
        self.journal.set_facts(phase=phase, stop=stored, endedAt=ended_at, **kept)

    def _unassign(self) -> Stop | None:
        """Make the unassign calls, then publish the devices that were not surely released."""
        # Other shards may assign any of these devices, so every unknown customer is asked again.
        if stale := unknown_customers(self.journal, self._calls(Phase.UNASSIGN)):
            reopen_results(self.journal, stale)
        report = UnreleasedReport.read(self.folder / UNRELEASED_FILE)
        if report is not None and report.complete and not self._open(self._calls(Phase.UNASSIGN)):
            return None
        (self.folder / UNRELEASED_FILE).unlink(missing_ok=True)
        stop = self._send(self._calls(Phase.UNASSIGN), UnreleasedDevices())
        self._publish_unreleased()
        return stop

    def _publish_unreleased(self) -> None:
        """Write the devices that the unassigns have not surely released."""
        collect_unreleased(self._calls(Phase.UNASSIGN), self.journal).write(self.folder / UNRELEASED_FILE)

    def _assign(self, *, wait_for_other_shards: bool) -> Stop | None:
        """Make the other calls, except for devices that may still be with a former owner.

        If some shard has not yet unassigned a device of this shard, only the first assign stage is made: a held
        assign of that device must be sent before a later stage unassigns the device again.
        """
        if not (self.folder / UNRELEASED_FILE).exists():
            self._publish_unreleased()
        if wait_for_other_shards and (missing := self._wait_for_other_shards()):
            return _waiting_stop(missing)
        calls, barrier_state = self._calls(Phase.ASSIGN), collect_unreleased_by_shard(self.run, clock=self.clock)
        release_resolved_holds(self.journal, calls, barrier_state.unreleased)
        unreleased = unreleased_among(barrier_state.unreleased, calls.devices())
        if not unreleased.has_pending:
            return self._send(calls, unreleased)
        stop = self._send(self._calls(Phase.ASSIGN, FIRST_ASSIGN_STAGE), unreleased)
        return stop or (_waiting_stop(barrier_state.unfinished) if self._open(calls) else None)

    def _wait_for_other_shards(self) -> Sequence[int]:
        """Return the shards with open unassigns, after waiting for them as long as --wait allows."""
        waiting = LockWaiter.of(self.config, self.clock, self.observer)

        while (missing := [*unfinished(self.run, self.layout)]) and not waiting.expired:
            self.clock.sleep_blocking(_POLL_S)
        return missing

    def _send(self, calls: ShardCalls, unreleased: UnreleasedDevices) -> Stop | None:
        """Send the open calls in one of the rate slots."""
        if not self._open(calls):
            return None
        waiting, shards_at_once = LockWaiter.of(self.config, self.clock, self.observer), self.layout.shards_at_once
        with (
            acquire_locks(locks_of_key(self.config, shared=True), waiting),
            acquire_slot(self.run, self.shard.number, shards_at_once, waiting) as slot,
        ):
            self._check_order()  # again: a newer run may have sent something while this one waited for the key
            rate = slot_rate(self.config, shards_at_once, slot.number - 1)
            sending = replace(self.config.sending, process_rate=rate, verify=False, deadline=self._time_left())
            config = replace(self.config, sending=sending)
            send_context = SendContext(
                config, calls, self.journal, self.observer, self.clock, self.lease, unreleased, slot.pacer_file
            )
            customers = partial(calls.customer_emails_of_calls, calls.numbers.tolist())
            forget_answers(config, customers, self.clock.wall())
            stop = send(send_context, ApiTarget.of(config, self.transport))
            self.lease.ensure_valid()
            return stop

    def _time_left(self) -> float | None:
        """Return the seconds to the deadline, which covers both phases and the wait between them."""
        deadline = self.config.sending.deadline
        return None if deadline is None else max(0.0, self.began + deadline - self.clock.wall())

    def _open(self, calls: ShardCalls) -> int:
        """Return how many of these calls are not settled."""
        return calls.unsettled(self.journal.settled_of(calls.last).devices)

    def _calls(self, phase: Phase, last_stage: int | None = None) -> ShardCalls:
        return ShardCalls(self.folder / CALLS, phase, last_stage)

    def summary(self, phase: Phase | None, stop: Stop | None) -> ShardSummary:
        """Return the summary of all work on the shard, and write it to the shard's folder."""
        phases = [self._calls(one) for one in Phase]
        attempts, refusals, unclear = self.journal.attempt_totals()
        settled = self.journal.settled_of(phases[0].last)
        fields = {
            "runId": self.run.name,
            "shard": self.shard.number,
            "shards": len(self.layout.shards),
            "phase": phase,
            "state": "stopped" if stop else "finished",
            "exitCode": int(stop.exit_code) if stop else 0,
            "stop": None if stop is None else stop.as_json(ResumeHint(listed_flags("", self.config.base_url_flag))),
            "resumeAt": iso(stop.resume_at) or None if stop else None,
            "calls": sum(calls.calls for calls in phases),
            "callsSettled": sum(calls.calls - calls.unsettled(settled.devices) for calls in phases),
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
