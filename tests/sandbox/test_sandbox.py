"""The sandbox answers as the vendor's reference says, and keeps its state."""

import asyncio
import json
import logging
import os
import re
import signal
import socket
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.sandbox import server
from telemetron_batch.sandbox.server import PATH, Limit, SlidingWindow, sandbox_app, serve_forever, serve_in_thread
from telemetron_batch.sandbox.state import FRACTIONS, RequestLog, SandboxState

ASSIGN = f"{PATH}/deviceAssignment/assignDevicesToOwner"
UNASSIGN = f"{PATH}/deviceAssignment/unassignDevicesFromOwner"
QUERY = f"{PATH}/customer/queryCustomer"
KEY = {"x-api-key": "any"}

EMAIL = "john.doe@example.com"


def bulk(*devices: object, email: object = EMAIL, **more: object) -> dict[str, object]:
    return {"customerEmail": email, "deviceIdentifiers": list(devices), **more}


def ascii_json(body: object) -> bytes:
    """Return JSON in ASCII, which can also express lone surrogates."""
    return json.dumps(body).encode()


def client(state: SandboxState, **terms: object) -> TestClient:
    return TestClient(sandbox_app(state, **terms), headers=KEY, raise_server_exceptions=False)


@pytest.fixture
def state() -> Iterator[SandboxState]:
    with SandboxState() as state:
        yield state


@pytest.fixture
def api(state: SandboxState) -> TestClient:
    return client(state)


# Assign


def test_an_assign_answers_every_field_the_vendor_documents(api: TestClient) -> None:
    api.post(ASSIGN, json=bulk("SN-002"))

    answer = api.post(ASSIGN, json=bulk("SN-001", "SN-002", "UNKNOWN-3"))

    assert answer.status_code == 200
    body = answer.json()
    assert re.fullmatch("cust_[0-9a-f]{12}", body.pop("customerId"))
    assert re.fullmatch("dev_[0-9a-f]{12}", body["assignedDevices"][0].pop("deviceId"))
    assert re.fullmatch("dev_[0-9a-f]{12}", body["alreadyAssigned"][0].pop("deviceId"))
    assert body == {
        "success": True,
        "message": "Successfully assigned 2 device(s) to customer",
        "customerWasCreated": False,
        "assignedDevices": [{"identifier": "SN-001", "wasCreated": False}],
        "alreadyAssigned": [{"identifier": "SN-002", "wasCreated": False}],
        "skipped": ["UNKNOWN-3"],
    }


def test_an_assign_creates_an_unknown_customer_once(api: TestClient) -> None:
    first, second = (api.post(ASSIGN, json=bulk("A")).json() for _ in range(2))

    assert (first["customerWasCreated"], second["customerWasCreated"]) == (True, False)
    assert first["customerId"] == second["customerId"]


def test_an_assign_leaves_other_owners_alone(api: TestClient, state: SandboxState) -> None:
    api.post(ASSIGN, json=bulk("A", email="one@example.com"))
    api.post(ASSIGN, json=bulk("A", email="two@example.com"))

    assert state.owners("A") == {"one@example.com", "two@example.com"}


def test_an_assign_of_only_unknown_devices_is_refused_and_changes_nothing(api: TestClient, state: SandboxState) -> None:
    answer = api.post(ASSIGN, json=bulk("UNKNOWN-1", "unknown-2"))

    assert (answer.status_code, answer.json()) == (400, {"error": "No valid devices provided"})
    assert state.customer(EMAIL) is None


def test_unknown_devices_are_created_when_asked_and_known_from_then_on(api: TestClient) -> None:
    create = {"autoCreateDevices": True, "deviceType": "sensor"}

    first = api.post(ASSIGN, json=bulk("UNKNOWN-1", "A", **create)).json()
    second = api.post(ASSIGN, json=bulk("UNKNOWN-1", email="other@example.com")).json()

    assert [(device["identifier"], device["wasCreated"]) for device in first["assignedDevices"]] == [
        ("UNKNOWN-1", True),
        ("A", False),
    ]
    assert first["skipped"] == []
    assert [(device["identifier"], device["wasCreated"]) for device in second["assignedDevices"]] == [
        ("UNKNOWN-1", False)
    ]


def test_a_repeated_assign_converges(api: TestClient, state: SandboxState) -> None:
    api.post(ASSIGN, json=bulk("A", "B"))
    again = api.post(ASSIGN, json=bulk("A", "B")).json()

    assert again["assignedDevices"] == []
    assert [device["identifier"] for device in again["alreadyAssigned"]] == ["A", "B"]
    assert state.devices_of(EMAIL) == ["A", "B"]


