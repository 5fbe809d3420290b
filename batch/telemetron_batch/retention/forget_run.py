"""Replace addresses in all files of one run at rest. The caller holds the run."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.layout import JOURNAL_NAME, shard_folders
from telemetron_batch.journal.rewrite import database_holds, journal_holds, rewrite_database, rewrite_journal
from telemetron_batch.retention.addresses import AddressRewriter
from telemetron_batch.retention.rewritten_files import file_holds, rewrite_file, rewritten_hash
from telemetron_batch.retention.run_files import SANDBOX_NAME, is_leftover, own_files, temporary_folders

HAS_ADDRESS: Final = "it has an address"
_DOUBTFUL: Final = "it has what may be another person's address, written beside the one to forget; look at it"
_CALLS: Final = "calls.arrow"


def remove_leftovers(run: Path) -> None:
    """Remove what killed processes have left in the folder of a run that no process works on."""
    for folder in [*temporary_folders(run)]:
        shutil.rmtree(folder)
    for path in [*own_files(run)]:
        if is_leftover(path.name):
            path.unlink(missing_ok=True)


def files_with_addresses(run: Path, rewriter: AddressRewriter) -> list[Path]:
    """Return our files in a run's folder that have an address, without those that killed processes have left.

    Raises JournalError if a file cannot be searched.
    """
    return [path for path in remaining_files(run) if _holds(path, rewriter)]


def _holds(path: Path, rewriter: AddressRewriter) -> bool:
    if path.name == JOURNAL_NAME:
        return journal_holds(path, rewriter)
    if path.name == SANDBOX_NAME:
        return database_holds(path, rewriter)
    return not path.name.startswith((JOURNAL_NAME, SANDBOX_NAME)) and file_holds(path, rewriter)


def forget_in_run(run: Path, found: list[Path], rewriter: AddressRewriter) -> None:
    """Replace the addresses in these files of a run, as `files_with_addresses` returns them.

    The journals come first. They have hashes of other files, so each journal gets those of the files to come: if this
    is interrupted, these files still have an address, and the next command completes them.
    """
    databases = (JOURNAL_NAME, SANDBOX_NAME)
    hashes = {path: rewritten_hash(path, rewriter) for path in found if path.name not in databases}
    for folder in (run, *shard_folders(run)):
        journal = folder / JOURNAL_NAME
        named = {path: digest for path, digest in hashes.items() if _is_named_in(path, folder, run)}
        if journal in found or named:
            rewrite_journal(journal, rewriter, partial(_new_hashes, named, run))
    for path in (one for one in found if one.name == SANDBOX_NAME):
        rewrite_database(path, rewriter)
    # The calls of a shard last: their hashes are in two journals.
    for path in sorted(hashes, key=lambda one: one.name == _CALLS):
        rewrite_file(path, rewriter)


def _is_named_in(path: Path, folder: Path, run: Path) -> bool:
    """Return whether the journal in a folder of a run has the hash of a file."""
    if path.name == _CALLS:
        return folder in (run, path.parent)
    return path.name.startswith("attention") and path.parent == folder == run


def _new_hashes(hashes: Mapping[Path, str], run: Path, fact: Callable[[str], Any]) -> dict[str, object]:
    """Return the facts of a journal with the hashes of files that are about to change; an edited file stays one."""
    calls = {path.parent.name: digest for path, digest in hashes.items() if path.name == _CALLS}
    facts: dict[str, object] = {}
    written = fact(Fact.ATTENTION_HASHES)
    if written:
        facts[Fact.ATTENTION_HASHES] = {
            name: [hashes[run / name], *known] if run / name in hashes and _is_known(run / name, known) else known
            for name, known in written.items()
        }
    layout = fact(Fact.SHARD_LAYOUT)
    if layout is not None:
        shards = [one | {"sha256": calls.get(str(one["shard"]), one["sha256"])} for one in layout["shards"]]
        facts[Fact.SHARD_LAYOUT] = layout | {"shards": shards}
    shard = fact(Fact.SHARD)
    if shard is not None and str(shard) in calls:
        facts[Fact.CALLS_HASH] = calls[str(shard)]
    return facts


def _is_known(path: Path, known: list[str]) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() in known


def remaining_files(run: Path) -> list[Path]:
    """Return our files in a run's folder, without those that killed processes have left."""
    return [path for path in own_files(run) if not is_leftover(path.name)]


def holds_or_unknown(path: Path, rewriter: AddressRewriter) -> str:
    """Return what to say of a file that has or may have an address, or cannot be searched; "" for any other."""
    return reason_to_name(lambda: _holds(path, rewriter), rewriter)


def reason_to_name(holds: Callable[[], bool], rewriter: AddressRewriter) -> str:
    """Return what to say of something that is searched, as `holds_or_unknown` does."""
    rewriter.doubts = 0
    try:
        if holds():
            return HAS_ADDRESS
    except (BatchError, OSError) as exc:
        return exc.reason if isinstance(exc, BatchError) else f"it cannot be read ({exc.strerror or exc})"
    return _DOUBTFUL if rewriter.doubts else ""
