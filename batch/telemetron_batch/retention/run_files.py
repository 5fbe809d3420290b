"""Which files in the folder of a run this program has made."""

import hashlib
import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import system_error, untrusted_path_errors
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME, SHARDS, UPLOAD_IN_RUN
from telemetron_batch.reports.summary import FILES, PREVIEW, WORKBOOK
from telemetron_batch.run.query_snapshot import SNAPSHOT_NAME
from telemetron_batch.run.until import FIRST_START_FILE
from telemetron_batch.storage.trusted_folders import open_file, require_file, require_folder

SANDBOX_NAME: Final = "sandbox.sqlite3"
"""The state of the embedded sandbox, in the folder of a run that used it."""
_NAMES: Final = frozenset(
    {
        *FILES,
        PREVIEW,
        WORKBOOK,
        LOCK_NAME,
        FIRST_START_FILE,
        SNAPSHOT_NAME,
        "run.log",
        "reserve",
        "calls.arrow",
        "left.arrow",
    }
)
_PATTERNS: Final = re.compile(
    rf"attention(\.new[0-9]*)?\.(csv|xlsx)|({re.escape(JOURNAL_NAME)}|{re.escape(SANDBOX_NAME)})([-.][a-z-]+)?"
    r"|run\.lease\.[0-9]+|\.told-[0-9]+"
)
_ATTENTION: Final = re.compile(r"attention(\.new[0-9]*)?\.(csv|xlsx)")
_TEMPORARY: Final = re.compile(r"\.(.+)\.new")
"""What `atomic_write` makes: the name of the file with a dot before and `.new` behind."""
_FOLDERS: Final = re.compile(rf"{SHARDS}|{SHARDS}/[0-9]+|{UPLOAD_IN_RUN}")
_SCRATCH: Final = re.compile(r"(.*/)?(scratch-[0-9]+|(xlsx-|tmp)[a-z0-9_]{8})")
"""Folders of temporary files, which a killed process leaves behind."""
_UPLOADED: Final = re.compile(r"upload\.json|list(\.[a-z]+){0,2}")


def foreign_files(folder: Path) -> list[str]:
    """Return the files, folders and links in a run's folder that this program does not make there, by relative path.

    Raises UntrustedRunError if a file or folder with one of our names is not ours.
    """
    return [str(path.relative_to(folder)) for path, is_ours in _classified(folder, folder) if not is_ours]


def own_files(folder: Path) -> Iterator[Path]:
    """Yield the files in a run's folder that this program has made, without locks and temporary folders."""
    for path, is_ours in _classified(folder, folder):
        if is_ours and path.is_file() and not path.name.startswith((LOCK_NAME, "run.lease")):
            yield path


def edited_attention_files(folder: Path, written: Mapping[str, Sequence[str]], known: Container[str]) -> list[str]:
    """Return the attention files in a run's folder that a person has edited, and that no run has read as they are.

    `written` are the hashes of those that this program wrote, by name; `known` are those of the inputs of runs.
    Raises UntrustedRunError if a file is not ours, and PathError if it cannot be read.
    """
    found = []
    for path in own_files(folder):
        if path.parent == folder and _ATTENTION.fullmatch(path.name):
            digest = _hash_of(path)
            if digest not in written.get(path.name, ()) and digest not in known:
                found.append(path.name)
    return found


def _hash_of(path: Path) -> str:
    try:
        with os.fdopen(open_file(path, os.O_RDONLY), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise system_error(exc) from exc


def temporary_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders of temporary files in a run's folder."""
    for path, _ in _classified(folder, folder):
        if _SCRATCH.fullmatch(str(path.relative_to(folder))) and path.is_dir():
            yield path


def is_leftover(name: str) -> bool:
    """Return whether a file of this name is one that a killed process did not finish."""
    unfinished = (
        f"{SANDBOX_NAME}.rewritten",
        f"{JOURNAL_NAME}.new",
        f"{JOURNAL_NAME}.rewritten",
        f"{JOURNAL_NAME}.apart",
    )
    return name.startswith(unfinished) or bool(_TEMPORARY.fullmatch(name))


def _classified(root: Path, folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield everything in a run's folder, and whether it is ours; looks only into our folders."""
    with untrusted_path_errors():
        require_folder(folder)
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        path = Path(entry.path)
        relative = str(path.relative_to(root))
        if entry.is_dir(follow_symlinks=False):
            is_scratch = bool(_SCRATCH.fullmatch(relative))
            yield path, is_scratch or bool(_FOLDERS.fullmatch(relative))
            if _FOLDERS.fullmatch(relative):
                yield from _classified(root, path)
        else:
            is_ours = not entry.is_symlink() and _is_our_name(relative)
            if is_ours:
                with untrusted_path_errors():
                    require_file(path)
            yield path, is_ours


def _is_our_name(relative: str) -> bool:
    place, _, name = relative.rpartition("/")
    temporary = _TEMPORARY.fullmatch(name)
    name = temporary[1] if temporary else name
    if place == UPLOAD_IN_RUN:
        return bool(_UPLOADED.fullmatch(name))
    return name in _NAMES or bool(_PATTERNS.fullmatch(name))
