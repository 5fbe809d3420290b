"""What is said on standard error while a run goes on: lines, and below them one that is kept up to date.

A thread of its own does the writing, because a terminal may be stopped (Ctrl-S) and a
pipe may be full, and neither is a reason for calls to wait. Decides nothing.
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
"""Seconds between two progress lines where there is no terminal."""
_PATIENCE: Final = 1.0
"""Seconds that the end of a run waits for a terminal that takes nothing."""
_STYLES: Final = {
    Style.PLAIN: "",
    Style.DONE: "green",
    Style.OPEN: "dim",
    Style.SOFT: "dim",
    Style.WAITING: "yellow",
    Style.TROUBLE: "bold red",
}


class PlainConsole(Console):
    """A console for texts in which nothing is markup and, wherever they come from, nothing controls the terminal."""

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """Return a text, also that of a table's cell, as it is shown."""
        return super().render_str(printable(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the pieces of whatever is shown."""
        for piece in super().render(renderable, options):
            if piece.control or is_printable(piece.text.replace("\n", "")):
                yield piece
            else:
                lines = map(printable, piece.text.split("\n"))
                yield Segment("\n".join(lines), piece.style)

    @property
    def is_screen(self) -> bool:
        """Can lines be drawn over? FORCE_COLOR gives colours to a file, but does not make a screen of it."""
        return bool(self.file.isatty()) and self.is_interactive

    def print_line(self, text: str) -> None:
        """A line. A terminal gets it folded between words; elsewhere a message is one line."""
        self.print(text, soft_wrap=not self.file.isatty())


class ErrorConsole(PlainConsole):
    """Standard error; when nobody listens there any more, it falls silent."""

    def __init__(self, *, quiet: bool = False, file: IO[str] | None = None) -> None:
        super().__init__(stderr=True, quiet=quiet, file=file or _own_stderr())

    def on_broken_pipe(self) -> None:
        """Be quiet from now on: the log has it all."""
        self.quiet = True

    def print_line(self, text: str) -> None:
        """A line, if it can be written."""
        with suppress(OSError, ValueError):
            super().print_line(text)


def _own_stderr() -> IO[str] | None:
    """Standard error as a stream of our own: a thread stuck in it must not hold what Python flushes at its end."""
    try:
        opened: IO[str] = os.fdopen(
            sys.stderr.fileno(), "w", 1, sys.stderr.encoding, errors="backslashreplace", closefd=False
        )
    except (AttributeError, OSError, ValueError):
        return None  # closed, or not a file: rich knows what to do
    return opened


class ConsoleThread:
    """Says lines and shows views, in the order in which it is told to, without ever keeping the teller waiting."""

    def __init__(self, console: ErrorConsole, *, progress: bool) -> None:
        self._console = console
        self._progress = progress
        self._orders: queue.SimpleQueue[str | ProgressSnapshot | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._live: Live | None = None
        self._shown: Sequence[Piece] | str = ""
        self._plain_at = 0.0

    @property
    def wants_views(self) -> bool:
        """Is progress to be shown at all?"""
        return self._progress and not self._console.quiet

    def say(self, text: str) -> None:
        """A line. Before and after the run it is out when this returns."""
        if self._thread is None:
            self._console.print_line(text)
        else:
            self._orders.put(text)

    def start(self) -> None:
        """From now on the thread does the talking."""
        self._thread = threading.Thread(target=self._work, name="voice", daemon=True)
        self._thread.start()

    def show(self, view: ProgressSnapshot) -> None:
        """Progress: drawn over the last one on a screen, elsewhere a line now and then."""
        self._orders.put(view)

    def end(self) -> None:
        """Say what is left to say, but do not wait for ever."""
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join(_PATIENCE)
            self._thread = None

    def _work(self) -> None:
        # A terminal that has gone away takes no more lines; the run goes on without it.
        with suppress(OSError, ValueError):
            while (order := self._orders.get()) is not None:
                if isinstance(order, str):
                    self._console.print_line(order)
                elif not self._console.is_screen:
                    self._note(order)
                elif self._orders.empty() or order.over:  # of several that wait, only the last is drawn
                    self._draw(order)
            if self._live is not None:
                self._live.stop()

    def _draw(self, view: ProgressSnapshot) -> None:
        pieces = format_line(view, self._console.width - 1)
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
        self._console.show_cursor(True)  # or a process that is killed would leave the terminal without one
        return live

    def _ascii(self, text: str) -> str:
        return text if self._console.encoding.startswith("utf") else text.replace("━", "#").replace("─", "-")

    def _note(self, view: ProgressSnapshot) -> None:
        text = format_log(view)
        if text != self._shown and (view.elapsed >= self._plain_at + PLAIN_EVERY or (view.over and self._plain_at)):
            self._shown, self._plain_at = text, view.elapsed
            self._console.print_line(f"progress: {text}")
