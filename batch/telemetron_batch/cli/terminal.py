"""What a person sees: the plan before a run, its progress, and its end.

Talk goes to standard error, results to standard output; on a terminal with rich,
elsewhere in plain lines. Decides nothing and counts nothing.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click
from rich.table import Table
from rich.text import Text

from telemetron_batch.cli.console import ConsoleThread, ErrorConsole, PlainConsole
from telemetron_batch.config.config import OutputOptions, RunConfig
from telemetron_batch.domain.actions import Action, Phase
from telemetron_batch.domain.delimiters import DELIMITER_NAMES
from telemetron_batch.domain.model import InputFile
from telemetron_batch.domain.printable import json_text, printable
from telemetron_batch.domain.stops import ExitCode, Stop, StopReason
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.reports.summary import ShardSummary, Summary, verdict_sentence
from telemetron_batch.run.listing import RunInfo
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.progress import ProgressSnapshot, duration
from telemetron_batch.sharding.shard_plan import ShardedPlan
from telemetron_batch.storage.commands import command, feed_command, shard_command

_NO_LIMIT: Final = 10_000
_YES: Final = frozenset({"y", "yes", "j", "ja", "o", "oui", "s", "si", "sí"})
_NO: Final = frozenset({"n", "no", "nein", "non"})
_TOLD_QUIETLY: Final = frozenset(
    {ExitCode.ATTENTION, ExitCode.STOPPED, ExitCode.CLIENT_REFUSED, ExitCode.BRAKE, ExitCode.UNBALANCED}
)
"""Exit codes at which --quiet leaves one line for whoever reads the mail of a night job."""
_LONG_ENOUGH: Final = 10
"""Seconds over which a rate means something."""


class _Stdout(PlainConsole):
    """Standard output; a closed pipe is for the command to deal with, not a reason to exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class TerminalObserver(RunObserver):
    """Shows a run as it goes on standard error, and asks there where that is wanted."""

    def __init__(self, talk: OutputOptions) -> None:
        self._talk = talk
        self._console = ErrorConsole(quiet=talk.quiet)
        self._voice = ConsoleThread(self._console, progress=talk.progress)

    def confirm_plan(self, plan: PlanSummary) -> bool:
        """Show the plan; on a terminal ask whether to go on."""
        if not self._asks():
            lines = (*map(_reading, plan.files), *_since(plan), f"{_size(plan)}; {_left_out(plan)}", *plan.held)
            for line in lines:
                self._voice.say(line)
            return True
        show_plan(plan, self._console, warnings=False)  # `told` has said them
        if not plan.calls:
            return True
        self._console.print_line("")
        return agree(_question(plan))

    def confirm_repeat(self, former: str) -> bool:
        """Ask whether to process content that a former run has processed."""
        question = f"Run {printable(former)} has already processed exactly this content. Process it again?"
        return self._asks() and agree(question)

    def on_message(self, kind: str, text: str) -> None:
        """Say it in one line."""
        self._voice.say(f"{kind}: {text}")

    def wants_progress(self) -> bool:
        """Unless it is to be quiet."""
        return self._voice.wants_views

    def on_start(self) -> None:
        """From now on a thread does the talking."""
        self._voice.start()

    def on_progress(self, view: ProgressSnapshot) -> None:
        """Have it shown."""
        self._voice.show(view)

    def on_stop(self) -> None:
        """Say the rest."""
        self._voice.end()

    def _asks(self) -> bool:
        return not self._talk.yes and sys.stdin.isatty() and sys.stdout.isatty()


def agree(question: str) -> bool:
    """Ask a question that is answered yes or no; Enter means no."""

    def answer(text: str) -> bool:
        word = text.strip().lower()
        if word not in _YES | _NO:
            raise click.BadParameter("answer y or n")
        return word in _YES

    return bool(click.prompt(f"{question} [y/N]", default="n", show_default=False, value_proc=answer, err=True))


