"""The API's shape, once: a call becomes a request, a body becomes results by device.

Knows paths, field names and the rules by which an answer is joined to what was asked;
knows nothing of connections, retries or rows.
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
"""In the answer to an unassign: the devices that the customer still has."""
_WHY_SKIPPED: Final = {Action.ASSIGN: Reason.UNKNOWN_DEVICE, Action.UNASSIGN: Reason.NOT_WITH_CUSTOMER}
_LONGEST_ERROR: Final = 300
_LONGEST_PAGE: Final = 4096
"""Characters of a text that are looked at to make a line of it."""
_LONGEST_JSON_ERROR: Final = 64 * 1024
"""Bytes of an error's body that is read as JSON; a longer one is none of the API's."""
_MANY_BYTES: Final = 1024 * 1024
_MOST_VALUES: Final = 2_000_000
"""Values in an answer: what it takes to hold more, in memory and time, no honest answer is worth."""


Show = Callable[[str], str]
"""Makes a text of the API fit to be stored and shown; never applied to what is compared."""


class UnusableError(ValueError):
    """A body that cannot be taken for an answer; `str()` says why."""


class NotTheApiError(UnusableError):
    """A body that has nothing of the API's shape: something else may have answered."""


class ErrorBody(NamedTuple):
    """What the body of a refusal says."""

    text: str
    """On one line and of bearable length."""
    is_api_error: bool
    """Has it the shape of the API's own errors, `{"error": ...}`?"""


@dataclass(frozen=True, slots=True)
class Reply:
    """A usable answer to a bulk request, joined to the positions that were asked."""

    results: Results
    missing: tuple[int, ...]
    """Positions that were asked and that the answer leaves out or contradicts itself about."""
    unexpected: tuple[str, ...]
    """Identifiers that the answer names and nobody asked for."""
    customer_id: str
    customer_was_created: bool | None
    devices_remaining: int | None = None
    """How many devices the customer still has; None where the answer does not say."""


_Entry = tuple[str, DeviceResult]
"""One entry of one of the answer's lists: an identifier, and what is said of it."""


def request_body(call: Call, positions: Sequence[int]) -> bytes:
    """The JSON that asks for these positions of the call's devices."""
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
        return call.devices  # as mostly
    return [call.devices[position] for position in positions]


def query_body(customer: str) -> bytes:
    """The JSON that asks what a customer holds."""
    return json.dumps({"email": customer}).encode()


def read_reply(body: bytes, call: Call, positions: Sequence[int], show: Show = printable) -> Reply:
    """Join a 200 to what was asked.

    Raises UnusableError where it is not an object whose `success` is true, or lists
    something else than devices.
    """
    _refuse_too_many_values(body)
    return _read_fast(body, call, positions, show) or _read_lenient(_object(body), call, positions, show)


def _read_lenient(answer: Mapping[str, object], call: Call, positions: Sequence[int], show: Show) -> Reply:
    """What any answer says that says something usable."""
    if answer.get("success") is not True:
        kind = UnusableError if "success" in answer or "error" in answer else NotTheApiError
        raise kind(f"its success is not true: {_error_text(answer, show)}")
    said = [*_entries(answer, call.action, show)]
    results, foreign = _match(said, call.devices, frozenset(positions))
    created = answer.get("customerWasCreated")
    return Reply(
        results=Results.of(results),
        missing=_missing(positions, results),
        unexpected=tuple(_cut(show(identifier)) for identifier in foreign),
        customer_id=_text(answer.get("customerId"), show),
        customer_was_created=created if isinstance(created, bool) else None,
        devices_remaining=_remaining(answer) if call.action is Action.UNASSIGN else None,
    )


def _remaining(answer: Mapping[str, object]) -> int | None:
    """Count the distinct devices that the customer still has; None without a list of devices."""
    entries = answer.get(_REMAINING)
    if not isinstance(entries, list):
        return None
    devices = [entry.get("identifier") if isinstance(entry, dict) else entry for entry in entries]
    return _distinct(devices) if all(isinstance(device, str) for device in devices) else None


