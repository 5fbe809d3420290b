"""A clerk with a browser without script: opens pages, fills in the forms that are there, and presses their buttons."""

import asyncio
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.storage.clock import Clock
from telemetron_batch.web.context import AuditLog, Role, ServeOptions, User, WebContext
from telemetron_batch.web.desk.desk import Desk
from telemetron_batch.web.desk.pages import routes
from telemetron_batch.web.error_pages import answer_batch_error, answer_http_exception
from telemetron_batch.web.forms import UploadSlots
from tests.conftest import KEY
from tests.support.scripted import BASE_URL, ScriptedServer

CSRF = "token-of-the-tests"


class _AsUser:
    """In place of signing in: the header says who it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, _, role = dict(scope["headers"])[b"x-user"].decode().partition(":")
        scope.setdefault("state", {}).update(user=User(name, Role(role)), csrf=CSRF)
        await self._app(scope, receive, send)


class Office:
    """A server of the page with its desk and a stand-in for the API."""

    def __init__(self, folder: Path, clock: Clock | None = None, **flags: Any) -> None:
        self.folder = folder
        self.server = ScriptedServer()
        self.reports = folder / "reports"
        self._flags = {"base_url": BASE_URL, "reports_dir": str(self.reports), "rate": "1000/s", **flags}
        self._clock = clock
        self._runner = asyncio.Runner()
        self.desk = self.start()

    @property
    def config(self) -> RunConfig:
        return resolve((), self._flags, {"TELEMETRON_API_KEY": KEY})

    def start(self) -> Desk:
        """Start the server, or start it again after it was stopped."""
        from telemetron_batch.storage.clock import RealClock

        audit = AuditLog(self.folder / "audit.jsonl", RealClock())
        self.desk = Desk(self.config, audit, self._clock, transport=self.server)
        handlers: Mapping[Any, Any] = {
            HTTPException: answer_http_exception,
            BatchError: answer_batch_error,
            OSError: answer_batch_error,
        }
        self.app = Starlette(routes=routes, middleware=[Middleware(_AsUser)], exception_handlers=handlers)
        options = ServeOptions(max_upload=64 << 20)
        self.app.state.context = WebContext(self.config, options, audit, self.desk)
        self.app.state.upload_slots = UploadSlots()
        self.desk.start()
        return self.desk

    def stop(self) -> None:
        self.desk.shutdown()

    def close(self) -> None:
        self.stop()
        self._runner.close()

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self._runner.run(self._request(method, path, **options))

    async def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=True)
        async with httpx2.AsyncClient(transport=transport, base_url="http://desk.test") as client:
            return await client.request(method, path, **options)

    def clerk(self, name: str = "anna", role: str = "operator", language: str = "en") -> "Clerk":
        return Clerk(self, name, role, language)

    def settled(self) -> None:
        """Wait until nothing is under way any more."""
        until = time.monotonic() + 60
        while self.desk.queue.jobs():
            assert time.monotonic() < until, "a run does not end"
            time.sleep(0.01)


@dataclass
class Form:
    """A form of a page, with the values that its fields have."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    """All names, also of radio buttons of which none is chosen."""
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.text: list[str] = []
        self._select = ""
        self._area = ""
        self._in_form = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "form":
            self.forms.append(Form(given.get("action") or "", given.get("method") or "get"))
            self._in_form = True
        if not self._in_form or not self.forms:
            return
        form, name = self.forms[-1], given.get("name") or ""
        if name:
            form.names.add(name)
        if tag == "input" and name and given.get("type") != "file":
            if given.get("type") not in ("radio", "checkbox") or "checked" in given:
                form.fields[name] = given.get("value") or ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and ("selected" in given or self._select not in form.fields):
            form.fields[self._select] = given.get("value", "") or ""
        elif tag == "textarea":
            self._area, form.fields[name] = name, ""
        elif tag == "button":
            form.buttons.append((name, given.get("value") or ""))

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._area:
            self.forms[-1].fields[self._area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in_form = False
        if tag == "textarea":
            self._area = ""


class Clerk:
    """A user of the page."""

    def __init__(self, office: Office, name: str, role: str, language: str) -> None:
        self._office = office
        self._headers = {"x-user": f"{name}:{role}", "accept-language": language, "accept": "text/html"}
        self.path = "/"
        self.status = 0
        self.html = ""
        self.forms: list[Form] = []

    @property
    def text(self) -> str:
        """What the page says, without its markup."""
        parser = _Forms()
        parser.feed(self.html)
        return " ".join(" ".join(parser.text).split())

    @property
    def run_id(self) -> str:
        assert self.path.startswith("/runs/"), (self.path, self.text)
        return self.path.removeprefix("/runs/")

    def open(self, path: str) -> "Clerk":
        """Open a page, and follow where it leads; a page that asks to wait is opened again."""
        return self._take(self._office.request("GET", path, headers=self._headers), path)

    def get(self, path: str) -> httpx2.Response:
        """Get something that is no page."""
        return self._office.request("GET", path, headers=self._headers)

    def upload(self, name: str, content: bytes) -> "Clerk":
        self.open("/")
        files = {"file": (name, io.BytesIO(content))}
        sent = self._office.request("POST", "/uploads", headers=self._headers, files=files, data={"csrf": CSRF})
        return self._take(sent, "/uploads")

    def submit(self, action: str, /, *, button: str | None = None, **fields: str) -> "Clerk":
        """Fill in the form that leads to a path ending so, and send it. Every field must be on the page."""
        found = [form for form in self.forms if form.action.endswith(action)]
        assert found, (action, [form.action for form in self.forms], self.text)
        form = found[0]
        given = {name.replace("__", "."): value for name, value in fields.items()}
        assert set(given) <= form.names, (set(given) - form.names, form.names)
        data = {**form.fields, **given} | ({} if button is None else {"do": button})
        assert button is None or ("do", button) in form.buttons, form.buttons
        return self._take(
            self._office.request(form.method.upper(), form.action, headers=self._headers, data=data), form.action
        )

    def post(self, path: str, /, **fields: str) -> "Clerk":
        """Send a form that is not on the page."""
        data = {"csrf": CSRF, **fields}
        return self._take(self._office.request("POST", path, headers=self._headers, data=data), path)

    def _take(self, answer: httpx2.Response, path: str) -> "Clerk":
        while answer.status_code == 303:
            path = answer.headers["location"]
            answer = self._office.request("GET", path, headers=self._headers)
            while "data-reload" in answer.text:
                answer = self._office.request("GET", path, headers=self._headers)
        self.path, self.status, self.html = path, answer.status_code, answer.text
        parser = _Forms()
        parser.feed(self.html)
        self.forms = parser.forms
        return self
