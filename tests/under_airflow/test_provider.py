"""The provider information, and how a connection is read."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from airflow.models import Connection
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers_manager import ProvidersManager
from airflow.sdk import DAG

from telemetron_batch.airflow_provider import get_provider_info, hooks
from telemetron_batch.airflow_provider.failures import FAIL_ON
from telemetron_batch.airflow_provider.folder_names import folder_name
from telemetron_batch.airflow_provider.groups import telemetron_task_group
from telemetron_batch.airflow_provider.hooks import TelemetronHook
from telemetron_batch.airflow_provider.links import published_url
from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator
from telemetron_batch.airflow_provider.rendered import files_in, options_in
from telemetron_batch.airflow_provider.shards import (
    TelemetronPlanOperator,
    TelemetronReconcileOperator,
    TelemetronShardOperator,
)
from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.outcomes import Outcome
from tests.support.docs import DOCS
from tests.support.faulty import FaultyServer
from tests.under_airflow.conftest import KEY, connection, dags


def test_airflow_finds_the_provider() -> None:
    manager = ProvidersManager()
    assert "telemetron-batch" in manager.providers
    hook = manager.hooks["telemetron"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_id_attribute_name) == ("Telemetron", "telemetron_conn_id")
    assert "telemetron_batch.airflow_provider.links.ReportLink" in manager.extra_links_class_names


def test_the_provider_info_matches_airflows_schema() -> None:
    import airflow

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_every_name_in_the_provider_info_exists() -> None:
    info = get_provider_info()
    kinds = ("operators", "sensors", "hooks", "triggers")
    for module in (module for kind in kinds for entry in info[kind] for module in entry["python-modules"]):
        assert import_module(module).__doc__
    named = [*info["extra-links"], *info["notifications"], *(one["class-name"] for one in info["task-decorators"])]
    for path in named:
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name)
    assert info["integrations"][0]["integration-name"] == info["hooks"][0]["integration-name"]


_FORM = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
form, = (one for one in HookMetaService.hook_meta_data() if one.connection_type == "telemetron")
fields = form.standard_fields
print(json.dumps([fields.host.title, fields.password.title, fields.login.hidden, sorted(form.extra_fields)]))
"""


def test_the_connection_form_shows_our_labels_and_fields(airflow_home: Path) -> None:
    # The API server of Airflow 3.1 brings stand-ins for the library of forms, which count only in a new process.
    environ = {**os.environ, "AIRFLOW_HOME": str(airflow_home)}
    told = subprocess.run([sys.executable, "-c", _FORM], capture_output=True, text=True, check=True, env=environ)
    host, password, login_is_hidden, extra = json.loads(told.stdout.splitlines()[-1])
    assert (host, password, login_is_hidden) == ("Base URL", "API key", True)
    assert extra == ["chunk_size", "concurrency", "rate", "reports_url", "timeout"]


def test_the_folder_of_reports_may_be_configured_for_all_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="reports_dir: name a folder, or set reports_dir in the section"):
        TelemetronBatchOperator(task_id="t", file="f")
    monkeypatch.setenv("AIRFLOW__TELEMETRON__REPORTS_DIR", "/shared/telemetron")
    assert TelemetronBatchOperator(task_id="t", file="f").reports_dir == "/shared/telemetron"


@pytest.mark.parametrize(
    ("published", "url"),
    [
        ("s3://bucket/night/r 1", "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=night/r%201/report.html"),
        ("gs://bucket/night/r", "https://storage.cloud.google.com/bucket/night/r/report.html"),
        ("/srv/reports/r", None),
        (None, None),
    ],
)
def test_a_report_in_an_object_store_has_the_address_of_its_console(published: str | None, url: str | None) -> None:
    assert published_url(published) == url


def test_a_task_has_one_source_of_rows() -> None:
    for wrong in ({}, {"file": "f", "sql": "SELECT 1", "sql_conn_id": "c"}, {"sql": "SELECT 1"}):
        with pytest.raises(ValueError, match=r"file or sql|belong together"):
            TelemetronBatchOperator(task_id="t", reports_dir="/r", **wrong)


