"""Why a run ended before its last call, as stored codes, with sentence, exit code and advice.

To add a stop, add a member and its row in the table. Stored codes must never change their meaning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Final

from telemetron_batch.domain.shell import quote


class ExitCode(IntEnum):
    """Exit codes of the process."""

    DONE = 0
    ATTENTION = 1
    NOT_STARTED = 2
    STOPPED = 3
    CLIENT_REFUSED = 4
    BRAKE = 5
    LOCKED = 6
    UNBALANCED = 7


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do next."""

    first: str = ""
    """What to do first, or the only thing to do."""
    repeat: bool = False
    """Whether to run the same command again."""
    when: str = ""
    """When to run the command again, or why."""

    def words(self, resume_hint: "ResumeHint | None" = None) -> str:
        """Return the advice as a sentence without a full stop; `resume_hint` gives the command."""
        if not self.repeat:
            return self.first
        command = (resume_hint or ResumeHint()).words
        repeat = f"{command} {self.when}" if self.when else command
        return f"{self.first}, then {repeat}" if self.first else repeat

    def __bool__(self) -> bool:
        return bool(self.first or self.repeat)


@dataclass(frozen=True, slots=True)
class ResumeHint:
    """How to continue a run."""

    flags: str = ""
    """Flags that the same command needs to continue the run, such as `--run-id ID`."""
    resume: str = ""
    """The whole command that continues the run; empty where the same command does."""

    @property
    def words(self) -> str:
        """The advice as an imperative."""
        if self.resume:
            return f"run {self.resume}"
        return f"run the same command again{f' with {self.flags}' if self.flags else ''}"


def listed_flags(run_id: str, base_url: str | None) -> str:
    """Return the flags for a command that continues a run, as text."""
    flags = (f"--run-id {run_id}" if run_id else "", f"--base-url {quote(base_url)}" if base_url else "")
    return " ".join(filter(None, flags))


class StopReason(StrEnum):
    """Why a run ended before its last call. The values are stored."""

    PROCESS_ENDED = "processEnded"
    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"
    RUN_LOST = "runLost"
    ERROR = "error"
    RECORDS_LOST = "recordsLost"
    DISK_FULL = "diskFull"
    API_UNREACHABLE = "apiUnreachable"
    API_DOWN = "apiDown"
    API_IN_TROUBLE = "apiInTrouble"
    API_ASKS_TO_WAIT = "apiAsksToWait"
    KEY_REFUSED = "keyRefused"
    REDIRECTED = "redirected"
    NOT_THE_API = "notTheApi"
    PROXY_LOGIN = "proxyLogin"
    PROXY_REFUSED = "proxyRefused"
    MAX_FAILED = "maxFailed"
    MAX_SKIPPED = "maxSkipped"
    MAX_NEW_CUSTOMERS = "maxNewCustomers"
    SHARDS_OPEN = "shardsOpen"
    SHARD_NOT_BEGUN = "shardNotBegun"
    SHARD_ASSIGNS_OPEN = "shardAssignsOpen"
    SHARD_HOLDS_ENDED = "shardHoldsEnded"
    OTHER_SHARDS_UNASSIGN = "otherShardsUnassign"
    NOT_PUBLISHED = "notPublished"


MAKE_ROOM: Final = Advice("make room", repeat=True)
"""What to do about a full disk."""
MAKE_ROOM_UNSENT: Final = Advice(f"nothing was sent; {MAKE_ROOM.first}", repeat=True)
"""The same, where the disk is full before anything was sent."""
SEND_THE_REST: Final = Advice("add --until none to send the rest", repeat=True)
"""What to do about rows that are left at the local time of `--until`."""
_CONTINUE: Final = Advice(repeat=True, when="to go on")


@dataclass(frozen=True, slots=True)
class _Facts:
    exit_code: ExitCode
    sentence: str
    advice: Advice = field(default_factory=Advice)
    needs_option: bool = False
    """Whether the run can continue only with another option, which `resume` does not take."""


