"""The program put together: from a configuration to a run, its files and its summary.

Here the parts meet, and only here. The doors (command line, Airflow) call `run`,
`make_plan`, `resume`, `verify` and `report` and put what they give into words.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from batch import __version__
from batch.airflow_context import context_variables, in_words
from batch.clock import Clock, RealClock, file_age, iso
from batch.config import RunConfig, api_key, resolve
from batch.errors import BrakeError, ConfigError, InputError, JournalError, LockedError, VerifyError
from batch.input.load import Loaded, load
from batch.input.stored import find_stored, reading
from batch.interrupt import Interrupt
from batch.model import ACTIONS, ExitCode, PlanOptions, Secret, Stop
from batch.options import BY_KEY
from batch.planning.brakes import check_age, check_plan, check_rows, check_trailers, former_run
from batch.planning.digest import Digest, digest
from batch.planning.past import Delta, asker, compare
from batch.planning.plan import Plan, plan_calls
from batch.planning.since import Standing, packed, standing, unpacked
from batch.rate import Rate
from batch.reconciliation.outputs import Ended, Summary, close_books, input_files, write_files
from batch.reconciliation.reconcile import Reconciliation
from batch.rows import RowBlock, RowsBuilder
from batch.sending.check import check_api
from batch.sending.exchange import Exchanger, connected
from batch.sending.sender import Face, Job, Target, ask_afterwards, send
from batch.stand_in.fleet import Fleet
from batch.stand_in.sandbox import Limit, serve_forever, serving
from batch.storage.journal import Journal, JournalDraft
from batch.storage.lock import Lock, Owner, client_name, is_held, state_folder
from batch.storage.log import LOGGER, logged_to
from batch.storage.runs import JOURNAL, LOCK
from batch.storage.scratch import Scratch
from batch.storage.whole import Reserve, owners_folder, require_room, written_in

_LOOK_AGAIN: Final = 0.5
SCRATCH: Final = "scratch"
_SCRATCH_A_BYTE: Final = 4
"""Bytes of scratch that planning may take for each byte of a large input."""


def make_plan(config: RunConfig, clock: Clock | None = None) -> Digest:
    """Everything up to sending; touches no network and leaves nothing behind. Raises BatchError."""
    clock = clock or RealClock()
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder) / SCRATCH) as scratch:
        loaded = _loaded(config, Path(folder), scratch)
        delta = _since_last(config, loaded, clock)
        plan = _checked_plan(config, loaded, delta, clock)
        return digest(plan, loaded.files, config.sending.rate, _told(delta))


def run(
    config: RunConfig,
    *,
    face: Face | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Do the whole job, or go on with it where a stopped run of the same id ended.

    Raises BatchError where it cannot start; a run that has started always gives its
    summary, however it ended. Of a finished run it gives the summary and changes nothing.
    """
    clock, face = clock or RealClock(), face or Face()
    config = replace(config, run_id=config.run_id or _new_run_id(config, clock))
    _require_key(config)
    folder = config.reports_dir / str(config.run_id)
    if (folder / JOURNAL).exists() and not is_held(folder / LOCK):
        # Looked at before any lock is taken: a finished run is not touched at all.
        with _opened(folder) as journal:
            finished = _finished(config, folder, journal)
        if finished is not None:
            return finished
        config = replace(config, files=())  # seen to be the same; standard input can be read but once
    holding = _locked(config, folder, clock, interrupt=face.interrupt)
    with _own_folder(folder), holding, Scratch(folder / SCRATCH) as scratch:
        plan = None
        if not (folder / JOURNAL).exists():
            plan = _start(config, scratch, face, clock)
            config = replace(config, files=())
        with _opened(folder) as journal:
            finished = _finished(config, folder, journal)
            if finished is not None:
                return finished
            with logged_to(folder / "run.log", config.api_key):
                return _carry_out(Job(config, plan or _plan_of(journal, scratch), journal, face, clock), transport)


def resume(
    folder: Path, environ: Mapping[str, str], *, face: Face | None = None, clock: Clock | None = None
) -> Summary:
    """Go on with a stopped run, with the options it was started with. Raises BatchError."""
    return run(_as_started(folder, environ), face=face, clock=clock)


