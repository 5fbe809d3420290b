"""Ask the API one harmless thing, for the command `check`."""

import httpx2

from batch.clock import Clock, RealClock
from batch.config import RunConfig
from batch.going_on import system_errors_in_words
from batch.model import Secret, Stop
from batch.sending.check import check_api
from batch.sending.exchange import Exchanger, connected
from batch.starting import (
    require_key,
)


@system_errors_in_words()
def check(
    config: RunConfig, *, transport: httpx2.AsyncBaseTransport | None = None, clock: Clock | None = None
) -> Stop | None:
    """Ask the API one harmless thing. None when all is well, else what is wrong. Raises ConfigError."""
    clock = clock or RealClock()
    require_key(config)
    key, sending = config.api_key or Secret(""), config.sending

    async def ask() -> Stop | None:
        opened = connected(sending.base_url, seconds=sending.timeout, transport=transport)
        async with opened as http:
            exchanger = Exchanger(http, key, timeout=sending.timeout, wall=clock.wall, secrets=config.secrets)
            return await check_api(exchanger.post, sending.base_url)

    return clock.run(ask())
