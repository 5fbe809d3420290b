"""Every night, carry out the export of the ERP with several workers: one plan, four shards, one reconciliation.

`reports_dir` is on storage that all workers share. All shards together keep the rate of the
connection `telemetron_default`; `max_active_runs=1` keeps another run of this DAG from using it too.
With `depends_on_past=True` a night waits until all tasks of the one before have succeeded.
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
    # Whoever triggers a run chooses among the files of one folder, and no folder.
    params={"file": Param("assignments.csv", type="string", pattern=r"^[\w-]+\.csv$")},
    doc_md=__doc__,
) as dag:
    assign_devices = telemetron_task_group(
        "assign_devices",
        file="/erp/{{ params.file }}",
        reports_dir="/shared/telemetron",
        shards=4,
        options={"max_unassign": 20_000, "give_up_after": "30m"},
        outlets=[Asset("telemetron://assignments")],
        depends_on_past=True,
        retries=3,
        retry_delay=timedelta(minutes=1),
    )

    @task
    def tell(summary: dict[str, Any]) -> str:
        """Say how it went; in place of this, mail `attention.csv` to whoever can correct it."""
        return f"{summary['rows']} rows, {summary['attention']} want attention: {summary['folder']}/attention.csv"

    tell(assign_devices.get_child_by_label("reconcile").output)
