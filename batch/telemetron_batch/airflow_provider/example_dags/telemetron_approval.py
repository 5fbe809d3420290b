"""Plan an export, let a person approve it on the page of Airflow, then send exactly this plan.

`plan --save` makes the folder of the run without any network. The page of Airflow shows the numbers and the
fingerprint of the plan to the person who approves it. `run` with the same id sends this plan, and refuses a changed
file. Without an answer within a day Airflow rejects the plan. Airflow records who approved. To require another user
of the system instead, see `--approval second`.
"""

import json
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param

PLACES = {
    "EXPORT": "/erp/{{ params.file }}",
    "REPORTS": "/shared/telemetron",
    "RUN": "{{ dag.dag_id }}.{{ run_id | replace(':', '_') }}",
    "TELEMETRON_AS_OF": "{{ dag_run.data_interval_end.isoformat() if dag_run.data_interval_end else '' }}",
    "TELEMETRON_API_KEY": "{{ conn.telemetron_default.password }}",
    "TELEMETRON_BASE_URL": "{{ conn.telemetron_default.host }}",
}

with DAG(
    dag_id="telemetron_approval",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"depends_on_past": True},
    # A person who triggers a run can choose a file of one folder, but not another folder.
    params={"file": Param("assignments.csv", type="string", pattern=r"^[\w-]+\.csv$")},
    doc_md=__doc__,
) as dag:
    plan = BashOperator(
        task_id="plan",
        bash_command='exec telemetron-batch plan "$EXPORT" --save --run-id "$RUN" --reports-dir "$REPORTS" --json',
        env=PLACES,
        append_env=True,
        output_processor=json.loads,
    )
    approve = ApprovalOperator(
        task_id="approve",
        subject="Send {{ params.file }} to Telemetron?",
        body=(
            "{% set plan = ti.xcom_pull(task_ids='plan') %}"
            "{{ plan.devices }} devices of {{ plan.customers }} customers in {{ plan.calls }} calls; "
            "{{ plan.invalid }} rows are invalid. Plan {{ plan.fingerprint }}, run {{ plan.runId }}."
        ),
        defaults="Reject",
        response_timeout=timedelta(days=1),
    )
    send = BashOperator(
        task_id="send",
        bash_command=(
            'exec telemetron-batch run "$EXPORT" --run-id "$RUN" --reports-dir "$REPORTS" '
            "--tolerate invalid --tolerate failed --max-failed 5% --json"
        ),
        env=PLACES,
        append_env=True,
        output_processor=json.loads,
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
    plan >> approve >> send
