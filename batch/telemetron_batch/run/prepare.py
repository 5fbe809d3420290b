"""From a configuration to a plan: the input loaded, the brakes looked at, and what the journal records of it.

Also the other way: from a journal to the plan that its run was started with.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from telemetron_batch import __version__
from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.options import DEFAULT_BASE_URL, OPTIONS_BY_KEY, REDACTED
from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import BrakeError, ConfigError, InputError, JournalError
from telemetron_batch.domain.model import PlanOptions
from telemetron_batch.domain.urls import is_url, strip_file_scheme
from telemetron_batch.input.load import Loaded, load
from telemetron_batch.input.source_file import input_errors, open_source
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.planning.brakes import check_age, check_plan, check_rows, check_trailers
from telemetron_batch.planning.delta import decode_column, encode_column
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import summarize
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.rate_limit.redis_backend import RedisBackend
from telemetron_batch.rows.rows import RowBlock, RowsBuilder
from telemetron_batch.run.delta_history import Delta, compare, job_identity
from telemetron_batch.run.feed_back import find_list
from telemetron_batch.run.history import RecordedRun, previous_run_of_same_content, recorded_runs
from telemetron_batch.run.order_guard import check_order
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.atomic_file import DiskReserve, disk_errors_in, require_free_space
from telemetron_batch.storage.clock import Clock, iso
from telemetron_batch.storage.commands import command
from telemetron_batch.storage.object_store import size_of
from telemetron_batch.storage.open_files import require_open_files
from telemetron_batch.storage.spill import Scratch

_SCRATCH_FACTOR: Final = 4
"""Bytes of scratch that planning may take for each byte of a large input."""
_BYTES_PER_ROW: Final = 50
"""Bytes of text that a row has, about."""


def new_run_id(config: RunConfig, clock: Clock) -> str:
    """`<file stem>-<UTC time>`."""
    if not config.files:
        raise ConfigError("no input file", "name one, or - for standard input")
    name = Path(strip_file_scheme(config.files[0])).name
    stem = "stdin" if name == "-" else name.removesuffix(".gz").rpartition(".")[0] or name
    safe = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in stem).lstrip(".")[:100]
    at = datetime.fromtimestamp(clock.wall(), UTC)
    run_id = f"{safe or 'run'}-{at:%Y%m%dT%H%M%SZ}"
    taken = sum(1 for _ in config.reports_dir.glob(f"{run_id}*"))
    return f"{run_id}-{taken + 1}" if taken else run_id


def require_key(config: RunConfig) -> None:
    """Raise ConfigError without an API key, unless none is needed."""
    if config.api_key is None and not config.sandbox:
        advice = "set TELEMETRON_API_KEY or name a file with --api-key-file (or try --sandbox)"
        raise ConfigError("there is no API key", advice)


def require_connections(config: RunConfig) -> None:
    """Raise PlaceError unless a connection for each call in flight can be opened; the sandbox holds the other end."""
    require_open_files(config.sending.concurrency * (2 if config.sandbox else 1))


def is_redacted(url: str) -> bool:
    """Is it a URL for the records, whose password nobody knows any more?"""
    return f":{REDACTED}@" in url


def check_rate_limit_backend(config: RunConfig, clock: Clock) -> None:
    """Raise ConfigError where the limit is to be shared and nobody can be asked for it."""
    url = config.sending.limit_url
    if url is None:
        return
    if is_redacted(url.reveal()):
        what = "the run was started with --limit-url, whose password is kept nowhere"
        raise ConfigError(what, f"set {OPTIONS_BY_KEY['limit_url'].variable}")
    clock.run(RedisBackend(url, "").ping())


def create_run(
    config: RunConfig,
    scratch: Scratch,
    face: RunObserver,
    clock: Clock,
    prepare: Callable[[Plan], Mapping[str, object]] = lambda _: {},
) -> Plan:
    """Load the input into a new journal, look at the brakes, ask, and publish it with its plan.

    What is to be there before that is prepared last, and gives further facts for the journal.
    """
    folder = config.reports_dir / str(config.run_id)
    if not config.files:
        raise JournalError(f"there is no run in {folder}", "name its id or its folder")
    draft = JournalDraft(folder / JOURNAL_NAME)
    try:
        with _spool_in(folder) as spool:
            size = size_of_input(config)
            loaded = load_input(config, size, spool, scratch, draft.add)
        looked_at = clock.wall()
        delta = since_last(config, loaded, clock)
        plan = plan_and_check_limits(config, loaded, delta, clock)
        for file in loaded.files:
            for warning in file.warnings:
                face.on_message("warning", f"{file.name}: {warning}")
        identity = _identity(config, loaded, clock)
        _check_history(config, loaded, RecordedRun.of(folder, identity.get), draft, face)
        require_free_space(folder, _required_bytes(plan, size, xlsx=config.xlsx))
        told = summarize(plan, loaded.files, config.sending.rate, delta_json(delta))
        for warning in told.warnings:
            face.on_message("warning", warning)
        announce_api(config, face)
        if not face.confirm_plan(told):
            raise BrakeError("not confirmed", "nothing was sent")
        prepared = prepare(plan)
    except BaseException:
        draft.discard()
        raise
    facts = {**_run_metadata(config, plan, clock), **identity, **_delta_metadata(delta, plan, looked_at), **prepared}
    draft.publish(facts)
    return plan


def announce_api(config: RunConfig, face: RunObserver) -> None:
    """Tell the observer which profile file is in use, and the API where it is not the default one."""
    if config.profile_file:
        face.on_message("profile", f"options are read from {config.profile_file}")
    if not config.sandbox and config.sending.base_url != DEFAULT_BASE_URL:
        face.on_message("api", f"calls go to {config.sending.base_url}")


def load_input(
    config: RunConfig, size: int, spool: Path, scratch: Scratch, sink: Callable[[RowBlock], None] | None = None
) -> Loaded:
    """The input files, of so many bytes, as rows; raises DiskError before where many rows will find no room."""
    if size > scratch.room.memory:
        require_free_space(spool, _SCRATCH_FACTOR * size)
    with disk_errors_in(spool):
        return load(config.files, config.input, spool=spool, sink=sink, scratch=scratch, find_list=find_list)


def size_of_input(config: RunConfig) -> int:
    """Bytes of all input files, as far as they can be told before they are read."""
    return sum(map(_size, config.files))


def _size(path: str) -> int:
    path = strip_file_scheme(path)
    if is_url(path):
        with input_errors(path):
            return size_of(path)
    with suppress(OSError):
        return os.path.getsize(path)  # noqa: PTH202 - standard input is no path
    return 0


def since_last(config: RunConfig, loaded: Loaded, clock: Clock) -> Delta | None:
    """What of the input earlier runs have settled; None unless asked for."""
    if not config.since_last:
        return None
    return compare(job_identity(config, loaded.files, clock.wall()), loaded.rows, config.full_every)


def delta_json(delta: Delta | None) -> dict[str, Any] | None:
    """What was left out, by its names in the JSON documents; None unless asked for."""
    return None if delta is None else delta.as_json()


def plan_and_check_limits(config: RunConfig, loaded: Loaded, delta: Delta | None, clock: Clock) -> Plan:
    """The plan, if no brake holds it."""
    brakes = config.brakes
    check_trailers(loaded.files)
    check_rows(sum(file.record_count for file in loaded.files), brakes)
    check_age([(one.path, clock.wall() - one.written) for one in loaded.files if one.written is not None], brakes)
    if len(loaded.rows) == 0 and not brakes.allow_empty and brakes.empty_exit_code is None:
        names = ", ".join(file.name for file in loaded.files)
        raise InputError(f"{names} has no data rows", "nothing was sent; if that is meant, say --allow-empty")
    with disk_errors_in(config.reports_dir):
        plan = plan_calls(loaded.rows, config.plan, None if delta is None else delta.left_out)
    check_plan(plan, brakes, None if delta is None else delta.settled)
    return plan


def _check_history(config: RunConfig, loaded: Loaded, run: RecordedRun, draft: JournalDraft, face: RunObserver) -> None:
    """Raise BrakeError where earlier runs, by their journals, are a reason not to send this input."""
    if config.sandbox:
        return
    passed_over: list[str] = []
    others = recorded_runs(config.reports_dir, run.folder, passed_over.append)
    for warning in passed_over:
        face.on_message("warning", f"{warning}; whether it processed this content already (--again) cannot be checked")
    _refuse_repeated_content(config, loaded, others, face)
    if not config.brakes.out_of_order:
        check_order(run, others, draft.key_columns, _warning(face))


def _refuse_repeated_content(
    config: RunConfig, loaded: Loaded, others: Sequence[RecordedRun], face: RunObserver
) -> None:
    # Under --since-last the same export again is a night on which nothing has changed.
    if config.brakes.again or config.since_last or len(loaded.rows) == 0:
        return
    former = previous_run_of_same_content(loaded.files, config.api_identity, others)
    if former is not None and not face.confirm_repeat(former):
        raise BrakeError(
            f"run {former} has already processed exactly this content",
            "nothing was sent; if it shall be processed again, say --again",
        )


def _warning(face: RunObserver) -> Callable[[str], None]:
    return partial(face.on_message, "warning")


def _required_bytes(plan: Plan, cells: int, *, xlsx: bool) -> int:
    """Bytes that the rest of a run may need: its journal, its files twice while they are renamed, some air.

    `cells` is how many bytes the input has.
    """
    # Its sheets lie there unpacked, and once more while they are put together.
    workbook = 2_000 * len(plan.rows) + 4 * cells if xlsx else 0
    return 2 * DiskReserve.SIZE + 2_000 * plan.calls + 600 * len(plan.rows) + 2 * cells + workbook


def _run_metadata(config: RunConfig, plan: Plan, clock: Clock) -> dict[str, object]:
    """What the journal records of a run at its start."""
    return {
        Fact.RUN_ID: config.run_id,
        Fact.ID_MADE_UP: config.run_id_generated,
        Fact.VERSION: __version__,
        Fact.STARTED_AT: clock.wall(),
        Fact.OPTIONS: dict(config.given_options),
        Fact.BASE_URL_FLAG: config.base_url_flag,
        Fact.SHAPE: _immutable_options(config),
        Fact.HOLDS_BY_INPUT: config.plan.hold,
        Fact.PLAN: plan.fingerprint(),
    }


def _identity(config: RunConfig, loaded: Loaded, clock: Clock) -> dict[str, object]:
    """Return what the journal records of the job, of its input, and of the input's place in the order of nights."""
    asked_by = job_identity(config, loaded.files, clock.wall())
    return {
        Fact.INPUTS: [asdict(file) for file in loaded.files],
        Fact.BASE_URL: asked_by.base_url,
        Fact.CLIENT: asked_by.client,
        Fact.LINEAGE: asked_by.lineage,
        Fact.AS_OF: _as_of_text(config),
        Fact.SANDBOX: config.sandbox,
    }


