"""Run the nightly export of the ERP with the command line, for workers that cannot install the package.

`telemetron-batch` may be installed in its own virtual environment; then write its full path. The last line of its
output is the summary as JSON, which becomes the task's XCom.

The host of the connection `telemetron_default` must be the whole base URL, e.g.
`https://t.example.com/api/ext-v1`. Each DAG run waits until the previous one has succeeded.
"""

import json
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

with DAG(
    dag_id="telemetron_bash",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    # A person who triggers a run can choose a file of one folder, but not another folder.
    params={"file": Param("assignments.csv", type="string", pattern=r"^[\w-]+\.csv$")},
    doc_md=__doc__,
) as dag:
    assign_devices = BashOperator(
        task_id="assign_devices",
        # `exec` lets Airflow's signals reach the program itself. Values are passed in the environment, never in
        # the command. Exit code 99 marks the task as skipped; exit code 1 only says that rows want attention.
        # `--wait` waits for another run with the key, which would use up a try for each exit code 6.
        bash_command=(
            'exec telemetron-batch run "$EXPORT" --run-id "$RUN" --reports-dir "$REPORTS" '
            "--tolerate invalid --tolerate failed --max-failed 5% --wait 1h --empty-exit-code 99 --json"
        ),
        env={
            "EXPORT": "/erp/{{ params.file }}",
            "REPORTS": "/shared/telemetron",
            "RUN": "{{ dag.dag_id }}.{{ task.task_id }}.{{ run_id | replace(':', '_') }}",
            "TELEMETRON_AS_OF": "{{ dag_run.data_interval_end.isoformat() if dag_run.data_interval_end else '' }}",
            "TELEMETRON_API_KEY": "{{ conn.telemetron_default.password }}",
            "TELEMETRON_BASE_URL": "{{ conn.telemetron_default.host }}",
        },
        append_env=True,
        output_processor=json.loads,
        depends_on_past=True,
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
