"""The command `schema`: what programs and editors can expect of our JSON and TOML files."""

import json
import sys

import click

from telemetron_batch.cli.errors import tolerate_closed_stdout
from telemetron_batch.cli.help import HelpCommand
from telemetron_batch.domain.errors import PathError
from telemetron_batch.domain.stops import ExitCode

_SCHEMA_CODES = {
    ExitCode.DONE: "The schema was printed.",
    ExitCode.NOT_STARTED: "There is no schema of that name, or it cannot be written.",
}


@click.command(
    "schema",
    cls=HelpCommand,
    example="telemetron-batch schema profile",
    exit_codes=_SCHEMA_CODES,
)
@click.argument("kind", type=click.Choice(["summary", "profile"]))
def schema_command(kind: str) -> None:
    """Print the JSON Schema of summary.json or of profiles.

    It is of draft 2020-12. Programs can check a summary by it, and editors can complete and check a profile.
    """
    with tolerate_closed_stdout():
        try:
            click.echo(schema_text(kind), nl=False)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as exc:  # the schema is all that there is
            raise PathError(f"standard output cannot be written ({exc.strerror})", "redirect it elsewhere") from exc


def schema_text(kind: str) -> str:
    """Return a schema as a JSON document: of summary.json (`summary`) or of profile files (`profile`)."""
    if kind == "summary":
        from telemetron_batch.reports.summary_schema import summary_schema as make_schema
    else:
        from telemetron_batch.config.profile_schema import profile_schema as make_schema
    return json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n"
