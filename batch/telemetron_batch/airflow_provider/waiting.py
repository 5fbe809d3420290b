"""Waiting outside a worker's slot: for what takes longer than a slot should be held."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

_LOOK_EVERY: Final = 60.0
"""Seconds: a machine that slept, or whose clock was set, shall not add its own wait."""


class DateTimeTrigger(BaseTrigger):
    """Fires at a moment, given as ISO text with its zone; at once if it has passed. Says nothing meanwhile."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.moment = moment

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer makes it anew."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"moment": self.moment}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        until = datetime.fromisoformat(self.moment)
        while (left := (until - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110 - time sets no event
            await asyncio.sleep(min(left, _LOOK_EVERY))
        yield TriggerEvent(self.moment)
