"""The API's JSON format: build requests, read answers and match them to the requested devices.

This module knows paths, field names and matching rules, but no connections, retries or rows.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.identifiers import as_column, folded, trimmed
from telemetron_batch.domain.model import Call, DeviceResult, Results
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.printable import encodable, printable
from telemetron_batch.domain.reasons import Reason

PATHS: Final = {
    Action.ASSIGN: "/deviceAssignment/assignDevicesToOwner",
    Action.UNASSIGN: "/deviceAssignment/unassignDevicesFromOwner",
}
QUERY_PATH: Final = "/customer/queryCustomer"

_LISTS: Final = {
    Action.ASSIGN: {
        "assignedDevices": Outcome.ASSIGNED,
        "alreadyAssigned": Outcome.ALREADY_ASSIGNED,
        "skipped": Outcome.SKIPPED,
    },
    Action.UNASSIGN: {"unassignedDevices": Outcome.UNASSIGNED, "skipped": Outcome.SKIPPED},
}
_REMAINING: Final = "devicesRemaining"
"""Field of an unassign's answer: the devices that the customer still has."""
_WHY_SKIPPED: Final = {Action.ASSIGN: Reason.UNKNOWN_DEVICE, Action.UNASSIGN: Reason.NOT_WITH_CUSTOMER}
_MAX_ERROR_LENGTH: Final = 300
"""Characters of an error text that is stored or shown."""
_MAX_TEXT_LENGTH: Final = 4096
"""Characters of a text that are read to make one line of it."""
_MAX_JSON_ERROR_BYTES: Final = 64 * 1024
"""Bytes of an error body that is read as JSON. The API's own errors are shorter."""
_MIN_COUNTED_BYTES: Final = 1024 * 1024
"""Bytes of an answer from which its values are counted before it is decoded."""
_MAX_VALUES: Final = 2_000_000
"""Values in an answer. More would take too much memory and time, and no valid answer has them."""


Show = Callable[[str], str]
"""Makes a text of the API safe to store and show. Never applied to texts that are compared."""


class UnusableError(ValueError):
    """A body that cannot be used as an answer; `str()` gives the reason."""


class NotTheApiError(UnusableError):
    """A body that does not have the form of the API's answers: something else may have answered."""


class ErrorBody(NamedTuple):
    """The content of an error's body."""

    text: str
    """The error text on one line, shortened."""
    is_api_error: bool
    """Whether the body has the form of the API's own errors, `{"error": ...}`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A usable answer to a bulk request, matched to the requested positions."""

    results: Results
    missing: tuple[int, ...]
    """Requested positions that the answer omits or contradicts itself about."""
    unexpected: tuple[str, ...]
    """Identifiers in the answer that were not requested."""
    customer_id: str
    customer_was_created: bool | None
    devices_remaining: int | None = None
    """Number of devices that the customer still has; None if the answer does not say."""


_Entry = tuple[str, DeviceResult]
"""One entry of an answer's lists: an identifier and its result."""


def request_body(call: Call, positions: Sequence[int]) -> bytes:
    """Return the JSON request for these positions of the call's devices."""
    body: dict[str, object] = {
        "customerEmail": call.customer,
        "deviceIdentifiers": _devices_at(call, positions),
    }
    if call.device_type is not None:
        body["autoCreateDevices"] = True
        body["deviceType"] = call.device_type
    return msgspec.json.encode(body)


def _devices_at(call: Call, positions: Sequence[int]) -> Sequence[str]:
    if len(positions) == len(call.devices):
        return call.devices  # the usual case
    return [call.devices[position] for position in positions]


def query_body(customer: str) -> bytes:
    """Return the JSON request for a customer's devices."""
    return json.dumps({"email": customer}).encode()


