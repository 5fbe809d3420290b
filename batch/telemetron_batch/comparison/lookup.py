"""Ask what customers hold, under the lock of the key, with the answers that earlier commands have kept."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

import httpx2
import numpy as np
import pyarrow as pa

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.comparison.input_file import InputDraft
from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.errors import ConfigError, PathError, QueryError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.stops import Advice
from telemetron_batch.input.load import BlockSink, Loaded, load
from telemetron_batch.planning.brakes import check_age, check_rows, check_trailers
from telemetron_batch.run.locking import LockWaiter, acquire_locks, locks_of_key
from telemetron_batch.run.requirements import require_can_send
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.session import SessionContext, shown_events
from telemetron_batch.storage.atomic_file import disk_errors_in
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.storage.spill import Scratch
from telemetron_batch.storage.text_hash import hash_texts
from telemetron_batch.verification.answers import AnswerStore, KeptAnswer, make_answers_folder, open_answers
from telemetron_batch.verification.queries import QueryResult, query_customers

DEFAULT_KEEP_S: Final = 3600.0
"""Seconds for which the answers of a complete listing are kept by default."""
_NAMED: Final = 3
"""Customers that an error names."""
_NO_CSV_SUFFIXES: Final = frozenset(
    (
        ".gz",
        ".zip",
        ".bz2",
        ".xz",
        ".zst",
        ".7z",
        ".xlsx",
        ".xlsm",
        ".xlsb",
        ".xls",
        ".ods",
        ".parquet",
        ".jsonl",
        ".ndjson",
    )
)
"""Endings of the names of compressed files, workbooks and tables that are no text; the output is a CSV file."""


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """What `holdings` and `compare` have in common."""

    config: RunConfig
    output: Path
    force: bool = False
    """Whether an existing output is replaced."""
    keep_answers: float = DEFAULT_KEEP_S
    """Seconds for which the answers are kept once all customers were asked."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Who watches, which clock runs, and what carries the requests (None: the network)."""

    observer: RunObserver = field(default_factory=RunObserver)
    clock: Clock = field(default_factory=RealClock)
    transport: httpx2.AsyncBaseTransport | None = None


@dataclass(slots=True)
class Lookup:
    """A place to work in, and the kept answers; usable while the locks are held."""

    request: LookupRequest
    surroundings: Surroundings
    store: AnswerStore
    folder: Path
    """An empty folder that is removed at the end."""
    scratch: Scratch
    asked: int = 0
    """Number of customers that were asked now."""
    oldest: float | None = None
    """When the oldest answer that was read was given, in seconds since the epoch."""

    def load(self, path: str, options: InputOptions, sink: BlockSink) -> Loaded:
        """Load an input file, and check the brakes on it. Raises InputError and BrakeError."""
        brakes = self.request.config.brakes
        with disk_errors_in(self.folder):
            loaded = load([path], options, spool=self.folder, sink=sink, scratch=self.scratch)
        check_trailers(loaded.files)
        check_rows(loaded.files[0].record_count, brakes)
        now = self.surroundings.clock.wall()
        check_age([(file.path, now - file.written) for file in loaded.files if file.written is not None], brakes)
        for warning in loaded.files[0].warnings:
            self.surroundings.observer.on_message("warning", f"{loaded.files[0].name}: {warning}")
        return loaded

    def load_again(self, loaded: Loaded, options: InputOptions, sink: BlockSink) -> None:
        """Load a file again with other options, into another sink."""
        with disk_errors_in(self.folder), Scratch(self.folder / "again") as scratch:
            load([loaded.files[0].path], options, spool=self.folder, sink=sink, scratch=scratch)

    def ask(self, customers: pa.Array) -> None:
        """Ask about the customers that have no kept answer. Raises QueryError unless all are answered afterwards."""
        request, config = self.request, self.request.config
        fingerprint = sha256(np.sort(hash_texts(customers)).tobytes()).hexdigest()
        self.store.begin(fingerprint, request.keep_answers)
        target = ApiTarget.of(config, self.surroundings.transport)
        result = query_customers(customers, self.store, self._session_context(), target)
        self.asked = result.asked
        if result.remaining:
            raise _error_of(result, len(customers), is_kept=request.keep_answers > 0)
        self.store.complete(request.keep_answers)

    def read(self, customers: list[str]) -> dict[str, KeptAnswer]:
        """Return the answers about these customers, all of whom were asked."""
        found = {kept.customer: kept for kept in self.store.read(customers)}
        if len(found) < len(customers):
            raise QueryError("another process has removed kept answers meanwhile", Advice(repeat=True))
        for kept in found.values():
            self.oldest = kept.at if self.oldest is None else min(self.oldest, kept.at)
        return found

    def publish(self, draft: InputDraft) -> None:
        """Give the file its name. Raises ConfigError if a file of this name has appeared meanwhile."""
        _require_new_file(self.request)
        draft.publish(self.request.output)

    def oldest_answer(self) -> str:
        """Return when the oldest answer that was read was given, as ISO 8601 text."""
        return iso(self.oldest)

    def _session_context(self) -> SessionContext:
        observer = self.surroundings.observer
        return SessionContext(
            config=self.request.config,
            observer=observer,
            clock=self.surroundings.clock,
            on_event=shown_events(observer),
        )


