"""Look what the customers of a run hold now, and take the run back after a person has agreed.

Trigger it with the id of the run, which is the name of its folder. Only what the run is sure to have changed is taken
back.
"""

from datetime import datetime

from airflow.sdk import DAG, Param

from telemetron_batch.airflow_provider.operators import TelemetronUndoOperator, TelemetronVerifyOperator

with DAG(
    dag_id="telemetron_undo",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"run": Param("", type="string", pattern=r"^[\w.+@=-]*$", description="Id of the run to take back")},
    doc_md=__doc__,
) as dag:
    verify = TelemetronVerifyOperator(task_id="verify", run="{{ params.run }}", reports_dir="/shared/telemetron")
    undo = TelemetronUndoOperator(
        task_id="undo", run="{{ params.run }}", reports_dir="/shared/telemetron", approve=True, trigger_rule="all_done"
    )
    verify >> undo
