"""The commands `prune` and `forget`: how long runs and addresses are kept."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from telemetron_batch.cli.arguments import REPORTS_DIR, SHARED_REPORTS_DIR, VERBOSE
from telemetron_batch.cli.arrow import import_pyarrow_without_pandas
from telemetron_batch.cli.errors import exit_on_error, print_error, tolerate_closed_stdout
from telemetron_batch.cli.help import HelpCommand, choose
from telemetron_batch.domain.printable import json_text, printable
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.storage.trusted_folders import shared_with_group

if TYPE_CHECKING:
    from telemetron_batch.retention.forget import ForgetResult
    from telemetron_batch.retention.prune import PruneResult

_PRUNE_CODES = {
    ExitCode.DONE: "All old runs that nothing needs are removed.",
    ExitCode.ATTENTION: "Some runs are not yours, damaged, edited, or hold files of others: they are named and stay.",
    ExitCode.NOT_STARTED: "The options cannot be used, or the answer was no: nothing was removed.",
    ExitCode.STOPPED: "The disk refused to write; run the same command again.",
    ExitCode.LOCKED: "Another prune or forget uses this reports folder.",
    **choose(ExitCode.UNBALANCED),
}
_FORGET_CODES = {
    ExitCode.DONE: "No file of the reports folder has the addresses.",
    ExitCode.ATTENTION: "The files that are named still have them, or cannot be searched.",
    ExitCode.NOT_STARTED: "An address or an option cannot be used: nothing was changed.",
    ExitCode.STOPPED: "Stopped before the end; run the same command again.",
    ExitCode.LOCKED: "Another prune or forget uses this reports folder.",
    **choose(ExitCode.UNBALANCED),
}
_JSON = click.option("--json", "as_json", is_flag=True, help="Write one line of JSON to standard output.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def _read_keep(_: click.Context, __: click.Parameter, text: str) -> float:
    from telemetron_batch.config.option_values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


@click.command("prune", cls=HelpCommand, example="telemetron-batch prune --keep 90d", exit_codes=_PRUNE_CODES)
@click.option(
    "--keep", "keep_s", required=True, metavar="DURATION", callback=_read_keep, help="Runs that ended earlier go."
)
@_DRY_RUN
@click.option("--yes", "-y", is_flag=True, help="Do not ask before removing.")
@click.option(
    "--forget-devices",
    is_flag=True,
    help="Also remove what earlier runs tell of customers and devices, on which --owners runs relies.",
)
@REPORTS_DIR
@SHARED_REPORTS_DIR
@_JSON
@VERBOSE
def prune_command(keep_s: float, reports_dir: str, *, shared_reports_dir: bool, yes: bool, **flags: bool) -> None:
    """Remove the folders of old finished runs.

    The newest finished run of each job stays, and what an unfinished run or --since-last needs. A line of each
    removed run is kept, by which later runs know it. On a terminal it asks first.
    """
    import_pyarrow_without_pandas()
    from telemetron_batch.retention.prune import PruneRequest, prune

    def confirm(result: "PruneResult") -> bool:
        return yes or not sys.stdin.isatty() or click.confirm(f"Remove {_sizes(result)}?", err=True)

    shown = {name: flags.pop(name) for name in ("as_json", "verbose")}
    with exit_on_error(**shown), shared_with_group(shared_reports_dir):
        request = PruneRequest(Path(reports_dir), keep_s, **flags)
        result = prune(request, confirm=confirm, warn=lambda text: print_error(f"warning: {text}"))
        with tolerate_closed_stdout():
            _show_pruned(result, **shown)
    raise SystemExit(result.exit_code)


def _show_pruned(result: "PruneResult", *, as_json: bool, verbose: bool) -> None:
    for run_id, reason in sorted(result.left.items()):
        print_error(f"warning: run {run_id} stays: {reason}")
    if as_json:
        click.echo(json_text(result.as_json(), ensure_ascii=True))
        return
    for run_id, reason in sorted(result.kept.items()) if verbose or result.dry_run else ():
        click.echo(printable(f"stays: {run_id}: {reason}"))
    for run in result.removed if result.dry_run else ():
        click.echo(printable(f"would go: {run.run_id}"))
    click.echo(f"{'Would remove' if result.dry_run else 'Removed'} {_sizes(result)}; {len(result.kept)} more stay.")


def _sizes(result: "PruneResult") -> str:
    """Return the number and the size of the removed runs in words."""
    size, unit = float(result.size), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    runs = len(result.removed)
    return f"{runs:,} run{'' if runs == 1 else 's'} ({size:.{1 if unit else 0}f} {_UNITS[unit]})"


@click.command(
    "forget", cls=HelpCommand, example="telemetron-batch forget ann@example.com --dry-run", exit_codes=_FORGET_CODES
)
@click.argument("email", metavar="EMAIL or -")
@_DRY_RUN
@REPORTS_DIR
@SHARED_REPORTS_DIR
@_JSON
@VERBOSE
def forget_command(email: str, reports_dir: str, *, shared_reports_dir: bool, dry_run: bool, **shown: bool) -> None:
    """Remove the address EMAIL from all finished runs.

    Replaces it by a random value. With - it reads the addresses from standard input, one a line; other users can see
    the arguments of a command. It names what still has an address: runs that have not finished, and copies.
    """
    import_pyarrow_without_pandas()
    from telemetron_batch.retention.forget import ForgetRequest, forget

    with exit_on_error(**shown), shared_with_group(shared_reports_dir):
        addresses = _addresses_of_stdin() if email == "-" else [email]
        result = forget(ForgetRequest(Path(reports_dir), addresses, dry_run))
        with tolerate_closed_stdout():
            _show_forgotten(result, as_json=shown["as_json"])
    raise SystemExit(result.exit_code)


def _addresses_of_stdin() -> list[str]:
    from telemetron_batch.domain.errors import InputError

    stream: Any = sys.stdin.buffer
    try:
        return str(stream.read().decode("utf-8-sig")).splitlines()
    except UnicodeDecodeError as exc:
        raise InputError("standard input is not UTF-8", "save the list as UTF-8, one address a line") from exc


def _show_forgotten(result: "ForgetResult", *, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(result.as_json(), ensure_ascii=True))
        return
    for path, reason in sorted(result.remaining.items()):
        print_error(f"warning: {path}: {reason}")
    addresses = "1 address" if result.addresses == 1 else f"{result.addresses:,} addresses"
    if not result.changed:
        click.echo(f"No finished run has {addresses if result.addresses == 1 else f'any of {addresses}'}.")
    else:
        verb = "Would replace" if result.dry_run else "Replaced"
        click.echo(printable(f"{verb} {addresses} in {', '.join(result.changed)}."))
