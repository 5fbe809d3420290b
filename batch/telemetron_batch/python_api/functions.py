"""The functions of the Python interface: what the commands of the same names do, for a calling program.

They call the same functions of `run` as the command line, and resolve options by the same rules. What differs is at the
edge: values in place of texts, a thread in place of signals, exceptions and results in place of exit codes and prints.
So neither is built upon the other.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, Unpack

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.config.sources import unknown_variables
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.printable import printable
from telemetron_batch.planning import plan_summary
from telemetron_batch.python_api.fields import PlanFields
from telemetron_batch.python_api.frame_file import frame_file, remove_frame_files
from telemetron_batch.python_api.option_texts import SHARDING, key_of, option_texts, refuse_file_options
from telemetron_batch.python_api.options import PlanOptions, ReportOptions, ResumeOptions, RunOptions, VerifyOptions
from telemetron_batch.python_api.results import Plan, Result
from telemetron_batch.python_api.source import PathText, Source, is_frame, paths_of
from telemetron_batch.python_api.worker import OnProgress, WorkerObserver, run_in_thread
from telemetron_batch.run import pipeline
from telemetron_batch.run.await_input import await_input
from telemetron_batch.run.feed_back import attention_config
from telemetron_batch.run.named_run import environ_with, find_run_folder
from telemetron_batch.run.save_plan import SavedPlan
from telemetron_batch.storage.clock import RealClock
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.storage.trusted_folders import shared_with_group

LOGGER.addHandler(logging.NullHandler())  # a library prints nothing if its program configures no logging

Run: TypeAlias = PathText | Plan | Result
"""A run by its id or folder, or by what a function returned for it."""


def plan(
    source: Source | None = None,
    *,
    save: bool = False,
    on_progress: OnProgress | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Return what `run` would send. Raises BatchError. The source is as for `run`.

    Without network, and leaves no file; with `online` it queries each customer. With `save` or `online` the plan
    becomes a run of its own, which `resume` sends.
    """
    with _configured(source, options, PlanOptions) as config:
        return run_in_thread(partial(_plan, config, is_saved=save), _callable(on_progress))


def run(
    source: Source | None = None, *, on_progress: OnProgress | None = None, **options: Unpack[RunOptions]
) -> Result:
    """Send the assignments of the source and reconcile every row. Return the result, however the run ended.

    Without a source, `query` and `source_url_file` say where the rows are.

    With the `run_id` of a stopped run it continues that; with that of a finished run it changes nothing. Raises
    BatchError where the run cannot start.
    """
    with _configured(source, options, RunOptions) as config:
        return run_in_thread(partial(_run, config), _callable(on_progress))


def resume(run: Run, *, on_progress: OnProgress | None = None, **options: Unpack[ResumeOptions]) -> Result:
    """Continue a stopped run, or send a saved plan, with its own options. Raises BatchError.

    The input is not needed: the journal of the run has it.
    """
    flags = option_texts(options, ResumeOptions.__optional_keys__)
    work = partial(pipeline.resume, out_of_order=bool(flags.pop("out_of_order", False)))
    return _continue(work, run, flags, on_progress)


def verify(run: Run, *, on_progress: OnProgress | None = None, **options: Unpack[VerifyOptions]) -> Result:
    """Compare the outcomes of a run with the state at the API, and write its files again. Raises BatchError."""
    flags = option_texts(options, VerifyOptions.__optional_keys__)
    return _continue(pipeline.verify, run, flags, on_progress)


def report(run: Run, **options: Unpack[ReportOptions]) -> Result:
    """Write the files of a run again from its journal, without network. Raises BatchError."""
    from telemetron_batch.sharding.report import report_run

    flags = option_texts(options, ReportOptions.__optional_keys__)
    folder = find_run_folder(_named(run), flags.get("reports_dir", "reports"))
    with shared_with_group(bool(flags.get("shared_reports_dir"))):
        return run_in_thread(lambda _: Result.of(report_run(folder, xlsx=bool(flags.get("xlsx")), environ=os.environ)))


