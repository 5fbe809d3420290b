"""Garbage that only a search finds is searched for seldom, where hardly any is made.

What is imported stays: to search it over and over is a tenth of the start. A call makes no such
garbage, a connection some objects; but with many devices each call would set off searches, and
the libraries' own objects make them long.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_UNSEARCHED: Final = 50_000
"""New objects that may be there before garbage among them is searched for: some megabytes."""


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """While this lasts; not at all where somebody has turned it off."""
    usual = gc.get_threshold()
    gc.set_threshold(max(usual[0], _UNSEARCHED) if usual[0] else 0, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
