"""The API's JSON format: build requests, read answers and match them to the requested devices.

This module knows paths, field names and matching rules, but no connections, retries or rows.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypedDict

import msgspec

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import Results
from telemetron_batch.domain.model import Call
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.printable import encodable, is_printable, printable
from telemetron_batch.domain.reasons import Reason

QUERY_PATH: Final = "/customer/queryCustomer"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkEndpoint:
    """The bulk endpoint for one action."""

    path: str
    devices: str
    """The field of a request that lists the devices."""
    lists: Mapping[str, Outcome]
    """The lists of devices in an answer, and the outcome of the devices in each."""
    why_skipped: Reason
    """Why the endpoint skips a device."""
    remaining: str | None = None
    """The field of an answer that lists the devices the customer still has; None if there is none."""


ENDPOINTS: Final[Mapping[Action, BulkEndpoint]] = {
    Action.ASSIGN: BulkEndpoint(
        path="/deviceAssignment/assignDevicesToOwner",
        devices="deviceIdentifiers",
        lists={
            "assignedDevices": Outcome.ASSIGNED,
            "alreadyAssigned": Outcome.ALREADY_ASSIGNED,
            "skipped": Outcome.SKIPPED,
        },
        why_skipped=Reason.UNKNOWN_DEVICE,
    ),
    Action.UNASSIGN: BulkEndpoint(
        path="/deviceAssignment/unassignDevicesFromOwner",
        devices="deviceIdentifiers",
        lists={"unassignedDevices": Outcome.UNASSIGNED, "skipped": Outcome.SKIPPED},
        why_skipped=Reason.NOT_WITH_CUSTOMER,
        remaining="devicesRemaining",
    ),
}
_ANSWER_FIELDS: Final = ("success", "customerId", "customerWasCreated")
"""The fields of every answer that `read_reply` reads, beside the lists. Others are not decoded."""
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


Sanitizer = Callable[[str], str]
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
    omitted: tuple[int, ...]
    """Requested positions that the answer omits or contradicts itself about."""
    unrequested: tuple[str, ...]
    """Identifiers in the answer that were not requested."""
    customer_id: str
    customer_was_created: bool | None
    devices_remaining: int | None = None
    """Number of devices that the customer still has; None if the answer does not say."""


class _Device(msgspec.Struct, gc=False, rename="camel"):
    """An entry of an answer's list."""

    identifier: str
    device_id: Any = None
    was_created: Any = None


@dataclass(frozen=True, slots=True)
class _Entries:
    """The entries of all lists of an answer, as columns."""

    identifiers: Sequence[str]
    codes: Sequence[int]
    """Codes of the outcomes."""
    device_ids: Sequence[str]
    created: Sequence[bool | None]

    def take(self, at: Collection[int]) -> "_Entries":
        """Return the entries at these places, in this order."""
        return _Entries(
            [self.identifiers[one] for one in at],
            [self.codes[one] for one in at],
            [self.device_ids[one] for one in at],
            [self.created[one] for one in at],
        )


def _decoder(endpoint: BulkEndpoint) -> msgspec.json.Decoder[dict[str, Any]]:
    """Return a decoder for usual answers, which gives the entries of lists as `_Device`: dicts take twice the time."""
    fields = dict.fromkeys((*_ANSWER_FIELDS, endpoint.remaining or ""), Any)
    lists = dict.fromkeys(endpoint.lists, list[_Device | str])
    return msgspec.json.Decoder(TypedDict("Answer", {**fields, **lists}, total=False))  # type: ignore[operator]


_DECODERS: Final = {action: _decoder(endpoint) for action, endpoint in ENDPOINTS.items()}


