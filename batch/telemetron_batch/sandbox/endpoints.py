"""The endpoints of the sandbox API: their answers and errors follow the vendor's reference."""

import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from telemetron_batch.sandbox.state import Assigned, Customer, Device, SandboxState, Unassigned, normal_email

_EMAIL: Final = re.compile(r"[^\s@]+@[^\s@.]+(\.[^\s@.]+)+")


@dataclass(frozen=True, slots=True)
class _Bulk:
    """A bulk request that has passed all checks."""

    customer: str
    devices: tuple[str, ...]
    """Trimmed and distinct, in the order of the request."""
    create: bool
    """Whether to create unknown devices."""


def endpoints(path: str, state: SandboxState, api_key: str | None, max_devices: int) -> ASGIApp:
    """Return an application with the endpoints under `path`. If `api_key` is None, any key but an empty one will do."""
    api = _Api(state, api_key, max_devices)
    starlette = Starlette(
        routes=[
            Route(f"{path}/deviceAssignment/assignDevicesToOwner", api.assign, methods=["POST"]),
            Route(f"{path}/deviceAssignment/unassignDevicesFromOwner", api.unassign, methods=["POST"]),
            Route(f"{path}/customer/queryCustomer", api.query, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _on_http_error, ClientDisconnect: _on_disconnect, Exception: _on_error},
    )
    starlette.router.redirect_slashes = False
    return starlette


class _Api:
    """The endpoints. They run in the event loop, so only one request changes the state at a time."""

    def __init__(self, state: SandboxState, api_key: str | None, max_devices: int) -> None:
        self._state = state
        self._api_key = api_key
        self._max_devices = max_devices

    async def assign(self, request: Request) -> JSONResponse:
        fields = await self._fields(request)
        bulk = self._bulk(fields, create=_creates(fields))
        assigned = self._state.assign(bulk.customer, bulk.devices, create=bulk.create)
        if assigned is None:
            raise HTTPException(400, "No valid devices provided")
        return JSONResponse(_assigned_body(assigned))

    async def unassign(self, request: Request) -> JSONResponse:
        bulk = self._bulk(await self._fields(request), create=False)
        unassigned = self._state.unassign(bulk.customer, bulk.devices)
        if unassigned is None:
            raise HTTPException(404, "Customer not found for this organization")
        return JSONResponse(_unassigned_body(unassigned))

    async def query(self, request: Request) -> JSONResponse:
        customer = self._state.customer(_email(await self._fields(request), "email"))
        if customer is None:
            raise HTTPException(404, "Customer not found")
        return JSONResponse(_customer_body(customer))

    async def _fields(self, request: Request) -> dict[str, object]:
        key = request.headers.get("x-api-key", "").encode("latin-1")
        if not key or (self._api_key is not None and not hmac.compare_digest(key, self._api_key.encode())):
            raise HTTPException(401, "Invalid or missing API key")
        return _json_object(await request.body())

    def _bulk(self, fields: dict[str, object], *, create: bool) -> _Bulk:
        return _Bulk(_email(fields, "customerEmail"), _devices(fields, self._max_devices), create)


def _json_object(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise HTTPException(400, "Request body must be a JSON object")
    return fields


def _email(fields: dict[str, object], name: str) -> str:
    email = fields.get(name)
    if email is None or email == "":
        raise HTTPException(400, f"{name} is required")
    if not isinstance(email, str) or not _EMAIL.fullmatch(email.strip()) or not _is_text(email):
        raise HTTPException(400, "Invalid email format")
    return normal_email(email)


def _devices(fields: dict[str, object], max_devices: int) -> tuple[str, ...]:
    values = fields.get("deviceIdentifiers")
    if not isinstance(values, list) or not values:
        raise HTTPException(400, "deviceIdentifiers must be a non-empty array")
    if len(values) > max_devices:
        raise HTTPException(400, f"Too many devices: {len(values)} in one request, at most {max_devices} are allowed")
    devices = [device.strip() for device in values if isinstance(device, str)]
    if len(devices) < len(values) or not all(devices) or not _is_text("".join(devices)):
        raise HTTPException(400, "deviceIdentifiers must contain only non-empty strings")
    return tuple(dict.fromkeys(devices))


def _creates(fields: dict[str, object]) -> bool:
    create = fields.get("autoCreateDevices", False)
    device_type = fields.get("deviceType")
    if not isinstance(create, bool):
        raise HTTPException(400, "autoCreateDevices must be a boolean")
    if create and not (isinstance(device_type, str) and device_type.strip()):
        raise HTTPException(400, "deviceType is required when creating a new device")
    return create


def _is_text(value: str) -> bool:
    # JSON can escape a lone surrogate, which neither SQLite nor a JSON answer can hold.
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _assigned_body(result: Assigned) -> dict[str, object]:
    # The count includes devices that were assigned already, as in the vendor's example.
    count = len(result.assigned) + len(result.already)
    return {
        "success": True,
        "message": f"Successfully assigned {count} device(s) to customer",
        "customerId": result.customer_id,
        "customerWasCreated": result.customer_was_created,
        "assignedDevices": _device_objects(result.assigned),
        "alreadyAssigned": _device_objects(result.already),
        "skipped": result.skipped,
    }


def _device_objects(devices: Iterable[Device]) -> list[dict[str, object]]:
    return [
        {"identifier": device.identifier, "deviceId": device.device_id, "wasCreated": device.was_created}
        for device in devices
    ]


def _unassigned_body(result: Unassigned) -> dict[str, object]:
    return {
        "success": True,
        "message": f"Successfully unassigned {len(result.unassigned)} device(s) from customer",
        "customerId": result.customer_id,
        "unassignedDevices": result.unassigned,
        "skipped": result.skipped,
        "devicesRemaining": result.remaining,
    }


def _customer_body(customer: Customer) -> dict[str, object]:
    return {
        "id": customer.customer_id,
        "organizationId": "org_sandbox",
        "name": None,
        "email": customer.email,
        "phone": None,
        "address": None,
        "devices": customer.devices,
        "orders": [],
        "metadata": {},
        "createdAt": customer.created_at,
    }


async def _on_http_error(_: Request, exc: Exception) -> JSONResponse:
    error = cast(HTTPException, exc)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _on_disconnect(_: Request, __: Exception) -> JSONResponse:
    # The client does not get this answer; without the handler its disconnect would log a traceback.
    return JSONResponse({"error": "Request body was cut short"}, 400)


async def _on_error(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "Internal server error"}, 500)
