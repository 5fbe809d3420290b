"""The command line: options in, one call of the program, words out.

Commands import what they run only when they run: `--help`, a usage error and the Tab key
must not wait for pandas.
"""

import os
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from telemetron_batch import __version__
from telemetron_batch.cli import completion
from telemetron_batch.cli.errors import OneLineErrorGroup, exit_on_error, print_error, tolerate_closed_stdout
from telemetron_batch.config.options import OPTIONS, OPTIONS_BY_KEY, Option
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.storage.trusted_folders import shared_with_group

F = TypeVar("F", bound=Callable[..., Any])
_PROFILE_VARIABLES = ("TELEMETRON_PROFILE", "TELEMETRON_CONFIG")


def _click_option(option: Option) -> Callable[[F], F]:
    """An option as click knows it; its text is read later, together with all others."""
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
    )


def _options(wanted: Callable[[Option], bool]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed([one for one in OPTIONS if wanted(one)]):
            command = _click_option(option)(command)
        command = click.option("--profile", metavar="NAME", help="Profile in telemetron-batch.toml.")(command)
        help_of_config = "File of profiles, or of keys."
        return click.option("--config", metavar="FILE", help=help_of_config, shell_complete=completion.files)(command)

    return add


_REPORTS_DIR = click.option(
    "--reports-dir",
    default="reports",
    metavar="DIR",
    help="Folder under which each run has its folder.",
    shell_complete=completion.completer_for("DIR"),
)


_SHARED = click.option(
    "--shared-reports-dir",
    is_flag=True,
    envvar=OPTIONS_BY_KEY["shared_reports_dir"].variable,
    help=OPTIONS_BY_KEY["shared_reports_dir"].help,
)
_BASE_URL = click.option("--base-url", metavar="URL", help="Where the API is: that of the run.")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="The summary as one line of JSON on standard output.")
_VERBOSE = click.option("--verbose", "-v", is_flag=True, help="More detail, and tracebacks.")
_QUIET = click.option("--quiet", "-q", is_flag=True, help="Errors only.")


@click.group(cls=OneLineErrorGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="telemetron-batch")
def main() -> None:
    """Carry out device assignments from CSV files against the Telemetron API, and account for every row."""


@main.command("run")
@click.argument("files", nargs=-1, metavar="FILE...", shell_complete=completion.files)
@_options(lambda _: True)
def run_command(files: tuple[str, ...], **flags: Any) -> None:
    """Load, plan, (ask), send, reconcile. The same command with the same --run-id goes on with a stopped run.

    With --shard no FILE: that part of a run is made which `plan --shards` has planned.
    """
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        config = _configure(files, flags)
        _check_shard(config)
        _warn_of_airflow(config)
        from telemetron_batch.cli import terminal
        from telemetron_batch.run import pipeline
        from telemetron_batch.sharding.run_shard import run_shard

        make: Any = pipeline.run if config.shard is None else run_shard
        show: Any = terminal.show_end if config.shard is None else terminal.show_shard
        summary = make(config, face=terminal.TerminalObserver(config.output))
        with tolerate_closed_stdout():
            show(summary, config.output)
    raise SystemExit(summary.exit_code)


def _check_shard(config: Any) -> None:
    """Is it said what to run: files, or a shard of what was planned?"""
    if config.shard is None:
        if not config.files:
            raise ConfigError("Missing argument 'FILE...'", "see telemetron-batch run --help")
        if config.phase is not None:
            raise ConfigError("--phase is for a shard", "say which with --shard")
        if config.shards is not None:
            raise ConfigError("--shards is for the command plan", "plan the run in shards, then run each with --shard")
    elif config.files:
        raise ConfigError("a shard takes no FILE", "its calls were planned; --run-id says in which run")
    elif config.run_id is None:
        raise ConfigError("it is not said of which run that is a shard", "name the run with --run-id")


@main.command("plan")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.files)
@_options(lambda option: option.for_plan)
def plan_command(files: tuple[str, ...], **flags: Any) -> None:
    """Everything up to sending, without any network: calls, stages, time, problems found.

    With --shards the run is made ready in its folder, to be made by several processes or machines.
    """
    from telemetron_batch.cli import terminal
    from telemetron_batch.run import pipeline
    from telemetron_batch.sharding.shard_plan import plan_shards

    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        config = _configure(files, flags)
        if config.shards is None:
            planned = pipeline.make_plan(config)
            with tolerate_closed_stdout():
                terminal.show_planned(planned, config.output)
        else:
            sharded = plan_shards(config)
            planned = sharded.summary
            with tolerate_closed_stdout():
                terminal.show_sharded(sharded, config.output)
    raise SystemExit(0 if planned.rows else config.brakes.empty_exit_code or 0)


