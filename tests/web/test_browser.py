"""The whole way of a clerk in a real browser, with a server and an API of their own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import xlsxwriter

from tests.reports.test_page_in_browser import COLOURS
from tests.support.books import reconciliation_of
from tests.support.browser import CHROMIUM, Browser
from tests.support.desk_server import DeskServer, desk_server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
"""axe-core, which is not ours: `npm install --no-save axe-core`."""
GOOD_ROWS = 15
BAD_ROWS = [
    ("erika@muster", "SN-9001"),
    ("", "SN-9002"),
    ("max@muster.example", ""),
    ("max@muster.example", "1,23457E+11"),
    ("max@muster.example", "#NV"),
]
CORRECTIONS = {
    "customerEmail": {18: "erika@muster.example", 19: "erika@muster.example"},
    "deviceIdentifier": {20: "SN-9003", 21: "SN-9004", 22: "SN-9005"},
}
"""Cells that make the bad rows good, by field and line of the sheet."""


def german_workbook(folder: Path) -> Path:
    """Return a workbook with German headers below a title, with good rows and five bad ones."""
    path = folder / "Retouren KW 48.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Retouren")
        sheet.write_row(0, 0, ["Retouren der Woche"])
        sheet.write_row(1, 0, ["RMA", "Kunde (E-Mail)", "Seriennummer", "Grund"])
        rows = [(f"kunde{n % 6}@muster.example", f"SN-{n:04d}") for n in range(GOOD_ROWS)] + BAD_ROWS
        for at, (customer, serial) in enumerate(rows):
            sheet.write_row(at + 2, 0, [f"R-{at}", customer, serial, "defekt"])
    return path


def seed(server: DeskServer) -> None:
    """Give the customers of the workbook their devices."""
    rows = [(f"kunde{n % 6}@muster.example", f"SN-{n:04d}", "unassign") for n in range(GOOD_ROWS)]
    rows += [("erika@muster.example", f"SN-{n}", "unassign") for n in (9001, 9002)]
    rows += [("max@muster.example", f"SN-{n}", "unassign") for n in (9003, 9004, 9005)]
    server.fleet.seed(rows)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DeskServer]:
    with desk_server(tmp_path, "--rate", "20/s") as server:
        seed(server)
        yield server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


def bring(browser: Browser, file: Path) -> None:
    """Choose a file and send it."""
    browser.choose_file("#file", file)
    browser.js("document.querySelector('form[data-drop]').requestSubmit()")
    browser.wait_for("document.querySelector('#c-customerEmail')")


def press(browser: Browser, selector: str, then: str) -> None:
    """Press a button, and wait for what must come."""
    browser.js(f"document.querySelector({json.dumps(selector)}).click()")
    browser.wait_for(then)


def plan(browser: Browser, file: Path) -> None:
    """Go from a file to its plan, without correcting anything."""
    bring(browser, file)
    choose(browser, "#c-deviceIdentifier", "Seriennummer")
    browser.js("document.querySelector('input[name=action][value=unassign]').click()")
    press(browser, "form.columns > .actions button", "document.querySelector('button[value=plan]')")
    press(browser, "button[value=plan]", "document.querySelector('form[action$=\"/send\"]')")


def choose(browser: Browser, selector: str, text: str) -> None:
    """Choose the option with a text."""
    options = f"[...document.querySelector({json.dumps(selector)}).options]"
    browser.js(f"{options}.find((one) => one.textContent === {json.dumps(text)}).selected = true")


def confirm(browser: Browser) -> None:
    """Type the number that the page asks for, and send."""
    browser.js("document.querySelector('#devices').value = document.querySelector('h1').textContent.match(/\\d+/)[0]")
    browser.js("document.querySelector('form[action$=\"/send\"]').requestSubmit()")


def run_of(browser: Browser) -> str:
    return str(browser.js("location.pathname")).removeprefix("/runs/")


def problems(browser: Browser) -> list[str]:
    """What the browser has complained about, such as a violated policy; but not pages that are refused on purpose."""
    entries = [said["entry"] for name, said in browser.events if name == "Log.entryAdded"]
    thrown = [json.dumps(said) for name, said in browser.events if name == "Runtime.exceptionThrown"]
    texts = [one["text"] for one in entries if one["level"] in ("error", "warning")]
    return [text for text in texts if "the server responded with a status of 40" not in text] + thrown


@pytest.mark.parametrize("width", [390, 1280])
def test_a_workbook_with_bad_rows_is_sent_corrected_sent_again_and_undone(
    server: DeskServer, browser: Browser, tmp_path: Path, width: int
) -> None:
    browser.look(width=width)
    server.sign_in(browser, "anna", "de")
    plan(browser, german_workbook(tmp_path))
    assert "15 Geräte von 6 Kunden zurücknehmen" in browser.js("document.querySelector('h1').textContent")
    confirm(browser)
    browser.wait_for("document.querySelector('form[action$=\"/correct\"]')")
    assert "15 von 20 Zeilen" in browser.js("document.querySelector('h1').textContent")
    first = run_of(browser)

    press(browser, 'form[action$="/correct"] button', "document.querySelector('.faulty input')")
    cells = browser.js("[...document.querySelectorAll('.faulty [id^=cell]')].map((one) => one.id)")
    texts = iter(
        [("customerEmail", "erika@muster.example")] * 2 + [("deviceIdentifier", f"SN-{n}") for n in (9003, 9004, 9005)]
    )
    lines = sorted({int(one.rpartition(".")[2]) for one in cells})
    for line, (name, text) in zip(lines, texts, strict=True):
        browser.js(f"document.getElementById('cell.{name}.{line}').value = '{text}'")
    press(browser, "button[value=check]", "document.querySelector('h1').textContent.includes('in Ordnung')")
    press(browser, "button[value=plan]", "document.querySelector('#devices')")
    confirm(browser)
    browser.wait_for("document.querySelector('.files')")
    assert "Alle 5 Zeilen sind, wo sie sein sollen" in browser.js("document.querySelector('h1').textContent")

    browser.visit(f"{server.url}/runs/{first}")
    press(browser, 'form[action$="/undo"] button', "document.querySelector('form[action$=\"/send\"]')")
    assert "15 Geräte an 6 Kunden zuweisen" in browser.js("document.querySelector('h1').textContent")
    press(browser, 'form[action$="/send"] button', "document.querySelector('.files')")
    undone = reconciliation_of(server.folder / "reports" / run_of(browser))
    assert {row["action"] for row in undone} == {"assign"}
    assert len(undone) == len(
        [row for row in reconciliation_of(server.folder / "reports" / first) if row["outcome"] == "unassigned"]
    )
    assert problems(browser) == []


def test_the_keyboard_alone_is_enough(server: DeskServer, browser: Browser, tmp_path: Path) -> None:
    server.sign_in(browser, "anna", "en")
    browser.press("Tab")
    assert browser.js("document.activeElement.textContent") == "Skip to content"
    assert browser.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.choose_file("#file", german_workbook(tmp_path))  # a dialog of the system
    browser.tab_to("form[data-drop] button")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#c-deviceIdentifier')")
    browser.tab_to("#c-deviceIdentifier")
    for letter in "Ser":
        browser.press(letter, ord(letter.upper()), letter)
    browser.tab_to("input[name=action]")
    browser.press(" ")
    browser.tab_to("form.columns > .actions button")
    browser.press("Enter")
    browser.wait_for("document.querySelector('.faulty input')")
    browser.tab_to('[id="cell.customerEmail.18"]')
    browser.js("document.activeElement.select()")
    browser.write("erika@muster.example")
    browser.press("Enter")  # the first button of the form: check again
    browser.wait_for("document.body.textContent.includes('1 cell corrected')")
    browser.tab_to("button[value=plan]")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#devices')")
    browser.tab_to("#devices")
    browser.write("16")
    browser.press("Enter")
    browser.wait_for("document.querySelector('.files')")
    assert "16 of 20 rows" in browser.js("document.querySelector('h1').textContent")


def test_a_scanner_that_types_beeps_for_a_serial_that_it_has_typed_before(server: DeskServer, browser: Browser) -> None:
    server.sign_in(browser, "anna", "en")
    browser.js("window.beeps = 0; document.addEventListener('desk-beep', () => { window.beeps += 1; })")
    browser.js("document.getElementById('serials').focus()")
    for serial in ("SN-0001", "SN-0002", "SN-0001"):
        browser.write(serial)
        browser.press("Enter")
    assert browser.js("window.beeps") == 1
    assert (
        browser.js("document.querySelector('[data-scan-status]').textContent") == "3 serials · Scanned twice: SN-0001"
    )
    assert browser.js("document.querySelector('[data-scan-status]').role") == "status"
    browser.visit(f"{server.url}/runs")
    browser.visit(f"{server.url}/")
    assert browser.js("document.getElementById('serials').value.split('\\n').length") == 4


def test_a_killed_server_goes_on_with_the_run_and_the_page_follows(browser: Browser, tmp_path: Path) -> None:
    with desk_server(tmp_path, "--rate", "2/s") as server:
        seed(server)
        server.sign_in(browser, "anna", "en")
        plan(browser, german_workbook(tmp_path))
        confirm(browser)
        browser.wait_for("document.querySelector('.counts')?.textContent.startsWith('2 of')")
        run = run_of(browser)
        server.kill()
        server.start()
        server.sign_in(browser, "anna", "en")
        browser.visit(f"{server.url}/runs/{run}")
        browser.wait_for("document.querySelector('.files')")
        rows = reconciliation_of(server.folder / "reports" / run)
        assert [row["outcome"] for row in rows].count("invalid") == 5
        assert {row["outcome"] for row in rows} <= {"unassigned", "skipped", "invalid"}


def test_two_people_at_once_take_turns_and_see_each_other(browser: Browser, tmp_path: Path) -> None:
    other = Browser(tmp_path / "other-profile")
    try:
        with desk_server(tmp_path, "--rate", "2/s") as server:
            seed(server)
            server.sign_in(browser, "anna", "en")
            plan(browser, german_workbook(tmp_path))
            server.sign_in(other, "bert", "de")
            confirm(browser)
            browser.wait_for("document.querySelector('.counts')?.textContent.includes('of')")
            other.visit(f"{server.url}/")
            assert other.js("document.querySelector('.queue').textContent") == "Gerade unterwegs: ein Lauf von anna."
            assert "Retouren" not in other.js("document.body.textContent")
            other.js("document.getElementById('serials').value = 'SN-0003'")
            other.js("document.getElementById('customer').value = 'kunde3@muster.example'")
            other.js("document.querySelector('[data-scan] input[value=unassign]').click()")
            press(other, "[data-scan] > button", "document.querySelector('button[value=plan]')")
            press(other, "button[value=plan]", "document.querySelector('#devices')")
            confirm(other)
            other.wait_for("document.querySelector('[data-events]')")
            assert "Vor ihm ist noch 1 Lauf" in other.js("document.querySelector('.now').textContent")
            browser.wait_for("document.querySelector('.files')")
            other.wait_for("document.querySelector('.files')")
    finally:
        other.close()


def test_a_second_person_approves_in_the_own_browser(browser: Browser, tmp_path: Path) -> None:
    with desk_server(tmp_path, "--approval", "second", "--rate", "20/s") as server:
        seed(server)
        server.sign_in(browser, "anna", "en")
        bring(browser, german_workbook(tmp_path))
        choose(browser, "#c-deviceIdentifier", "Seriennummer")
        browser.js("document.querySelector('input[name=action][value=unassign]').click()")
        press(browser, "form.columns > .actions button", "document.querySelector('button[value=plan]')")
        press(browser, "button[value=plan]", "document.body.textContent.includes('A second person must approve')")
        assert browser.js("document.querySelector('form[action$=\"/send\"]')") is None
        run = run_of(browser)
        server.sign_in(browser, "paul", "en")
        browser.visit(f"{server.url}/approvals")
        assert browser.js("document.querySelectorAll('.runs tbody tr').length") == 1
        browser.visit(f"{server.url}/runs/{run}")
        press(browser, 'form[action$="/approve"] button', "document.body.textContent.includes('approved by')")
        server.sign_in(browser, "anna", "en")
        browser.visit(f"{server.url}/runs/{run}")
        confirm(browser)
        browser.wait_for("document.querySelector('.files')")


def test_without_a_script_the_whole_way_works_too(server: DeskServer, browser: Browser, tmp_path: Path) -> None:
    server.sign_in(browser, "anna", "en")
    browser("Emulation.setScriptExecutionDisabled", value=True)
    plan(browser, german_workbook(tmp_path))
    confirm(browser)
    browser.wait_for("document.querySelector('.files')")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DeskServer, Browser, list[str]]]:
    """A server with a list in each state, a browser of an approver, and the addresses of all pages."""
    folder = tmp_path_factory.mktemp("gallery")
    browser = Browser(folder / "profile")
    with desk_server(folder, "--rate", "20/s") as server:
        seed(server)
        server.sign_in(browser, "paul", "en")
        workbook = german_workbook(folder)
        bring(browser, workbook)
        columns = browser.js("location.pathname")
        choose(browser, "#c-deviceIdentifier", "Seriennummer")
        browser.js("document.querySelector('input[name=action][value=unassign]').click()")
        press(browser, "form.columns > .actions button", "document.querySelector('.faulty')")
        browser.visit(server.url)
        plan(browser, workbook)
        planned = browser.js("location.pathname")
        browser.visit(server.url)
        browser.js("document.getElementById('serials').value = 'SN-0003\\nSN-0004'")
        browser.js("document.getElementById('customer').value = 'kunde3@muster.example'")
        browser.js("document.querySelector('[data-scan] input[value=unassign]').click()")
        press(browser, "[data-scan] > button", "document.querySelector('button[value=plan]')")
        press(browser, "button[value=plan]", "document.querySelector('#devices')")
        press(browser, 'form[action$="/look"] button', "document.querySelector('[data-events]')")
        browser.wait_for("document.querySelector('#devices')")
        confirm(browser)
        browser.wait_for("document.querySelector('.files')")
        finished = browser.js("location.pathname")
        yield (
            server,
            browser,
            ["/", columns, f"{columns}/rows", planned, finished, "/runs", "/approvals", "/mappings", "/no"],
        )
    browser.close()


@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_and_nothing_is_wider_than_the_window(
    gallery: tuple[DeskServer, Browser, list[str]], scheme: str, language: str
) -> None:
    server, browser, pages = gallery
    browser.visit(f"{server.url}/language/{language}?next=/")
    found: list[object] = []
    for page in pages:
        for width in (320, 390, 768, 1280):
            browser.look(width=width, scheme=scheme)
            browser.visit(server.url + page)
            if browser.js("document.documentElement.scrollWidth") > width:
                found.append((page, width, "too wide"))
        found += [(page, one) for one in browser.js(COLOURS)]
    assert found == []


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm install --no-save axe-core")
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(gallery: tuple[DeskServer, Browser, list[str]], width: int) -> None:
    server, browser, pages = gallery
    found = []
    for page in pages:
        browser.look(width=width)
        browser.visit(server.url + page)
        browser.js(AXE.read_text(encoding="utf-8") + "; 0")
        answer = json.loads(browser.js("axe.run().then((found) => JSON.stringify(found.violations))"))
        found += [(page, one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]]) for one in answer]
    assert found == []


def test_the_layout_does_not_move_while_a_page_loads_or_a_run_goes_on(
    server: DeskServer, browser: Browser, tmp_path: Path
) -> None:
    watch = (
        "new PerformanceObserver((list) => { for (const one of list.getEntries()) window.moved = "
        "(window.moved ?? 0) + one.value; }).observe({type: 'layout-shift', buffered: true})"
    )
    browser("Page.addScriptToEvaluateOnNewDocument", source=watch)
    server.sign_in(browser, "anna", "en")
    plan(browser, german_workbook(tmp_path))
    assert browser.js("window.moved ?? 0") < 0.02
    confirm(browser)
    browser.wait_for("document.querySelector('.counts')")
    browser.wait_for("document.querySelector('.files')")
    assert browser.js("window.moved ?? 0") < 0.02
