"""Another key for a session whose key the API has refused: read once more, for all workers together."""

import asyncio
from typing import Final

from telemetron_batch.config.key_source import KeySource
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage.concurrency import run_off_loop
from telemetron_batch.storage.log import LOGGER

_SAME: Final = "gave the same key when asked again"
_REFUSED_TOO: Final = "gave another key, which is refused too"


class KeyRenewal:
    """The key of one session. It is replaced at most once."""

    def __init__(self, source: KeySource | None, key: Secret) -> None:
        """`source` is where `key` comes from; None if there can be no other one."""
        self._source = source if source is not None and source.can_change else None
        self._reading = asyncio.Lock()
        self._is_spent = False
        self._is_aborted = False
        self.key = key
        """The key for the next request."""
        self.problem = ""
        """Why there is no other key, in words that follow the API's; empty before the source was asked."""

    async def replace(self, refused: Secret) -> bool:
        """Return whether `key` is another one than the refused key; for that, ask the source if need be."""
        if self._source is None:
            return False
        async with self._reading:  # one worker asks, the others wait for what it gets
            if self.key != refused:
                return True
            if self._is_spent or self._is_aborted:
                return False
            self._is_spent = True
            await self._read(self._source, refused)
            return self.key != refused

    async def _read(self, source: KeySource, refused: Secret) -> None:
        try:
            key = await run_off_loop(source.read_again)
        except ConfigError as exc:
            self.problem = str(exc.reason)
            return
        self.problem = f"{source.name} {_SAME if key == refused else _REFUSED_TOO}"
        if key != refused:
            LOGGER.info("the API refused the key; %s gave another one, and the work goes on with it", source.name)
            self.key = key

    def abort(self) -> None:
        """Do not wait for the source any longer."""
        self._is_aborted = True
        if self._source is not None:
            self._source.abort()
