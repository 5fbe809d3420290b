"""The API's shape, once: a call becomes a request, a body becomes results by device.

Knows paths, field names and the rules by which an answer is joined to what was asked;
knows nothing of connections, retries or rows.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from batch.model import Action, Call, DeviceResult, Outcome

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
_WHY_SKIPPED: Final = {
    Action.ASSIGN: "Telemetron does not know this device",
    Action.UNASSIGN: "the customer did not have this device",
}
_LONGEST_ERROR: Final = 300


class UnusableError(ValueError):
    """A body that cannot be taken for an answer; `str()` says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A usable answer to a bulk request, joined to the positions that were asked."""

    results: Mapping[int, DeviceResult]
    omitted: tuple[int, ...]
    """Positions that were asked and that the answer leaves out or contradicts itself about."""
    foreign: tuple[str, ...]
    """Identifiers that the answer names and nobody asked for."""
    customer_id: str
    customer_was_created: bool | None


_Said = tuple[str, DeviceResult]
"""One entry of one of the answer's lists: an identifier, and what is said of it."""


def request_body(call: Call, positions: Sequence[int]) -> bytes:
    """The JSON that asks for these positions of the call's devices."""
    body: dict[str, object] = {
        "customerEmail": call.customer,
        "deviceIdentifiers": [call.devices[position] for position in positions],
    }
    if call.device_type is not None:
        body["autoCreateDevices"] = True
        body["deviceType"] = call.device_type
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def query_body(customer: str) -> bytes:
    """The JSON that asks what a customer holds."""
    return json.dumps({"email": customer}).encode()


def read_reply(body: bytes, call: Call, positions: Sequence[int]) -> Reply:
    """Join a 200 to what was asked.

    Raises UnusableError where it is not an object whose `success` is true, or lists
    something else than devices.
    """
    answer = _object(body)
    if answer.get("success") is not True:
        raise UnusableError(f"its success is not true: {_shown(answer)}")
    said = [*_entries(answer, call.action)]
    asked = frozenset(positions)
    results, foreign = _joined_at_once(said, call.devices, asked) or _joined(said, call.devices, asked)
    created = answer.get("customerWasCreated")
    return Reply(
        results=results,
        omitted=tuple(position for position in positions if position not in results),
        foreign=foreign,
        customer_id=_text(answer.get("customerId")),
        customer_was_created=created if isinstance(created, bool) else None,
    )


def read_error(body: bytes) -> str:
    """The error text of a refusal, on one line and of bearable length."""
    try:
        answer = _object(body)
    except UnusableError:
        return _one_line(re.sub(r"<[^>]*>", " ", body[:4096].decode("utf-8", "replace")))
    return _shown(answer)


def _object(body: bytes) -> dict[str, object]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise UnusableError("it is not JSON" if body else "it is empty") from exc
    if not isinstance(answer, dict):
        raise UnusableError("it is not a JSON object")
    return answer


def _shown(answer: Mapping[str, object]) -> str:
    for name in ("error", "message"):
        if answer.get(name):
            told = answer[name]
            return _one_line(told if isinstance(told, str) else json.dumps(told))
    return _one_line(json.dumps(answer))


def _one_line(text: str) -> str:
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= _LONGEST_ERROR else flat[: _LONGEST_ERROR - 3] + "..."


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    # JSON can spell half a character, which no file could hold.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _entries(answer: Mapping[str, object], action: Action) -> Iterator[_Said]:
    """Every device the answer speaks of; entries may be objects or bare identifiers."""
    for name, outcome in _LISTS[action].items():
        entries = answer.get(name) or []
        if not isinstance(entries, list):
            raise UnusableError(f"its {name} is not a list")
        detail = _WHY_SKIPPED[action] if outcome is Outcome.SKIPPED else ""
        for entry in entries:
            fields = entry if isinstance(entry, dict) else {"identifier": entry}
            identifier, created = fields.get("identifier"), fields.get("wasCreated")
            if not isinstance(identifier, str):
                raise UnusableError(f"its {name} holds something that is not a device")
            if not isinstance(created, bool):
                created = None
            yield identifier, DeviceResult(outcome, _text(fields.get("deviceId")), created, detail)


def _joined_at_once(
    said: Sequence[_Said], devices: Sequence[str], asked: AbstractSet[int]
) -> tuple[Mapping[int, DeviceResult], tuple[str, ...]] | None:
    """What `_joined` would give, where each device is spelled as it was asked and named once; mostly it is."""
    places = {device: at for at, device in enumerate(devices)}
    results: dict[int, DeviceResult] = {}
    for identifier, result in said:
        at = places.get(identifier)
        if at is None or at in results or at not in asked:
            return None
        results[at] = result
    return results, ()


def _joined(
    said: Sequence[_Said], devices: Sequence[str], asked: AbstractSet[int]
) -> tuple[Mapping[int, DeviceResult], tuple[str, ...]]:
    """The results of the positions that the answer does not contradict itself about, and what nobody asked for.

    Matched by identifier: exact, then trimmed, then ignoring case where only one can be meant.
    Meant among all devices of the call, so that one asked for later is not mistaken for
    its lookalike.
    """
    exact = {identifier: position for position, identifier in enumerate(devices)}
    lookalikes = _Lookalikes(devices)
    joined: defaultdict[int, list[_Said]] = defaultdict(list)
    foreign = []
    for identifier, result in said:
        position = exact.get(identifier)
        if position is None:
            position = lookalikes.position(identifier)
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


class _Lookalikes:
    """The devices of a call by other spellings: made only when an answer uses one."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._trimmed = _unambiguous([identifier.strip() for identifier in devices])
        self._folded = _unambiguous([identifier.strip().casefold() for identifier in devices])

    def position(self, spelling: str) -> int | None:
        """The one device that can be meant; None if it may be several, or none."""
        bare = spelling.strip()
        return self._trimmed.get(bare, self._folded.get(bare.casefold()))


def _unambiguous(spellings: Sequence[str]) -> dict[str, int]:
    """Spelling to position, without the spellings that several positions share."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, spelling in enumerate(spellings):
        positions[spelling].append(position)
    return {spelling: found[0] for spelling, found in positions.items() if len(found) == 1}


def _without_lookalikes(joined: Mapping[int, list[_Said]], asked: Sequence[str]) -> Mapping[int, list[_Said]]:
    """Where the answer spells a device as asked, its other spellings are somebody else's."""
    return {
        position: (len(entries) > 1 and [entry for entry in entries if entry[0] == asked[position]]) or entries
        for position, entries in joined.items()
    }


def read_holdings(body: bytes, customer: str) -> frozenset[str]:
    """The identifiers that a queryCustomer answer lists, whole or not at all.

    Raises UnusableError where it speaks of another customer or lists what is no device:
    a device that was overlooked would pass for one that the customer does not have.
    """
    answer = _object(body)
    email, entries = answer.get("email"), answer.get("devices")
    if isinstance(email, str) and email.strip().casefold() != customer.strip().casefold():
        raise UnusableError("it speaks of another customer")
    if not isinstance(entries, list):
        raise UnusableError("it lists no devices")
    devices = [entry.get("identifier") if isinstance(entry, dict) else entry for entry in entries]
    if not all(isinstance(device, str) for device in devices):
        raise UnusableError("its devices hold something that is not a device")
    return frozenset(map(_text, devices))