def test_the_provider_info_imports_no_airflow() -> None:
    code = (
        "import sys, telemetron_batch.airflow_provider as p; p.get_provider_info(); sys.exit('airflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


_BESIDE_A_BATCH = """
import sys
sys.path += sys.argv[1:]
import batch.mine
from airflow.providers_manager import ProvidersManager
from telemetron_batch.airflow_provider.links import published_url
from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator
print(batch.mine.NAME, "telemetron-batch" in ProvidersManager().providers)
"""


@pytest.mark.parametrize("is_first", [True, False], ids=["before site-packages", "behind them, as Airflow puts dags"])
def test_a_package_batch_of_the_user_and_this_one_do_not_meet(
    tmp_path: Path, airflow_home: Path, is_first: bool
) -> None:
    (tmp_path / "batch").mkdir()
    (tmp_path / "batch" / "__init__.py").touch()
    (tmp_path / "batch" / "mine.py").write_text("NAME = 'mine'\n")
    environ = {**os.environ, "AIRFLOW_HOME": str(airflow_home)}
    if is_first:
        environ["PYTHONPATH"] = str(tmp_path)
    command = [sys.executable, "-c", _BESIDE_A_BATCH, *([] if is_first else [str(tmp_path)])]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environ, cwd=tmp_path)
    assert told.stdout.splitlines()[-1] == "mine True"
    version = [sys.executable, "-m", "telemetron_batch", "--version"]
    assert subprocess.run(version, check=True, env=environ, cwd=tmp_path).returncode == 0


def test_every_dag_can_be_parsed(airflow_home: Path) -> None:
    assert {"telemetron_operator", "telemetron_bash"} <= set(dags(airflow_home))


def test_the_connection_is_tested_with_one_read_request(server: FaultyServer) -> None:
    assert TelemetronHook().test_connection() == (True, f"{server.base_url} is there, and it accepts this key.")
    assert [seen.action for seen in server.seen] == ["query"]