def verify(
    folder: Path,
    environ: Mapping[str, str],
    *,
    face: Face | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Ask what the customers of a run hold now, and write its files again with what that tells.

    With the options the run was started with. Raises BatchError, also where it ends before
    all were asked: then the files are as they were, and the same again goes on.
    """
    clock, face = clock or RealClock(), face or Face()
    config = _as_started(folder, environ)
    _require_key(config)
    with (
        _locked(config, folder, clock, interrupt=face.interrupt),
        _opened(folder) as journal,
        logged_to(folder / "run.log", config.api_key),
        Scratch(folder / SCRATCH) as scratch,
    ):
        plan = _plan_of(journal, scratch)
        if plan.calls:
            job = Job(config, plan, journal, face, clock)
            with _target(job, transport) as target:
                stop = ask_afterwards(job, target)
            if stop is not None:
                raise VerifyError.of(stop)
        if journal.meta("allSent"):
            # The run itself has ended well: at most its own verify was stopped or killed, and this has made up for it.
            journal.note(stop=None, endedAt=journal.meta("endedAt") or clock.wall())
        return _concluded(config, plan, journal, _stop_of(journal))


def report(folder: Path, *, xlsx: bool = False) -> Summary:
    """Write the files of a run again, from its journal alone; with `xlsx` a workbook too. Raises BatchError."""
    with _opened(folder) as journal:
        owner = Owner(os.getpid(), iso(RealClock().wall()), folder.name)
        lock = Lock.take(folder / LOCK, owner, f"run {folder.name}")
        try:
            told = resolve((), journal.meta("options"), {})
            told = replace(told, xlsx=told.xlsx or xlsx)
            stop = _stop_of(journal)
            with Scratch(folder / SCRATCH) as scratch:
                books = close_books(journal, _plan_of(journal, scratch), stop)
                return write_files(folder, journal, books, _ended(told, stop))
        finally:
            lock.release()


def _as_started(folder: Path, environ: Mapping[str, str]) -> RunConfig:
    """The options that a run was started with; of the environment the key, and who asks, alone."""
    with _opened(folder) as journal:
        options = journal.meta("options")
    keep = {name: text for name, text in environ.items() if name == "TELEMETRON_API_KEY"} | context_variables(environ)
    return replace(resolve((), options, keep), reports_dir=folder.parent, run_id=folder.name)


def _stop_of(journal: Journal) -> Stop | None:
    """Why the run ended early, as its journal has it."""
    if journal.meta("endedAt") is None:
        return Stop(ExitCode.STOPPED, "its process ended", "run the same command again to go on")
    stopped = journal.meta("stop")
    return Stop(ExitCode(stopped[0]), *stopped[1:]) if stopped else None


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How the stand-in API is to be served."""

    port: int
    db: Path | None
    limit: str | None
    max_devices: int
    environ: Mapping[str, str]


def serve_sandbox(options: SandboxOptions, announce: Callable[[str], None]) -> None:
    """Serve the stand-in API until interrupted. With a key in the environment it accepts that one only."""
    try:
        rate = Rate.parse(options.limit) if options.limit else None
    except ValueError as exc:
        raise ConfigError(f"--rate: {exc}") from None
    limit = None if rate is None or rate == Rate.AUTO else Limit(max(1, int(rate.attempts)), rate.seconds)
    key = api_key(None, options.environ)
    with Fleet(options.db) as fleet:
        opened = serving(
            fleet,
            port=options.port,
            api_key=key.reveal() if key else None,
            limit=limit,
            max_devices=options.max_devices,
        )
        serve_forever(opened, announce)


def check(
    config: RunConfig, *, transport: httpx2.AsyncBaseTransport | None = None, clock: Clock | None = None
) -> Stop | None:
    """Ask the API one harmless thing. None when all is well, else what is wrong. Raises ConfigError."""
    clock = clock or RealClock()
    _require_key(config)
    key, sending = config.api_key or Secret(""), config.sending

    async def ask() -> Stop | None:
        opened = connected(sending.base_url, seconds=sending.timeout, transport=transport)
        async with opened as http:
            post = Exchanger(http, key, timeout=sending.timeout, wall=clock.wall).post
            return await check_api(post, sending.base_url)

    return clock.run(ask())


def _new_run_id(config: RunConfig, clock: Clock) -> str:
    """`<file stem>-<UTC time>`."""
    if not config.files:
        raise ConfigError("no input file", "name one, or - for standard input")
    name = Path(config.files[0]).name
    stem = "stdin" if name == "-" else name.removesuffix(".gz").rpartition(".")[0] or name
    safe = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in stem).lstrip(".")[:100]
    at = datetime.fromtimestamp(clock.wall(), UTC)
    run_id = f"{safe or 'run'}-{at:%Y%m%dT%H%M%SZ}"
    taken = sum(1 for _ in config.reports_dir.glob(f"{run_id}*"))
    return f"{run_id}-{taken + 1}" if taken else run_id


