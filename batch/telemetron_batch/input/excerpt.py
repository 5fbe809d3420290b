"""Quote a cell in a message."""

from typing import Final

from telemetron_batch.domain.printable import printable

EXCERPT_LENGTH: Final = 60


def printable_excerpt(cell: str) -> str:
    """Return a cell for use in a message: shortened, and with escapes for invisible characters."""
    short = cell if len(cell) <= EXCERPT_LENGTH else cell[: EXCERPT_LENGTH - 1] + "…"
    return printable(short)
