"""The commands `serve` and `serve-user`: the page of the returns desk."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from telemetron_batch.cli import completion
from telemetron_batch.cli.arguments import LIST_CODES, VERBOSE, CommandT, options_where, require_extra, resolve_flags
from telemetron_batch.cli.arrow import import_pyarrow_without_pandas
from telemetron_batch.cli.errors import exit_on_error, print_error, tolerate_closed_stdout
from telemetron_batch.cli.help import HelpCommand, HelpGroup, choose
from telemetron_batch.domain.stops import ExitCode

_SERVE_CODES = {
    ExitCode.DONE: "Ended by a signal.",
    ExitCode.NOT_STARTED: "The options, the users or the port cannot be used.",
    ExitCode.LOCKED: "Another serve uses this reports folder.",
    **choose(ExitCode.UNBALANCED),
}
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


def _serve_options(command: CommandT) -> CommandT:
    for decorate in reversed(_SERVE_OPTIONS):
        command = decorate(command)
    return command


@click.command(
    "serve",
    cls=HelpCommand,
    example="telemetron-batch serve --max-failed 5%",
    exit_codes=_SERVE_CODES,
    grouped=True,
    own_section="Server",
)
@_serve_options
@options_where(lambda option: option.for_serve)
def serve_command(**flags: Any) -> None:
    """Serve the page of the returns desk.

    Runs until it is interrupted; needs telemetron-batch[serve]. On this machine it prints an address that works once.
    Others can only reach it with TLS and users. The options of runs apply to every run that is made on the page.
    """
    with exit_on_error(verbose=bool(flags["verbose"])):
        require_extra("serve", "argon2", "python_multipart")
        own = {str(key): flags.pop(str(key)) for key in _keys_of(_SERVE_OPTIONS)}
        config = resolve_flags((), flags)
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


_USERS_FILE = click.option(
    "--users",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="telemetron-users.json",
    show_default=True,
    metavar="FILE",
    help="File of the users.",
)


@click.group(
    "serve-user",
    cls=HelpGroup,
    example="telemetron-batch serve-user add ann --role operator",
    exit_codes=LIST_CODES,
)
def serve_user_group() -> None:
    """Add, remove and list the users of serve."""


@serve_user_group.command(
    "add", cls=HelpCommand, example="telemetron-batch serve-user add ann --role operator", exit_codes=LIST_CODES
)
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(["viewer", "operator", "approver"]), help="What NAME may do.")
@click.option("--no-password", is_flag=True, help="NAME signs in at a proxy (--user-header) only.")
@_USERS_FILE
@VERBOSE
def serve_user_add_command(name: str, role: str, path: Path, *, no_password: bool, verbose: bool) -> None:
    """Add the user NAME, or give NAME another role and password.

    Asks for the password; without a terminal it is the first line of standard input. viewer: sees the runs of NAME.
    operator: also makes and sends them. approver: also approves plans of others, and sees every run.
    """
    with exit_on_error(verbose=verbose):
        require_extra("serve", "argon2")
        from telemetron_batch.web.accounts import add_user

        click.echo(add_user(path, name, role, None if no_password else _ask_password))


def _ask_password(name: str) -> str:
    """Return the password of a user, asked twice on a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


@serve_user_group.command(
    "remove", cls=HelpCommand, example="telemetron-batch serve-user remove ann", exit_codes=LIST_CODES
)
@click.argument("name")
@_USERS_FILE
@VERBOSE
def serve_user_remove_command(name: str, path: Path, *, verbose: bool) -> None:
    """Remove the user NAME, whose sessions end at once."""
    with exit_on_error(verbose=verbose):
        require_extra("serve", "argon2")
        from telemetron_batch.web.accounts import remove_user

        click.echo(remove_user(path, name))


@serve_user_group.command("list", cls=HelpCommand, example="telemetron-batch serve-user list", exit_codes=LIST_CODES)
@_USERS_FILE
@VERBOSE
def serve_user_list_command(path: Path, *, verbose: bool) -> None:
    """List the users and their roles."""
    with exit_on_error(verbose=verbose):
        require_extra("serve", "argon2")
        from telemetron_batch.web.accounts import list_users

        with tolerate_closed_stdout():
            for line in list_users(path):
                click.echo(line)
