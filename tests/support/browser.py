"""A real browser, for tests of the page and for pictures of it."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]


class Browser:
    """A headless Chromium with one page, controlled through two pipes."""

    def __init__(self, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        arguments = [str(CHROMIUM), *QUIET, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command, "chromium", *arguments],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._answers, self._orders = os.fdopen(ours_in, "rb", 0), os.fdopen(ours_out, "wb")
        self._numbers = itertools.count(1)
        self._pending = b""
        self._session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer; events until then are added to `events`."""
        number = next(self._numbers)
        order: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            order["sessionId"] = self._session
        self._orders.write(json.dumps(order).encode() + b"\0")
        self._orders.flush()
        while True:
            said = self._read()
            if said.get("id") == number:
                assert "error" not in said, said
                return dict(said["result"])
            self.events.append((said.get("method", ""), said.get("params", {})))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._answers], [], [], 30)
            piece = os.read(self._answers.fileno(), 1 << 16) if ready else b""
            assert piece, "the browser has gone, or is stuck"
            self._pending += piece
        message, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(message))

    def open(self, path: Path) -> None:
        """Open a page and wait until it is idle."""
        self.events.clear()
        self("Page.navigate", url=path.as_uri())
        while not self.js("document.readyState === 'complete' && location.protocol === 'file:'"):
            pass
        time.sleep(0.5)
        self.js("0")

    def visit(self, url: str) -> None:
        """Open an address and wait until its page is complete."""
        self("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.protocol !== 'about:'")

    def wait_for(self, condition: str, seconds: float = 30) -> None:
        """Wait until an expression is true, also while pages change."""
        until = time.monotonic() + seconds
        while True:
            answer = self("Runtime.evaluate", expression=f"Boolean({condition})", returnByValue=True)
            if "exceptionDetails" not in answer and answer["result"].get("value"):
                return
            assert time.monotonic() < until, (condition, self.js("location.href"), self.js("document.body.innerText"))
            time.sleep(0.05)

    def press(self, key: str, code: int = 0, text: str = "", modifiers: int = 0) -> None:
        """Press a key and let it go; a key with `text` types it."""
        known = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "ArrowDown": (40, ""), "ArrowUp": (38, "")}
        code, text = (code, text) if code else known[key]
        more = {"text": text} if text else {}
        options = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self("Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **options, **more)
        self("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **options)

    def write(self, text: str) -> None:
        """Type a text into what has the focus."""
        self("Input.insertText", text=text)

    def tab_to(self, selector: str) -> None:
        """Press the tab key until an element has the focus."""
        for _ in range(80):
            self.press("Tab")
            if self.js(f"Boolean(document.activeElement?.matches({json.dumps(selector)}))"):
                return
        raise AssertionError(f"the tab key does not lead to {selector}")

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file, as the dialog of the system would."""
        found = self("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")["result"]
        self("DOM.setFileInputFiles", files=[str(path)], objectId=found["objectId"])

    def js(self, expression: str) -> Any:
        answer = self("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def told(self, *methods: str) -> list[dict[str, Any]]:
        return [parameters for method, parameters in self.events if method in methods]

    def look(self, *, width: int = 1280, scheme: str = "light", media: str = "screen") -> None:
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, *, width: int, height: int, scale: float = 1) -> bytes:
        """Return the top of the page as PNG."""
        self.look(width=width)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": scale}
        shot = self("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def close(self) -> None:
        self._session = None
        self("Browser.close")
        self._orders.close()
        self._answers.close()
        self._process.wait(20)
