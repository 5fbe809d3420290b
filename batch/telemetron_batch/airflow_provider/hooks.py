"""Turn an Airflow connection into a configuration of the program.

The connection's host is the base URL, its password the API key; each key of its extra is an option of `run`.
Options of a task override the connection, which overrides the worker's environment. But if the connection gives
the key, a task cannot change the base URL and the way to it: its options may be templates, filled in by any person
who may trigger a run, who could lead the key elsewhere.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.key_source import KEY_OPTIONS
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.config.options import KEY_VARIABLE, OPTIONS_BY_KEY
from telemetron_batch.config.sources import load_profile
from telemetron_batch.config.stored import ACCESS_OPTIONS
from telemetron_batch.domain.errors import BatchError, ConfigError
from telemetron_batch.notices.refusal import Request
from telemetron_batch.run.check import check
from telemetron_batch.run.feed_back import attention_config

_META_KEYS: Final = ("profile", "config")
"""Keys that are not options but name the source of options."""
_KEY_OPTIONS: Final = (*KEY_OPTIONS, *ACCESS_OPTIONS)
"""Options that a task may not set if its connection gives the API key."""
_COMMAND: Final = "api_key_command"
_KEY_OPTION_VARIABLES: Final = frozenset(OPTIONS_BY_KEY[name].variable for name in KEY_OPTIONS)
"""Variables of the worker that the key of a connection overrides."""
_SCHEMES: Final = ("https", "http")


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
        """Return the configuration of the connection. There is no session to keep: each run opens its own."""
        return self.config(())

    def config(
        self,
        files: Sequence[str],
        options: Mapping[str, Any] | None = None,
        context: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> RunConfig:
        """Return the configuration of a run of these files; `context` has further environment variables.

        `options` and `defaults` have the names of the options of `run`; `defaults` apply to options that are not
        given anywhere. Raises ConfigError that lists all problems.
        """
        from_connection, key = self._connection_options()
        environ = {**os.environ, **(context or {})}
        if key:
            environ = {name: text for name, text in environ.items() if name not in _KEY_OPTION_VARIABLES}
            environ[KEY_VARIABLE] = key
        given = named_options(options or {}, "options")
        self._require_no_command(from_connection, given, environ)
        if key or any(from_connection.get(name) for name in KEY_OPTIONS):
            from_connection |= self._pinned_access(from_connection, given, environ)
        unset = {
            name: value for name, value in (defaults or {}).items() if not environ.get(OPTIONS_BY_KEY[name].variable)
        }
        config = attention_config(files, {**unset, **from_connection, **given}, environ)
        config.key_source.on_new_key = lambda secret: mask_secret(secret.reveal())
        for secret in config.secrets:
            mask_secret(secret.reveal())
        if not config.key_source.is_given and not config.sandbox:
            raise ConfigError(
                f"connection {self.telemetron_conn_id} has no API key", "put it into the connection's password"
            )
        return config

    def _require_no_command(
        self, from_connection: Mapping[str, Any], given: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        """Raise ConfigError if a task, or a profile that it names, gives a command to run on the worker."""
        advice = f"put it into connection {self.telemetron_conn_id}, or into the worker's environment"
        if _COMMAND in given:
            raise ConfigError("options: api-key-command is not taken from a task", advice)
        if any(name in given for name in _META_KEYS):
            profile, where = load_profile({**from_connection, **given}, environ)
            if _COMMAND in profile:
                raise ConfigError(f"{where}: api-key-command is not taken from a profile that a task names", advice)

    def request(self, options: Mapping[str, Any], run: str) -> Request:
        """Return who hears of a refused task: by its options, the connection and the environment, as far as they go."""
        given: dict[str, Any] = {}
        with suppress(BatchError):
            given |= self._connection_options()[0]
        return Request({**given, **{name.replace("-", "_"): value for name, value in options.items()}}, os.environ, run)

    def test_connection(self) -> tuple[bool, str]:
        """Test base URL and key with one read request, for the button of the connection form."""
        try:
            config = self.config(())
            stop = check(config).stop
        except BatchError as exc:
            return False, str(exc)
        if stop is not None:
            return False, f"{stop.sentence}; {stop.advice.words()}"
        return True, f"{config.sending.base_url} is there, and it accepts this key."

    def _pinned_access(
        self, from_connection: Mapping[str, Any], given: Mapping[str, Any], environ: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return base URL and network options for the connection's key, where a task names a profile or its file.

        Raises ConfigError if the options of the task, or its profile, give other ones.
        """
        advice = f"put it into connection {self.telemetron_conn_id}"
        for name in _KEY_OPTIONS:
            if name in given:
                what = f"{OPTIONS_BY_KEY[name].name} is not taken from a task whose connection gives the API key"
                raise ConfigError(f"options: {what}", advice)
        if not any(name in given for name in _META_KEYS):
            return {}
        profile, where = load_profile({**from_connection, **given}, environ)
        pinned = {}
        for name in ACCESS_OPTIONS:
            option = OPTIONS_BY_KEY[name]
            value = from_connection.get(name) or environ.get(option.variable)
            if not value and name in profile and name in NetworkOptions.__slots__:
                raise ConfigError(f"{where}: {option.name} is not taken from a profile that a task names", advice)
            pinned[name] = value or option.default
        return pinned

    def _connection_options(self) -> tuple[dict[str, Any], str]:
        """Return the options in the connection, and its API key."""
        if self.telemetron_conn_id is None:
            return {}, ""
        try:
            connection = self.get_connection(self.telemetron_conn_id)
        except AirflowNotFoundException as exc:
            raise ConfigError(
                f"there is no connection {self.telemetron_conn_id!r}", "create one of type telemetron"
            ) from exc
        options = named_options(connection.extra_dejson, f"connection {self.telemetron_conn_id}: extra")
        if connection.password and any(name in options for name in KEY_OPTIONS):
            what = f"connection {self.telemetron_conn_id} gives the API key twice: as password and in the extra"
            raise ConfigError(what, "give it only once")
        base_url = _base_url(connection)
        return options | ({"base_url": base_url} if base_url else {}), connection.password or ""


