"""Turn the options of the command `serve` into `ServeOptions`."""

from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

from telemetron_batch.config.option_values import parse_positive_duration, parse_size
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.web.hosts import parse_host_name
from telemetron_batch.web.options import Network, ServeOptions

T = TypeVar("T")


def serve_options(given: Mapping[str, Any], *, verbose: bool) -> ServeOptions:
    """Return the options of a server. Raises ConfigError for an invalid value."""
    return ServeOptions(
        host=given["host"],
        port=given["port"],
        behind_proxy=given["behind_proxy"],
        user_header=given["user_header"],
        trusted_proxies=tuple(_parsed("trusted-proxy", _network, text) for text in given["trusted_proxies"]),
        allowed_hosts=tuple(_parsed("allowed-host", parse_host_name, text) for text in given["allowed_hosts"]),
        max_upload=_parsed("max-upload", parse_size, given["max_upload"]),
        verbose=verbose,
        tls_cert=_path(given["tls_cert"]),
        tls_key=_path(given["tls_key"]),
        users=_path(given["users"]),
        upload_timeout=_parsed("upload-timeout", parse_positive_duration, given["upload_timeout"]),
        idle_timeout=_parsed("idle-timeout", parse_positive_duration, given["idle_timeout"]),
        session_timeout=_parsed("session-timeout", parse_positive_duration, given["session_timeout"]),
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _network(text: str) -> Network:
    try:
        return ip_network(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no address or network such as 10.0.0.5 or 10.0.0.0/24") from None


def _parsed(name: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as exc:
        raise ConfigError(f"--{name}: {exc}", "see telemetron-batch serve --help") from exc
