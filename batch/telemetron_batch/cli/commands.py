"""The commands of telemetron-batch.

Each command imports the code it runs inside its function, so that `--help`, usage errors and completion are fast.
"""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from telemetron_batch import __version__
from telemetron_batch.cli import completion
from telemetron_batch.cli.arrow import import_pyarrow_without_pandas
from telemetron_batch.cli.errors import OneLineErrorGroup, exit_on_error, print_error, tolerate_closed_stdout
from telemetron_batch.cli.help import EXIT_CODES, HelpCommand, HelpGroup, choose
from telemetron_batch.config.network import has_credentials
from telemetron_batch.config.options import OPTIONS, OPTIONS_BY_KEY, Option
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.storage.trusted_folders import shared_with_group

_ALL_CODES = EXIT_CODES
_PLAN_CODES = {
    ExitCode.DONE: "Planned; nothing was sent.",
    ExitCode.NOT_STARTED: "The input or the options cannot be used.",
    **choose(ExitCode.LOCKED, ExitCode.UNBALANCED),
}
_VERIFY_CODES = {
    ExitCode.DONE: "The API agrees with every outcome, and no row wants attention.",
    ExitCode.ATTENTION: "Some rows want attention, or some customers could not be queried.",
    **choose(*EXIT_CODES.keys() - {ExitCode.DONE, ExitCode.ATTENTION}),
}
_REPORT_CODES = {
    **choose(ExitCode.DONE, ExitCode.ATTENTION),
    ExitCode.NOT_STARTED: "There is no such run, or it cannot be read.",
    **choose(ExitCode.STOPPED, ExitCode.CLIENT_REFUSED, ExitCode.BRAKE, ExitCode.LOCKED, ExitCode.UNBALANCED),
}
_CHECK_CODES = {
    ExitCode.DONE: "The API is there and accepts the key.",
    ExitCode.NOT_STARTED: "The options cannot be used, or the key is missing.",
    ExitCode.STOPPED: "The API cannot be reached.",
    **choose(ExitCode.CLIENT_REFUSED),
}
_LOOKUP_CODES = {
    ExitCode.DONE: "The file is complete.",
    ExitCode.ATTENTION: "The file is written; some of it wants attention.",
    ExitCode.NOT_STARTED: "No file: options or input are wrong, or it removes too much.",
    ExitCode.STOPPED: "No file yet: run the same command again, which continues.",
    **choose(ExitCode.CLIENT_REFUSED, ExitCode.LOCKED),
    ExitCode.UNBALANCED: "A bug: an internal error.",
}
_SANDBOX_CODES = {ExitCode.DONE: "Interrupted.", ExitCode.NOT_STARTED: "The options or the port cannot be used."}
_INIT_CODES = {
    ExitCode.DONE: "The profile was written.",
    ExitCode.NOT_STARTED: "FILE cannot be read, or the profile already exists.",
}
_APPROVE_CODES = {
    ExitCode.DONE: "Done.",
    ExitCode.NOT_STARTED: "The approval was refused, or cannot be written.",
}
_SERVE_CODES = {
    ExitCode.DONE: "Ended by a signal.",
    ExitCode.NOT_STARTED: "The options, the users or the port cannot be used.",
    ExitCode.LOCKED: "Another serve uses this reports folder.",
    **choose(ExitCode.UNBALANCED),
}
_LIST_CODES = {ExitCode.DONE: "Done.", ExitCode.NOT_STARTED: "The arguments cannot be used."}

F = TypeVar("F", bound=Callable[..., Any])
_RESUME_OPTIONS = tuple(option for option in OPTIONS if option.for_resume)


def _click_option(option: Option) -> Callable[[F], F]:
    """Return a decorator that adds an option. click keeps its text; `resolve` parses all options together."""
    names = [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]
    shown = f" [default: {option.default_text}]" if option.metavar and option.default_text else ""
    if not option.metavar:
        return click.option(*names, option.key, is_flag=True, default=None, help=option.help)
    return click.option(
        *names,
        option.key,
        metavar=option.metavar,
        multiple=option.repeatable,
        help=option.help + shown,
        shell_complete=completion.completer_for(option.metavar),
        callback=_refuse_password if option.holds_secret else None,
    )


