"""The page of the desk in this process: a server with the given pages, and browsers that use it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from starlette.routing import BaseRoute
from starlette.testclient import TestClient

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage.clock import Clock
from telemetron_batch.web.access import Access
from telemetron_batch.web.app import make_app
from telemetron_batch.web.audit import AuditLog
from telemetron_batch.web.context import WebContext
from telemetron_batch.web.options import ServeOptions
from telemetron_batch.web.people import Role
from telemetron_batch.web.serve import audit_file
from telemetron_batch.web.users import Account, UserFile
from tests.conftest import KEY, FakeClock

LOCAL = "http://127.0.0.1:8780"
PASSWORD = "correct horse"
HASH = Secret("$argon2id$v=19$m=8,t=1,p=1$sojwY9hdcW/cz/gTE1caGA$NyQ+nXZnQ4UUs7j+v7j0lUYUpu0NyJMzX51+TgSPQZQ")
"""A hash of PASSWORD that is quick to check."""


def desk_config(folder: Path, **flags: Any) -> RunConfig:
    """Return a configuration of runs on the page."""
    return resolve((), {"reports_dir": str(folder / "reports"), **flags}, {"TELEMETRON_API_KEY": KEY})


def user_file(folder: Path, **roles: str) -> Path:
    """Return a file with users, all of whom have the same password."""
    path = folder / "users.json"
    for name, role in roles.items():
        UserFile(path).put(Account(name, Role(role), HASH))
    return path


@dataclass
class Site:
    """A server in this process."""

    folder: Path
    pages: Sequence[BaseRoute]
    options: ServeOptions = field(default_factory=ServeOptions)
    clock: Clock = field(default_factory=FakeClock)
    desk: Any = None
    config: RunConfig | None = None

    def __post_init__(self) -> None:
        config = self.config or desk_config(self.folder)
        config.reports_dir.mkdir(exist_ok=True)
        self.warnings: list[str] = []
        self.audit = AuditLog(audit_file(config, self.options), self.clock)
        self.access = Access(self.options, self.audit, self.clock, self.warnings.append)
        self.context = WebContext(config, self.options, self.audit, self.desk)
        self.app = make_app(self.context, self.access, self.pages)

    def browser(self, peer: str = "127.0.0.1", base_url: str | None = None) -> "Browser":
        """Return a browser of nobody who is signed in."""
        return Browser(self, peer, base_url or ("https://127.0.0.1:8780" if self.options.is_secure else LOCAL))

    def by_token(self, **how: Any) -> "Browser":
        """Return a browser that has brought the token."""
        assert self.access.token is not None
        browser = self.browser(**how)
        assert browser.get(f"/?token={self.access.token.renew()}").status_code == 303
        return browser

    def by_password(self, name: str, password: str = PASSWORD, **how: Any) -> "Browser":
        """Return a browser in which a user has signed in."""
        browser = self.browser(**how)
        assert browser.sign_in(name, password).status_code == 303
        return browser

    def audited(self) -> list[dict[str, Any]]:
        """Return the lines of the audit log."""
        return [json.loads(line) for line in self.audit.path.read_text().splitlines()]


class Browser:
    """Keeps cookies, and sends forms as a browser does: with the CSRF token of the page it has seen."""

    def __init__(self, site: Site, peer: str, base_url: str) -> None:
        self.client = TestClient(
            site.app, base_url=base_url, client=(peer, 50_000), follow_redirects=False, raise_server_exceptions=False
        )
        self.client.headers["accept"] = "text/html"

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.client.get(path, **more)

    def csrf(self, path: str = "/") -> str:
        """Return the token in the forms of a page."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(path).text)
        assert found is not None
        return found[1]

    def post(self, path: str, fields: dict[str, str] | None = None, *, page: str = "/", **more: Any) -> httpx2.Response:
        """Send a form of a page."""
        return self.client.post(path, data={"csrf": self.csrf(page), **(fields or {})}, **more)

    def sign_in(self, name: str, password: str = PASSWORD, **more: Any) -> httpx2.Response:
        return self.post("/sign-in", {"name": name, "password": password}, page="/sign-in", **more)
