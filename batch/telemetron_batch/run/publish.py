"""Copy the files of a run to the folder or URL of `--publish`.

The journal is not copied: it needs a disk. If a copy fails, nothing is lost, but a run that would end with 0 or 1 ends
with 3, so that the failure is noticed; the same command then finds the run finished, sends nothing and
copies. A stopped run keeps its own exit code; it is published when it continues and ends.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from telemetron_batch.domain.errors import PublishError
from telemetron_batch.domain.stops import Advice, ResumeHint, Stop, StopReason
from telemetron_batch.domain.urls import is_url, strip_file_scheme
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.resume_hint import resume_hint_of
from telemetron_batch.reports.summary import ATTENTION, FILES, PREVIEW, SUMMARY, WORKBOOK, Summary
from telemetron_batch.storage.atomic_file import check_rename_allowed
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.storage.object_store import upload
from telemetron_batch.storage.trusted_folders import FolderHandle, folder_at, open_file, require_files

_PIECE: Final = 1 << 20


def publish_target(target: str, folder: Path) -> str:
    """Return where the files of the run in this folder are published."""
    return f"{strip_file_scheme(target).rstrip('/')}/{folder.name}"


def is_published(target: str | None, folder: Path, journal: Journal) -> bool:
    """Return whether the files of a run have been published where the user wants them."""
    return target is None or journal.fact(Fact.PUBLISHED) == publish_target(target, folder)


def publish(target: str | None, journal: Journal, summary: Summary) -> Summary:
    """Copy all files of a run, the summary last. Return the summary with the target, or with what failed."""
    if target is None:
        return summary
    place = publish_target(target, summary.folder)
    # Only names from this program: a name in a journal could lead to another file.
    ours = dict.fromkeys((*FILES, PREVIEW, WORKBOOK, *summary.attention_files))
    ours.pop(SUMMARY)
    if ATTENTION not in summary.attention_files:  # edited by a person
        ours.pop(ATTENTION)
    names = [name for name in ours if (summary.folder / name).exists()]
    journal.set_facts(published=None)
    try:
        _copy_files(summary.folder, names, place)
        published = _update_summary(summary, {"published": place})
        _copy_files(summary.folder, [SUMMARY], place)
    except PublishError as exc:
        LOGGER.info("not published to %s: %s", place, exc.reason)
        return _update_summary(summary, _failure_fields(summary, place, exc, resume_hint_of(journal)))
    journal.set_facts(published=place)
    LOGGER.info("published to %s", place)
    return published


def _update_summary(summary: Summary, more: Mapping[str, Any]) -> Summary:
    """Add fields to the summary and write its file."""
    updated = replace(summary, fields={**summary.fields, **more})
    updated.write()
    return updated


def _failure_fields(summary: Summary, place: str, exc: PublishError, resume_hint: ResumeHint) -> dict[str, Any]:
    """Return the fields of the summary for a copy that failed."""
    fields = {"unpublished": f"{place} ({exc.reason})"}
    if summary.fields["stop"]:
        return fields
    safe = Advice(f"the run is done and they are safe in {summary.folder}", repeat=True, when="to publish them")
    stop = Stop(StopReason.NOT_PUBLISHED, f"{place} ({exc.reason})", advice=safe)
    return {**fields, "exitCode": int(stop.exit_code), "stop": stop.as_json(resume_hint)}


def _copy_files(folder: Path, names: Sequence[str], place: str) -> None:
    """Copy files of a run; each arrives whole or not at all. Raises PublishError."""
    check_rename_allowed()
    files = [folder / name for name in names]
    try:
        if is_url(place):
            require_files(folder, names)
            upload(files, place)
            return
        _make_folder(Path(place))
        if Path(place).samefile(folder):
            raise PublishError("that is the run's own folder")
        with folder_at(Path(place), refuse_link=True) as at:
            for file in files:
                _copy(file, at)
    except OSError as exc:
        raise PublishError(f"{exc.strerror or exc}") from exc


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, readable for our group."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o750, exist_ok=True)


def _copy(file: Path, target: FolderHandle) -> None:
    """Copy a file under a random name, then rename it: others may write to the folder."""
    aside = f".{file.name}.{token_hex(8)}.new"
    with os.fdopen(open_file(file, os.O_RDONLY), "rb") as source:
        try:
            with os.fdopen(target.make(aside, 0o640), "wb") as copy:
                shutil.copyfileobj(source, copy, _PIECE)
            target.rename(aside, file.name)
        except BaseException:
            target.remove(aside)
            raise
