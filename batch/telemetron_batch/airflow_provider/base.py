"""The base classes of all operators: connection, options, folder, and the result for Airflow.

The class of an exception tells Airflow what to do: retry what may succeed later, fail for good what a person must
correct, skip a task without work. A long wait that the API asks for can be spent outside the worker's slot.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    Asset,
    BaseOperator,
    BaseOperatorLink,
    XCom,
    conf,
)

from telemetron_batch.airflow_provider.hooks import TelemetronHook, named_options
from telemetron_batch.airflow_provider.lineage import lineage
from telemetron_batch.airflow_provider.rendered import files_in, options_in, time_in
from telemetron_batch.airflow_provider.task_thread import TaskObserver, in_thread
from telemetron_batch.airflow_provider.triggers import DateTimeTrigger
from telemetron_batch.config.airflow_context import MAP_INDEX
from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.domain.outcomes import DONE, Outcome
from telemetron_batch.domain.printable import printable
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.notices.refusal import refusals_announced
from telemetron_batch.reports.summary import BaseSummary

T = TypeVar("T")

REPORT_URL: Final = "report_url"
SUMMARY: Final = "summary"
RETRYABLE_EXIT_CODES: Final = (ExitCode.STOPPED, ExitCode.LOCKED)
FAIL_ON: Final = ("stopped", "incomplete", "attention")

AS_OF: Final = "{{ dag_run.data_interval_end.isoformat() if dag_run.data_interval_end else '' }}"
"""The end of the task's data interval; empty for a manual run without one."""

_OPTIONS_GIVEN_AS_ARGUMENTS: Final = ("as_of", "run_id", "reports_dir", "shards", "shards_at_once", "shard", "phase")
_MAX_NAME_LENGTH: Final = 150
_DEFAULT_LONGEST_WAIT: Final = "5m"
"""A deferrable task waits up to this long inside its slot, unless the option `longest_wait` is given."""
_MAX_DEFERRAL: Final = timedelta(days=1)
"""The API is asked again at least once a day, even if it asks for a longer wait."""


