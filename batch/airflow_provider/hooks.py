"""From an Airflow connection to a configuration of the program.

The connection's host is the base URL, its password the API key; each key of its extra is
an option of `run` by its name. What a task says beats the connection, which beats the
worker's environment.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret

from batch import app
from batch.config import RunConfig, resolve
from batch.errors import BatchError, ConfigError
from batch.options import BY_KEY
from batch.sources import KEY_VARIABLE

_BESIDES: Final = ("profile", "config")
"""Keys that are no options but say where options stand."""


class TelemetronHook(BaseHook):
    """The settings of a connection of type `telemetron`."""

    conn_name_attr = "telemetron_conn_id"
    default_conn_name = "telemetron_default"
    conn_type = "telemetron"
    hook_name = "Telemetron"

    def __init__(self, telemetron_conn_id: str | None = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.telemetron_conn_id = telemetron_conn_id

    def get_conn(self) -> RunConfig:
        """The connection's settings. There is no session to hold: a run opens its own."""
        return self.config(())

    def config(
        self,
        files: Sequence[str],
        options: Mapping[str, Any] | None = None,
        context: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> RunConfig:
        """The configuration of a run of these files; `context` are further variables of Airflow.

        `options` go by the names of the options of `run`, and so do `defaults`, which hold
        where nobody says anything. Raises ConfigError that names everything that is wrong.
        """
        told, key = self._connected()
        environ = {**os.environ, **(context or {})}
        if key:
            environ[KEY_VARIABLE] = key
        unsaid = {name: value for name, value in (defaults or {}).items() if not environ.get(BY_KEY[name].variable)}
        config = resolve(files, {**unsaid, **told, **named_options(options or {}, "options")}, environ)
        for secret in config.secrets:
            mask_secret(secret.reveal())
        if config.api_key is None and not config.sandbox:
            raise ConfigError(
                f"connection {self.telemetron_conn_id} has no API key", "put it into the connection's password"
            )
        return config

    def test_connection(self) -> tuple[bool, str]:
        """Ask the API one harmless thing, for the button of the connection's form."""
        try:
            config = self.config(())
            stop = app.check(config)
        except BatchError as exc:
            return False, str(exc)
        if stop is not None:
            return False, f"{stop.sentence}; {stop.advice.words()}"
        return True, f"{config.sending.base_url} is there, and it takes this key."

    def _connected(self) -> tuple[dict[str, Any], str]:
        """What the connection says, as options; and its API key."""
        if self.telemetron_conn_id is None:
            return {}, ""
        try:
            connection = self.get_connection(self.telemetron_conn_id)
        except AirflowNotFoundException as exc:
            raise ConfigError(
                f"there is no connection {self.telemetron_conn_id!r}", "make one of type telemetron"
            ) from exc
        told = named_options(connection.extra_dejson, f"connection {self.telemetron_conn_id}: extra")
        base_url = _base_url(connection.host, connection.schema, connection.port)
        return told | ({"base_url": base_url} if base_url else {}), connection.password or ""


def named_options(told: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options by their keys, without those left empty. Raises ConfigError for a name that is none."""
    options = {name.replace("-", "_"): value for name, value in told.items()}
    unknown = sorted(name for name in options if name not in BY_KEY and name not in _BESIDES)
    if unknown:
        raise ConfigError(f"{where}: unknown option {', '.join(unknown)}", "see telemetron-batch run --help")
    return {name: value for name, value in options.items() if value not in (None, "")}


def _base_url(host: str | None, schema: str | None, port: int | None) -> str:
    """The base URL, whole in the host or in pieces, as connections given as URIs have it."""
    if not host:
        return ""
    if "://" in host and not port:
        return host
    scheme, _, rest = host.rpartition("://")
    name, _, path = rest.partition("/")
    path = path or (schema or "" if scheme else "")
    scheme = scheme or (schema if schema in ("http", "https") else "https")
    return f"{scheme}://{name}{f':{port}' if port else ''}{f'/{path}' if path else ''}"