def _question(plan: PlanSummary) -> str:
    """What is about to be done, in the words of the people who do it."""
    taken, given = (plan.reach[action] for action in (Action.UNASSIGN, Action.ASSIGN))
    parts = []
    if taken.devices:
        parts.append(f"take {_counted(taken.devices, 'device')} from {_counted(taken.customers, 'customer')}")
    if given.devices:
        parts.append(f"give {_counted(given.devices, 'device')} to {_counted(given.customers, 'customer')}")
    question = " and ".join(parts)
    return f"{question[:1].upper()}{question[1:]}?"


def show_plan(plan: PlanSummary, console: PlainConsole, *, warnings: bool = True) -> None:
    """The plan as tables for people."""
    for file in plan.files:
        console.print_line(_reading(file))
        for warning in file.warnings if warnings else ():
            console.print_line(f"warning: {file.name}: {warning}")
    stages = _table("stage", "action", "calls", "devices", title="Plan", right=(2, 3))
    for stage in plan.stages:
        stages.add_row(str(stage.number), stage.action, f"{stage.calls:,}", f"{stage.devices:,}")
    console.print(stages)
    for line in (*_since(plan), _size(plan), _left_out(plan), *plan.held):
        console.print_line(line)
    for warning in plan.warnings if warnings else ():
        console.print_line(f"warning: {warning}")
    if plan.problems:
        problems = _table("problem", "rows", "first lines", title="Rows that will not be sent", right=(1,))
        for kind in plan.problems:
            problems.add_row(kind.title, f"{kind.rows:,}", _lines(kind.lines, kind.rows))
        console.print(problems)


def show_end(summary: Summary, talk: OutputOptions) -> None:
    """The end of a run: on standard output the counts and what to open next, or with --json one line."""
    fields = summary.fields
    for line in _trouble(summary, quiet=talk.quiet):
        ErrorConsole().print_line(line)
    if talk.json:
        _echo_json(summary.fields)
        return
    if talk.quiet:
        return
    console = _Stdout()
    if console.is_screen:
        console.print_line("")
    console.print(_outcomes(summary))
    for line in _sent(fields):
        console.print_line(line)
    verdict = f"{verdict_sentence(fields, fixed=True)}."
    console.print(Text(verdict, "bold"), soft_wrap=not console.is_screen)
    for line in _verified(fields):
        console.print_line(line)
    if fields.get("published"):
        console.print(f"Published to {fields['published']}", soft_wrap=True)
    for line in _next(summary):
        console.print(line, soft_wrap=True)


def _trouble(summary: Summary, *, quiet: bool) -> Iterator[str]:
    """What goes to standard error at the end of a run: why it stopped, and where nothing else is said, which it was."""
    fields = summary.fields
    if fields["stop"]:
        yield from _stop_lines(fields)
    if quiet and summary.exit_code in _TOLD_QUIETLY:
        yield _in_one_line(summary)


def _in_one_line(summary: Summary) -> str:
    """Which run it was, what it came to, and where to look."""
    name = summary.attention_files[-1] if summary.fields["attention"] else "report.html"
    verdict = verdict_sentence(summary.fields, fixed=True)
    return f"{summary.fields['runId']}: {verdict}; {(summary.folder / name).absolute()}"


def _next(summary: Summary) -> Iterator[str]:
    """What to open, and which commands may come next; paths and commands are not folded."""
    fields, name = summary.fields, summary.attention_files[-1]
    yield f"See {summary.folder / 'report.html'}"
    if fields["attention"]:
        yield f"and {summary.folder / name}"
        if ".new" in name:
            yield "(new, for the one that was written before has been edited, and is kept)"
    if fields["stop"]:
        return
    base_url = fields.get("baseUrlFlag")
    if fields["attention"]:
        feed = feed_command(summary.folder, name, sandbox=fields["sandbox"], base_url=base_url)
        yield f"Correct it there, then run: {feed}"
    if fields.get("undoRows"):
        yield f"To take it back: {command('undo', summary.folder, base_url)}"


