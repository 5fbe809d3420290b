"""The command `approve`: who may send a saved plan."""

from pathlib import Path

import click

from telemetron_batch.cli import completion
from telemetron_batch.cli.arguments import REPORTS_DIR, VERBOSE, run_folder
from telemetron_batch.cli.errors import exit_on_error, print_error, tolerate_closed_stdout
from telemetron_batch.cli.help import HelpCommand
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.stops import ExitCode

_APPROVE_CODES = {
    ExitCode.DONE: "Done.",
    ExitCode.NOT_STARTED: "The approval was refused, or cannot be written.",
}


@click.command(
    "approve", cls=HelpCommand, example="telemetron-batch approve monday 7f3a-92c1", exit_codes=_APPROVE_CODES
)
@click.argument("run", required=False, shell_complete=completion.runs)
@click.argument("fingerprint", required=False)
@REPORTS_DIR
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
@VERBOSE
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
    from telemetron_batch.cli.show_lists import show_approvals
    from telemetron_batch.run.approve import list_approvals

    if run is not None:
        raise ConfigError("--list takes no RUN", "leave one of them out")
    lines = list_approvals(reports_dir, place, warn=lambda text: print_error(f"warning: {text}"))
    with tolerate_closed_stdout():
        show_approvals(lines, as_json=as_json)


def _revoke(run: str | None, reports_dir: str, place: Path | None, *, as_json: bool) -> None:
    from telemetron_batch.cli.show_lists import show_revoked
    from telemetron_batch.run.approve import revoke

    if run is None:
        raise ConfigError("Missing argument 'RUN'", "name the run whose approval is to be removed")
    folder = run_folder(run, reports_dir)
    revoke(folder, place)
    with tolerate_closed_stdout():
        show_revoked(folder.name, as_json=as_json)


def _approve(named: tuple[str | None, str | None], reports_dir: str, place: Path | None, *, as_json: bool) -> None:
    """Approve a run, named by its id or folder, for a fingerprint."""
    from telemetron_batch.cli.show_lists import show_approved
    from telemetron_batch.run.approve import approve

    run, fingerprint = named
    if run is None or fingerprint is None:
        missing = "RUN" if run is None else "FINGERPRINT"
        raise ConfigError(f"Missing argument '{missing}'", "give both as plan --save printed them")
    approved = approve(run_folder(run, reports_dir), fingerprint, place)
    with tolerate_closed_stdout():
        show_approved(approved, as_json=as_json)
