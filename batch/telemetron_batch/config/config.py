"""One frozen configuration, from flags over environment over profile over defaults.

All problems are reported at once, each under the name that the user typed. No file but
the key's is read here (the profile's is in `sources`), and nothing is opened, sent or logged.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from telemetron_batch.config.airflow_context import airflow_context
from telemetron_batch.config.options import OPTIONS, CountOrPercent, Option, redacted
from telemetron_batch.config.rate import Rate
from telemetron_batch.config.sources import (
    KEY_VARIABLE,
    Recorded,
    load_profile,
    raw_value,
    unknown_keys,
    with_recorded,
)
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import InputOptions, PlanOptions, Secret
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.ownership import NotOursError
from telemetron_batch.domain.printable import encodable
from telemetron_batch.domain.urls import is_url, redact_url, strip_file_scheme, validate_object_url
from telemetron_batch.storage.trusted_folders import open_private


@dataclass(frozen=True, kw_only=True, slots=True)
class Brakes:
    """What must hold, before sending where that is possible."""

    max_failed: CountOrPercent | None = None
    max_skipped: CountOrPercent | None = None
    max_unassign: CountOrPercent | None = None
    max_new_customers: int | None = None
    min_rows: int | None = None
    max_age: float | None = None
    expect_rows: int | None = None
    again: bool = False
    out_of_order: bool = False
    allow_empty: bool = False
    empty_exit_code: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sending:
    """How calls are made."""

    base_url: str
    rate: Rate
    """The ceiling of the whole run."""
    process_rate: Rate
    """What of it this process may use alone: all, unless shards of the run do their part."""
    limit_url: Secret | None = None
    """Redis in which the rate is shared with other processes."""
    concurrency: int
    timeout: float
    attempts: int
    give_up_after: float
    longest_wait: float | None = None
    """None: as long as the API may be down."""
    deadline: float | None = None
    hold_transfers: bool = True
    baseline: bool = False
    verify: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """What is said, and how."""

    yes: bool = False
    progress: bool = True
    json: bool = False
    verbose: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything the user decided about one run."""

    files: tuple[str, ...]
    reports_dir: Path
    run_id: str | None
    run_id_generated: bool = False
    """Has the program given the run its id? Then the same command begins another run."""
    sandbox: bool
    api_key: Secret | None
    wait: float
    input: InputOptions
    plan: PlanOptions
    sending: Sending
    brakes: Brakes
    output: OutputOptions
    base_url_flag: str | None = None
    """The base URL if the command line named it."""
    shared_reports_dir: bool = False
    """May the members of our groups write to the folders of runs?"""
    profile: str | None = None
    """The name of the profile in use."""
    profile_file: str = field(default="", compare=False, repr=False)
    """The file of profiles in use, and the profile's name in brackets; empty: none."""
    organisation: str | None = None
    """The name of the account that the key is for; None: the key stands for it."""
    lock_dir: Path | None = None
    """A folder in which several users of one key keep their locks; None: each user has one of their own."""
    job: str | None = None
    """The name that the user gave the job."""
    mapping_of: str | None = None
    """The run whose options hold for the input, because it is fed back from there."""
    as_of: datetime | None = None
    """The time of which the input is the state, in UTC."""
    since_last: bool = False
    full_every: float
    """Seconds after which a run under `since_last` leaves nothing out again."""
    raw_csv: bool = False
    xlsx: bool = False
    publish: str | None = None
    """Where a folder with the run's files is copied to: a folder or a URL."""
    tolerate: tuple[Outcome, ...] = ()
    shards: int | None = None
    """The number of shards into which the run is to be divided; None: it is not."""
    shards_at_once: int | None = None
    """How many of them may run at once; None: all."""
    shard: int | None = None
    """The shard that this process makes, from 1."""
    phase: Phase | None = None
    """What of it; None: everything."""
    given_options: Mapping[str, Any]
    """The options by name as texts, for the records; holds no secret."""
    airflow: Mapping[str, str] = field(default_factory=dict)
    """The Airflow task that this process works for; empty outside Airflow."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What no record may hold."""
        url = self.sending.limit_url
        password = None if url is None else urlsplit(url.reveal()).password
        known = (self.api_key, Secret(unquote(password)) if password else None)
        return tuple(secret for secret in known if secret is not None)

    @property
    def api_identity(self) -> str:
        """What runs against the same API have in common: its base URL, or that it is the sandbox."""
        return "sandbox" if self.sandbox else self.sending.base_url