def _require_key(config: RunConfig) -> None:
    if config.api_key is None and not config.sandbox:
        advice = "set TELEMETRON_API_KEY or name a file with --api-key-file (or try --sandbox)"
        raise ConfigError("there is no API key", advice)


# Starting


def _start(config: RunConfig, scratch: Scratch, face: Face, clock: Clock) -> Plan:
    """Load the input into a new journal, look at the brakes, ask, and publish it with its plan."""
    folder = config.reports_dir / str(config.run_id)
    if not config.files:
        raise JournalError(f"there is no run in {folder}", "name its id or its folder")
    draft = JournalDraft(folder / JOURNAL)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as spool:
            loaded = _loaded(config, Path(spool), scratch, draft.add)
        looked_at = clock.wall()
        delta = _since_last(config, loaded, clock)
        plan = _checked_plan(config, loaded, delta, clock)
        for file in loaded.files:
            for warning in file.warnings:
                face.told("warning", f"{file.name}: {warning}")
        _check_again(config, loaded, face)
        require_room(folder, _room_for(plan, loaded, xlsx=config.xlsx))
        if not face.planned(digest(plan, loaded.files, config.sending.rate, _told(delta))):
            raise BrakeError("not confirmed", "nothing was sent")
    except BaseException:
        draft.discard()
        raise
    draft.publish(_facts(config, loaded, plan, clock) | _facts_since(delta, plan, looked_at))
    return plan


def _loaded(config: RunConfig, spool: Path, scratch: Scratch, sink: Callable[[RowBlock], None] | None = None) -> Loaded:
    """The input files as rows; raises DiskError before they are read where many of them will find no room."""
    size = sum(_size(path) for path in config.files)
    if size > scratch.room.memory:
        require_room(spool, _SCRATCH_A_BYTE * size)
    with written_in(spool):
        return load(config.files, config.input, spool=spool, sink=sink, scratch=scratch)


def _size(path: str) -> int:
    """Bytes of an input file, as far as they can be told before it is read."""
    with suppress(OSError):
        return os.path.getsize(path)  # noqa: PTH202 - standard input is no path
    return 0


def _since_last(config: RunConfig, loaded: Loaded, clock: Clock) -> Delta | None:
    """What of the input earlier runs have settled; None unless asked for."""
    if not config.since_last:
        return None
    return compare(asker(config, loaded.files, clock.wall()), loaded.rows, config.full_every)


def _told(delta: Delta | None) -> dict[str, Any] | None:
    return None if delta is None else delta.as_json()


def _checked_plan(config: RunConfig, loaded: Loaded, delta: Delta | None, clock: Clock) -> Plan:
    """The plan, if no brake holds it."""
    brakes = config.brakes
    check_trailers(loaded.files)
    check_rows(loaded.rows, brakes)
    check_age([(path, file_age(path, clock)) for path in config.files if path != "-"], brakes)
    if len(loaded.rows) == 0 and not brakes.allow_empty and brakes.empty_exit_code is None:
        names = ", ".join(file.name for file in loaded.files)
        raise InputError(f"{names} has no data rows", "nothing was sent; if that is meant, say --allow-empty")
    with written_in(config.reports_dir):
        plan = plan_calls(loaded.rows, config.plan, None if delta is None else delta.left_out)
    check_plan(plan, brakes, None if delta is None else delta.settled)
    return plan


def _check_again(config: RunConfig, loaded: Loaded, face: Face) -> None:
    # Under --since-last the same export again is a night on which nothing has changed.
    if config.brakes.again or config.since_last or config.sandbox or len(loaded.rows) == 0:
        return
    former = former_run(loaded.files, config.sending.base_url, config.reports_dir)
    if former is not None and not face.again(former):
        raise BrakeError(
            f"run {former} has already processed exactly this content",
            "nothing was sent; if it shall be processed again, say --again",
        )


