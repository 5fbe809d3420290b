"""What a run needs before it can send: a key, enough open files, the Redis of a shared limit."""

from importlib.util import find_spec

from telemetron_batch.api.tls import tls_context
from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.network import ChosenProxy, choose_proxy
from telemetron_batch.config.option_values import REDACTED
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.rate_limit.redis_backend import RedisBackend
from telemetron_batch.storage.clock import Clock
from telemetron_batch.storage.open_files import require_open_files


def require_can_send(config: RunConfig, clock: Clock) -> None:
    """Raise ConfigError or PathError where a run of this configuration could not send."""
    require_key(config)
    require_network(config)
    require_connections(config)
    check_rate_limit_backend(config, clock)


def chosen_proxy(config: RunConfig) -> ChosenProxy | None:
    """Return the proxy to the API; None without one. Raises ConfigError if it cannot be used."""
    if config.sandbox:
        return None
    try:
        proxy = choose_proxy(config.sending.base_url, config.sending.network.proxy)
    except ValueError as exc:
        raise ConfigError(str(exc), "correct it, or use --proxy none") from exc
    if proxy is not None and proxy.is_socks and find_spec("socksio") is None:
        raise ConfigError(f"{proxy.source}: a SOCKS proxy needs socksio", "pip install 'telemetron-batch[socks]'")
    return proxy


def require_network(config: RunConfig) -> None:
    """Raise ConfigError if the proxy or a certificate file cannot be used."""
    chosen_proxy(config)
    if not config.sandbox:
        tls_context(config.sending.network)


def require_key(config: RunConfig) -> None:
    """Raise ConfigError without an API key, unless none is needed. Runs the command that gives it."""
    if not config.sandbox and config.api_key is None:
        advice = "set TELEMETRON_API_KEY, or give --api-key-file or --api-key-command (or try --sandbox)"
        raise ConfigError("there is no API key", advice)


def require_connections(config: RunConfig) -> None:
    """Raise PathError unless a connection for each call in flight can be opened; the sandbox needs both ends."""
    require_open_files(config.sending.concurrency * (2 if config.sandbox else 1))


def is_redacted(url: str) -> bool:
    """Return whether it is a recorded URL, from which the password was removed."""
    return f"{REDACTED}@" in url


def check_rate_limit_backend(config: RunConfig, clock: Clock) -> None:
    """Raise ConfigError if the Redis of `--limit-url` cannot be reached."""
    url = config.sending.limit_url
    if url is None:
        return
    if is_redacted(url.reveal()):
        what = "the run was started with --limit-url, whose password is kept nowhere"
        raise ConfigError(what, f"set {OPTIONS_BY_KEY['limit_url'].variable}")
    clock.run(RedisBackend(url, "").ping())
