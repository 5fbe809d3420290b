"""One run made in shards, by several processes or machines that share its folder.

    plan_shards   one plan for the whole input; for each shard a file of its calls
    run_shard     makes the calls of one shard, with a journal of its own
    barrier       what the unassigns of all shards have left behind
    merged        the journals of all shards in the run's; from there on it is a run like any other

A shard unassigns, then assigns. In between it looks at what all others have left behind: a
device that may still be with its former owner is held, just as if one process did it all.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import numpy as np

from batch.airflow_context import in_words
from batch.clock import Clock, RealClock, iso
from batch.concluding import concluded, stop_of
from batch.config import RunConfig, resolve
from batch.errors import ConfigError, JournalError
from batch.model import ExitCode, Phase, Secret, Stop
from batch.places import Waiting, Wanted, holding, lock_of_key, lock_of_run, opened, own_folder
from batch.planning.digest import Digest, digest
from batch.planning.plan import Plan
from batch.planning.shards import CALLS, Shard, ShardCalls, check_calls, shard_folder, write_shards
from batch.rate import Rate
from batch.reconciliation.outputs import Summary, input_files
from batch.sending.holds import LeftBehind, Stuck, left_behind, lift, stuck_among
from batch.sending.sender import Face, Job, Target, send
from batch.starting import SCRATCH, check_same, new_run_id, plan_of, reach_limit, require_key, start
from batch.storage.journal import Journal, JournalDraft
from batch.storage.log import LOGGER, logged_to
from batch.storage.runs import JOURNAL, LOCK
from batch.storage.scratch import Scratch
from batch.storage.whole import written_whole

LEFT_BEHIND: Final = "left.arrow"
_LOOK_AGAIN: Final = 1.0
_PATIENCE: Final = 5.0
"""Seconds in which whoever looks at a shard at rest, as we do, has done with it."""
_WORST_FIRST: Final = (ExitCode.CLIENT_REFUSED, ExitCode.BRAKE, ExitCode.STOPPED)


@dataclass(frozen=True, slots=True)
class Division:
    """Into which shards a run was divided."""

    at_once: int
    """So many of them share the rate, and no more run at once."""
    shards: tuple[Shard, ...]

    def shard(self, number: int) -> Shard:
        """One of them. Raises ConfigError."""
        if not 1 <= number <= len(self.shards):
            raise ConfigError(f"there is no shard {number}", f"the run has shards 1 to {len(self.shards)}")
        return self.shards[number - 1]

    @classmethod
    def of(cls, journal: Journal) -> "Division | None":
        """That of a run; None if it was not divided."""
        facts = journal.meta("division")
        return None if facts is None else cls(facts["atOnce"], tuple(map(Shard.from_json, facts["shards"])))


@dataclass(frozen=True, slots=True)
class ShardedPlan:
    """A run that was planned in shards, and is now to be made."""

    folder: Path
    digest: Digest
    division: Division

    @property
    def run_id(self) -> str:
        """The run's."""
        return self.folder.name

    @property
    def shards(self) -> tuple[Shard, ...]:
        """What each has to do."""
        return self.division.shards

    def as_json(self) -> dict[str, Any]:
        """By the names of the JSON document: those of any plan, and some more."""
        return {
            **self.digest.as_json(),
            "runId": self.run_id,
            "folder": str(self.folder),
            "shardsAtOnce": self.division.at_once,
            "shards": [shard.as_json() for shard in self.shards],
        }


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """How the work on a shard ended, in numbers: what its summary.json and `--json` hold, by its names there."""

    folder: Path
    fields: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """0 where all calls that were to be made are settled, whatever they came to."""
        return int(self.fields["exitCode"])

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.fields, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Barrier:
    """What the unassigns of all shards have left behind, in the order of the shards."""

    left: tuple[LeftBehind, ...]

    @property
    def unfinished(self) -> tuple[int, ...]:
        """Shards that have not settled all of their unassigns."""
        return tuple(number for number, left in enumerate(self.left, 1) if not left.complete)

    @property
    def complete(self) -> bool:
        """Have all shards settled all of their unassigns? That is the last word then."""
        return not self.unfinished

    def as_json(self) -> dict[str, Any]:
        """In numbers, small enough to be handed on."""
        left = sum(one.pairs.num_rows for one in self.left)
        return {"complete": self.complete, "unfinishedShards": [*self.unfinished], "unassignsLeft": left}