def read_reply(body: bytes, call: Call, positions: Sequence[int], show: Show = printable) -> Reply:
    """Read a 200 and match it to the requested positions.

    Raises UnusableError if it is not an object whose `success` is true, or if its lists
    contain anything but devices.
    """
    _refuse_too_many_values(body)
    return _read_fast(body, call, positions, show) or _read_lenient(_object(body), call, positions, show)


def _read_lenient(answer: Mapping[str, object], call: Call, positions: Sequence[int], show: Show) -> Reply:
    """Return the reply of any usable answer."""
    if answer.get("success") is not True:
        kind = UnusableError if "success" in answer or "error" in answer else NotTheApiError
        raise kind(f"its success is not true: {_error_text(answer, show)}")
    entries = [*_entries(answer, call.action, show)]
    results, unexpected = _match(entries, call.devices, frozenset(positions))
    created = answer.get("customerWasCreated")
    return Reply(
        results=Results.of(results),
        missing=_missing(positions, results),
        unexpected=tuple(_cut(show(identifier)) for identifier in unexpected),
        customer_id=_text(answer.get("customerId"), show),
        customer_was_created=created if isinstance(created, bool) else None,
        devices_remaining=_remaining(answer) if call.action is Action.UNASSIGN else None,
    )


def _remaining(answer: Mapping[str, object]) -> int | None:
    """Return the number of distinct devices that the customer still has; None without a list of devices."""
    entries = answer.get(_REMAINING)
    if not isinstance(entries, list):
        return None
    devices = [entry.get("identifier") if isinstance(entry, dict) else entry for entry in entries]
    return _distinct(devices) if all(isinstance(device, str) for device in devices) else None


def _distinct(devices: Iterable[object] | None) -> int | None:
    return None if devices is None else len(frozenset(devices))


def read_error(body: bytes, show: Show = printable) -> ErrorBody:
    """Return the content of an error's body."""
    try:
        answer = _object(body if len(body) <= _MAX_JSON_ERROR_BYTES else b"")
        return ErrorBody(
            _error_text(answer, show), is_api_error=isinstance(answer.get("error"), str) and bool(answer["error"])
        )
    except UnusableError:
        page = _beginning(body[: 4 * (_MAX_TEXT_LENGTH + 1)].decode("utf-8", "replace"), _MAX_TEXT_LENGTH)
        return ErrorBody(one_line(re.sub(r"<[^>]*>", " ", page), show), is_api_error=False)


def _refuse_too_many_values(body: bytes) -> None:
    """Raise UnusableError for a body whose decoded object would take many times its size in memory."""
    if len(body) > _MIN_COUNTED_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise UnusableError(f"it contains more than {_MAX_VALUES:,} values")


def _object(body: bytes) -> dict[str, object]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise NotTheApiError("it is not JSON" if body else "it is empty") from exc
    if not isinstance(answer, dict):
        raise NotTheApiError("it is not a JSON object")
    return answer


def _error_text(answer: Mapping[str, object], show: Show) -> str:
    for name in ("error", "message"):
        if answer.get(name):
            return one_line(_as_text(answer[name]), show)
    return one_line(_as_text(answer), show)


def one_line(text: str, show: Show = printable) -> str:
    """Return the text in printable form, on one line and shortened."""
    return _cut(show(" ".join(_beginning(text, _MAX_TEXT_LENGTH).split())))


def _beginning(text: str, limit: int) -> str:
    """Return at most `limit` characters, without cutting a word: half a secret would not be redacted."""
    if len(text) <= limit:
        return text
    return text[: next((at for at in reversed(range(limit)) if text[at].isspace()), limit)]


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_ERROR_LENGTH else text[: _MAX_ERROR_LENGTH - 3] + "..."


