"""Show a plan: what a run would send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from telemetron_batch.cli.console import PlainConsole
from telemetron_batch.cli.output import Stdout, counted, echo_json, new_table
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.delimiters import DELIMITER_NAMES
from telemetron_batch.domain.printable import printable
from telemetron_batch.storage.clock import duration, iso
from telemetron_batch.storage.commands import shard_command

if TYPE_CHECKING:  # commands that only list or check must not load what plans and sends
    from telemetron_batch.config.config import OutputOptions
    from telemetron_batch.domain.model import InputFile
    from telemetron_batch.planning.plan_summary import PlanSummary
    from telemetron_batch.run.save_plan import SavedPlan
    from telemetron_batch.sharding.shard_plan import ShardedPlan


def show_plan(plan: PlanSummary, console: PlainConsole, *, warnings: bool = True) -> None:
    """Print the plan as tables."""
    for file in plan.files:
        console.print_line(file_line(file))
        for warning in file.warnings if warnings else ():
            console.print_line(f"warning: {file.name}: {warning}")
    stages = new_table("stage", "action", "calls", "devices", title="Plan", right=(2, 3))
    for stage in plan.stages:
        stages.add_row(str(stage.number), stage.action, f"{stage.calls:,}", f"{stage.devices:,}")
    console.print(stages)
    for line in (
        *since_lines(plan),
        size_line(plan),
        not_sent_line(plan),
        *plan.owner_sentences,
        *plan.held_sentences,
        *preview_lines(plan),
    ):
        console.print_line(line)
    for warning in plan.warnings if warnings else ():
        console.print_line(f"warning: {warning}")
    if plan.problems:
        problems = new_table("problem", "rows", "first lines", title="Rows that will not be sent", right=(1,))
        for kind in plan.problems:
            problems.add_row(kind.title, f"{kind.rows:,}", _lines(kind.lines, kind.rows))
        console.print(problems)


def print_plan_result(plan: PlanSummary, output: OutputOptions) -> None:
    """Print the result of `plan` to standard output."""
    if output.json:
        echo_json(plan.as_json())
    else:
        show_plan(plan, Stdout(quiet=output.quiet))


def show_sharded(planned: ShardedPlan, output: OutputOptions) -> None:
    """Print a plan in shards and the next commands to standard output."""
    if output.json:
        echo_json(planned.as_json())
        return
    console = Stdout(quiet=output.quiet)
    show_plan(planned.summary, console)
    shards = new_table("shard", "unassign calls", "assign calls", "devices", title="Shards", right=(0, 1, 2, 3))
    for shard in planned.shards:
        calls = (f"{shard.calls[phase]:,}" for phase in Phase)
        shards.add_row(str(shard.number), *calls, f"{shard.devices:,}")
    console.print(shards)
    console.print_line("Run each shard on any machine that shares this folder, then report:")
    console.print_line(f"  {shard_command(planned.folder)}")


def show_saved(saved: SavedPlan, output: OutputOptions) -> None:
    """Print a saved plan, its fingerprint and the next command to standard output."""
    if output.json:
        echo_json(saved.as_json())
        return
    console = Stdout(quiet=output.quiet)
    show_plan(saved.summary, console)
    state = _STATES.get(saved.info.state, saved.info.state)
    line = f"Saved as run {printable(saved.folder.name)}, fingerprint {saved.short_fingerprint}: {state}."
    console.print_line("")
    console.print(Text(line, "bold"), soft_wrap=True)
    if saved.info.next_step != "nothing":
        console.print(Text(f"Next: {printable(saved.info.next_step)}"), soft_wrap=True)


_STATES: Final = {"planned": "nothing was sent", "awaitingApproval": "it waits for the approval of a second person"}


def preview_lines(plan: PlanSummary) -> list[str]:
    """Return what a look at the customers shows, and what it cannot show; nothing without a look."""
    if plan.preview is None:
        return []
    lines = [f"Online, {iso(plan.preview.looked_at)}: {plan.preview.sentence}"]
    if missed := plan.preview.customers_not_known:
        lines.append(f"{counted(missed, 'customer')} could not be queried")
    return [*lines, "Cannot be seen: whether Telemetron knows a device, and who else has it"]


def file_line(file: InputFile) -> str:
    """Return how a file is read: encoding, delimiter and columns."""
    columns = ", ".join(f'{field} is "{header}"' for field, header in file.columns.items())
    written = ", ".join(filter(None, (file.encoding, DELIMITER_NAMES.get(file.delimiter, ""))))
    return f"{file.name} ({written}): {columns}"


def since_lines(plan: PlanSummary) -> Sequence[str]:
    """Return the line about --since-last, if it is used."""
    return () if plan.since_last is None else (f"since last: {plan.since_last['told']}",)


def size_line(plan: PlanSummary) -> str:
    """Return how many rows, devices, customers and calls a plan has, and the shortest possible time."""
    shortest = plan.shortest_seconds
    time = "" if shortest is None else f", {duration(shortest)} or more at {plan.rate}"
    return (
        f"{counted(plan.rows, 'row')}: {counted(plan.devices, 'device')} of {counted(plan.customers, 'customer')} "
        f"in {counted(plan.calls, 'call')}{time}"
    )


def not_sent_line(plan: PlanSummary) -> str:
    """Return how many rows a plan leaves out, by kind."""
    unchanged = f"{plan.unchanged:,} unchanged, " if plan.since_last is not None else ""
    return f"{unchanged}{counted(plan.duplicates, 'duplicate')}, {plan.invalid:,} invalid"


def _lines(lines: Sequence[int], rows: int) -> str:
    return ", ".join(map(str, lines)) + (", ..." if rows > len(lines) else "")
