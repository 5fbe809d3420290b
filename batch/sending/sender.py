"""The sending part of a run: gate, client and runner put together on one event loop.

Also what can end it early: signals, the deadline and the disk. Whatever does, what is
under way is given a little time and the journal stays true.
"""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import httpx2

from batch import clock
from batch.clock import Clock
from batch.config import RunConfig
from batch.errors import BatchError, DiskError, JournalError, LockedError, PlaceError, system_error
from batch.event_sink import Tell
from batch.garbage import rarely_searched
from batch.interrupt import Interrupt
from batch.model import ExitCode, Secret, Stop
from batch.planning.calls import Calls
from batch.planning.digest import Digest
from batch.planning.plan import Plan
from batch.sending.baseline import Baseline
from batch.sending.client import Client
from batch.sending.exchange import Exchanger, Post, connected
from batch.sending.holds import Stuck
from batch.sending.look import Looker
from batch.sending.outage import DownDetector
from batch.sending.pace_keeping import KeptPace, PaceOf, kept_pace
from batch.sending.progress import View, Watch
from batch.sending.runner import RunLimits, Runner
from batch.sending.traffic import Halt, Patience, Traffic
from batch.stops import Advice, StopReason
from batch.storage.facts import Fact
from batch.storage.journal import Journal
from batch.storage.lease import Lease
from batch.storage.lock import client_name, lock_folders, organisation_name
from batch.storage.log import LOGGER
from batch.verify import Verifier

_GRACE: Final = 3.5
"""Seconds that calls in flight get after a signal: Airflow kills after five."""
_MARGIN: Final = 5.0
"""Seconds beyond its deadline in which an unanswered attempt might still be carried out."""
_LOOK_EVERY: Final = 0.25


class Face:
    """What a door shows while a run goes on; this one shows nothing and agrees to everything."""

    interrupt: Interrupt | None = None
    """Through which the door ends the run. None: signals do, as at a terminal."""

    def planned(self, plan: Digest) -> bool:  # noqa: ARG002
        """The plan is made. Shall it be carried out?"""
        return True

    def again(self, former: str) -> bool:  # noqa: ARG002
        """This content was already processed by that run. Shall it be processed again?"""
        return False

    def told(self, kind: str, text: str) -> None:
        """Something worth telling happened: a warning, a hold, an outage."""

    def watches(self) -> bool:
        """Does it want to see how the run gets on?"""
        return False

    def began(self) -> None:
        """Sending begins, or asking afterwards: from now on nothing here may keep the event loop waiting."""

    def saw(self, view: View) -> None:
        """The run as it is now, some times a second; the last one is `over`."""

    def ended(self) -> None:
        """What began has ended. May be called twice."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be sent, where, and how it is recorded and shown."""

    config: RunConfig
    plan: Calls
    journal: Journal
    face: Face
    clock: Clock
    lease: Lease
    stuck: Stuck = field(default_factory=Stuck)
    """Devices that may still be with a former owner, as far as that is known from elsewhere."""
    pacer_file: Path | None = None
    """Where the pace outlives the process; None: under the name of base URL and key."""


@dataclass(frozen=True, slots=True)
class Target:
    """The API and the key to it."""

    base_url: str
    key: Secret
    transport: httpx2.AsyncBaseTransport | None = None
    organisation: str | None = None

    @property
    def name(self) -> str:
        """A name for what belongs to this base URL and organisation, by default the key; gives none of them away."""
        if self.organisation is not None:
            return organisation_name(self.base_url, self.organisation)
        return client_name(self.base_url, self.key.reveal())


def send(job: Job, target: Target) -> Stop | None:
    """Send what of the plan is not settled yet, and verify it where that is wanted.

    None, or why it stopped before the end.
    """
    with rarely_searched():
        try:
            return job.clock.run(_send(job, target))
        except OSError as exc:
            if not job.journal.has_attempts():
                raise
            return _stop_of(exc)


def ask_afterwards(job: Job, target: Target) -> Stop | None:
    """Ask what the customers of the plan hold now. None, or why it stopped before all were asked."""
    with rarely_searched():
        return job.clock.run(_ask_afterwards(job, target))


