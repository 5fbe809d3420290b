"""DAGs that only the tests have use for: the operator with whatever a test wants of it."""

import json
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, Param

from telemetron_batch.airflow_provider.groups import telemetron_task_group
from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator

FREE = {"file": Param("", type=["string", "null"]), "reports_dir": Param("", type=["string", "null"])}
NOW = datetime(2026, 1, 1)

with DAG("plain", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        outlets=[Asset("telemetron://plain")],
        retries=2,
        retry_delay=timedelta(seconds=0),
    )

with DAG("strict", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        fail_on="attention",
        skip_if_empty=False,
        reports_url="https://reports.example.com/telemetron/",
    )

with DAG("lenient", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send", file="{{ params.file }}", reports_dir="{{ params.reports_dir }}", fail_on="stopped"
    )

with DAG("several", schedule=None, start_date=NOW, params={**FREE, "files": Param([], type="array")}):
    TelemetronBatchOperator.partial(
        task_id="send", reports_dir="{{ params.reports_dir }}", max_active_tis_per_dagrun=1, options={"wait": "1m"}
    ).expand(file=["{{ params.files[0] }}", "{{ params.files[1] }}"])

with DAG("short", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        options={"timeout": 600},
        execution_timeout=timedelta(seconds=20),
        retries=1,
        retry_delay=timedelta(seconds=0),
    )

with DAG("patient", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        options={"longest_wait": "1s", "concurrency": 1},
        deferrable=True,
    )

with DAG("named", schedule=None, start_date=NOW, params={**FREE, "name": Param("", type="string")}):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        run_id="{{ params.name }}",
        retries=1,
        retry_delay=timedelta(seconds=0),
    )

TEXTS = {"files": Param("", type=["string", "array"]), "opts": Param("", type=["string", "object", "array"])}

for dag_id, files, opts in (
    ("rendered", "{{ params.files }}", "{{ params.opts }}"),
    ("rendered_json", "{{ params.files | tojson }}", "{{ params.opts | tojson }}"),
    ("rendered_native", "{{ params.files }}", "{{ params.opts }}"),
):
    native = dag_id == "rendered_native"
    with DAG(dag_id, schedule=None, start_date=NOW, params={**FREE, **TEXTS}, render_template_as_native_obj=native):
        TelemetronBatchOperator(
            task_id="send",
            file=files,
            reports_dir="{{ params.reports_dir }}",
            options=opts,
            retries=1,
            retry_delay=timedelta(seconds=0),
        )

SLOW = {"retries": 2, "retry_delay": timedelta(seconds=1)}

with DAG("slow", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        options={"rate": "5/s", "wait": "30s"},
        **SLOW,
    )

with DAG("slow_bash", schedule=None, start_date=NOW, params=FREE):
    BashOperator(
        task_id="send",
        bash_command='exec telemetron-batch run "$EXPORT" --run-id "$RUN" --reports-dir "$REPORTS" --json --rate 5/s',
        env={
            "EXPORT": "{{ params.file }}",
            "REPORTS": "{{ params.reports_dir }}",
            "RUN": "{{ run_id | replace(':', '_') }}",
            "TELEMETRON_API_KEY": "{{ conn.telemetron_default.password }}",
            "TELEMETRON_BASE_URL": "{{ conn.telemetron_default.host }}",
            "TELEMETRON_TOLERATE": "skipped",
        },
        append_env=True,
        output_processor=json.loads,
        **SLOW,
    )

SHARDED = {**FREE, "name": Param("", type=["string", "null"]), "shards": Param(4, type="integer")}

for dag_id, said in {
    "sharded": {},
    "sharded_lenient": {"fail_on": "stopped"},
    "sharded_stop": {"on_unassign_failure": "stop", "fail_on": "attention", "skip_if_empty": False},
    "sharded_patient": {"options": {"longest_wait": "1s", "concurrency": 1}, "deferrable": True},
    "sharded_slow": {"options": {"rate": "8/s"}, "retries": 2, "retry_delay": timedelta(seconds=1)},
}.items():
    with DAG(dag_id, schedule=None, start_date=NOW, params=SHARDED):
        telemetron_task_group(
            "shards",
            file="{{ params.file }}",
            reports_dir="{{ params.reports_dir }}",
            run_id="{{ params.name or dag.dag_id ~ run_id }}",
            shards="{{ params.shards }}",
            **{"options": {"rate": "400/s"}, "outlets": [Asset(f"telemetron://{dag_id}")], **said},
        )
