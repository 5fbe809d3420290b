"""The command `sandbox`, which serves a stand-in for the API."""

import os
from pathlib import Path
from typing import Any, Final

import click

from telemetron_batch.cli import completion
from telemetron_batch.cli.arguments import options_where, resolve_flags
from telemetron_batch.cli.arrow import import_pyarrow_without_pandas
from telemetron_batch.cli.errors import exit_on_error, print_error
from telemetron_batch.cli.help import HelpCommand
from telemetron_batch.domain.stops import ExitCode

_CODES: Final = {ExitCode.DONE: "Interrupted.", ExitCode.NOT_STARTED: "The options, a file or the port cannot be used."}
_OPTIONS: Final = (
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8765,
        show_default=True,
        help="Port to serve on; 0 picks a free one.",
    ),
    click.option(
        "--db", type=click.Path(dir_okay=False, path_type=Path), help="File that keeps the state between runs."
    ),
    click.option("--rate", "limit", metavar="RATE", help="Calls accepted, e.g. 40/s; more are answered with 429."),
    click.option(
        "--max-devices", type=click.IntRange(1), default=1000, show_default=True, help="Maximum devices per call."
    ),
    click.option(
        "--seed",
        "seed_files",
        metavar="FILE",
        multiple=True,
        help="Input file whose run shall succeed: its customers and devices exist. Repeatable.",
        shell_complete=completion.files,
    ),
    click.option(
        "--fail", metavar="P%", help="Share of requests that fail: 500, 503, lost connections and answers, silence."
    ),
    click.option(
        "--fail-seed", type=int, default=1, show_default=True, metavar="N", help="Another N lets other requests fail."
    ),
    click.option("--refuse-key", is_flag=True, help="Answer every request with 401, as for a wrong key."),
)


def _sandbox_options(command: Any) -> Any:
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


@click.command(
    "sandbox",
    cls=HelpCommand,
    example="telemetron-batch sandbox --seed assignments.csv --fail 5%",
    exit_codes=_CODES,
    grouped=True,
    own_section="Sandbox",
)
@_sandbox_options
@options_where(lambda option: option.for_init and option.name != "owners")
def sandbox_command(**flags: Any) -> None:
    """Serve the sandbox API until it is interrupted.

    The options of the input say how to read the files of --seed.
    """
    with exit_on_error(verbose=bool(flags["verbose"])):
        names = ("port", "db", "limit", "max_devices", "seed_files", "fail", "fail_seed", "refuse_key")
        own = {name: flags.pop(name) for name in names}
        if own["seed_files"]:
            import_pyarrow_without_pandas()
            own["input"] = resolve_flags(own["seed_files"], flags).input
        from telemetron_batch.sandbox.serve import SandboxOptions, serve_sandbox

        options = SandboxOptions(**own, environ=os.environ)
        serve_sandbox(options, announce=click.echo, note=print_error)