def request_body(call: Call, positions: Sequence[int]) -> bytes:
    """Return the JSON request for these positions of the call's devices."""
    body: dict[str, object] = {
        "customerEmail": call.customer,
        ENDPOINTS[call.action].devices: _devices_at(call, positions),
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


def read_reply(body: bytes, call: Call, positions: Sequence[int], sanitize: Sanitizer = printable) -> Reply:
    """Read a 200 and match it to the requested positions.

    Raises UnusableError if it is not an object whose `success` is true, or if its lists
    contain anything but devices.
    """
    _refuse_too_many_values(body)
    answer, endpoint = _answer(body, call.action), ENDPOINTS[call.action]
    if answer.get("success") is not True:
        raise _no_success(_object(body), sanitize)
    listed = _entries(answer, endpoint.lists, sanitize)
    matched, entries, unrequested = _match(listed, call.devices, positions)
    created = answer.get("customerWasCreated")
    return Reply(
        results=Results(
            positions=matched,
            codes=entries.codes,
            device_ids=entries.device_ids,
            created=entries.created,
            reasons=_reasons(entries.codes, endpoint.why_skipped),
        ),
        omitted=_missing(positions, matched),
        unrequested=tuple(_cut(sanitize(identifier)) for identifier in unrequested),
        customer_id=_text(answer.get("customerId"), sanitize),
        customer_was_created=created if isinstance(created, bool) else None,
        devices_remaining=None if endpoint.remaining is None else _number_of_devices(answer.get(endpoint.remaining)),
    )


def _answer(body: bytes, action: Action) -> dict[str, Any]:
    """Return the answer as an object. Entries of its lists are `_Device` only if all have the usual form."""
    try:
        return _DECODERS[action].decode(body.decode())
    except (ValueError, RecursionError):
        return _object(body)


def _no_success(answer: Mapping[str, object], sanitize: Sanitizer) -> UnusableError:
    kind = UnusableError if "success" in answer or "error" in answer else NotTheApiError
    return kind(f"its success is not true: {_error_text(answer, sanitize)}")


def _number_of_devices(entries: object) -> int | None:
    """Return the number of distinct devices in a list; None if it is no list of devices."""
    if not isinstance(entries, list):
        return None
    devices = [entry.get("identifier") if isinstance(entry, dict) else entry for entry in entries]
    return len(frozenset(devices)) if all(isinstance(device, str) for device in devices) else None


def read_error(body: bytes, sanitize: Sanitizer = printable) -> ErrorBody:
    """Return the content of an error's body."""
    try:
        answer = _object(body if len(body) <= _MAX_JSON_ERROR_BYTES else b"")
        return ErrorBody(
            _error_text(answer, sanitize), is_api_error=isinstance(answer.get("error"), str) and bool(answer["error"])
        )
    except UnusableError:
        page = _beginning(body[: 4 * (_MAX_TEXT_LENGTH + 1)].decode("utf-8", "replace"), _MAX_TEXT_LENGTH)
        return ErrorBody(one_line(re.sub(r"<[^>]*>", " ", page), sanitize), is_api_error=False)


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


def _error_text(answer: Mapping[str, object], sanitize: Sanitizer) -> str:
    for name in ("error", "message"):
        if answer.get(name):
            return one_line(_as_text(answer[name]), sanitize)
    return one_line(_as_text(answer), sanitize)


def one_line(text: str, sanitize: Sanitizer = printable) -> str:
    """Return the text in printable form, on one line and shortened."""
    return _cut(sanitize(" ".join(_beginning(text, _MAX_TEXT_LENGTH).split())))


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


def _text(value: object, sanitize: Sanitizer) -> str:
    return "" if value is None else sanitize(_as_text(value))


def _texts(values: list[Any], sanitize: Sanitizer) -> list[str]:
    """Return what `_text` returns for each value."""
    texts = values if _are_texts(values) else ["" if value is None else _as_text(value) for value in values]
    if sanitize is printable and is_printable("".join(texts)):
        return texts  # the usual case, without a call for each text
    return [sanitize(text) for text in texts]


def _are_texts(values: Iterable[object]) -> bool:
    return {*map(type, values)} <= {str}


def _entries(answer: Mapping[str, Any], lists: Mapping[str, Outcome], sanitize: Sanitizer) -> _Entries:
    """Return the entries of the answer's lists, which may be objects or bare identifiers."""
    devices: list[_Device] = []
    identifiers: list[str] = []
    codes: list[int] = []
    for name, outcome in lists.items():
        entries = answer.get(name) or []
        if not isinstance(entries, list):
            raise UnusableError(f"its {name} is not a list")
        listed = entries if {*map(type, entries)} <= {_Device} else [_as_device(entry) for entry in entries]
        names = [device.identifier for device in listed]
        if not _are_texts(names):
            raise UnusableError(f"its {name} contains something that is not a device")
        identifiers += names
        devices += listed
        codes += [outcome.code] * len(listed)
    return _Entries(
        identifiers=identifiers,
        codes=codes,
        device_ids=_texts([device.device_id for device in devices], sanitize),
        created=[device.was_created if isinstance(device.was_created, bool) else None for device in devices],
    )


def _as_device(entry: object) -> _Device:
    """Return an entry of any form; its identifier may be of any type."""
    if isinstance(entry, _Device):
        return entry
    fields: Mapping[str, Any] = entry if isinstance(entry, dict) else {"identifier": entry}
    return _Device(fields.get("identifier"), fields.get("deviceId"), fields.get("wasCreated"))  # type: ignore[arg-type]


def _match(
    entries: _Entries, devices: Sequence[str], asked: Sequence[int]
) -> tuple[Sequence[int], _Entries, Sequence[str]]:
    """Return requested positions, the entry of each, and the identifiers that were not requested.

    Positions with contradictory entries are left out. Identifiers match exactly, else trimmed, else ignoring case
    if only one device fits. All devices of the call are considered, so that one requested later is not mistaken for a
    similar one. Other spellings of a device that is also spelled as requested do not count: they belong to other
    customers.
    """
    identifiers, codes = entries.identifiers, entries.codes
    if len(asked) == len(devices) and tuple(identifiers) == devices:
        return range(len(devices)), entries, ()  # the usual case
    wanted = frozenset(asked)
    exact = {device: position for position, device in enumerate(devices)}
    position_of = exact | _match_loosely([one for one in identifiers if one not in exact], devices)
    named_exactly = {exact[one] for one in identifiers if one in exact}
    entry_at: dict[int, int] = {}
    contradicted = set[int]()
    unrequested = []
    for entry, identifier in enumerate(identifiers):
        position = position_of.get(identifier)
        if position is None or position not in wanted:
            unrequested.append(identifier)
        elif identifier in exact or position not in named_exactly:
            first = entry_at.setdefault(position, entry)
            if codes[first] != codes[entry]:
                contradicted.add(position)
    for position in contradicted:
        del entry_at[position]
    return [*entry_at], entries.take(entry_at.values()), unrequested


def _match_loosely(spellings: Sequence[str], devices: Sequence[str]) -> dict[str, int]:
    """Return the position of the device that each spelling means, without ambiguous and unknown ones."""
    if not spellings:
        return {}
    # Loads pyarrow, which `check` does without.
    from telemetron_batch.domain.identifiers import as_column, casefolded, trimmed

    found: dict[str, int] = {}
    for form in (casefolded, trimmed):
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


def _reasons(codes: Sequence[int], why_skipped: Reason) -> list[int] | None:
    skipped = Outcome.SKIPPED.code
    return [int(why_skipped) if code == skipped else 0 for code in codes] if skipped in codes else None


def _missing(positions: Sequence[int], settled: Collection[int]) -> tuple[int, ...]:
    if len(settled) == len(positions):
        return ()
    done = frozenset(settled)
    return tuple(position for position in positions if position not in done)


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