def _resume_or_verify(work: Callable[..., Any], folder: Path, *, shared_reports_dir: bool, **more: Any) -> None:
    """Do something more with a run that was begun, and show how it ended."""
    from telemetron_batch.cli import terminal
    from telemetron_batch.config.config import OutputOptions

    talk = OutputOptions(yes=True, json=more["as_json"], verbose=more["verbose"], quiet=more["quiet"])
    said = {
        OPTIONS_BY_KEY[key].variable: more[key]
        for key in ("base_url", "organisation", "lock_dir")
        if more[key] is not None
    }
    environ = {**os.environ, **said}
    with exit_on_error(verbose=talk.verbose, as_json=talk.json), shared_with_group(shared_reports_dir):
        summary = work(folder, environ, face=terminal.TerminalObserver(talk))
        with tolerate_closed_stdout():
            terminal.show_end(summary, talk)
    raise SystemExit(summary.exit_code)


@main.command("resume")
@click.argument("run", shell_complete=completion.runs)
@_REPORTS_DIR
@_SHARED
@_BASE_URL
@_click_option(OPTIONS_BY_KEY["organisation"])
@_click_option(OPTIONS_BY_KEY["lock_dir"])
@click.option("--out-of-order", is_flag=True, help=OPTIONS_BY_KEY["out_of_order"].help)
@_AS_JSON
@_VERBOSE
@_QUIET
def resume_command(run: str, reports_dir: str, *, out_of_order: bool, **more: Any) -> None:
    """Go on with the stopped run RUN (its id, or its folder), with the options it was started with."""
    from telemetron_batch.run import pipeline

    _resume_or_verify(partial(pipeline.resume, out_of_order=out_of_order), _run_folder(run, reports_dir), **more)


@main.command("undo")
@click.argument("run", shell_complete=completion.runs)
@_options(lambda option: option.undoes)
def undo_command(run: str, **flags: Any) -> None:
    """Take back what RUN (its id, or its folder) is sure to have changed: a run of its undo.csv."""
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        folder = _run_folder(run, str(_resolve((), flags).reports_dir))
        from telemetron_batch.cli import terminal
        from telemetron_batch.run import pipeline
        from telemetron_batch.run.undo import configure_undo

        with shared_with_group(bool(flags["shared_reports_dir"])):
            config = configure_undo(folder, flags, os.environ)
        summary = pipeline.run(config, face=terminal.TerminalObserver(config.output))
        with tolerate_closed_stdout():
            terminal.show_end(summary, config.output)
    raise SystemExit(summary.exit_code)


@main.command("verify")
@click.argument("run", shell_complete=completion.runs)
@_REPORTS_DIR
@_SHARED
@_BASE_URL
@_click_option(OPTIONS_BY_KEY["organisation"])
@_click_option(OPTIONS_BY_KEY["lock_dir"])
@_AS_JSON
@_VERBOSE
@_QUIET
def verify_command(run: str, reports_dir: str, **more: Any) -> None:
    """Ask the API what each customer of RUN (its id, or its folder) holds now, and say where that differs."""
    from telemetron_batch.run import pipeline

    _resume_or_verify(pipeline.verify, _run_folder(run, reports_dir), **more)


@main.command("report")
@click.argument("run", shell_complete=completion.runs)
@_REPORTS_DIR
@_SHARED
@click.option("--xlsx", is_flag=True, help="Write reconciliation and attention as workbooks too.")
@_AS_JSON
@_VERBOSE
def report_command(run: str, reports_dir: str, *, shared_reports_dir: bool, xlsx: bool, **shown: bool) -> None:
    """Write the files of RUN (its id, or its folder) again, from its journal alone."""
    from telemetron_batch.cli import terminal
    from telemetron_batch.config.config import OutputOptions
    from telemetron_batch.sharding.report import report_run

    with exit_on_error(verbose=shown["verbose"], as_json=shown["as_json"]), shared_with_group(shared_reports_dir):
        summary = report_run(_run_folder(run, reports_dir), xlsx=xlsx)
        with tolerate_closed_stdout():
            terminal.show_end(summary, OutputOptions(json=shown["as_json"]))
    raise SystemExit(summary.exit_code)