def _distinct(devices: Iterable[object] | None) -> int | None:
    return None if devices is None else len(frozenset(devices))


def read_error(body: bytes, show: Show = printable) -> ErrorBody:
    """Return what the body of a refusal says."""
    try:
        answer = _object(body if len(body) <= _LONGEST_JSON_ERROR else b"")
        return ErrorBody(
            _error_text(answer, show), is_api_error=isinstance(answer.get("error"), str) and bool(answer["error"])
        )
    except UnusableError:
        page = _beginning(body[: 4 * (_LONGEST_PAGE + 1)].decode("utf-8", "replace"), _LONGEST_PAGE)
        return ErrorBody(one_line(re.sub(r"<[^>]*>", " ", page), show), is_api_error=False)


def _refuse_too_many_values(body: bytes) -> None:
    """Raise UnusableError for a body of which an object in memory would be many times as large as the body."""
    if len(body) > _MANY_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise UnusableError(f"it holds more than {_MOST_VALUES:,} values")


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
    """Return the text fit to be shown, on one line and of bearable length."""
    return _cut(show(" ".join(_beginning(text, _LONGEST_PAGE).split())))


def _beginning(text: str, most: int) -> str:
    """Return so many characters at most, whole words: one that is cut in two might be half a secret."""
    if len(text) <= most:
        return text
    return text[: next((at for at in reversed(range(most)) if text[at].isspace()), most)]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 3] + "..."


def _as_text(value: object) -> str:
    """Return a text as it is, anything else as JSON. Raises UnusableError."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except RecursionError as exc:  # to write takes a deeper stack than to read
        raise UnusableError("it is nested too deeply") from exc


def _text(value: object, show: Show) -> str:
    return "" if value is None else show(_as_text(value))


def _entries(answer: Mapping[str, object], action: Action, show: Show) -> Iterator[_Entry]:
    """Every device the answer speaks of; entries may be objects or bare identifiers."""
    for name, outcome in _LISTS[action].items():
        entries = answer.get(name) or []
        if not isinstance(entries, list):
            raise UnusableError(f"its {name} is not a list")
        reason = _reason(outcome, action)
        for entry in entries:
            fields = entry if isinstance(entry, dict) else {"identifier": entry}
            identifier, created = fields.get("identifier"), fields.get("wasCreated")
            if not isinstance(identifier, str):
                raise UnusableError(f"its {name} holds something that is not a device")
            if not isinstance(created, bool):
                created = None
            yield identifier, DeviceResult(outcome, _text(fields.get("deviceId"), show), created, reason)


def _match(
    said: Sequence[_Entry], devices: Sequence[str], asked: AbstractSet[int]
) -> tuple[Mapping[int, DeviceResult], tuple[str, ...]]:
    """The results of the positions that the answer does not contradict itself about, and what nobody asked for.

    Matched by identifier: exact, then trimmed, then ignoring case where only one can be meant.
    Meant among all devices of the call, so that one asked for later is not mistaken for
    its lookalike.
    """
    exact = {identifier: position for position, identifier in enumerate(devices)}
    positions = exact | _lookalikes([identifier for identifier, _ in said if identifier not in exact], devices)
    joined: defaultdict[int, list[_Entry]] = defaultdict(list)
    foreign = []
    for identifier, result in said:
        position = positions.get(identifier)
        if position is None or position not in asked:
            foreign.append(identifier)
        else:
            joined[position].append((identifier, result))
    results = {
        position: entries[0][1]
        for position, entries in _without_lookalikes(joined, devices).items()
        if len({result.outcome for _, result in entries}) == 1
    }
    return results, tuple(foreign)


def _lookalikes(spellings: Sequence[str], devices: Sequence[str]) -> dict[str, int]:
    """Return the positions of the devices meant by other spellings, without those that may mean several or none."""
    if not spellings:
        return {}
    found: dict[str, int] = {}
    for form in (folded, trimmed):
        meant = _unambiguous(form(as_column(devices)).to_pylist())
        forms = form(as_column(spellings)).to_pylist()
        found |= {spelling: meant[one] for spelling, one in zip(spellings, forms, strict=True) if one in meant}
    return found


def _unambiguous(spellings: Sequence[str]) -> dict[str, int]:
    """Spelling to position, without the spellings that several positions share."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, spelling in enumerate(spellings):
        positions[spelling].append(position)
    return {spelling: found[0] for spelling, found in positions.items() if len(found) == 1}


