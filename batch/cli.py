"""The command line: options in, one call of the program, words out.

Imports nothing heavy before a command runs: `--help` and a usage error must not wait
for pandas.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from batch import __version__
from batch.errors import BatchError
from batch.model import ExitCode
from batch.options import OPTIONS, Option

F = TypeVar("F", bound=Callable[..., Any])


def _click_option(option: Option) -> Callable[[F], F]:
    """An option as click knows it; its text is read later, together with all others."""
    names = [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]
    shown = f" [default: {option.default}]" if option.metavar and option.default is not None else ""
    if not option.metavar:
        return click.option(*names, option.key, is_flag=True, default=None, help=option.help)
    return click.option(
        *names, option.key, metavar=option.metavar, multiple=option.repeatable, help=option.help + shown
    )


def _options(wanted: Callable[[Option], bool]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed([one for one in OPTIONS if wanted(one)]):
            command = _click_option(option)(command)
        command = click.option("--profile", metavar="NAME", help="Profile in telemetron-batch.toml.")(command)
        return click.option("--config", metavar="FILE", help="File of profiles, or of keys.")(command)

    return add


@contextmanager
def _if_anyone_listens() -> Iterator[None]:
    """What is said into a closed pipe is lost, and that is no error: the files have it all."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _errors_in_words(*, verbose: bool) -> Iterator[None]:
    """The one place where an error becomes a line on standard error and an exit code."""
    try:
        yield
    except BatchError as exc:
        if verbose:
            traceback.print_exc()
        click.echo(f"Error: {exc}", err=True)
        raise SystemExit(exc.exit_code) from None
    except KeyboardInterrupt:
        click.echo("Stopped; nothing was sent.", err=True)
        raise SystemExit(ExitCode.STOPPED) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="telemetron-batch")
def main() -> None:
    """Carry out device assignments from CSV files against the Telemetron API, and account for every row."""


@main.command("run")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_options(lambda _: True)
def run_command(files: tuple[str, ...], **flags: Any) -> None:
    """Load, plan, (ask), send, reconcile. The same command with the same --run-id goes on with a stopped run."""
    from batch import app, terminal

    with _errors_in_words(verbose=bool(flags["verbose"])):
        config = _resolve(files, flags)
        summary = app.run(config, face=terminal.TerminalFace(config.talk))
        with _if_anyone_listens():
            terminal.show_end(summary, config.talk)
    raise SystemExit(summary.exit_code)


@main.command("plan")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_options(lambda option: option.plans)
def plan_command(files: tuple[str, ...], **flags: Any) -> None:
    """Everything up to sending, without any network: calls, stages, time, problems found."""
    from batch import app, terminal

    with _errors_in_words(verbose=bool(flags["verbose"])):
        config = _resolve(files, flags)
        with _if_anyone_listens():
            terminal.show_planned(app.make_plan(config), config.talk)


@main.command("resume")
@click.argument("run")
@click.option("--reports-dir", default="reports", metavar="DIR", help="Folder under which each run has its folder.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one line of JSON on standard output.")
@click.option("--verbose", "-v", is_flag=True, help="More detail, and tracebacks.")
def resume_command(run: str, reports_dir: str, *, as_json: bool, verbose: bool) -> None:
    """Go on with the stopped run RUN (its id, or its folder), with the options it was started with."""
    from batch import app, terminal
    from batch.config import Talk

    talk = Talk(yes=True, json=as_json, verbose=verbose)
    with _errors_in_words(verbose=verbose):
        summary = app.resume(_folder(run, reports_dir), os.environ, face=terminal.TerminalFace(talk))
        with _if_anyone_listens():
            terminal.show_end(summary, talk)
    raise SystemExit(summary.exit_code)


@main.command("report")
@click.argument("run")
@click.option("--reports-dir", default="reports", metavar="DIR", help="Folder under which each run has its folder.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one line of JSON on standard output.")
@click.option("--verbose", "-v", is_flag=True, help="More detail, and tracebacks.")
def report_command(run: str, reports_dir: str, *, as_json: bool, verbose: bool) -> None:
    """Write the files of RUN (its id, or its folder) again, from its journal alone."""
    from batch import app, terminal
    from batch.config import Talk

    with _errors_in_words(verbose=verbose):
        summary = app.report(_folder(run, reports_dir))
        with _if_anyone_listens():
            terminal.show_end(summary, Talk(json=as_json))
    raise SystemExit(summary.exit_code)


@main.command("runs")
@click.option("--reports-dir", default="reports", metavar="DIR", help="Folder under which each run has its folder.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON on standard output.")
def runs_command(reports_dir: str, *, as_json: bool) -> None:
    """The runs under the reports folder, the newest first: when, input, state, and what to do next."""
    from batch import runs, terminal

    with _if_anyone_listens():
        terminal.show_runs(runs.list_runs(Path(reports_dir)), as_json=as_json)


@main.command("check")
@_options(lambda option: option.checks)
def check_command(**flags: Any) -> None:
    """Ask the API one harmless thing: are base URL, TLS and key right?"""
    from batch import app, terminal

    with _errors_in_words(verbose=bool(flags["verbose"])):
        config = _resolve((), flags)
        stop = app.check(config)
        with _if_anyone_listens():
            terminal.show_check(stop, config)
    raise SystemExit(0 if stop is None else stop.exit_code)


@main.command("sandbox")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any free port.")
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), help="File that keeps its state.")
@click.option("--rate", "limit", metavar="RATE", help="Calls it lets in, e.g. 40/s; more are answered 429.")
@click.option("--max-devices", type=click.IntRange(1), default=1000, show_default=True, help="Devices it takes a call.")
@click.option("--verbose", "-v", is_flag=True, help="More detail, and tracebacks.")
def sandbox_command(port: int, db: Path | None, limit: str | None, max_devices: int, *, verbose: bool) -> None:
    """Serve the embedded stand-in API on this machine, until it is interrupted."""
    from batch import app

    with _errors_in_words(verbose=verbose):
        app.serve_sandbox(app.SandboxOptions(port, db, limit, max_devices, os.environ), announce=click.echo)


def _resolve(files: tuple[str, ...], flags: Mapping[str, Any]) -> Any:
    from batch.config import resolve, unknown_variables

    for name in unknown_variables(os.environ):
        click.echo(f"warning: {name} is no variable of ours and is passed over", err=True)
    return resolve(files, flags, os.environ)


def _folder(run: str, reports_dir: str) -> Path:
    """The folder of a run that is named by its id or its path."""
    return Path(run) if os.sep in run or (Path(run) / "journal.sqlite3").exists() else Path(reports_dir) / run
