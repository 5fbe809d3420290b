"""The whole way of a clerk in a real browser, with a server and an API of their own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import xlsxwriter

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