def _as_text(value: object) -> str:
    """Return a text unchanged and any other value as JSON. Raises UnusableError."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except RecursionError as exc:  # writing needs a deeper stack than reading
        raise UnusableError("it is nested too deeply") from exc


def _text(value: object, show: Show) -> str:
    return "" if value is None else show(_as_text(value))


def _entries(answer: Mapping[str, object], action: Action, show: Show) -> Iterator[_Entry]:
    """Yield every entry of the answer's lists, which may be objects or bare identifiers."""
    for name, outcome in _LISTS[action].items():
        entries = answer.get(name) or []
        if not isinstance(entries, list):
            raise UnusableError(f"its {name} is not a list")
        reason = _reason(outcome, action)
        for entry in entries:
            fields = entry if isinstance(entry, dict) else {"identifier": entry}
            identifier, created = fields.get("identifier"), fields.get("wasCreated")
            if not isinstance(identifier, str):
                raise UnusableError(f"its {name} contains something that is not a device")
            if not isinstance(created, bool):
                created = None
            yield identifier, DeviceResult(outcome, _text(fields.get("deviceId"), show), created, reason)


def _match(
    entries: Sequence[_Entry], devices: Sequence[str], asked: AbstractSet[int]
) -> tuple[Mapping[int, DeviceResult], tuple[str, ...]]:
    """Return results by position, without contradictory ones, and the identifiers that were not requested.

    Identifiers match exactly, else trimmed, else ignoring case if only one device fits. All devices
    of the call are considered, so that one requested later is not mistaken for a similar one.
    """
    exact = {identifier: position for position, identifier in enumerate(devices)}
    other_spellings = [identifier for identifier, _ in entries if identifier not in exact]
    positions = exact | _match_loosely(other_spellings, devices)
    by_position: defaultdict[int, list[_Entry]] = defaultdict(list)
    unexpected = []
    for identifier, result in entries:
        position = positions.get(identifier)
        if position is None or position not in asked:
            unexpected.append(identifier)
        else:
            by_position[position].append((identifier, result))
    results = {
        position: matched[0][1]
        for position, matched in _prefer_exact(by_position, devices).items()
        if len({result.outcome for _, result in matched}) == 1
    }
    return results, tuple(unexpected)


def _match_loosely(spellings: Sequence[str], devices: Sequence[str]) -> dict[str, int]:
    """Return the position of the device that each spelling means, without ambiguous and unknown ones."""
    if not spellings:
        return {}
    found: dict[str, int] = {}
    for form in (folded, trimmed):
        meant = _unambiguous(form(as_column(devices)).to_pylist())
        forms = form(as_column(spellings)).to_pylist()
        found |= {spelling: meant[one] for spelling, one in zip(spellings, forms, strict=True) if one in meant}
    return found


def _unambiguous(spellings: Sequence[str]) -> dict[str, int]:
    """Return spelling to position, without spellings that several positions share."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, spelling in enumerate(spellings):
        positions[spelling].append(position)
    return {spelling: found[0] for spelling, found in positions.items() if len(found) == 1}


def _prefer_exact(by_position: Mapping[int, list[_Entry]], devices: Sequence[str]) -> Mapping[int, list[_Entry]]:
    """Drop other spellings of a device that the answer also spells as requested: they belong to other customers."""
    return {
        position: (len(entries) > 1 and [entry for entry in entries if entry[0] == devices[position]]) or entries
        for position, entries in by_position.items()
    }


class _Device(msgspec.Struct, gc=False, rename="camel"):
    identifier: str
    device_id: str | None = None
    was_created: bool | None = None


_Entries = list[_Device | str] | None
_DECODERS: Final[Mapping[Action, msgspec.json.Decoder[Any]]] = {
    action: msgspec.json.Decoder(
        msgspec.defstruct(
            action,
            [
                ("success", bool),
                ("customerId", str | None, None),
                ("customerWasCreated", bool | None, None),
                *((name, _Entries, None) for name in lists),
                *((_REMAINING, list[str] | None, None) for _ in range(action is Action.UNASSIGN)),
            ],
        )
    )
    for action, lists in _LISTS.items()
}
"""Strict decoders for answers in the vendor's documented form."""