def test_emails_are_trimmed_and_lowercased(api: TestClient, state: SandboxState) -> None:
    api.post(ASSIGN, json=bulk("A", email="  John.DOE@Example.com "))

    assert state.owners("A") == {EMAIL}
    assert state.devices_of(" JOHN.doe@example.com") == ["A"]


def test_identifiers_are_trimmed_and_keep_their_case(api: TestClient, state: SandboxState) -> None:
    api.post(ASSIGN, json=bulk(" sn-1\t", "SN-1"))

    assert state.devices_of(EMAIL) == ["SN-1", "sn-1"]


def test_an_identifier_repeated_in_one_call_is_answered_once(api: TestClient) -> None:
    body = api.post(ASSIGN, json=bulk("A", " A", "A")).json()

    assert [device["identifier"] for device in body["assignedDevices"]] == ["A"]
    assert body["alreadyAssigned"] == []


# Unassign


def test_an_unassign_answers_every_field_the_vendor_documents(api: TestClient) -> None:
    customer = api.post(ASSIGN, json=bulk("SN-001", "SN-003")).json()["customerId"]

    answer = api.post(UNASSIGN, json=bulk("SN-001", "SN-002", " SN-001 "))

    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "message": "Successfully unassigned 1 device(s) from customer",
        "customerId": customer,
        "unassignedDevices": ["SN-001"],
        "skipped": ["SN-002"],
        "devicesRemaining": ["SN-003"],
    }


def test_a_repeated_unassign_converges(api: TestClient) -> None:
    api.post(ASSIGN, json=bulk("A"))
    api.post(UNASSIGN, json=bulk("A"))
    again = api.post(UNASSIGN, json=bulk("A")).json()

    assert (again["unassignedDevices"], again["skipped"], again["devicesRemaining"]) == ([], ["A"], [])


def test_an_unassign_takes_a_device_from_the_named_customer_only(api: TestClient, state: SandboxState) -> None:
    api.post(ASSIGN, json=bulk("A", email="one@example.com"))
    api.post(ASSIGN, json=bulk("A", email="two@example.com"))
    api.post(UNASSIGN, json=bulk("A", email="one@example.com"))

    assert state.owners("A") == {"two@example.com"}


def test_an_unassign_from_an_unknown_customer_is_not_found(api: TestClient) -> None:
    answer = api.post(UNASSIGN, json=bulk("A"))

    assert (answer.status_code, answer.json()) == (404, {"error": "Customer not found for this organization"})


# Query


def test_a_query_answers_the_customer_with_their_devices(api: TestClient) -> None:
    customer = api.post(ASSIGN, json=bulk("B", "A")).json()["customerId"]

    answer = api.post(QUERY, json={"email": "John.Doe@example.com"})

    assert answer.status_code == 200
    body = answer.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("createdAt"))
    assert body == {
        "id": customer,
        "organizationId": "org_sandbox",
        "name": None,
        "email": EMAIL,
        "phone": None,
        "address": None,
        "devices": ["A", "B"],
        "orders": [],
        "metadata": {},
    }


def test_a_query_of_an_unknown_customer_is_not_found(api: TestClient) -> None:
    answer = api.post(QUERY, json={"email": EMAIL})

    assert (answer.status_code, answer.json()) == (404, {"error": "Customer not found"})


def test_a_customer_whose_last_device_was_removed_is_still_found(api: TestClient) -> None:
    api.post(ASSIGN, json=bulk("A"))
    api.post(UNASSIGN, json=bulk("A"))

    assert api.post(QUERY, json={"email": EMAIL}).json()["devices"] == []


# Refusals


@pytest.mark.parametrize("path", [ASSIGN, UNASSIGN, QUERY])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[]", b'"text"', b"null", b"[" * 100_000], ids=lambda body: repr(body[:9])
)
def test_a_body_that_is_no_json_object_is_refused(api: TestClient, path: str, body: bytes) -> None:
    answer = api.post(path, content=body)

    assert (answer.status_code, answer.json()) == (400, {"error": "Request body must be a JSON object"})


@pytest.mark.parametrize("path", [ASSIGN, UNASSIGN])
@pytest.mark.parametrize("body", [{"deviceIdentifiers": ["A"]}, bulk("A", email=None), bulk("A", email="")])
def test_a_missing_email_is_refused(api: TestClient, path: str, body: dict[str, object]) -> None:
    answer = api.post(path, json=body)

    assert (answer.status_code, answer.json()) == (400, {"error": "customerEmail is required"})