def _as_of_text(config: RunConfig) -> str | None:
    return None if config.as_of is None else iso(config.as_of.timestamp())


def _delta_metadata(delta: Delta | None, plan: Plan, looked_at: float) -> dict[str, object]:
    """What the journal records of what was left out, so that the plan can be made again from it alone."""
    if delta is None:
        return {}
    return {
        Fact.SINCE: delta_json(delta),
        Fact.LOOKED_AT: looked_at,
        Fact.FULL_AT: delta.last_full_run_at,
        Fact.ORIGINS: [astuple(one) for one in delta.origins],
        Fact.LEFT_OUT: encode_column(plan.unchanged_source),
    }


def _immutable_options(config: RunConfig) -> dict[str, Any]:
    """The options that decide what is sent: under one run id they cannot change."""
    plan = asdict(config.plan)
    del plan["hold"]  # journals of earlier versions do not have it; `no_hold` says the same
    # As JSON gives it back; and what no journal of an earlier version has is None where it is not used.
    described = {
        name: (list(value) or None) if isinstance(value, tuple) else value
        for name, value in asdict(config.input).items()
    }
    del described["last_line"]  # it decides whether the input is taken, not what is sent
    return {
        **described,
        **plan,
        "base_url": config.api_identity,
        "no_hold": not config.sending.hold_transfers,
        "since_last": config.since_last,
    }


