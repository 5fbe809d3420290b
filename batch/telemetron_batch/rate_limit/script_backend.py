"""The line to the one place where a shared pace is kept, and what is run at its other end.

What is kept there, and how it is decided, is in shared_pace.lua. What carries a request
there is no business of this.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.rate_limit import adaptive_rate, pacer
from telemetron_batch.rate_limit.adaptive_rate import IncidentHistory, LearnedState, learn_from

HEARTBEAT_S: Final = 1.0
"""Seconds without an exchange after which a process shows that it lives."""

_LUA_CONSTANTS: Final = {
    "MAX_LATENESS_S": pacer.MAX_LATENESS_S,
    "MIN_WAIT_S": pacer.MIN_WAIT_S,
    "PROBE_POLL_S": pacer.PROBE_POLL_S,
    "MIN_FIRST_PAUSE_S": pacer.MIN_FIRST_PAUSE_S,
    "FIRST_PAUSE_PER_MEMORY": pacer.FIRST_PAUSE_PER_MEMORY,
    "MAX_FIRST_PAUSE_S": pacer.MAX_FIRST_PAUSE_S,
    "MAX_PAUSE_S": pacer.MAX_PAUSE_S,
    "MAX_PAUSE_DOUBLINGS": pacer.MAX_PAUSE_DOUBLINGS,
    "MAX_GAP_AFTER_PROBE_S": pacer.MAX_GAP_AFTER_PROBE_S,
    "MAX_PACED_QUOTA_S": pacer.MAX_PACED_QUOTA_S,
    "STATE_TTL_S": pacer.STATE_TTL_S,
    "INITIAL_RATE": adaptive_rate.INITIAL_RATE,
    "MIN_RATE": adaptive_rate.MIN_RATE,
    "MAX_RATE": adaptive_rate.MAX_RATE,
    "MIN_SPREAD": adaptive_rate.MIN_SPREAD,
    "UPPER_BOUND_WEIGHT": adaptive_rate.UPPER_BOUND_WEIGHT,
    "MIN_MEMORY_S": adaptive_rate.MIN_MEMORY_S,
    "MIN_PERIOD_S": adaptive_rate.MIN_PERIOD_S,
    "DOUBLING_TIME_S": adaptive_rate.DOUBLING_TIME_S,
    "MAX_REMEMBERED_ANSWERS": adaptive_rate.MAX_REMEMBERED_ANSWERS,
    "DEAD_AFTER_S": 5 * HEARTBEAT_S,  # seconds of silence after which a process probes no more
    "SHARE_TTL_S": 60.0,  # seconds of silence after which a process has no share any more
    "LOSS_NOTICED_S": 1.5,  # seconds in which whoever asks has noticed that nobody answers
    "RETURN_NOTICED_S": 3.0,  # seconds in which whoever is alone has noticed that somebody answers
}
SCRIPT: Final = (
    f"local N = {{{', '.join(f'{name} = {number!r}' for name, number in _LUA_CONSTANTS.items())}}}\n"
    + Path(__file__).with_name("shared_pace.lua").read_text("utf-8")
)
"""What decides, for whatever runs Lua as Redis does: one exchange for each call."""


class LimitBackendError(Exception):
    """The place where the pace is kept cannot be asked. `str()` says why, in words."""


class ScriptBackend(Protocol):
    """The way to where the pace is kept."""

    address: str
    """How a message calls it."""

    async def eval_script(self, request: str) -> str:
        """Run the script over a request and give its answer. Raises NoLineError within a second or two."""

    async def close(self) -> None:
        """Ask nothing any more."""


def unreachable(where: str, why: LimitBackendError) -> ConfigError:
    """The error of a limit that cannot be shared from the start."""
    return ConfigError(f"cannot reach {where} ({why})", "nothing was sent; check --limit-url, or leave it out")


def compute_update(facts: dict[str, Any]) -> dict[str, Any]:
    """What an incident teaches, worked out from facts of which times are seconds from now."""
    told = facts["known"]
    known = LearnedState(
        learned_rate=told.get("plateau"),
        age=told["age"],
        period=told["period"],
        spread=told["spread"],
        memory=told["memory"],
        chance=told.get("chance") or None,
        incidents=tuple(adaptive_rate.Incident(*one) for one in told["incidents"]),
    )
    course = IncidentHistory(**{**facts["course"], "accepted": tuple(facts["course"]["accepted"])})
    now_known = asdict(learn_from(known, course, 0.0))
    now_known["plateau"] = now_known.pop("learned_rate")  # its name in the script
    # No number stands for "none": a name that is missing would leave the former one.
    now_known["chance"] = now_known["chance"] or 0
    return {name: value for name, value in now_known.items() if value is not None}
