"""Show how a run, or the work on a shard, ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from telemetron_batch.cli.console import ErrorConsole
from telemetron_batch.cli.output import Stdout, counted, echo_json, new_table
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.stops import ExitCode, StopReason
from telemetron_batch.reports.summary import verdict_sentence
from telemetron_batch.storage.clock import duration
from telemetron_batch.storage.commands import command, rerun_command

if TYPE_CHECKING:  # commands that only list or check must not load what plans and sends
    from telemetron_batch.config.config import OutputOptions
    from telemetron_batch.reports.summary import ShardSummary, Summary

_SHOWN_WHEN_QUIET: Final = frozenset(
    {ExitCode.ATTENTION, ExitCode.STOPPED, ExitCode.CLIENT_REFUSED, ExitCode.BRAKE, ExitCode.UNBALANCED}
)
"""Exit codes for which --quiet still prints one line, so that cron sends a mail."""

_MIN_RATE_SECONDS: Final = 10
"""No rate is shown for a shorter time."""


def show_end(summary: Summary, output: OutputOptions) -> None:
    """Print the result of a run to standard output: counts and next steps, or one line with --json."""
    fields = summary.fields
    for line in _error_lines(summary, quiet=output.quiet):
        ErrorConsole().print_line(line)
    if output.json:
        echo_json(summary.fields)
        return
    if output.quiet:
        return
    console = Stdout()
    if console.is_screen:
        console.print_line("")
    console.print(_outcomes(summary))
    for line in _sending_lines(fields):
        console.print_line(line)
    verdict = f"{verdict_sentence(fields, fixed=True)}."
    console.print(Text(verdict, "bold"), soft_wrap=not console.is_screen)
    for line in (*_remaining_lines(summary), *_preview_result(fields), *_verification_lines(fields)):
        console.print_line(line)
    if fields.get("published"):
        console.print(f"Published to {fields['published']}", soft_wrap=True)
    for line in _next_steps(summary):
        console.print(line, soft_wrap=True)


def _error_lines(summary: Summary, *, quiet: bool) -> Iterator[str]:
    """Yield the lines for standard error at the end of a run: why it stopped and, with --quiet, its verdict."""
    fields = summary.fields
    if fields["stop"]:
        yield from _stop_lines(fields)
    if quiet and summary.exit_code in _SHOWN_WHEN_QUIET:
        yield _verdict_line(summary)


def _verdict_line(summary: Summary) -> str:
    """Return the run id, the verdict and the file to open, in one line."""
    name = summary.attention_files[-1] if summary.fields["attention"] else "report.html"
    verdict = verdict_sentence(summary.fields, fixed=True)
    return f"{summary.fields['runId']}: {verdict}; {(summary.folder / name).absolute()}"


def _next_steps(summary: Summary) -> Iterator[str]:
    """Yield the files to open and the commands to run next; they are not wrapped."""
    fields, name = summary.fields, summary.attention_files[-1]
    yield f"See {summary.folder / 'report.html'}"
    if fields["attention"]:
        yield f"and {summary.folder / name}"
        if ".new" in name:
            yield "(a new file: the earlier one was edited and is kept)"
    if fields["stop"]:
        return
    base_url = fields.get("baseUrlFlag")
    if fields["attention"]:
        feed = rerun_command(summary.folder, name, sandbox=fields["sandbox"], base_url=base_url)
        yield f"Correct it there, then run: {feed}"
    if fields.get("undoRows"):
        yield f"To take it back: {command('undo', summary.folder, base_url)}"


def show_shard(summary: ShardSummary, output: OutputOptions) -> None:
    """Print the result of work on a shard to standard output: counts, or one line with --json."""
    fields = summary.fields
    if fields["stop"]:
        ErrorConsole().print_line(_stop_sentence(fields["stop"]))
    if output.json:
        echo_json(summary.fields)
    elif not output.quiet:
        console = Stdout()
        settled = f"{fields['callsSettled']:,} of {counted(fields['calls'], 'call')}"
        outcomes = "".join(f", {count:,} {outcome}" for outcome, count in fields["counts"].items())
        console.print_line(f"Shard {fields['shard']} of {fields['shards']}: {settled} settled{outcomes}")


def _outcomes(summary: Summary) -> Table:
    """Return a table of the outcomes that occur, with their meanings."""
    table = new_table("outcome", "rows", "attention", "", right=(1, 2))
    wanting = summary.fields["attentionByOutcome"]
    for outcome, count in summary.counts.items():
        if count:
            attention = f"{wanting[outcome]:,}" if wanting.get(outcome) else ""
            table.add_row(outcome, f"{count:,}", Text(attention, "bold yellow"), Text(outcome.facts.sentence, "dim"))
    return table


def _sending_lines(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was sent, how fast, and which pauses and outages there were."""
    if not fields["attempts"]:
        return
    calls = counted(fields["calls"], "call")
    settled = calls if fields["callsSettled"] == fields["calls"] else f"{fields['callsSettled']:,} of {calls} settled"
    reached = fields["rateReached"]
    rate = f", {reached:,.1f} per second" if reached and fields["sendingSeconds"] >= _MIN_RATE_SECONDS else ""
    yield f"{settled}, {counted(fields['attempts'], 'attempt')} in {duration(fields['sendingSeconds'])}{rate}."
    pauses = sum(event["kind"] == "hold" for event in fields["events"])
    outages = sum(event["kind"] == "down" for event in fields["events"])
    if pauses or outages:
        trouble = (pauses and f"asked to wait {_times(pauses)}", outages and f"was down {_times(outages)}")
        yield f"The API {' and '.join(filter(None, trouble))}; the report shows when."


