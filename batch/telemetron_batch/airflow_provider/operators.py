"""The operators that make a whole run in one task, verify a run, or take one back.

An Airflow retry resumes the run: the run id is made of what stays the same between tries, so the next try
continues from the journal of the previous one.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from telemetron_batch.airflow_provider.approval import ApprovableOperator
from telemetron_batch.airflow_provider.folder_names import RUN_ID, folder_name
from telemetron_batch.airflow_provider.inputs import InputOperator
from telemetron_batch.airflow_provider.reporting import ReportingOperator
from telemetron_batch.airflow_provider.sending import SendingOperator
from telemetron_batch.airflow_provider.task_work import map_index_variables, summary_dict
from telemetron_batch.domain.printable import printable


class TelemetronBatchOperator(ApprovableOperator, InputOperator):
    """Sends the assignments of one file, or of several files as one run.

    Besides `reports_dir`, `telemetron_conn_id`, `options`, `as_of`, `deferrable`, `look_again_after`, `approve`,
    `approval_timeout` and `approvers`:

    :param file: path of the input, or a list of paths. (templated)
    :param sql: a query in place of `file`, with `sql_conn_id`, the connection of its database. (templated)
    :param run_id: the run's id; by default made of DAG, task, run and map index. (templated)
    :param skip_if_empty: skip the task if the input has a header but no rows; else that is an error.
    :param fail_on: "stopped" fails the task if the run did not reach its end;
        "incomplete" also if it did but no row succeeded; "attention" also if rows want attention.
    :param reports_url: URL at which a browser finds `reports_dir`, for the link. (templated)

    Returns the run's summary, as in summary.json, and its folder.
    """

    template_fields: Sequence[str] = (*InputOperator.template_fields, "reports_url")

    def __init__(self, *, run_id: str = RUN_ID, **kwargs: Any) -> None:
        super().__init__(run_id=run_id, **kwargs)

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Start the run, or continue the run of an earlier try."""
        from telemetron_batch.run import pipeline

        config = self._config(context, is_run=True)
        self._push_report_url(context)
        with self._deferring_locks(), self._with_rows(context, config) as config:
            self._ask_first(context, config, ", ".join(Path(file).name for file in config.files))
            work = partial(pipeline.run, config)
            fields = summary_dict(self._run_in_thread(work, partial(self._push_summary, context)))
            self._defer_if_api_asks(context, fields)
            return self._finish(context, fields, self._problem(fields))

    def _problem(self, fields: Mapping[str, Any]) -> Exception | None:
        return super()._problem(fields) or self._skip_exception(fields["rows"])


class TelemetronVerifyOperator(SendingOperator, ReportingOperator):
    """Compares the outcomes of a finished run with what its customers hold now; changes nothing at the API.

    Besides `reports_dir`, `telemetron_conn_id`, `deferrable`, `fail_on` and `reports_url`:

    :param run: id of the run, e.g. `{{ ti.xcom_pull(task_ids='assign_devices')['runId'] }}`. (templated)

    The files of the run are written again, with the answers. Returns its summary.
    """

    template_fields: Sequence[str] = ("run", "reports_dir", "telemetron_conn_id", "reports_url")

    def __init__(self, *, run: str, **kwargs: Any) -> None:
        super().__init__(run_id=run, as_of=None, **kwargs)
        self.run = run

    @property
    def folder(self) -> Path:
        """The folder of the run that is verified."""
        return Path(self.reports_dir) / folder_name(self.run)

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Query each customer of the run, and write its files again."""
        from telemetron_batch.run import pipeline

        self._check_reports_dir()
        self._push_report_url(context)
        with self._deferring_locks():
            with self.policy.translate_errors():
                environ = self.hook.environment({**map_index_variables(context)})
            work = partial(pipeline.verify, self.folder, environ)
            fields = summary_dict(self._run_in_thread(work, partial(self._push_summary, context)))
            self._defer_if_api_asks(context, fields)
            return self._finish(context, fields, self._problem(fields))


class TelemetronUndoOperator(ApprovableOperator):
    """Takes back what an earlier run is sure to have changed, by a run of its undo.csv.

    Besides `reports_dir`, `telemetron_conn_id`, `options`, `deferrable`, `fail_on`, `reports_url`, `approve`,
    `approval_timeout` and `approvers`:

    :param run: id of the run to take back. (templated)
    :param run_id: id of the new run; by default made of DAG, task, run and map index. (templated)

    Returns the summary of the new run.
    """

    template_fields: Sequence[str] = (*SendingOperator.template_fields, "reports_url", "run")

    def __init__(self, *, run: str, run_id: str = RUN_ID, **kwargs: Any) -> None:
        super().__init__(run_id=run_id, as_of=None, **kwargs)
        self.run = run

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Start the run that takes back the other, or continue it."""
        from telemetron_batch.run import pipeline

        config = self._undo_config(context)
        self._push_report_url(context)
        with self._deferring_locks():
            self._ask_first(context, config, f"what takes back run {printable(self.run)}")
            work = partial(pipeline.run, config)
            fields = summary_dict(self._run_in_thread(work, partial(self._push_summary, context)))
            self._defer_if_api_asks(context, fields)
            return self._finish(context, fields, self._problem(fields))

    def _undo_config(self, context: Mapping[str, Any]) -> Any:
        """Return the configuration of the run of undo.csv. Raises exceptions of Airflow."""
        from telemetron_batch.run.undo import configure_undo

        self._check_reports_dir()
        options = {**self._own_options(), "run_id": self.folder.name}
        resolver = partial(configure_undo, Path(self.reports_dir) / folder_name(self.run))
        with self.policy.translate_errors():
            return self.hook.resolve(resolver, options, map_index_variables(context), self._defaults())