def test_a_connection_with_a_wrong_key_is_reported(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", connection(server).replace(KEY, "another-key-0123"))
    well, text = TelemetronHook().test_connection()
    assert not well
    assert "refuses this key" in text


def test_a_missing_connection_is_reported() -> None:
    well, text = TelemetronHook("nowhere").test_connection()
    assert (well, text) == (False, "there is no connection 'nowhere'; create one of type telemetron")


def config_of(monkeypatch: pytest.MonkeyPatch, **told: object) -> RunConfig:
    monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", json.dumps({"conn_type": "telemetron", **told}))
    return TelemetronHook().get_conn()


def config_of_task(monkeypatch: pytest.MonkeyPatch, options: dict[str, str], **told: object) -> RunConfig:
    monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", json.dumps({"conn_type": "telemetron", **told}))
    return TelemetronHook().config((), options)


@pytest.mark.parametrize(
    ("told", "base_url"),
    [
        ({}, "https://admin.telemetron.ai/api/ext-v1"),
        ({"host": "https://t.example.com/api/ext-v1"}, "https://t.example.com/api/ext-v1"),
        ({"host": "https://t.example.com/api/ext-v1/"}, "https://t.example.com/api/ext-v1"),
        ({"host": "t.example.com/api/ext-v1"}, "https://t.example.com/api/ext-v1"),
        ({"host": "t.example.com", "schema": "api/ext-v1"}, "https://t.example.com/api/ext-v1"),
        ({"host": "t.example.com", "schema": "/api/ext-v1/"}, "https://t.example.com/api/ext-v1"),
        ({"host": "https://t.example.com", "schema": "api/ext-v1"}, "https://t.example.com/api/ext-v1"),
        ({"host": "https://t.example.com/api", "schema": "ext-v1"}, "https://t.example.com/api/ext-v1"),
        ({"host": "t.example.com/api/ext-v1", "schema": "api/ext-v1"}, "https://t.example.com/api/ext-v1"),
        ({"host": "t.example.com/api/ext-v1", "schema": "https"}, "https://t.example.com/api/ext-v1"),
        ({"host": "https://t.example.com/api/ext-v1", "schema": "https"}, "https://t.example.com/api/ext-v1"),
        ({"host": "https://t.example.com/api/ext-v1", "port": 8443}, "https://t.example.com:8443/api/ext-v1"),
        ({"host": "t.example.com", "port": 8443}, "https://t.example.com:8443"),
        ({"host": "t.example.com", "port": 8443, "schema": "HTTPS"}, "https://t.example.com:8443"),
        ({"host": "http://127.0.0.1", "port": 8080, "schema": "api/ext-v1"}, "http://127.0.0.1:8080/api/ext-v1"),
        ({"host": "localhost/api", "schema": "http", "port": 1}, "http://localhost:1/api"),
        ({"host": "http://[::1]:8080/api"}, "http://[::1]:8080/api"),
    ],
)
def test_the_base_url_may_be_given_whole_or_in_parts(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, object], base_url: str
) -> None:
    assert config_of(monkeypatch, password=KEY, **told).sending.base_url == base_url


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        ("telemetron://:KEY@", "https://admin.telemetron.ai/api/ext-v1"),
        ("telemetron://:KEY@t.example.com", "https://t.example.com"),
        ("telemetron://:KEY@t.example.com/", "https://t.example.com"),
        ("telemetron://:KEY@t.example.com/api/ext-v1", "https://t.example.com/api/ext-v1"),
        ("telemetron://:KEY@t.example.com/api/ext-v1/", "https://t.example.com/api/ext-v1"),
        ("telemetron://:KEY@t.example.com/api%2Fext-v1", "https://t.example.com/api/ext-v1"),
        ("telemetron://:KEY@t.example.com:8443/api/ext-v1", "https://t.example.com:8443/api/ext-v1"),
        ("telemetron://:KEY@t.example.com:8443/https", "https://t.example.com:8443"),
        ("telemetron://:KEY@t.example.com%2Fapi%2Fext-v1:8443/https", "https://t.example.com:8443/api/ext-v1"),
        ("telemetron://https://:KEY@t.example.com/api/ext-v1", "https://t.example.com/api/ext-v1"),
        ("telemetron://http://:KEY@127.0.0.1:8080/api/ext-v1/", "http://127.0.0.1:8080/api/ext-v1"),
        ("telemetron://http://:KEY@[::1]:8080/api/ext-v1", "http://[::1]:8080/api/ext-v1"),
        ("telemetron://:KEY@localhost:8080/http", "http://localhost:8080"),
        ("telemetron://:KEY@https%3A%2F%2Ft.example.com%2Fapi%2Fext-v1", "https://t.example.com/api/ext-v1"),
        (
            "telemetron://:KEY@https%3A%2F%2Ft.example.com%2Fapi%2Fext-v1%2F:8443",
            "https://t.example.com:8443/api/ext-v1",
        ),
        ("telemetron://:KEY@https%3A%2F%2Ft.example.com/api/ext-v1", "https://t.example.com/api/ext-v1"),
        ("telemetron://:KEY@http%3A%2F%2F127.0.0.1%3A8080%2Fapi", "http://127.0.0.1:8080/api"),
    ],
)
def test_a_connection_given_as_a_uri_keeps_scheme_port_and_path(
    monkeypatch: pytest.MonkeyPatch, uri: str, base_url: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", f"{uri.replace('KEY', KEY)}?rate=5%2Fs")
    config = TelemetronHook().get_conn()
    assert (config.sending.base_url, str(config.sending.rate)) == (base_url, "5/s")
    assert config.api_key == Secret(KEY)


@pytest.mark.parametrize(
    "told",
    [
        {"host": "https://t.example.com/api/ext-v1"},
        {"host": "https://t.example.com/api", "schema": "ext-v1", "port": 8443},
        {"host": "t.example.com/api/ext-v1", "schema": "https", "port": 8443},
        {"host": "http://127.0.0.1:8080/api/ext-v1"},
    ],
)
def test_a_connection_exported_by_airflow_as_a_uri_names_the_same_base_url(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]
) -> None:
    base_url = config_of(monkeypatch, password=KEY, **told).sending.base_url
    monkeypatch.setenv(
        "AIRFLOW_CONN_TELEMETRON_DEFAULT", Connection(conn_type="telemetron", password=KEY, **told).get_uri()
    )
    assert TelemetronHook().get_conn().sending.base_url == base_url


