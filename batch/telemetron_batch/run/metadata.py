"""What a journal records of its run at the start, and whether a later command means the same run."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from telemetron_batch import __version__
from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import OwnerSource
from telemetron_batch.input.load import Loaded
from telemetron_batch.input.source_file import input_errors, open_source
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.delta import encode_column
from telemetron_batch.planning.plan import Plan
from telemetron_batch.run.delta_history import Delta, job_identity
from telemetron_batch.storage.atomic_file import disk_errors_in
from telemetron_batch.storage.clock import Clock, iso
from telemetron_batch.storage.commands import command
from telemetron_batch.storage.system_users import SystemUsers


def run_facts(config: RunConfig, plan: Plan, clock: Clock) -> dict[str, object]:
    """Return the facts that the journal records of a run at its start."""
    return {
        Fact.RUN_ID: config.run_id,
        Fact.RUN_ID_GENERATED: config.run_id_generated,
        Fact.VERSION: __version__,
        Fact.STARTED_AT: clock.wall(),
        Fact.STARTED_BY: _started_by(),
        Fact.REQUESTED_BY: config.requested_by,
        Fact.CORRECTIONS: [[one.field, one.line, one.text] for one in config.input.corrections],
        Fact.OPTIONS: dict(config.given_options),
        Fact.BASE_URL_FLAG: config.base_url_flag,
        Fact.FIXED_OPTIONS: _immutable_options(config),
        Fact.HOLDS_BY_INPUT: config.plan.hold_by_input,
        Fact.PLAN_FINGERPRINT: plan.fingerprint(),
    }


def _started_by() -> dict[str, object]:
    """Return who starts a run, where and with which version, as summary.json has it."""
    user = SystemUsers().current()
    return {"user": user.name, "uid": user.uid, "host": socket.gethostname(), "version": __version__}


def job_metadata(config: RunConfig, loaded: Loaded, clock: Clock) -> dict[str, object]:
    """Return the facts that the journal records of the job, its input, and the input's place in the order of runs."""
    job = job_identity(config, loaded.files, clock.wall())
    return {
        Fact.INPUTS: [asdict(file) for file in loaded.files],
        Fact.BASE_URL: job.base_url,
        Fact.ACCOUNT_HASH: job.account_hash,
        Fact.JOB_KEY: job.job_key,
        Fact.AS_OF: _as_of_text(config),
        Fact.SANDBOX: config.sandbox,
        Fact.OWNERS: None if loaded.owners is None else asdict(loaded.owners),
    }


def _as_of_text(config: RunConfig) -> str | None:
    return None if config.as_of is None else iso(config.as_of.timestamp())


def delta_metadata(delta: Delta | None, plan: Plan, looked_at: float) -> dict[str, object]:
    """Return the facts about rows left out, so that the plan can be made again from the journal alone."""
    if delta is None:
        return {}
    return {
        Fact.SINCE: delta.as_json(),
        Fact.LOOKED_AT: looked_at,
        Fact.FULL_AT: delta.last_full_run_at,
        Fact.ORIGINS: [astuple(one) for one in delta.origins],
        Fact.CONFIRMED_BY: encode_column(plan.confirmed_by),
    }


def _immutable_options(config: RunConfig) -> dict[str, Any]:
    """Return the options that decide what is sent: under one run id they cannot change."""
    plan = asdict(config.plan)
    del plan["hold_by_input"]  # journals of earlier versions do not have it; `no_hold` says the same
    # As JSON returns it; an option that earlier versions do not have is None if unused.
    described = {
        name: (list(value) or None) if isinstance(value, tuple) else value
        for name, value in asdict(config.input).items()
    }
    described["owners"] = None if config.input.owners is None else str(config.input.owners.source)
    del described["purpose"]
    del described["last_line"]  # it decides whether the input is taken, not what is sent
    del described["is_frame"]  # as which kind of input rows came does not matter
    del described["corrections"]  # the rows in the journal have them
    return {
        **described,
        **plan,
        "base_url": config.api_identity,
        "no_hold": not config.sending.hold_transfers,
        "since_last": config.since_last,
        "query": None if config.query is None else config.query.sql,
    }


def ensure_same_run(config: RunConfig, journal: Journal, folder: Path) -> None:
    """Raise JournalError for another input, or other options that decide what is sent, under this run id."""
    advice = "name another --run-id"
    was, shape = journal.fact(Fact.FIXED_OPTIONS), _immutable_options(config)
    was = {"hidden": shape["hidden"], **was}  # journals of earlier versions do not have it
    differing = [name for name, value in shape.items() if was.get(name) != value]
    if api_identity(was["base_url"]) == api_identity(shape["base_url"]):
        differing = [name for name in differing if name != "base_url"]
    if config.as_of is not None and _as_of_text(config) != journal.fact(Fact.AS_OF):
        differing.append("as_of")
    if differing:
        keys = (name if name in OPTIONS_BY_KEY else name.removesuffix("s") for name in sorted(differing))
        names = ", ".join(f"--{OPTIONS_BY_KEY[key].name}" for key in keys)
        raise JournalError(f"run {folder.name} was started with other options ({names})", advice)
    if not config.files:
        return
    _ensure_same_owners(config, journal, folder)
    with spool_in(folder) as spool:
        hashes = input_hashes(config, spool)
    if hashes != [file.sha256 for file in journal.input_files]:
        raise JournalError(
            f"run {folder.name} was started with another input", _advice_on_another_input(folder, journal)
        )


def _ensure_same_owners(config: RunConfig, journal: Journal, folder: Path) -> None:
    """Raise JournalError if the owners file has another content than when the run was planned."""
    owners, recorded = config.input.owners, journal.fact(Fact.OWNERS)
    if owners is None or owners.source is not OwnerSource.FILE or recorded is None or recorded["sha256"] is None:
        return
    with spool_in(folder) as spool:
        if _sha256(owners.path, spool) != recorded["sha256"]:
            what = f"run {folder.name} was started with another content of the owners file"
            raise JournalError(what, _advice_on_another_input(folder, journal))


def _advice_on_another_input(folder: Path, journal: Journal) -> str:
    """Return how to continue an unfinished run without its input, and how to start another one."""
    if (journal.fact(Fact.SUMMARY) or {}).get("state") == "finished":
        return "name another --run-id"
    resume = command("resume", folder, journal.base_url_flag)
    return f"to go on with it, which needs no input file, run {resume}; for this input name another --run-id"


@contextmanager
def spool_in(folder: Path) -> Iterator[Path]:
    """Make a folder for copies of inputs that can be read only once. Raises DiskError."""
    with disk_errors_in(folder):
        place = tempfile.TemporaryDirectory(dir=folder)
    with place as name:
        yield Path(name)


def input_hashes(config: RunConfig, spool: Path) -> list[str]:
    """Return the SHA-256 of each input file."""
    return [_sha256(path, spool) for path in config.files]


def _sha256(path: str, spool: Path) -> str:
    with input_errors(path):
        return open_source(path, spool).sha256()