def _plan(config: RunConfig, observer: WorkerObserver, *, is_saved: bool) -> Plan:
    planned: SavedPlan | plan_summary.PlanSummary
    if not config.online:  # a look waits when it has the key
        config = await_input(config, RealClock(), observer)
    if config.online:
        from telemetron_batch.run.preview import preview_plan

        planned = preview_plan(config, observer)
    elif is_saved:
        from telemetron_batch.run.save_plan import save_plan

        planned = save_plan(config, observer)
    else:
        from telemetron_batch.run.make_plan import make_plan

        planned = make_plan(config)
    fields = PlanFields(planned.as_json())
    if fields.folder is not None:
        fields["folder"] = str(Path(fields.folder).absolute())  # the caller may change its folder
    return Plan(fields, exit_code=0 if fields.rows else config.brakes.empty_exit_code or 0)


def _run(config: RunConfig, observer: WorkerObserver) -> Result:
    if config.input.is_frame:
        observer.before_sending = partial(remove_frame_files, config.files)
    return Result.of(pipeline.run(config, observer=observer))


def _continue(work: Any, run: Run, flags: dict[str, Any], on_progress: OnProgress | None) -> Result:
    """Resume or verify a run with these options."""
    folder = find_run_folder(_named(run), flags.pop("reports_dir", "reports"))
    is_shared = bool(flags.pop("shared_reports_dir", False))
    _require_valid(flags)
    environ = environ_with(flags, os.environ)
    with shared_with_group(is_shared):
        return run_in_thread(
            lambda observer: Result.of(work(folder, environ, observer=observer)), _callable(on_progress)
        )


@contextmanager
def _configured(source: object, given: Mapping[str, object], kind: Any) -> Iterator[RunConfig]:
    """Yield the configuration of a plan or run of this source, which can be read within this context."""
    flags = option_texts(given, kind.__optional_keys__)
    for name in unknown_variables(os.environ):
        LOGGER.warning("%s is not a variable of telemetron-batch and is ignored", printable(name))
    if source is None:
        config = _in_one_process(resolve((), flags, os.environ, None, key_of))
        if config.query is None:
            raise ConfigError(
                "source: there is none", "name a file, give a pandas DataFrame, or query=... of a database"
            )
        yield config
        return
    if not is_frame(source):
        config = attention_config(paths_of(source), flags, os.environ, key_of)
        if config.options_from_run is not None:
            LOGGER.info("read with the options of run %s", printable(config.options_from_run))
        yield _in_one_process(config)
        return
    refuse_file_options(given)
    config = _in_one_process(resolve((), flags, os.environ, None, key_of))
    config = replace(config, input=replace(config.input, is_frame=True), query=None, wait_for_file=0.0, settled_for=0.0)
    with frame_file(source, config.input) as path:
        yield replace(config, files=(str(path),))


def _in_one_process(config: RunConfig) -> RunConfig:
    """Return the configuration. Raises ConfigError if the environment or the profile asks for shards."""
    if any(getattr(config, name) is not None for name in SHARDING):
        raise ConfigError("Python makes no shards of a run", "use the command telemetron-batch for runs in shards")
    return config


def _require_valid(flags: Mapping[str, Any]) -> None:
    """Raise ConfigError for invalid options of a run that exists, under the names that the caller wrote."""
    problems = []
    for key, texts in flags.items():
        option = OPTIONS_BY_KEY[key]
        try:
            if not option.holds_secret:  # it may name a file, which `resolve` reads
                for text in texts if isinstance(texts, list) else [texts]:
                    option.parse(str(text))
        except ValueError as exc:
            problems.append(f"{key}: {exc}")
    if problems:
        raise ConfigError("; ".join(problems), "see telemetron-batch resume --help")


def _callable(on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is None or callable(on_progress):
        return on_progress
    raise ConfigError(f"on_progress: takes a callable, not {type(on_progress).__name__}", "pass a function")


def _named(run: object) -> str:
    """Return the id or the folder of a run as text."""
    if isinstance(run, Plan | Result):
        if run.folder is None:
            raise ConfigError("run: this plan was not saved", "make it with save=True")
        return str(run.folder.absolute())
    if isinstance(run, str | os.PathLike):
        name = os.fspath(run)
        if isinstance(name, str) and name:
            return name
    raise ConfigError(f"run: takes the id or the folder of a run, not {type(run).__name__}", "name the run")