@pytest.mark.parametrize("rest", ["/api/ext-v1", ":8443"])
def test_a_path_or_a_port_without_a_host_is_an_error(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", f"telemetron://:{KEY}@{rest}")
    with pytest.raises(ConfigError, match="connection telemetron_default has a path or a port, but no host"):
        TelemetronHook().get_conn()


def test_the_connections_that_the_docs_show_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = re.findall(r"^ *AIRFLOW_CONN_TELEMETRON_DEFAULT='(.*)'$", (DOCS / "airflow.md").read_text(), re.MULTILINE)
    configs = []
    for text in shown:
        monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", text)
        configs.append(TelemetronHook().get_conn())
    assert {(config.sending.base_url, str(config.sending.rate)) for config in configs} == {
        ("https://t.example.com/api/ext-v1", "5/s")
    }
    assert len(configs) == 2


def test_the_extra_holds_options(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(monkeypatch, password=KEY, extra={"rate": "5/s", "chunk-size": 100, "timeout": None})
    assert (str(config.sending.rate), config.plan.chunk_size, config.sending.timeout) == ("5/s", 100, 30)


def test_an_unknown_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="telemetron_default: extra: unknown option ratte"):
        config_of(monkeypatch, password=KEY, extra={"ratte": "5/s"})


@pytest.mark.parametrize("given", [{"password": KEY}, {"extra": {"api_key_file": "/etc/hostname"}}])
@pytest.mark.parametrize("option", ["base-url", "base_url", "api_key_file"])
def test_a_task_cannot_change_the_base_url_of_the_connections_key(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, object], option: str
) -> None:
    told = {"conn_type": "telemetron", "host": "https://t.example.com", **given}
    monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", json.dumps(told))
    with pytest.raises(ConfigError, match=r"options: (base-url|api-key-file) is not taken from a task"):
        TelemetronHook().config((), {option: "https://elsewhere.example.com"})


COMMAND = f"echo {KEY}"


def test_the_connection_or_the_worker_gives_the_command_for_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_of(monkeypatch, extra={"api_key_command": COMMAND}).api_key == Secret(KEY)
    monkeypatch.setenv("TELEMETRON_API_KEY_COMMAND", COMMAND)
    assert config_of(monkeypatch).api_key == Secret(KEY)


@pytest.mark.parametrize("given", [{}, {"password": KEY}, {"extra": {"api_key_command": COMMAND}}])
@pytest.mark.parametrize("option", ["api_key_command", "api-key-command"])
def test_a_task_cannot_give_a_command_to_run(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, object], option: str
) -> None:
    with pytest.raises(ConfigError, match="options: api-key-command is not taken from a task"):
        config_of_task(monkeypatch, {option: "touch /tmp/x"}, host="https://t.example.com", **given)


def test_a_profile_of_a_task_cannot_give_a_command_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('api-key-command = "touch /tmp/x"\n')
    with pytest.raises(ConfigError, match="api-key-command is not taken from a profile that a task names"):
        config_of_task(monkeypatch, {"config": str(tmp_path / "p.toml")}, host="https://t.example.com")


@pytest.mark.parametrize("extra", [{"api_key_command": COMMAND}, {"api_key_file": "/etc/hostname"}])
def test_a_connection_that_gives_the_key_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="gives the API key twice"):
        config_of(monkeypatch, password=KEY, extra=extra)


def test_the_password_of_a_connection_beats_the_variables_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRON_API_KEY_FILE", "/nowhere")
    monkeypatch.setenv("TELEMETRON_API_KEY_COMMAND", "false")
    assert config_of(monkeypatch, password=KEY).api_key == Secret(KEY)


def test_airflow_masks_every_key_that_a_command_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    monkeypatch.setattr(hooks, "mask_secret", masked.append)
    config = config_of(monkeypatch, extra={"api_key_command": COMMAND})
    assert masked == []
    assert config.key_source.read_again() == Secret(KEY)
    assert masked == [KEY]