class _ErrorCollector:
    """Collects what is wrong, so that it can be said at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def read(self, option: Option, source: str, texts: Sequence[str]) -> Any:
        """The value of an option's text or texts; None, and a problem more, if they are no good."""
        if len(texts) != 1 and not option.repeatable:
            self.found.append(f"{source}: takes one value, not {len(texts)}")
            return None
        values = []
        for text in texts:
            try:
                values.append(option.parse(text if option.is_path else _encodable_or_refused(text)))
            except ValueError as exc:
                self.found.append(f"{source}: {exc}")
        if option.repeatable:
            return tuple(values)
        return values[-1] if values else None


def _encodable_or_refused(text: str) -> str:
    """Return the text. Raises ValueError for bytes of the command line or environment that are no text."""
    if encodable(text) != text:
        raise ValueError(f"{encodable(text)!r} is not valid text: write it in UTF-8")
    return text


def resolve(
    files: Sequence[str], flags: Mapping[str, Any], environ: Mapping[str, str], recorded: Recorded | None = None
) -> RunConfig:
    """The configuration of a run of these files.

    `flags` maps option keys to what the command line says (None: nothing), besides
    `profile` and `config`; `recorded` holds where they say nothing. Raises ConfigError that names everything
    that is wrong.
    """
    problems = _ErrorCollector()
    profile, where = load_profile(flags, environ)
    flags = with_recorded(flags, profile, recorded or Recorded())
    problems.found += unknown_keys(profile, where)
    values: dict[str, Any] = {}
    told: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in OPTIONS:
        source, texts = raw_value(option, flags, environ, profile, where)
        sources[option.key] = source
        if texts is None:
            values[option.key] = () if option.repeatable else option.default
        else:
            values[option.key] = problems.read(option, source, texts)
            told[option.key] = _for_record(option, texts, values[option.key])
    if values["lock_dir"] is not None:
        told["lock_dir"] = values["lock_dir"]
    if values["auto_create_devices"] is False and values["device_type"]:
        problems.found.append(f"{sources['device_type']}: is only used with --auto-create-devices")
    problems.found += _invalid_urls(files)
    if problems.found:
        raise ConfigError("; ".join(problems.found), "see telemetron-batch run --help")
    if KEY_VARIABLE in environ and sources["api_key_file"].startswith(where or "\0"):
        values["api_key_file"] = None  # the environment beats the profile
    name = flags.get("profile") or environ.get("TELEMETRON_PROFILE") or None
    flag = values["base_url"] if flags.get("base_url") else None
    return replace(_config(files, values, environ, told), profile=name, profile_file=where, base_url_flag=flag)


def _invalid_urls(files: Sequence[str]) -> Iterator[str]:
    """What is wrong with input files of which the name alone tells it."""
    for file in files:
        if is_url(strip_file_scheme(file)):
            try:
                validate_object_url(file)
            except ValueError as exc:
                yield f"{redact_url(file)}: {exc}"


def _for_record(option: Option, texts: Sequence[str], value: Any) -> Any:
    """What was said of an option, for the records: so that reading it again gives the same value, but for secrets."""
    if isinstance(value, Secret):
        return redacted(value)
    if not option.metavar or not texts:
        return value
    return list(texts) if option.repeatable else texts[-1]


