"""Make foreign text printable: encodable as UTF-8 and harmless to a terminal."""

import json
import re
from typing import Any, Final

IGNORABLE: Final = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
"""Invisible characters outside category Cf, for a character class of a regular expression.

Together with category Cf these are all code points with the property Default_Ignorable_Code_Point.
"""
_IGNORABLE: Final = re.compile(f"[{IGNORABLE}]")


def is_printable(text: str) -> bool:
    """Return whether a text has no control characters, bidi marks or other invisible characters."""
    return text.isprintable() and (text.isascii() or _IGNORABLE.search(text) is None)


def printable(text: str) -> str:
    r"""Return the text with every unprintable character as a visible escape, such as `\u202e`.

    Control characters, bidi marks, other invisible characters and lone surrogates are unprintable.
    """
    if is_printable(text):
        return text
    return "".join(one if is_printable(one) else ascii(one)[1:-1] for one in text)


def without_unprintable(text: str) -> str:
    """Return the text without its unprintable characters."""
    return text if is_printable(text) else "".join(filter(is_printable, text))


def json_text(value: Any, *, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """Return a value as JSON with every unprintable character escaped."""
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
    if is_printable(text):
        return text
    return "".join(one if is_printable(one) or one == "\n" else _json_escape(one) for one in text)


def encodable(text: str) -> str:
    """Return the text with lone surrogates as visible escapes and everything else unchanged."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _json_escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else json.dumps(character)[1:-1]