def _preview_result(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many rows have an outcome that differs from the preview."""
    if changed := fields.get("rowsChangedByOthers"):
        yield f"{counted(changed, 'row')} ended otherwise than the preview: their customers have been changed since."


def _remaining_lines(summary: Summary) -> Iterator[str]:
    """Yield what the customers of a list without assigns have left."""
    fields, counts = summary.fields, summary.counts
    if any(counts.get(outcome) for outcome in (Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.HELD)):
        return
    without, holding = fields.get("customersWithoutDevices", 0), fields.get("customersStillHolding", 0)
    if without:
        yield f"{counted(without, 'customer')} {'has' if without == 1 else 'have'} no device left."
    if holding:
        yield f"{counted(holding, 'customer')} still {'has' if holding == 1 else 'have'} devices: see report.html."


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _stop_sentence(stop: Mapping[str, str]) -> str:
    """Return why work stopped and what to do."""
    says_stopped = stop.get("code") == StopReason.INTERRUPTED
    reason = stop["reason"][:1].upper() + stop["reason"][1:] if says_stopped else f"Stopped: {stop['reason']}"
    return f"{reason}; {stop['advice']}."


def _stop_lines(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a run stopped, and which files could not be written or published."""
    yield _stop_sentence(fields["stop"])
    yield from (f"warning: {error}" for error in fields.get("unwritten", ()) if error not in fields["stop"]["reason"])
    if fields["state"] == "stopped" and fields.get("unpublished"):
        yield f"warning: not published to {fields['unpublished']}"


def _verification_lines(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the result of the verification, if there was one."""
    verify = fields.get("verify")
    if verify is None:
        return
    rows, missed = verify["rows"], verify["customersMissed"]
    settled = f" ({verify['rowsSettled']:,} settled by it)" if verify["rowsSettled"] else ""
    yield (
        f"Verified {counted(verify['customersAsked'], 'customer')}: the API agrees with the outcome of "
        f"{counted(rows['yes'], 'row')}{settled} and contradicts {rows['no']:,}."
    )
    if missed:
        yield f"The API did not answer for {counted(missed, 'customer')}: verify the run again."
