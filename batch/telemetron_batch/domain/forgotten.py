"""The values that stand for the addresses of people who were forgotten."""

from typing import Final

FORGOTTEN_PREFIX: Final = "forgotten-"
"""Such a value is no email address, so a row of an input that has one is invalid."""


def is_forgotten(customer: str) -> bool:
    """Return whether a customer is such a value."""
    return customer.startswith(FORGOTTEN_PREFIX) and "@" not in customer
