"""Run the nightly export of the ERP in one task.

The connection `telemetron_default` (type telemetron) has the base URL as host and the API key as password. With
`depends_on_past=True` each DAG run waits until the previous one has succeeded. With `approve=True` the task would
ask a person on the page of Airflow before it sends.
"""

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator

with DAG(
    dag_id="telemetron_operator",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    # A person who triggers a run can choose a file of one folder, but not another folder.
    # Tick `again` in the form of a new run to process a file once more that a run has processed already.
    params={
        "file": Param("assignments.csv", type="string", pattern=r"^[\w-]+\.csv$"),
        "again": Param(False, type="boolean"),
    },
    doc_md=__doc__,
) as dag:
    assign_devices = TelemetronBatchOperator(
        task_id="assign_devices",
        file="/erp/{{ params.file }}",
        reports_dir="/shared/telemetron",
        options={"max_failed": "5%", "give_up_after": "30m", "again": "{{ params.again }}"},
        outlets=[Asset("telemetron://assignments")],
        depends_on_past=True,
        retries=3,
        retry_delay=timedelta(minutes=5),
        retry_exponential_backoff=True,
        execution_timeout=timedelta(hours=6),
    )

    @task
    def tell(summary: dict[str, Any]) -> str:
        """Return a message; in practice, mail `attention.csv` to the people who can correct it."""
        return f"{summary['rows']} rows, {summary['attention']} want attention: {summary['folder']}/attention.csv"

    tell(assign_devices.output)
