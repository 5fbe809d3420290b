"""Start a run: load the input, plan it, check the brakes, ask, and publish the journal."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.option_values import DEFAULT_BASE_URL
from telemetron_batch.domain.errors import BrakeError, ConfigError, InputError, JournalError, NotConfirmedError
from telemetron_batch.domain.file_names import is_reserved
from telemetron_batch.domain.model import InputFile, OwnersOption
from telemetron_batch.domain.urls import is_url, strip_file_scheme
from telemetron_batch.input.load import BlockSink, Loaded, load
from telemetron_batch.input.source_file import input_errors
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.planning.brakes import check_age, check_plan, check_rows, check_trailers
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import summarize
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.run.delta_history import Delta, find_delta, job_identity
from telemetron_batch.run.feed_back import find_original_input
from telemetron_batch.run.history import RecordedRun, previous_run_of_same_content, recorded_runs
from telemetron_batch.run.metadata import delta_metadata, input_hashes, job_metadata, run_facts, spool_in
from telemetron_batch.run.order_guard import check_order
from telemetron_batch.run.query_snapshot import QUERY_NAME, as_query, named_as_query
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.atomic_file import DiskReserve, disk_errors_in, require_free_space
from telemetron_batch.storage.clock import Clock
from telemetron_batch.storage.object_store import size_of
from telemetron_batch.storage.spill import Scratch

_ID_DIGITS: Final = 8
_choosing: Final = Lock()
_chosen: Final[set[Path]] = set()
"""Folders of the run ids that threads of this process were given: they make them later."""
_SCRATCH_FACTOR: Final = 4
"""Bytes of spill files that planning may need for each byte of a large input."""


@dataclass(frozen=True, slots=True)
class DraftedRun:
    """A run that is planned, and whose journal is about to be published."""

    plan: Plan
    facts: Mapping[str, object]
    """The facts that the journal will have, by name."""
    draft: JournalDraft


def new_run_id(config: RunConfig, clock: Clock) -> str:
    """Return `<file stem>-<UTC time>`, with a number behind it if a run has that name or gets it in this process."""
    at = datetime.fromtimestamp(clock.wall(), UTC)
    first = f"{_file_stem(config)}-{at:%Y%m%dT%H%M%SZ}"
    with _choosing:
        taken = sum(1 for _ in config.reports_dir.glob(f"{first}*"))
        names = (f"{first}-{number + 1}" if number else first for number in count(taken))
        run_id = next(name for name in names if config.reports_dir / name not in _chosen)
        _chosen.add(config.reports_dir / run_id)
    return run_id


def content_run_id(config: RunConfig) -> str:
    """Return `<file stem>-<first 8 digits of the SHA-256 of the input>`: the same for the same content.

    For several files it is the SHA-256 of their hashes.
    """
    stem = _file_stem(config)
    if config.query is not None:
        raise ConfigError("a query may give other rows each time", "name the run with --run-id")
    if "-" in config.files:
        raise ConfigError("standard input can be read only once", "name the run with --run-id")
    with tempfile.TemporaryDirectory() as spool:
        hashes = input_hashes(config, Path(spool))
    digest = hashes[0] if len(hashes) == 1 else sha256("".join(hashes).encode()).hexdigest()
    return f"{stem}-{digest[:_ID_DIGITS]}"


def _file_stem(config: RunConfig) -> str:
    """Return the name of the first file without its extension, as a part of a run id."""
    if config.query is not None:
        return QUERY_NAME
    if not config.files:
        raise ConfigError("no input file", "name one, or - for standard input")
    name = Path(strip_file_scheme(config.files[0])).name
    stem = "stdin" if name == "-" else name.removesuffix(".gz").rpartition(".")[0] or name
    safe = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in stem).lstrip(".")[:100]
    return f"_{safe}" if is_reserved(safe) else safe or "run"


def create_run(
    config: RunConfig,
    scratch: Scratch,
    observer: RunObserver,
    clock: Clock,
    make_extra_facts: Callable[["DraftedRun"], Mapping[str, object]] = lambda _: {},
) -> Plan:
    """Load the input into a new journal, plan it, check the brakes, ask, and publish the journal.

    The input of a query is its result: call this within `with_query_result`. `make_extra_facts` is called last before
    the journal is published; what it returns is added to its facts. Raises BatchError.
    """
    folder = config.folder
    if not config.files:
        raise JournalError(f"there is no run in {folder}", "name its id or its folder")
    draft = JournalDraft(folder / JOURNAL_NAME)
    try:
        with spool_in(folder) as spool:
            size = size_of_input(config)
            loaded = load_input(config, size, spool, scratch, draft)
        looked_at = clock.wall()
        delta = since_last(config, loaded, clock)
        plan = plan_and_check_limits(config, loaded, delta, clock)
        for file in loaded.files:
            for warning in file.warnings:
                observer.on_message("warning", f"{file.name}: {warning}")
        identity = job_metadata(config, loaded, clock)
        _check_history(config, loaded, RecordedRun.of(folder, identity.get), draft, observer)
        require_free_space(folder, _required_bytes(plan, size, xlsx=config.xlsx))
        plan_summary = summarize(plan, loaded.files, config.sending.rate, delta_json(delta), non_defaults(config))
        plan_summary = plan_summary.with_owners(loaded.owners)
        for warning in plan_summary.warnings:
            observer.on_message("warning", warning)
        observer.check_plan(plan_summary)
        if not observer.confirm_plan(plan_summary):
            raise NotConfirmedError("not confirmed", "nothing was sent")
        facts = {**run_facts(config, plan, clock), **identity, **delta_metadata(delta, plan, looked_at)}
        facts |= make_extra_facts(DraftedRun(plan, facts, draft))
    except BaseException:
        draft.discard()
        raise
    draft.publish(facts)
    return plan


def non_defaults(config: RunConfig) -> list[str]:
    """Return a sentence each for the profile file in use and for an API that is not the default one."""
    sentences = []
    if config.profile_file:
        sentences.append(f"options are read from {config.profile_file}")
    if not config.sandbox and config.sending.base_url != DEFAULT_BASE_URL:
        sentences.append(f"calls go to {config.sending.base_url}")
    return sentences


def load_input(config: RunConfig, size: int, spool: Path, scratch: Scratch, sink: BlockSink | None = None) -> Loaded:
    """Load the input files, of `size` bytes. Raises DiskError first if many rows will not fit on the disk."""
    if size > scratch.limits.memory:
        require_free_space(spool, _SCRATCH_FACTOR * size)
    read = partial(
        load,
        config.files,
        config.input,
        spool=spool,
        sink=sink,
        scratch=scratch,
        find_original_input=find_original_input,
    )
    with disk_errors_in(spool), named_as_query(config):
        if config.input.owners is None:
            return as_query(read(), config.query)
        _require_one_standard_input(config.files, config.input.owners)
        from telemetron_batch.run.find_owners import owner_finder

        with owner_finder(config, config.input.owners, size, spool) as finder:
            loaded = read(owners=finder.lookup)
            return as_query(replace(loaded, owners=finder.summary(loaded)), config.query)


def _require_one_standard_input(files: Sequence[str], owners: OwnersOption) -> None:
    if owners.path == "-" and "-" in files:
        raise InputError("standard input is named twice", "name - once")


def size_of_input(config: RunConfig) -> int:
    """Return the bytes of all input files, as far as they are known before reading."""
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
    """Return which rows earlier runs have settled; None without `--since-last`."""
    if not config.since_last:
        return None
    return find_delta(job_identity(config, loaded.files, clock.wall()), loaded.rows, config.full_every)


def delta_json(delta: Delta | None) -> dict[str, Any] | None:
    """Return it under the names of the JSON documents; None without `--since-last`."""
    return None if delta is None else delta.as_json()


def plan_and_check_limits(config: RunConfig, loaded: Loaded, delta: Delta | None, clock: Clock) -> Plan:
    """Plan the calls. Raises BrakeError or InputError where a brake holds."""
    brakes = config.brakes
    check_trailers(loaded.files)
    check_rows(sum(file.record_count for file in loaded.files), brakes)
    check_age([(one.path, clock.wall() - one.written) for one in loaded.files if one.written is not None], brakes)
    if len(loaded.rows) == 0 and not brakes.allow_empty and brakes.empty_exit_code is None:
        names = ", ".join(file.name for file in loaded.files)
        raise InputError(f"{names} has no data rows", "nothing was sent; if that is meant, say --allow-empty")
    with disk_errors_in(config.reports_dir):
        plan = plan_calls(loaded.rows, config.plan, None if delta is None else delta.left_out)
    check_plan(plan, brakes, None if delta is None else delta.confirmed_by)
    return plan


def _check_history(
    config: RunConfig, loaded: Loaded, run: RecordedRun, draft: JournalDraft, observer: RunObserver
) -> None:
    """Raise BrakeError if the journals of earlier runs are a reason not to send this input."""
    needs_history = not config.brakes.out_of_order or refuses_repeats(config)
    if config.sandbox or not needs_history:
        return
    skipped_runs: list[str] = []
    others = recorded_runs(config.reports_dir, run.folder, skipped_runs.append)
    for warning in skipped_runs:
        observer.on_message(
            "warning", f"{warning}; whether it processed this content already (--again) cannot be checked"
        )
    refuse_repeated_content(config, loaded.files, others, observer)
    if not config.brakes.out_of_order:
        check_order(run, others, draft.key_columns, _warning(observer))


def refuses_repeats(config: RunConfig) -> bool:
    """Return whether content that was processed is refused; with --since-last it means that nothing has changed."""
    return not (config.brakes.again or config.since_last)


def refuse_repeated_content(
    config: RunConfig, files: Sequence[InputFile], others: Sequence[RecordedRun], observer: RunObserver
) -> None:
    """Raise BrakeError if a finished run has processed this content, unless that is wanted."""
    if not refuses_repeats(config) or not any(file.rows for file in files):
        return
    former = previous_run_of_same_content(files, config.api_identity, others)
    if former is not None and not observer.confirm_repeat(former):
        kind = NotConfirmedError if observer.asks else BrakeError
        raise kind(
            f"run {former} has already processed exactly this content",
            "nothing was sent; if it shall be processed again, say --again",
        )


def _warning(observer: RunObserver) -> Callable[[str], None]:
    return partial(observer.on_message, "warning")


def _required_bytes(plan: Plan, cells: int, *, xlsx: bool) -> int:
    """Return the bytes that the rest of a run may need: journal, files twice while they are renamed, and a margin.

    `cells` is the size of the input in bytes.
    """
    # Its sheets are on disk unpacked, and once more while they are packed.
    workbook = 2_000 * len(plan.rows) + 4 * cells if xlsx else 0
    return 2 * DiskReserve.SIZE + 2_000 * plan.calls + 600 * len(plan.rows) + 2 * cells + workbook
