"""Read an Airflow connection of type `telemetron`: base URL, API key, options, and where reports are found.

Options of a task override the connection, which overrides the worker's environment. But if the connection gives
the key, a task cannot change the base URL and the way to it: its options may be templates, filled in by any person
who may trigger a run, who could lead the key elsewhere. Imports nothing of Airflow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from telemetron_batch.config.key_source import KEY_OPTIONS
from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.config.options import KEY_VARIABLE, OPTIONS_BY_KEY
from telemetron_batch.config.sources import load_profile
from telemetron_batch.config.stored import ACCESS_OPTIONS
from telemetron_batch.domain.errors import ConfigError

if TYPE_CHECKING:
    from telemetron_batch.config.config import RunConfig

Resolver = Callable[[Mapping[str, Any], Mapping[str, str]], "RunConfig"]
"""Makes a configuration of flags and environment variables."""

_META_KEYS: Final = ("profile", "config")
"""Keys that are not options but name the source of options."""
_KEY_OPTIONS: Final = (*KEY_OPTIONS, *ACCESS_OPTIONS)
"""Options that a task may not set if its connection gives the API key."""
_COMMAND: Final = "api_key_command"
_KEY_OPTION_VARIABLES: Final = frozenset(OPTIONS_BY_KEY[name].variable for name in KEY_OPTIONS)
"""Variables of the worker that the key of a connection overrides."""
_REPORTS_URL: Final = "reports_url"
"""Key of the extra with the URL at which a browser finds the reports folder."""
_SCHEMES: Final = ("https", "http")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What a connection says; nothing by default."""

    conn_id: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `run`, by key."""
    key: str = field(default="", repr=False)
    reports_url: str = ""

    @classmethod
    def of(cls, connection: Any) -> "ConnectionSettings":
        """Return the settings in a connection. Raises ConfigError."""
        extra = {name.replace("-", "_"): value for name, value in connection.extra_dejson.items()}
        reports_url = extra.pop(_REPORTS_URL, None) or ""
        options = named_options(extra, f"connection {connection.conn_id}: extra")
        if connection.password and any(name in options for name in KEY_OPTIONS):
            what = f"connection {connection.conn_id} gives the API key twice: as password and in the extra"
            raise ConfigError(what, "give it only once")
        if base_url := _base_url(connection):
            options["base_url"] = base_url
        return cls(connection.conn_id, options, connection.password or "", reports_url)

    def resolve(
        self,
        resolver: Resolver,
        options: Mapping[str, Any],
        environ: Mapping[str, str],
        defaults: Mapping[str, Any],
    ) -> "RunConfig":
        """Return the configuration of a task with these options; `defaults` apply to those not given anywhere.

        Raises ConfigError that lists all problems.
        """
        from_connection: dict[str, Any] = dict(self.options)
        environ = self._with_key(environ)
        given = named_options(options, "options")
        self._require_no_command(given, environ)
        if self.key or any(from_connection.get(name) for name in KEY_OPTIONS):
            from_connection |= self._pinned_access(given, environ)
        unset = {name: value for name, value in defaults.items() if not environ.get(OPTIONS_BY_KEY[name].variable)}
        config = resolver({**unset, **from_connection, **given}, environ)
        if not config.key_source.is_given and not config.sandbox:
            raise ConfigError(f"connection {self.conn_id} has no API key", "put it into the connection's password")
        return config

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return environment variables with the key and the options of the connection, for `verify`."""
        named = {
            OPTIONS_BY_KEY[name].variable: str(value)
            for name, value in self.options.items()
            if name in OPTIONS_BY_KEY and not isinstance(value, list | Mapping)
        }
        return {**self._with_key(environ), **named}

    def _with_key(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return environment variables with the key of the connection, which overrides those of the worker."""
        if not self.key:
            return {**environ}
        others = {name: text for name, text in environ.items() if name not in _KEY_OPTION_VARIABLES}
        return {**others, KEY_VARIABLE: self.key}

    def _require_no_command(self, given: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Raise ConfigError if a task, or a profile that it names, gives a command to run on the worker."""
        advice = f"put it into connection {self.conn_id}, or into the worker's environment"
        if _COMMAND in given:
            raise ConfigError("options: api-key-command is not taken from a task", advice)
        if any(name in given for name in _META_KEYS):
            profile, where = load_profile({**self.options, **given}, environ)
            if _COMMAND in profile:
                raise ConfigError(f"{where}: api-key-command is not taken from a profile that a task names", advice)

    def _pinned_access(self, given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
        """Return base URL and network options for the connection's key, where a task names a profile or its file.

        Raises ConfigError if the options of the task, or its profile, give other ones.
        """
        advice = f"put it into connection {self.conn_id}"
        for name in _KEY_OPTIONS:
            if name in given:
                what = f"{OPTIONS_BY_KEY[name].name} is not taken from a task whose connection gives the API key"
                raise ConfigError(f"options: {what}", advice)
        if not any(name in given for name in _META_KEYS):
            return {}
        profile, where = load_profile({**self.options, **given}, environ)
        pinned = {}
        for name in ACCESS_OPTIONS:
            option = OPTIONS_BY_KEY[name]
            value = self.options.get(name) or environ.get(option.variable)
            if not value and name in profile and name in NetworkOptions.__slots__:
                raise ConfigError(f"{where}: {option.name} is not taken from a profile that a task names", advice)
            pinned[name] = value or option.default
        return pinned


def named_options(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return options by key, without empty ones. Raises ConfigError for an unknown name."""
    options = {name.replace("-", "_"): value for name, value in values.items()}
    unknown = sorted(name for name in options if name not in OPTIONS_BY_KEY and name not in _META_KEYS)
    if unknown:
        advice = "the names are those of the options of telemetron-batch run"
        raise ConfigError(f"{where}: unknown option {', '.join(unknown)}", advice)
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
