"""The base class of the operators that write the files of a run and end as the run does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Asset

from telemetron_batch.airflow_provider.base import SUMMARY, FolderOperator
from telemetron_batch.airflow_provider.failures import check_fail_on
from telemetron_batch.airflow_provider.links import REPORT_URL, ReportLink, published_url, report_url
from telemetron_batch.airflow_provider.task_work import summary_dict


class ReportingOperator(FolderOperator):
    """A task that writes the files of a run and ends as the run does.

    :param fail_on: "stopped" fails the task if the run did not reach its end;
        "incomplete" also if it did but no row succeeded; "attention" also if rows want attention.
    :param reports_url: URL at which a browser finds `reports_dir`, or the folder of the option `publish`, for the
        link; by default the connection's extra `reports_url`. (templated)
    """

    template_fields: Sequence[str] = (*FolderOperator.template_fields, "reports_url")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, fail_on: str = "incomplete", reports_url: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fail_on = fail_on
        self.reports_url = reports_url
        check_fail_on(fail_on)

    def _output_folder(self) -> Path:
        return self.folder

    def _problem(self, fields: Mapping[str, Any]) -> Exception | None:
        """Return the exception that fails the task, if any."""
        return self.policy.problem(fields, self.fail_on)

    def _push_report_url(self, context: Mapping[str, Any]) -> None:
        """Publish the URL of the report, before the work: a failing task has a report, too."""
        with self.policy.translate_errors():
            base = self.reports_url or self.hook.reports_url
        context["ti"].xcom_push(key=REPORT_URL, value=report_url(self.folder, base))

    def _push_summary(self, context: Mapping[str, Any], summary: Any) -> None:
        """Publish the summary of a run that Airflow has ended with a timeout."""
        context["ti"].xcom_push(key=SUMMARY, value=summary_dict(summary))

    def _finish(self, context: Mapping[str, Any], fields: dict[str, Any], problem: Exception | None) -> dict[str, Any]:
        """Return the summary of a run for later tasks; raise the problem if there is one."""
        if not (self.reports_url or self.hook.reports_url) and (url := published_url(fields.get("published"))):
            context["ti"].xcom_push(key=REPORT_URL, value=url)
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