async def _send(job: Job, target: Target) -> Stop | None:
    sending = job.config.sending
    async with _way_to(job, target) as way:
        client = Client(way.post, job.journal, way.traffic, attempts=sending.attempts, wall=job.clock.wall)
        client.recognise = partial(way.looker.recognise, target.base_url)
        client.uptime = job.clock.uptime
        baseline = Baseline(way.looker, job.journal, job.plan) if sending.baseline else None
        runner = Runner(job.plan, job.journal, client, _limits(job), baseline)
        runner.on_call = [way.kept.save_now_and_then]
        runner.tell_wait = partial(_tell_wait, way.traffic.tell)
        async with _shown(job.face, Watch(runner.tally, way.traffic, sending.share, job.clock.wall)):
            await _done(runner.run(), way.traffic.halt)
        if sending.verify and not way.traffic.halt:
            job.journal.note(allSent=True)  # what may stop it from here on is no reason to send again
            await _verify(job, way)
    return way.traffic.halt.stop


async def _ask_afterwards(job: Job, target: Target) -> Stop | None:
    async with _way_to(job, target) as way:
        await _verify(job, way)
    return way.traffic.halt.stop


async def _verify(job: Job, way: "_Way") -> None:
    sending = job.config.sending
    assert isinstance(job.plan, Plan)  # noqa: S101 - a shard is not verified by itself
    verifier = Verifier(job.plan, job.journal, way.looker, way.traffic, _limits(job))
    verifier.on_look = [way.kept.save_now_and_then]
    async with _shown(job.face, Watch(verifier.tally, way.traffic, sending.share, job.clock.wall)):
        await _done(verifier.run(job.clock.wall), way.traffic.halt)


@dataclass(frozen=True, slots=True)
class _Way:
    """The way to the API, for all that one process asks of it."""

    post: Post
    looker: Looker
    traffic: Traffic
    kept: KeptPace


@asynccontextmanager
async def _way_to(job: Job, target: Target) -> AsyncIterator[_Way]:
    """One pacer, one outage detector and one end for all; signals and the deadline are heeded."""
    sending = job.config.sending
    # An attempt of an earlier process may have had a later deadline than those of this one.
    job.journal.note(quiet=max(job.journal.meta(Fact.QUIET, 0.0), sending.timeout + _MARGIN))
    folder = lock_folders(None if job.config.sandbox else job.config.lock_dir)[-1]
    file = job.pacer_file or folder / f"{target.name}.json"
    whose = PaceOf(target.name, file, sending.timeout + _MARGIN, job.clock.wall, _teller(job))
    connecting = connected(target.base_url, seconds=sending.timeout, transport=target.transport)
    async with kept_pace(sending, whose) as kept, connecting as http:
        traffic = Traffic(kept.pace, DownDetector(), _patience(job), tell=whose.tell, wall=job.clock.wall)
        traffic.may_start = lambda: not job.journal.is_short_of_disk
        traffic.is_ours = lambda: job.lease.is_sure
        exchanger = Exchanger(
            http, target.key, timeout=sending.timeout, wall=job.clock.wall, secrets=job.config.secrets
        )
        looker = Looker(exchanger.post, traffic, attempts=sending.attempts, wall=job.clock.wall)
        ending = _Ending(traffic.halt, exchanger)
        with _deadline(traffic.halt, sending.deadline), _heard(job.face, ending), _fenced(job.lease, ending):
            yield _Way(exchanger.post, looker, traffic, kept)
    if kept.pace.found is not None:
        job.journal.note(rateFound=round(kept.pace.found, 3))


async def _done(work: Awaitable[None], halt: Halt) -> None:
    """Work until all is done; a disk that refuses the journal is an end like any other, as is a run that was lost."""
    try:
        await work
    except* (DiskError, PlaceError, JournalError, LockedError, OSError) as group:
        halt.now(_stop_of(group.exceptions[0]))


def _stop_of(error: Exception) -> Stop:
    told = system_error(error) if isinstance(error, OSError) else error
    advice = told.next_step if isinstance(told, BatchError) else Advice()
    return Stop(StopReason.ERROR, getattr(told, "what", str(told)), advice=advice)


def _patience(job: Job) -> Patience:
    sending = job.config.sending
    hold = sending.give_up_after if sending.longest_wait is None else sending.longest_wait
    return Patience(down=sending.give_up_after, hold=hold)