def _refuse_password(_: click.Context, option: click.Parameter, url: str | None) -> str | None:
    """Return the value of an option, unless it is a URL with credentials: other users can read arguments."""
    if url is not None and has_credentials(url):
        advice = f"set {OPTIONS_BY_KEY[option.name or ''].variable}, or write the URL to a file and name it as @FILE"
        raise click.BadParameter(f"do not put a URL with a password on the command line; {advice}")
    return url


def _options(wanted: Callable[[Option], bool]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed([one for one in OPTIONS if wanted(one)]):
            command = _click_option(option)(command)
        command = click.option("--profile", metavar="NAME", help="Profile in telemetron-batch.toml.")(command)
        help_of_config = "File with profiles, or with options at its top level."
        return click.option("--config", metavar="FILE", help=help_of_config, shell_complete=completion.files)(command)

    return add


_REPORTS_DIR = click.option(
    "--reports-dir",
    default="reports",
    metavar="DIR",
    help="Folder that contains one folder for each run.",
    shell_complete=completion.completer_for("DIR"),
)


_SHARED = click.option(
    "--shared-reports-dir",
    is_flag=True,
    envvar=OPTIONS_BY_KEY["shared_reports_dir"].variable,
    help=OPTIONS_BY_KEY["shared_reports_dir"].help,
)
_BASE_URL = click.option("--base-url", metavar="URL", help="Base URL of the API; must be that of the run.")
_AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Write the summary as one line of JSON to standard output."
)
_VERBOSE = click.option("--verbose", "-v", is_flag=True, help="Show more detail, and tracebacks.")
_QUIET = click.option("--quiet", "-q", is_flag=True, help="Show errors only.")


def _options_of_run(command: F) -> F:
    """Add the argument RUN, and the options that say where the run is and how to continue it."""
    resumed = map(_click_option, _RESUME_OPTIONS)
    run = click.argument("run", shell_complete=completion.runs)
    for decorate in reversed((run, _REPORTS_DIR, _SHARED, _BASE_URL, *resumed)):
        command = decorate(command)
    return command


@click.group(cls=OneLineErrorGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="telemetron-batch")
def main() -> None:
    """Send device assignments from files to the Telemetron API and report the outcome of every row."""


@main.command(
    "run",
    cls=HelpCommand,
    example="telemetron-batch run assignments.csv --run-id monday --max-failed 5%",
    exit_codes=_ALL_CODES,
    grouped=True,
)
@click.argument("files", nargs=-1, metavar="FILE...", shell_complete=completion.files)
@_options(lambda _: True)
def run_command(files: tuple[str, ...], **flags: Any) -> None:
    """Send the assignments in FILEs and reconcile every row.

    The same command with the same --run-id continues a stopped run. On a terminal it shows the plan and asks
    before sending. With the --run-id of a saved plan it takes no FILE and sends that plan. With --shard it takes
    none either: it makes one shard of a run that `plan --shards` prepared.
    """
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        config = _configure(files, flags)
        if not files and config.shard is None and config.run_id is not None and _is_run(config.folder):
            _resume_planned(config, flags)
        _check_shard(config)
        _warn_of_airflow(config)
        from telemetron_batch.cli import terminal

        make, show = _sender_of(config)
        summary = make(config, observer=terminal.TerminalObserver(config.output))
        with tolerate_closed_stdout():
            show(summary, config.output)
    raise SystemExit(summary.exit_code)


def _is_run(folder: Path) -> bool:
    return os.path.lexists(folder / "journal.sqlite3")


def _resume_planned(config: Any, flags: Mapping[str, Any]) -> None:
    """Do what `resume` does, for `run --run-id ID` without FILE: the plan of that run, with its own options."""
    import_pyarrow_without_pandas()
    from telemetron_batch.run import pipeline

    more = {"as_json": config.output.json, "verbose": config.output.verbose, "quiet": config.output.quiet}
    more |= {one.key: flags[one.key] for one in (OPTIONS_BY_KEY["base_url"], *_RESUME_OPTIONS)}
    taken = {"config", "profile", "reports_dir", "run_id", "yes", "no_progress", "out_of_order"}
    ignored = [one.name for one in OPTIONS if flags.get(one.key) and one.key not in taken | {*more, "json"}]
    if ignored:
        raise ConfigError(
            f"--{ignored[0]} cannot be given to a planned run without its FILE", "name the file too, or leave it out"
        )
    resume = partial(pipeline.resume, out_of_order=bool(flags["out_of_order"]))
    _resume_or_verify(resume, config.folder, shared_reports_dir=bool(flags["shared_reports_dir"]), **more)