@pytest.mark.parametrize("option", ["proxy", "ca_file", "ca-file", "client_cert", "client_key"])
def test_a_task_cannot_change_the_way_of_the_connections_key(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    with pytest.raises(ConfigError, match=f"options: {option.replace('_', '-')} is not taken from a task"):
        config_of_task(monkeypatch, {option: "none"}, host="https://t.example.com", password=KEY)


@pytest.mark.parametrize(
    "line", ['proxy = "http://p.example"', 'ca-file = "a"', 'client-cert = "a"', 'client-key = "a"']
)
def test_a_profile_of_a_task_cannot_change_the_way_of_the_connections_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    (tmp_path / "p.toml").write_text(f"{line}\n[named]\nchunk-size = 7\n")
    for options in ({"config": str(tmp_path / "p.toml")}, {"config": str(tmp_path / "p.toml"), "profile": "named"}):
        with pytest.raises(ConfigError, match=f"{line.split()[0]} is not taken from a profile that a task names"):
            config_of_task(monkeypatch, options, host="https://t.example.com", password=KEY)


def test_connection_and_worker_say_the_way_whatever_the_profile_of_a_task_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "p.toml").write_text('proxy = "http://theirs.example"\nca-file = "theirs"\nchunk-size = 7\n')
    monkeypatch.setenv("TELEMETRON_CA_FILE", "/ours/ca.pem")
    options = {"config": str(tmp_path / "p.toml")}
    extra = {"proxy": "http://me:word-of-ours@ours.example:3128"}
    config = config_of_task(monkeypatch, options, host="https://t.example.com", password=KEY, extra=extra)
    assert config.sending.network == NetworkOptions(proxy=Secret(extra["proxy"]), ca_file="/ours/ca.pem")
    assert config.plan.chunk_size == 7


@pytest.mark.parametrize("host", ["", "https://t.example.com/x"])
def test_a_profile_of_a_task_cannot_change_the_base_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str
) -> None:
    (tmp_path / "p.toml").write_text('base-url = "https://elsewhere.example.com"\nchunk-size = 7\n')
    told = {"conn_type": "telemetron", "host": host, "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", json.dumps(told))
    config = TelemetronHook().config((), {"config": str(tmp_path / "p.toml")})
    assert config.sending.base_url == (host or "https://admin.telemetron.ai/api/ext-v1")
    assert config.plan.chunk_size == 7
    monkeypatch.setenv("TELEMETRON_BASE_URL", "https://env.example.com/x")
    config = TelemetronHook().config((), {"config": str(tmp_path / "p.toml")})
    assert config.sending.base_url == (host or "https://env.example.com/x")


def test_without_a_connection_a_task_may_name_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRON_API_KEY", KEY)
    config = TelemetronHook(None).config((), {"base_url": "https://t.example.com/x"})
    assert config.sending.base_url == "https://t.example.com/x"


def test_a_connection_without_a_key_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="connection telemetron_default has no API key"):
        config_of(monkeypatch, host="https://t.example.com")


def test_a_sandbox_needs_no_connection() -> None:
    assert TelemetronHook(None).config((), {"sandbox": True}).sandbox


def test_wrong_arguments_are_errors_when_the_dag_is_parsed() -> None:
    with pytest.raises(ConfigError, match="options: unknown option max_faled"):
        TelemetronBatchOperator(task_id="t", file="f", reports_dir="r", options={"max_faled": 1})
    with pytest.raises(ValueError, match="run_id is an argument of its own"):
        TelemetronBatchOperator(task_id="t", file="f", reports_dir="r", options={"run-id": "x"})
    with pytest.raises(ValueError, match="as_of is an argument of its own"):
        TelemetronBatchOperator(task_id="t", file="f", reports_dir="r", options={"as-of": "2026-01-01"})
    with pytest.raises(ValueError, match="fail_on"):
        TelemetronBatchOperator(task_id="t", file="f", reports_dir="r", fail_on="sometimes")


def test_a_run_id_becomes_the_name_of_a_folder() -> None:
    assert folder_name("d.g.t.manual__2026-01-01T00:00:00+00:00") == "d.g.t.manual__2026-01-01T00_00_00+00_00"
    assert folder_name("../a/b") == "_a_b"
    assert len(folder_name("x" * 500)) < 200
    assert folder_name("x" * 500) != folder_name("x" * 501)