def _echo_json(value: Any) -> None:
    """One line of JSON on standard output, valid whatever that can encode."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    click.echo(json_text(value, ensure_ascii=not is_unicode))


def show_planned(plan: PlanSummary, talk: OutputOptions) -> None:
    """What `plan` came to, on standard output."""
    if talk.json:
        _echo_json(plan.as_json())
    else:
        show_plan(plan, _Stdout(quiet=talk.quiet))


def show_sharded(planned: ShardedPlan, talk: OutputOptions) -> None:
    """What a plan in shards came to, on standard output, and how to go on."""
    if talk.json:
        _echo_json(planned.as_json())
        return
    console = _Stdout(quiet=talk.quiet)
    show_plan(planned.summary, console)
    shards = _table("shard", "unassign calls", "assign calls", "devices", title="Shards", right=(0, 1, 2, 3))
    for shard in planned.shards:
        calls = (f"{shard.calls[phase]:,}" for phase in Phase)
        shards.add_row(str(shard.number), *calls, f"{shard.devices:,}")
    console.print(shards)
    console.print_line("Run each where you like, then report:")
    console.print_line(f"  {shard_command(planned.folder)}")


def show_shard(summary: ShardSummary, talk: OutputOptions) -> None:
    """How the work on a shard ended: on standard output what it came to, or with --json one line."""
    fields = summary.fields
    if fields["stop"]:
        ErrorConsole().print_line(_stopped(fields["stop"]))
    if talk.json:
        _echo_json(summary.fields)
    elif not talk.quiet:
        console = _Stdout()
        settled = f"{fields['callsSettled']:,} of {_counted(fields['calls'], 'call')}"
        outcomes = "".join(f", {count:,} {outcome}" for outcome, count in fields["counts"].items())
        console.print_line(f"Shard {fields['shard']} of {fields['shards']}: {settled} settled{outcomes}")


def show_runs(lines: Sequence[RunInfo], *, as_json: bool, passed_over: int = 0) -> None:
    """A list of runs, on standard output; so many others could not be read."""
    if as_json:
        _echo_json([line.as_json() for line in lines])
        return
    console = _Stdout()
    if not lines:
        others = f" but {_counted(passed_over, 'other')} that could not be read" if passed_over else ""
        console.print_line(f"No runs here{others}.")
    elif console.is_screen:
        for line in lines:
            _show_run(line, console)
    else:
        console.width = _NO_LIMIT
        console.print(_runs_table(lines))


def _show_run(line: RunInfo, console: PlainConsole) -> None:
    """Two lines, for a terminal is too narrow for all of it beside one another."""
    attention = f", {line.attention:,} want attention" if line.attention else ""
    head = ((printable(line.run_id), "bold"), f"  {printable(_minute(line.started_at))}")
    console.print(Text.assemble(*head), soft_wrap=True)
    console.print_line(f"  {line.input}, {_counted(line.rows, 'row')}: {line.state}{attention}")
    if line.next_step != "nothing":
        console.print(Text(f"  {printable(line.next_step)}", "yellow"), soft_wrap=True)


def _runs_table(lines: Sequence[RunInfo]) -> Table:
    """A line for each run, however long, to be searched and cut."""
    table = _table("started", "run", "input", "rows", "state", "attention", "next", right=(3, 5))
    for line in lines:
        attention = f"{line.attention:,}" if line.attention else ""
        told = (line.input, f"{line.rows:,}", line.state, attention, line.next_step)
        table.add_row(_minute(line.started_at), line.run_id, *told)
    for column in table.columns:
        column.no_wrap = True
    return table


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def show_check(stop: Stop | None, config: RunConfig) -> None:
    """How the check went: well on standard output, otherwise on standard error."""
    if stop is not None:
        ErrorConsole().print_line(f"Error: {stop.sentence}; {stop.advice.words()}")
    if config.output.json:
        fields = {"ok": stop is None, "baseUrl": config.sending.base_url, "reason": stop.sentence if stop else None}
        _echo_json(fields)
    elif stop is None and not config.output.quiet:
        click.echo(f"{config.sending.base_url} is there, and it takes this key.")


def _outcomes(summary: Summary) -> Table:
    """The outcomes that occur, with what they mean."""
    table = _table("outcome", "rows", "attention", "", right=(1, 2))
    wanting = summary.fields["attentionByOutcome"]
    for outcome, count in summary.counts.items():
        if count:
            attention = f"{wanting[outcome]:,}" if wanting.get(outcome) else ""
            table.add_row(outcome, f"{count:,}", Text(attention, "bold yellow"), Text(outcome.facts.sentence, "dim"))
    return table


def _sent(fields: Mapping[str, Any]) -> Iterator[str]:
    """What was sent, how fast, and what got in the way."""
    if not fields["attempts"]:
        return
    calls = _counted(fields["calls"], "call")
    settled = calls if fields["callsSettled"] == fields["calls"] else f"{fields['callsSettled']:,} of {calls} settled"
    reached = fields["rateReached"]
    pace = f", {reached:,.1f} a second" if reached and fields["sendingSeconds"] >= _LONG_ENOUGH else ""
    yield f"{settled}, {_counted(fields['attempts'], 'attempt')} in {duration(fields['sendingSeconds'])}{pace}."
    refused = sum(event["kind"] == "hold" for event in fields["events"])
    outages = sum(event["kind"] == "down" for event in fields["events"])
    if refused or outages:
        told = (refused and f"asked to wait {_times(refused)}", outages and f"was out of reach {_times(outages)}")
        yield f"The API {' and '.join(filter(None, told))}; the report shows when."


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _stopped(stop: Mapping[str, str]) -> str:
    """Why, and what to do."""
    is_said = stop.get("code") == StopReason.INTERRUPTED
    reason = stop["reason"][:1].upper() + stop["reason"][1:] if is_said else f"Stopped: {stop['reason']}"
    return f"{reason}; {stop['advice']}."


def _stop_lines(fields: Mapping[str, Any]) -> Iterator[str]:
    """Why a run stopped, and what else could not be done."""
    yield _stopped(fields["stop"])
    yield from (f"warning: {error}" for error in fields.get("unwritten", ()) if error not in fields["stop"]["reason"])
    if fields["state"] == "stopped" and fields.get("unpublished"):
        yield f"warning: not published to {fields['unpublished']}"


def _verified(fields: Mapping[str, Any]) -> Iterator[str]:
    """What asking afterwards brought, if anybody asked."""
    told = fields.get("verify")
    if told is None:
        return
    rows, missed = told["rows"], told["customersMissed"]
    asked = f"Asked what {_counted(told['customersAsked'], 'customer')} hold now"
    settled = f" ({told['rowsSettled']:,} settled by that)" if told["rowsSettled"] else ""
    yield f"{asked}: {_counted(rows['yes'], 'row')} as their outcome says{settled}, {rows['no']:,} not."
    if missed:
        yield f"Of {_counted(missed, 'customer')} the API did not say it: verify the run again."


def _reading(file: InputFile) -> str:
    """How a file was understood."""
    columns = ", ".join(f'{field} is "{header}"' for field, header in file.columns.items())
    written = ", ".join(filter(None, (file.encoding, DELIMITER_NAMES.get(file.delimiter, ""))))
    return f"{file.name} ({written}): {columns}"


def _since(plan: PlanSummary) -> Sequence[str]:
    """What --since-last came to, in a line or none."""
    return () if plan.since is None else (f"since last: {plan.since['told']}",)


def _size(plan: PlanSummary) -> str:
    shortest = plan.shortest_seconds
    time = "" if shortest is None else f", {duration(shortest)} or more at {plan.rate}"
    return (
        f"{_counted(plan.rows, 'row')}: {_counted(plan.devices, 'device')} of {_counted(plan.customers, 'customer')} "
        f"in {_counted(plan.calls, 'call')}{time}"
    )


def _left_out(plan: PlanSummary) -> str:
    unchanged = f"{plan.unchanged:,} unchanged, " if plan.since is not None else ""
    return f"{unchanged}{_counted(plan.duplicates, 'duplicate')}, {plan.invalid:,} invalid"


def _table(*heads: str, right: Sequence[int], title: str | None = None) -> Table:
    """Columns without lines around them, those of numbers to the right; a title sets it off."""
    table = Table(*heads, box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.title = Text(f"\n{title}", "bold") if title else None
    for column in right:
        table.columns[column].justify = "right"
    return table


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _lines(lines: Sequence[int], rows: int) -> str:
    return ", ".join(map(str, lines)) + (", ..." if rows > len(lines) else "")