def _config(
    files: Sequence[str], values: Mapping[str, Any], environ: Mapping[str, str], told: Mapping[str, Any]
) -> RunConfig:
    return RunConfig(
        files=tuple(files),
        reports_dir=Path(values["reports_dir"]),
        run_id=values["run_id"],
        sandbox=values["sandbox"],
        api_key=None if values["sandbox"] else api_key(values["api_key_file"], environ),
        wait=values["wait"],
        input=InputOptions(
            columns=dict(values["column"]),
            action_words=dict(values["action_word"]),
            last_line="" if values["expect_rows"] is not None else values["last_line"],
            fill_down=tuple(dict.fromkeys(values["fill_down"])),
            **{name: values[name] for name in _INPUT},
        ),
        plan=PlanOptions(
            chunk_size=values["chunk_size"],
            auto_create_devices=values["auto_create_devices"],
            hold=not values["no_hold"],
        ),
        sending=Sending(
            hold_transfers=not values["no_hold"],
            process_rate=values["rate"],
            **{name: values[name] for name in _SENDING},
        ),
        brakes=Brakes(**{name: values[name] for name in Brakes.__slots__}),
        output=OutputOptions(progress=not values["no_progress"], **{name: values[name] for name in _TALK}),
        organisation=values["organisation"],
        lock_dir=None if values["lock_dir"] is None else Path(values["lock_dir"]),
        job=values["job"],
        as_of=values["as_of"],
        since_last=values["since_last"],
        full_every=values["full_every"],
        shared_reports_dir=values["shared_reports_dir"],
        raw_csv=values["raw_csv"],
        xlsx=values["xlsx"],
        publish=values["publish"],
        tolerate=values["tolerate"],
        **{name: values[name] for name in _SHARDS},
        given_options=told,
        airflow=airflow_context(environ),
    )


_INPUT: Final = (
    "action",
    "delimiter",
    "encoding",
    "sheet",
    "hidden",
    "allow_suspect",
    "multiline_cells",
    "split",
    "trailer_count",
    "auto_create_devices",
    "device_type",
)
_SENDING: Final = (
    "base_url",
    "rate",
    "limit_url",
    "concurrency",
    "timeout",
    "attempts",
    "give_up_after",
    "longest_wait",
    "deadline",
    "baseline",
    "verify",
)
_SHARDS: Final = ("shards", "shards_at_once", "shard", "phase")
_TALK: Final = ("yes", "json", "verbose", "quiet")


def api_key(file: str | None, environ: Mapping[str, str]) -> Secret | None:
    """The key from a file or the environment; None if neither has one. Raises ConfigError."""
    if file is not None:
        text, where = _read_key_file(Path(file)), file
    else:
        text, where = environ.get(KEY_VARIABLE, "").strip(), KEY_VARIABLE
    if not text:
        return None
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigError(f"what {where} holds is not a key", "a key is one word of plain letters, digits and signs")
    return Secret(text)


def _read_key_file(file: Path) -> str:
    try:
        with os.fdopen(open_private(file), encoding="utf-8") as opened:
            if _is_readable_by_others(os.fstat(opened.fileno())):
                raise ConfigError(f"others can read the key in {file}", f"run: chmod 600 {file}")
            text = opened.read().strip()
    except NotOursError as exc:
        raise ConfigError(f"--api-key-file: {exc.what}", exc.advice) from exc
    except OSError as exc:
        raise ConfigError(f"--api-key-file: cannot read {file} ({exc.strerror})", "check the path") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"--api-key-file: {file} is not a text file", "it holds the key and nothing else") from exc
    if not text:
        raise ConfigError(f"--api-key-file: {file} is empty", "it holds the key and nothing else")
    return text


def _is_readable_by_others(found: os.stat_result) -> bool:
    """Whether others than the owner and this user can read a file; the group may where root gave it to us by that."""
    if os.name != "posix":  # modes tell nothing there
        return False
    given = found.st_uid == 0 != os.geteuid() and found.st_gid in {os.getegid(), *os.getgroups()}
    others = stat.S_IRWXG & ~stat.S_IRGRP | stat.S_IRWXO if given else stat.S_IRWXG | stat.S_IRWXO
    return bool(stat.S_IMODE(found.st_mode) & others)
