"""DAGs that only the tests have use for: the operator with whatever a test wants of it."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, BaseNotifier, Param, task

from telemetron_batch.airflow_provider.groups import telemetron_task_group
from telemetron_batch.airflow_provider.hooks import TelemetronHook
from telemetron_batch.airflow_provider.notifications import TelemetronNotifier
from telemetron_batch.airflow_provider.operators import (
    TelemetronBatchOperator,
    TelemetronUndoOperator,
    TelemetronVerifyOperator,
)
from telemetron_batch.airflow_provider.sensors import TelemetronFileSensor

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
        task_id="send",
        reports_dir="{{ params.reports_dir }}",
        options={"wait": "0s", "rate": "10/s"},
        look_again_after=timedelta(seconds=2),
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
        options={"wait": "0s"},
        look_again_after=timedelta(seconds=1),
        retries=1,
        retry_delay=timedelta(seconds=0),
    )

with DAG("too_short", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        options={"timeout": 600},
        execution_timeout=timedelta(seconds=6),
    )


class Recorder(BaseNotifier):
    """Appends what it is to deliver to a file in the folder of reports."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        """Write the text."""
        place = Path(context["params"]["reports_dir"])
        place.mkdir(exist_ok=True)
        (place / "notices.txt").write_text(self.text)


NOTIFIER = TelemetronNotifier(Recorder("{{ telemetron.text }}"))

with DAG("noticed", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        on_failure_callback=NOTIFIER,
        on_success_callback=NOTIFIER,
    )

with DAG("mended", schedule=None, start_date=NOW, params=FREE):
    sent = TelemetronBatchOperator(task_id="send", file="{{ params.file }}", reports_dir="{{ params.reports_dir }}")
    run = "{{ ti.xcom_pull(task_ids='send')['runId'] }}"
    verify = TelemetronVerifyOperator(task_id="verify", run=run, reports_dir="{{ params.reports_dir }}")
    undo = TelemetronUndoOperator(task_id="undo", run=run, reports_dir="{{ params.reports_dir }}")
    sent >> verify >> undo

with DAG("by_hook", schedule=None, start_date=NOW, params=FREE):

    @task(retries=0)
    def send(params: Any = None) -> dict[str, Any]:
        """Do by hand what the operator does, and more."""
        hook = TelemetronHook()
        planned = hook.plan(params["file"])
        sent = hook.run(params["file"], reports_dir=params["reports_dir"], max_failed="5%")
        held = {email: hook.query_customer(email) for email in ("c0@x.com", "nobody@x.com")}
        return {"checked": hook.check()["baseUrl"], "planned": planned["devices"], "sent": sent, "held": held}

    send()

with DAG("framed", schedule=None, start_date=NOW, params={**FREE, "lists": Param("", type=["string", "null"])}):

    @task.telemetron_batch(reports_dir="{{ params.reports_dir }}", options={"chunk_size": 2})
    def assignments(customer: str, params: Any = None) -> Any:
        """Return the rows of a file for one customer, or the file itself."""
        import pandas as pd

        if params["lists"]:
            return params["file"]
        with (Path(params["reports_dir"]).parent / "calls.txt").open("a") as calls:
            calls.write("called\n")
        frame = pd.read_csv(params["file"], dtype=str)
        return frame[frame["customerEmail"] == customer]

    assignments("c1@x.com")

with DAG("queried", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        sql='SELECT mail AS "customerEmail", serial AS "deviceIdentifier", \'assign\' AS action FROM wanted',
        sql_conn_id="warehouse",
        reports_dir="{{ params.reports_dir }}",
    )

with DAG("sensed", schedule=None, start_date=NOW, params=FREE):
    awaited = TelemetronFileSensor(
        task_id="await_export", file="{{ params.file }}", settled_for=1.0, poke_interval=0.5, timeout=60
    )
    TelemetronBatchOperator(
        task_id="send", file="{{ ti.xcom_pull(task_ids='await_export') }}", reports_dir="{{ params.reports_dir }}"
    ).set_upstream(awaited)

with DAG("approved", schedule=None, start_date=NOW, params=FREE):
    TelemetronBatchOperator(
        task_id="send",
        file="{{ params.file }}",
        reports_dir="{{ params.reports_dir }}",
        options={"rate": "20/s"},
        approve=True,
    )

with DAG(
    "nightly",
    schedule="0 2 * * *",
    start_date=NOW,
    end_date=datetime(2026, 1, 20),
    catchup=False,
    params=FREE,
    default_args={"depends_on_past": True},
):
    TelemetronBatchOperator(
        task_id="send", file="{{ params.file }}", reports_dir="{{ params.reports_dir }}", options={"again": True}
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
    "sharded_approved": {"approve": True},
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
