"""The table of all options: name, parser, group, help and default.

The command line, the environment and the profiles use this one table. `option_values` has the parsers.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from telemetron_batch.config.network import ProxyMode, parse_proxy
from telemetron_batch.config.notices import (
    DEFAULT_NOTIFY_ON,
    SEPARATOR,
    PingFailure,
    parse_notify,
    parse_notify_on,
    parse_ping,
    parse_ping_fail_on,
)
from telemetron_batch.config.option_values import (
    DEFAULT_BASE_URL,
    integer_parser,
    parse_absolute,
    parse_action,
    parse_action_word,
    parse_approval,
    parse_base_url,
    parse_column_name,
    parse_command,
    parse_count_or_percent,
    parse_duration,
    parse_encoding,
    parse_field,
    parse_flag,
    parse_folder_or_url,
    parse_hidden,
    parse_last_line,
    parse_limit_url,
    parse_local_time,
    parse_outcome,
    parse_owners,
    parse_phase,
    parse_positive_duration,
    parse_query,
    parse_run_id,
    parse_split,
    parse_text,
    parse_timestamp,
    parse_trailer_regex,
)
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.delimiters import parse_delimiter
from telemetron_batch.domain.model import HiddenRowsPolicy

KEY_VARIABLE: Final = "TELEMETRON_API_KEY"
"""The environment variable that holds the API key."""
_INIT_OPTIONS: Final = frozenset(
    {
        "action",
        "column",
        "action-word",
        "delimiter",
        "encoding",
        "sheet",
        "hidden",
        "trailer-count",
        "multiline-cells",
        "split",
        "fill-down",
        "owners",
        "verbose",
    }
)
_NOT_FOR_UNDO: Final = frozenset(
    {
        "query",
        "source-url-file",
        "sandbox",
        "auto-create-devices",
        "device-type",
        "min-rows",
        "max-age",
        "expect-rows",
        "last-line",
        "wait-for-file",
        "settled-for",
        "as-of",
        "out-of-order",
        "job",
        "since-last",
        "full-every",
        "allow-suspect",
        "allow-empty",
        "empty-exit-code",
        "shards",
        "shards-at-once",
        "shard",
        "phase",
    }
)
"""Options that do not apply to an undo.csv, or that `undo` takes from its run."""


_FOR_LOOKUPS: Final = frozenset(
    {
        "base-url",
        "sandbox",
        "api-key-file",
        "api-key-command",
        "proxy",
        "ca-file",
        "client-cert",
        "client-key",
        "organisation",
        "reports-dir",
        "rate",
        "limit-url",
        "concurrency",
        "timeout",
        "attempts",
        "give-up-after",
        "longest-wait",
        "wait",
        "lock-dir",
        "deadline",
        "column",
        "delimiter",
        "split",
        "fill-down",
        "encoding",
        "sheet",
        "hidden",
        "multiline-cells",
        "min-rows",
        "max-age",
        "expect-rows",
        "last-line",
        "allow-suspect",
        "no-progress",
        "json",
        "verbose",
        "quiet",
    }
)
"""Options of `holdings` and `compare`, which only query."""
_FOR_COMPARE: Final = frozenset({"action", "action-word", "trailer-count", "max-unassign", "allow-empty"})
_NOT_FOR_SERVE: Final = frozenset(
    {
        "query",
        "source-url-file",
        "run-id",
        "again",
        "allow-empty",
        "as-of",
        "empty-exit-code",
        "expect-rows",
        "full-every",
        "job",
        "json",
        "no-progress",
        "out-of-order",
        "phase",
        "quiet",
        "shard",
        "shards",
        "shards-at-once",
        "settled-for",
        "since-last",
        "until",
        "wait-for-file",
        "yes",
    }
)
"""Options that belong to one run, or to a job of every night, and so not to a server."""


class OptionGroup(StrEnum):
    """The purpose of an option."""

    GENERAL = "general"
    INPUT = "input"
    SAFETY = "safety"
    SENDING = "sending"
    OUTPUT = "output"
    NOTICES = "notices"
    SHARDING = "sharding"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of `run`, and of other commands that take it."""

    name: str
    parse: Callable[[str], Any]
    group: OptionGroup
    """The section of `run --help` that lists it."""
    help: str
    metavar: str = ""
    """Placeholder of the value in the help; empty for a flag."""
    default: Any = None
    short: str = ""
    repeatable: bool = False
    for_plan: bool = True
    """Whether `plan` takes it too."""
    for_check: bool = False
    """Whether `check` takes it too."""
    for_resume: bool = False
    """Whether `resume` takes it too; it then overrides the option of the started run."""
    may_be_in_file: bool = False
    """Whether `@FILE` stands for the text in that file; the records then have the text."""
    holds_secret: bool = False
    """Whether the value is a URL that may contain a password, which is refused on the command line; use `@FILE`."""
    separator: str = ","
    """Pattern of what separates several values in an environment variable."""

    @property
    def key(self) -> str:
        """The name with underscores, as a Python identifier and as a key of a profile."""
        return self.name.replace("-", "_")

    def split(self, variable: str) -> list[str]:
        """Return the values in an environment variable."""
        return [text for text in re.split(self.separator, variable) if text] if self.repeatable else [variable]

    @property
    def for_init(self) -> bool:
        """Whether `init` takes it too, because it describes the input."""
        return self.name in _INIT_OPTIONS

    @property
    def for_undo(self) -> bool:
        """Whether `undo` takes it too."""
        return self.name == "verbose" or not (self.for_init or self.name in _NOT_FOR_UNDO)

    @property
    def for_verify(self) -> bool:
        """Whether `verify` takes it too."""
        return self.for_resume and self.group is not OptionGroup.NOTICES

    @property
    def for_notify(self) -> bool:
        """Whether `notify` takes it too."""
        return self.name in ("notify", "ping", "proxy", "ca-file")

    @property
    def for_holdings(self) -> bool:
        """Whether `holdings` takes it too."""
        return self.name in _FOR_LOOKUPS

    @property
    def for_compare(self) -> bool:
        """Whether `compare` takes it too."""
        return self.name in _FOR_LOOKUPS | _FOR_COMPARE

    @property
    def for_serve(self) -> bool:
        """Whether `serve` takes it too."""
        return self.name not in _NOT_FOR_SERVE

    @property
    def default_text(self) -> str:
        """The default as a user would write it; empty without a default."""
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        if not isinstance(self.default, float):
            return "" if self.default is None else str(self.default)
        for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
            if self.default and self.default % seconds == 0:
                return f"{self.default / seconds:g}{unit}"
        return f"{self.default:g}"

    @property
    def is_path(self) -> bool:
        """Whether the value is a path, which may contain any bytes."""
        return self.metavar.partition(" ")[0] in ("DIR", "FILE")

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return f"TELEMETRON_{self.key.upper()}"


