"""Read and validate the answers of the store of a shared limit. Others can write there, so they are untrusted."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from telemetron_batch.rate_limit.script_backend import LimitBackendError, learn_from_incident

_MAX_ANSWER_LENGTH: Final = 4 * 1024 * 1024
"""Characters. The longest valid answer, an incident, is far shorter."""
_Number = Annotated[float, Meta(gt=0.0, le=1e9)]
_Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]


class GrantedPermit(msgspec.Struct, kw_only=True, frozen=True):
    """A permit to send one attempt."""

    id: Annotated[str, Meta(max_length=100)]
    epoch: Annotated[int, Meta(ge=0)]
    probe: bool


class Acknowledgement(msgspec.Struct, kw_only=True, frozen=True):
    """The part of an answer that is sent even when the request came too late and had no effect."""

    now: Annotated[float, Meta(ge=0.0, le=1e12)]
    """The time by the store's clock, in seconds since the epoch."""
    stale: bool = False
    """Whether the request came too late."""


class StoreAnswer(Acknowledgement, kw_only=True, frozen=True):
    """The answer to one exchange. Times other than `now` are seconds from `now`."""

    rate: _Number
    process_count: Annotated[float, Meta(ge=1.0, le=1e6)] = msgspec.field(name="sharers")
    learned_rate: _Number | None = msgspec.field(default=None, name="found")
    attempts: _Number | None = None
    seconds: _Number = 1.0
    pause_left: _Seconds | None = msgspec.field(default=None, name="held")
    permit: GrantedPermit | None = None
    wait: _Seconds | None = None
    incident: dict[str, Any] | None = msgspec.field(default=None, name="facts")


_ACKNOWLEDGEMENT_DECODER: Final = msgspec.json.Decoder(Acknowledgement)
_STORE_ANSWER_DECODER: Final = msgspec.json.Decoder(StoreAnswer)


def read_answer(text: str) -> StoreAnswer | Acknowledgement:
    """Return the decoded answer. Raises LimitBackendError if it is invalid."""
    try:
        if len(text) > _MAX_ANSWER_LENGTH:
            raise ValueError("too long")
        acknowledgement = _ACKNOWLEDGEMENT_DECODER.decode(text)
        return acknowledgement if acknowledgement.stale else _STORE_ANSWER_DECODER.decode(text)
    except (ValueError, RecursionError) as exc:
        raise _unreadable() from exc


def required_wait(answer: StoreAnswer) -> float:
    """Return the seconds to wait, which the answer must contain. Raises LimitBackendError if it does not."""
    if answer.wait is None:
        raise _unreadable()
    return answer.wait


def permit_or_wait(answer: StoreAnswer) -> GrantedPermit | float:
    """Return the permit, or the seconds (more than 0) after which to ask again. Raises LimitBackendError."""
    result = answer.permit or required_wait(answer)
    if result == 0:
        raise _unreadable()
    return result


def learned_from_incident(incident: dict[str, Any]) -> dict[str, Any]:
    """Return the state learned from an incident. Raises LimitBackendError if it is invalid."""
    try:
        return learn_from_incident(incident)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        raise _unreadable() from exc


def _unreadable() -> LimitBackendError:
    return LimitBackendError("its answer cannot be read")
