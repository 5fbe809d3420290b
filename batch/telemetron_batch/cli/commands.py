"""The commands of telemetron-batch.

Each command imports the code it runs inside its function, so that `--help`, usage errors and completion are fast.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from telemetron_batch import __version__
from telemetron_batch.cli import completion
from telemetron_batch.cli.approval_commands import approve_command
from telemetron_batch.cli.arguments import (
    AS_JSON,
    LIST_CODES,
    QUIET,
    REPORTS_DIR,
    RESUME_OPTIONS,
    SHARED_REPORTS_DIR,
    VERBOSE,
    is_run,
    options_of_run,
    options_where,
    resolve_flags,
    run_folder,
    warn_of_variables,
)
from telemetron_batch.cli.arrow import import_pyarrow_without_pandas
from telemetron_batch.cli.errors import OneLineErrorGroup, exit_on_error, print_error, tolerate_closed_stdout
from telemetron_batch.cli.help import EXIT_CODES, HelpCommand, choose
from telemetron_batch.cli.lookup_commands import compare_command, holdings_command
from telemetron_batch.cli.notice_commands import notify_command
from telemetron_batch.cli.refusals import tell_refusal
from telemetron_batch.cli.retention_commands import forget_command, prune_command
from telemetron_batch.cli.sandbox_commands import sandbox_command
from telemetron_batch.cli.schema_commands import schema_command
from telemetron_batch.cli.serve_commands import serve_command, serve_user_group
from telemetron_batch.config.options import OPTIONS, OPTIONS_BY_KEY
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.printable import json_text
from telemetron_batch.domain.shell import join
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
_INIT_CODES = {
    ExitCode.DONE: "The profile was written.",
    ExitCode.NOT_STARTED: "FILE cannot be read, or the profile already exists.",
}


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
@options_where(lambda _: True)
def run_command(files: tuple[str, ...], **flags: Any) -> None:
    """Send the assignments in FILEs and reconcile every row.

    The same command with the same --run-id continues a stopped run. On a terminal it shows the plan and asks
    before sending. With the --run-id of a saved plan it takes no FILE and sends that plan. With --shard it takes
    none either: it makes one shard of a run that `plan --shards` prepared.
    """
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        with tell_refusal(flags, ", ".join(Path(file).name for file in files)):
            config = _configure(files, flags)
            names_run = not files and config.query is None and config.shard is None and config.run_id is not None
            is_planned = names_run and is_run(config.folder)
            planned_flags = _flags_of_planned(config, flags) if is_planned else {}
            if not is_planned:
                _check_shard(config)
        if is_planned:
            _resume_planned(config, flags, planned_flags)
        _warn_of_airflow(config)
        from telemetron_batch.cli.terminal import TerminalObserver

        make, show = _sender_of(config)
        summary = make(config, observer=TerminalObserver(config.output))
        with tolerate_closed_stdout():
            show(summary, config.output)
    raise SystemExit(summary.exit_code)


def _flags_of_planned(config: Any, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `run --run-id ID` without FILE that go on to `resume`. Raises ConfigError for others."""
    more = {"as_json": config.output.json, "verbose": config.output.verbose, "quiet": config.output.quiet}
    more |= {one.key: flags[one.key] for one in (OPTIONS_BY_KEY["base_url"], *RESUME_OPTIONS)}
    taken = {"config", "profile", "reports_dir", "run_id", "yes", "no_progress", "out_of_order"}
    ignored = [one.name for one in OPTIONS if flags.get(one.key) and one.key not in taken | {*more, "json"}]
    if ignored:
        raise ConfigError(
            f"--{ignored[0]} cannot be given to a planned run without its FILE", "name the file too, or leave it out"
        )
    return more