def named_options(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return options by key, without empty ones. Raises ConfigError for an unknown name."""
    options = {name.replace("-", "_"): value for name, value in values.items()}
    unknown = sorted(name for name in options if name not in OPTIONS_BY_KEY and name not in _META_KEYS)
    if unknown:
        raise ConfigError(f"{where}: unknown option {', '.join(unknown)}", "see telemetron-batch run --help")
    return {name: value for name, value in options.items() if value not in (None, "")}


def _base_url(connection: Any) -> str:
    """Return the base URL that a connection names; empty if it names none. Raises ConfigError.

    Airflow turns the path of a URI into the schema. The schema may also be `http` or `https`,
    and the host may hold scheme, port and path of its own.
    """
    host, path = (connection.host or "").strip(), (connection.schema or "").strip(" /")
    scheme, path = (path.lower(), "") if path.lower() in _SCHEMES else (_SCHEMES[0], path)
    if host:
        return _joined(host, connection.port, path, scheme)
    if path or connection.port:
        raise ConfigError(f"connection {connection.conn_id} has a path or a port, but no host", "name the host")
    return ""


def _joined(host: str, port: int | None, path: str, scheme: str) -> str:
    """Return a URL of these parts; a scheme that the host holds wins, and a path that both hold counts once."""
    if "://" in host:
        scheme, _, host = host.partition("://")
    name, _, path_of_host = host.partition("/")
    if name.count(":") > 1 and not name.startswith("["):
        name = f"[{name}]"  # Airflow takes the brackets off an IPv6 address
    paths = dict.fromkeys(part for part in (path_of_host.strip("/"), path) if part)
    return "/".join((f"{scheme}://{name}{f':{port}' if port else ''}", *paths))