class ReportLink(BaseOperatorLink):
    """A link from the task to the page of its run."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002
        """Return the URL of report.html; empty until the task has started."""
        return XCom.get_value(ti_key=ti_key, key=REPORT_URL) or ""


class FolderOperator(BaseOperator):
    """A task that works in the folder of a run.

    :param reports_dir: folder that contains the run's folder; an absolute path on storage that every worker
        can access, because a retry continues from the journal in it. (templated)
    :param run_id: the run's id. (templated)
    """

    template_fields: Sequence[str] = ("reports_dir", "run_id")
    ui_color = "#dcecf4"

    def __init__(self, *, reports_dir: str, run_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reports_dir = reports_dir
        self.run_id = run_id
        self._interrupt: CancelToken | None = None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.reports_dir).absolute() / folder_name(self.run_id)

    def on_kill(self) -> None:
        """Ask the run to end. Called in a signal handler, so it must not wait."""
        if self._interrupt is not None:
            self._interrupt.cancel("stopped by Airflow")

    def get_openlineage_facets_on_start(self) -> Any:
        """Return the files read and written, for OpenLineage."""
        return lineage(self._files(), self._output_folder())

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Return the same after success."""
        return self.get_openlineage_facets_on_start()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Return the same after a failure: the files are written then, too."""
        return self.get_openlineage_facets_on_start()

    def _files(self) -> list[str]:
        """Return the inputs that the task reads."""
        return []

    def _output_folder(self) -> Path | None:
        """Return the folder to which the task writes the files of a run, if it does."""
        return None

    def _run_in_thread(self, work: Callable[..., T]) -> T:
        """Do the work, which takes an `observer`, in a thread that ends when the task is cancelled.

        Raises exceptions of Airflow.
        """
        self._interrupt = CancelToken()
        observer = TaskObserver(self._interrupt, logging.getLogger("telemetron_batch"))
        with translate_errors():
            return in_thread(partial(work, observer=observer), self._interrupt)


class TelemetronOperator(FolderOperator):
    """A task that reads an input, or makes calls.

    :param telemetron_conn_id: connection of type `telemetron`; None: the key is in the
        worker's environment, or not needed (option `sandbox`). (templated)
    :param options: options of `telemetron-batch run` by name, e.g. `{"max_failed": "5%"}`,
        or their JSON text. They override those of the connection. (templated)
    :param as_of: the time that the input describes, as ISO 8601 text with zone or as a datetime: an older
        run is not sent after a newer one. The default is the end of the data interval, or what the run of this id
        was started with; None: not known. (templated)
    """

    template_fields: Sequence[str] = (*FolderOperator.template_fields, "telemetron_conn_id", "options", "as_of")
    template_fields_renderers: Mapping[str, str] = {"options": "json"}

    def __init__(
        self,
        *,
        telemetron_conn_id: str | None = TelemetronHook.default_conn_name,
        options: Mapping[str, Any] | str | None = None,
        as_of: str | datetime | None = AS_OF,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.telemetron_conn_id = telemetron_conn_id
        self.options = options
        self.as_of = as_of
        self._as_of_is_default = as_of == AS_OF
        _check_options(options)

    def _config(self, context: Mapping[str, Any], *, is_run: bool = False, **besides: Any) -> RunConfig:
        """Return the configuration of the task's work, with further options. Raises exceptions of Airflow.

        With `is_run` the task is a whole run, so those who hear of its end also hear if the options are refused.
        """
        index = context["ti"].map_index
        place = {"reports_dir": str(self.folder.parent), "run_id": self.folder.name}
        options = {**self._own_options(), **self._own_as_of(), **besides, **place}
        variables = {MAP_INDEX: str(index)} if index >= 0 else {}
        hook = TelemetronHook(self.telemetron_conn_id)
        with translate_errors():
            request = hook.request(options, self.folder.name) if is_run else None
            with nullcontext() if request is None else refusals_announced(request):
                return hook.config(self._files(), options, variables, self._defaults())

    def _own_as_of(self) -> dict[str, Any]:
        """Return the option `as_of`. A run that was started before keeps its own, unless the DAG gives another."""
        with suppress(OSError):  # the run itself reports what is wrong with its folder
            if self._as_of_is_default and (self.folder / JOURNAL_NAME).exists():
                return {}
        return {"as_of": time_in(self.as_of)}

    def _own_options(self) -> dict[str, Any]:
        """Return the options of the task after rendering. Raises exceptions of Airflow."""
        options = options_in(self.options)
        try:
            with translate_errors():
                _check_options(options)
        except ValueError as exc:
            raise AirflowFailException(str(exc)) from exc
        return options

    def _defaults(self) -> dict[str, Any]:
        """Return options that apply unless connection, task or environment give them."""
        return {}


class InputOperator(TelemetronOperator):
    """A task that reads an input.

    :param file: path of the input, or a list of paths, or the JSON text of a list. (templated)
    :param skip_if_empty: an input without rows skips the task; else it is an error.
    """

    template_fields: Sequence[str] = (*TelemetronOperator.template_fields, "file")

    def __init__(self, *, file: str | Sequence[str], skip_if_empty: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.skip_if_empty = skip_if_empty

    def _skip_exception(self, rows: int) -> Exception | None:
        """Return the exception that skips the task, if the input has no rows and `skip_if_empty` is set."""
        if rows or not self.skip_if_empty:
            return None
        kind: type[Exception] = AirflowSkipException
        return kind("the input has no rows: nothing to do")

    def _files(self) -> list[str]:
        return files_in(self.file)

    def _defaults(self) -> dict[str, Any]:
        return {**super()._defaults(), **({"allow_empty": True} if self.skip_if_empty else {})}


class SendingOperator(TelemetronOperator):
    """A task that makes calls.

    :param deferrable: if the API asks to wait for longer than the option `longest_wait` (5 minutes), release the
        worker's slot until then and continue in the same try. Needs a triggerer. Otherwise the task waits in its
        slot, up to `give_up_after`.
    """

    def __init__(
        self, *, deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable

    def execute_again(self, context: Mapping[str, Any], event: Any = None) -> Any:  # noqa: ARG002
        """Continue after the wait that the API asked for."""
        return self.execute(context)

    def _defaults(self) -> dict[str, Any]:
        return {**super()._defaults(), **({"longest_wait": _DEFAULT_LONGEST_WAIT} if self.deferrable else {})}

    def _deferred(self, context: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Defer the task if the API asked to wait and the task is deferrable."""
        if not self.deferrable or not fields.get("resumeAt"):
            return
        context["ti"].xcom_push(key=SUMMARY, value=dict(fields))
        moment = min(datetime.fromisoformat(fields["resumeAt"]), datetime.now(UTC) + _MAX_DEFERRAL)
        reason = printable(fields["stop"]["reason"])
        self.log.info("%s: deferred until then, outside the worker's slot", reason)
        self.defer(trigger=DateTimeTrigger(moment.isoformat()), method_name="execute_again")