def _sender_of(config: Any) -> tuple[Callable[..., Any], Callable[..., None]]:
    """Return what makes this run, or this shard of a run, and what shows its end."""
    import_pyarrow_without_pandas()
    from telemetron_batch.cli import terminal

    if config.shard is None:
        from telemetron_batch.run import pipeline

        return pipeline.run, terminal.show_end
    from telemetron_batch.sharding.run_shard import run_shard

    return run_shard, terminal.show_shard


def _check_shard(config: Any) -> None:
    """Raise ConfigError unless the options name either files or one shard of a planned run."""
    if config.shard is None:
        if not config.files:
            raise ConfigError("Missing argument 'FILE...'", "see telemetron-batch run --help")
        if config.phase is not None:
            raise ConfigError("--phase needs --shard", "give the number of the shard with --shard")
        if config.shards is not None:
            raise ConfigError(
                "--shards belongs to the command plan", "plan the run in shards, then run each with --shard"
            )
    elif config.files:
        raise ConfigError("a shard takes no FILE", "its calls are in the planned run; name that run with --run-id")
    elif config.run_id is None:
        raise ConfigError("--shard needs --run-id", "name the run that plan --shards prepared")


@main.command(
    "plan",
    cls=HelpCommand,
    example="telemetron-batch plan assignments.csv --rate 40/s",
    exit_codes=_PLAN_CODES,
    grouped=True,
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.files)
@click.option("--save", is_flag=True, help="Make the run's folder and print the plan's fingerprint, to send it later.")
@_options(lambda option: option.for_plan)
def plan_command(files: tuple[str, ...], *, save: bool, **flags: Any) -> None:
    """Show what run would send.

    Uses no network unless --online is given. Shows calls, stages, the shortest possible time and the problems found.
    With --save it keeps the plan as a run, which resume sends, with --approval second only after another user has
    approved it. With --shards it prepares the run's folder, so that several processes or machines can make the run.
    """
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        config = _configure(files, flags)
        if config.shards is not None and (save or config.online):
            flag = "--save" if save else "--online"
            raise ConfigError(f"{flag} cannot be combined with --shards", "leave it out: plan --shards saves the plan")
        planned = _plan(config, save=save)
    raise SystemExit(0 if planned.rows else config.brakes.empty_exit_code or 0)


def _plan(config: Any, *, save: bool) -> Any:
    """Plan the run, or save its plan, and show it. Return the plan in numbers."""
    from telemetron_batch.cli import terminal

    if config.shards is not None:
        from telemetron_batch.sharding.shard_plan import plan_shards

        sharded = plan_shards(config)
        with tolerate_closed_stdout():
            terminal.show_sharded(sharded, config.output)
        return sharded.summary
    if config.online:
        from telemetron_batch.run.preview import preview_plan

        saved = preview_plan(config, terminal.TerminalObserver(config.output))
        with tolerate_closed_stdout():
            terminal.show_saved(saved, config.output)
        return saved.summary
    if save:
        from telemetron_batch.run.save_plan import save_plan

        saved = save_plan(config)
        with tolerate_closed_stdout():
            terminal.show_saved(saved, config.output)
        return saved.summary
    from telemetron_batch.run.make_plan import make_plan

    planned = make_plan(config)
    with tolerate_closed_stdout():
        terminal.print_plan_result(planned, config.output)
    return planned


