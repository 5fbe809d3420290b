"""Show the plan, progress and result of a run, and ask before sending.

Messages go to standard error, results to standard output; tables and colours on a terminal, plain lines elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final

import click
from rich.table import Table
from rich.text import Text

from telemetron_batch.cli.console import ConsoleThread, ErrorConsole, PlainConsole
from telemetron_batch.domain.actions import Action, Phase
from telemetron_batch.domain.delimiters import DELIMITER_NAMES
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.printable import json_text, printable
from telemetron_batch.domain.stops import ExitCode, StopReason
from telemetron_batch.reports.summary import verdict_sentence
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.clock import duration, iso
from telemetron_batch.storage.commands import command, rerun_command, shard_command

if TYPE_CHECKING:  # commands that only list or check must not load what plans and sends
    from telemetron_batch.api.check import CheckResult
    from telemetron_batch.comparison.summary import LookupSummary
    from telemetron_batch.config.config import OutputOptions, RunConfig
    from telemetron_batch.domain.model import InputFile
    from telemetron_batch.planning.plan_summary import PlanSummary
    from telemetron_batch.reports.summary import ShardSummary, Summary
    from telemetron_batch.run.approve import ApprovalInfo
    from telemetron_batch.run.listing import RunInfo
    from telemetron_batch.run.save_plan import SavedPlan
    from telemetron_batch.sending.progress import ProgressSnapshot
    from telemetron_batch.sharding.shard_plan import ShardedPlan

_UNWRAPPED_WIDTH: Final = 10_000
_YES: Final = frozenset({"y", "yes", "j", "ja", "o", "oui", "s", "si", "sí"})
_NO: Final = frozenset({"n", "no", "nein", "non"})
_SHOWN_WHEN_QUIET: Final = frozenset(
    {ExitCode.ATTENTION, ExitCode.STOPPED, ExitCode.CLIENT_REFUSED, ExitCode.BRAKE, ExitCode.UNBALANCED}
)
"""Exit codes for which --quiet still prints one line, so that cron sends a mail."""
_MIN_RATE_SECONDS: Final = 10
"""No rate is shown for a shorter time."""


class _Stdout(PlainConsole):
    """Standard output; unlike rich, raises BrokenPipeError on a closed pipe instead of exiting with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class TerminalObserver(RunObserver):
    """Shows a running run on standard error, and asks there on a terminal."""

    def __init__(self, output: OutputOptions, *, file: IO[str] | None = None) -> None:
        self._output = output
        self._console = ErrorConsole(quiet=output.quiet, file=file)
        self._printer = ConsoleThread(self._console, progress=output.progress)

    def confirm_plan(self, plan: PlanSummary) -> bool:
        """Show the plan; on a terminal, ask whether to send it."""
        if not self._asks():
            lines = (
                *map(_file_line, plan.files),
                *_since_lines(plan),
                f"{_size_line(plan)}; {_not_sent_line(plan)}",
                *plan.owner_sentences,
                *plan.held_sentences,
                *_preview_lines(plan),
            )
            for line in lines:
                self._printer.say(line)
            return True
        show_plan(plan, self._console, warnings=False)  # `on_message` has printed them
        if not plan.calls:
            return True
        self._console.print_line("")
        for sentence in plan.non_defaults:
            self._console.print_line(sentence)
        return ask_yes_no(_question(plan))

    def confirm_repeat(self, previous_run: str) -> bool:
        """Ask whether to process content that an earlier run has processed."""
        question = f"Run {printable(previous_run)} has already processed exactly this content. Process it again?"
        return self._asks() and ask_yes_no(question)

    def on_message(self, kind: str, text: str) -> None:
        """Print the message as one line."""
        self._printer.say(f"{kind}: {text}")

    def wants_progress(self) -> bool:
        """Return whether progress is shown."""
        return self._printer.wants_progress

    def on_start(self) -> None:
        """Start the thread that prints."""
        self._printer.start()

    def on_progress(self, snapshot: ProgressSnapshot) -> None:
        """Show progress."""
        self._printer.show(snapshot)

    def on_stop(self) -> None:
        """Print what is queued and end the thread."""
        self._printer.end()

    def _asks(self) -> bool:
        return not self._output.yes and sys.stdin.isatty() and sys.stdout.isatty()


