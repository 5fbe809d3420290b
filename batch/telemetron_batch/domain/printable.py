"""Text from elsewhere made printable: it can be stored as UTF-8 and does nothing to a terminal."""

import json
import re
from typing import Any, Final

IGNORABLE: Final = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
"""Characters of no category of their own that are drawn as nothing, for a class of a pattern.

Together with category Cf these are all code points of Default_Ignorable_Code_Point.
"""
_IGNORABLE: Final = re.compile(f"[{IGNORABLE}]")


def is_printable(text: str) -> bool:
    """Return whether all characters of the text can be seen: no control character, bidi mark or invisible one."""
    return text.isprintable() and (text.isascii() or _IGNORABLE.search(text) is None)


def printable(text: str) -> str:
    r"""Return the text with every unprintable character as a visible escape, such as `\u202e`.

    Unprintable are control characters, bidi marks, other invisible characters and lone surrogates.
    """
    if is_printable(text):
        return text
    return "".join(sign if is_printable(sign) else ascii(sign)[1:-1] for sign in text)


def without_unprintable(text: str) -> str:
    """Return the text without its unprintable characters."""
    return text if is_printable(text) else "".join(filter(is_printable, text))


def json_text(value: Any, *, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """Return the JSON of a value, in which every unprintable character is an escape."""
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
    if is_printable(text):
        return text
    return "".join(sign if is_printable(sign) or sign == "\n" else _json_escape(sign) for sign in text)


def encodable(text: str) -> str:
    """Return the text with lone surrogates as visible escapes and all else as it is."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _json_escape(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else json.dumps(sign)[1:-1]