def _resume_planned(config: Any, flags: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """Do what `resume` does, for `run --run-id ID` without FILE: the plan of that run, with its own options."""
    import_pyarrow_without_pandas()
    from telemetron_batch.run import pipeline

    resume = partial(pipeline.resume, out_of_order=bool(flags["out_of_order"]))
    _resume_or_verify(resume, config.folder, shared_reports_dir=bool(flags["shared_reports_dir"]), **more)


def _sender_of(config: Any) -> tuple[Callable[..., Any], Callable[..., None]]:
    """Return what makes this run, or this shard of a run, and what shows its end."""
    import_pyarrow_without_pandas()
    from telemetron_batch.cli.show_end import show_end, show_shard

    if config.shard is None:
        from telemetron_batch.run import pipeline

        return pipeline.run, show_end
    from telemetron_batch.sharding.run_shard import run_shard

    return run_shard, show_shard


def _check_shard(config: Any) -> None:
    """Raise ConfigError unless the options name either files or one shard of a planned run."""
    if config.shard is None:
        _require_input(config, "run")
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


def _require_input(config: Any, command: str) -> None:
    if not config.files and config.query is None:
        raise ConfigError("Missing argument 'FILE...'", f"see telemetron-batch {command} --help")


@main.command(
    "plan",
    cls=HelpCommand,
    example="telemetron-batch plan assignments.csv --rate 40/s",
    exit_codes=_PLAN_CODES,
    grouped=True,
)
@click.argument("files", nargs=-1, metavar="FILE...", shell_complete=completion.files)
@click.option("--save", is_flag=True, help="Make the run's folder and print the plan's fingerprint, to send it later.")
@options_where(lambda option: option.for_plan)
def plan_command(files: tuple[str, ...], *, save: bool, **flags: Any) -> None:
    """Show what run would send.

    Uses no network unless --online is given. Shows calls, stages, the shortest possible time and the problems found.
    With --save it keeps the plan as a run, which resume sends, with --approval second only after another user has
    approved it. With --shards it prepares the run's folder, so that several processes or machines can make the run.
    """
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        config = _configure(files, flags)
        _require_input(config, "plan")
        if config.shards is not None and (save or config.online):
            flag = "--save" if save else "--online"
            raise ConfigError(f"{flag} cannot be combined with --shards", "leave it out: plan --shards saves the plan")
        planned = _plan(config, save=save)
    raise SystemExit(0 if planned.rows else config.brakes.empty_exit_code or 0)


def _plan(config: Any, *, save: bool) -> Any:
    """Plan the run, or save its plan, and show it. Return the plan in numbers."""
    from telemetron_batch.cli.show_plan import print_plan_result, show_saved, show_sharded
    from telemetron_batch.cli.terminal import TerminalObserver

    if not config.online:  # a look waits when it has the key
        config = _await_input(config, TerminalObserver(config.output))
    if config.shards is not None:
        from telemetron_batch.sharding.shard_plan import plan_shards

        sharded = plan_shards(config)
        with tolerate_closed_stdout():
            show_sharded(sharded, config.output)
        return sharded.summary
    if config.online:
        from telemetron_batch.run.preview import preview_plan

        saved = preview_plan(config, TerminalObserver(config.output))
        with tolerate_closed_stdout():
            show_saved(saved, config.output)
        return saved.summary
    if save:
        from telemetron_batch.run.save_plan import save_plan

        saved = save_plan(config)
        with tolerate_closed_stdout():
            show_saved(saved, config.output)
        return saved.summary
    from telemetron_batch.run.make_plan import make_plan

    planned = make_plan(config)
    with tolerate_closed_stdout():
        print_plan_result(planned, config.output)
    return planned


def _await_input(config: Any, observer: Any) -> Any:
    """Wait for the input, if so wanted. Return the configuration for what follows."""
    if not (config.wait_for_file or config.settled_for):
        return config
    from telemetron_batch.run.await_input import await_input
    from telemetron_batch.storage.clock import RealClock

    return await_input(config, RealClock(), observer)


def _resume_or_verify(work: Callable[..., Any], folder: Path, *, shared_reports_dir: bool, **more: Any) -> None:
    """Resume or verify a run, and show how it ended."""
    from telemetron_batch.cli.show_end import show_end
    from telemetron_batch.cli.terminal import TerminalObserver
    from telemetron_batch.config.config import OutputOptions
    from telemetron_batch.run.named_run import environ_with

    output = OutputOptions(yes=True, json=more["as_json"], verbose=more["verbose"], quiet=more["quiet"])
    taken = (OPTIONS_BY_KEY["base_url"], *RESUME_OPTIONS)
    environ = environ_with({option.key: more.get(option.key) for option in taken}, os.environ)
    with exit_on_error(verbose=output.verbose, as_json=output.json), shared_with_group(shared_reports_dir):
        summary = work(folder, environ, observer=TerminalObserver(output))
        with tolerate_closed_stdout():
            show_end(summary, output)
    raise SystemExit(summary.exit_code)


@main.command("resume", cls=HelpCommand, example="telemetron-batch resume monday", exit_codes=_ALL_CODES)
@options_of_run(lambda option: option.for_resume)
@click.option("--out-of-order", is_flag=True, help=OPTIONS_BY_KEY["out_of_order"].help)
@AS_JSON
@VERBOSE
@QUIET
def resume_command(run: str, reports_dir: str, *, out_of_order: bool, **more: Any) -> None:
    """Continue the stopped run RUN with its own options.

    RUN is the run id or the run's folder.
    """
    import_pyarrow_without_pandas()
    from telemetron_batch.run import pipeline

    _resume_or_verify(partial(pipeline.resume, out_of_order=out_of_order), run_folder(run, reports_dir), **more)


@main.command("undo", cls=HelpCommand, example="telemetron-batch undo monday", exit_codes=_ALL_CODES, grouped=True)
@click.argument("run", shell_complete=completion.runs)
@options_where(lambda option: option.for_undo)
def undo_command(run: str, **flags: Any) -> None:
    """Take back the changes of RUN by running its undo.csv.

    RUN is the run id or the run's folder. Only sure changes are taken back.
    """
    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        with tell_refusal(flags, run):
            folder = run_folder(run, str(resolve_flags((), flags).reports_dir))
        import_pyarrow_without_pandas()
        from telemetron_batch.cli.show_end import show_end
        from telemetron_batch.cli.terminal import TerminalObserver
        from telemetron_batch.run import pipeline
        from telemetron_batch.run.undo import configure_undo

        with tell_refusal(flags, run), shared_with_group(bool(flags["shared_reports_dir"])):
            config = configure_undo(folder, flags, os.environ)
        summary = pipeline.run(config, observer=TerminalObserver(config.output))
        with tolerate_closed_stdout():
            show_end(summary, config.output)
    raise SystemExit(summary.exit_code)


@main.command("verify", cls=HelpCommand, example="telemetron-batch verify monday", exit_codes=_VERIFY_CODES)
@options_of_run(lambda option: option.for_verify)
@AS_JSON
@VERBOSE
@QUIET
def verify_command(run: str, reports_dir: str, **more: Any) -> None:
    """Compare the outcomes of RUN with the state at the API.

    RUN is the run id or the run's folder. Queries each customer of the run; changes nothing at the API.
    """
    import_pyarrow_without_pandas()
    from telemetron_batch.run import pipeline

    _resume_or_verify(pipeline.verify, run_folder(run, reports_dir), **more)


@main.command("report", cls=HelpCommand, example="telemetron-batch report monday --xlsx", exit_codes=_REPORT_CODES)
@click.argument("run", shell_complete=completion.runs)
@REPORTS_DIR
@SHARED_REPORTS_DIR
@click.option("--xlsx", is_flag=True, help="Also write reconciliation and attention as workbooks.")
@click.option(
    "--anonymise",
    metavar="DIR",
    help="Write nothing but a copy for support into this new folder: no addresses, no serials, no texts.",
    shell_complete=completion.completer_for("DIR"),
)
@AS_JSON
@VERBOSE
def report_command(
    run: str, reports_dir: str, *, shared_reports_dir: bool, xlsx: bool, anonymise: str | None, **shown: bool
) -> None:
    """Write the files of RUN again from its journal.

    RUN is the run id or the run's folder. Uses no network.
    """
    if anonymise is not None:
        _copy_anonymously(run_folder(run, reports_dir), Path(anonymise), shared_reports_dir=shared_reports_dir, **shown)
        return
    import_pyarrow_without_pandas()
    from telemetron_batch.cli.show_end import show_end
    from telemetron_batch.config.config import OutputOptions
    from telemetron_batch.sharding.report import report_run

    with exit_on_error(verbose=shown["verbose"], as_json=shown["as_json"]), shared_with_group(shared_reports_dir):
        summary = report_run(run_folder(run, reports_dir), xlsx=xlsx, environ=os.environ)
        with tolerate_closed_stdout():
            show_end(summary, OutputOptions(json=shown["as_json"]))
    raise SystemExit(summary.exit_code)


def _copy_anonymously(folder: Path, target: Path, *, shared_reports_dir: bool, as_json: bool, verbose: bool) -> None:
    """Write a copy of a run without personal data, and say where it is."""
    import_pyarrow_without_pandas()
    from telemetron_batch.retention.anonymous_copy import write_anonymous_copy

    with exit_on_error(verbose=verbose, as_json=as_json), shared_with_group(shared_reports_dir):
        copy = write_anonymous_copy(folder, target)
        with tolerate_closed_stdout():
            click.echo(json_text(copy.fields) if as_json else f"Wrote an anonymous copy to {copy.folder}.")


@main.command("runs", cls=HelpCommand, example="telemetron-batch runs", exit_codes=LIST_CODES)
@REPORTS_DIR
@SHARED_REPORTS_DIR
@click.option("--json", "as_json", is_flag=True, help="Write one line of JSON to standard output.")
def runs_command(reports_dir: str, *, shared_reports_dir: bool, as_json: bool) -> None:
    """List the runs, newest first, with their next step."""
    from telemetron_batch.cli.show_lists import show_runs
    from telemetron_batch.run import listing

    unreadable: list[str] = []
    with exit_on_error(verbose=False), shared_with_group(shared_reports_dir):
        lines = listing.list_runs(Path(reports_dir), unreadable.append)
    for text in unreadable:
        print_error(f"warning: {text}")
    with tolerate_closed_stdout():
        show_runs(lines, as_json=as_json, unreadable=len(unreadable))


@main.command("check", cls=HelpCommand, example="telemetron-batch check", exit_codes=_CHECK_CODES)
@options_where(lambda option: option.for_check)
def check_command(**flags: Any) -> None:
    """Test base URL, TLS and API key with one read request."""
    from telemetron_batch.cli.show_lists import show_check
    from telemetron_batch.run.check import check

    with exit_on_error(verbose=bool(flags["verbose"]), as_json=bool(flags["json"])):
        config = resolve_flags((), flags)
        found = check(config)
        with tolerate_closed_stdout():
            show_check(found, config)
    raise SystemExit(0 if found.stop is None else found.stop.exit_code)


@main.command(
    "init", cls=HelpCommand, example="telemetron-batch init assignments.csv --profile erp", exit_codes=_INIT_CODES
)
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@options_where(lambda option: option.for_init)
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
        options = resolve_flags((file,), flags, environ).input
        with tolerate_closed_stdout():
            interview.run_init(
                init_profile.InitRequest(file, options, profile or init_profile.default_profile(file), config, force)
            )


@main.command(
    "completion",
    cls=HelpCommand,
    example="telemetron-batch completion bash > ~/.telemetron-completion.bash",
    exit_codes=LIST_CODES,
)
@click.argument("shell", metavar="SHELL", type=click.Choice(completion.SHELLS))
def completion_command(shell: str) -> None:
    """Print the completion script for SHELL."""
    with tolerate_closed_stdout():
        click.echo(completion.script(shell, main))


def _configure(files: tuple[str, ...], flags: Mapping[str, Any]) -> Any:
    """Return the configuration of a run of these files, which may be our own report files."""
    if not files:
        config = resolve_flags(files, flags)
        if config.query is not None:
            import_pyarrow_without_pandas()
        return config
    import_pyarrow_without_pandas()
    from telemetron_batch.run.feed_back import attention_config

    warn_of_variables()
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
    return f": {join(words)}" if words else ""


def _warn_of_airflow(config: Any) -> None:
    """Warn of a relative reports folder: Airflow deletes the working folder of a task, and with it the journal."""
    if config.airflow and not config.reports_dir.is_absolute():
        problem = f"warning: --reports-dir {config.reports_dir} is relative, and Airflow deletes the folder of a task"
        print_error(f"{problem}; give an absolute path that all workers share, or a retry starts a new run")


for command in (
    approve_command,
    compare_command,
    forget_command,
    holdings_command,
    notify_command,
    prune_command,
    sandbox_command,
    schema_command,
    serve_command,
    serve_user_group,
):
    main.add_command(command)
