"""Send the rows that a Python function returns as a DataFrame of pandas or polars.

`@task.telemetron_batch` takes the arguments of `TelemetronBatchOperator`. The function runs in the task; a retry
after the plan was made continues with the rows that it returned then.
"""

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task

with DAG(
    dag_id="telemetron_frame",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"depends_on_past": True},
    doc_md=__doc__,
) as dag:

    @task.telemetron_batch(reports_dir="/shared/telemetron", retries=3, retry_delay=timedelta(minutes=5))
    def assign_devices() -> Any:
        """Return the shipments whose customer is known; texts stay texts with dtype=str."""
        import pandas as pd

        shipments = pd.read_csv("/erp/shipments.csv", dtype=str)
        shipments["action"] = "assign"
        return shipments[shipments["customerEmail"].notna()]

    assign_devices()
