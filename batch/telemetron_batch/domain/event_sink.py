"""The interface for events of a run: whatever is worth a line in the log, and perhaps on the screen."""

from typing import Protocol


class EventSink(Protocol):
    """Takes something worth telling."""

    def __call__(self, kind: str, text: str, *, aloud: bool = True) -> None:
        """Put it on record; `aloud` says it to the user too."""