def _limits(job: Job) -> RunLimits:
    brakes, sending = job.config.brakes, job.config.sending
    return RunLimits(
        concurrency=sending.concurrency,
        max_failed=None if brakes.max_failed is None else brakes.max_failed.of(job.plan.counted_rows),
        max_skipped=None if brakes.max_skipped is None else brakes.max_skipped.of(job.plan.unassign_rows),
        max_new_customers=brakes.max_new_customers,
        hold=sending.hold,
        stuck=job.stuck,
        quiet=job.journal.meta(Fact.QUIET),
        uptime=job.clock.uptime,
    )


def _tell_wait(tell: Tell, seconds: float) -> None:
    tell("wait", f"waiting up to {seconds:.0f} s: an unanswered attempt at the opposite may still be carried out")


def _teller(job: Job) -> Tell:
    def tell(kind: str, text: str, *, aloud: bool = True) -> None:
        job.journal.event(job.clock.wall(), kind, text)
        LOGGER.info(text, extra={"kind": kind})
        if aloud:
            job.face.told(kind, text)

    return tell


@asynccontextmanager
async def _shown(face: Face, watch: Watch) -> AsyncIterator[None]:
    """While this lasts the face sees how the run gets on, if it wants to."""
    face.began()
    looking = asyncio.create_task(_look(face, watch)) if face.watches() else None
    try:
        yield
    finally:
        if looking is not None:
            looking.cancel()
            face.saw(watch.view(over=True))
        face.ended()


async def _look(face: Face, watch: Watch) -> None:
    while True:
        face.saw(watch.view())
        await clock.sleep(_LOOK_EVERY)


class _Ending:
    """Ends a run early: nothing more leaves, and what is under way gets a little time."""

    def __init__(self, halt: Halt, exchanger: Exchanger) -> None:
        self._halt = halt
        self._exchanger = exchanger
        self.begun = False

    def now(self, why: str) -> None:
        """End it for this reason, unless it ends already."""
        self.begun = True
        self._halt.now(Stop(StopReason.INTERRUPTED, why))
        self._exchanger.hurry(_GRACE)

    def lost(self) -> None:
        """End it at once: what may still be answered could not be recorded."""
        self.begun = True
        self._halt.now(Stop(StopReason.RUN_LOST))
        self._exchanger.hurry(0)


@contextmanager
def _deadline(halt: Halt, seconds: float | None) -> Iterator[None]:
    """So many seconds from now the run ends."""
    loop = asyncio.get_running_loop()
    stop = Stop(StopReason.DEADLINE)
    timer = None if seconds is None else loop.call_later(seconds, halt.now, stop)
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


def _heard(face: Face, ending: _Ending) -> AbstractContextManager[None]:
    """Whoever may end the run is heard while this lasts."""
    return _signals(face, ending) if face.interrupt is None else _interrupts(face.interrupt, ending)


@contextmanager
def _signals(face: Face, ending: _Ending) -> Iterator[None]:
    """A signal ends the run while this lasts; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def interrupted(name: str) -> None:
        if ending.begun:
            face.ended()
            os._exit(ExitCode.STOPPED)
        face.told("stop", f"{name}: letting calls under way finish; once more ends at once")
        ending.now(f"stopped by {name}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for one in former:
        loop.add_signal_handler(one, interrupted, one.name)
    try:
        yield
    finally:
        for one, handler in former.items():
            loop.remove_signal_handler(one)
            signal.signal(one, handler)


@contextmanager
def _interrupts(interrupt: Interrupt, ending: _Ending) -> Iterator[None]:
    """Whoever holds the interrupt ends the run while this lasts, from whatever thread."""
    loop = asyncio.get_running_loop()
    with interrupt.heard_by(lambda: _from_outside(loop, lambda: ending.now(interrupt.reason or "stopped"))):
        yield


@contextmanager
def _fenced(lease: Lease, ending: _Ending) -> Iterator[None]:
    """The run ends while this lasts when it turns out to belong to somebody else."""
    loop = asyncio.get_running_loop()
    with lease.watched_by(lambda: _from_outside(loop, ending.lost)):
        yield


def _from_outside(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the run has ended by itself
        loop.call_soon_threadsafe(what)