def _resume_or_verify(work: Callable[..., Any], folder: Path, *, shared_reports_dir: bool, **more: Any) -> None:
    """Resume or verify a run, and show how it ended."""
    from telemetron_batch.cli import terminal
    from telemetron_batch.config.config import OutputOptions

    output = OutputOptions(yes=True, json=more["as_json"], verbose=more["verbose"], quiet=more["quiet"])
    taken = (OPTIONS_BY_KEY["base_url"], *_RESUME_OPTIONS)
    texts = {option.variable: more[option.key] for option in taken if more[option.key] is not None}
    given = {variable: "true" if text is True else text for variable, text in texts.items()}
    environ = {**os.environ, **given}
    with exit_on_error(verbose=output.verbose, as_json=output.json), shared_with_group(shared_reports_dir):
        summary = work(folder, environ, observer=terminal.TerminalObserver(output))
        with tolerate_closed_stdout():
            terminal.show_end(summary, output)
    raise SystemExit(summary.exit_code)


@main.command("resume", cls=HelpCommand, example="telemetron-batch resume monday", exit_codes=_ALL_CODES)
@_options_of_run
@click.option("--out-of-order", is_flag=True, help=OPTIONS_BY_KEY["out_of_order"].help)
@_AS_JSON
@_VERBOSE
@_QUIET
def resume_command(run: str, reports_dir: str, *, out_of_order: bool, **more: Any) -> None:
    """Continue the stopped run RUN with its own options.

    RUN is the run id or the run's folder.
    """
    import_pyarrow_without_pandas()
    from telemetron_batch.run import pipeline

    _resume_or_verify(partial(pipeline.resume, out_of_order=out_of_order), _run_folder(run, reports_dir), **more)


@main.command("undo", cls=HelpCommand, example="telemetron-batch undo monday", exit_codes=_ALL_CODES, grouped=True)
@click.argument("run", shell_complete=completion.runs)
@_options(lambda option: option.for_undo)
def undo_command(run: str, **flags: Any) -> None:
    """Take back the changes of RUN by running its undo.csv.

    RUN is the run id or the run's folder. Only sure changes are taken back.
    """
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        folder = _run_folder(run, str(_resolve((), flags).reports_dir))
        import_pyarrow_without_pandas()
        from telemetron_batch.cli import terminal
        from telemetron_batch.run import pipeline
        from telemetron_batch.run.undo import configure_undo

        with shared_with_group(bool(flags["shared_reports_dir"])):
            config = configure_undo(folder, flags, os.environ)
        summary = pipeline.run(config, observer=terminal.TerminalObserver(config.output))
        with tolerate_closed_stdout():
            terminal.show_end(summary, config.output)
    raise SystemExit(summary.exit_code)


@main.command("verify", cls=HelpCommand, example="telemetron-batch verify monday", exit_codes=_VERIFY_CODES)
@_options_of_run
@_AS_JSON
@_VERBOSE
@_QUIET
def verify_command(run: str, reports_dir: str, **more: Any) -> None:
    """Compare the outcomes of RUN with the state at the API.

    RUN is the run id or the run's folder. Queries each customer of the run; changes nothing at the API.
    """
    import_pyarrow_without_pandas()
    from telemetron_batch.run import pipeline

    _resume_or_verify(pipeline.verify, _run_folder(run, reports_dir), **more)


def _lookup_options(command: F) -> F:
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
        config = _resolve(files, flags)
        import_pyarrow_without_pandas()
        from telemetron_batch.cli import terminal
        from telemetron_batch.comparison.lookup import LookupRequest, Surroundings

        request = LookupRequest(config, Path(output), force=force, keep_answers=keep_answers)
        summary = work(request, Surroundings(terminal.TerminalObserver(config.output)))
        with tolerate_closed_stdout():
            terminal.show_lookup(summary, config.output)
    raise SystemExit(summary.exit_code)