def test_a_query_without_an_email_is_refused(api: TestClient) -> None:
    answer = api.post(QUERY, json={})

    assert (answer.status_code, answer.json()) == (400, {"error": "email is required"})


@pytest.mark.parametrize("path", [ASSIGN, UNASSIGN, QUERY])
@pytest.mark.parametrize(
    "email",
    ["john", "john@example", "a b@example.com", "a@b@example.com", "a@b..com", "  ", 5, "\ud800@b.com"],
)
def test_an_invalid_email_is_refused(api: TestClient, path: str, email: object) -> None:
    answer = api.post(path, content=ascii_json(bulk("A", email=email) | {"email": email}))

    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid email format"})


@pytest.mark.parametrize("path", [ASSIGN, UNASSIGN])
@pytest.mark.parametrize("devices", [None, [], "SN-1", {"0": "SN-1"}])
def test_devices_that_are_not_a_non_empty_array_are_refused(api: TestClient, path: str, devices: object) -> None:
    answer = api.post(path, json={"customerEmail": EMAIL, "deviceIdentifiers": devices})

    assert answer.status_code == 400
    assert answer.json() == {"error": "deviceIdentifiers must be a non-empty array"}


@pytest.mark.parametrize("path", [ASSIGN, UNASSIGN])
@pytest.mark.parametrize("device", [7, None, ["B"], "", " \t", "\ud800"])
def test_one_device_that_is_not_a_non_empty_string_refuses_the_call(
    api: TestClient, state: SandboxState, path: str, device: object
) -> None:
    answer = api.post(path, content=ascii_json(bulk("A", device)))

    assert answer.status_code == 400
    assert answer.json() == {"error": "deviceIdentifiers must contain only non-empty strings"}
    assert state.owners("A") == set()


@pytest.mark.parametrize("more", [{}, {"deviceType": ""}, {"deviceType": " "}, {"deviceType": 3}])
def test_creating_devices_without_a_type_is_refused(api: TestClient, more: dict[str, object]) -> None:
    answer = api.post(ASSIGN, json=bulk("A", autoCreateDevices=True, **more))

    assert answer.status_code == 400
    assert answer.json() == {"error": "deviceType is required when creating a new device"}


def test_auto_create_must_be_a_boolean(api: TestClient) -> None:
    answer = api.post(ASSIGN, json=bulk("A", autoCreateDevices="yes", deviceType="sensor"))

    assert (answer.status_code, answer.json()) == (400, {"error": "autoCreateDevices must be a boolean"})


@pytest.mark.parametrize("path", [ASSIGN, UNASSIGN])
def test_more_devices_than_the_maximum_are_refused(state: SandboxState, path: str) -> None:
    answer = client(state, max_devices=2).post(path, json=bulk("A", "B", "A"))

    assert answer.status_code == 400
    assert answer.json() == {"error": "Too many devices: 3 in one request, at most 2 are allowed"}


def test_a_call_takes_at_most_a_thousand_devices(api: TestClient, state: SandboxState) -> None:
    devices = [f"SN-{number:04}" for number in range(1001)]

    assert api.post(ASSIGN, json=bulk(*devices)).status_code == 400
    assert api.post(ASSIGN, json=bulk(*devices[:1000])).status_code == 200
    assert state.devices_of(EMAIL) == devices[:1000]


@pytest.mark.parametrize("path", [ASSIGN, UNASSIGN, QUERY])
@pytest.mark.parametrize(
    ("api_key", "sent"),
    [(None, {}), (None, {"x-api-key": ""}), ("right", {}), ("right", {"x-api-key": "wrong"}), ("", {})],
)
def test_a_missing_or_wrong_key_is_refused(
    state: SandboxState, path: str, api_key: str | None, sent: dict[str, str]
) -> None:
    keyless = TestClient(sandbox_app(state, api_key=api_key), headers=sent)

    answer = keyless.post(path, json=bulk("A"))

    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid or missing API key"})


def test_the_right_key_is_accepted(state: SandboxState) -> None:
    keyed = client(state, api_key="right")

    assert keyed.post(ASSIGN, json=bulk("A"), headers={"x-api-key": "right"}).status_code == 200


def test_another_method_is_refused(api: TestClient) -> None:
    answer = api.get(ASSIGN)

    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/", f"{PATH}/deviceAssignment", f"{ASSIGN}/"])
