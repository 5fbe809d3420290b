"""Arguments and options that several commands share, and how commands read them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from telemetron_batch.cli import completion
from telemetron_batch.cli.errors import print_error
from telemetron_batch.config.network import has_credentials
from telemetron_batch.config.options import OPTIONS, OPTIONS_BY_KEY, Option
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.stops import ExitCode

LIST_CODES = {ExitCode.DONE: "Done.", ExitCode.NOT_STARTED: "The arguments cannot be used."}
CommandT = TypeVar("CommandT", bound=Callable[..., Any])

RESUME_OPTIONS = tuple(option for option in OPTIONS if option.for_resume)


def _click_option(option: Option) -> Callable[[CommandT], CommandT]:
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


def _refuse_password(_: click.Context, option: click.Parameter, value: Any) -> Any:
    """Return the value of an option, unless it is a URL with credentials: other users can read arguments."""
    urls = value if isinstance(value, tuple) else (value,)
    if any(url is not None and not url.startswith("@") and has_credentials(url) for url in urls):
        advice = f"set {OPTIONS_BY_KEY[option.name or ''].variable}, or write the URL to a file and name it as @FILE"
        raise click.BadParameter(f"do not put a URL with a password on the command line; {advice}")
    return value


def options_where(wanted: Callable[[Option], bool]) -> Callable[[CommandT], CommandT]:
    """Return a decorator that adds the wanted options of the table, and those that name a profile."""

    def add(command: CommandT) -> CommandT:
        for option in reversed([one for one in OPTIONS if wanted(one)]):
            command = _click_option(option)(command)
        command = click.option("--profile", metavar="NAME", help="Profile in telemetron-batch.toml.")(command)
        help_of_config = "File with profiles, or with options at its top level."
        return click.option("--config", metavar="FILE", help=help_of_config, shell_complete=completion.files)(command)

    return add


REPORTS_DIR = click.option(
    "--reports-dir",
    default="reports",
    metavar="DIR",
    help="Folder that contains one folder for each run.",
    shell_complete=completion.completer_for("DIR"),
)
SHARED_REPORTS_DIR = click.option(
    "--shared-reports-dir",
    is_flag=True,
    envvar=OPTIONS_BY_KEY["shared_reports_dir"].variable,
    help=OPTIONS_BY_KEY["shared_reports_dir"].help,
)
BASE_URL = click.option("--base-url", metavar="URL", help="Base URL of the API; must be that of the run.")
AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Write the summary as one line of JSON to standard output."
)
VERBOSE = click.option("--verbose", "-v", is_flag=True, help="Show more detail, and tracebacks.")
QUIET = click.option("--quiet", "-q", is_flag=True, help="Show errors only.")


def options_of_run(wanted: Callable[[Option], bool]) -> Callable[[CommandT], CommandT]:
    """Return a decorator that adds the argument RUN, the options that say where it is, and those of the table."""

    def add(command: CommandT) -> CommandT:
        table = [_click_option(option) for option in OPTIONS if wanted(option)]
        run = click.argument("run", shell_complete=completion.runs)
        for decorate in reversed((run, REPORTS_DIR, SHARED_REPORTS_DIR, BASE_URL, *table)):
            command = decorate(command)
        return command

    return add


def warn_of_variables() -> None:
    """Warn of environment variables that look like options and are none."""
    from telemetron_batch.config.sources import unknown_variables

    for name in unknown_variables(os.environ):
        print_error(f"warning: {name} is not a variable of telemetron-batch and is ignored")


def resolve_flags(files: tuple[str, ...], flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Any:
    """Return the configuration that flags, environment and profile give. Raises ConfigError."""
    from telemetron_batch.config.config import resolve

    warn_of_variables()
    return resolve(files, flags, environ)


def is_run(folder: Path) -> bool:
    """Return whether a folder has a journal."""
    from telemetron_batch.run.named_run import has_run

    return has_run(folder)


def run_folder(run: str, reports_dir: str) -> Path:
    """Return the folder of a run, given its id or its path."""
    from telemetron_batch.run.named_run import find_run_folder

    return find_run_folder(run, reports_dir)


def require_extra(extra: str, *modules: str) -> None:
    """Raise ConfigError if a library of an extra is missing."""
    from importlib.util import find_spec

    if any(find_spec(module) is None for module in modules):
        raise ConfigError(f"this command needs telemetron-batch[{extra}]", f"pip install 'telemetron-batch[{extra}]'")