@main.command(
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
@_options(lambda option: option.for_holdings)
def holdings_command(customers: tuple[str, ...], customer_file: str | None, **flags: Any) -> None:
    """Write what customers hold, as rows that take it away.

    Queries each CUSTOMER once; changes nothing at the API. To close accounts, look at the file, then run it.
    The API cannot list all customers, so they have to be named.
    """

    def work(request: Any, surroundings: Any) -> Any:
        from telemetron_batch.comparison.holdings import list_holdings

        return list_holdings(customers, request, surroundings)

    _look_up((customer_file,) if customer_file else (), flags, work)


@main.command(
    "compare",
    cls=HelpCommand,
    example="telemetron-batch compare fleet.csv -o changes.csv --remove-extra",
    exit_codes=_LOOKUP_CODES,
    grouped=True,
)
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@click.option("--remove-extra", is_flag=True, help="Also write unassign rows for devices that FILE does not have.")
@_lookup_options
@_options(lambda option: option.for_compare)
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


@main.command("report", cls=HelpCommand, example="telemetron-batch report monday --xlsx", exit_codes=_REPORT_CODES)
@click.argument("run", shell_complete=completion.runs)
@_REPORTS_DIR
@_SHARED
@click.option("--xlsx", is_flag=True, help="Also write reconciliation and attention as workbooks.")
@_AS_JSON
@_VERBOSE
def report_command(run: str, reports_dir: str, *, shared_reports_dir: bool, xlsx: bool, **shown: bool) -> None:
    """Write the files of RUN again from its journal.

    RUN is the run id or the run's folder. Uses no network.
    """
    import_pyarrow_without_pandas()
    from telemetron_batch.cli import terminal
    from telemetron_batch.config.config import OutputOptions
    from telemetron_batch.sharding.report import report_run

    with exit_on_error(verbose=shown["verbose"], as_json=shown["as_json"]), shared_with_group(shared_reports_dir):
        summary = report_run(_run_folder(run, reports_dir), xlsx=xlsx)
        with tolerate_closed_stdout():
            terminal.show_end(summary, OutputOptions(json=shown["as_json"]))
    raise SystemExit(summary.exit_code)


@main.command("runs", cls=HelpCommand, example="telemetron-batch runs", exit_codes=_LIST_CODES)
@_REPORTS_DIR
@_SHARED
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON to standard output.")
def runs_command(reports_dir: str, *, shared_reports_dir: bool, as_json: bool) -> None:
    """List the runs, newest first, with their next step."""
    from telemetron_batch.cli import terminal
    from telemetron_batch.run import listing

    unreadable: list[str] = []
    with exit_on_error(verbose=False), shared_with_group(shared_reports_dir):
        lines = listing.list_runs(Path(reports_dir), unreadable.append)
    for text in unreadable:
        print_error(f"warning: {text}")
    with tolerate_closed_stdout():
        terminal.show_runs(lines, as_json=as_json, unreadable=len(unreadable))


@main.command(
    "approve", cls=HelpCommand, example="telemetron-batch approve monday 7f3a-92c1", exit_codes=_APPROVE_CODES
)
@click.argument("run", required=False, shell_complete=completion.runs)
@click.argument("fingerprint", required=False)
@_REPORTS_DIR
@click.option(
    "--approvals-dir",
    metavar="DIR",
    envvar=OPTIONS_BY_KEY["approvals_dir"].variable,
    help=OPTIONS_BY_KEY["approvals_dir"].help,
    shell_complete=completion.completer_for("DIR"),
)
@click.option("--list", "list_all", is_flag=True, help="List the approvals, and the plans that wait for one.")
@click.option("--revoke", "take_back", is_flag=True, help="Remove the approval of RUN.")
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON to standard output.")
@_VERBOSE
def approve_command(
    run: str | None, fingerprint: str | None, reports_dir: str, approvals_dir: str | None, **flags: bool
) -> None:
    """Approve the saved plan of another user.

    RUN is the run id or the run's folder, and FINGERPRINT what plan --save printed. Look at the plan first. Nothing of
    a run with --approval second is sent before.
    """
    place = Path(approvals_dir) if approvals_dir else None
    with exit_on_error(verbose=flags["verbose"], as_json=flags["as_json"]):
        if flags["list_all"]:
            _list_approvals(run, Path(reports_dir), place, as_json=flags["as_json"])
        elif flags["take_back"]:
            _revoke(run, reports_dir, place, as_json=flags["as_json"])
        else:
            _approve((run, fingerprint), reports_dir, place, as_json=flags["as_json"])


def _list_approvals(run: str | None, reports_dir: Path, place: Path | None, *, as_json: bool) -> None:
    from telemetron_batch.cli import terminal
    from telemetron_batch.run.approve import list_approvals

    if run is not None:
        raise ConfigError("--list takes no RUN", "leave one of them out")
    lines = list_approvals(reports_dir, place, warn=lambda text: print_error(f"warning: {text}"))
    with tolerate_closed_stdout():
        terminal.show_approvals(lines, as_json=as_json)


def _revoke(run: str | None, reports_dir: str, place: Path | None, *, as_json: bool) -> None:
    from telemetron_batch.cli import terminal
    from telemetron_batch.run.approve import revoke

    if run is None:
        raise ConfigError("Missing argument 'RUN'", "name the run whose approval is to be removed")
    folder = _run_folder(run, reports_dir)
    revoke(folder, place)
    with tolerate_closed_stdout():
        terminal.show_revoked(folder.name, as_json=as_json)


def _approve(named: tuple[str | None, str | None], reports_dir: str, place: Path | None, *, as_json: bool) -> None:
    """Approve a run, named by its id or folder, for a fingerprint."""
    from telemetron_batch.cli import terminal
    from telemetron_batch.run.approve import approve

    run, fingerprint = named
    if run is None or fingerprint is None:
        missing = "RUN" if run is None else "FINGERPRINT"
        raise ConfigError(f"Missing argument '{missing}'", "give both as plan --save printed them")
    approved = approve(_run_folder(run, reports_dir), fingerprint, place)
    with tolerate_closed_stdout():
        terminal.show_approved(approved, as_json=as_json)


@main.command("check", cls=HelpCommand, example="telemetron-batch check", exit_codes=_CHECK_CODES)
@_options(lambda option: option.for_check)
def check_command(**flags: Any) -> None:
    """Test base URL, TLS and API key with one read request."""
    from telemetron_batch.cli import terminal
    from telemetron_batch.run.check import check

    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        config = _resolve((), flags)
        found = check(config)
        with tolerate_closed_stdout():
            terminal.show_check(found, config)
    raise SystemExit(0 if found.stop is None else found.stop.exit_code)


@main.command("sandbox", cls=HelpCommand, example="telemetron-batch sandbox --rate 40/s", exit_codes=_SANDBOX_CODES)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port to serve on; 0 picks a free one.",
)
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), help="File that keeps the state between runs.")
@click.option("--rate", "limit", metavar="RATE", help="Calls accepted, e.g. 40/s; more are answered with 429.")
@click.option(
    "--max-devices", type=click.IntRange(1), default=1000, show_default=True, help="Maximum devices per call."
)
@_VERBOSE
def sandbox_command(port: int, db: Path | None, limit: str | None, max_devices: int, *, verbose: bool) -> None:
    """Serve the sandbox API until it is interrupted."""
    from telemetron_batch.sandbox.serve import SandboxOptions, serve_sandbox

    with exit_on_error(verbose=verbose):
        serve_sandbox(SandboxOptions(port, db, limit, max_devices, os.environ), announce=click.echo)