def _room_for(plan: Plan, loaded: Loaded, *, xlsx: bool) -> int:
    """Bytes that the rest of a run may need: its journal, its files twice while they are renamed, some air."""
    cells = sum(_size(file.path) for file in loaded.files)
    # Its sheets lie there unpacked, and once more while they are put together.
    workbook = 2_000 * len(plan.rows) + 4 * cells if xlsx else 0
    return 2 * Reserve.SIZE + 2_000 * plan.calls + 600 * len(plan.rows) + 2 * cells + workbook


def _facts(config: RunConfig, loaded: Loaded, plan: Plan, clock: Clock) -> dict[str, object]:
    """What the journal records of a run at its start."""
    asked_by = asker(config, loaded.files, clock.wall())
    return {
        "runId": config.run_id,
        "version": __version__,
        "startedAt": clock.wall(),
        "inputs": [asdict(file) for file in loaded.files],
        "baseUrl": asked_by.base_url,
        "client": asked_by.client,
        "lineage": asked_by.lineage,
        "sandbox": config.sandbox,
        "options": dict(config.told),
        "shape": _shape(config),
        "plan": plan.fingerprint(),
    }


def _facts_since(delta: Delta | None, plan: Plan, looked_at: float) -> dict[str, object]:
    """What the journal records of what was left out, so that the plan can be made again from it alone."""
    if delta is None:
        return {}
    return {
        "since": _told(delta),
        "lookedAt": looked_at,
        "fullAt": delta.full_at,
        "origins": [astuple(one) for one in delta.origins],
        "leftOut": packed(plan.left_out),
    }


def _shape(config: RunConfig) -> dict[str, Any]:
    """The options that decide what is sent: under one run id they cannot change."""
    return {
        **asdict(config.input),
        **asdict(config.plan),
        "base_url": config.api,
        "no_hold": not config.sending.hold,
        "since_last": config.since_last,
    }


# Going on


def _check_same(config: RunConfig, journal: Journal, folder: Path) -> None:
    """Refuse another input or other deciding options under the id of this run."""
    advice = "name another --run-id"
    was = journal.meta("shape")
    differing = [name for name, value in _shape(config).items() if was.get(name) != value]
    if differing:
        keys = (name if name in BY_KEY else name.removesuffix("s") for name in sorted(differing))
        names = ", ".join(f"--{BY_KEY[key].name}" for key in keys)
        raise JournalError(f"run {folder.name} was started with other options ({names})", advice)
    if not config.files:
        return
    with tempfile.TemporaryDirectory(dir=folder) as spool:
        hashes = [_sha256(path, Path(spool)) for path in config.files]
    if hashes != [file.sha256 for file in input_files(journal)]:
        raise JournalError(f"run {folder.name} was started with another input", advice)


def _sha256(path: str, spool: Path) -> str:
    with reading(path):
        return find_stored(path, spool).sha256()


def _finished(config: RunConfig, folder: Path, journal: Journal) -> Summary | None:
    """The summary of a finished run; None for any other. Raises JournalError if it is not this run."""
    _check_same(config, journal, folder)
    fields = journal.meta("summary")
    return Summary(folder, fields) if fields is not None and fields["state"] == "finished" else None


def _plan_of(journal: Journal, scratch: Scratch) -> Plan:
    """The plan that the run was started with, made again from the journal's rows."""
    shape = journal.meta("shape")
    builder = RowsBuilder(scratch, typed=shape["auto_create_devices"])
    for file, keys in journal.key_columns():
        builder.add(file, keys)
    options = {name: shape[name] for name in ("chunk_size", "auto_create_devices")}
    left_out = journal.meta("leftOut")
    plan = plan_calls(builder.rows(), PlanOptions(**options), None if left_out is None else unpacked(left_out))
    if plan.fingerprint() != journal.meta("plan"):
        version = journal.meta("version")
        raise JournalError(f"this version plans the run otherwise than {version} did", f"use version {version}")
    return plan


def _carry_out(job: Job, transport: httpx2.AsyncBaseTransport | None) -> Summary:
    """Send what is open, then write the files; the run has ended when its summary is in the journal."""
    config, plan, journal = job.config, job.plan, job.journal
    LOGGER.info("run %s: %d rows, %d calls", config.run_id, len(plan.rows), plan.calls)
    journal.note(stop=None, endedAt=None, standing=None, airflow=dict(config.airflow))
    if config.airflow:
        journal.event(job.clock.wall(), "airflow", in_words(config.airflow))
    stop = None
    if plan.calls:
        with _target(job, transport) as target:
            stop = send(job, target)
    journal.note(endedAt=job.clock.wall(), stop=None if stop is None else [stop.exit_code, stop.reason, stop.advice])
    summary = _concluded(config, plan, journal, stop)
    LOGGER.info("ended: exit code %d, %s", summary.exit_code, stop.reason if stop else "finished")
    return summary


