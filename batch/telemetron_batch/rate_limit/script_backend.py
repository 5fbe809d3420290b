"""Interface to the store of a shared rate limit, and the script that runs there.

shared_pace.lua describes the stored state and the rules. The rules exist twice, there and in
pacer.py and adaptive_rate.py; a test compares both step by step. The constants exist once, in
Python. docs/design.md says why the rules run in Redis.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.rate_limit import adaptive_rate, pacer
from telemetron_batch.rate_limit.adaptive_rate import IncidentHistory, LearnedState, learn_from

HEARTBEAT_S: Final = 1.0
"""Seconds without an exchange after which a process reports that it is alive."""

_SHARING: Final = {
    "DEAD_AFTER_S": 5 * HEARTBEAT_S,  # silence after which the probe of a process is given to another one
    "SHARE_TTL_S": 60.0,  # silence after which a process loses its share of the limit
    "LOSS_NOTICED_S": 1.5,  # every active process notices within this time that Redis is out of reach
    "RETURN_NOTICED_S": 3.0,  # every process on its own notices within this time that Redis is back
    "PROBE_POLL_PER_SHARER_S": 0.005,  # many processes ask less often while a probe is in flight
    "MIN_LOG_S": 1.0,  # departures are remembered for this time at least
}
"""Constants of rules that concern several processes, which only the script applies."""


def _render_script() -> str:
    """Return the script, preceded by the table N with each constant that the script names."""
    text = Path(__file__).with_name("shared_pace.lua").read_text("utf-8")
    constants = {**vars(adaptive_rate), **vars(pacer), **_SHARING}
    names = sorted({*re.findall(r"\bN\.([A-Z_]+)", text)})
    return f"local N = {{{', '.join(f'{name} = {constants[name]!r}' for name in names)}}}\n{text}"


SCRIPT: Final = _render_script()
"""The Lua script with its constants; one run is one exchange."""
_SCRIPT_NAMES: Final = {
    "learned_rate": "plateau",
    "climb_age": "age",
    "climb_duration": "period",
    "longest_refusal_s": "memory",
    "accepted_per_random_refusal": "chance",
}
"""Fields of `LearnedState` to their names in the script, where they differ."""


class LimitBackendError(Exception):
    """The store of the shared limit cannot be used. `str()` gives the reason."""


class ScriptBackend(Protocol):
    """Connection to the store of a shared limit."""

    address: str
    """Name of the store in messages."""

    async def eval_script(self, request: str) -> str:
        """Run the script with a request and return its answer. Raises LimitBackendError within two seconds."""

    async def close(self) -> None:
        """Close the connection."""


def unreachable(address: str, reason: LimitBackendError) -> ConfigError:
    """Return the error for a store that cannot be reached when a run starts."""
    return ConfigError(f"cannot reach {address} ({reason})", "nothing was sent; check --limit-url, or leave it out")


def learn_from_incident(incident: dict[str, Any]) -> dict[str, Any]:
    """Return the state learned from an incident. Times in `incident` are seconds from now."""
    stored = incident["known"]
    state = LearnedState(
        learned_rate=stored.get("plateau"),
        climb_age=stored["age"],
        climb_duration=stored["period"],
        spread=stored["spread"],
        longest_refusal_s=stored["memory"],
        accepted_per_random_refusal=stored.get("chance") or None,
        incidents=tuple(adaptive_rate.Incident(*one) for one in stored["incidents"]),
    )
    course = dict(incident["course"])
    course["accepted"] = tuple(course["accepted"])
    course["refused_rate"] = course.pop("refused_at")
    course["refusing_until"] = course.pop("closed")
    learned = asdict(learn_from(state, IncidentHistory(**course), 0.0))
    by_name = {_SCRIPT_NAMES.get(field, field): value for field, value in learned.items()}
    # 0 means None here, because the script keeps the old value of a name that is missing.
    by_name["chance"] = by_name["chance"] or 0
    return {name: value for name, value in by_name.items() if value is not None}
