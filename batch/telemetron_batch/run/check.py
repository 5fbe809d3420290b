"""Ask the API one harmless thing, for the command `check`."""

import httpx2

from telemetron_batch.api.check import check_api
from telemetron_batch.api.http_client import HttpClient, open_http
from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.stops import Stop
from telemetron_batch.journal.resume_hint import system_errors_in_words
from telemetron_batch.run.requirements import require_key
from telemetron_batch.storage.clock import Clock, RealClock


@system_errors_in_words()
def check(
    config: RunConfig, *, transport: httpx2.AsyncBaseTransport | None = None, clock: Clock | None = None
) -> Stop | None:
    """Ask the API one harmless thing. None when all is well, else what is wrong. Raises ConfigError."""
    clock = clock or RealClock()
    require_key(config)
    key, sending = config.api_key or Secret(""), config.sending

    async def ask() -> Stop | None:
        opened = open_http(sending.base_url, seconds=sending.timeout, transport=transport)
        async with opened as http:
            exchanger = HttpClient(http, key, timeout=sending.timeout, wall=clock.wall, secrets=config.secrets)
            return await check_api(exchanger.post, sending.base_url)

    return clock.run(ask())
