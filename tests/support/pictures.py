"""The pictures in the README and in the docs, made from runs of made-up data: `make pictures`.

Three PNG files in reports/example: a terminal with a whole run, and the page of that
run on a desk and on a phone. Four in docs/pictures: the way of a clerk through `serve`. Needs Chromium.
"""

import io
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.support.browser import Browser
from tests.support.desk_server import desk_server
from tests.support.ptys import OnTerminal
from tests.web.test_browser import bring, choose, confirm, german_workbook, press, seed

FOLDER: Final = Path(__file__).parents[2] / "reports" / "example"
DESK: Final = Path(__file__).parents[2] / "docs" / "pictures"
_DESK_WIDTH, _MAX_HEIGHT = 940, 1000
COMMAND: Final = ("run", "sample_data/erp_export.csv", "--sandbox", "--run-id", "may")
THEME: Final = TerminalTheme(
    (22, 27, 34),
    (214, 220, 227),
    [(60, 68, 77), (255, 123, 114), (86, 198, 169), (240, 180, 90), (110, 170, 240), (188, 140, 255), (86, 200, 214),
     (214, 220, 227)],
    [(140, 150, 160), (255, 150, 142), (110, 220, 190), (250, 200, 120), (140, 190, 250), (210, 170, 255),
     (120, 220, 230), (255, 255, 255)],
)  # fmt: skip
PAGE: Final = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 20px; width: fit-content; background: #fff; }}
.window {{ background: #161b22; color: #d6dce3; border-radius: 10px; overflow: hidden; width: fit-content; }}
.bar {{ display: flex; gap: 8px; padding: 12px 14px; background: #21262d; }}
.bar i {{ width: 12px; height: 12px; border-radius: 6px; background: #484f58; }}
pre {{ margin: 0; padding: 16px 22px 22px; width: 80ch;
      white-space: pre-wrap; overflow-wrap: anywhere; font: 15px/1.45 "DejaVu Sans Mono", monospace; }}
</style><div class="window"><div class="bar"><i></i><i></i><i></i></div><pre>{lines}</pre></div>"""


def on_terminal(folder: Path) -> list[str]:
    """Return the coloured lines of a terminal after a confirmed run; its folder is `folder`."""
    environment = {"XDG_STATE_HOME": str(folder / "state"), "TELEMETRON_REPORTS_DIR": str(folder)}
    program = OnTerminal([sys.executable, "-m", "telemetron_batch", *COMMAND], environment=environment)
    program.until(lambda written: "[y/N]" in written)
    program.type("y\n")
    program.finish()
    shown = [line.replace(str(folder), "reports").replace(" --reports-dir reports", "") for line in program.screen]
    while not shown[-1]:
        shown.pop()
    return [f"\x1b[1m$\x1b[0m telemetron-batch {' '.join(COMMAND)}", *shown]


def as_page(lines: list[str]) -> str:
    """Return a page that shows a window with these lines."""
    console = Console(record=True, width=200, file=io.StringIO(), color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    told = console.export_html(theme=THEME, inline_styles=True, code_format="{code}")
    return PAGE.format(lines=told)


def main() -> None:
    """Run the program and take the pictures."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "terminal.html").write_text(as_page(on_terminal(folder)), encoding="utf-8")
        browser = Browser(folder / "profile")
        try:
            take(browser, folder / "terminal.html", "terminal.png", width=None)
            take(browser, folder / "may" / "report.html", "report.png", width=1280, height=1200)
            take(browser, folder / "may" / "report.html", "report-phone.png", width=390, height=844)
            of_desk(browser, folder)
        finally:
            browser.close()


def of_desk(browser: Browser, folder: Path) -> None:
    """Take the pictures of a clerk's way: bring a list, correct it, look at the plan, and the result on a phone."""
    DESK.mkdir(exist_ok=True)
    with desk_server(folder, "--rate", "20/s") as server:
        seed(server)
        browser.look(width=_DESK_WIDTH)
        server.sign_in(browser, "anna")
        shoot(browser, "start.png")
        bring(browser, german_workbook(folder))
        choose(browser, "#c-deviceIdentifier", "Seriennummer")
        browser.js("document.querySelector('input[name=action][value=unassign]').click()")
        press(browser, "form.columns > .actions button", "document.querySelector('.faulty')")
        shoot(browser, "rows.png")
        press(browser, "button[value=plan]", "document.querySelector('#devices')")
        shoot(browser, "plan.png")
        confirm(browser)
        browser.wait_for("document.querySelector('.files')")
        browser.look(width=390)
        shoot(browser, "result-phone.png", width=390)


def shoot(browser: Browser, name: str, *, width: int = _DESK_WIDTH) -> None:
    """Take a picture of the page that is open, as far down as it says something."""
    height = browser.js(
        "Math.ceil(document.querySelector('main').lastElementChild.getBoundingClientRect().bottom) + 24"
    )
    (DESK / name).write_bytes(browser.picture(width=width, height=min(height, _MAX_HEIGHT)))


def take(browser: Browser, page: Path, name: str, *, width: int | None, height: int | None = None) -> None:
    """Take a picture of a page; of the whole page without a size."""
    browser.look(width=width or 1280)
    browser.open(page)
    width = width or browser.js("document.body.offsetWidth")
    height = height or browser.js("document.body.offsetHeight")
    (FOLDER / name).write_bytes(browser.picture(width=width, height=height))


if __name__ == "__main__":
    main()
