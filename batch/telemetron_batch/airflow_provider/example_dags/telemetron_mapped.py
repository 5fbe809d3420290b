"""Send the exports of several branches, one mapped task and one run for each.

All tasks use one API key, so they take turns: a task whose turn has not come leaves its slot (`up_for_reschedule`),
looks again every minute and uses up no try. One file that fails does not keep the others from being sent.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG

from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator

with DAG(
    dag_id="telemetron_mapped",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"depends_on_past": True},
    doc_md=__doc__,
) as dag:
    TelemetronBatchOperator.partial(
        task_id="assign_devices",
        reports_dir="/shared/telemetron",
        options={"max_failed": "5%"},
        map_index_template="{{ task.file }}",
        retries=3,
        retry_delay=timedelta(minutes=5),
    ).expand(file=["/erp/berlin.csv", "/erp/lyon.csv", "/erp/porto.csv"])
