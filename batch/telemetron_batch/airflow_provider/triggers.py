"""A trigger to wait outside a worker's slot."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

_POLL_S: Final = 60.0
"""Seconds between two checks of the clock, which may jump when the machine sleeps or the time is set."""


class DateTimeTrigger(BaseTrigger):
    """Fires at a time, given as ISO 8601 text with zone; at once if it has passed."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.moment = moment

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create the trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"moment": self.moment}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait and fire once."""
        until = datetime.fromisoformat(self.moment)
        while (left := (until - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110 - time sets no event
            await asyncio.sleep(min(left, _POLL_S))
        yield TriggerEvent(self.moment)