def test_another_path_is_not_found(api: TestClient, path: str) -> None:
    answer = api.post(path, json=bulk("A"))

    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})


def test_a_bug_answers_500_in_the_vendors_shape() -> None:
    state = SandboxState()
    state.close()

    answer = client(state).post(ASSIGN, json=bulk("A"))

    assert (answer.status_code, answer.json()) == (500, {"error": "Internal server error"})


def statuses_when_the_body_does_not_come(state: SandboxState, receive: Callable[[], Awaitable[Message]]) -> list[int]:
    headers = [(b"x-api-key", b"any")]
    scope = {"type": "http", "method": "POST", "path": ASSIGN, "headers": headers, "query_string": b""}

    async def into_the_void(_: object) -> None: ...

    state.history = []
    asyncio.run(sandbox_app(state)(scope, receive, into_the_void))
    return [arrival.status for arrival in state.history]


def test_a_client_that_disconnects_before_its_body_causes_no_error(state: SandboxState) -> None:
    async def hang_up() -> Message:
        return {"type": "http.disconnect"}

    assert statuses_when_the_body_does_not_come(state, hang_up) == [400]


def test_an_incomplete_body_when_the_server_stops_causes_no_error(state: SandboxState) -> None:
    async def stop() -> Message:
        raise asyncio.CancelledError

    assert statuses_when_the_body_does_not_come(state, stop) == [503]


# Rate limit and history


def test_a_full_window_returns_the_seconds_until_its_oldest_request_leaves_it() -> None:
    window = SlidingWindow(Limit(2, 10.0))

    assert [window.wait_or_accept(now) for now in (0.0, 4.0, 9.5, 10.0, 10.0, 14.0)] == [0.0, 0.0, 0.5, 0.0, 4.0, 0.0]


@pytest.mark.parametrize(("calls", "seconds"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_a_limit_that_accepts_no_request_is_refused(calls: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="accepts no request"):
        Limit(calls, seconds)


def test_a_call_beyond_the_limit_gets_retry_after_in_whole_seconds(state: SandboxState) -> None:
    limited = client(state, limit=Limit(1, 3600.0))
    limited.post(ASSIGN, json=bulk("A"))

    answer = limited.post(ASSIGN, json=bulk("B"))

    assert (answer.status_code, answer.json()) == (429, {"error": "Too many requests"})
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert state.owners("B") == set()


def test_the_history_records_every_request_with_its_status(state: SandboxState) -> None:
    state.history = []
    limited = client(state, limit=Limit(2, 3600.0))
    limited.post(ASSIGN, json=bulk("A"))
    limited.post(QUERY, json={})
    limited.get("/elsewhere")

    assert [arrival[1:] for arrival in state.history] == [(ASSIGN, 200), (QUERY, 400), ("/elsewhere", 429)]
    assert state.history == sorted(state.history, key=lambda arrival: arrival.at)
    assert isinstance(state.history[0], RequestLog)


# The server


def test_the_server_serves_at_the_base_url_it_gives(state: SandboxState) -> None:
    with serve_in_thread(state) as base_url, httpx2.Client(base_url=base_url, headers=KEY) as http:
        answer = http.post("deviceAssignment/assignDevicesToOwner", json=bulk("A"))

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/ext-v1", base_url)
    assert answer.status_code == 200
    assert state.owners("A") == {EMAIL}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("evil.example", 403),
        ("evil.example:{port}", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.0.1", 403),
        ("[", 403),
        ("", 403),
    ],
)
def test_the_server_answers_only_requests_for_a_loopback_host(state: SandboxState, host: str, status: int) -> None:
    with serve_in_thread(state) as base_url, httpx2.Client(base_url=base_url, headers=KEY) as http:
        named = {"host": host.replace("{port}", base_url.split(":")[2].split("/")[0])}
        answer = http.post("deviceAssignment/assignDevicesToOwner", json=bulk("A"), headers=named)

    assert answer.status_code == status
    assert state.owners("A") == ({EMAIL} if status == 200 else set())


def test_the_server_stops_with_connections_open(state: SandboxState) -> None:
    with httpx2.Client(headers=KEY) as http:
        with serve_in_thread(state) as base_url:
            http.post(f"{base_url}/customer/queryCustomer", json={"email": EMAIL})
        with pytest.raises(httpx2.TransportError):
            http.post(f"{base_url}/customer/queryCustomer", json={"email": EMAIL})

    assert "sandbox" not in {thread.name for thread in threading.enumerate()}


def test_the_server_ends_at_once_if_no_request_is_in_flight(
    state: SandboxState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_TICK_S", 3600.0)
    with httpx2.Client(headers=KEY) as http, serve_in_thread(state) as base_url:
        http.post(f"{base_url}/customer/queryCustomer", json={"email": EMAIL})

    assert "sandbox" not in {thread.name for thread in threading.enumerate()}


def test_the_server_answers_a_request_in_flight_before_it_ends(state: SandboxState) -> None:
    body = ascii_json(bulk("A"))
    head = f"POST {ASSIGN} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: any\r\nContent-Length: {len(body)}\r\n"
    with serve_in_thread(state) as base_url:
        wire = socket.create_connection(("127.0.0.1", int(base_url.split(":")[2].split("/")[0])))
        wire.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert b" 100 " in wire.recv(1000)  # so the request is in flight
        threading.Timer(0.05, wire.sendall, (body,)).start()
    with wire:
        assert b" 200 " in wire.recv(1000)


def test_the_server_stops_if_its_caller_raises(state: SandboxState) -> None:
    with pytest.raises(ZeroDivisionError), serve_in_thread(state):
        raise ZeroDivisionError

    assert "sandbox" not in {thread.name for thread in threading.enumerate()}


def test_the_server_leaves_the_root_logger_alone(state: SandboxState) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))

    with serve_in_thread(state):
        assert (root.level, root.handlers) == before


