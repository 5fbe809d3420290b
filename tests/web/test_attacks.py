"""A scripted attacker: what the server refuses, and how much work an attack can make it do.

The slow tests attack a server in a process of its own and print what they have measured.
"""

import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from starlette.routing import Route

from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.web import passwords
from telemetron_batch.web.accounts import add_user
from telemetron_batch.web.audit import AuditLog
from telemetron_batch.web.desk.desk import Desk
from telemetron_batch.web.desk.pages import routes
from telemetron_batch.web.options import ServeOptions
from tests.conftest import KEY, FakeClock
from tests.support.clerk import Form
from tests.support.clerk import _Forms as FormParser
from tests.support.desk import Browser, Site, desk_config, user_file
from tests.support.listening import free_port, is_listening
from tests.support.scripted import BASE_URL, Says, ScriptedServer, Seen

POSTS = [one.path for one in routes if isinstance(one, Route) and "POST" in (one.methods or ())] + ["/sign-out"]
GETS = [one.path for one in routes if isinstance(one, Route) and "GET" in (one.methods or ())]
HOSTILE = "<script>alert(1)</script>"
SECRET = "what-no-page-may-show"


def filled(path: str) -> str:
    """Return the path of a route with something in its places."""
    return re.sub(r"\{\w+\}", "a" * 20, path)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The whole page with three users, and an API that refuses everything in hostile words."""

    def refuse(seen: Seen) -> Says | None:
        return Says(400, {"error": f"{HOSTILE} \u202e ]]> \x00 {seen.customer}"})

    config = desk_config(tmp_path, base_url=BASE_URL, rate="1000/s")
    users = user_file(tmp_path, ann="operator", bob="operator", vic="viewer")
    (tmp_path / "secret.txt").write_text(SECRET)
    config.reports_dir.mkdir()
    (config.reports_dir / "secret.txt").write_text(SECRET)
    audit = AuditLog(tmp_path / "audit.jsonl", FakeClock())
    desk = Desk(config, audit, FakeClock(), transport=ScriptedServer(script=refuse))
    desk.start()
    yield Site(tmp_path, routes, ServeOptions(users=users, max_upload=1 << 20), desk=desk, config=config)
    desk.shutdown()


def planned(browser: Browser, rows: str) -> str:
    """Upload a list, go through its pages as they are, and return the address of its planned run."""
    kept = browser.post("/uploads", files={"file": ("list.csv", rows.encode())}).headers["location"]
    columns = follow(browser, browser.get(kept))
    chosen = next(one for one in forms_of(columns.text) if one.action.endswith("/columns"))
    assert follow(browser, browser.client.post(chosen.action, data=chosen.fields)).status_code == 200
    browser.post(f"{kept}/rows", {"do": "plan"})
    run = follow(browser, browser.get(f"{kept}/plan"))
    assert run.url.path.startswith("/runs/"), run.text
    return str(run.url.path)


def forms_of(text: str) -> list[Form]:
    """Return the forms of a page."""
    parser = FormParser()
    parser.feed(text)
    return parser.forms


def sent(site: Site, browser: Browser, run: str) -> Path:
    """Send a planned run; return its folder."""
    form = next(one for one in forms_of(browser.get(run).text) if one.action.endswith("/send"))
    assert browser.client.post(form.action, data=form.fields).status_code == 303
    wait_for(lambda: not site.context.desk.queue.jobs())
    return site.folder / "reports" / run.rpartition("/")[2]


def follow(browser: Browser, answer: httpx2.Response) -> httpx2.Response:
    """Go where an answer leads, until there is a page."""
    while answer.status_code == 303 or "data-reload" in answer.text:
        answer = browser.get(answer.headers.get("location", answer.url.path))
    return answer


class TestWithoutASession:
    @pytest.mark.parametrize("path", [*GETS, "/runs/../audit.jsonl", "/nowhere", "//", "/static/../app.py"])
    def test_no_page_is_shown(self, site: Site, path: str) -> None:
        if path.startswith("/language/"):
            return
        assert site.browser().get(filled(path)).status_code == 401

    @pytest.mark.parametrize("path", POSTS)
    def test_nothing_is_done(self, site: Site, path: str) -> None:
        assert site.browser().client.post(filled(path), data={"do": "plan"}).status_code == 401

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
    def test_other_methods_lead_nowhere(self, site: Site, method: str) -> None:
        assert site.browser().client.request(method, "/runs").status_code in (401, 403)

    @pytest.mark.parametrize("cookie", ["x", "", "\x7f", "a" * 4000, "../../secret", "null"])
    def test_made_up_sessions_are_none(self, site: Site, cookie: str) -> None:
        headers = {"cookie": f"{site.access.cookies.session}={cookie}"}
        assert site.browser().get("/runs", headers=headers).status_code == 401

    def test_a_session_chosen_by_an_attacker_does_not_become_that_of_the_victim(self, site: Site) -> None:
        victim = site.browser()
        name = site.access.cookies.session
        victim.client.cookies.set(name, "chosen-by-the-attacker")
        victim.sign_in("ann")
        assert site.browser().get("/", headers={"cookie": f"{name}=chosen-by-the-attacker"}).status_code == 401


class TestFromAnotherSite:
    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "https://evil.example"},
            {"origin": "http://127.0.0.1:9999"},
            {"origin": "http://127.0.0.1.evil.example:8780"},
            {"sec-fetch-site": "cross-site", "origin": "null"},
        ],
    )
    @pytest.mark.parametrize("path", [*POSTS, "/sign-in"])
    def test_a_form_does_nothing_even_with_the_right_token(
        self, site: Site, path: str, headers: dict[str, str]
    ) -> None:
        browser = site.by_password("ann")
        assert browser.post(filled(path), headers=headers).status_code == 403
        assert browser.get("/").status_code == 200

    def test_a_picture_or_script_of_it_gets_nothing(self, site: Site) -> None:
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
        assert site.by_password("ann").get("/runs", headers=headers).status_code == 403

    def test_a_link_of_it_may_lead_here(self, site: Site) -> None:
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert site.by_password("ann").get("/runs", headers=headers).status_code == 200

    def test_a_form_of_this_page_passes_as_browsers_send_it(self, site: Site) -> None:
        headers = {"sec-fetch-site": "same-origin", "origin": "null"}
        assert site.by_password("ann").post("/sign-out", headers=headers).status_code == 303

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:8780", "10.0.0.1", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b",
         "127.0.0.1@evil.example", "[::2]", "127.0.0.1:8780:1", "127.0.0.1#", "0x7f.1"],
    )  # fmt: skip
    def test_a_foreign_host_name_is_refused_before_anything_else(self, site: Site, host: str) -> None:
        browser = site.by_password("ann")
        for path in ("/", "/healthz", "/static/desk.css"):
            answer = browser.get(path, headers={"host": host})
            assert answer.status_code == 421
            assert not answer.headers.get_list("set-cookie")

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:8780", "LOCALHOST", "localhost."])
    def test_any_name_of_this_machine_is_accepted(self, site: Site, host: str) -> None:
        assert site.browser().get("/healthz", headers={"host": host}).status_code == 200


class TestWithASession:
    @pytest.mark.parametrize("path", POSTS)
    @pytest.mark.parametrize("token", ["", "0" * 64])
    def test_a_form_with_a_wrong_token_does_nothing(self, site: Site, path: str, token: str) -> None:
        browser = site.by_password("ann")
        assert browser.client.post(filled(path), data={"csrf": token}).status_code == 403

    @pytest.mark.parametrize("path", [path for path in POSTS if path != "/sign-out"])
    def test_a_viewer_changes_nothing(self, site: Site, path: str) -> None:
        assert site.by_password("vic").post(filled(path)).status_code == 403

    def test_the_runs_and_lists_of_others_are_not_there(self, site: Site) -> None:
        bob, ann = site.by_password("bob"), site.by_password("ann")
        run = planned(bob, "customerEmail,deviceIdentifier,action\nx@example.com,A1,assign\n")
        answer = bob.post("/uploads", files={"file": ("list.csv", b"a,b\n1,2\n")})
        kept = answer.headers["location"]
        assert (bob.get(run).status_code, bob.get(kept).status_code) == (200, 200)
        for path in (run, f"{run}/events", f"{run}/files/report.html", kept, f"{kept}/rows"):
            assert ann.get(path).status_code == 404, path
        for path in [f"{run}/{do}" for do in ("send", "stop", "undo", "correct", "revise", "look")]:
            assert ann.post(path).status_code == 404, path
        assert ann.post(f"{kept}/remove").status_code == 404
        for path in (f"{run}/approve", f"{run}/revoke"):
            assert ann.post(path).status_code == 403
        assert run.rpartition("/")[2] not in ann.get("/runs").text
        assert bob.get(run).status_code == 200

    @pytest.mark.parametrize(
        "name",
        ["%2e%2e", "%2e%2e%2fsecret.txt", "..%2f..%2fsecret.txt", "....//", "%00", "/etc/passwd",
         "%2fetc%2fpasswd", ".desk", ".uploads", "audit.jsonl", "secret.txt", "~", "C:%5Cx", "..%5c..%5c", "a" * 5000,
         "%ff", "-v", ";id", "$(id)", "\u202e"],
    )  # fmt: skip
    def test_no_name_leads_out_of_where_it_belongs(self, site: Site, name: str) -> None:
        browser = site.by_password("ann")
        run = planned(browser, "customerEmail,deviceIdentifier,action\nx@example.com,A1,assign\n")
        for path in (f"/runs/{name}", f"/runs/{name}/files/summary.json", f"{run}/files/{name}", f"/uploads/{name}",
                     f"/uploads/{name}/plan", f"/static/{name}", f"/runs/{name}/events"):  # fmt: skip
            answer = browser.get(path)
            assert SECRET not in answer.text
            assert answer.status_code in (303, 404), path
        for path in (f"/runs/{name}/send", f"/runs/{name}/revise", f"/uploads/{name}/remove"):
            assert browser.post(path).status_code in (404, 405), path
        assert (site.folder / "secret.txt").exists()
        assert (site.folder / "reports" / "secret.txt").exists()

    @pytest.mark.parametrize(
        "name",
        ["../../evil.csv", "/etc/evil.csv", "..\\..\\evil.csv", ".csv", f"{HOSTILE}.csv", "x" * 3000, "a\u202eb.csv"],
    )
    def test_the_name_of_a_file_decides_nothing_and_is_shown_as_text(self, site: Site, name: str) -> None:
        before = {path for path in site.folder.rglob("*") if ".uploads" not in path.parts}
        browser = site.by_password("ann")
        answer = browser.post("/uploads", files={"file": (name, b"customerEmail,deviceIdentifier,action\n")})
        assert answer.status_code == 303
        page = browser.get(answer.headers["location"]).text
        assert HOSTILE not in page
        assert "\u202e" not in page
        after = {path for path in site.folder.rglob("*") if ".uploads" not in path.parts}
        assert after - before <= {site.folder / "audit.jsonl"}
        assert [*site.folder.rglob("*evil*")] == []

    def test_hostile_cells_and_hostile_answers_of_the_api_are_shown_as_text(self, site: Site) -> None:
        browser = site.by_password("ann")
        cells = [
            HOSTILE,
            '"><img src=x onerror=alert(1)>',
            "=cmd|' /C calc'!A0",
            "{{ 7*7 }}",
            "a\u202eb",
            "javascript:alert(1)",
        ]
        lines = [f'x@example.com,"{cell.replace(chr(34), chr(34) * 2)}",assign' for cell in cells]
        header = f'customerEmail,deviceIdentifier,action,"{HOSTILE}"'
        rows = "\n".join([header, *(f"{line},{HOSTILE}" for line in lines), "y@example.com,B1,assign,"])
        run = planned(browser, rows)
        kept = browser.post("/uploads", files={"file": ("list.csv", rows.encode())}).headers["location"]
        pages = [follow(browser, browser.get(path)).text for path in (run, kept)]
        folder = sent(site, browser, run)
        assert "alert(1)" in (folder / "reconciliation.csv").read_text()
        pages += [browser.get(path).text for path in (run, "/runs", "/")]
        for page in pages:
            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert "\u202e" not in page
            assert "49" not in re.findall(r"\{\{.*?\}\}|\b49\b", page)
            assert KEY not in page

    def test_a_report_with_a_style_of_its_own_is_downloaded_not_shown(self, site: Site) -> None:
        browser = site.by_password("ann")
        run = planned(browser, "customerEmail,deviceIdentifier,action\nx@example.com,A1,assign\n")
        sent(site, browser, run)
        answer = browser.get(f"{run}/files/report.html")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def wait_for(is_done: Any) -> None:
    until = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < until
        time.sleep(0.02)


class TestWork:
    def test_hundreds_of_tries_to_sign_in_cost_a_few_checks_of_a_password(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checked: list[str] = []
        monkeypatch.setattr(passwords, "is_password", lambda _, password: bool(checked.append(password)))
        browser = site.browser(peer="192.0.2.66")
        fields = {"csrf": browser.csrf("/sign-in"), "password": "guess"}
        names = [f"user{number}" if number % 2 else "ann" for number in range(400)]
        statuses = [browser.client.post("/sign-in", data={**fields, "name": name}).status_code for name in names]
        assert len(checked) == statuses.count(401) <= 20
        assert statuses.count(429) == 400 - len(checked)
        assert len(site.audited()) <= len(checked) + 1

    def test_a_form_for_signing_in_that_is_too_large_is_not_read(self, site: Site) -> None:
        assert site.browser().post("/sign-in", {"name": "x" * 50_000}, page="/sign-in").status_code == 413

    @pytest.mark.parametrize("length", [str((1 << 20) * 3), "2147483648", "9" * 400, "-1", "x", "1e3"])
    def test_an_upload_that_says_it_is_too_large_is_refused_before_it_is_read(self, site: Site, length: str) -> None:
        browser, read = site.by_password("ann"), []

        def body() -> Iterator[bytes]:
            for _ in range(3):
                read.append(1)
                yield b"x"

        headers = {
            "x-csrf-token": browser.csrf(),
            "content-length": length,
            "content-type": "multipart/form-data; boundary=b",
        }
        answer = browser.client.post("/uploads", content=body(), headers=headers)
        assert answer.status_code == 413

    def test_an_upload_that_does_not_say_so_ends_where_it_becomes_too_large(self, site: Site) -> None:
        browser = site.by_password("ann")

        def body() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            for _ in range(64):
                yield b"x" * (1 << 16)

        headers = {"x-csrf-token": browser.csrf(), "content-type": "multipart/form-data; boundary=b"}
        assert browser.client.post("/uploads", content=body(), headers=headers).status_code == 413
        assert [*(site.folder / "reports" / ".uploads").iterdir()] == []

    @pytest.mark.parametrize("kind", ["fields", "files", "long", "cut", "noboundary"])
    def test_a_form_made_to_cost_much_is_refused(self, site: Site, kind: str) -> None:
        browser = site.by_password("ann")
        part = b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\nx\r\n'
        content = {
            "fields": b"".join(part % (b"f%d" % number, b"") for number in range(5000)) + b"--b--\r\n",
            "files": b"".join(part % (b"f", b'; filename="x"') for _ in range(500)) + b"--b--\r\n",
            "long": part % (b"f", b"") + b"x" * (3 << 20),
            "cut": b'--b\r\nContent-Disposition: form-data; name="f"',
            "noboundary": b"x" * 1000,
        }[kind]
        headers = {"x-csrf-token": browser.csrf(), "content-type": "multipart/form-data; boundary=b"}
        assert browser.client.post("/uploads", content=content, headers=headers).status_code in (400, 413)


# The slow ones: a server in a process of its own.

PASSWORDS = {"ann": "the password of ann", "bob": "the password of bob"}


class Server:
    """The program as a process, with users ann and bob, against the sandbox API."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]", port: int) -> None:
        self.folder, self.process, self.port = folder, process, port

    def request(
        self, method: str, path: str, fields: dict[str, str] | None = None, cookie: str = ""
    ) -> tuple[int, Any, str]:
        """Return status, headers and text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Cookie": cookie, "Accept": "text/html"}
        if fields is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, None if fields is None else urlencode(fields), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text

    def form(self) -> tuple[str, str]:
        """Return the cookie and the token of the form for signing in."""
        _, headers, text = self.request("GET", "/sign-in")
        found = re.search(r'name="csrf" value="(\w+)"', text)
        assert found is not None
        return headers["set-cookie"].partition(";")[0], found[1]

    def sign_in(self, name: str, password: str | None = None, cookie: str = "") -> tuple[int, str]:
        """Return the status, and the cookies of the browser afterwards."""
        form, token = self.form()
        fields = {"csrf": token, "name": name, "password": PASSWORDS[name] if password is None else password}
        status, headers, _ = self.request("POST", "/sign-in", fields, "; ".join(filter(None, (form, cookie))))
        return status, "; ".join(one.partition(";")[0] for one in headers.get_all("set-cookie") or [])

    def csrf(self, cookie: str) -> str:
        """Return the token of a session."""
        found = re.search(r'name="csrf" value="(\w+)"', self.request("GET", "/", cookie=cookie)[2])
        assert found is not None
        return found[1]

    @property
    def memory_mib(self) -> float:
        """The most memory that the process has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    @property
    def cpu_s(self) -> float:
        """Processor time of the process."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def latency_ms(self) -> float:
        """How long a look at /healthz takes."""
        start = time.monotonic()
        assert self.request("GET", "/healthz")[0] == 200
        return (time.monotonic() - start) * 1000


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Server]:
    """Start the server, and end it by SIGTERM: it must end with 0."""
    for name, password in PASSWORDS.items():
        add_user(folder / "users.json", name, "operator", lambda _, password=password: password)  # type: ignore[misc]
    with SandboxState() as state, serve_in_thread(state, api_key=KEY) as base_url:
        port = free_port()
        command = [sys.executable, "-m", "telemetron_batch", "serve", "--port", str(port), "--users", "users.json"]
        environ = {**os.environ, "TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(folder / "state")}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with (folder / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                [*command, "--base-url", base_url, *options],
                cwd=folder,
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )
        try:
            wait_for(lambda: is_listening(port) or process.poll() is not None)
            yield Server(folder, process, port)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, (folder / "stderr").read_text()
        finally:
            process.kill()
            process.wait()


def tell(what: str, **figures: float | str) -> None:
    """Print what was measured."""
    print(f"\n{what}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))  # noqa: T201


@pytest.mark.slow
def test_ten_thousand_tries_to_sign_in_leave_the_server_usable_and_small(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        _, known = server.sign_in("ann")
        before = (server.memory_mib, server.cpu_s)
        form, token = server.form()
        start, latencies, done = time.monotonic(), [], threading.Event()

        def attempt(number: int) -> int:
            fields = {"csrf": token, "name": "ann" if number % 2 else f"user{number}", "password": f"guess {number}"}
            return server.request("POST", "/sign-in", fields, form)[0]

        def watch() -> None:
            while not done.wait(0.2):
                latencies.append(server.latency_ms())

        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(16) as attackers:
            statuses = [*attackers.map(attempt, range(10_000))]
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
        device = next(one for one in known.split("; ") if "device" in one)
        by_known_browser = server.sign_in("ann", cookie=device)[0]
        tell(
            "10,000 tries to sign in",
            seconds=round(seconds, 1),
            checked=statuses.count(401),
            refused=statuses.count(429),
            server_cpu_s=round(server.cpu_s - before[1], 1),
            memory_mib=f"{before[0]:.0f} -> {server.memory_mib:.0f}",
            healthz_ms=f"median {sorted(latencies)[len(latencies) // 2]:.0f}, worst {max(latencies):.0f}",
            audit_lines=len((tmp_path / "audit.jsonl").read_text().splitlines()),
        )
        assert statuses.count(401) <= 20 + seconds / 12 + 1
        assert statuses.count(401) + statuses.count(429) == 10_000
        assert server.memory_mib < before[0] + 200
        assert by_known_browser == 303


def upload_head(cookie: str, token: str, length: str) -> bytes:
    lines = [
        "POST /uploads HTTP/1.1", "Host: 127.0.0.1", f"Cookie: {cookie}", f"X-CSRF-Token: {token}", length,
        "Content-Type: multipart/form-data; boundary=b", "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.csv"\r\n\r\n'


def send_much(one: socket.socket, total: int, *, is_chunked: bool) -> int:
    """Send so many bytes, until the server has enough; return how many were sent."""
    piece, sent = b"x" * (1 << 20), 0
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
    with suppress(OSError):
        while sent < total:
            one.sendall(framed)
            sent += len(piece)
    return sent


@pytest.mark.slow
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_upload_of_two_gigabytes_is_refused_early(tmp_path: Path, *, is_chunked: bool) -> None:
    total = 2 << 30
    with served(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port), 60) as one:
        _, cookie = server.sign_in("ann")
        before, start = server.memory_mib, time.monotonic()
        head = upload_head(
            cookie, server.csrf(cookie), "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {total}"
        )
        one.sendall(head + (b"%x\r\n%b\r\n" % (len(PART), PART) if is_chunked else PART))
        answers: list[bytes] = []
        answered: list[float] = []

        def read() -> None:
            answers.append(one.recv(12))
            answered.append(time.monotonic() - start)

        reader = threading.Thread(target=read)
        reader.start()
        sent = send_much(one, total, is_chunked=is_chunked)
        reader.join()
        tell(
            f"2 GiB upload ({'chunked' if is_chunked else 'Content-Length'})",
            answer=answers[0].decode(),
            answered_after_s=round(answered[0], 3),
            sent_mib=sent >> 20,
            memory_mib=f"{before:.0f} -> {server.memory_mib:.0f}",
        )
        assert answers[0] == b"HTTP/1.1 413"
        assert server.memory_mib < before + 100
        assert [*(tmp_path / "reports" / ".uploads").iterdir()] == []


@pytest.mark.slow
def test_no_path_leads_out_of_where_it_belongs_as_a_socket_sends_it(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "secret.txt").write_text(SECRET)
    with served(tmp_path) as server:
        _, cookie = server.sign_in("ann")
        for folder in ("/static", "/runs", "/runs/x/files", "/uploads", ""):
            for step in ("/..", "/../..", "/.%2e", "/%2e%2e/%2e%2e", "/..%2f..", "//", "/..;", "/..%5c", "/%00"):
                for name in ("reports/secret.txt", "users.json", "audit.jsonl", "app.py", "etc/passwd"):
                    status, _, text = server.request("GET", f"{folder}{step}/{name}", cookie=cookie)
                    assert status in (303, 404), (folder, step, name)
                    assert SECRET not in text


@pytest.mark.slow
def test_a_slow_upload_is_ended(tmp_path: Path) -> None:
    with served(tmp_path, "--upload-timeout", "2s") as server:
        _, cookie = server.sign_in("ann")
        token, start = server.csrf(cookie), time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), 60) as one:
            one.sendall(upload_head(cookie, token, "Content-Length: 100000") + PART)
            one.settimeout(0.1)
            answer = b""
            while not answer:
                assert time.monotonic() - start < 20
                with suppress(TimeoutError):
                    answer = one.recv(12)
                with suppress(OSError):
                    one.sendall(b"x")
        tell("slow upload (--upload-timeout 2s)", answer=answer.decode(), seconds=round(time.monotonic() - start, 1))
        assert answer == b"HTTP/1.1 408"


@pytest.mark.slow
@pytest.mark.parametrize("number", [200, 1500])
@pytest.mark.parametrize("begin", [b"", b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_idle_connections_keep_nobody_out_and_end(tmp_path: Path, number: int, begin: bytes) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number + 100:
        pytest.skip("too few files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 200), hard))
    with served(tmp_path) as server, ExitStack() as idle:
        start = time.monotonic()
        for _ in range(number):
            one = idle.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            with suppress(OSError):
                one.sendall(begin)
        latencies = [server.latency_ms() for _ in range(20)]
        most = open_files(server)
        assert server.sign_in("ann")[0] == 303
        wait_for(lambda: open_files(server) < 40)
        tell(
            f"{number} idle connections{' with half a head' if begin else ''}",
            healthz_ms=f"median {sorted(latencies)[10]:.0f}, worst {max(latencies):.0f}",
            files_open=most,
            all_closed_after_s=round(time.monotonic() - start, 1),
            memory_mib=round(server.memory_mib),
        )
        assert most < 600


def open_files(server: Server) -> int:
    return len([*Path(f"/proc/{server.process.pid}/fd").iterdir()])


@pytest.mark.slow
def test_bodies_that_never_come_keep_nobody_out(tmp_path: Path) -> None:
    with served(tmp_path) as server, ExitStack() as open_ones:
        form, token = server.form()
        head = (
            "POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: %s\r\nX-CSRF-Token: %s\r\nContent-Length: 100\r\n\r\n"
        )
        for _ in range(300):
            one = open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            one.sendall((head % (form, token)).encode())
        status, _ = server.sign_in("ann")
        tell("300 forms that never end", healthz_ms=round(server.latency_ms()), sign_in=status)
        assert status == 303


GARBAGE_SEEDS = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\n\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 60\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\nx\r\n--b--',
    b"GET /?token=%ff%00 HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: a=b; =; ;;\r\nAccept-Language: de;q=x,,;q=2\r\n\r\n",
    b"GET /language/de?next=//evil HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
)
GARBAGE = (b"\r\n", b"\x00", b"a" * 70_000, b"\xff\xfe", b"%2e%2e/", b"Host: x\r\n", b";", b"\xe2\x80\xae")


def garbage(chance: random.Random) -> bytes:
    """Return a request with some bytes changed, removed and added."""
    request = bytearray(chance.choice(GARBAGE_SEEDS))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(request))
        how = chance.randrange(3)
        if how == 0:
            request[at] = chance.randrange(256)
        elif how == 1:
            del request[at : at + chance.randint(1, 5)]
        else:
            request[at:at] = chance.choice(GARBAGE)
    return bytes(request)


@pytest.mark.slow
def test_garbage_causes_no_error_of_the_server_and_writes_nothing(tmp_path: Path) -> None:
    chance = random.Random(5)
    statuses: Counter[str] = Counter()
    with served(tmp_path) as server:
        for _ in range(1000):
            with socket.create_connection(("127.0.0.1", server.port), 5) as one, suppress(OSError):
                one.settimeout(0.1)
                one.sendall(garbage(chance))
                statuses[one.recv(12)[9:].decode()] += 1
        tell("1,000 requests of garbage", **dict(sorted(statuses.items())), healthz_ms=round(server.latency_ms()))
    assert not [status for status in statuses if status.startswith("5")]
    assert len((tmp_path / "stderr").read_text()) == 0


@pytest.mark.slow
def test_the_key_and_the_passwords_are_in_no_file_line_or_argument(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        _, cookie = server.sign_in("ann")
        server.sign_in("bob", "wrong password of bob")
        assert server.request("GET", "/runs", cookie=cookie)[0] == 200
        command = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (KEY, *PASSWORDS.values(), "wrong password of bob", cookie.partition("=")[2].partition(";")[0]):
        assert secret.encode() not in command
        assert not any(secret.encode() in content for content in written)


@pytest.mark.slow
def test_a_second_server_of_the_same_reports_folder_is_refused(tmp_path: Path) -> None:
    with served(tmp_path):
        command = [sys.executable, "-m", "telemetron_batch", "serve", "--port", "0"]
        environ = {**os.environ, "TELEMETRON_API_KEY": KEY, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ended = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 6
        assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_token_is_printed_once_and_lets_one_browser_in(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "telemetron_batch", "serve", "--port", "0", "--sandbox"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, cwd=tmp_path, env=environ, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = re.fullmatch(r"Open http://127\.0\.0\.1:(\d+)(/\?token=\S+)\n", process.stdout.readline())
        assert found is not None
        server = Server(tmp_path, process, int(found[1]))
        statuses = [server.request("GET", found[2])[0] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert statuses == [303, 401, 401]
    lines = [json.loads(line)["action"] for line in (tmp_path / "reports" / "audit.jsonl").read_text().splitlines()]
    assert lines == ["serverStart", "signIn", "signInRefused", "serverStop"]
