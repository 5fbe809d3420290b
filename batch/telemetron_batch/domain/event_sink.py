"""The interface that takes events of a run, for the log and perhaps for the screen."""

from typing import Protocol


class EventSink(Protocol):
    """Records events and shows some of them."""

    def __call__(self, kind: str, text: str, *, is_shown: bool = True) -> None:
        """Record the event; with `is_shown`, also show it to the user."""