def ask_yes_no(question: str) -> bool:
    """Ask a yes-or-no question; return whether the answer is yes. Enter means no."""

    def answer(text: str) -> bool:
        word = text.strip().lower()
        if word not in _YES | _NO:
            raise click.BadParameter("answer y or n")
        return word in _YES

    return bool(click.prompt(f"{question} [y/N]", default="n", show_default=False, value_proc=answer, err=True))


def _question(plan: PlanSummary) -> str:
    """Return the question before sending: how many devices are taken and given."""
    taken, given = (plan.action_counts[action] for action in (Action.UNASSIGN, Action.ASSIGN))
    parts = []
    if taken.devices:
        parts.append(f"take {_counted(taken.devices, 'device')} from {_counted(taken.customers, 'customer')}")
    if given.devices:
        parts.append(f"give {_counted(given.devices, 'device')} to {_counted(given.customers, 'customer')}")
    question = " and ".join(parts)
    return f"{question[:1].upper()}{question[1:]}?"


def show_plan(plan: PlanSummary, console: PlainConsole, *, warnings: bool = True) -> None:
    """Print the plan as tables."""
    for file in plan.files:
        console.print_line(_file_line(file))
        for warning in file.warnings if warnings else ():
            console.print_line(f"warning: {file.name}: {warning}")
    stages = _table("stage", "action", "calls", "devices", title="Plan", right=(2, 3))
    for stage in plan.stages:
        stages.add_row(str(stage.number), stage.action, f"{stage.calls:,}", f"{stage.devices:,}")
    console.print(stages)
    for line in (
        *_since_lines(plan),
        _size_line(plan),
        _not_sent_line(plan),
        *plan.owner_sentences,
        *plan.held_sentences,
        *_preview_lines(plan),
    ):
        console.print_line(line)
    for warning in plan.warnings if warnings else ():
        console.print_line(f"warning: {warning}")
    if plan.problems:
        problems = _table("problem", "rows", "first lines", title="Rows that will not be sent", right=(1,))
        for kind in plan.problems:
            problems.add_row(kind.title, f"{kind.rows:,}", _lines(kind.lines, kind.rows))
        console.print(problems)


def _preview_lines(plan: PlanSummary) -> list[str]:
    """Return what a look at the customers shows, and what it cannot show; nothing without a look."""
    if plan.preview is None:
        return []
    lines = [f"Online, {iso(plan.preview.looked_at)}: {plan.preview.sentence}"]
    if missed := plan.preview.customers_not_known:
        lines.append(f"{_counted(missed, 'customer')} could not be queried")
    return [*lines, "Cannot be seen: whether Telemetron knows a device, and who else has it"]


def show_end(summary: Summary, output: OutputOptions) -> None:
    """Print the result of a run to standard output: counts and next steps, or one line with --json."""
    fields = summary.fields
    for line in _error_lines(summary, quiet=output.quiet):
        ErrorConsole().print_line(line)
    if output.json:
        _echo_json(summary.fields)
        return
    if output.quiet:
        return
    console = _Stdout()
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


