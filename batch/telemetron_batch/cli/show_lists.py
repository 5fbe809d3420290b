"""Show lists of runs and approvals, and the results of `check`, `holdings` and `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click
from rich.table import Table
from rich.text import Text

from telemetron_batch.cli.console import ErrorConsole, PlainConsole
from telemetron_batch.cli.output import Stdout, counted, echo_json, new_table
from telemetron_batch.domain.printable import printable

if TYPE_CHECKING:  # commands that only list or check must not load what plans and sends
    from telemetron_batch.api.check import CheckResult
    from telemetron_batch.comparison.summary import LookupSummary
    from telemetron_batch.config.config import OutputOptions, RunConfig
    from telemetron_batch.run.approve import ApprovalInfo
    from telemetron_batch.run.listing import RunInfo

_UNWRAPPED_WIDTH: Final = 10_000

_STEPS: Final = {"dns": "DNS", "connect": "connect", "tls": "TLS", "answer": "answer"}


def show_runs(runs: Sequence[RunInfo], *, as_json: bool, unreadable: int = 0) -> None:
    """Print a list of runs to standard output; `unreadable` is the number of runs that could not be read."""
    if as_json:
        echo_json([line.as_json() for line in runs])
        return
    console = Stdout()
    if not runs:
        others = f" but {counted(unreadable, 'other')} that could not be read" if unreadable else ""
        console.print_line(f"No runs here{others}.")
    elif console.is_screen:
        for line in runs:
            _show_run(line, console)
    else:
        console.width = _UNWRAPPED_WIDTH
        console.print(_runs_table(runs))


def _show_run(line: RunInfo, console: PlainConsole) -> None:
    """Print a run in two lines, because a terminal is too narrow for one."""
    attention = f", {line.attention:,} want attention" if line.attention else ""
    head = ((printable(line.run_id), "bold"), f"  {printable(_format_minute(line.started_at))}")
    console.print(Text.assemble(*head), soft_wrap=True)
    console.print_line(f"  {line.input}, {counted(line.rows, 'row')}: {line.state}{attention}")
    if line.next_step != "nothing":
        console.print(Text(f"  {printable(line.next_step)}", "yellow"), soft_wrap=True)


def _runs_table(runs: Sequence[RunInfo]) -> Table:
    """Return a table with one unwrapped line for each run, for grep and cut."""
    table = new_table("started", "run", "input", "rows", "state", "attention", "next", right=(3, 5))
    for line in runs:
        attention = f"{line.attention:,}" if line.attention else ""
        cells = (line.input, f"{line.rows:,}", line.state, attention, line.next_step)
        table.add_row(_format_minute(line.started_at), line.run_id, *cells)
    for column in table.columns:
        column.no_wrap = True
    return table


def _format_minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def show_approved(approved: ApprovalInfo, *, as_json: bool) -> None:
    """Print a new approval to standard output."""
    if as_json:
        echo_json(approved.as_json())
        return
    plan = _plan_in_words(approved)
    Stdout().print_line(f"Approved: run {approved.run_id}, fingerprint {approved.fingerprint}{plan}.")


def _plan_in_words(approved: ApprovalInfo) -> str:
    """Return what a plan would send, and who planned it; "" once the run has begun."""
    counts = approved.counts
    if counts is None:
        return ""
    devices, customers = counted(counts["devices"], "device"), counted(counts["customers"], "customer")
    return f": {devices} of {customers} in {counted(counts['calls'], 'call')}, planned by {approved.planned_by}"


def show_revoked(run_id: str, *, as_json: bool) -> None:
    """Print that the approval of a run was removed."""
    if as_json:
        echo_json({"runId": run_id, "revoked": True})
    else:
        Stdout().print_line(f"Revoked: the approval of run {run_id}. A run that has sent already is not stopped.")


def show_approvals(approvals: Sequence[ApprovalInfo], *, as_json: bool) -> None:
    """Print approvals, and plans that wait for one, to standard output."""
    if as_json:
        echo_json([one.as_json() for one in approvals])
        return
    console = Stdout()
    if not approvals:
        console.print_line("No approvals here, and no plan that waits for one.")
    for one in approvals:
        by = f"approved by {one.approved_by}, {_format_minute(one.approved_at)}" if one.approved_at else "not approved"
        line = f"{one.run_id}  {one.fingerprint}  {by}{_plan_in_words(one)}"
        console.print(Text(printable(line)), soft_wrap=True)


def show_lookup(summary: LookupSummary, output: OutputOptions) -> None:
    """Print the result of `holdings` or `compare`: warnings to standard error, the rest to standard output."""
    for warning in summary.warnings():
        ErrorConsole().print_line(f"warning: {warning}")
    if output.json:
        echo_json(summary.fields)
    elif not output.quiet:
        console = Stdout()
        for sentence in summary.sentences():
            console.print(sentence, soft_wrap=True)


def show_check(found: CheckResult, config: RunConfig) -> None:
    """Print the result of the check: success to standard output, failure to standard error."""
    stop = found.stop
    if stop is not None:
        ErrorConsole().print_line(f"Error: {stop.sentence}; {stop.advice.words()}")
    if config.output.json:
        echo_json(
            {
                "ok": stop is None,
                "baseUrl": config.sending.base_url,
                "reason": stop.sentence if stop else None,
                "proxy": found.proxy,
                "trust": found.trust,
                "seconds": {step: round(seconds, 3) for step, seconds in found.seconds.items()},
            }
        )
    elif not config.output.quiet:
        if stop is None:
            click.echo(f"{config.sending.base_url} is there, and it accepts this key.")
        click.echo(f"proxy: {found.proxy or 'none'}")
        if found.trust is not None:
            click.echo(f"trusted certificates: {found.trust}")
        if found.seconds:
            steps = (f"{_STEPS[step]} {1000 * seconds:.0f} ms" for step, seconds in found.seconds.items())
            click.echo(f"time: {', '.join(steps)}")
