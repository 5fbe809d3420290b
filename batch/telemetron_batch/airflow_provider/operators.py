"""The operator: one task that carries out one file, in the task's own process.

Airflow's retry is our resume: the run id comes from what stays the same between tries, so
the next try goes on with the journal of the one before.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from telemetron_batch.airflow_provider.base import InputOperator, ReportingOperator, SendingOperator, summary_dict
from telemetron_batch.run import pipeline

RUN_ID: Final = (
    "{{ dag.dag_id }}.{{ task.task_id }}.{{ run_id }}{% if ti.map_index >= 0 %}.{{ ti.map_index }}{% endif %}"
)
"""The same for every try of a task, another for every run of its DAG. Never the try's number."""


class TelemetronBatchOperator(SendingOperator, InputOperator, ReportingOperator):
    """Carries out the assignments of one file, or of several as one run.

    Besides `reports_dir`, `telemetron_conn_id`, `options`, `as_of` and `deferrable`:

    :param file: path of the input, or a list of paths. (templated)
    :param run_id: the run's id; the default is made of DAG, task, run and map index. (templated)
    :param skip_if_empty: skip the task when the input has no rows; else that is an error.
    :param fail_on: "stopped" fails the task when the run did not reach its end;
        "incomplete" also when it did and no row succeeded; "attention" also when rows want attention.
    :param reports_url: where `reports_dir` can be seen in a browser, for the link. (templated)

    Gives the run's summary, as in summary.json, and its folder.
    """

    template_fields: Sequence[str] = (*InputOperator.template_fields, "reports_url")

    def __init__(self, *, run_id: str = RUN_ID, **kwargs: Any) -> None:
        super().__init__(run_id=run_id, **kwargs)

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run, or go on with the run of an earlier try."""
        config = self._config(context)
        self._push_report_url(context)
        fields = summary_dict(self._run_in_thread(partial(pipeline.run, config)))
        self._deferred(context, fields)
        return self._finish(context, fields, self._problem(fields))

    def _problem(self, fields: Mapping[str, Any]) -> Exception | None:
        return super()._problem(fields) or self._skip_exception(fields["rows"])