def test_a_port_in_use_gives_a_clear_error(state: SandboxState) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"),
            serve_in_thread(state, port=port),
        ):
            pass


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_number_that_is_no_port_gives_a_clear_error(state: SandboxState, port: int) -> None:
    with pytest.raises(ConfigError, match=f"{port} is no port"), serve_in_thread(state, port=port):
        pass


def test_a_port_can_be_served_again_at_once(state: SandboxState) -> None:
    with serve_in_thread(state) as first:
        httpx2.post(f"{first}/customer/queryCustomer")
    with serve_in_thread(state, port=int(first.split(":")[2].split("/")[0])) as second:
        answer = httpx2.post(f"{second}/customer/queryCustomer")

    assert second == first
    assert answer.status_code == 401


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_forever_ends_at_a_signal_and_restores_the_handlers(
    state: SandboxState, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    announced: list[str] = []

    def announce(base_url: str) -> None:
        announced.append(base_url)
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()

    serve_forever(serve_in_thread(state), announce)

    assert len(announced) == 1
    assert signal.getsignal(number) is before
    with pytest.raises(httpx2.ConnectError):
        httpx2.post(announced[0])


# What is kept in a file


def test_a_file_keeps_the_state_over_a_restart(tmp_path: Path) -> None:
    db = tmp_path / "sandbox.sqlite3"
    with SandboxState(db) as state:
        state.assign(EMAIL, ["A", "UNKNOWN-1"], create=True)
        before = state.customer(EMAIL)

    with SandboxState(db) as state:
        assert state.customer(EMAIL) == before
        assert state.owners("UNKNOWN-1") == {EMAIL}
        assert state.assign("b@example.com", ["UNKNOWN-1"]) is not None


def test_a_call_that_breaks_halfway_changes_nothing(state: SandboxState) -> None:
    with pytest.raises(sqlite3.Error):
        state.assign(EMAIL, ["A", object()])  # type: ignore[list-item]

    assert state.customer(EMAIL) is None
    assert state.assign(EMAIL, ["A"]) is not None


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    db = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(db)) as other:
        other.execute("CREATE TABLE theirs (x)")

    with pytest.raises(ConfigError, match="another program"):
        SandboxState(db)

    with closing(sqlite3.connect(db)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_file_that_is_no_database_gives_a_clear_error(tmp_path: Path) -> None:
    db = tmp_path / "text.csv"
    db.write_text("customerEmail,deviceIdentifier\n" * 99)

    with pytest.raises(ConfigError, match=r"text\.csv: file is not a database"):
        SandboxState(db)


def test_a_missing_folder_gives_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unable to open"):
        SandboxState(tmp_path / "nowhere" / "sandbox.sqlite3")


# The seeded world

LEAVERS = [(f"leaver{n % 4000}@example.com", f"L-{n}", "unassign") for n in range(12_000)]
JOINERS = [(f"joiner{n % 4000}@example.com", f"J-{n}", "assign") for n in range(12_000)]
MOVERS = [(f"joiner{n}@example.com", f"M-{n}", "unassign") for n in range(4000)]


@pytest.fixture(scope="module")
def seeded() -> Iterator[SandboxState]:
    with SandboxState() as state:
        state.seed([*LEAVERS, *JOINERS, *MOVERS])
        yield state


def owned(state: SandboxState, rows: list[tuple[str, str, str]]) -> float:
    return sum(email in state.owners(device) for email, device, _ in rows) / len(rows)


def known(state: SandboxState, rows: list[tuple[str, str, str]]) -> float:
    return sum(state.customer(email) is not None for email, _, _ in rows) / len(rows)


def unknown_devices(state: SandboxState, devices: list[str]) -> list[str]:
    result = state.assign("probe@example.com", devices)
    return list(result.skipped) if result else devices


def test_most_unassign_pairs_are_owned_at_the_start(seeded: SandboxState) -> None:
    smooth = (1 - FRACTIONS["unknown_devices"]) * (1 - FRACTIONS["not_owned"])

    assert owned(seeded, MOVERS) == pytest.approx(smooth, abs=0.01)
    assert owned(seeded, LEAVERS) == pytest.approx(smooth * (1 - FRACTIONS["unknown_customers"]), abs=0.01)


def test_some_assign_pairs_are_owned_already(seeded: SandboxState) -> None:
    expected = FRACTIONS["already_owned"] * (1 - FRACTIONS["unknown_devices"])

    assert owned(seeded, JOINERS) == pytest.approx(expected, abs=0.01)


def test_only_customers_with_nothing_but_unassign_rows_are_unknown(seeded: SandboxState) -> None:
    assert known(seeded, LEAVERS) == pytest.approx(1 - FRACTIONS["unknown_customers"], abs=0.005)
    assert known(seeded, MOVERS) == 1.0


def test_a_few_devices_are_unknown_and_have_no_owner() -> None:
    with SandboxState() as state:
        state.seed([*LEAVERS, *JOINERS])
        unknown = unknown_devices(state, [device for _, device, _ in [*LEAVERS, *JOINERS]])

        assert len(unknown) / 24_000 == pytest.approx(FRACTIONS["unknown_devices"], abs=0.005)
        assert {owner for device in unknown for owner in state.owners(device)} == set()


def test_devices_named_unknown_have_no_owner(state: SandboxState) -> None:
    state.seed((f"c{n}@example.com", f"Unknown-{n}", "unassign") for n in range(100))

    assert [state.owners(f"Unknown-{n}") for n in range(100)] == [set()] * 100


def test_seeding_again_keeps_later_changes(tmp_path: Path) -> None:
    db = tmp_path / "sandbox.sqlite3"
    rows = LEAVERS[:500]
    with SandboxState(db) as state:
        state.seed(rows)
        before = owned(state, rows)
        removed = [state.unassign(email, [device]) for email, device, _ in rows]
    with SandboxState(db) as state:
        state.seed(rows)

        assert before > 0.8
        assert owned(state, rows) == 0.0
        assert known(state, rows) == sum(result is not None for result in removed) / len(rows)


def test_the_order_of_pairs_makes_no_difference(state: SandboxState, seeded: SandboxState) -> None:
    state.seed([*MOVERS, *reversed(JOINERS), *reversed(LEAVERS)])
    emails = [f"leaver{n}@example.com" for n in range(4000)] + [f"joiner{n}@example.com" for n in range(4000)]

    assert [state.devices_of(email) for email in emails] == [seeded.devices_of(email) for email in emails]


@pytest.mark.parametrize(
    ("first", "then", "least", "most"), [("unassign", "assign", 0.85, 1), ("assign", "unassign", 0, 0.2)]
)
def test_a_pair_with_both_actions_is_seeded_as_the_first_of_them(
    first: str, then: str, least: float, most: float
) -> None:
    rows = [(f"c{n}@example.com", f"B-{n}", action) for n in range(500) for action in (first, then)]
    with SandboxState() as state:
        state.seed(rows)

        assert least < owned(state, rows) < most


def test_pairs_are_seeded_with_normal_emails_and_trimmed_identifiers(state: SandboxState) -> None:
    state.seed((f" C{n}@Example.com", f" S-{n} ", "unassign") for n in range(100))
    spelt = [(f"c{n}@example.com", f"S-{n}", "unassign") for n in range(100)]

    assert owned(state, spelt) > 0.8


def test_an_owned_device_is_never_seeded_as_unknown(state: SandboxState) -> None:
    devices = [device for _, device, _ in LEAVERS]
    state.assign("first@example.com", devices)
    state.seed(LEAVERS)

    assert unknown_devices(state, devices) == []
