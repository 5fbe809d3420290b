"""The embedded stand-in for the Telemetron API: a real HTTP server on loopback.

Says what the vendor's reference says, in the vendor's words, and refuses what the
vendor refuses. Knows nothing of the client that calls it; what exists and who owns
what is kept by `fleet.py`.
"""

import asyncio
import hmac
import json
import math
import re
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batch.errors import ConfigError
from batch.stand_in.fleet import Arrival, Assigned, Customer, Device, Fleet, Unassigned, normal_email

HOST: Final = "127.0.0.1"
PATH: Final = "/api/ext-v1"
MAX_DEVICES: Final = 1000

_EMAIL: Final = re.compile(r"[^\s@]+@[^\s@.]+(\.[^\s@.]+)+")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` requests let in within any `seconds`."""

    calls: int
    seconds: float

    def __post_init__(self) -> None:
        if self.calls < 1 or not self.seconds > 0:
            raise ValueError(f"a limit of {self.calls} calls per {self.seconds} s lets nobody in")


class Window:
    """A strict sliding window over arrivals; a refused one does not count."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._let_in: deque[float] = deque()

    def take(self, now: float) -> float:
        """0.0 lets the arrival in; otherwise the seconds until one would be let in."""
        while self._let_in and self._let_in[0] + self._limit.seconds <= now:
            self._let_in.popleft()
        if len(self._let_in) < self._limit.calls:
            self._let_in.append(now)
            return 0.0
        return self._let_in[0] + self._limit.seconds - now


@dataclass(frozen=True, slots=True)
class _Bulk:
    """A bulk request that has passed every check."""

    customer: str
    devices: tuple[str, ...]
    """Trimmed and distinct, in the order asked."""
    create: bool
    """Are unknown devices to be created?"""


def stand_in(
    fleet: Fleet, *, api_key: str | None = None, limit: Limit | None = None, max_devices: int = MAX_DEVICES
) -> ASGIApp:
    """The API as an ASGI application; the arguments are those of `serving`."""
    api = _Api(fleet, api_key, max_devices)
    starlette = Starlette(
        routes=[
            Route(f"{PATH}/deviceAssignment/assignDevicesToOwner", api.assign, methods=["POST"]),
            Route(f"{PATH}/deviceAssignment/unassignDevicesFromOwner", api.unassign, methods=["POST"]),
            Route(f"{PATH}/customer/queryCustomer", api.query, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _refused, ClientDisconnect: _gone, Exception: _broken},
    )
    starlette.router.redirect_slashes = False
    return _Front(starlette, fleet, limit)


@contextmanager
def serving(
    fleet: Fleet,
    *,
    port: int = 0,
    api_key: str | None = None,
    limit: Limit | None = None,
    max_devices: int = MAX_DEVICES,
) -> Iterator[str]:
    """Serves `fleet` from a thread of its own and gives the base URL; port 0 picks a free one.

    `api_key` None accepts any key that is not empty. A bulk request of more than
    `max_devices` devices is refused. Raises ConfigError if the port cannot be had.
    """
    api = stand_in(fleet, api_key=api_key, limit=limit, max_devices=max_devices)
    with _listener(port) as listener:
        # Requests may come from here on: those that beat the thread wait in the backlog.
        base_url = f"http://{HOST}:{listener.getsockname()[1]}{PATH}"
        server = _server(api)
        thread = threading.Thread(target=server.run, args=([listener],), name="sandbox", daemon=True)
        thread.start()
        try:
            yield base_url
        finally:
            server.should_exit = True
            thread.join()


def serve_forever(opened: AbstractContextManager[str], announce: Callable[[str], None]) -> None:
    """Keeps `opened` (made by `serving`) open until SIGINT or SIGTERM, then closes it and returns.

    `announce` is given the base URL once. Only for the main thread: only there may
    signals be caught.
    """
    # A list, as a handler that set an Event could deadlock with the wait it interrupts.
    caught: list[int] = []
    former = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with opened as base_url:
            announce(base_url)
            pause = threading.Event()
            while not caught:
                pause.wait(0.2)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _listener(port: int) -> socket.socket:
    advice = "choose another port, or 0 for any that is free"
    if not 0 <= port <= 65535:
        raise ConfigError(f"{port} is no port", advice)
    try:
        listener = socket.create_server((HOST, port), backlog=2048)
        # Told that it is TCP, asyncio has short answers leave at once; else each waits 40 ms for an acknowledgement.
        return socket.socket(listener.family, listener.type, socket.IPPROTO_TCP, listener.detach())
    except OSError as exc:
        raise ConfigError(f"cannot listen on {HOST}:{port}: {exc}", advice) from exc


def _server(api: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            api,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            # Longer than a slow pace leaves a connection idle: closing one just as the
            # client takes it up again would look like an outage.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )


class _Front:
    """What stands before every endpoint: the rate limit, and the note of who came."""

    def __init__(self, api: ASGIApp, fleet: Fleet, limit: Limit | None) -> None:
        self._api = api
        self._fleet = fleet
        self._window = None if limit is None else Window(limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        now = time.monotonic()
        wait = 0.0 if self._window is None else self._window.take(now)

        async def noted(message: Message) -> None:
            if self._fleet.history is not None and message["type"] == "http.response.start":
                self._fleet.history.append(Arrival(now, scope["path"], message["status"]))
            await send(message)

        try:
            await (_too_many_requests(wait) if wait else self._api)(scope, receive, noted)
        except asyncio.CancelledError:
            # The server stops while a body is still on its way, so nothing has been changed.
            await JSONResponse({"error": "Service unavailable"}, 503)(scope, receive, noted)


class _Api:
    """The endpoints. They run in the event loop, so one call changes the fleet at a time."""

    def __init__(self, fleet: Fleet, api_key: str | None, max_devices: int) -> None:
        self._fleet = fleet
        self._api_key = api_key
        self._max_devices = max_devices

    async def assign(self, request: Request) -> JSONResponse:
        fields = await self._fields(request)
        bulk = self._bulk(fields, create=_creates(fields))
        assigned = self._fleet.assign(bulk.customer, bulk.devices, create=bulk.create)
        if assigned is None:
            raise HTTPException(400, "No valid devices provided")
        return JSONResponse(_assigned_body(assigned))

    async def unassign(self, request: Request) -> JSONResponse:
        bulk = self._bulk(await self._fields(request), create=False)
        unassigned = self._fleet.unassign(bulk.customer, bulk.devices)
        if unassigned is None:
            raise HTTPException(404, "Customer not found for this organization")
        return JSONResponse(_unassigned_body(unassigned))

    async def query(self, request: Request) -> JSONResponse:
        customer = self._fleet.customer(_email(await self._fields(request), "email"))
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


def _devices(fields: dict[str, object], most: int) -> tuple[str, ...]:
    asked = fields.get("deviceIdentifiers")
    if not isinstance(asked, list) or not asked:
        raise HTTPException(400, "deviceIdentifiers must be a non-empty array")
    if len(asked) > most:
        raise HTTPException(400, f"Too many devices: {len(asked)} in one request, at most {most} are allowed")
    devices = [device.strip() for device in asked if isinstance(device, str)]
    if len(devices) < len(asked) or not all(devices) or not _is_text("".join(devices)):
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
    # JSON can spell half a surrogate pair, which no database and no answer can hold.
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _assigned_body(result: Assigned) -> dict[str, object]:
    # The vendor's own example counts the already assigned devices in too.
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


def _too_many_requests(wait: float) -> JSONResponse:
    return JSONResponse({"error": "Too many requests"}, 429, {"Retry-After": str(math.ceil(wait))})


async def _refused(_: Request, exc: Exception) -> JSONResponse:
    refusal = cast(HTTPException, exc)
    return JSONResponse({"error": refusal.detail}, refusal.status_code, refusal.headers)


async def _gone(_: Request, __: Exception) -> JSONResponse:
    # Nobody hears it; without it a client that hangs up would leave a traceback.
    return JSONResponse({"error": "Request body was cut short"}, 400)


async def _broken(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": "Internal server error"}, 500)