def _concluded(config: RunConfig, plan: Plan, journal: Journal, stop: Stop | None) -> Summary:
    """Close the books, write the files, and put into the journal what it all came to."""
    books = close_books(journal, plan, stop)
    summary = write_files(config.reports_dir / str(config.run_id), journal, books, _ended(config, stop))
    journal.conclude(summary=summary.fields, standing=packed(_standing(books)))
    return summary


def _standing(books: Reconciliation) -> npt.NDArray[np.int8]:
    """What the run has to say of each row to later ones; of what was seen to differ since, nothing is sure."""
    said = standing(books.plan, books.outcome, books.doubts > 0)
    said[books.differs()] = Standing.TOUCHED
    return said


def _ended(config: RunConfig, stop: Stop | None) -> Ended:
    brakes = config.brakes
    return Ended(
        stop=stop,
        raw_csv=config.raw_csv,
        xlsx=config.xlsx,
        tolerate=config.tolerate,
        empty_exit_code=brakes.empty_exit_code,
    )


@contextmanager
def _target(job: Job, transport: httpx2.AsyncBaseTransport | None) -> Iterator[Target]:
    """The API to send to; with --sandbox an embedded one whose fleet fits the input."""
    config = job.config
    if not config.sandbox:
        yield Target(config.sending.base_url, config.api_key or Secret(""), transport)
        return
    db = config.reports_dir / str(config.run_id) / "sandbox.sqlite3"
    db.touch(mode=0o600)
    with Fleet(db) as fleet:
        fleet.seed(_pairs(job.journal))
        with serving(fleet) as base_url:
            yield Target(base_url, Secret("sandbox"))


def _pairs(journal: Journal) -> Iterator[tuple[str, str, str]]:
    """Customer, device and action of each valid row."""
    for _, keys in journal.key_columns():
        valid = keys.filter(pc.equal(keys["problem"], 0))
        columns = (valid[name].to_pylist() for name in ("customerEmail", "deviceIdentifier", "action"))
        for customer, device, action in zip(*columns, strict=True):
            yield customer, device, str(ACTIONS[action])


# Folders and locks


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """The run's folder, which is not left behind where no run was started in it."""
    owners_folder(folder)
    try:
        yield
    finally:
        # Another process may hold the lock and not have begun to write: then it is not ours to remove.
        left = folder.exists() and not (folder / JOURNAL).exists() and not is_held(folder / LOCK)
        if left and {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


@contextmanager
def _locked(config: RunConfig, folder: Path, clock: Clock, *, interrupt: Interrupt | None) -> Iterator[None]:
    """This run, and this base URL and key, for this process alone; an interrupt ends the waiting for them."""
    owner = Owner(os.getpid(), iso(clock.wall()), str(config.run_id))
    wanted = [(folder / LOCK, f"run {config.run_id}")]
    if config.api_key is not None:
        name = client_name(config.sending.base_url, config.api_key.reveal())
        wanted.append((state_folder() / f"{name}.lock", "this base URL and key"))
    until = clock.wall() + config.wait
    locks: list[Lock] = []
    try:
        for path, what in wanted:
            locks.append(_take(partial(Lock.take, path, owner, what), until, clock, interrupt))
        yield
    finally:
        for lock in locks:
            lock.release()


def _take(take: Callable[[], Lock], until: float, clock: Clock, interrupt: Interrupt | None) -> Lock:
    """Take a lock, waiting for it until a moment of the wall clock."""
    while True:
        try:
            return take()
        except LockedError:
            if interrupt or clock.wall() >= until:
                raise
        clock.pause(_LOOK_AGAIN)


@contextmanager
def _opened(folder: Path) -> Iterator[Journal]:
    if not (folder / JOURNAL).exists():
        raise JournalError(f"there is no run in {folder}", "name its id or its folder")
    journal = Journal(folder / JOURNAL)
    try:
        yield journal
    finally:
        journal.close()
