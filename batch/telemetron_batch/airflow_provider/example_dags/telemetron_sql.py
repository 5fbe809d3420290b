"""Send the rows of a query, through the hook of any database connection of Airflow.

Every value becomes exact text; a floating point number in a key column is refused. Once the plan is made the rows are
in the journal of the run, so a retry needs no database.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG

from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator

with DAG(
    dag_id="telemetron_sql",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"depends_on_past": True},
    doc_md=__doc__,
) as dag:
    TelemetronBatchOperator(
        task_id="assign_devices",
        sql="""
            SELECT mail AS "customerEmail", serial AS "deviceIdentifier", 'assign' AS "action"
            FROM shipments
            WHERE shipped_on = DATE '{{ ds }}'
        """,
        sql_conn_id="warehouse",
        reports_dir="/shared/telemetron",
        options={"max_failed": "5%"},
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
