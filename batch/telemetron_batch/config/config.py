"""Resolve one frozen configuration: a flag overrides the environment, a profile and the default, in this order.

All problems are reported at once, each under the name that the user typed. The only file read here is the key
file; `sources` reads the profile.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from telemetron_batch.config.airflow_context import airflow_context
from telemetron_batch.config.key_source import KEY_OPTIONS, KeySource, find_key_source
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.config.notices import OPTION_KEYS as NOTICE_KEYS
from telemetron_batch.config.notices import NoticeOptions, shown_url
from telemetron_batch.config.option_values import CountOrPercent, redacted
from telemetron_batch.config.options import OPTIONS, Option
from telemetron_batch.config.rate import Rate
from telemetron_batch.config.secret_file import read_secret_file
from telemetron_batch.config.sources import (
    PROFILE_VARIABLE,
    InheritedOptions,
    load_profile,
    raw_value,
    unknown_keys,
    with_inherited,
)
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import InputOptions, PlanOptions, Secret, SqlQuery
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.printable import encodable
from telemetron_batch.domain.urls import is_url, redact_url, strip_file_scheme, validate_object_url


@dataclass(frozen=True, kw_only=True, slots=True)
class Brakes:
    """Safety limits, checked before sending where possible."""

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
class SendOptions:
    """How to make calls."""

    base_url: str
    rate: Rate
    """The maximum rate of the whole run."""
    process_rate: Rate
    """The part of the rate that this process may use: all of it, except in a shard."""
    limit_url: Secret | None = None
    """URL of the Redis server through which processes share the rate."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    concurrency: int
    timeout: float
    attempts: int
    give_up_after: float
    longest_wait: float | None = None
    """None: the same as `give_up_after`."""
    deadline: float | None = None
    until: time | None = None
    """The local time at which the run stops."""
    until_at: float | None = None
    """The moment that `until` means for this run, in seconds since the epoch; None until it is known."""
    hold_transfers: bool = True
    baseline: bool = False
    verify: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """What to print, and how."""

    yes: bool = False
    progress: bool = True
    json: bool = False
    verbose: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """All options of one run."""

    files: tuple[str, ...]
    reports_dir: Path
    run_id: str | None
    run_id_generated: bool = False
    """Whether the program generated the run id; repeating the command then starts another run."""
    sandbox: bool
    key_source: KeySource
    """Where the API key comes from."""
    wait: float
    wait_for_file: float = 0.0
    """Seconds to wait for input files that do not exist yet."""
    settled_for: float = 0.0
    """Seconds for which the input files must not have changed."""
    input: InputOptions
    plan: PlanOptions
    sending: SendOptions
    brakes: Brakes
    output: OutputOptions
    notices: NoticeOptions = field(default_factory=NoticeOptions)
    base_url_flag: str | None = None
    """The base URL if the command line gave it."""
    shared_reports_dir: bool = False
    """Whether members of this user's groups may write to run folders."""
    profile: str | None = None
    """The name of the profile in use."""
    profile_file: str = field(default="", compare=False, repr=False)
    """The profile file in use, with the profile's name in brackets; "" for none."""
    organisation: str | None = None
    """The name of the account; None: the key identifies the account."""
    online: bool = False
    """Whether to query each customer before anything is sent."""
    approval: ApprovalPolicy = ApprovalPolicy.NONE
    """Who must approve the plan before it is sent."""
    approvals_dir: Path | None = None
    """The folder of approvals; None: a folder in the reports folder."""
    approval_expires: float = 86_400.0
    """Seconds from the approval to the first attempt, after which the approval no longer counts."""
    lock_dir: Path | None = None
    """The folder in which several users of one key keep their locks; None: each user has a folder."""
    job: str | None = None
    """The name of the job, if the user gave one."""
    query: SqlQuery | None = None
    """The query whose result is the input instead of files."""
    options_from_run: str | None = None
    """The run whose input options apply, because the input is one of its own files."""
    as_of: datetime | None = None
    """The time that the input describes, in UTC."""
    since_last: bool = False
    full_every: float
    """Age of the last full run in seconds after which a run with `since_last` leaves nothing out."""
    raw_csv: bool = False
    xlsx: bool = False
    publish: str | None = None
    """The folder or URL below which the run's folder is copied."""
    tolerate: tuple[Outcome, ...] = ()
    shards: int | None = None
    """The number of shards; None: the run is not divided."""
    shards_at_once: int | None = None
    """The number of shards that may run at once; None: all."""
    shard: int | None = None
    """The shard that this process runs, from 1."""
    phase: Phase | None = None
    """The part of the shard to run; None: all of it."""
    given_options: Mapping[str, Any]
    """The options as the user gave them, by key, for the records; without secrets."""
    requested_by: str | None = None
    """The user of the page who asked for the run; None on the command line."""
    airflow: Mapping[str, str] = field(default_factory=dict)
    """The Airflow task that this process works for; empty outside Airflow."""

    @property
    def folder(self) -> Path:
        """The folder of the run, which must have an id."""
        return self.reports_dir / str(self.run_id)

    @property
    def api_key(self) -> Secret | None:
        """The key that identifies the account of this process: the first that was read. Raises ConfigError.

        After the API has refused it, requests may have another one.
        """
        return self.key_source.first_key()

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Texts that no log or record may contain, as far as they are known: keys may be read later."""
        url = self.sending.limit_url
        password = None if url is None else urlsplit(url.reveal()).password
        of_limit = (Secret(unquote(password)),) if password else ()
        return (*self.key_source.known_keys(), *of_limit, *self.sending.network.secrets, *self.notices.secrets)

    @property
    def api_identity(self) -> str:
        """A text that runs against the same API share: the base URL, or `sandbox`."""
        return "sandbox" if self.sandbox else self.sending.base_url


class ProblemCollector:
    """Collects all problems, to report them at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def read(self, option: Option, source: str, texts: Sequence[str]) -> Any:
        """Return the value of an option's texts; record a problem and return None if they are invalid."""
        if len(texts) != 1 and not option.repeatable:
            self.found.append(f"{source}: takes one value, not {len(texts)}")
            return None
        values = []
        for text in texts:
            try:
                text = _from_file(text) if option.holds_secret else text
                text = _text_in_file(text) if option.may_be_in_file else text
                values.append(option.parse(text if option.is_path else _require_encodable(text)))
            except ValueError as exc:
                self.found.append(f"{source}: {exc}")
        if option.repeatable:
            return tuple(values)
        return values[-1] if values else None


