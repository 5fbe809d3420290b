"""The page as a process of its own, with users and with a stand-in for the API, to be used by a browser and killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetron_batch.domain.model import Secret
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.web.people import Role
from telemetron_batch.web.users import Account, UserFile
from tests.conftest import KEY
from tests.support.browser import Browser
from tests.support.listening import free_port

PASSWORD = "correct horse"
_HASH = Secret("$argon2id$v=19$m=8,t=1,p=1$sojwY9hdcW/cz/gTE1caGA$NyQ+nXZnQ4UUs7j+v7j0lUYUpu0NyJMzX51+TgSPQZQ")
PEOPLE = {"anna": Role.OPERATOR, "bert": Role.OPERATOR, "paul": Role.APPROVER}


class DeskServer:
    """A server that can be ended and started again on the same port."""

    def __init__(self, folder: Path, base_url: str, fleet: SandboxState, *options: str) -> None:
        self.folder, self.fleet = folder, fleet
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        for name, role in PEOPLE.items():
            UserFile(folder / "users.json").put(Account(name, role, _HASH))
        self._command = [sys.executable, "-m", "telemetron_batch", "serve", "--port", str(self.port)]
        self._command += ["--users", "users.json", "--base-url", base_url, "--reports-dir", "reports", *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {**os.environ, "TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(self.folder / "state")}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with (self.folder / "stderr").open("ab") as stderr:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, env=environ, stdout=subprocess.DEVNULL, stderr=stderr
            )
        until = time.monotonic() + 20
        while not self._is_listening():
            is_alive = self._process.poll() is None and time.monotonic() < until
            assert is_alive, (self.folder / "stderr").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server without a warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(20) == 0, (self.folder / "stderr").read_text()

    def _is_listening(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def sign_in(self, browser: Browser, name: str, language: str = "en") -> None:
        browser("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})
        browser("Network.clearBrowserCookies")
        browser.visit(f"{self.url}/sign-in")
        browser.js(f"document.getElementById('name').value = '{name}'")
        browser.js(f"document.getElementById('password').value = '{PASSWORD}'")
        browser.js("document.querySelector('main form').requestSubmit()")
        browser.wait_for(f"document.querySelector('.name')?.textContent === '{name}'")


@contextmanager
def desk_server(folder: Path, *options: str) -> Iterator[DeskServer]:
    """Serve the page until the end of this context."""
    with SandboxState() as fleet, serve_in_thread(fleet, api_key=KEY) as base_url:
        server = DeskServer(folder, base_url, fleet, *options)
        server.start()
        try:
            yield server
            server.stop()
        finally:
            server.kill()