@main.command("runs")
@_REPORTS_DIR
@_SHARED
@click.option("--json", "as_json", is_flag=True, help="One line of JSON on standard output.")
def runs_command(reports_dir: str, *, shared_reports_dir: bool, as_json: bool) -> None:
    """The runs under the reports folder, the newest first: when, input, state, and what to do next."""
    from telemetron_batch.cli import terminal
    from telemetron_batch.run import listing

    passed_over: list[str] = []
    with exit_on_error(verbose=False), shared_with_group(shared_reports_dir):
        lines = listing.list_runs(Path(reports_dir), passed_over.append)
    for text in passed_over:
        print_error(f"warning: {text}")
    with tolerate_closed_stdout():
        terminal.show_runs(lines, as_json=as_json, passed_over=len(passed_over))


@main.command("check")
@_options(lambda option: option.for_check)
def check_command(**flags: Any) -> None:
    """Ask the API one harmless thing: are base URL, TLS and key right?"""
    from telemetron_batch.cli import terminal
    from telemetron_batch.run.check import check

    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        config = _resolve((), flags)
        stop = check(config)
        with tolerate_closed_stdout():
            terminal.show_check(stop, config)
    raise SystemExit(0 if stop is None else stop.exit_code)


@main.command("sandbox")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any free port.")
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), help="File that keeps its state.")
@click.option("--rate", "limit", metavar="RATE", help="Calls it lets in, e.g. 40/s; more are answered 429.")
@click.option("--max-devices", type=click.IntRange(1), default=1000, show_default=True, help="Devices it takes a call.")
@_VERBOSE
def sandbox_command(port: int, db: Path | None, limit: str | None, max_devices: int, *, verbose: bool) -> None:
    """Serve the embedded stand-in API on this machine, until it is interrupted."""
    from telemetron_batch.sandbox.serve import SandboxOptions, serve_sandbox

    with exit_on_error(verbose=verbose):
        serve_sandbox(SandboxOptions(port, db, limit, max_devices, os.environ), announce=click.echo)


@main.command("init")
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@_options(lambda option: option.for_init)
@click.option("--force", is_flag=True, help="Write over a profile of this name.")
def init_command(file: str, **flags: Any) -> None:
    """Look at FILE, ask what its columns and words mean, and write a profile under which it can be planned."""
    from telemetron_batch.init import init_profile, interview

    with exit_on_error(verbose=bool(flags["verbose"])):
        force, profile = flags.pop("force"), flags.pop("profile")
        config = Path(flags.pop("config") or os.environ.get("TELEMETRON_CONFIG") or "telemetron-batch.toml")
        environ = {name: text for name, text in os.environ.items() if name not in _PROFILE_VARIABLES}
        options = _resolve((file,), flags, environ).input
        with tolerate_closed_stdout():
            interview.run_init(
                init_profile.InitRequest(file, options, profile or init_profile.default_profile(file), config, force)
            )


@main.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(completion.SHELLS))
def completion_command(shell: str) -> None:
    """Print what SHELL reads in to complete commands, options and files at the Tab key."""
    with tolerate_closed_stdout():
        click.echo(completion.script(shell, main))


def _configure(files: tuple[str, ...], flags: Mapping[str, Any]) -> Any:
    """The configuration of a run of these files, which may be fed back."""
    if not files:
        return _resolve(files, flags)
    from telemetron_batch.run.feed_back import configure

    _warn_of_variables()
    config = configure(files, flags, os.environ)
    if config.mapping_of is not None and not config.output.quiet:
        print_error(f"read with the options of run {config.mapping_of}{_options_in_words(config)}")
    return config


def _options_in_words(config: Any) -> str:
    """The options that describe the input, as they would be typed."""
    told = (
        (option, config.given_options[option.key])
        for option in OPTIONS
        if option.for_init and option.key in config.given_options
    )
    words = []
    for option, value in told:
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{option.name}"] if one is True else [f"--{option.name}", str(one)] if one else []
    return f": {shlex.join(words)}" if words else ""


def _warn_of_variables() -> None:
    from telemetron_batch.config.sources import unknown_variables

    for name in unknown_variables(os.environ):
        print_error(f"warning: {name} is no variable of ours and is passed over")


def _resolve(files: tuple[str, ...], flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Any:
    from telemetron_batch.config.config import resolve

    _warn_of_variables()
    return resolve(files, flags, environ)


def _warn_of_airflow(config: Any) -> None:
    """Airflow runs a command in a folder that it deletes afterwards, with all that a retry could go on with."""
    if config.airflow and not config.reports_dir.is_absolute():
        told = f"warning: --reports-dir {config.reports_dir} is relative, and Airflow deletes the folder of a task"
        print_error(f"{told}; give an absolute path that all workers share, or a retry starts anew")


def _run_folder(run: str, reports_dir: str) -> Path:
    """The folder of a run that is named by its id or its path."""
    is_path = os.sep in run or os.path.lexists(Path(run) / "journal.sqlite3")
    return Path(run) if is_path else Path(reports_dir) / run
