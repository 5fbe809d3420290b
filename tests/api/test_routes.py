"""The requests of a run as the API's pages have them, by a table of routes under the real HTTP stack."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import respx

from telemetron_batch.config.config import resolve
from telemetron_batch.run import pipeline
from tests.conftest import KEY

API = "https://api.example/api/ext-v1"
ROWS = """\
customerEmail,deviceIdentifier,action
ann@x.io,SN-1,assign
ann@x.io,SN-2,assign
bob@x.io,SN-9,unassign
"""


@pytest.fixture
def routes() -> Any:
    with respx.mock(base_url=API, assert_all_called=False) as table:
        table.post("/deviceAssignment/assignDevicesToOwner", name="assign").respond(
            json={
                "success": True,
                "customerId": "c-1",
                "customerWasCreated": True,
                "assignedDevices": [{"deviceId": "d-1", "identifier": "SN-1", "wasCreated": False}],
                "alreadyAssigned": [{"deviceId": "d-2", "identifier": "SN-2"}],
            }
        )
        table.post("/deviceAssignment/unassignDevicesFromOwner", name="unassign").respond(
            404, json={"error": "Customer not found"}
        )
        table.post("/customer/queryCustomer", name="query").respond(404, json={"error": "Customer not found"})
        yield table


def ran(folder: Path, **flags: Any) -> dict[str, Any]:
    path = folder / "rows.csv"
    path.write_text(ROWS)
    options = {"base_url": API, "reports_dir": str(folder), "run_id": "r", **flags}
    return pipeline.run(resolve([str(path)], options, {"TELEMETRON_API_KEY": KEY})).fields


def asked(route: respx.Route) -> list[dict[str, Any]]:
    return [json.loads(call.request.content) for call in route.calls]


def test_each_action_has_its_path_and_each_customer_one_call(routes: respx.Router, tmp_path: Path) -> None:
    counts = ran(tmp_path)["counts"]
    assert (counts["assigned"], counts["alreadyAssigned"], counts["failed"]) == (1, 1, 1)
    assert asked(routes["assign"]) == [{"customerEmail": "ann@x.io", "deviceIdentifiers": ["SN-1", "SN-2"]}]
    assert asked(routes["unassign"]) == [{"customerEmail": "bob@x.io", "deviceIdentifiers": ["SN-9"]}]


def test_devices_to_be_created_are_asked_for_with_their_type(routes: respx.Router, tmp_path: Path) -> None:
    ran(tmp_path, auto_create_devices=True, device_type="tracker")
    assert asked(routes["assign"]) == [
        {
            "customerEmail": "ann@x.io",
            "deviceIdentifiers": ["SN-1", "SN-2"],
            "autoCreateDevices": True,
            "deviceType": "tracker",
        }
    ]
    assert asked(routes["unassign"]) == [{"customerEmail": "bob@x.io", "deviceIdentifiers": ["SN-9"]}]


def test_a_baseline_asks_for_each_customer_once_before_the_first_write(routes: respx.Router, tmp_path: Path) -> None:
    ran(tmp_path, baseline=True)
    order = [call.request.url.path.rpartition("/")[2] for call in routes.calls]
    assert sorted(one["email"] for one in asked(routes["query"])) == ["ann@x.io", "bob@x.io"]
    assert order.index("queryCustomer") == 0


def test_every_request_is_json_with_the_key_in_its_header(routes: respx.Router, tmp_path: Path) -> None:
    ran(tmp_path)
    assert len(routes.calls) == 2
    for call in routes.calls:
        request: httpx2.Request = call.request
        assert request.headers["x-api-key"] == KEY
        assert request.headers["content-type"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert "cookie" not in request.headers