def _without_lookalikes(joined: Mapping[int, list[_Entry]], asked: Sequence[str]) -> Mapping[int, list[_Entry]]:
    """Where the answer spells a device as asked, its other spellings are somebody else's."""
    return {
        position: (len(entries) > 1 and [entry for entry in entries if entry[0] == asked[position]]) or entries
        for position, entries in joined.items()
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
"""Read nothing but answers as the vendor shows them."""


def _read_fast(body: bytes, call: Call, positions: Sequence[int], show: Show) -> Reply | None:
    """Return what `_read_lenient` gives for a usual answer, in a tenth of the time; None for any other.

    A usual answer names each device once, spelled as in the request.
    """
    try:
        answer = _DECODERS[call.action].decode(body if (is_ascii := body.isascii()) else body.decode())
    except (ValueError, RecursionError):
        return None
    devices, codes = _listed(answer, call.action)
    places = _match_exact([device.identifier for device in devices], call.devices, positions)
    if places is None or not answer.success:
        return None
    device_ids, customer_id = [device.device_id or "" for device in devices], answer.customerId or ""
    if not (is_ascii and show is printable and b"\\" not in body and b"\x7f" not in body):
        device_ids, customer_id = [show(one) for one in device_ids], show(customer_id)
    return Reply(
        results=Results(
            positions=places,
            codes=codes,
            device_ids=device_ids,
            created=[device.was_created for device in devices],
            reasons=_reasons(codes, call.action) if answer.skipped else None,
        ),
        missing=_missing(positions, places),
        unexpected=(),
        customer_id=customer_id,
        customer_was_created=answer.customerWasCreated,
        devices_remaining=_distinct(getattr(answer, _REMAINING, None)),
    )


def _listed(answer: object, action: Action) -> tuple[list[_Device], list[int]]:
    """What a usual answer lists, and of each the code of its outcome."""
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
    told = frozenset(settled)
    return tuple(position for position in positions if position not in told)


def _match_exact(spellings: Sequence[str], devices: Sequence[str], asked: Sequence[int]) -> Sequence[int] | None:
    """The positions of devices that were asked for, each named once as it was spelled; None if they are not."""
    if len(asked) == len(devices) and tuple(spellings) == devices:
        return range(len(devices))
    position_of = {device: position for position, device in enumerate(devices)}
    positions = [position_of[spelling] for spelling in spellings if spelling in position_of]
    once = frozenset(positions)
    return positions if len(once) == len(spellings) and once.issubset(asked) else None


def read_holdings(body: bytes, customer: str) -> frozenset[str]:
    """The identifiers that a queryCustomer answer lists, whole or not at all.

    Raises UnusableError where it speaks of another customer or lists what is no device:
    a device that was overlooked would pass for one that the customer does not have.
    """
    _refuse_too_many_values(body)
    answer = _object(body)
    email, entries = answer.get("email"), answer.get("devices")
    if isinstance(email, str) and email.strip().casefold() != customer.strip().casefold():
        raise UnusableError("it speaks of another customer")
    if not isinstance(entries, list):
        raise (UnusableError if "email" in answer or "error" in answer else NotTheApiError)("it lists no devices")
    named = [entry.get("identifier") if isinstance(entry, dict) else entry for entry in entries]
    devices = [device for device in named if isinstance(device, str)]
    if len(devices) < len(named):
        raise UnusableError("its devices hold something that is not a device")
    return frozenset(map(encodable, devices))  # otherwise as they were sent: they are compared
