"""Write the attention files of a run without overwriting a file that a person has edited.

The journal keeps the hashes of the files written. A file with another hash was edited; the new version
then gets another name beside it.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BufferedRandom
from itertools import count, dropwhile, islice, takewhile
from pathlib import Path
from typing import BinaryIO, cast

from telemetron_batch.domain.ownership import UntrustedPathError
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.trusted_folders import open_file


def versions(folder: Path, name: str, journal: Journal) -> list[str]:
    """Return the names of the edited versions of an attention file, followed by the name to write next."""
    written = journal.fact(Fact.ATTENTION_HASHES) or {}
    found = []
    for one in _candidate_names(name):
        found.append(one)
        if _hash_of(folder / one) in ("", *written.get(one, ())):
            break
    return found


def write(folder: Path, name: str, journal: Journal, content: Callable[[BinaryIO], object]) -> None:
    """Write the next version of an attention file, and remove later versions that were not edited. Raises DiskError.

    The journal gets the new hash before the file gets its name, and keeps the hash of the file that is replaced:
    a killed process may leave either of the two, and both must count as unedited.
    """
    target = versions(folder, name, journal)[-1]
    with atomic_write(folder / target) as file:
        content(file)
        file.flush()
        file.seek(0)
        digest = hashlib.file_digest(cast(BufferedRandom, file), "sha256").hexdigest()
        before = _hash_of(folder / target)
        written = journal.fact(Fact.ATTENTION_HASHES) or {}
        journal.set_facts(written={**written, target: [digest, *filter(None, (before,))]})
    later = dropwhile(lambda one: one != target, _candidate_names(name))
    for one in takewhile(written.__contains__, islice(later, 1, None)):
        if _hash_of(folder / one) in written[one]:
            with suppress(OSError):
                (folder / one).unlink()


def _candidate_names(name: str) -> Iterator[str]:
    """Yield attention.csv, attention.new.csv, attention.new2.csv, ..."""
    stem, suffix = Path(name).stem, Path(name).suffix
    yield name
    yield f"{stem}.new{suffix}"
    yield from (f"{stem}.new{number}{suffix}" for number in count(2))


def _hash_of(path: Path) -> str:
    """Return the SHA-256 of a file; "" if there is none, "?" if it may not be read."""
    if not os.path.lexists(path):
        return ""
    try:
        with os.fdopen(open_file(path, os.O_RDONLY), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (UntrustedPathError, OSError):
        return "?"
