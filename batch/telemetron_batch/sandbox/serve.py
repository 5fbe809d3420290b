"""The command `sandbox`: serve the sandbox API, with a fleet that fits files, and with faults for rehearsals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from telemetron_batch.config.key_source import key_of_environment
from telemetron_batch.config.option_values import CountOrPercent, parse_count_or_percent
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.sandbox.faults import Faults
from telemetron_batch.sandbox.server import Limit, serve_forever, serve_in_thread
from telemetron_batch.sandbox.state import SandboxState


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Options of the command `sandbox`."""

    port: int
    db: Path | None
    limit: str | None
    max_devices: int
    environ: Mapping[str, str]
    seed_files: Sequence[str] = ()
    """Files whose rows a run shall be able to carry out."""
    input: InputOptions = field(default_factory=InputOptions)
    """How to read these files."""
    fail: str | None = None
    """The share of the requests that fail, such as `5%`."""
    fail_seed: int = 1
    refuse_key: bool = False


def serve_sandbox(options: SandboxOptions, announce: Callable[[str], None], note: Callable[[str], None]) -> None:
    """Serve the sandbox API until interrupted. If the environment has an API key, only that key is accepted.

    Calls `announce` with the base URL, and `note` with what else there is to know.
    """
    try:
        rate = Rate.parse(options.limit) if options.limit else None
    except ValueError as exc:
        raise ConfigError(f"--rate: {exc}") from None
    limit = None if rate is None or rate == Rate.AUTO else Limit(max(1, int(rate.attempts)), rate.seconds)
    faults, key = _faults(options), key_of_environment(options.environ)
    with SandboxState(options.db) as state:
        if options.seed_files:
            # Only this needs what reads files.
            from telemetron_batch.sandbox.seeding import seed_from_files

            note(seed_from_files(state, options.seed_files, options.input))
        server = serve_in_thread(
            state,
            port=options.port,
            api_key=key.reveal() if key else None,
            limit=limit,
            max_devices=options.max_devices,
            faults=faults,
        )
        serve_forever(server, announce)


def _faults(options: SandboxOptions) -> Faults | None:
    try:
        share = CountOrPercent(0, percent=True) if options.fail is None else parse_count_or_percent(options.fail)
    except ValueError:
        share = None
    if share is None or not share.percent:
        raise ConfigError(f"--fail: {options.fail!r} is not a share of the requests", "write it as 5%")
    if not share.number and not options.refuse_key:
        return None
    return Faults(share.number / 100, options.fail_seed, options.refuse_key)