# Planning


def plan_shards(config: RunConfig, *, face: Face | None = None, clock: Clock | None = None) -> ShardedPlan:
    """Plan a run and divide it into `config.shards`; touches no network. Raises BatchError.

    The same again, with the same input, changes nothing.
    """
    clock, face = clock or RealClock(), face or Face()
    require_key(config)
    _check_division(config)
    config = replace(config, run_id=config.run_id or new_run_id(config, clock))
    folder = config.reports_dir / str(config.run_id)
    waiting = Waiting.of(config, clock, face.interrupt)
    with own_folder(folder), holding([lock_of_run(folder)], waiting), Scratch(folder / SCRATCH) as scratch:
        plan = None
        if not (folder / JOURNAL).exists():
            plan = start(config, scratch, face, clock, partial(_divided, config, folder))
            config = replace(config, files=())
        with opened(folder) as journal:
            check_same(config, journal, folder)
            division = _same_division(config, journal, folder)
            plan = plan or plan_of(journal, scratch)
            told = digest(plan, input_files(journal), config.sending.rate, journal.meta("since"))
            return ShardedPlan(folder, told, division)


def _check_division(config: RunConfig) -> None:
    """Raise ConfigError where the options do not go together."""
    if config.shards is None:
        raise ConfigError("it is not said into how many shards", "say --shards N")
    if config.sandbox:
        raise ConfigError(
            "--sandbox is for one process", "serve one with telemetron-batch sandbox, and name it with --base-url"
        )
    if config.sending.verify:
        raise ConfigError("--verify cannot be done by shards", "verify the run when it has been put together")
    _share(config, _at_once(config), 0)


def _at_once(config: RunConfig) -> int:
    shards = config.shards or 1
    return min(shards, config.shards_at_once or shards)


def _share(config: RunConfig, at_once: int, place: int) -> Rate:
    """What of the rate one of so many processes may use alone. Raises ConfigError."""
    rate = config.sending.rate
    if at_once == 1 or config.sending.limit_url is not None:
        return rate
    if rate == Rate.AUTO:
        advice = "say what all shards together may use, or share it with --limit-url"
        raise ConfigError("--rate auto cannot be divided", advice)
    try:
        return rate.share(at_once, place)
    except ValueError as exc:
        longer = Rate(rate.attempts * 60, rate.seconds * 60)
        advice = f"say --rate {longer} if that is meant as well, or fewer --shards-at-once"
        raise ConfigError(f"--rate: {exc} at once", advice) from None


def _divided(config: RunConfig, folder: Path, plan: Plan) -> dict[str, object]:
    """Write the calls of each shard; gives what the journal records of it."""
    shards = write_shards(plan, folder, config.shards or 1)
    return {"division": {"atOnce": _at_once(config), "shards": [shard.as_json() for shard in shards]}}


def _same_division(config: RunConfig, journal: Journal, folder: Path) -> Division:
    division = Division.of(journal)
    advice = "name another --run-id"
    if division is None:
        raise JournalError(f"run {folder.name} was started without shards", advice)
    if (len(division.shards), division.at_once) != (config.shards, _at_once(config)):
        was = f"{len(division.shards)} shards, {division.at_once} at once"
        raise JournalError(f"run {folder.name} was planned in {was}", advice)
    return division


# Making a shard


