"""The hook: a connection as a configuration of the program, and what a Python task can do with it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    BaseHook,
    conf,
    get_current_context,
    mask_secret,
)

from telemetron_batch.airflow_provider import UI_FIELD_BEHAVIOUR, connection_fields
from telemetron_batch.airflow_provider.airflow_words import in_airflow_words
from telemetron_batch.airflow_provider.connections import ConnectionSettings, Resolver
from telemetron_batch.airflow_provider.failures import FailurePolicy, check_fail_on
from telemetron_batch.airflow_provider.folder_names import current_run_id, folder_name
from telemetron_batch.airflow_provider.task_work import do_in_task, map_index_variables, summary_dict
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import BatchError, ConfigError

if TYPE_CHECKING:  # heavy; a DAG file must be read without
    from telemetron_batch.config.config import RunConfig

_LOCK_WAIT = {"wait": "30s"}
_QUERY_LOCK_WAIT = {"wait": "10m"}


class TelemetronHook(BaseHook):
    """The settings of a connection of type `telemetron`, and what a Python task can do with it.

    TelemetronHook().run("/erp/today.csv", reports_dir="/shared/telemetron", max_failed="5%")
    TelemetronHook().query_customer("ann@example.com")
    """

    conn_name_attr = "telemetron_conn_id"
    default_conn_name = "telemetron_default"
    conn_type = "telemetron"
    hook_name = "Telemetron"

    def __init__(self, telemetron_conn_id: str | None = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.telemetron_conn_id = telemetron_conn_id

    def get_conn(self) -> "RunConfig":
        """Return the configuration of the connection. There is no session to keep: each run opens its own."""
        return self.config(())

    @property
    def reports_url(self) -> str:
        """The URL at which a browser finds the reports folder; empty if the connection does not say."""
        return self._settings().reports_url

    def run(
        self,
        file: str | Sequence[str],
        *,
        reports_dir: str | None = None,
        run_id: str | None = None,
        fail_on: str = "incomplete",
        **options: Any,
    ) -> dict[str, Any]:
        """Send the assignments of a file, or of several files as one run, and return the summary.

        By default `run_id` is made of DAG, task, run and map index, so a retry of the task continues the run. `options`
        are those of `telemetron-batch run`. Raises exceptions of Airflow as the operator does with this `fail_on`.
        """
        from telemetron_batch.run import pipeline

        check_fail_on(fail_on)
        context, reports_dir = get_current_context(), reports_dir or default_reports_dir()
        place = {"reports_dir": reports_dir, "run_id": folder_name(run_id or current_run_id(context))}
        with self._policy.translate_errors():
            require_absolute(reports_dir)
            config = self.config(_paths(file), {**options, **place}, map_index_variables(context), _LOCK_WAIT)
        fields = summary_dict(do_in_task(partial(pipeline.run, config), CancelToken(), self._policy))
        if problem := self._policy.problem(fields, fail_on):
            raise problem
        return fields

    def plan(self, file: str | Sequence[str], **options: Any) -> dict[str, Any]:
        """Return the plan of a file in numbers, as `plan --json`. Nothing is sent, and no file is left."""
        from telemetron_batch.run.make_plan import make_plan

        with self._policy.translate_errors():
            return make_plan(self.config(_paths(file), options)).as_json()

    def check(self) -> dict[str, Any]:
        """Ask the API one harmless thing. Return the base URL, the proxy, and the seconds of each step.

        Raises AirflowFailException if the API is not there or refuses the key.
        """
        with self._policy.translate_errors():
            base_url, result = self._check()
        if result.stop is not None:
            raise self._policy.failure(_problem_of(result))
        return {"baseUrl": base_url, "proxy": result.proxy, "seconds": dict(result.seconds)}

    def query_customer(self, email: str, **options: Any) -> list[str] | None:
        """Return the identifiers of the devices that a customer holds now; None for a customer that is not known."""
        from telemetron_batch.run.query import query_customer

        with self._policy.translate_errors():
            found = query_customer(self.config((), options, defaults=_QUERY_LOCK_WAIT), email)
        return sorted(found.devices or ()) if found.is_known else None

    def test_connection(self) -> tuple[bool, str]:
        """Test base URL and key with one read request, for the button of the connection form."""
        try:
            base_url, result = self._check()
        except BatchError as exc:
            return False, in_airflow_words(str(exc))
        if result.stop is not None:
            return False, in_airflow_words(_problem_of(result))  # Airflow tests a copy under a made-up id
        return True, f"{base_url} is there, and it accepts this key."

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form for Airflow 3.1; later versions read the provider information."""
        from wtforms import StringField  # Airflow's API server has it, or a stand-in

        fields = connection_fields()
        return {name: StringField(one["label"], description=one["description"]) for name, one in fields.items()}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the connection form for Airflow 3.1."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    def config(
        self,
        files: Sequence[str],
        options: Mapping[str, Any] | None = None,
        context: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> "RunConfig":
        """Return the configuration of a run of these files; `context` has further environment variables.

        `options` and `defaults` have the names of the options of `run`; `defaults` apply to options that are not
        given anywhere. Raises ConfigError that lists all problems.
        """
        from telemetron_batch.run.feed_back import attention_config

        return self.resolve(partial(attention_config, files), options, context, defaults)

    def resolve(
        self,
        resolver: Resolver,
        options: Mapping[str, Any] | None = None,
        context: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> "RunConfig":
        """Return a configuration as `config` does, made by a function that takes flags and environment variables."""
        environ = {**os.environ, **(context or {})}
        config = self._settings().resolve(resolver, options or {}, environ, defaults or {})
        config.key_source.on_new_key = lambda secret: mask_secret(secret.reveal())
        for secret in config.secrets:
            mask_secret(secret.reveal())
        return config

    @contextmanager
    def announcing(self, options: Mapping[str, Any], run: str | None) -> Iterator[None]:
        """Within this context, send notices if the options of a run are refused; None: send none.

        Options, connection and environment name the receivers, as far as they can be read.
        """
        if run is None:
            yield
            return
        from telemetron_batch.notices.refusal import Request, refusals_announced

        given: dict[str, Any] = {}
        with suppress(BatchError):
            given |= self._settings().options
        given |= {name.replace("-", "_"): value for name, value in options.items()}
        with refusals_announced(Request(given, os.environ, run)):
            yield

    def environment(self, context: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return environment variables with the key and the options of the connection. Raises ConfigError."""
        settings = self._settings()
        if settings.key:
            mask_secret(settings.key)
        return settings.environment({**os.environ, **(context or {})})

    def _settings(self) -> ConnectionSettings:
        """Return what the connection says. Raises ConfigError."""
        if self.telemetron_conn_id is None:
            return ConnectionSettings()
        try:
            return ConnectionSettings.of(self.get_connection(self.telemetron_conn_id))
        except AirflowNotFoundException as exc:
            raise ConfigError(
                f"there is no connection {self.telemetron_conn_id!r}", "create one of type telemetron"
            ) from exc

    def _check(self) -> tuple[str, Any]:
        """Return the base URL and the result of a harmless request."""
        from telemetron_batch.run.check import check

        config = self.config(())
        return config.sending.base_url, check(config)

    @property
    def _policy(self) -> FailurePolicy:
        return FailurePolicy(self.telemetron_conn_id)


def default_reports_dir() -> str:
    """Return the folder of reports in Airflow's configuration. Raises ValueError without one."""
    folder: str = conf.get("telemetron", "reports_dir", fallback="")
    if not folder:
        raise ValueError(
            "reports_dir: name a folder, or set reports_dir in the section [telemetron] of the configuration"
        )
    return folder


def require_absolute(reports_dir: str) -> None:
    """Raise ConfigError for a relative path: it would be in the working folder of one try."""
    if not Path(reports_dir).is_absolute():
        advice = "name an absolute path that all workers share, because each try of a task has its own working folder"
        raise ConfigError(f"reports_dir {reports_dir} is relative", advice)


def _paths(file: str | Sequence[str]) -> list[str]:
    return [file] if isinstance(file, str) else [*file]


def _problem_of(result: Any) -> str:
    return f"{result.stop.sentence}; {result.stop.advice.words()}"
