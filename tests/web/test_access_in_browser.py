"""Signing in and out with a real browser, and what a page of another site can make it do."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, Browser
from tests.web.test_attacks import PASSWORDS, Server, served

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    one = Browser(tmp_path / "profile")
    yield one
    one.close()


def go(browser: Browser, url: str) -> None:
    """Open an address and wait for its page."""
    browser("Page.navigate", url=url)
    wait_until(browser, "document.readyState === 'complete' && location.href !== 'about:blank'")


def wait_until(browser: Browser, condition: str) -> None:
    until = time.monotonic() + 20
    while not browser.js(condition):
        assert time.monotonic() < until, (condition, browser.js("location.href"), browser.js("document.body.innerText"))
        time.sleep(0.05)


def sign_in(browser: Browser, server: Server, name: str) -> None:
    go(browser, f"http://127.0.0.1:{server.port}/runs")
    browser.js(f"document.getElementById('name').value = '{name}'")
    browser.js(f"document.getElementById('password').value = '{PASSWORDS[name]}'")
    browser.js("document.querySelector('main form').requestSubmit()")
    wait_until(browser, f"document.querySelector('.name')?.textContent === '{name}'")


def problems(browser: Browser) -> list[Any]:
    """What the browser has complained about, such as a violated policy; but not the 401 of the page for signing in."""
    entries = [said["entry"] for name, said in browser.events if name == "Log.entryAdded"]
    texts = [one["text"] for one in entries if one["level"] in ("error", "warning")]
    return [text for text in texts if "401" not in text]


def test_a_user_signs_in_is_led_to_the_page_asked_for_and_signs_out(tmp_path: Path, browser: Browser) -> None:
    with served(tmp_path) as server:
        sign_in(browser, server, "ann")
        assert browser.js("location.pathname") == "/runs"
        assert browser.js("document.cookie") == ""
        browser.js("document.querySelector('form[action=\"/sign-out\"]').requestSubmit()")
        wait_until(browser, "location.pathname === '/sign-in'")
        go(browser, f"http://127.0.0.1:{server.port}/runs")
        assert browser.js("document.getElementById('password') !== null")
        assert problems(browser) == []


def test_nothing_that_comes_from_elsewhere_or_stands_in_a_page_is_run(tmp_path: Path, browser: Browser) -> None:
    with served(tmp_path) as server:
        sign_in(browser, server, "ann")
        assert problems(browser) == []
        browser.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
        browser.js(
            "document.body.appendChild(Object.assign(document.createElement('script'), {text: 'window.hacked = 1'}))"
        )
        source = "http://localhost:9/x.js"
        browser.js(f"document.body.appendChild(Object.assign(document.createElement('script'), {{src: '{source}'}}))")
        wait_until(browser, "document.images.length > 0 && document.images[0].complete")
        assert browser.js("window.hacked === undefined")
        assert browser.js("getComputedStyle(document.querySelector('.top')).display !== ''")


ATTACK = """<body><form method=post action="http://127.0.0.1:{port}/sign-out"></form>
<iframe src="http://127.0.0.1:{port}/runs"></iframe>
<img src="http://127.0.0.1:{port}/runs" onload="document.title='seen'">
<script>
const runs = "http://127.0.0.1:{port}/runs", out = "http://127.0.0.1:{port}/sign-out", credentials = "include";
(async () => {{
  try {{ document.title = await (await fetch(runs, {{credentials}})).text(); }} catch {{ }}
  try {{ await fetch(out, {{method: "POST", mode: "no-cors", credentials}}); }} catch {{ }}
  document.forms[0].submit();
}})();
</script>"""


@contextmanager
def other_site(port: int) -> Iterator[int]:
    """Serve a page of another site (localhost is another site than 127.0.0.1) that attacks the server of a port."""

    class Attack(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = ATTACK.format(port=port).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Attack) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield site.server_address[1]
        finally:
            site.shutdown()
            thread.join()


def test_a_page_of_another_site_sees_nothing_and_signs_nobody_out(tmp_path: Path, browser: Browser) -> None:
    with served(tmp_path) as server, other_site(server.port) as port:
        sign_in(browser, server, "ann")
        browser("Page.navigate", url=f"http://localhost:{port}/")
        wait_until(browser, "location.pathname === '/sign-out' && document.readyState === 'complete'")
        assert "another site" in browser.js("document.body.innerText")
        go(browser, f"http://127.0.0.1:{server.port}/runs")
        assert browser.js("document.querySelector('.name')?.textContent") == "ann"
    assert '"signOut"' not in (tmp_path / "audit.jsonl").read_text()
