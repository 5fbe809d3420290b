"""The command `sandbox`: serve the sandbox API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from telemetron_batch.config.key_source import key_of_environment
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.sandbox.server import Limit, serve_forever, serve_in_thread
from telemetron_batch.sandbox.state import SandboxState


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Options of the command `sandbox`."""

    port: int
    db: Path | None
    limit: str | None
    max_devices: int
    environ: Mapping[str, str]


def serve_sandbox(options: SandboxOptions, announce: Callable[[str], None]) -> None:
    """Serve the sandbox API until interrupted. If the environment has an API key, only that key is accepted."""
    try:
        rate = Rate.parse(options.limit) if options.limit else None
    except ValueError as exc:
        raise ConfigError(f"--rate: {exc}") from None
    limit = None if rate is None or rate == Rate.AUTO else Limit(max(1, int(rate.attempts)), rate.seconds)
    key = key_of_environment(options.environ)
    with SandboxState(options.db) as state:
        server = serve_in_thread(
            state,
            port=options.port,
            api_key=key.reveal() if key else None,
            limit=limit,
            max_devices=options.max_devices,
        )
        serve_forever(server, announce)
