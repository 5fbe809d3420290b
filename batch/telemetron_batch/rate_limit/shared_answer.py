"""What the place that keeps a shared pace answers, checked: others can write there."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from telemetron_batch.rate_limit.script_backend import LimitBackendError, compute_update

_LARGEST: Final = 4 * 1024 * 1024
"""Characters. The facts of a lesson, the longest of all, take far less."""
_Number = Annotated[float, Meta(gt=0.0, le=1e9)]
_Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]


class Granted(msgspec.Struct, kw_only=True, frozen=True):
    """A permit."""

    id: Annotated[str, Meta(max_length=100)]
    epoch: Annotated[int, Meta(ge=0)]
    probe: bool


class Timed(msgspec.Struct, kw_only=True, frozen=True):
    """All that an answer tells that came too late and has no effect."""

    now: Annotated[float, Meta(ge=0.0, le=1e12)]
    """By the clock there."""
    stale: bool = False


class Answer(Timed, kw_only=True, frozen=True):
    """An answer. Times are seconds from then, but for `now`."""

    rate: _Number
    sharers: Annotated[float, Meta(ge=1.0, le=1e6)]
    found: _Number | None = None
    attempts: _Number | None = None
    seconds: _Number = 1.0
    held: _Seconds | None = None
    permit: Granted | None = None
    wait: _Seconds | None = None
    facts: dict[str, Any] | None = None


_TIMED: Final = msgspec.json.Decoder(Timed)
_ANSWER: Final = msgspec.json.Decoder(Answer)


def read_answer(text: str) -> Answer | Timed:
    """Return an answer. Raises NoLineError for what is none: whoever gives it keeps no pace."""
    try:
        if len(text) > _LARGEST:
            raise ValueError("too long")
        timed = _TIMED.decode(text)
        return timed if timed.stale else _ANSWER.decode(text)
    except (ValueError, RecursionError) as exc:
        raise _unreadable() from exc


def wait_of(answer: Answer) -> float:
    """Return the seconds to wait that an answer has to tell, 0 for none. Raises NoLineError."""
    if answer.wait is None:
        raise _unreadable()
    return answer.wait


def turn_of(answer: Answer) -> Granted | float:
    """Return the permit, or the seconds (more than 0) after which to ask again. Raises NoLineError."""
    turn = answer.permit or wait_of(answer)
    if turn == 0:
        raise _unreadable()
    return turn


def lesson_of(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what facts teach. Raises NoLineError for what are none."""
    try:
        return compute_update(facts)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        raise _unreadable() from exc


def _unreadable() -> LimitBackendError:
    return LimitBackendError("it answers what cannot be read")
