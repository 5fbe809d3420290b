"""What a person sees: the plan before a run, its progress, and its end.

Talk goes to standard error, results to standard output; on a terminal with rich,
elsewhere in plain lines. Decides nothing and counts nothing.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from batch.config import RunConfig, Talk
from batch.digest import Digest
from batch.model import InputFile, Outcome, Stop
from batch.outputs import Summary
from batch.runs import RunLine
from batch.sender import Face
from batch.tally import Tally
from batch.traffic import Traffic

_MEANS: Final = {
    Outcome.ASSIGNED: "now with the customer",
    Outcome.ALREADY_ASSIGNED: "were with the customer before",
    Outcome.UNASSIGNED: "taken from the customer",
    Outcome.SKIPPED: "unknown device, or not this customer's",
    Outcome.DUPLICATE: "the same as an earlier row",
    Outcome.UNCHANGED: "settled by an earlier run",
    Outcome.INVALID: "not sent: the row itself is wrong",
    Outcome.FAILED: "refused by the API; nothing was changed",
    Outcome.UNCONFIRMED: "may or may not have been done",
    Outcome.HELD: "not sent: may still be with the former owner",
    Outcome.NOT_SENT: "not sent: the run stopped before",
}
_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}


class _Out(Console):
    """Standard output; a closed pipe is for the command to deal with, not a reason to exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class TerminalFace(Face):
    """Shows a run as it goes on standard error, and asks there where that is wanted."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._console = Console(stderr=True, quiet=talk.quiet)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._tally: Tally | None = None
        self._traffic: Traffic | None = None

    def planned(self, plan: Digest) -> bool:
        """Show the plan; on a terminal ask whether to go on."""
        if not self._asks():
            for line in (*map(_reading, plan.files), _headline(plan)):
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            return True
        show_plan(plan, self._console)
        return click.confirm(f"Send {_counted(plan.calls, 'call')}?", default=False, err=True)

    def again(self, former: str) -> bool:
        """Ask whether to process content that a former run has processed."""
        question = f"Run {former} has already processed exactly this content. Process it again?"
        return self._asks() and click.confirm(question, default=False, err=True)

    def told(self, kind: str, text: str) -> None:
        """Say it in one line."""
        if not self._talk.quiet:
            self._console.print(f"{kind}: {text}", markup=False, highlight=False, soft_wrap=True)

    def began(self, tally: Tally, traffic: Traffic) -> None:
        """Open the progress display, on a terminal."""
        self._tally, self._traffic = tally, traffic
        if not (self._console.is_terminal and self._talk.progress and not self._talk.quiet):
            return
        self._progress = Progress(
            TextColumn("calls"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
            get_time=None,
        )
        self._task = self._progress.add_task("calls", total=tally.calls, pace="", state="")
        self._progress.start()

    def progressed(self) -> None:
        """Bring the display up to date."""
        if self._progress is None or self._task is None or self._tally is None or self._traffic is None:
            return
        held = self._traffic.held_for()
        state = f"waiting {held:.0f} s: the API asked for it" if held >= 1 else _so_far(self._tally)
        self._progress.update(
            self._task, completed=self._tally.calls_done, pace=f"{self._traffic.rate():.1f}/s", state=state
        )

    def ended(self) -> None:
        """Close the progress display."""
        if self._progress is not None:
            self.progressed()
            self._progress.stop()
            self._progress = None

    def _asks(self) -> bool:
        return not self._talk.yes and sys.stdin.isatty() and sys.stdout.isatty()


def show_plan(plan: Digest, console: Console) -> None:
    """The plan as tables for people."""
    for file in plan.files:
        for line in (_reading(file), *(f"warning: {file.name}: {warning}" for warning in file.warnings)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table("stage", "action", "calls", "devices", title="Plan", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    for stage in plan.stages:
        table.add_row(str(stage.number), str(stage.action), f"{stage.calls:,}", f"{stage.devices:,}")
    console.print(table)
    console.print(_headline(plan), highlight=False, soft_wrap=True)
    if plan.problems:
        problems = Table("problem", "rows", "first lines", title="Rows that will not be sent", title_justify="left")
        for kind in plan.problems:
            problems.add_row(kind.title, f"{kind.rows:,}", _lines(kind.lines, kind.rows))
        console.print(problems)


def show_end(summary: Summary, talk: Talk) -> None:
    """The end of a run: on standard output the counts, or with --json one line."""
    stop = summary.fields["stop"]
    if stop:
        click.echo(f"Stopped: {stop['reason']}; {stop['advice']}.", err=True)
    if talk.json:
        click.echo(summary.as_json())
        return
    if talk.quiet:
        return
    fields = summary.fields
    console = _Out()
    table = Table("outcome", "rows", "attention", "", box=None, pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    for outcome, count in summary.counts.items():
        if count:
            wanting = fields["attentionByOutcome"].get(str(outcome), 0)
            table.add_row(str(outcome), f"{count:,}", f"{wanting:,}" if wanting else "", _MEANS[outcome])
    console.print(table)
    console.print(_verdict(fields), highlight=False, soft_wrap=True)
    console.print(f"See {summary.folder / 'report.html'}", highlight=False, soft_wrap=True)
    if fields["attention"]:
        console.print(f"and {summary.folder / 'attention.csv'}", highlight=False, soft_wrap=True)


def show_planned(plan: Digest, talk: Talk) -> None:
    """What `plan` came to, on standard output."""
    if talk.json:
        click.echo(json.dumps(plan.as_json(), ensure_ascii=False))
    else:
        show_plan(plan, _Out(quiet=talk.quiet))


def show_runs(lines: Sequence[RunLine], *, as_json: bool) -> None:
    """A list of runs, on standard output."""
    if as_json:
        click.echo(json.dumps([line.as_json() for line in lines], ensure_ascii=False))
        return
    table = Table("started", "run", "input", "rows", "state", "attention", "next", box=None, pad_edge=False)
    table.columns[3].justify = table.columns[5].justify = "right"
    for line in lines:
        when = line.started_at[:16].replace("T", " ")
        attention = f"{line.attention:,}" if line.attention else ""
        table.add_row(when, line.run_id, line.input, f"{line.rows:,}", line.state, attention, line.next_step)
    _Out().print(table if lines else "No runs here.")


def show_check(stop: Stop | None, config: RunConfig) -> None:
    """How the check went: well on standard output, otherwise on standard error."""
    if config.talk.json:
        fields = {"ok": stop is None, "baseUrl": config.sending.base_url, "reason": stop.reason if stop else None}
        click.echo(json.dumps(fields, ensure_ascii=False))
    if stop is not None:
        click.echo(f"Error: {stop.reason}; {stop.advice}", err=True)
    elif not (config.talk.quiet or config.talk.json):
        click.echo(f"{config.sending.base_url} is there, and it takes this key.")


def _verdict(fields: Mapping[str, Any]) -> str:
    rows, attention = fields["rows"], fields["attention"]
    return f"{rows - attention:,} of {rows:,} rows are where they should be; {attention:,} want attention."


def _reading(file: InputFile) -> str:
    """How a file was understood."""
    columns = ", ".join(f'{field} is "{header}"' for field, header in file.columns.items())
    written = ", ".join(filter(None, (file.encoding, _DELIMITERS.get(file.delimiter, ""))))
    return f"{file.name} ({written}): {columns}"


def _headline(plan: Digest) -> str:
    shortest = plan.shortest_seconds
    time = "" if shortest is None else f", {_duration(shortest)} or more at {plan.rate}"
    return (
        f"{_counted(plan.rows, 'row')}: {_counted(plan.devices, 'device')} of {_counted(plan.customers, 'customer')} "
        f"in {_counted(plan.calls, 'call')}{time}; {_counted(plan.duplicates, 'duplicate')}, {plan.invalid:,} invalid"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _lines(lines: Sequence[int], rows: int) -> str:
    return ", ".join(map(str, lines)) + (", ..." if rows > len(lines) else "")


def _so_far(tally: Tally) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in tally.outcomes.most_common(3))