_positive, _not_negative = integer_parser(1), integer_parser(0)
_GENERAL, _INPUT, _SAFETY = OptionGroup.GENERAL, OptionGroup.INPUT, OptionGroup.SAFETY
_SENDING, _OUTPUT, _SHARDING = OptionGroup.SENDING, OptionGroup.OUTPUT, OptionGroup.SHARDING
_NOTICES = OptionGroup.NOTICES

OPTIONS: Final = (
    Option("base-url", parse_base_url, _GENERAL, "Base URL of the API; plain http only for a loopback host.", "URL",
           DEFAULT_BASE_URL, for_check=True),
    Option("sandbox", parse_flag, _GENERAL, "Run against the embedded sandbox API; needs no key.", default=False),
    Option("api-key-file", parse_text, _GENERAL, "File with the API key; by default TELEMETRON_API_KEY holds the key.",
           "FILE", for_check=True),
    Option("api-key-command", parse_command, _GENERAL,
           "Command whose first line of output is the API key; asked once more if the API refuses the key.", "CMD",
           for_check=True, for_resume=True),
    Option("proxy", parse_proxy, _GENERAL,
           "Proxy: env for HTTPS_PROXY, ALL_PROXY and NO_PROXY, none, or a URL; @FILE takes it from a file.", "PROXY",
           ProxyMode.ENV, for_check=True, for_resume=True, holds_secret=True),
    Option("ca-file", parse_text, _GENERAL, "Certificate authorities to trust instead of the system's, as PEM.", "FILE",
           for_check=True, for_resume=True),
    Option("client-cert", parse_text, _GENERAL, "Client certificate, as PEM; may hold its key too.", "FILE",
           for_check=True, for_resume=True),
    Option("client-key", parse_text, _GENERAL, "Key of --client-cert, as PEM without a passphrase.", "FILE",
           for_check=True, for_resume=True),
    Option("organisation", parse_text, _GENERAL,
           "Account of the key: with it, a new key still means the same job, lock and limit.", "NAME", for_resume=True),
    Option("reports-dir", parse_text, _GENERAL, "Folder that contains one folder for each run.", "DIR", "reports"),
    Option("shared-reports-dir", parse_flag, _GENERAL, "Accept run folders that your group can write to.",
           default=False),
    Option("run-id", parse_run_id, _GENERAL,
           "Name of the run; repeat the command with this name to continue a stopped run.", "ID"),
    Option("rate", Rate.parse, _SENDING, "Maximum rate of attempts: N/s, N/min, N/h, or auto to find it.", "RATE",
           Rate.parse("10/s")),
    Option("limit-url", parse_limit_url, _SENDING,
           "Redis through which all processes with one base URL and key share the rate.", "URL", holds_secret=True),
    Option("concurrency", _positive, _SENDING, "Maximum calls in flight.", "N", 8),
    Option("chunk-size", _positive, _SENDING, "Maximum devices per call.", "N", 500),
    Option("timeout", parse_positive_duration, _SENDING, "Total deadline for each attempt.", "SECONDS", 30.0,
           for_check=True),
    Option("attempts", _positive, _SENDING, "Maximum attempts per call.", "N", 6),
    Option("give-up-after", parse_duration, _SENDING, "Stop when the API has been down for this long.", "DURATION",
           900.0),
    Option("longest-wait", parse_positive_duration, _SENDING,
           "Stop when the API asks to wait longer; by default the value of --give-up-after.", "DURATION"),
    Option("wait", parse_duration, _GENERAL, "How long to wait while another run uses this run id or key.", "DURATION",
           0.0),
    Option("lock-dir", parse_absolute, _GENERAL,
           "Shared folder for locks: users who name it take turns with one key on this host.", "DIR", for_resume=True),
    Option("deadline", parse_positive_duration, _SENDING,
           "Stop cleanly after this time; the remaining rows are notSent.", "DURATION"),
    Option("until", parse_local_time, _SENDING,
           "Stop cleanly at the first such local time after the run was first started; none lifts it.", "HH:MM",
           for_resume=True),
    Option("wait-for-file", parse_duration, _INPUT, "How long to wait for an input that does not exist yet.",
           "DURATION", 0.0),
    Option("settled-for", parse_duration, _INPUT,
           "Wait until size and time of the input have not changed for this long.", "DURATION", 0.0),
    Option("action", parse_action, _INPUT, "Action of every row, for files without an action column.", "ACTION"),
    Option("column", parse_column_name, _INPUT, "Header of a column, e.g. customerEmail=Kunde.", "NAME=HEADER",
           repeatable=True),
    Option("action-word", parse_action_word, _INPUT, "Action that a word of the file means, e.g. RET=unassign.",
           "WORD=ACTION", repeatable=True),
    Option("delimiter", parse_delimiter, _INPUT, "Delimiter of the input; detected by default.", "CHAR"),
    Option("split", parse_split, _INPUT,
           "Column whose cells hold several values (between , ; and line breaks); each value becomes a row.",
           "NAME[=SIGNS]"),
    Option("fill-down", parse_field, _INPUT, "Column whose empty cells take the value of the row above.", "NAME",
           repeatable=True),
    Option("owners", parse_owners, _INPUT,
           "Where to find the customers of returns that name none: a file, or the word runs for earlier runs.",
           "FILE or runs"),
    Option("query", parse_query, _INPUT,
           "Query of a database whose rows are the input, instead of FILE; @FILE takes it from a file.", "SQL",
           may_be_in_file=True),
    Option("source-url-file", parse_absolute, _INPUT,
           "File with the SQLAlchemy URL of the database of --query, readable by you only.", "FILE"),
    Option("encoding", parse_encoding, _INPUT, "Encoding of the input; detected by default.", "NAME"),
    Option("sheet", parse_text, _INPUT, "Sheet of a workbook; by default the first sheet with the headers.", "NAME"),
    Option("hidden", parse_hidden, _INPUT, "Hidden or filtered rows of a workbook: refuse, skip or read.", "WORD",
           HiddenRowsPolicy.REFUSE),
    Option("auto-create-devices", parse_flag, _SENDING, "Create devices that Telemetron does not know.", default=False),
    Option("device-type", parse_text, _SENDING, "Type of created devices, where no deviceType column gives it.",
           "TYPE"),
    Option("max-failed", parse_count_or_percent, _SAFETY, "Stop when more rows than this have failed.", "N or P%"),
    Option("max-skipped", parse_count_or_percent, _SAFETY, "Stop when more unassigns than this had no effect.",
           "N or P%"),
    Option("max-unassign", parse_count_or_percent, _SAFETY, "Send nothing if more rows than this are unassigns.",
           "N or P%"),
    Option("max-new-customers", _not_negative, _SAFETY, "Stop when more customers than this were created.", "N"),
    Option("min-rows", _not_negative, _SAFETY, "Send nothing if the input has fewer rows.", "N"),
    Option("max-age", parse_positive_duration, _SAFETY, "Send nothing if an input file is older.", "DURATION"),
    Option("expect-rows", _not_negative, _SAFETY, "Send nothing unless the input has exactly this number of rows.",
           "N"),
    Option("trailer-count", parse_trailer_regex, _INPUT,
           "Pattern for the trailer line; its group matches the number of rows.", "REGEX"),
    Option("last-line", parse_last_line, _SAFETY,
           "What to do if the last line has no line end, because the file may be cut: warn or refuse.", "WORD",
           default="warn"),
    Option("as-of", parse_timestamp, _SAFETY, "Time that the input describes; keeps the runs of a job in order.",
           "TIME"),
    Option("out-of-order", parse_flag, _SAFETY,
           "Send although a run of this job with a later --as-of has already sent.", default=False),
    Option("job", parse_text, _GENERAL, "Name of the job; by default the profile, or the file names without digits.",
           "NAME"),
    Option("again", parse_flag, _SAFETY, "Process content that a finished run has already processed.", default=False),
    Option("since-last", parse_flag, _SENDING, "Leave out rows that the last finished run settled with certainty.",
           default=False),
    Option("full-every", parse_positive_duration, _SENDING,
           "With --since-last: leave nothing out if the last full run is older.", "DURATION", default=604_800.0),
    Option("online", parse_flag, _SAFETY,
           "Query each customer before anything is sent, and show what each row will change.", default=False,
           for_resume=True),
    Option("approval", parse_approval, _SAFETY,
           "Who must approve the plan before it is sent: none, or second (another user).", "WHO", ApprovalPolicy.NONE),
    Option("approvals-dir", parse_absolute, _SAFETY,
           "Shared folder of approvals; by default approvals in the reports folder.", "DIR", for_resume=True),
    Option("approval-expires", parse_positive_duration, _SAFETY,
           "Time from the approval to the first attempt, after which the approval no longer counts.", "DURATION",
           86_400.0),
    Option("allow-suspect", parse_flag, _SAFETY, "Send identifiers that look damaged by a spreadsheet.", default=False),
    Option("allow-empty", parse_flag, _SAFETY, "Accept an input without rows.", default=False),
    Option("empty-exit-code", integer_parser(0, 255), _SAFETY, "Exit code for an input without rows.", "N"),
    Option("multiline-cells", parse_flag, _INPUT, "Accept quoted cells that contain whole rows.", default=False),
    Option("no-hold", parse_flag, _SAFETY, "Send assigns whose device may still be with its former owner.",
           default=False),
    Option("baseline", parse_flag, _SENDING, "Query each customer before writing, to attribute lost answers exactly.",
           default=False),
    Option("verify", parse_flag, _SENDING, "Query the customers' devices at the end, as the command verify does.",
           default=False),
    Option("raw-csv", parse_flag, _OUTPUT, "Do not escape cells that a spreadsheet would run as formulas.",
           default=False),
    Option("publish", parse_folder_or_url, _OUTPUT,
           "Copy the run's files to a folder below this one when the run ends.", "DIR or URL"),
    Option("xlsx", parse_flag, _OUTPUT, "Also write reconciliation and attention as workbooks.", default=False),
    Option("tolerate", parse_outcome, _OUTPUT, "Outcome that does not cause exit code 1.", "OUTCOME", repeatable=True),
    Option("notify", parse_notify, _NOTICES,
           "Apprise URL that gets a message when a run ends; @FILE takes URLs from a file.", "URL", repeatable=True,
           for_plan=False, for_resume=True, holds_secret=True, separator=SEPARATOR),
    Option("notify-on", parse_notify_on, _NOTICES,
           "Ends that cause a message: attention, stopped, refused, finished.", "WORDS", DEFAULT_NOTIFY_ON,
           for_plan=False, for_resume=True),
    Option("notify-details", parse_flag, _NOTICES, "Let messages contain email addresses and serials.", default=False,
           for_plan=False, for_resume=True),
    Option("ping", parse_ping, _NOTICES, "URL to get at the start, and at the end with /fail after a failure.", "URL",
           for_plan=False, for_resume=True, holds_secret=True),
    Option("ping-fail-on", parse_ping_fail_on, _NOTICES,
           "What a ping calls a failure: failure, or attention for exit code 1 too.", "WORD", PingFailure.FAILURE,
           for_plan=False, for_resume=True),
    Option("metrics", parse_text, _NOTICES, "File for the textfile collector of Prometheus, written at every end.",
           "FILE", for_plan=False, for_resume=True),
    Option("shards", integer_parser(1, 1000), _SHARDING,
           "Divide the run into this number of shards, for several machines.", "N"),
    Option("shards-at-once", integer_parser(1, 1000), _SHARDING,
           "Number of shards that share the rate at a time; by default all.", "N"),
    Option("shard", integer_parser(1, 1000), _SHARDING,
           "Run this shard of the run --run-id, which plan --shards prepared.", "I", for_plan=False),
    Option("phase", parse_phase, _SHARDING, "Part of the shard to run: unassign, or assign and all later stages.",
           "PHASE", for_plan=False),
    Option("yes", parse_flag, _GENERAL, "Do not ask before sending.", default=False, short="y", for_plan=False),
    Option("no-progress", parse_flag, _OUTPUT, "Do not show progress.", default=False, for_plan=False),
    Option("json", parse_flag, _OUTPUT, "Write the summary as one line of JSON to stdout.", default=False,
           for_check=True),
    Option("verbose", parse_flag, _OUTPUT, "Show more detail, and tracebacks.", default=False, short="v",
           for_check=True),
    Option("quiet", parse_flag, _OUTPUT, "Show errors only.", default=False, short="q", for_check=True),
)  # fmt: skip
OPTIONS_BY_KEY: Final = {option.key: option for option in OPTIONS}
