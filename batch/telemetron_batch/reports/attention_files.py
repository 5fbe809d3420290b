"""The attention files of a run, and which of them a person has edited: those are never overwritten.

The journal keeps the hashes of what was written. A file that has another one was edited; then the
new one goes under another name beside it.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BufferedRandom
from itertools import count, dropwhile, islice, takewhile
from pathlib import Path
from typing import BinaryIO, cast

from telemetron_batch.domain.ownership import NotOursError
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.trusted_folders import open_file


def versions(folder: Path, name: str, journal: Journal) -> list[str]:
    """Return the names of an attention file's versions that a person has edited, and last the one to be written."""
    written = journal.meta(Fact.WRITTEN) or {}
    found = []
    for one in _names(name):
        found.append(one)
        if _hash_of(folder / one) in ("", *written.get(one, ())):
            break
    return found


def write(folder: Path, name: str, journal: Journal, content: Callable[[BinaryIO], object]) -> None:
    """Write the last of an attention file's versions, and remove later ones that nobody has edited. Raises DiskError.

    Its hash is noted before the file takes its name, beside that of what stands there: whichever a killed
    process leaves behind is known.
    """
    free = versions(folder, name, journal)[-1]
    with atomic_write(folder / free) as file:
        content(file)
        file.flush()
        file.seek(0)
        digest = hashlib.file_digest(cast(BufferedRandom, file), "sha256").hexdigest()
        before = _hash_of(folder / free)
        written = journal.meta(Fact.WRITTEN) or {}
        journal.set_facts(written={**written, free: [digest, *filter(None, (before,))]})
    later = dropwhile(lambda one: one != free, _names(name))
    for one in takewhile(written.__contains__, islice(later, 1, None)):
        if _hash_of(folder / one) in written[one]:
            with suppress(OSError):
                (folder / one).unlink()


def _names(name: str) -> Iterator[str]:
    """Return attention.csv, attention.new.csv, attention.new2.csv, ..."""
    stem, suffix = Path(name).stem, Path(name).suffix
    yield name
    yield f"{stem}.new{suffix}"
    yield from (f"{stem}.new{number}{suffix}" for number in count(2))


def _hash_of(path: Path) -> str:
    """Return the SHA-256 of a file; empty where there is none, a question mark where it is not ours to read."""
    if not os.path.lexists(path):
        return ""
    try:
        with os.fdopen(open_file(path, os.O_RDONLY), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (NotOursError, OSError):
        return "?"
