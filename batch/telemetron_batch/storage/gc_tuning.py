"""Raise the GC threshold while the program starts and sends: it creates almost no cyclic garbage.

Imports create objects that stay, and collecting among them takes a tenth of the start-up time. A call creates no
cyclic garbage and a connection only a few objects, but calls with many devices would trigger collections,
which are slow because of the many objects of the libraries.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_GEN0_THRESHOLD: Final = 50_000
"""Number of new objects that triggers a collection: some megabytes."""


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Raise the GC threshold within this context, unless the GC is off."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _GEN0_THRESHOLD) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