def _from_file(text: str) -> str:
    """Return the content of the file that a text such as `@FILE` names; any other text unchanged. Raises ValueError."""
    if not text.startswith("@"):
        return text
    try:
        return read_secret_file(Path(text[1:]), "", "URL")
    except ConfigError as exc:
        raise ValueError(f"{exc.reason}; {exc.next_step.words()}") from exc


def _text_in_file(text: str) -> str:
    """Return the content of the file that a text such as `@FILE` names, which is no secret. Raises ValueError."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8-sig")
    except OSError as exc:
        raise ValueError(f"cannot read {text[1:]} ({exc.strerror}); check the path") from exc
    except UnicodeDecodeError as exc:
        raise ValueError(f"{text[1:]} is not UTF-8; save it so") from exc


def _require_encodable(text: str) -> str:
    """Return the text. Raises ValueError if the command line or environment gave bytes that are not text."""
    if encodable(text) != text:
        raise ValueError(f"{encodable(text)!r} is not valid text: write it in UTF-8")
    return text


def flag_of(option: Option) -> str:
    """Return how the command line writes an option."""
    return f"--{option.name}"


def resolve(
    files: Sequence[str],
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    recorded: InheritedOptions | None = None,
    name_of: Callable[[Option], str] = flag_of,
) -> RunConfig:
    """Return the configuration of a run of these files.

    `flags` maps option keys, and `profile` and `config`, to the values of the command line (None: not given).
    `recorded` supplies options that the flags do not give. Raises ConfigError that names every problem, and a flag
    as `name_of` writes it.
    """
    problems = ProblemCollector()
    profile, where = load_profile(flags, environ)
    flags = with_inherited(flags, profile, recorded or InheritedOptions())
    problems.found += unknown_keys(profile, where)
    values: dict[str, Any] = {}
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for option in OPTIONS:
        source, texts = raw_value(option, flags, environ, profile, where)
        sources[option.key] = source
        if texts is None:
            values[option.key] = () if option.repeatable else option.default
        else:
            shown = name_of(option) if source == flag_of(option) else source
            values[option.key] = problems.read(option, shown, texts)
            given[option.key] = _for_record(option, texts, values[option.key])
    given |= {key: values[key] for key in _ABSOLUTE_PATHS if values[key] is not None}
    problems.found += [*_without_use(values, sources), *_invalid_urls(files), *_query_with_file(files, values, sources)]
    if problems.found:
        raise ConfigError("; ".join(problems.found), "see telemetron-batch run --help")
    key_source, named_by = (KeySource(), "") if values["sandbox"] else find_key_source(values, sources, environ)
    for key in KEY_OPTIONS:
        if key != named_by or key == "api_key_command":  # a command is never recorded
            given.pop(key, None)
    name = flags.get("profile") or environ.get(PROFILE_VARIABLE) or None
    flag = values["base_url"] if flags.get("base_url") else None
    return replace(
        _config(files, values, environ, given),
        key_source=key_source,
        notices=notice_options(values, name),
        profile=name,
        profile_file=where,
        base_url_flag=flag,
    )


def _query_with_file(files: Sequence[str], values: dict[str, Any], sources: Mapping[str, str]) -> list[str]:
    """Return the problem of a flag `--query` beside a FILE; a FILE overrides the query of environment or profile."""
    if not files or values["query"] is None:
        return []
    values["query"] = None
    return ["--query: takes no FILE, because its rows are the input"] if sources["query"] == "--query" else []


def _without_use(values: Mapping[str, Any], sources: Mapping[str, str]) -> Iterator[str]:
    """Yield problems of options that need another one."""
    if values["auto_create_devices"] is False and values["device_type"]:
        yield f"{sources['device_type']}: is only used with --auto-create-devices"
    if values["client_key"] and not values["client_cert"]:
        yield f"{sources['client_key']}: is only used with --client-cert"


def _invalid_urls(files: Sequence[str]) -> Iterator[str]:
    """Yield problems of input URLs that are invalid."""
    for file in files:
        if is_url(strip_file_scheme(file)):
            try:
                validate_object_url(file)
            except ValueError as exc:
                yield f"{redact_url(file)}: {exc}"


def _for_record(option: Option, texts: Sequence[str], value: Any) -> Any:
    """Return the text to record for an option: resolving it again gives the same value, except for secrets."""
    if isinstance(value, Secret):
        return shown_url(value) if option.key in NOTICE_KEYS else redacted(value)
    if option.holds_secret and option.repeatable:
        return [shown_url(url) for url in chain.from_iterable(value or ())]
    if not option.metavar or not texts or option.may_be_in_file:
        return value
    return list(texts) if option.repeatable else texts[-1]


def _config(
    files: Sequence[str], values: Mapping[str, Any], environ: Mapping[str, str], given: Mapping[str, Any]
) -> RunConfig:
    return RunConfig(
        files=tuple(files),
        reports_dir=Path(values["reports_dir"]),
        run_id=values["run_id"],
        sandbox=values["sandbox"],
        key_source=KeySource(),
        input=InputOptions(
            columns=dict(values["column"]),
            action_words=dict(values["action_word"]),
            last_line="" if values["expect_rows"] is not None else values["last_line"],
            fill_down=tuple(dict.fromkeys(values["fill_down"])),
            **{name: values[name] for name in _INPUT_FIELDS},
        ),
        plan=PlanOptions(
            chunk_size=values["chunk_size"],
            auto_create_devices=values["auto_create_devices"],
            hold_by_input=not values["no_hold"],
        ),
        sending=SendOptions(
            hold_transfers=not values["no_hold"],
            process_rate=values["rate"],
            network=NetworkOptions(**{name: values[name] for name in NetworkOptions.__slots__}),
            **{name: values[name] for name in _SENDING_FIELDS},
        ),
        brakes=Brakes(**{name: values[name] for name in Brakes.__slots__}),
        output=OutputOptions(progress=not values["no_progress"], **{name: values[name] for name in _OUTPUT_FIELDS}),
        approvals_dir=_path(values["approvals_dir"]),
        lock_dir=_path(values["lock_dir"]),
        query=_query(values),
        as_of=values["as_of"],
        since_last=values["since_last"],
        full_every=values["full_every"],
        shared_reports_dir=values["shared_reports_dir"],
        raw_csv=values["raw_csv"],
        xlsx=values["xlsx"],
        publish=values["publish"],
        tolerate=values["tolerate"],
        **{name: values[name] for name in (*_RUN_FIELDS, *_SHARD_FIELDS)},
        given_options=given,
        airflow=airflow_context(environ),
    )


def notice_options(values: Mapping[str, Any], profile: str | None = None) -> NoticeOptions:
    """Return who hears how a run ended; `values` are parsed options by key."""
    given = {name: values[name] for name in NOTICE_KEYS}
    urls = tuple(chain.from_iterable(values["notify"] or ()))
    return NoticeOptions(**{**given, "notify": urls}, profile=profile or "")


def _query(values: Mapping[str, Any]) -> SqlQuery | None:
    if values["query"] is None:
        return None
    return SqlQuery(sql=values["query"], url_file=values["source_url_file"])


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


_ABSOLUTE_PATHS: Final = ("lock_dir", "approvals_dir", "source_url_file")
"""Options that are recorded as absolute paths."""
_INPUT_FIELDS: Final = (
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
    "owners",
)
_SENDING_FIELDS: Final = (
    "base_url",
    "rate",
    "limit_url",
    "concurrency",
    "timeout",
    "attempts",
    "give_up_after",
    "longest_wait",
    "deadline",
    "until",
    "baseline",
    "verify",
)
_RUN_FIELDS: Final = (
    "wait",
    "wait_for_file",
    "settled_for",
    "organisation",
    "online",
    "approval",
    "approval_expires",
    "job",
)
_SHARD_FIELDS: Final = ("shards", "shards_at_once", "shard", "phase")
_OUTPUT_FIELDS: Final = ("yes", "json", "verbose", "quiet")