def _echo_json(value: Any) -> None:
    """Print one line of JSON to standard output, in ASCII unless it accepts Unicode."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    click.echo(json_text(value, ensure_ascii=not is_unicode))


def print_plan_result(plan: PlanSummary, output: OutputOptions) -> None:
    """Print the result of `plan` to standard output."""
    if output.json:
        _echo_json(plan.as_json())
    else:
        show_plan(plan, _Stdout(quiet=output.quiet))


def show_sharded(planned: ShardedPlan, output: OutputOptions) -> None:
    """Print a plan in shards and the next commands to standard output."""
    if output.json:
        _echo_json(planned.as_json())
        return
    console = _Stdout(quiet=output.quiet)
    show_plan(planned.summary, console)
    shards = _table("shard", "unassign calls", "assign calls", "devices", title="Shards", right=(0, 1, 2, 3))
    for shard in planned.shards:
        calls = (f"{shard.calls[phase]:,}" for phase in Phase)
        shards.add_row(str(shard.number), *calls, f"{shard.devices:,}")
    console.print(shards)
    console.print_line("Run each shard on any machine that shares this folder, then report:")
    console.print_line(f"  {shard_command(planned.folder)}")


def show_saved(saved: SavedPlan, output: OutputOptions) -> None:
    """Print a saved plan, its fingerprint and the next command to standard output."""
    if output.json:
        _echo_json(saved.as_json())
        return
    console = _Stdout(quiet=output.quiet)
    show_plan(saved.summary, console)
    state = _STATES.get(saved.info.state, saved.info.state)
    line = f"Saved as run {printable(saved.folder.name)}, fingerprint {saved.short_fingerprint}: {state}."
    console.print_line("")
    console.print(Text(line, "bold"), soft_wrap=True)
    if saved.info.next_step != "nothing":
        console.print(Text(f"Next: {printable(saved.info.next_step)}"), soft_wrap=True)


_STATES: Final = {"planned": "nothing was sent", "awaitingApproval": "it waits for the approval of a second person"}


def show_approved(approved: ApprovalInfo, *, as_json: bool) -> None:
    """Print a new approval to standard output."""
    if as_json:
        _echo_json(approved.as_json())
        return
    plan = _plan_in_words(approved)
    _Stdout().print_line(f"Approved: run {approved.run_id}, fingerprint {approved.fingerprint}{plan}.")


def _plan_in_words(approved: ApprovalInfo) -> str:
    """Return what a plan would send, and who planned it; "" once the run has begun."""
    counts = approved.counts
    if counts is None:
        return ""
    devices, customers = _counted(counts["devices"], "device"), _counted(counts["customers"], "customer")
    return f": {devices} of {customers} in {_counted(counts['calls'], 'call')}, planned by {approved.planned_by}"


def show_revoked(run_id: str, *, as_json: bool) -> None:
    """Print that the approval of a run was removed."""
    if as_json:
        _echo_json({"runId": run_id, "revoked": True})
    else:
        _Stdout().print_line(f"Revoked: the approval of run {run_id}. A run that has sent already is not stopped.")


def show_approvals(approvals: Sequence[ApprovalInfo], *, as_json: bool) -> None:
    """Print approvals, and plans that wait for one, to standard output."""
    if as_json:
        _echo_json([one.as_json() for one in approvals])
        return
    console = _Stdout()
    if not approvals:
        console.print_line("No approvals here, and no plan that waits for one.")
    for one in approvals:
        by = f"approved by {one.approved_by}, {_format_minute(one.approved_at)}" if one.approved_at else "not approved"
        line = f"{one.run_id}  {one.fingerprint}  {by}{_plan_in_words(one)}"
        console.print(Text(printable(line)), soft_wrap=True)


def show_shard(summary: ShardSummary, output: OutputOptions) -> None:
    """Print the result of work on a shard to standard output: counts, or one line with --json."""
    fields = summary.fields
    if fields["stop"]:
        ErrorConsole().print_line(_stop_sentence(fields["stop"]))
    if output.json:
        _echo_json(summary.fields)
    elif not output.quiet:
        console = _Stdout()
        settled = f"{fields['callsSettled']:,} of {_counted(fields['calls'], 'call')}"
        outcomes = "".join(f", {count:,} {outcome}" for outcome, count in fields["counts"].items())
        console.print_line(f"Shard {fields['shard']} of {fields['shards']}: {settled} settled{outcomes}")


def show_runs(runs: Sequence[RunInfo], *, as_json: bool, unreadable: int = 0) -> None:
    """Print a list of runs to standard output; `unreadable` is the number of runs that could not be read."""
    if as_json:
        _echo_json([line.as_json() for line in runs])
        return
    console = _Stdout()
    if not runs:
        others = f" but {_counted(unreadable, 'other')} that could not be read" if unreadable else ""
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
    console.print_line(f"  {line.input}, {_counted(line.rows, 'row')}: {line.state}{attention}")
    if line.next_step != "nothing":
        console.print(Text(f"  {printable(line.next_step)}", "yellow"), soft_wrap=True)


def _runs_table(runs: Sequence[RunInfo]) -> Table:
    """Return a table with one unwrapped line for each run, for grep and cut."""
    table = _table("started", "run", "input", "rows", "state", "attention", "next", right=(3, 5))
    for line in runs:
        attention = f"{line.attention:,}" if line.attention else ""
        cells = (line.input, f"{line.rows:,}", line.state, attention, line.next_step)
        table.add_row(_format_minute(line.started_at), line.run_id, *cells)
    for column in table.columns:
        column.no_wrap = True
    return table


def _format_minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def show_lookup(summary: LookupSummary, output: OutputOptions) -> None:
    """Print the result of `holdings` or `compare`: warnings to standard error, the rest to standard output."""
    for warning in summary.warnings():
        ErrorConsole().print_line(f"warning: {warning}")
    if output.json:
        _echo_json(summary.fields)
    elif not output.quiet:
        console = _Stdout()
        for sentence in summary.sentences():
            console.print(sentence, soft_wrap=True)


def show_check(found: CheckResult, config: RunConfig) -> None:
    """Print the result of the check: success to standard output, failure to standard error."""
    stop = found.stop
    if stop is not None:
        ErrorConsole().print_line(f"Error: {stop.sentence}; {stop.advice.words()}")
    if config.output.json:
        _echo_json(
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


_STEPS: Final = {"dns": "DNS", "connect": "connect", "tls": "TLS", "answer": "answer"}


def _outcomes(summary: Summary) -> Table:
    """Return a table of the outcomes that occur, with their meanings."""
    table = _table("outcome", "rows", "attention", "", right=(1, 2))
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
    calls = _counted(fields["calls"], "call")
    settled = calls if fields["callsSettled"] == fields["calls"] else f"{fields['callsSettled']:,} of {calls} settled"
    reached = fields["rateReached"]
    rate = f", {reached:,.1f} per second" if reached and fields["sendingSeconds"] >= _MIN_RATE_SECONDS else ""
    yield f"{settled}, {_counted(fields['attempts'], 'attempt')} in {duration(fields['sendingSeconds'])}{rate}."
    pauses = sum(event["kind"] == "hold" for event in fields["events"])
    outages = sum(event["kind"] == "down" for event in fields["events"])
    if pauses or outages:
        trouble = (pauses and f"asked to wait {_times(pauses)}", outages and f"was down {_times(outages)}")
        yield f"The API {' and '.join(filter(None, trouble))}; the report shows when."


def _preview_result(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many rows have an outcome that differs from the preview."""
    if changed := fields.get("rowsChangedByOthers"):
        yield f"{_counted(changed, 'row')} ended otherwise than the preview: their customers have been changed since."