_SERVE_OPTIONS = (
    click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on."),
    click.option(
        "--port", type=click.IntRange(0, 65535), default=8780, show_default=True, help="Port; 0 picks a free one."
    ),
    click.option(
        "--tls-cert", metavar="FILE", help="Certificate of the server, as PEM.", shell_complete=completion.files
    ),
    click.option("--tls-key", metavar="FILE", help="Key of --tls-cert, as PEM.", shell_complete=completion.files),
    click.option("--behind-proxy", is_flag=True, help="A proxy in front of the server ends TLS."),
    click.option("--users", metavar="FILE", help="Users of serve-user add.", shell_complete=completion.files),
    click.option("--user-header", metavar="NAME", help="Header in which a trusted proxy names the user."),
    click.option(
        "--trusted-proxy",
        "trusted_proxies",
        metavar="CIDR",
        multiple=True,
        help="Address or network of proxies that may name the user and the address of the browser. Repeatable.",
    ),
    click.option(
        "--allowed-host",
        "allowed_hosts",
        metavar="NAME",
        multiple=True,
        help="Host name by which browsers reach the server. Repeatable.",
    ),
    click.option("--max-upload", metavar="SIZE", default="256MiB", show_default=True, help="Largest upload."),
    click.option("--upload-timeout", metavar="DURATION", default="10m", show_default=True, help="Time for an upload."),
    click.option(
        "--idle-timeout", metavar="DURATION", default="1h", show_default=True, help="Unused sessions end after this."
    ),
    click.option(
        "--session-timeout", metavar="DURATION", default="12h", show_default=True, help="Any session ends after this."
    ),
)