_CHECK_CONNECTION: Final = Advice("check --base-url and the network", repeat=True)
_TABLE: Final[Mapping[StopReason, _Facts]] = {
    StopReason.PROCESS_ENDED: _Facts(ExitCode.STOPPED, "its process ended", _CONTINUE),
    StopReason.DEADLINE: _Facts(ExitCode.STOPPED, "the deadline{} has passed", _CONTINUE),
    StopReason.INTERRUPTED: _Facts(ExitCode.STOPPED, "{}", _CONTINUE),
    StopReason.RUN_LOST: _Facts(ExitCode.LOCKED, "another process has taken over the run", _CONTINUE),
    StopReason.ERROR: _Facts(ExitCode.STOPPED, "{}"),
    StopReason.RECORDS_LOST: _Facts(ExitCode.STOPPED, "{}"),
    StopReason.DISK_FULL: _Facts(ExitCode.STOPPED, "the disk is full", MAKE_ROOM),
    StopReason.API_UNREACHABLE: _Facts(ExitCode.STOPPED, "the API cannot be reached{}", _CHECK_CONNECTION),
    StopReason.API_DOWN: _Facts(ExitCode.STOPPED, "the API has been down for {} s", Advice(repeat=True, when="later")),
    StopReason.API_IN_TROUBLE: _Facts(
        ExitCode.STOPPED, "the API is reachable, but answers {}", Advice("try again later")
    ),
    StopReason.API_ASKS_TO_WAIT: _Facts(ExitCode.STOPPED, "the API asks to wait {}", Advice(repeat=True, when="then")),
    StopReason.KEY_REFUSED: _Facts(
        ExitCode.CLIENT_REFUSED,
        "the API refuses this key ({})",
        Advice("check TELEMETRON_API_KEY, --api-key-file or --api-key-command", repeat=True),
    ),
    StopReason.REDIRECTED: _Facts(
        ExitCode.CLIENT_REFUSED,
        "the API redirects elsewhere (HTTP {}), and redirects are never followed",
        Advice("correct --base-url, and start again under another --run-id"),
    ),
    StopReason.NOT_THE_API: _Facts(
        ExitCode.CLIENT_REFUSED,
        "there is no Telemetron API at {}",
        Advice("correct --base-url, which ends in /api/ext-v1, and start again under another --run-id"),
    ),
    StopReason.PROXY_LOGIN: _Facts(
        ExitCode.CLIENT_REFUSED,
        "the proxy wants credentials ({})",
        Advice("give user and password in the URL of HTTPS_PROXY or TELEMETRON_PROXY", repeat=True),
    ),
    StopReason.PROXY_REFUSED: _Facts(
        ExitCode.CLIENT_REFUSED,
        "the proxy refuses the host of --base-url ({})",
        Advice("have the proxy allow this host, or name another proxy with --proxy", repeat=True),
    ),
    StopReason.MAX_FAILED: _Facts(
        ExitCode.BRAKE,
        "{} failed, more than --max-failed allows",
        Advice("look at attention.csv and raise --max-failed", repeat=True),
        needs_option=True,
    ),
    StopReason.MAX_SKIPPED: _Facts(
        ExitCode.BRAKE,
        "{} had no effect, more than --max-skipped allows",
        Advice("look whether customers and devices of the list are right, then raise --max-skipped", repeat=True),
        needs_option=True,
    ),
    StopReason.MAX_NEW_CUSTOMERS: _Facts(
        ExitCode.BRAKE,
        "{} created, or may have been, more than --max-new-customers allows",
        Advice("look at the new customers, then raise --max-new-customers", repeat=True),
        needs_option=True,
    ),
    StopReason.SHARDS_OPEN: _Facts(ExitCode.STOPPED, "{}"),
    StopReason.SHARD_NOT_BEGUN: _Facts(ExitCode.STOPPED, "it has not begun"),
    StopReason.SHARD_ASSIGNS_OPEN: _Facts(ExitCode.STOPPED, "it has made only its unassign calls"),
    StopReason.SHARD_HOLDS_ENDED: _Facts(ExitCode.STOPPED, "devices that it held are free by now"),
    StopReason.OTHER_SHARDS_UNASSIGN: _Facts(ExitCode.STOPPED, "{}", Advice(repeat=True, when="when they have")),
    StopReason.NOT_PUBLISHED: _Facts(ExitCode.STOPPED, "its files could not be published to {}"),
}


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before its last call, and what to do next."""

    reason: StopReason
    text: str = ""
    """Completes the sentence: the API's message, a number, or a name; " of --until" if that is the deadline."""
    resume_at: float | None = None
    """The time that the API gave for the next attempt, in seconds since the epoch."""
    advice: Advice = field(default_factory=Advice)
    """What to do; by default the advice of the reason."""
    exit_code: ExitCode = ExitCode.DONE
    """Exit code of the process; by default that of the reason."""

    def __post_init__(self) -> None:
        row = _TABLE[self.reason]
        if not self.advice:
            object.__setattr__(self, "advice", row.advice)
        if self.exit_code is ExitCode.DONE:
            object.__setattr__(self, "exit_code", row.exit_code)

    @property
    def sentence(self) -> str:
        """The reason as text."""
        return _TABLE[self.reason].sentence.format(self.text)

    def as_json(self, resume_hint: ResumeHint | None = None) -> dict[str, str]:
        """Return the fields under the names that the JSON documents use."""
        resume_hint = None if resume_hint is None else self.adjust_resume_hint(resume_hint)
        return {"code": str(self.reason), "reason": self.sentence, "advice": self.advice.words(resume_hint)}

    def adjust_resume_hint(self, resume_hint: ResumeHint) -> ResumeHint:
        """Return how to continue the run: without `resume` where another option is needed."""
        return ResumeHint(resume_hint.flags) if _TABLE[self.reason].needs_option else resume_hint

    def as_fact(self) -> dict[str, Any]:
        """Return the stop as stored in the journal."""
        return {
            "reason": str(self.reason),
            "text": self.text,
            "resumeAt": self.resume_at,
            "advice": [self.advice.first, self.advice.repeat, self.advice.when],
            "exitCode": int(self.exit_code),
        }

    @classmethod
    def of_fact(cls, fact: Mapping[str, Any]) -> "Stop":
        """Return the stop that `as_fact` stored."""
        return cls(
            StopReason(fact["reason"]),
            fact["text"],
            fact["resumeAt"],
            Advice(*fact["advice"]),
            ExitCode(fact["exitCode"]),
        )


def stop_of_until(time_of_day: str) -> Stop:
    """Return the stop at the local time of `--until`. The same command would stop again at once."""
    return Stop(StopReason.DEADLINE, f" of --until {time_of_day}", advice=SEND_THE_REST)


assert _TABLE.keys() == {*StopReason}, "every reason has a row"  # noqa: S101