@contextmanager
def open_lookup(name: str, request: LookupRequest, surroundings: Surroundings) -> Iterator[Lookup]:
    """Take the lock of the key and open the kept answers, for the command of this name. Raises BatchError."""
    config, clock = request.config, surroundings.clock
    if config.sandbox:
        what = f"{name} with --sandbox would find nothing: the embedded sandbox is empty at the start"
        raise ConfigError(what, "start one with telemetron-batch sandbox, and give its URL as --base-url")
    _require_new_file(request)
    require_can_send(config, clock)
    waiter = LockWaiter.of(replace(config, run_id=name), clock, surroundings.observer)
    account = ApiTarget.of(config, None).name
    with acquire_locks(locks_of_key(config), waiter):
        folder = make_answers_folder(config.reports_dir) / f"{account}-work"
        with (
            open_answers(config.reports_dir, account, clock.wall) as store,
            _empty_folder(folder),
            Scratch(folder / "scratch") as scratch,
        ):
            yield Lookup(request, surroundings, store, folder, scratch)


@contextmanager
def _empty_folder(folder: Path) -> Iterator[None]:
    """Make a folder, without what a killed process has left in it, and remove it at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    with disk_errors_in(folder.parent):
        folder.mkdir(mode=0o700)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_new_file(request: LookupRequest) -> None:
    """Raise ConfigError or PathError if the output exists, or cannot be written."""
    output = request.output
    # A file is replaced by another one, so a device, a pipe or a link would be lost.
    if str(output) == "-" or (os.path.lexists(output) and not stat.S_ISREG(output.lstat().st_mode)):
        raise ConfigError(f"-o {output} is no regular file", "name one, such as -o changes.csv")
    if output.suffix.lower() in _NO_CSV_SUFFIXES:
        what = f"-o {output} would be a CSV file, and could not be read under this name"
        raise ConfigError(what, "name it .csv, such as -o changes.csv")
    if any(_is_same_file(output, file) for file in request.config.files):
        raise ConfigError(f"-o {output} is the input", "name another file")
    if os.path.lexists(output) and not request.force:
        raise ConfigError(f"{output} exists already", "name another file, or replace it with --force")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK | os.X_OK):
        raise PathError(f"cannot write into {output.parent}", "name a folder that exists and can be written to")


def _is_same_file(path: Path, other: str) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _error_of(result: QueryResult, total: int, *, is_kept: bool) -> QueryError:
    """Return the error for queries that did not reach all customers; `is_kept`: whether the same command continues."""
    again = "" if is_kept else "without --keep-answers 0"
    rest = f"{result.remaining:,} of {total:,} customers are not asked yet; the answers so far are kept"
    if (stop := result.stop) is not None:
        if stop.advice.repeat:
            advice = replace(stop.advice, when=f"{again} {stop.advice.when}".strip())
            stop = replace(stop, advice=advice)
        return QueryError.of(stop, rest)
    named = ", ".join(f"{customer} ({reason})" for customer, reason in islice(result.failures, _NAMED))
    more = f" and {result.failed - _NAMED:,} more" if result.failed > _NAMED else ""
    what = f"{result.failed:,} of {total:,} customers could not be asked: {named}{more}; the other answers are kept"
    return QueryError(what, Advice(repeat=True, when=again))