def _serve_options(command: F) -> F:
    for decorate in reversed(_SERVE_OPTIONS):
        command = decorate(command)
    return command


@main.command(
    "serve",
    cls=HelpCommand,
    example="telemetron-batch serve --max-failed 5%",
    exit_codes=_SERVE_CODES,
    grouped=True,
    own_section="Server",
)
@_serve_options
@_options(lambda option: option.for_serve)
def serve_command(**flags: Any) -> None:
    """Serve the page of the returns desk.

    Runs until it is interrupted; needs telemetron-batch[serve]. On this machine it prints an address that works once.
    Others can only reach it with TLS and users. The options of runs apply to every run that is made on the page.
    """
    with exit_on_error(verbose=bool(flags["verbose"])):
        _require_extra("serve", "argon2", "python_multipart")
        own = {str(key): flags.pop(str(key)) for key in _keys_of(_SERVE_OPTIONS)}
        config = _resolve((), flags)
        import_pyarrow_without_pandas()
        from telemetron_batch.web.command_options import serve_options
        from telemetron_batch.web.serve import Terminal, serve

        options = serve_options(own, verbose=config.output.verbose)
        serve(config, options, Terminal(click.echo, print_error))


def _keys_of(decorators: tuple[Callable[[Any], Any], ...]) -> list[str | None]:
    """Return the names under which a command gets the options that these decorators add."""

    def nothing() -> None: ...

    for decorate in decorators:
        decorate(nothing)
    return [one.name for one in nothing.__click_params__]  # type: ignore[attr-defined]


def _require_extra(extra: str, *modules: str) -> None:
    """Raise ConfigError if a library of an extra is missing."""
    from importlib.util import find_spec

    if any(find_spec(module) is None for module in modules):
        raise ConfigError(f"this command needs telemetron-batch[{extra}]", f"pip install 'telemetron-batch[{extra}]'")


_USERS_FILE = click.option(
    "--users",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="telemetron-users.json",
    show_default=True,
    metavar="FILE",
    help="File of the users.",
)


@main.group(
    "serve-user",
    cls=HelpGroup,
    example="telemetron-batch serve-user add ann --role operator",
    exit_codes=_LIST_CODES,
)
def serve_user_group() -> None:
    """Add, remove and list the users of serve."""


@serve_user_group.command(
    "add", cls=HelpCommand, example="telemetron-batch serve-user add ann --role operator", exit_codes=_LIST_CODES
)
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(["viewer", "operator", "approver"]), help="What NAME may do.")
@click.option("--no-password", is_flag=True, help="NAME signs in at a proxy (--user-header) only.")
@_USERS_FILE
@_VERBOSE
def serve_user_add_command(name: str, role: str, path: Path, *, no_password: bool, verbose: bool) -> None:
    """Add the user NAME, or give NAME another role and password.

    Asks for the password; without a terminal it is the first line of standard input. viewer: sees the runs of NAME.
    operator: also makes and sends them. approver: also approves plans of others, and sees every run.
    """
    with exit_on_error(verbose=verbose):
        _require_extra("serve", "argon2")
        from telemetron_batch.web.accounts import add_user

        click.echo(add_user(path, name, role, None if no_password else _ask_password))