@pytest.mark.parametrize(
    ("read", "value", "told"),
    [
        (options_in, "{'max_failed': 1}", r"options: the value is not valid JSON \(.*\); use the filter tojson"),
        (options_in, "None", "options: the value is not valid JSON"),
        (options_in, "[1]", "options: the value has the type list and is not a mapping of option names to values"),
        (options_in, 5, "options: the value has the type int and is not a mapping"),
        (options_in, {1: 2}, "options: the value has the type dict and is not a mapping of option names"),
        (files_in, "['/in/a.csv']", r"file: the value is not valid JSON \(.*\); use the filter tojson"),
        (files_in, '["/in/a.csv", null]', "file: the value holds an entry of the type NoneType, which is not a path"),
        (files_in, None, "file: the value has the type NoneType and is neither a path nor a list of paths"),
        (files_in, {"a": 1}, "file: the value has the type dict and is neither"),
    ],
)
def test_a_value_that_cannot_be_used_is_reported_in_one_line(
    read: Callable[[Any], Any], value: object, told: str
) -> None:
    with pytest.raises(AirflowFailException, match=told) as raised:
        read(value)
    assert "\n" not in str(raised.value)


def test_rendered_values_are_read() -> None:
    assert options_in(' {"column": {"action": "Was"}} ') == {"column": {"action": "Was"}}
    assert options_in("null") == options_in(None) == options_in(" ") == {}
    assert files_in('["/in/a.csv", "/in/[b].csv"]') == ["/in/a.csv", "/in/[b].csv"]
    assert files_in("/in/[a].csv") == ["/in/[a].csv"]
    assert files_in(("a", "b")) == ["a", "b"]


def ended(counts: dict[str, int], wanting: dict[str, int], **more: Any) -> dict[str, Any]:
    """Return a summary of a run that reached its end."""
    attention = sum(wanting.values())
    return {
        "state": "finished",
        "stop": None,
        "exitCode": 1 if attention else 0,
        "folder": "/r/one",
        "rows": sum(counts.values()),
        "counts": dict.fromkeys(map(str, Outcome), 0) | counts,
        "attention": attention,
        "attentionByOutcome": wanting,
        "options": {},
        **more,
    }


def problem_of(fail_on: str, fields: dict[str, Any]) -> str:
    """Return the message with which a task fails after this run; empty if it does not fail."""
    operator = TelemetronReconcileOperator(task_id="t", reports_dir="/r", run_id="one", fail_on=fail_on)
    problem = operator._problem(fields)
    assert problem is None or type(problem) is AirflowFailException
    return str(problem or "")


@pytest.mark.parametrize(
    ("counts", "wanting"),
    [
        ({"failed": 28}, {"failed": 28}),
        ({"failed": 20, "invalid": 3, "held": 5}, {"failed": 20, "invalid": 3, "held": 5}),
        ({"failed": 1, "duplicate": 7}, {"failed": 1}),
        ({"unconfirmed": 2}, {"unconfirmed": 2}),
        ({"skipped": 4}, {"skipped": 4}),
        ({"skipped": 4, "invalid": 1}, {"skipped": 4, "invalid": 1}),
    ],
)
def test_a_finished_run_in_which_no_row_succeeded_fails_by_default(
    counts: dict[str, int], wanting: dict[str, int]
) -> None:
    fields = ended(counts, wanting)
    found = ", ".join(f"{number} {outcome}" for outcome, number in wanting.items())
    assert problem_of("incomplete", fields).startswith(f"no row succeeded ({found}): see /r/one/attention.csv, ")
    assert problem_of("attention", fields) == problem_of("incomplete", fields)
    assert problem_of("incomplete", {**fields, "exitCode": 0, "options": {"tolerate": ["failed"]}})
    assert problem_of("stopped", fields) == ""