def _read_fast(body: bytes, call: Call, positions: Sequence[int], show: Show) -> Reply | None:
    """Return what `_read_lenient` returns, in a tenth of the time; None if the answer is not of the usual form.

    A usual answer names each device once, spelled as in the request.
    """
    try:
        answer = _DECODERS[call.action].decode(body if (is_ascii := body.isascii()) else body.decode())
    except (ValueError, RecursionError):
        return None
    devices, codes = _listed(answer, call.action)
    matched = _match_exact([device.identifier for device in devices], call.devices, positions)
    if matched is None or not answer.success:
        return None
    device_ids, customer_id = [device.device_id or "" for device in devices], answer.customerId or ""
    if not (is_ascii and show is printable and b"\\" not in body and b"\x7f" not in body):
        device_ids, customer_id = [show(one) for one in device_ids], show(customer_id)
    return Reply(
        results=Results(
            positions=matched,
            codes=codes,
            device_ids=device_ids,
            created=[device.was_created for device in devices],
            reasons=_reasons(codes, call.action) if answer.skipped else None,
        ),
        missing=_missing(positions, matched),
        unexpected=(),
        customer_id=customer_id,
        customer_was_created=answer.customerWasCreated,
        devices_remaining=_distinct(getattr(answer, _REMAINING, None)),
    )


def _listed(answer: object, action: Action) -> tuple[list[_Device], list[int]]:
    """Return the devices that a usual answer lists, and their outcome codes."""
    devices: list[_Device] = []
    codes: list[int] = []
    for name, outcome in _LISTS[action].items():
        entries: list[Any] = getattr(answer, name) or []
        bare = str in {*map(type, entries)}
        devices += [_Device(entry) if isinstance(entry, str) else entry for entry in entries] if bare else entries
        codes += [outcome.code] * len(entries)
    return devices, codes


def _reasons(codes: Sequence[int], action: Action) -> list[int]:
    skipped, reason = Outcome.SKIPPED.code, int(_WHY_SKIPPED[action])
    return [reason if code == skipped else 0 for code in codes]


def _reason(outcome: Outcome, action: Action) -> Reason:
    return _WHY_SKIPPED[action] if outcome is Outcome.SKIPPED else Reason.NONE


def _missing(positions: Sequence[int], settled: Collection[int]) -> tuple[int, ...]:
    if len(settled) == len(positions):
        return ()
    done = frozenset(settled)
    return tuple(position for position in positions if position not in done)


def _match_exact(spellings: Sequence[str], devices: Sequence[str], asked: Sequence[int]) -> Sequence[int] | None:
    """Return the positions of requested devices, each named once and spelled as requested; None otherwise."""
    if len(asked) == len(devices) and tuple(spellings) == devices:
        return range(len(devices))
    position_of = {device: position for position, device in enumerate(devices)}
    positions = [position_of[spelling] for spelling in spellings if spelling in position_of]
    once = frozenset(positions)
    return positions if len(once) == len(spellings) and once.issubset(asked) else None


def read_holdings(body: bytes, customer: str) -> frozenset[str]:
    """Return all identifiers of a queryCustomer answer.

    Raises UnusableError if it is about another customer or lists anything but devices: a device
    that is overlooked would count as one that the customer does not have.
    """
    _refuse_too_many_values(body)
    answer = _object(body)
    email, entries = answer.get("email"), answer.get("devices")
    if isinstance(email, str) and email.strip().casefold() != customer.strip().casefold():
        raise UnusableError("it is about another customer")
    if not isinstance(entries, list):
        raise (UnusableError if "email" in answer or "error" in answer else NotTheApiError)("it lists no devices")
    named = [entry.get("identifier") if isinstance(entry, dict) else entry for entry in entries]
    devices = [device for device in named if isinstance(device, str)]
    if len(devices) < len(named):
        raise UnusableError("its devices contain something that is not a device")
    return frozenset(map(encodable, devices))  # not made printable, because they are compared
