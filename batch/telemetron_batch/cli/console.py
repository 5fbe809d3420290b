"""Consoles for standard output and error, and the thread that writes messages and progress during a run.

A thread does the writing, because a terminal may be paused (Ctrl-S) or a pipe full, and calls must not wait for it.
"""

import os
import queue
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import IO, Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from telemetron_batch.domain.printable import is_printable, printable
from telemetron_batch.sending.progress import Piece, ProgressSnapshot, Style, format_line, format_log

PLAIN_EVERY: Final = 30.0
"""Seconds between two progress lines without a terminal."""
_JOIN_TIMEOUT_S: Final = 1.0
"""How long the end of a run waits for a paused terminal."""
_STYLES: Final = {
    Style.PLAIN: "",
    Style.DONE: "green",
    Style.OPEN: "dim",
    Style.SOFT: "dim",
    Style.WAITING: "yellow",
    Style.TROUBLE: "bold red",
}


class PlainConsole(Console):
    """A console that interprets no markup and escapes control characters in all texts."""

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """Return a text, also of a table cell, with control characters escaped."""
        return super().render_str(printable(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments to be shown, with control characters escaped."""
        for piece in super().render(renderable, options):
            if piece.control or is_printable(piece.text.replace("\n", "")):
                yield piece
            else:
                lines = map(printable, piece.text.split("\n"))
                yield Segment("\n".join(lines), piece.style)

    @property
    def is_screen(self) -> bool:
        """Whether lines can be overwritten. FORCE_COLOR enables colours for a file, but does not make it a screen."""
        return bool(self.file.isatty()) and self.is_interactive

    def print_line(self, text: str) -> None:
        """Print a line, wrapped between words only on a terminal."""
        self.print(text, soft_wrap=not self.file.isatty())


class ErrorConsole(PlainConsole):
    """Standard error; after it is closed, nothing more is printed."""

    def __init__(self, *, quiet: bool = False, file: IO[str] | None = None) -> None:
        super().__init__(stderr=True, quiet=quiet, file=file or _own_stderr())

    def on_broken_pipe(self) -> None:
        """Print nothing from now on; the log has everything."""
        self.quiet = True

    def print_line(self, text: str) -> None:
        """Print a line if it can be written."""
        with suppress(OSError, ValueError):
            super().print_line(text)


def _own_stderr() -> IO[str] | None:
    """Return a separate stream for standard error: a thread blocked in it must not block Python's flush at exit."""
    try:
        opened: IO[str] = os.fdopen(
            sys.stderr.fileno(), "w", 1, sys.stderr.encoding, errors="backslashreplace", closefd=False
        )
    except (AttributeError, OSError, ValueError):
        return None  # closed, or not a file: rich handles that
    return opened


class ConsoleThread:
    """Prints lines and progress in the order of the calls, without blocking the caller."""

    def __init__(self, console: ErrorConsole, *, progress: bool) -> None:
        self._console = console
        self._progress = progress
        self._queue: queue.SimpleQueue[str | ProgressSnapshot | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._live: Live | None = None
        self._shown: Sequence[Piece] | str = ""
        self._plain_at = 0.0

    @property
    def wants_progress(self) -> bool:
        """Whether progress is shown at all."""
        return self._progress and not self._console.quiet

    def say(self, text: str) -> None:
        """Print a line; before `start` and after `end` synchronously."""
        if self._thread is None:
            self._console.print_line(text)
        else:
            self._queue.put(text)

    def start(self) -> None:
        """Start the thread, which prints from now on."""
        self._thread = threading.Thread(target=self._run, name="voice", daemon=True)
        self._thread.start()

    def show(self, snapshot: ProgressSnapshot) -> None:
        """Show progress: overwrite the last one on a screen, else print a line now and then."""
        self._queue.put(snapshot)

    def end(self) -> None:
        """Print what is queued, but wait only `_JOIN_TIMEOUT_S`."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_JOIN_TIMEOUT_S)
            self._thread = None

    def _run(self) -> None:
        # Writing to a closed terminal fails; the run continues without it.
        with suppress(OSError, ValueError):
            while (order := self._queue.get()) is not None:
                if isinstance(order, str):
                    self._console.print_line(order)
                elif not self._console.is_screen:
                    self._note(order)
                elif self._queue.empty() or order.over:  # only the newest queued view is drawn
                    self._draw(order)
            if self._live is not None:
                self._live.stop()

    def _draw(self, snapshot: ProgressSnapshot) -> None:
        pieces = format_line(snapshot, self._console.width - 1)
        if pieces == self._shown:
            return
        self._shown = pieces
        text = Text.assemble(*((self._ascii(text), _STYLES[tone]) for text, tone in pieces), no_wrap=True)
        if self._live is None:
            self._live = self._new_live()
        self._live.update(text, refresh=True)

    def _new_live(self) -> Live:
        live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        live.start()
        self._console.show_cursor(True)  # else a killed process would leave the terminal without a cursor
        return live

    def _ascii(self, text: str) -> str:
        return text if self._console.encoding.startswith("utf") else text.replace("━", "#").replace("─", "-")

    def _note(self, snapshot: ProgressSnapshot) -> None:
        text = format_log(snapshot)
        if text != self._shown and (
            snapshot.elapsed >= self._plain_at + PLAIN_EVERY or (snapshot.over and self._plain_at)
        ):
            self._shown, self._plain_at = text, snapshot.elapsed
            self._console.print_line(f"progress: {text}")