@pytest.mark.parametrize(
    ("counts", "wanting"),
    [
        ({}, {}),
        ({"unchanged": 5, "duplicate": 1}, {}),
        ({"unchanged": 5, "failed": 1}, {"failed": 1}),
        ({"assigned": 1, "failed": 27}, {"failed": 27}),
        ({"alreadyAssigned": 1, "failed": 27}, {"failed": 27}),
        ({"unassigned": 1, "failed": 27}, {"failed": 27}),
        ({"skipped": 5, "failed": 27}, {"failed": 27, "skipped": 4}),
    ],
)
def test_a_finished_run_with_a_settled_row_does_not_fail(counts: dict[str, int], wanting: dict[str, int]) -> None:
    fields = ended(counts, wanting)
    assert problem_of("stopped", fields) == problem_of("incomplete", fields) == ""
    assert bool(problem_of("attention", fields)) == bool(wanting)


def test_tolerated_skipped_rows_count_as_successful() -> None:
    fields = ended({"skipped": 4}, {"skipped": 4}, exitCode=0, options={"tolerate": ["SKIPPED"]})
    assert problem_of("incomplete", fields) == ""


def test_a_stopped_run_fails_for_every_fail_on() -> None:
    stop = {"reason": "the API is down", "advice": "run it again"}
    fields = ended({"failed": 1}, {"failed": 1}, state="stopped", exitCode=4, stop=stop)
    assert {problem_of(fail_on, fields) for fail_on in FAIL_ON} == {"the API is down; run it again"}


@pytest.mark.parametrize(
    ("as_of", "told"),
    [
        ("2026-01-02T02:00:00+00:00", "2026-01-02T02:00:00+00:00"),
        (datetime(2026, 1, 2, 2, tzinfo=UTC), "2026-01-02T02:00:00+00:00"),
        ("", None),
        (None, None),
    ],
)
def test_every_task_that_plans_or_sends_passes_as_of(
    server: FaultyServer,  # noqa: ARG001 - for its connection
    as_of: Any,
    told: str | None,
) -> None:
    common = {"task_id": "t", "reports_dir": "/r", "run_id": "one", "as_of": as_of}
    operators = (
        TelemetronBatchOperator(file="f", **common),
        TelemetronPlanOperator(file="f", **common),
        TelemetronShardOperator(shard=1, phase="assign", **common),
    )
    context = {"ti": SimpleNamespace(map_index=-1)}
    assert [operator._config(context).given_options.get("as_of") for operator in operators] == [told] * 3
    assert all("as_of" in operator.template_fields for operator in operators)


def test_the_example_dags_keep_their_runs_in_order(airflow_home: Path) -> None:
    examples = {name: dag for name, dag in dags(airflow_home).items() if name.startswith("telemetron_")}
    assert len(examples) == 9
    assert {dag.max_active_runs for dag in examples.values()} == {1}
    for dag in (dag for name, dag in examples.items() if name != "telemetron_undo"):
        assert {task.task_id for task in dag.tasks if not task.depends_on_past} <= {"tell"}


@pytest.mark.parametrize(
    "waits", [{}, {"depends_on_past": True}, {"wait_for_downstream": True, "depends_on_past": True}]
)
def test_a_group_that_depends_on_the_past_waits_for_all_of_its_tasks(waits: dict[str, bool]) -> None:
    with DAG("of_a_test"):
        group = telemetron_task_group(file="f", reports_dir="/r", **waits)
    tasks = {task.label: task for task in group.iter_tasks()}
    assert {task.depends_on_past for task in tasks.values()} == {bool(waits)}
    assert tasks["plan"].wait_for_downstream is bool(waits)
    assert tasks["plan"].downstream_task_ids == {task.task_id for task in tasks.values()} - {"telemetron.plan"}


@pytest.mark.parametrize(
    "example",
    ["telemetron_approval", "telemetron_bash", "telemetron_operator", "telemetron_sensor", "telemetron_task_group"],
)
@pytest.mark.usefixtures("airflow_home")
def test_a_triggered_example_accepts_a_file_but_no_folder(example: str) -> None:
    dag = import_module(f"telemetron_batch.airflow_provider.example_dags.{example}").dag
    assert {*dag.params} <= {"file", "again"}
    dag.params["file"] = "returns-2026_05.csv"
    for file in ("/etc/passwd", "../x.csv", "a/x.csv", "s3://b/x.csv", "x.csv::http://h/y.csv", "", "x.xlsx"):
        # Airflow 3.1 raises an exception of its own.
        with pytest.raises((ValueError, AirflowException), match="Invalid input for param file"):
            dag.params["file"] = file
