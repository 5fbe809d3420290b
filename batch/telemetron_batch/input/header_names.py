"""The header names that are recognised for each field, and how headers are compared."""

import re
from collections.abc import Mapping
from typing import Final

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "customerEmail": (
        "Email",
        "Mail",
        "Email Address",
        "Mail Address",
        "Customer",
        "Customer Mail",
        "Customer Email Address",
        "Owner",
        "Owner Email",
        "User Email",
        "Contact Email",
        "Account Email",
        "Client Email",
    ),
    "deviceIdentifier": (
        "Identifier",
        "Device",
        "Device ID",
        "Device No",
        "Device Number",
        "Device Serial",
        "Device Serial No",
        "Device Serial Number",
        "Serial",
        "Serial ID",
        "Serial No",
        "Serial Nr",
        "Serial Number",
        "MAC",
        "MAC Address",
        "IMEI",
    ),
    "action": ("Action Type", "Operation", "Movement", "Movement Type", "Transaction Type"),
    "deviceType": ("Type",),
}
"""Field name to the headers that mean it, besides the name itself; compared by `folded_header`."""
VAGUE: Final = frozenset({"customer", "owner"})
"""Headers that often stand above a number or a name: used for the email only if there is no better header."""
_LONGEST_HEADER: Final = 1000
_REQUIRED: Final = re.compile(r"(?<!\w)required$", re.IGNORECASE)
_IGNORED: Final = re.compile(r"[\s_.\-\u00ad\u200b-\u200f\u2060\ufeff]+")


def folded_header(header: str) -> str:
    """Return a header for comparison: without case, white space, `_`, `-`, `.`, and marks such as `*` or `(required)`.

    A text that is too long for a header is returned as it is.
    """
    if len(header) > _LONGEST_HEADER:
        return header
    return _IGNORED.sub("", _without_marks(header) or header).casefold()


def _without_marks(header: str) -> str:
    """Return a header without the marks that forms add at its end; `(input)` stays, because this program adds it."""
    bare = header.rstrip()
    while True:
        last = bare[-1:]
        start = len(bare)
        if last == "*":
            start -= 1
        elif last in ("]", ")"):
            opening = bare.find("[" if last == "]" else "(", bare.rfind(last, 0, -1) + 1)
            start = opening if opening >= 0 and bare[opening:].lower() != "(input)" else start
        elif last in ("d", "D") and _REQUIRED.search(bare[-len("xrequired") :]):
            start -= len("required")
        if start == len(bare):
            return bare
        bare = bare[:start].rstrip()


FOLDED_ALIASES: Final = {
    field: frozenset(folded_header(alias) for alias in aliases) for field, aliases in ALIASES.items()
}
