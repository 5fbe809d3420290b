"""The page behind a real nginx, set up as the docs say."""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.docs import DOCS, code_blocks
from tests.support.listening import free_port
from tests.support.nginx import BINARY, serving
from tests.support.tls import Authority, needs_openssl
from tests.web.test_attacks import PASSWORDS, served

NAME = "desk.example.com"


class Visitor:
    """A browser that comes through the proxy."""

    def __init__(self, authority: Authority, port: int) -> None:
        self.authority, self.port, self.cookies = authority, port, dict[str, str]()

    def request(self, method: str, path: str, fields: dict[str, str] | None = None, **more: str) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        connection = http.client.HTTPSConnection(NAME, self.port, timeout=30, context=context)
        connection._create_connection = lambda _, *rest: socket_to(self.port, *rest)  # type: ignore[attr-defined]
        headers = {"Accept": "text/html", "Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items()), **more}
        if fields is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"https://{NAME}:{self.port}"}
        connection.request(method, path, None if fields is None else urlencode(fields), headers)
        answer = connection.getresponse()
        for one in answer.headers.get_all("set-cookie") or []:
            assert "Secure" in one
            name, _, value = one.partition(";")[0].partition("=")
            self.cookies[name] = value
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def sign_in(self, name: str) -> int:
        token = re.findall(r'name="csrf" value="(\w+)"', self.request("GET", "/sign-in")[1])[0]
        return self.request("POST", "/sign-in", {"csrf": token, "name": name, "password": PASSWORDS[name]})[0]


def socket_to(port: int, *rest: object) -> socket.socket:
    """Connect to this machine, whatever the name of the server is."""
    return socket.create_connection(("127.0.0.1", port), *rest)  # type: ignore[arg-type]


@contextmanager
def nginx_of_the_docs(folder: Path, authority: Authority, behind: int) -> Iterator[int]:
    """Start nginx with the server block of docs/serve.md; yield its port."""
    (block,) = code_blocks((DOCS / "serve.md").read_text(), "nginx")
    port, pem = free_port(), authority.signs(NAME)
    for text, instead in (
        ("443", f"127.0.0.1:{port}"),
        ("127.0.0.1:8780", f"127.0.0.1:{behind}"),
        ("/etc/nginx/desk.pem", str(pem)),
        ("/etc/nginx/desk.key", str(pem)),
    ):
        assert text in block
        block = block.replace(text, instead)
    with serving(folder, block, port):
        yield port


@pytest.mark.slow
@needs_openssl
@pytest.mark.skipif(BINARY is None, reason="needs nginx")
def test_users_sign_in_through_the_nginx_of_the_docs(tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    authority = Authority(tmp_path / "nginx")
    with (
        served(tmp_path, "--behind-proxy", "--allowed-host", NAME) as server,
        nginx_of_the_docs(tmp_path / "nginx", authority, server.port) as port,
    ):
        browser = Visitor(authority, port)
        assert browser.request("GET", "/healthz") == (200, "ok\n")
        assert browser.request("GET", "/runs")[0] == 401
        assert browser.request("GET", "/runs", **{"X-Forwarded-User": "ann"})[0] == 401
        assert browser.sign_in("ann") == 303
        assert browser.request("GET", "/runs")[0] == 200
        assert browser.request("GET", "/runs", Host="evil.example")[0] == 421
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["user"], line["peer"]) for line in lines if line["action"] == "signIn"] == [("ann", "127.0.0.1")]


@pytest.mark.slow
@needs_openssl
@pytest.mark.skipif(BINARY is None, reason="needs nginx")
def test_a_browser_cannot_name_its_own_user_through_the_nginx_of_the_docs(tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    authority = Authority(tmp_path / "nginx")
    header = ("--user-header", "X-Forwarded-User", "--trusted-proxy", "127.0.0.1")
    with (
        served(tmp_path, "--behind-proxy", "--allowed-host", NAME, *header) as server,
        nginx_of_the_docs(tmp_path / "nginx", authority, server.port) as port,
    ):
        for name in ("X-Forwarded-User", "x-forwarded-user", "X_Forwarded_User"):
            assert Visitor(authority, port).request("GET", "/runs", **{name: "ann"})[0] == 401
