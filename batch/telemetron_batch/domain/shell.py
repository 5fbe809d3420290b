"""Quote words of the commands that messages advise, for the shell of the system."""

import shlex
import sys
from collections.abc import Iterable


def quote(word: str) -> str:
    """Return a word as the shell of this system reads it."""
    if sys.platform == "win32":
        from subprocess import list2cmdline

        return list2cmdline([word])
    else:  # noqa: RET505 - the type checker knows only such branches as those of a system
        return shlex.quote(word)


def join(words: Iterable[str]) -> str:
    """Return words as one command."""
    return " ".join(map(quote, words))