def run_shard(
    config: RunConfig,
    *,
    face: Face | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> ShardSummary:
    """Make the calls of one shard, or go on with them: `config` names run, shard and phase.

    With the options that the run was planned with, and what `config` says besides. Without a
    phase the assigns are made when all shards have unassigned. Rows that failed are no
    failure of the shard. Raises BatchError where it cannot start.
    """
    clock, face = clock or RealClock(), face or Face()
    run = config.reports_dir / str(config.run_id)
    config, division = _as_planned(config, run)
    reach_limit(config, clock)
    one, phase = division.shard(config.shard or 0), config.phase
    folder = shard_folder(run, one.number)
    check_calls(folder / CALLS, one)
    with (
        holding([_lock_of_shard(run, one.number)], Waiting.of(config, clock, face.interrupt)),
        _own_journal(folder, run.name, one) as journal,
        logged_to(folder / "run.log", *config.secrets),
    ):
        work = _ShardRun(config, run, division, one, journal, face, clock, transport)
        stop = work.make(phase)
        LOGGER.info("shard ended: %s", stop.reason if stop else "all calls settled")
        return work.summed_up(phase, stop)


def _as_planned(config: RunConfig, run: Path) -> tuple[RunConfig, Division]:
    """What the run was planned with, and over it what is said now. Raises BatchError."""
    with opened(run) as journal:
        division = Division.of(journal)
        if division is None:
            raise JournalError(f"run {run.name} was started without shards", "run it without --shard")
        told = {**journal.meta("options"), **config.told}
        if config.api_key is not None:
            told["api_key_file"] = None
        known = resolve((), told, {})
        sending = replace(known.sending, limit_url=config.sending.limit_url or known.sending.limit_url)
        known = replace(
            known,
            sending=sending,
            reports_dir=run.parent,
            run_id=run.name,
            api_key=config.api_key or known.api_key,
            shard=config.shard,
            phase=config.phase,
            wait=config.wait,
            talk=config.talk,
            airflow=config.airflow,
        )
        check_same(known, journal, run)
    require_key(known)
    return known, division


def _lock_of_shard(run: Path, shard: int) -> Wanted:
    return Wanted(f"shard {shard} of run {run.name}", [shard_folder(run, shard) / LOCK])


@contextmanager
def _own_journal(folder: Path, run_id: str, shard: Shard) -> Iterator[Journal]:
    """The shard's journal, made where there is none yet."""
    if not (folder / JOURNAL).exists():
        JournalDraft(folder / JOURNAL).publish({"runId": run_id, "shard": shard.number, "calls": shard.sha256})
    with opened(folder) as journal:
        if journal.meta("calls") != shard.sha256:
            raise JournalError(f"{journal.path} belongs to another plan", "plan the run again under another id")
        yield journal


@dataclass(frozen=True, slots=True)
class _ShardRun:
    """The work of one process on one shard."""

    config: RunConfig
    run: Path
    division: Division
    shard: Shard
    journal: Journal
    face: Face
    clock: Clock
    transport: httpx2.AsyncBaseTransport | None

    @property
    def folder(self) -> Path:
        """The shard's."""
        return shard_folder(self.run, self.shard.number)

    def make(self, phase: Phase | None) -> Stop | None:
        """Make the calls of a phase, or of one after the other. None, or why that ended before all are settled."""
        stop = None if phase is Phase.ASSIGN else self._noted(Phase.UNASSIGN, self._unassign)
        if stop is not None or phase is Phase.UNASSIGN:
            return stop
        return self._noted(Phase.ASSIGN, partial(self._assign, first_all=phase is None))

    def _noted(self, phase: Phase, work: Callable[[], Stop | None]) -> Stop | None:
        """Do the work of a phase and put on record how it ended."""
        self.journal.note(phase=phase, stop=None, endedAt=None)
        if self.config.airflow:
            self.journal.event(self.clock.wall(), "airflow", in_words(self.config.airflow))
        stop = work()
        self.journal.note(stop=None if stop is None else astuple(stop), endedAt=self.clock.wall())
        return stop

    def _unassign(self) -> Stop | None:
        """Make the unassign calls, then tell the others what they left behind."""
        left = LeftBehind.read(self.folder / LEFT_BEHIND)
        if left is not None and left.complete:
            return None
        (self.folder / LEFT_BEHIND).unlink(missing_ok=True)
        stop = self._send(Phase.UNASSIGN, Stuck())
        self._tell()
        return stop

    def _tell(self) -> None:
        """Write what the unassigns have left behind."""
        left_behind(self._calls(Phase.UNASSIGN), self.journal).write(self.folder / LEFT_BEHIND)

    def _assign(self, *, first_all: bool) -> Stop | None:
        """Make the other calls, but for those devices that may still be with a former owner."""
        if not (self.folder / LEFT_BEHIND).exists():
            self._tell()
        if first_all and (missing := self._missing()):
            why = f"{_listed(missing)} not unassigned all of theirs yet"
            return Stop(ExitCode.STOPPED, why, "run the same command again when they have")
        left = barrier(self.run, clock=self.clock).left
        lift(self.journal, self._calls(Phase.ASSIGN), left)
        return self._send(Phase.ASSIGN, stuck_among(left, self._calls(Phase.ASSIGN).devices()))

    def _missing(self) -> Sequence[int]:
        """Shards whose unassigns are not all settled, after waiting for them as long as the user said."""
        waiting = Waiting.of(self.config, self.clock, self.face.interrupt)

        while (missing := [*_unfinished(self.run, self.division)]) and not waiting.is_over:
            self.clock.pause(_LOOK_AGAIN)
        return missing

    def _send(self, phase: Phase, stuck: Stuck) -> Stop | None:
        """Send what of a phase is open, in one of the places that share the rate."""
        calls = self._calls(phase)
        if not _open(calls, self.journal):
            return None
        places = [self.run / "shards" / f"place-{number}.lock" for number in range(1, self.division.at_once + 1)]
        wanted = [
            *lock_of_key(self.config, shared=True),
            Wanted(f"each of the {len(places)} places for shards at once", places),
        ]
        with holding(wanted, Waiting.of(self.config, self.clock, self.face.interrupt)) as locks:
            place = locks[-1].path
            share = _share(self.config, len(places), places.index(place))
            sending = replace(self.config.sending, share=share, verify=False)
            config = replace(self.config, sending=sending)
            file = place.with_suffix(".json")
            job = Job(config, calls, self.journal, self.face, self.clock, stuck, file)
            return send(job, Target(sending.base_url, config.api_key or Secret(""), self.transport))

    def _calls(self, phase: Phase) -> ShardCalls:
        return ShardCalls(self.folder / CALLS, phase)

    def summed_up(self, phase: Phase | None, stop: Stop | None) -> ShardSummary:
        """What all the work on the shard has come to, also in its folder."""
        made = [self._calls(one) for one in Phase]
        attempts, refusals, unclear = self.journal.attempt_totals()
        outcomes = Counter(
            str(result.outcome) for one in self.journal.settlements() for result in one.answer.results.values()
        )
        fields = {
            "runId": self.run.name,
            "shard": self.shard.number,
            "shards": len(self.division.shards),
            "phase": phase,
            "state": "stopped" if stop else "finished",
            "exitCode": int(stop.exit_code) if stop else 0,
            "stop": None if stop is None else stop.as_json(),
            "calls": sum(calls.calls for calls in made),
            "callsSettled": sum(calls.calls - _open(calls, self.journal) for calls in made),
            "counts": outcomes,
            "attempts": attempts,
            "refusals": refusals,
            "unclearAttempts": unclear,
            "endedAt": iso(self.clock.wall()),
        }
        with written_whole(self.folder / "summary.json") as file:
            file.write(json.dumps(fields, ensure_ascii=False, indent=2).encode() + b"\n")
        return ShardSummary(self.folder, fields)


def _open(calls: ShardCalls, journal: Journal) -> int:
    """How many of these calls are not settled."""
    settled: Counter[int] = Counter()
    for one in journal.settlements():
        settled[one.call] += len(one.answer.results)
    done = sum(calls.has(number) and devices == calls.size_of(number) for number, devices in settled.items())
    return calls.calls - done


# Between the phases


def barrier(folder: Path, *, clock: Clock | None = None) -> Barrier:
    """What the unassigns of all shards of a run have left behind, as far as they are made.

    Raises LockedError while a shard is at them.
    """
    clock = clock or RealClock()
    with opened(folder) as journal:
        division = Division.of(journal)
    if division is None:
        raise JournalError(f"run {folder.name} was started without shards", "there is nothing to wait for")
    # Somebody else may be looking at a shard just as we do.
    waiting = Waiting(folder.name, clock.wall() + _PATIENCE, clock, None)
    return Barrier(tuple(waiting.patiently(partial(_left, folder, shard.number, clock)) for shard in division.shards))


def _left(run: Path, shard: int, clock: Clock) -> LeftBehind:
    """What one shard has told, or its journal tells where its process was killed. Raises LockedError."""
    path = shard_folder(run, shard) / LEFT_BEHIND
    if (told := LeftBehind.read(path)) is not None:
        return told
    with holding([_lock_of_shard(run, shard)], Waiting(run.name, clock.wall(), clock, None)):
        if not path.exists():
            _read_off(run, shard).write(path)
    return _left(run, shard, clock)


def _read_off(run: Path, shard: int) -> LeftBehind:
    """What a shard has left behind, read off its journal while nobody is at work on it."""
    folder = shard_folder(run, shard)
    unassigns = ShardCalls(folder / CALLS, Phase.UNASSIGN)
    if not (folder / JOURNAL).exists():
        return left_behind(unassigns, None)
    with opened(folder) as journal:
        return left_behind(unassigns, journal)


def _unfinished(run: Path, division: Division) -> Iterator[int]:
    """Shards that are known to be at their unassigns, or not to have settled all of them."""
    for shard in division.shards:
        told = LeftBehind.read(shard_folder(run, shard.number) / LEFT_BEHIND)
        if told is None or not told.complete:
            yield shard.number


# Putting it together


def merged(folder: Path, *, xlsx: bool = False, clock: Clock | None = None) -> Summary:
    """Put what all shards have journalled into the journal of the run, and reconcile it as any other.

    Raises LockedError while a shard is at work.
    """
    clock = clock or RealClock()
    waiting = Waiting(folder.name, clock.wall(), clock, None)
    with ExitStack() as stack:
        journal = stack.enter_context(opened(folder))
        division = Division.of(journal)
        assert division is not None  # noqa: S101 - only such runs are merged
        shards = [shard.number for shard in division.shards]
        wanted = [lock_of_run(folder), *(_lock_of_shard(folder, shard) for shard in shards)]
        stack.enter_context(holding(wanted, waiting))
        scratch = stack.enter_context(Scratch(folder / SCRATCH))
        there = [shard for shard in shards if (shard_folder(folder, shard) / JOURNAL).exists()]
        journals = {shard: stack.enter_context(opened(shard_folder(folder, shard))) for shard in there}
        plan = plan_of(journal, scratch)
        journal.gather([*journals.values()])
        told = (LeftBehind.read(shard_folder(folder, shard) / LEFT_BEHIND) for shard in shards)
        lift(journal, plan, [one or _read_off(folder, shard) for shard, one in zip(shards, told, strict=True)])
        stop = _stop_of_all(folder, division, plan, journal, journals)
        ends = [one.meta("endedAt") for one in journals.values()]
        journal.note(
            endedAt=max(ends) if ends and None not in ends else clock.wall(),
            stop=None if stop is None else astuple(stop),
            quiet=max((one.meta("quiet", 0.0) for one in journals.values()), default=0.0),
        )
        options = {**journal.meta("options"), "api_key_file": None}
        config = replace(resolve((), options, {}), reports_dir=folder.parent, run_id=folder.name)
        return concluded(replace(config, xlsx=config.xlsx or xlsx), plan, journal, stop)


def _stop_of_all(
    run: Path, division: Division, plan: Plan, journal: Journal, journals: Mapping[int, Journal]
) -> Stop | None:
    """Why not all is settled, by the worst that kept a shard from it; None if all is."""
    settled = np.zeros(plan.calls + 1, np.int64)
    for one in journal.settlements():
        settled[one.call] += len(one.answer.results)
    is_open = settled[1:] < plan.sizes()
    stops = {}
    for shard in division.shards:
        numbers = ShardCalls(shard_folder(run, shard.number) / CALLS, Phase.ASSIGN).numbers
        if is_open[numbers - 1].any():
            stops[shard.number] = _stop_of_one(journals.get(shard.number))
    if not stops:
        return None
    worst, why = min(stops.items(), key=lambda one: (_WORST_FIRST.index(one[1].exit_code), one[0]))
    later = [stop.resume_at for stop in stops.values() if stop.resume_at is not None]
    others = "" if len(stops) == 1 else f"{_listed([*stops])} not made all their calls; "
    advice = f"run them again (telemetron-batch run --run-id {run.name} --shard N), then report again"
    return Stop(why.exit_code, f"{others}shard {worst}: {why.reason}", advice, max(later, default=None))


def _stop_of_one(journal: Journal | None) -> Stop:
    """Why a shard has open calls."""
    if journal is None or journal.meta("phase") is None:
        return Stop(ExitCode.STOPPED, "it has not begun", "")
    stop = stop_of(journal)
    if stop is not None:
        return stop
    reason = (
        "it has made its unassign calls only"
        if journal.meta("phase") == Phase.UNASSIGN
        else ("devices that it held are free by now")
    )
    return Stop(ExitCode.STOPPED, reason, "")


def _listed(shards: Sequence[int]) -> str:
    """Some shards, as the subject of a sentence."""
    if len(shards) == 1:
        return f"shard {shards[0]} has"
    return f"shards {', '.join(map(str, shards[:-1]))} and {shards[-1]} have"
