"""Wait until the night's export is complete, send it, and tell people how it went.

The sensor waits up to two hours for a file that exists and has not changed for two minutes. `TelemetronNotifier`
writes to the log; give it a notifier of Slack, mail or another provider to deliver the message.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from telemetron_batch.airflow_provider.notifications import TelemetronNotifier
from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator
from telemetron_batch.airflow_provider.sensors import TelemetronFileSensor

with DAG(
    dag_id="telemetron_sensor",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"depends_on_past": True},
    # A person who triggers a run can choose a file of one folder, but not another folder.
    params={"file": Param("assignments.csv", type="string", pattern=r"^[\w-]+\.csv$")},
    doc_md=__doc__,
) as dag:
    await_export = TelemetronFileSensor(
        task_id="await_export",
        file="/erp/{{ params.file }}",
        settled_for=timedelta(minutes=2),
        timeout=timedelta(hours=2),
        mode="reschedule",
        poke_interval=timedelta(minutes=1),
    )
    assign_devices = TelemetronBatchOperator(
        task_id="assign_devices",
        file="/erp/{{ params.file }}",
        reports_dir="/shared/telemetron",
        options={"max_failed": "5%"},
        retries=3,
        retry_delay=timedelta(minutes=5),
        on_success_callback=TelemetronNotifier(),
        on_failure_callback=TelemetronNotifier(),
    )
    await_export >> assign_devices
