"""Memory that was freed is used again, not given back to the system and asked for anew.

Blocks of a file come and go by the thousand, and each is some megabytes in size: by default
every one of them would be fresh memory, of which the system clears each page. That is a fifth
of the processor time of planning a large file. Between two pieces of work that have little
in common it is given back all the same, or what each needs at most would add up.
"""

import ctypes
from contextlib import suppress
from typing import Final

import pyarrow as pa

_TRIM_THRESHOLD: Final = -1, 256 << 20
_MMAP_THRESHOLD: Final = -3, 32 << 20
_ARENA_MAX: Final = -8, 1
"""Names of `mallopt(3)` by their numbers in glibc, and what they are set to; threads share one heap."""


def tune_malloc() -> None:
    """For this process; does nothing where the C library is not glibc."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX):
            mallopt(name, value)
        pa.set_memory_pool(pa.system_memory_pool())


def trim_malloc() -> None:
    """To the system, what this process has of it; does nothing where the C library is not glibc."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
