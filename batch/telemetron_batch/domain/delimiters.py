"""Delimiters of text files: their names, and the character that a name or a character stands for."""

from collections.abc import Mapping
from typing import Final

DELIMITER_NAMES: Final[Mapping[str, str]] = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_BY_NAME: Final = {"\\t": "\t"} | {name: character for character, name in DELIMITER_NAMES.items()}


def parse_delimiter(text: str) -> str:
    """Return the delimiter that the user named. Raises ValueError."""
    character = _BY_NAME.get(text.lower(), text)
    if len(character) != 1 or not character.isascii() or character.isalnum() or character in '"\r\n\0':
        raise ValueError(f"{text!r} cannot be a delimiter: give one ASCII character, not a letter, digit or quote")
    return character