# Going on


def ensure_same_run(config: RunConfig, journal: Journal, folder: Path) -> None:
    """Refuse another input or other deciding options under the id of this run."""
    advice = "name another --run-id"
    was, shape = journal.meta(Fact.SHAPE), _immutable_options(config)
    was = {"hidden": shape["hidden"], **was}  # journals of earlier versions do not have it
    differing = [name for name, value in shape.items() if was.get(name) != value]
    if api_identity(was["base_url"]) == api_identity(shape["base_url"]):
        differing = [name for name in differing if name != "base_url"]
    if config.as_of is not None and _as_of_text(config) != journal.meta(Fact.AS_OF):
        differing.append("as_of")
    if differing:
        keys = (name if name in OPTIONS_BY_KEY else name.removesuffix("s") for name in sorted(differing))
        names = ", ".join(f"--{OPTIONS_BY_KEY[key].name}" for key in keys)
        raise JournalError(f"run {folder.name} was started with other options ({names})", advice)
    if not config.files:
        return
    with _spool_in(folder) as spool:
        hashes = [_sha256(path, spool) for path in config.files]
    if hashes != [file.sha256 for file in journal.input_files]:
        raise JournalError(
            f"run {folder.name} was started with another input", _advice_on_another_input(folder, journal)
        )


