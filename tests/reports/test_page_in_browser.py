"""report.html in a real browser: hostile cells do nothing, its script works, it is accessible."""

import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from tests.reports.test_page import HOSTILE, hostile_page
from tests.support.browser import CHROMIUM, Browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

COLOURS = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = [];
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    const seen = one.checkVisibility() && !["SCRIPT", "title", "desc"].includes(one.tagName);
    if (!seen || !texts.currentNode.data.trim()) continue;
    const style = getComputedStyle(one);
    const [a, b] = [light(parse(one.closest("svg") ? style.fill : style.color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${one.className} ${texts.currentNode.data.trim().slice(0, 40)}`);
  }
  return poor;
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def visits() -> Iterator[tuple[str, list[str]]]:
    """The URL of a server, and the requests it received."""
    came: list[str] = []

    class Door(BaseRequestHandler):
        def handle(self) -> None:
            came.append(str(self.client_address))

    with ThreadingTCPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", came
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    hostile_page(tmp_path / "report.html")
    browser.look()
    browser.open(tmp_path / "report.html")
    return browser


def test_hostile_cells_do_nothing(browser: Browser, tmp_path: Path, visits: tuple[str, list[str]]) -> None:
    address, came = visits
    hostile_page(tmp_path / "report.html", address)
    browser.open(tmp_path / "report.html")
    asked = [one["request"]["url"] for one in browser.told("Network.requestWillBeSent")]
    assert asked == [(tmp_path / "report.html").as_uri()]
    assert came == []
    troubles = browser.told("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert troubles == []
    assert browser.told("Page.javascriptDialogOpening") == []
    assert HOSTILE[0] in browser.js("document.body.innerText")


def test_the_hostile_cell_check_detects_a_request(
    browser: Browser, tmp_path: Path, visits: tuple[str, list[str]]
) -> None:
    address, came = visits
    (tmp_path / "bad.html").write_text(f'<img src="{address}/img"><script>console.log(1); nothing.here</script>')
    browser.open(tmp_path / "bad.html")
    assert came
    assert len(browser.told("Network.requestWillBeSent")) == 2
    assert browser.told("Runtime.exceptionThrown")
    assert browser.told("Runtime.consoleAPICalled")


def test_the_content_security_policy_blocks_foreign_scripts(page: Browser) -> None:
    page.js("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))")
    assert page.js("window.ran") is None


def test_causes_are_filtered_by_what_is_typed(page: Browser) -> None:
    page.js("document.getElementById('filter').focus()")
    page("Input.insertText", text="ALERT")
    counted = "[...document.querySelectorAll('.cause')].filter((one) => one.checkVisibility()).length"
    shown, in_all = page.js(counted), page.js("document.querySelectorAll('.cause').length")
    assert 0 < shown < in_all
    assert page.js("document.getElementById('filtered').textContent") == f"{shown} of {in_all} causes shown"


def test_a_table_is_sorted_from_the_keyboard_and_marked_as_sorted(page: Browser) -> None:
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map((row) => row.cells[0].textContent)"
    for expected in ("ascending", "descending"):
        page.js("document.querySelector('table.sortable th button').focus()")
        page("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
        page("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)
        assert page.js("document.querySelector('table.sortable th').ariaSort") == expected
        numbers = [int(text.removeprefix("SN-")) for text in page.js(column)]
        assert numbers == sorted(numbers, reverse=expected == "descending")


def test_the_focused_element_is_outlined(page: Browser) -> None:
    page("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert page.js("document.activeElement.textContent") == "Skip to content"
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 2560])
def test_nothing_is_wider_than_the_window(page: Browser, width: int) -> None:
    page.look(width=width)
    assert page.js("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(page: Browser, scheme: str) -> None:
    page.look(scheme=scheme)
    assert page.js(COLOURS) == []


def test_in_print_all_details_are_open_and_black_on_white(page: Browser) -> None:
    page.look(scheme="dark", media="print")
    page.js("dispatchEvent(new Event('beforeprint'))")
    assert page.js("[...document.querySelectorAll('details')].every((one) => one.open)")
    assert page.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.js("document.querySelector('nav').checkVisibility()")
    assert page.js(COLOURS) == []


def test_without_script_the_whole_page_can_be_read(page: Browser, tmp_path: Path) -> None:
    page_text = "document.body.innerText.replace(/Show causes that contain|Copy|\\s/g, '')"
    with_script = page.js(page_text)
    page("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(tmp_path / "report.html")
        assert page.js(page_text) == with_script
        assert not page.js("document.getElementById('filter').checkVisibility()")
    finally:
        page("Emulation.setScriptExecutionDisabled", value=False)