def _ask_password(name: str) -> str:
    """Return the password of a user, asked twice on a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


@serve_user_group.command(
    "remove", cls=HelpCommand, example="telemetron-batch serve-user remove ann", exit_codes=_LIST_CODES
)
@click.argument("name")
@_USERS_FILE
@_VERBOSE
def serve_user_remove_command(name: str, path: Path, *, verbose: bool) -> None:
    """Remove the user NAME, whose sessions end at once."""
    with exit_on_error(verbose=verbose):
        _require_extra("serve", "argon2")
        from telemetron_batch.web.accounts import remove_user

        click.echo(remove_user(path, name))


@serve_user_group.command("list", cls=HelpCommand, example="telemetron-batch serve-user list", exit_codes=_LIST_CODES)
@_USERS_FILE
@_VERBOSE
def serve_user_list_command(path: Path, *, verbose: bool) -> None:
    """List the users and their roles."""
    with exit_on_error(verbose=verbose):
        _require_extra("serve", "argon2")
        from telemetron_batch.web.accounts import list_users

        with tolerate_closed_stdout():
            for line in list_users(path):
                click.echo(line)


@main.command(
    "init", cls=HelpCommand, example="telemetron-batch init assignments.csv --profile erp", exit_codes=_INIT_CODES
)
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@_options(lambda option: option.for_init)
@click.option("--force", is_flag=True, help="Overwrite an existing profile of this name.")
def init_command(file: str, **flags: Any) -> None:
    """Inspect FILE and write a profile that can read it.

    Asks about columns and action words that are not clear.
    """
    import_pyarrow_without_pandas()
    from telemetron_batch.config.sources import CONFIG_VARIABLE, PROFILE_FILE, PROFILE_VARIABLES
    from telemetron_batch.init import init_profile, interview

    with exit_on_error(verbose=bool(flags["verbose"])):
        force, profile = flags.pop("force"), flags.pop("profile")
        config = Path(flags.pop("config") or os.environ.get(CONFIG_VARIABLE) or PROFILE_FILE)
        environ = {name: text for name, text in os.environ.items() if name not in PROFILE_VARIABLES}
        options = _resolve((file,), flags, environ).input
        with tolerate_closed_stdout():
            interview.run_init(
                init_profile.InitRequest(file, options, profile or init_profile.default_profile(file), config, force)
            )


@main.command(
    "completion",
    cls=HelpCommand,
    example="telemetron-batch completion bash > ~/.telemetron-completion.bash",
    exit_codes=_LIST_CODES,
)
@click.argument("shell", metavar="SHELL", type=click.Choice(completion.SHELLS))
def completion_command(shell: str) -> None:
    """Print the completion script for SHELL."""
    with tolerate_closed_stdout():
        click.echo(completion.script(shell, main))


def _configure(files: tuple[str, ...], flags: Mapping[str, Any]) -> Any:
    """Return the configuration of a run of these files, which may be our own report files."""
    if not files:
        return _resolve(files, flags)
    import_pyarrow_without_pandas()
    from telemetron_batch.run.feed_back import attention_config

    _warn_of_variables()
    config = attention_config(files, flags, os.environ)
    if config.options_from_run is not None and not config.output.quiet:
        print_error(f"read with the options of run {config.options_from_run}{_options_in_words(config)}")
    return config


def _options_in_words(config: Any) -> str:
    """Return the options that describe the input, as they would be typed."""
    given = (
        (option, config.given_options[option.key])
        for option in OPTIONS
        if option.for_init and option.key in config.given_options
    )
    words = []
    for option, value in given:
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{option.name}"] if one is True else [f"--{option.name}", str(one)] if one else []
    return f": {shlex.join(words)}" if words else ""


def _warn_of_variables() -> None:
    from telemetron_batch.config.sources import unknown_variables

    for name in unknown_variables(os.environ):
        print_error(f"warning: {name} is not a variable of telemetron-batch and is ignored")


def _resolve(files: tuple[str, ...], flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Any:
    from telemetron_batch.config.config import resolve

    _warn_of_variables()
    return resolve(files, flags, environ)


def _warn_of_airflow(config: Any) -> None:
    """Warn of a relative reports folder: Airflow deletes the working folder of a task, and with it the journal."""
    if config.airflow and not config.reports_dir.is_absolute():
        problem = f"warning: --reports-dir {config.reports_dir} is relative, and Airflow deletes the folder of a task"
        print_error(f"{problem}; give an absolute path that all workers share, or a retry starts a new run")


def _run_folder(run: str, reports_dir: str) -> Path:
    """Return the folder of a run, given its id or its path."""
    is_path = os.sep in run or _is_run(Path(run))
    return Path(run) if is_path else Path(reports_dir) / run
