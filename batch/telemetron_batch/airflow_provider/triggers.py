"""A trigger that waits outside a worker's slot until files are complete."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from telemetron_batch.airflow_provider.settled_files import SettledFiles, observe


class SettledFileTrigger(BaseTrigger):
    """Fires when all files exist and have not changed for a time.

    :param files: paths or URLs of the files.
    :param settled_for_s: seconds for which size and modification time must stay the same.
    :param poke_interval_s: seconds between two looks.
    """

    def __init__(self, files: list[str], settled_for_s: float, poke_interval_s: float) -> None:
        super().__init__()
        self.files = files
        self.settled_for_s = settled_for_s
        self.poke_interval_s = poke_interval_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create the trigger again."""
        arguments = {"files": self.files, "settled_for_s": self.settled_for_s, "poke_interval_s": self.poke_interval_s}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the files until they are settled, then fire once."""
        settled, clock = SettledFiles(self.settled_for_s), asyncio.get_running_loop().time
        while not settled.are_settled(await asyncio.to_thread(observe, self.files), clock()):  # noqa: ASYNC110
            await asyncio.sleep(self.poke_interval_s)
        yield TriggerEvent(self.files)