def _advice_on_another_input(folder: Path, journal: Journal) -> str:
    """Return how to go on with a run that has not ended well, without its input, and how to begin another one."""
    if (journal.meta(Fact.SUMMARY) or {}).get("state") == "finished":
        return "name another --run-id"
    resume = command("resume", folder, journal.base_url_flag)
    return f"to go on with it, which needs no input file, run {resume}; for this input name another --run-id"


def check_order_again(config: RunConfig, journal: Journal, folder: Path, face: RunObserver) -> None:
    """Refuse to go on with a run when a newer night of its job has sent something since. Raises BrakeError."""
    run = RecordedRun.of(folder, journal.meta)
    if not config.brakes.out_of_order and run.has_order:
        others = recorded_runs(folder.parent, folder, _warning(face))
        check_order(run, others, journal.key_columns, _warning(face))


@contextmanager
def _spool_in(folder: Path) -> Iterator[Path]:
    """Give a place for copies of inputs that can be read but once. Raises DiskError."""
    with disk_errors_in(folder):
        place = tempfile.TemporaryDirectory(dir=folder)
    with place as name:
        yield Path(name)


def _sha256(path: str, spool: Path) -> str:
    with input_errors(path):
        return open_source(path, spool).sha256()


def replan_from_journal(journal: Journal, scratch: Scratch) -> Plan:
    """The plan that the run was started with, made again from the journal's rows."""
    shape = journal.meta(Fact.SHAPE)
    scratch.reserve(_BYTES_PER_ROW * sum(file.rows for file in journal.input_files))
    builder = RowsBuilder(scratch, typed=shape["auto_create_devices"])
    for file, keys in journal.key_columns():
        builder.add(file, keys)
    options = PlanOptions(
        chunk_size=shape["chunk_size"],
        auto_create_devices=shape["auto_create_devices"],
        hold=journal.meta(Fact.HOLDS_BY_INPUT, False),  # earlier versions held nothing because of the input
    )
    left_out = journal.meta(Fact.LEFT_OUT)
    plan = plan_calls(builder.rows(), options, None if left_out is None else decode_column(left_out))
    if plan.fingerprint() != journal.meta(Fact.PLAN):
        version = journal.meta(Fact.VERSION)
        raise JournalError(f"this version plans the run otherwise than {version} did", f"use version {version}")
    return plan
