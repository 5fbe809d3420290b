"""A web server that hears of the ends of runs: webhooks and pings."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Heard:
    """A request that a listener got."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: str


@dataclass(slots=True)
class Listener:
    """A web server that records requests and answers with a status."""

    status: int = 200
    location: str = ""
    """Where an answer redirects to."""
    hangs: bool = False
    """Whether requests get no answer until the listener is closed."""
    port: int = 0
    heard: list[Heard] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        """Address and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def pings(self) -> list[tuple[str, str]]:
        """Path and body of each ping, in order."""
        return [(one.path, one.body) for one in self.heard if one.method == "GET"]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of json:// URLs, in order."""
        return [json.loads(one.body) for one in self.heard if one.method == "POST"]

    @property
    def titles(self) -> list[str]:
        """The titles of the messages."""
        return [str(one["title"]) for one in self.messages]


@contextmanager
def listening(**settings: Any) -> Iterator[Listener]:
    """Run a listener on a free port."""
    listener = Listener(**settings)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): text for name, text in self.headers.items()}
            body = self.rfile.read(length).decode()
            listener.heard.append(Heard(self.command, self.path, headers, body))
            if listener.hangs:
                listener.closing.wait()
                return
            self.send_response(listener.status)
            if listener.location:
                self.send_header("location", listener.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        listener.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            listener.closing.set()
            server.shutdown()
            thread.join()