def _remaining_lines(summary: Summary) -> Iterator[str]:
    """Yield what the customers of a list without assigns have left."""
    fields, counts = summary.fields, summary.counts
    if any(counts.get(outcome) for outcome in (Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.HELD)):
        return
    without, holding = fields.get("customersWithoutDevices", 0), fields.get("customersStillHolding", 0)
    if without:
        yield f"{_counted(without, 'customer')} {'has' if without == 1 else 'have'} no device left."
    if holding:
        yield f"{_counted(holding, 'customer')} still {'has' if holding == 1 else 'have'} devices: see report.html."


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
        f"Verified {_counted(verify['customersAsked'], 'customer')}: the API agrees with the outcome of "
        f"{_counted(rows['yes'], 'row')}{settled} and contradicts {rows['no']:,}."
    )
    if missed:
        yield f"The API did not answer for {_counted(missed, 'customer')}: verify the run again."


def _file_line(file: InputFile) -> str:
    """Return how a file is read: encoding, delimiter and columns."""
    columns = ", ".join(f'{field} is "{header}"' for field, header in file.columns.items())
    written = ", ".join(filter(None, (file.encoding, DELIMITER_NAMES.get(file.delimiter, ""))))
    return f"{file.name} ({written}): {columns}"


def _since_lines(plan: PlanSummary) -> Sequence[str]:
    """Return the line about --since-last, if it is used."""
    return () if plan.since_last is None else (f"since last: {plan.since_last['told']}",)


def _size_line(plan: PlanSummary) -> str:
    shortest = plan.shortest_seconds
    time = "" if shortest is None else f", {duration(shortest)} or more at {plan.rate}"
    return (
        f"{_counted(plan.rows, 'row')}: {_counted(plan.devices, 'device')} of {_counted(plan.customers, 'customer')} "
        f"in {_counted(plan.calls, 'call')}{time}"
    )


def _not_sent_line(plan: PlanSummary) -> str:
    unchanged = f"{plan.unchanged:,} unchanged, " if plan.since_last is not None else ""
    return f"{unchanged}{_counted(plan.duplicates, 'duplicate')}, {plan.invalid:,} invalid"


def _table(*headings: str, right: Sequence[int], title: str | None = None) -> Table:
    """Return a table without borders; columns in `right` are right-aligned."""
    table = Table(*headings, box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.title = Text(f"\n{title}", "bold") if title else None
    for column in right:
        table.columns[column].justify = "right"
    return table


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _lines(lines: Sequence[int], rows: int) -> str:
    return ", ".join(map(str, lines)) + (", ..." if rows > len(lines) else "")
