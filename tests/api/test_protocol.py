"""Requests have the vendor's documented form; answers are matched to the requested devices only."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.api import protocol
from telemetron_batch.api.protocol import (
    ENDPOINTS,
    QUERY_PATH,
    Reply,
    UnusableError,
    query_body,
    read_error,
    read_holdings,
    read_reply,
    request_body,
)
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import DeviceResult, Results
from telemetron_batch.domain.model import Call
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason

EMAIL = "john.doe@example.com"
ASSIGN_ANSWER = {
    "success": True,
    "message": "Successfully assigned 2 device(s) to customer",
    "customerId": "cust_abc123",
    "customerWasCreated": False,
    "assignedDevices": [{"identifier": "SN-001", "deviceId": "dev_x1y2z3", "wasCreated": False}],
    "alreadyAssigned": [{"identifier": "SN-002", "deviceId": "dev_a4b5c6", "wasCreated": False}],
    "skipped": ["SN-003"],
}
UNASSIGN_ANSWER = {
    "success": True,
    "message": "Successfully unassigned 1 device(s) from customer",
    "customerId": "cust_abc123",
    "unassignedDevices": ["SN-001"],
    "skipped": ["SN-002"],
    "devicesRemaining": ["SN-003"],
}
UNKNOWN = Reason.UNKNOWN_DEVICE


def assign(*devices: str, device_type: str | None = None) -> Call:
    return Call(1, 0, EMAIL, Action.ASSIGN, devices, device_type)


def unassign(*devices: str) -> Call:
    return Call(1, 0, EMAIL, Action.UNASSIGN, devices)


def reply(call: Call, positions: Iterable[int] | None = None, **answer: Any) -> Reply:
    asked = range(len(call.devices)) if positions is None else positions
    return read_reply(json.dumps({"success": True, **answer}).encode(), call, tuple(asked))


def outcomes(reply: Reply) -> dict[int, str]:
    return {position: result.outcome.value for position, result in reply.results.items()}


# Requests


def test_an_assign_asks_as_the_vendors_page_shows() -> None:
    call = assign("SN-001", "SN-002", "SN-003")
    body = b'{"customerEmail":"john.doe@example.com","deviceIdentifiers":["SN-001","SN-002","SN-003"]}'
    assert request_body(call, (0, 1, 2)) == body
    assert ENDPOINTS[Action.ASSIGN].path == "/deviceAssignment/assignDevicesToOwner"


def test_auto_create_adds_the_two_fields_of_the_vendors_page() -> None:
    assert json.loads(request_body(assign("SN-001", "SN-002", device_type="sensor"), (0, 1))) == {
        "customerEmail": EMAIL,
        "deviceIdentifiers": ["SN-001", "SN-002"],
        "autoCreateDevices": True,
        "deviceType": "sensor",
    }


def test_an_unassign_asks_as_the_vendors_page_shows() -> None:
    assert json.loads(request_body(unassign("SN-001", "SN-002"), (0, 1))) == {
        "customerEmail": EMAIL,
        "deviceIdentifiers": ["SN-001", "SN-002"],
    }
    assert ENDPOINTS[Action.UNASSIGN].path == "/deviceAssignment/unassignDevicesFromOwner"


def test_a_query_asks_by_email_alone() -> None:
    assert json.loads(query_body(EMAIL)) == {"email": EMAIL}
    assert QUERY_PATH == "/customer/queryCustomer"


def test_a_part_of_a_call_asks_for_its_positions_only() -> None:
    assert json.loads(request_body(assign("A", "B", "C"), (2, 0)))["deviceIdentifiers"] == ["C", "A"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True))
def test_identifiers_travel_exactly_as_written(devices: list[str]) -> None:
    body = request_body(assign(*devices), range(len(devices)))
    assert json.loads(body.decode("utf-8"))["deviceIdentifiers"] == devices


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5), st.none() | st.just("Gerät \x7f"))
def test_a_request_is_written_as_the_json_of_the_standard_library_without_spaces(
    devices: list[str], kind: str | None
) -> None:
    body: dict[str, object] = {"customerEmail": EMAIL, "deviceIdentifiers": devices}
    if kind is not None:
        body |= {"autoCreateDevices": True, "deviceType": kind}
    written = request_body(assign(*devices, device_type=kind), range(len(devices)))
    assert written == json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


# Answers as the vendor shows them


def test_the_vendors_assign_answer_is_read_whole() -> None:
    read = read_reply(json.dumps(ASSIGN_ANSWER).encode(), assign("SN-001", "SN-002", "SN-003"), (0, 1, 2))
    assert read == Reply(
        results={
            0: DeviceResult(Outcome.ASSIGNED, "dev_x1y2z3", was_created=False),
            1: DeviceResult(Outcome.ALREADY_ASSIGNED, "dev_a4b5c6", was_created=False),
            2: DeviceResult(Outcome.SKIPPED, reason=Reason.UNKNOWN_DEVICE),
        },
        omitted=(),
        unrequested=(),
        customer_id="cust_abc123",
        customer_was_created=False,
    )


def test_the_vendors_unassign_answer_is_read_whole_and_what_remains_is_no_result() -> None:
    read = read_reply(json.dumps(UNASSIGN_ANSWER).encode(), unassign("SN-001", "SN-002", "SN-003"), (0, 1, 2))
    assert read == Reply(
        results={
            0: DeviceResult(Outcome.UNASSIGNED),
            1: DeviceResult(Outcome.SKIPPED, reason=Reason.NOT_WITH_CUSTOMER),
        },
        omitted=(2,),
        unrequested=(),
        customer_id="cust_abc123",
        customer_was_created=None,
        devices_remaining=1,
    )


def test_the_message_is_never_believed() -> None:
    assert outcomes(reply(assign("A", "B"), message="Successfully assigned 2 device(s)", assignedDevices=["A"])) == {
        0: "assigned"
    }


# Joining


@pytest.mark.parametrize("answered", ["SN-1", " SN-1\t", "sn-1", " sN-1 ", "\u00a0SN-1"])
def test_an_identifier_is_known_again_trimmed_and_in_other_case(answered: str) -> None:
    assert outcomes(reply(assign("SN-1", "X"), assignedDevices=[answered], skipped=["X"])) == {
        0: "assigned",
        1: "skipped",
    }


@pytest.mark.parametrize("answered", ["SN-10", "SN_1", "SN1", "0SN-1", "SN-", "", "S N-1"])
def test_a_similar_identifier_belongs_to_another_customer(answered: str) -> None:
    read = reply(assign("SN-1"), assignedDevices=[answered])
    assert (read.results, read.omitted, read.unrequested) == ({}, (0,), (answered,))


def test_devices_that_differ_only_in_case_are_distinguished() -> None:
    read = reply(assign("SN-1", "sn-1"), assignedDevices=["sn-1"], skipped=["SN-1"])
    assert outcomes(read) == {0: "skipped", 1: "assigned"}


@pytest.mark.parametrize("answered", ["Sn-1", "sN-1", " Sn-1"])
def test_a_third_spelling_of_two_that_differ_only_in_case_means_neither(answered: str) -> None:
    read = reply(assign("SN-1", "sn-1"), assignedDevices=[answered])
    assert (read.results, read.omitted, read.unrequested) == ({}, (0, 1), (answered,))


def test_trimming_alone_distinguishes_devices_that_differ_in_case() -> None:
    read = reply(assign("SN-1", "sn-1"), assignedDevices=[" sn-1 "], skipped=[" SN-1 "])
    assert outcomes(read) == {0: "skipped", 1: "assigned"}


def test_the_requested_spelling_beats_a_similar_one() -> None:
    read = reply(assign("SN-1"), assignedDevices=["sn-1"], skipped=["SN-1"])
    assert outcomes(read) == {0: "skipped"}


def test_the_order_of_an_answer_means_nothing() -> None:
    read = reply(assign("A", "B", "C"), assignedDevices=["C", "A"], skipped=["B"])
    assert outcomes(read) == {0: "assigned", 1: "skipped", 2: "assigned"}


def test_objects_and_bare_identifiers_are_read_alike_in_every_list() -> None:
    read = reply(assign("A", "B"), assignedDevices=["A"], skipped=[{"identifier": "B", "deviceId": "dev_b"}])
    assert read.results == {
        0: DeviceResult(Outcome.ASSIGNED),
        1: DeviceResult(Outcome.SKIPPED, "dev_b", None, UNKNOWN),
    }


def test_a_device_named_twice_in_one_list_counts_once() -> None:
    assert outcomes(reply(unassign("A"), unassignedDevices=["A", "A", "a"])) == {0: "unassigned"}


def test_a_device_in_two_lists_has_no_result() -> None:
    read = reply(assign("A", "B"), assignedDevices=["A", "B"], skipped=["A"])
    assert (outcomes(read), read.omitted) == ({1: "assigned"}, (0,))


def test_a_device_left_out_is_omitted() -> None:
    assert reply(assign("A", "B"), assignedDevices=["B"]).omitted == (0,)


def test_an_answer_without_any_list_leaves_everything_out() -> None:
    assert reply(assign("A", "B")).omitted == (0, 1)


def test_devices_that_were_not_requested_are_unexpected() -> None:
    read = reply(assign("A", "B"), [0], assignedDevices=["A", "Z"], skipped=["B"])
    assert (outcomes(read), read.unrequested) == ({0: "assigned"}, ("Z", "B"))


def test_an_assign_does_not_read_the_lists_of_an_unassign() -> None:
    assert reply(assign("A"), unassignedDevices=["A"]).omitted == (0,)


@pytest.mark.parametrize(("said", "read"), [(True, True), (False, False), ("true", None), (1, None), (None, None)])
def test_created_is_a_boolean_or_unknown(said: object, read: bool | None) -> None:
    answer = reply(assign("A"), customerWasCreated=said, assignedDevices=[{"identifier": "A", "wasCreated": said}])
    assert (answer.customer_was_created, answer.results[0].was_created) == (read, read)


@pytest.mark.parametrize(("said", "read"), [("c1", "c1"), (17, "17"), (None, ""), ({"a": 1}, '{"a": 1}')])
def test_an_id_of_any_json_type_becomes_text(said: object, read: str) -> None:
    answer = reply(assign("A"), customerId=said, assignedDevices=[{"identifier": "A", "deviceId": said}])
    assert (answer.customer_id, answer.results[0].device_id) == (read, read)


# Hostile answers


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"<html><body>It works!</body></html>", "not JSON"),
        (b'{"success": true, "assignedDevices": ["SN-1"', "not JSON"),
        (b"\xff\xfe\x00\xd8", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not JSON"),
        (b'{"success": true, "customerId": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"success"', "not a JSON object"),
        (b"true", "not a JSON object"),
        (b"{}", "success is not true"),
        (b'{"success": false, "error": "database is locked"}', "database is locked"),
        (b'{"success": "true"}', "success is not true"),
        (b'{"success": 1}', "success is not true"),
        (b'{"success": true, "assignedDevices": {"SN-1": {}}}', "assignedDevices is not a list"),
        (b'{"success": true, "assignedDevices": "SN-1"}', "assignedDevices is not a list"),
        (b'{"success": true, "skipped": [1]}', "skipped contains something that is not a device"),
        (b'{"success": true, "skipped": [["SN-1"]]}', "skipped contains something that is not a device"),
        (b'{"success": true, "assignedDevices": [{"deviceId": "SN-1"}]}', "not a device"),
        (b'{"success": true, "assignedDevices": [null]}', "not a device"),
    ],
)
def test_a_body_that_is_no_answer_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        read_reply(body, assign("SN-1"), (0,))


def test_a_byte_order_mark_before_an_answer_is_no_fault() -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"success": True, "assignedDevices": ["A"]}).encode()
    assert outcomes(read_reply(body, assign("A"), (0,))) == {0: "assigned"}


SPELLINGS = st.sampled_from(["SN-1", "sn-1", "Sn-1", " SN-1", "SN-1 ", "SN-2", "sn-2 ", "X", "x", "", "ß", "SS", "İ"])
DEVICES = st.sampled_from(["SN-1", "sn-1", "SN-2", "X", "ß", "İ"])
ENTRIES = st.lists(st.one_of(SPELLINGS, st.fixed_dictionaries({"identifier": SPELLINGS})), max_size=6)
ANSWERS = st.fixed_dictionaries(
    {"success": st.just(True)},
    optional={"assignedDevices": ENTRIES, "alreadyAssigned": ENTRIES, "skipped": ENTRIES, "unassignedDevices": ENTRIES},
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Call, tuple[int, ...]]:
    devices = draw(st.lists(DEVICES, min_size=1, unique=True))
    asked = draw(st.lists(st.sampled_from(range(len(devices))), min_size=1, unique=True))
    return Call(1, 0, EMAIL, draw(st.sampled_from(Action)), tuple(devices)), tuple(asked)


def said_in(answer: dict[str, Any], outcome: Outcome) -> list[str]:
    lists = {
        Outcome.ASSIGNED: "assignedDevices",
        Outcome.ALREADY_ASSIGNED: "alreadyAssigned",
        Outcome.SKIPPED: "skipped",
        Outcome.UNASSIGNED: "unassignedDevices",
    }
    return [entry if isinstance(entry, str) else entry["identifier"] for entry in answer.get(lists[outcome], [])]


@given(requests(), ANSWERS)
def test_results_and_omitted_share_the_asked_positions_out(request: tuple[Call, tuple[int, ...]], answer: Any) -> None:
    call, asked = request
    read = read_reply(json.dumps(answer).encode(), call, asked)
    assert set(read.results) | set(read.omitted) == set(asked)
    assert len(read.results) + len(read.omitted) == len(asked)


@given(requests(), ANSWERS)
def test_every_result_belongs_to_its_device_up_to_white_space_and_case(
    request: tuple[Call, tuple[int, ...]], answer: Any
) -> None:
    call, asked = request
    read = read_reply(json.dumps(answer).encode(), call, asked)
    for position, result in read.results.items():
        said = {spelling.strip().casefold() for spelling in said_in(answer, result.outcome)}
        assert call.devices[position].casefold() in said


@given(requests(), ANSWERS)
def test_the_entry_spelled_as_requested_counts(request: tuple[Call, tuple[int, ...]], answer: Any) -> None:
    call, asked = request
    read = read_reply(json.dumps(answer).encode(), call, asked)
    lists = [Outcome.UNASSIGNED, Outcome.SKIPPED]
    if call.action is Action.ASSIGN:
        lists = [Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.SKIPPED]
    for position in asked:
        exactly = [outcome for outcome in lists if call.devices[position] in said_in(answer, outcome)]
        if len(exactly) == 1:
            assert read.results[position].outcome is exactly[0]
        if len(exactly) > 1:
            assert position in read.omitted


@given(st.permutations(["SN-1", "sn-1", "Sn-1", "sN-1"]), ANSWERS)
def test_devices_that_differ_only_in_case_get_their_own_results(devices: list[str], answer: Any) -> None:
    call = assign(*devices)
    read = read_reply(json.dumps(answer).encode(), call, range(4))
    for position, result in read.results.items():
        assert devices[position] in {spelling.strip() for spelling in said_in(answer, result.outcome)}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*ASSIGN_ANSWER, "identifier"]), inner),
)


def read_if_usable(body: bytes) -> Reply | str:
    try:
        return read_reply(body, assign("A", "B"), (0, 1))
    except UnusableError as refusal:
        return str(refusal)


@given(JSON.filter(lambda answer: not (isinstance(answer, dict) and answer.get("success") is True)))
def test_no_json_without_success_is_an_answer_and_the_reason_is_one_line(answer: Any) -> None:
    read = read_if_usable(json.dumps(answer).encode())
    assert isinstance(read, str)
    assert "\n" not in read


def test_an_answer_of_success_alone_leaves_every_device_open() -> None:
    read = read_reply(b'{"success": true}', assign("A", "B"), (0, 1))
    assert (read.results, read.omitted) == ({}, (0, 1))


@given(st.dictionaries(st.sampled_from([*ASSIGN_ANSWER, *UNASSIGN_ANSWER]), JSON))
def test_any_object_is_an_answer_about_what_was_asked_or_unusable(answer: Any) -> None:
    read = read_if_usable(json.dumps({**answer, "success": True}).encode())
    assert isinstance(read, str) or {*read.results, *read.omitted} == {0, 1}


@given(st.binary())
def test_rubbish_is_unusable_and_as_an_error_text_it_is_one_short_line(body: bytes) -> None:
    assert isinstance(read_if_usable(body), str)
    assert len(read_error(body).text) <= 300
    assert read_error(body).text.isprintable()


# The usual answer is decoded faster, and says the same


def both_ways(body: bytes, call: Call, asked: Sequence[int], patch: pytest.MonkeyPatch) -> list[Reply | str]:
    """Return what is read of a body with the decoder of the usual answer, and with that of any JSON."""
    read: list[Reply | str] = []
    for decode in (protocol._answer, lambda body, _: protocol._object(body)):
        patch.setattr(protocol, "_answer", decode)
        try:
            read.append(read_reply(body, call, asked))
        except UnusableError as refusal:
            read.append(str(refusal))
    patch.undo()
    return read


ODD = st.sampled_from(
    [
        *("17", "-0", "1.0", "1e5", "1E400", "NaN", "-Infinity", "9" * 25, "9" * 5000, "true", "null", '"a"', '""'),
        *(
            '"\\u00e9"',
            '"\\ud83d\\ude00"',
            '"\\ud800"',
            '"\\ude00\\ud83d"',
            '"\\u0000"',
            '"\t"',
            '"\x7f"',
            '"é"',
            '"\\x"',
        ),
        *(
            '["A"]',
            '[["A"]]',
            '{"identifier": "A"}',
            '[{"identifier": "A", "identifier": "B"}]',
            "[1]",
            "[",
            "01",
            "+1",
        ),
        *('[{"identifier": "A", "deviceId": null}, "B"]', '[{"identifier": "B", "wasCreated": 1}]', "[null]", "[{}]"),
    ]
)
FIELDS = st.sampled_from(["success", *ASSIGN_ANSWER, *UNASSIGN_ANSWER, "identifier", "customer\\u0049d", "else"])


@given(
    st.lists(st.tuples(FIELDS, ODD), max_size=5),
    st.sampled_from(["", "\ufeff", " ", "\n"]),
    st.sampled_from(["", " ", ",", "}", "\x00"]),
    st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "latin-1"]),
    requests(),
)
def test_an_odd_answer_is_read_alike_with_both_decoders(
    fields: list[tuple[str, str]], before: str, after: str, encoding: str, request: tuple[Call, tuple[int, ...]]
) -> None:
    call = Call(1, 0, EMAIL, request[0].action, ("A", "B", *request[0].devices))
    text = ", ".join(f'"{name}": {value}' for name, value in [("success", "true"), *fields])
    body = f"{before}{{{text}}}{after}".encode(encoding, "replace")
    with pytest.MonkeyPatch.context() as patch:
        usual, any_json = both_ways(body, call, (0, 1), patch)
    if "9" * 5000 not in text:  # which the standard library refuses wherever it stands
        assert usual == any_json


@given(requests(), ANSWERS)
def test_a_plausible_answer_is_read_alike_with_both_decoders(
    request: tuple[Call, tuple[int, ...]], answer: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        usual, any_json = both_ways(json.dumps(answer).encode(), *request, patch)
    assert usual == any_json


@pytest.mark.parametrize(("action", "answer"), [(Action.ASSIGN, ASSIGN_ANSWER), (Action.UNASSIGN, UNASSIGN_ANSWER)])
def test_the_vendors_answers_are_decoded_as_usual_ones(action: Action, answer: dict[str, Any]) -> None:
    decoded = protocol._DECODERS[action].decode(json.dumps(answer))
    assert decoded["skipped"] == answer["skipped"]
    assert all(isinstance(device, protocol._Device) for device in decoded.get("assignedDevices", ()))


# Error texts


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "Invalid email format"}', "Invalid email format"),
        (b'{"message": "nope"}', "nope"),
        (b'{"error": "", "message": "nope"}', "nope"),
        (b'{"error": {"code": 7}}', '{"code": 7}'),
        (b'{"error": "two\\nlines\\u001b[31m \\u202e \\ud800"}', r"two lines\x1b[31m \u202e \ud800"),
        (b"{}", "{}"),
        (b"", ""),
        (b"  Bad\r\nGateway ", "Bad Gateway"),
        (b"<html><h1>502 Bad\nGateway</h1>\n<hr>nginx</html>", "502 Bad Gateway nginx"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_an_error_text_is_one_printable_line(body: bytes, text: str) -> None:
    assert read_error(body).text == text


def test_a_long_error_text_is_cut() -> None:
    text = read_error(json.dumps({"error": "x" * 10_000}).encode()).text
    assert (len(text), text[-3:]) == (300, "...")


# Results as columns

RESULTS = st.dictionaries(
    st.integers(0, 20), st.builds(DeviceResult, st.sampled_from(Outcome), st.text(), st.none() | st.booleans())
)


@given(RESULTS)
def test_results_are_the_same_as_columns(results: dict[int, DeviceResult]) -> None:
    columns = Results.of(results)
    assert (columns, dict(columns), [*columns], len(columns)) == (results, results, [*results], len(results))
    assert Results.of(columns) is columns
    assert columns.counts() == Counter(result.outcome for result in results.values())
    assert repr(columns) == repr(results)


# Holdings


def test_a_query_answer_gives_the_customers_devices() -> None:
    body = b'{"email": " A@B.c", "devices": ["A", {"identifier": "B", "deviceId": "7"}]}'
    assert read_holdings(body, "a@b.c") == {"A", "B"}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"devices": null}', b'{"devices": {"A": 1}}', b"<html>"])
def test_a_query_answer_without_devices_is_unusable(body: bytes) -> None:
    with pytest.raises(UnusableError):
        read_holdings(body, "a@b.c")


@pytest.mark.parametrize("odd", ["3", "null", '{"deviceId": "7"}'])
def test_a_query_answer_is_taken_whole_or_not_at_all(odd: str) -> None:
    with pytest.raises(UnusableError, match="not a device"):
        read_holdings(f'{{"devices": ["A", {odd}]}}'.encode(), "a@b.c")


def test_a_query_answer_about_another_customer_is_unusable() -> None:
    with pytest.raises(UnusableError, match="another customer"):
        read_holdings(b'{"email": "b@b.c", "devices": ["A"]}', "a@b.c")
