"""The operator: one task that carries out one file, in the task's own process.

Airflow's retry is our resume: the run id comes from what stays the same between tries, so
the next try goes on with the journal of the one before. What Airflow should do about the
end of a run is said by the class of the exception.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    Asset,
    BaseOperator,
    BaseOperatorLink,
    XCom,
)

from batch import app
from batch.airflow_context import MAP_INDEX
from batch.airflow_provider.hooks import TelemetronHook, named_options
from batch.airflow_provider.lineage import lineage
from batch.airflow_provider.running import TaskFace, in_thread
from batch.config import RunConfig
from batch.errors import BatchError
from batch.interrupt import Interrupt
from batch.model import ExitCode
from batch.reconciliation.outputs import Summary

RUN_ID: Final = (
    "{{ dag.dag_id }}.{{ task.task_id }}.{{ run_id }}{% if ti.map_index >= 0 %}.{{ ti.map_index }}{% endif %}"
)
"""The same for every try of a task, another for every run of its DAG. Never the try's number."""
REPORT_URL: Final = "report_url"
SUMMARY: Final = "summary"

_ARGUMENTS: Final = ("run_id", "reports_dir")
_RETRIED: Final = (ExitCode.STOPPED, ExitCode.LOCKED)
_LONGEST_NAME: Final = 150


class ReportLink(BaseOperatorLink):
    """From the task to the page of its run."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002
        """The address of report.html; empty until the task has begun."""
        return XCom.get_value(ti_key=ti_key, key=REPORT_URL) or ""


class TelemetronBatchOperator(BaseOperator):
    """Carries out the assignments of one file, or of several as one run.

    :param file: path of the input, or a list of paths. (templated)
    :param reports_dir: folder under which the run has its folder; on storage that every
        worker sees, for it holds the journal from which a retry goes on. (templated)
    :param run_id: the run's id; the default is made of DAG, task, run and map index. (templated)
    :param telemetron_conn_id: connection of type `telemetron`; None: the key is in the
        worker's environment, or not needed (option `sandbox`). (templated)
    :param options: options of `telemetron-batch run` by name, e.g. `{"max_failed": "5%"}`.
        They beat those of the connection. (templated)
    :param skip_if_empty: skip the task when the input has no rows; else that is an error.
    :param fail_on: "incomplete" fails the task when the run did not reach its end;
        "attention" also when it did and rows want attention.
    :param reports_url: where `reports_dir` can be seen in a browser, for the link. (templated)

    Gives the run's summary, as in summary.json, and its folder.
    """

    template_fields: Sequence[str] = ("file", "reports_dir", "run_id", "telemetron_conn_id", "options", "reports_url")
    template_fields_renderers: Mapping[str, str] = {"options": "json"}
    operator_extra_links = (ReportLink(),)
    ui_color = "#dcecf4"

    def __init__(  # noqa: PLR0913 - the arguments of an operator are its options
        self,
        *,
        file: str | Sequence[str],
        reports_dir: str,
        run_id: str = RUN_ID,
        telemetron_conn_id: str | None = TelemetronHook.default_conn_name,
        options: Mapping[str, Any] | None = None,
        skip_if_empty: bool = True,
        fail_on: str = "incomplete",
        reports_url: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.reports_dir = reports_dir
        self.run_id = run_id
        self.telemetron_conn_id = telemetron_conn_id
        self.options = options
        self.skip_if_empty = skip_if_empty
        self.fail_on = fail_on
        self.reports_url = reports_url
        self._interrupt: Interrupt | None = None
        _check_arguments(options, fail_on)

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run, or go on with the run of an earlier try."""
        with _as_airflow_wants_it():
            config = self._config(context)
            context["ti"].xcom_push(key=REPORT_URL, value=self._report_url(config))
            self._interrupt = Interrupt()
            face = TaskFace(self._interrupt, logging.getLogger("batch"))
            summary = in_thread(partial(app.run, config, face=face), self._interrupt)
        return self._told(context, summary)

    def on_kill(self) -> None:
        """Ask the run to end. Called inside a signal handler, so nothing is waited for here."""
        if self._interrupt is not None:
            self._interrupt.now("stopped by Airflow")

    def get_openlineage_facets_on_start(self) -> Any:
        """The files read and written, for OpenLineage."""
        return lineage(self._files(), Path(self.reports_dir) / folder_name(self.run_id))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """The same when the task has ended well."""
        return self.get_openlineage_facets_on_start()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:  # noqa: ARG002
        """The same when it has not: the files are written all the same."""
        return self.get_openlineage_facets_on_start()

    def _files(self) -> list[str]:
        return [self.file] if isinstance(self.file, str) else [*self.file]

    def _config(self, context: Mapping[str, Any]) -> RunConfig:
        index = context["ti"].map_index
        hook = TelemetronHook(self.telemetron_conn_id)
        empty = {"allow_empty": True} if self.skip_if_empty else {}
        options = {**empty, **(self.options or {}), "reports_dir": self.reports_dir, "run_id": folder_name(self.run_id)}
        config = hook.config(self._files(), options, {MAP_INDEX: str(index)} if index >= 0 else {})
        return replace(config, reports_dir=config.reports_dir.absolute())

    def _report_url(self, config: RunConfig) -> str:
        if self.reports_url:
            return f"{self.reports_url.rstrip('/')}/{quote(str(config.run_id))}/report.html"
        return (config.reports_dir / str(config.run_id) / "report.html").as_uri()

    def _told(self, context: Mapping[str, Any], summary: Summary) -> dict[str, Any]:
        """The summary for those who come after; raises what tells Airflow how the run ended."""
        fields = {**json.loads(summary.as_json()), "folder": str(summary.folder)}
        if fields["attention"]:
            where = summary.folder / "attention.csv"
            self.log.warning("%d of %d rows want attention: see %s", fields["attention"], fields["rows"], where)
        problem = _problem(fields, self.fail_on)
        if problem is None and fields["rows"] == 0 and self.skip_if_empty:
            problem = AirflowSkipException, "the input has no rows: nothing to do"
        if problem is not None:
            context["ti"].xcom_push(key=SUMMARY, value=fields)  # a task that fails returns nothing
            raise problem[0](problem[1])
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra = {**fields, "events": []}
        return fields


