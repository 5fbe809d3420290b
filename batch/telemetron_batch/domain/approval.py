"""Who must approve a plan, and the short form of a plan's fingerprint."""

import re
from enum import StrEnum
from typing import Final

_SHORT_GROUP: Final = 4
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{4}-[0-9a-f]{4}|[0-9a-f]{64}")


class ApprovalPolicy(StrEnum):
    """Who must approve a plan before it is sent. The values are stored."""

    NONE = "none"
    SECOND = "second"
    """Another user than the one who planned the run and the one who runs it."""


def short_fingerprint(fingerprint: str) -> str:
    """Return the form of a fingerprint that people read and type, such as `7f3a-92c1`."""
    return f"{fingerprint[:_SHORT_GROUP]}-{fingerprint[_SHORT_GROUP : 2 * _SHORT_GROUP]}"


def parse_fingerprint(text: str) -> str:
    """Parse a fingerprint in its short or its full form. Raises ValueError."""
    word = text.strip().lower()
    if not _FINGERPRINT.fullmatch(word):
        raise ValueError(f"{text!r} is not a fingerprint such as 7f3a-92c1")
    return word


def is_fingerprint_of(given: str, fingerprint: str) -> bool:
    """Return whether a parsed fingerprint, short or full, is that of a plan."""
    return given in (fingerprint, short_fingerprint(fingerprint))
