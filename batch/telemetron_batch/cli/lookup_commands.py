"""The commands `holdings` and `compare`: what customers hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from telemetron_batch.cli import completion
from telemetron_batch.cli.arguments import CommandT, options_where, resolve_flags
from telemetron_batch.cli.arrow import import_pyarrow_without_pandas
from telemetron_batch.cli.errors import exit_on_error, tolerate_closed_stdout
from telemetron_batch.cli.help import HelpCommand, choose
from telemetron_batch.domain.stops import ExitCode

_LOOKUP_CODES = {
    ExitCode.DONE: "The file is complete.",
    ExitCode.ATTENTION: "The file is written; some of it wants attention.",
    ExitCode.NOT_STARTED: "No file: options or input are wrong, or it removes too much.",
    ExitCode.STOPPED: "No file yet: run the same command again, which continues.",
    **choose(ExitCode.CLIENT_REFUSED, ExitCode.LOCKED),
    ExitCode.UNBALANCED: "A bug: an internal error.",
}


def _lookup_options(command: CommandT) -> CommandT:
    """Add the options that only `holdings` and `compare` have."""
    decorators = (
        click.option(
            "--output",
            "-o",
            "output",
            required=True,
            metavar="FILE",
            help="File to write.",
            shell_complete=completion.files,
        ),
        click.option("--force", is_flag=True, help="Replace FILE if it exists."),
        click.option(
            "--keep-answers",
            metavar="DURATION",
            default="1h",
            show_default=True,
            callback=_read_duration,
            help="How long answers count for later commands once all customers were asked; 0 asks anew.",
        ),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def _read_duration(_: click.Context, __: click.Parameter, text: str) -> float:
    from telemetron_batch.config.option_values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _look_up(files: tuple[str, ...], flags: dict[str, Any], work: Callable[[Any, Any], Any]) -> None:
    """Do the work of `holdings` or `compare`, and show its result."""
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        output, force, keep_answers = (flags.pop(name) for name in ("output", "force", "keep_answers"))
        config = resolve_flags(files, flags)
        import_pyarrow_without_pandas()
        from telemetron_batch.cli.show_lists import show_lookup
        from telemetron_batch.cli.terminal import TerminalObserver
        from telemetron_batch.comparison.lookup import LookupRequest, Surroundings

        request = LookupRequest(config, Path(output), force=force, keep_answers=keep_answers)
        summary = work(request, Surroundings(TerminalObserver(config.output)))
        with tolerate_closed_stdout():
            show_lookup(summary, config.output)
    raise SystemExit(summary.exit_code)


@click.command(
    "holdings",
    cls=HelpCommand,
    example="telemetron-batch holdings ann@example.com bob@example.com -o closing.csv",
    exit_codes=_LOOKUP_CODES,
    grouped=True,
)
@click.argument("customers", nargs=-1, metavar="[CUSTOMER]...")
@click.option(
    "--customers",
    "customer_file",
    metavar="FILE",
    help="File with a customerEmail column, or with one address a line.",
    shell_complete=completion.files,
)
@_lookup_options
@options_where(lambda option: option.for_holdings)
def holdings_command(customers: tuple[str, ...], customer_file: str | None, **flags: Any) -> None:
    """Write what customers hold, as rows that take it away.

    Queries each CUSTOMER once; changes nothing at the API. To close accounts, look at the file, then run it.
    The API cannot list all customers, so they have to be named.
    """

    def work(request: Any, surroundings: Any) -> Any:
        from telemetron_batch.comparison.holdings import list_holdings

        return list_holdings(customers, request, surroundings)

    _look_up((customer_file,) if customer_file else (), flags, work)


@click.command(
    "compare",
    cls=HelpCommand,
    example="telemetron-batch compare fleet.csv -o changes.csv --remove-extra",
    exit_codes=_LOOKUP_CODES,
    grouped=True,
)
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@click.option("--remove-extra", is_flag=True, help="Also write unassign rows for devices that FILE does not have.")
@_lookup_options
@options_where(lambda option: option.for_compare)
def compare_command(file: str, *, remove_extra: bool, **flags: Any) -> None:
    """Write what differs between FILE and its customers.

    FILE has a row for each device that a customer should hold; the rows written make it so. Queries each customer of
    FILE once; changes nothing at the API. Look at the file that it writes, then run it. Customers that FILE does
    not name are never touched.
    """

    def work(request: Any, surroundings: Any) -> Any:
        from telemetron_batch.comparison.compare import compare_fleet

        return compare_fleet(request, remove_extra=remove_extra, surroundings=surroundings)

    _look_up((file,), flags, work)
