"""Remove secrets from texts that are shown or logged; never from texts that are parsed."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import quote

from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.printable import printable

_LONG_ENOUGH: Final = 8
"""Number of characters. A shorter secret may be part of another word by chance."""
_JOINS_WORDS: Final = r"\w.+/@-"
"""Characters that join the texts on both sides into one word."""


class Redactor:
    """Replaces secrets by `***`, also where they are percent-encoded.

    A secret shorter than 8 characters is replaced only as a separate word.
    """

    def __init__(self, *secrets: Secret, later: Callable[[], Sequence[Secret]] | None = None) -> None:
        """`later` returns secrets that become known afterwards; its result only grows."""
        self._secrets = secrets
        self._later = later
        self._added = 0
        self._learn(secrets)

    def _learn(self, secrets: Iterable[Secret]) -> None:
        texts = {secret.reveal() for secret in secrets} - {""}
        spellings = sorted(texts | {quote(text, safe="") for text in texts}, key=len, reverse=True)
        self._encoded = tuple(spelling.encode() for spelling in spellings)
        self._pattern = re.compile("|".join(map(_pattern_of, spellings))) if spellings else None

    def _update(self) -> None:
        """Learn the secrets that have become known."""
        added = () if self._later is None else self._later()
        if len(added) != self._added:
            self._added = len(added)
            self._learn((*self._secrets, *added))

    def redact(self, text: str) -> str:
        """Return the text without the secrets."""
        self._update()
        return text if self._pattern is None else self._pattern.sub("***", text)

    def show(self, text: str) -> str:
        """Return the text without the secrets and with unprintable characters escaped."""
        return printable(self.redact(text))

    def may_be_in(self, body: bytes) -> bool:
        """Return whether texts in this JSON may contain a secret. Escapes with a backslash may spell one."""
        self._update()
        if b"\\" in body:
            return bool(self._encoded)
        for spelling in self._encoded:  # noqa: SIM110 - any() costs as much as the search itself
            if spelling in body:
                return True
        return False


def _pattern_of(spelling: str) -> str:
    pattern = re.escape(spelling)
    if len(spelling) >= _LONG_ENOUGH:
        return pattern
    return rf"(?<![{_JOINS_WORDS}]){pattern}(?![\w+/@-]|\.\w)"
