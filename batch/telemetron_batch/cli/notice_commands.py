"""The command `notify`: try who hears how a run ended."""

from typing import Any

import click

from telemetron_batch.cli.arguments import VERBOSE, options_where, resolve_flags
from telemetron_batch.cli.errors import exit_on_error, tolerate_closed_stdout
from telemetron_batch.cli.help import HelpCommand
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.stops import ExitCode

_NOTIFY_CODES = {
    ExitCode.DONE: "Every message and ping was sent.",
    ExitCode.ATTENTION: "Some were not; each line says why.",
    ExitCode.NOT_STARTED: "No URL is given, or one cannot be used.",
}


@click.command(
    "notify", cls=HelpCommand, example="telemetron-batch notify --test --profile night", exit_codes=_NOTIFY_CODES
)
@click.option("--test", "is_test", is_flag=True, help="Send a test message to each --notify, and get --ping once.")
@options_where(lambda option: option.for_notify)
@VERBOSE
def notify_command(*, is_test: bool, verbose: bool, **flags: Any) -> None:
    """Send test messages and a test ping.

    They go where a run tells how it ended. The ping is that of a run which ended well.
    """
    with exit_on_error(verbose=verbose):
        if not is_test:
            raise ConfigError("notify only sends tests: a run sends its messages itself", "add --test")
        config = resolve_flags((), {**flags, "sandbox": True})  # needs no key
        from telemetron_batch.notices.send_test import send_test

        lines = send_test(config)
        with tolerate_closed_stdout():
            for line in lines:
                click.echo(line.text)
    raise SystemExit(ExitCode.ATTENTION if any(line.problem for line in lines) else ExitCode.DONE)
