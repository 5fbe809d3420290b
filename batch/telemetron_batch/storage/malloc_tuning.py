"""Tune malloc of glibc to reuse freed memory instead of returning it to the system.

Loading a large file allocates and frees thousands of blocks of some megabytes. By default each block is new memory,
whose pages the kernel has to clear: a fifth of the processor time of planning. Between unrelated phases the
memory is returned anyway; otherwise their peaks would add up.
"""

import ctypes
from contextlib import suppress
from typing import Final

import pyarrow as pa

_TRIM_THRESHOLD: Final = -1, 256 << 20
_MMAP_THRESHOLD: Final = -3, 32 << 20
_ARENA_MAX: Final = -8, 1
"""Parameters of `mallopt(3)` by their numbers in glibc, with values; threads share one heap."""


def tune_malloc() -> None:
    """Set the parameters for this process. Does nothing without glibc."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX):
            mallopt(name, value)
        pa.set_memory_pool(pa.system_memory_pool())


def trim_malloc() -> None:
    """Return free memory to the system. Does nothing without glibc."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