def folder_name(run_id: str) -> str:
    """A run id of Airflow's making as a name for a folder: `:` is none on every storage."""
    name = re.sub(r"[^\w.+@=-]", "_", run_id.strip()).lstrip(".")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{sha256(run_id.encode()).hexdigest()[:12]}"


def _check_arguments(options: Any, fail_on: str) -> None:
    """What can be seen to be wrong when the DAG is read."""
    if fail_on not in ("incomplete", "attention"):
        raise ValueError(f"fail_on: {fail_on!r} is neither incomplete nor attention")
    if isinstance(options, Mapping):
        doubled = [name for name in _ARGUMENTS if name in named_options(options, "options")]
        if doubled:
            raise ValueError(f"options: {', '.join(doubled)} is an argument of the operator")


def _problem(fields: Mapping[str, Any], fail_on: str) -> tuple[type[Exception], str] | None:
    """What tells Airflow that a run did not end well, and whether to try again."""
    if fields["stop"]:
        kind = AirflowException if fields["exitCode"] in _RETRIED else AirflowFailException
        return kind, f"{fields['stop']['reason']}; {fields['stop']['advice']}"
    if fail_on == "attention" and fields["exitCode"] == ExitCode.ATTENTION:
        return AirflowFailException, f"{fields['attention']} rows want attention: see attention.csv"
    return None


@contextmanager
def _as_airflow_wants_it() -> Iterator[None]:
    """What keeps a run from starting: tried again where time may heal it, else failed at once."""
    try:
        yield
    except BatchError as exc:
        if exc.exit_code in _RETRIED:
            raise AirflowException(str(exc)) from exc
        raise AirflowFailException(str(exc)) from exc
