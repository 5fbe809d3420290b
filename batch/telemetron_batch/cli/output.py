"""Standard output: its console, JSON, tables and counts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from telemetron_batch.cli.console import PlainConsole
from telemetron_batch.domain.printable import json_text


class Stdout(PlainConsole):
    """Standard output; unlike rich, raises BrokenPipeError on a closed pipe instead of exiting with 1."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError."""
        raise BrokenPipeError


def echo_json(value: Any) -> None:
    """Print one line of JSON to standard output, in ASCII unless it accepts Unicode."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    click.echo(json_text(value, ensure_ascii=not is_unicode))


def new_table(*headings: str, right: Sequence[int], title: str | None = None) -> Table:
    """Return a table without borders; columns in `right` are right-aligned."""
    table = Table(*headings, box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.title = Text(f"\n{title}", "bold") if title else None
    for column in right:
        table.columns[column].justify = "right"
    return table


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 call" or "1,200 calls"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
