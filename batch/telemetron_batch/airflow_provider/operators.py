"""The operator that makes a whole run in one task.

An Airflow retry resumes the run: the run id is made of what stays the same between tries, so the next try
continues from the journal of the previous one.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from telemetron_batch.airflow_provider.base import InputOperator, ReportingOperator, SendingOperator, summary_dict
from telemetron_batch.run import pipeline

RUN_ID: Final = (
    "{{ dag.dag_id }}.{{ task.task_id }}.{{ run_id }}{% if ti.map_index >= 0 %}.{{ ti.map_index }}{% endif %}"
)
"""The same for every try of a task, and different for every DAG run; it must not contain the try's number."""


class TelemetronBatchOperator(SendingOperator, InputOperator, ReportingOperator):
    """Sends the assignments of one file, or of several files as one run.

    Besides `reports_dir`, `telemetron_conn_id`, `options`, `as_of` and `deferrable`:

    :param file: path of the input, or a list of paths. (templated)
    :param run_id: the run's id; by default made of DAG, task, run and map index. (templated)
    :param skip_if_empty: skip the task if the input has no rows; else that is an error.
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
        config = self._config(context, is_run=True)
        self._push_report_url(context)
        fields = summary_dict(self._run_in_thread(partial(pipeline.run, config)))
        self._deferred(context, fields)
        return self._finish(context, fields, self._problem(fields))

    def _problem(self, fields: Mapping[str, Any]) -> Exception | None:
        return super()._problem(fields) or self._skip_exception(fields["rows"])
