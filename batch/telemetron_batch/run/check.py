"""Ask the API one harmless thing, for the command `check`."""

import asyncio
from urllib.parse import urlsplit

import httpx2

from telemetron_batch.api.check import CheckResult, ask_harmlessly, stop_of
from telemetron_batch.api.http_client import open_client
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.config.config import RunConfig
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.run.requirements import chosen_proxy, require_key
from telemetron_batch.storage import clock as running_clock
from telemetron_batch.storage.clock import Clock, RealClock


@translate_system_errors()
def check(
    config: RunConfig, *, transport: httpx2.AsyncBaseTransport | None = None, clock: Clock | None = None
) -> CheckResult:
    """Ask the API one harmless thing, over the network or a transport that the caller gives. Raises ConfigError."""
    clock = clock or RealClock()
    require_key(config)
    proxy = chosen_proxy(config)
    sending = config.sending

    async def ask() -> CheckResult:
        seconds = {} if transport else await _look_up(sending.base_url if proxy is None else proxy.url.reveal())
        target = ApiTarget.of(config, transport)
        async with open_client(target, timeout=sending.timeout, wall=clock.wall, secrets=config.secrets) as client:
            result = await ask_harmlessly(client.post)
        return CheckResult(
            stop=stop_of(result, sending.base_url),
            seconds={**seconds, **result.seconds},
            proxy=None if proxy is None else f"{proxy.shown} ({proxy.source})",
            trust=sending.network.ca_source if sending.base_url.startswith("https:") else None,
        )

    return clock.run(ask())


async def _look_up(url: str) -> dict[str, float]:
    """Return the seconds that the look-up of the URL's host took; nothing if it fails, which the request then says."""
    began = running_clock.now()
    try:
        await asyncio.get_running_loop().getaddrinfo(urlsplit(url).hostname, None)
    except (OSError, UnicodeError):  # the latter for a label of more than 63 characters
        return {}
    return {"dns": running_clock.now() - began}