class ReportingOperator(FolderOperator):
    """A task that writes the files of a run and ends as the run does.

    :param fail_on: "stopped" fails the task if the run did not reach its end;
        "incomplete" also if it did but no row succeeded; "attention" also if rows want attention.
    :param reports_url: URL at which a browser finds `reports_dir`, for the link. (templated)
    """

    template_fields: Sequence[str] = (*FolderOperator.template_fields, "reports_url")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, fail_on: str = "incomplete", reports_url: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fail_on = fail_on
        self.reports_url = reports_url
        if fail_on not in FAIL_ON:
            raise ValueError(f"fail_on: {fail_on!r} is none of {', '.join(FAIL_ON)}")

    def _output_folder(self) -> Path:
        return self.folder

    def _problem(self, fields: Mapping[str, Any]) -> Exception | None:
        """Return the exception that fails the task, if any."""
        if self.fail_on == "stopped":
            return exception_if_stopped(fields)
        return (
            exception_if_stopped(fields)
            or _exception_if_nothing_succeeded(fields)
            or _exception_if_attention_wanted(fields, self.fail_on)
        )

    def _push_report_url(self, context: Mapping[str, Any]) -> None:
        """Publish the URL of the report, before the work: a failing task has a report, too."""
        context["ti"].xcom_push(key=REPORT_URL, value=_report_url(self.folder, self.reports_url))

    def _finish(self, context: Mapping[str, Any], fields: dict[str, Any], problem: Exception | None) -> dict[str, Any]:
        """Return the summary of a run for later tasks; raise the problem if there is one."""
        if fields["attention"]:
            where = Path(fields["folder"]) / "attention.csv"
            self.log.warning("%d of %d rows want attention: see %s", fields["attention"], fields["rows"], where)
        if problem is not None:
            context["ti"].xcom_push(key=SUMMARY, value=fields)  # a task that fails returns nothing
            raise problem
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra = {**fields, "events": []}
        return fields


def summary_dict(summary: BaseSummary) -> dict[str, Any]:
    """Return the fields of summary.json, and the folder."""
    return {**json.loads(summary.as_json()), "folder": str(summary.folder)}


def folder_name(run_id: str) -> str:
    """Return a run id of Airflow as a folder name, without characters such as `:` that some storage refuses."""
    name = re.sub(r"[^\w.+@=-]", "_", run_id.strip()).lstrip(".")
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    return f"{name[:_MAX_NAME_LENGTH]}-{sha256(run_id.encode()).hexdigest()[:12]}"


def exception_if_stopped(fields: Mapping[str, Any]) -> Exception | None:
    """Return the exception for work that stopped early, retryable or not; None if it did not stop."""
    if not fields["stop"]:
        return None
    kind: type[Exception] = AirflowException if fields["exitCode"] in RETRYABLE_EXIT_CODES else AirflowFailException
    return kind(f"{fields['stop']['reason']}; {fields['stop']['advice']}")


def _exception_if_nothing_succeeded(fields: Mapping[str, Any]) -> Exception | None:
    """Return the exception for a finished run in which no row succeeded although it had rows to send; else None.

    A skipped row succeeded unless it wants attention, or the run tolerates that outcome.
    """
    counts, wanting = fields["counts"], fields["attentionByOutcome"]
    succeeded = sum(counts[outcome] for outcome in DONE) + counts[Outcome.SKIPPED]
    if not _tolerates_skipped(fields):
        succeeded -= wanting.get(Outcome.SKIPPED, 0)
    if succeeded or fields["rows"] == counts[Outcome.DUPLICATE]:
        return None
    found = ", ".join(f"{count} {outcome}" for outcome, count in wanting.items())
    where = Path(fields["folder"]) / "attention.csv"
    advice = "correct the cause, then start a new run of the DAG (for the same file with the option again)"
    return _failure(f"no row succeeded ({found}): see {where}, {advice}")


def _tolerates_skipped(fields: Mapping[str, Any]) -> bool:
    tolerated = fields["options"].get("tolerate", ())
    return Outcome.SKIPPED in (OPTIONS_BY_KEY["tolerate"].parse(text) for text in tolerated)


def _exception_if_attention_wanted(fields: Mapping[str, Any], fail_on: str) -> Exception | None:
    """Return the exception that fails the task if rows want attention and `fail_on` is "attention"."""
    if fail_on == "attention" and fields["exitCode"] == ExitCode.ATTENTION:
        return _failure(f"{fields['attention']} rows want attention: see attention.csv")
    return None


def _failure(message: str) -> Exception:
    """Return the exception that fails the task without another try."""
    kind: type[Exception] = AirflowFailException
    return kind(message)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate errors that keep work from starting: retry what may succeed later, fail everything else at once."""
    try:
        yield
    except BatchError as exc:
        if exc.exit_code in RETRYABLE_EXIT_CODES:
            raise AirflowException(str(exc)) from exc
        raise AirflowFailException(str(exc)) from exc


def _check_options(options: Any) -> None:
    """Raise ValueError for options that are arguments of their own, when the DAG is parsed."""
    if isinstance(options, Mapping):
        doubled = [name for name in _OPTIONS_GIVEN_AS_ARGUMENTS if name in named_options(options, "options")]
        if doubled:
            raise ValueError(f"options: {', '.join(doubled)} is an argument of its own")


def _report_url(folder: Path, reports_url: str | None) -> str:
    if reports_url:
        return f"{reports_url.rstrip('/')}/{quote(folder.name)}/report.html"
    return (folder / "report.html").as_uri()
