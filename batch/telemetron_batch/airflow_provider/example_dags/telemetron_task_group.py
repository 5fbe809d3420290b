"""Run the nightly export of the ERP on several workers: one plan, four shards, one reconciliation.

`reports_dir` is on storage that all workers share. All shards together keep the rate of the connection
`telemetron_default`; `max_active_runs=1` prevents another run of this DAG from using it at the same time. With
`depends_on_past=True` each DAG run waits until all tasks of the previous one have succeeded.
"""

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from telemetron_batch.airflow_provider.groups import telemetron_task_group

with DAG(
    dag_id="telemetron_task_group",
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
    assign_devices = telemetron_task_group(
        "assign_devices",
        file="/erp/{{ params.file }}",
        reports_dir="/shared/telemetron",
        shards=4,
        options={"max_unassign": 20_000, "give_up_after": "30m", "again": "{{ params.again }}"},
        outlets=[Asset("telemetron://assignments")],
        depends_on_past=True,
        retries=3,
        retry_delay=timedelta(minutes=1),
    )

    @task
    def tell(summary: dict[str, Any]) -> str:
        """Return a message; in practice, mail `attention.csv` to the people who can correct it."""
        return f"{summary['rows']} rows, {summary['attention']} want attention: {summary['folder']}/attention.csv"

    tell(assign_devices.get_child_by_label("reconcile").output)
