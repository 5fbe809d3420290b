"""The files of a run copied to where others read them.

The journal is not among them: it stays in the run's folder, on a disk, for nothing but a disk keeps what it is told.
A copy that cannot be made loses nothing. The run stands as it ended, and its files are in its folder; but
whoever waits for the copies must hear of it, so a run that would end with 0 or 1 ends with 3, and the
same command makes up for it: it finds the run finished, sends nothing and copies. A run that stopped keeps
its own exit code, for what made it stop comes first, and when it goes on it is published at its end.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from batch.errors import PublishError
from batch.going_on import by_id
from batch.stops import Advice, Stop, StopReason
from batch.storage.facts import Fact
from batch.storage.journal import Journal
from batch.storage.log import LOGGER
from batch.storage.remote import upload
from batch.storage.whole import confirm
from batch.summary import SUMMARY, Summary
from batch.urls import is_url, without_scheme


def place_of(target: str, folder: Path) -> str:
    """Where the files of the run in this folder are published."""
    return f"{without_scheme(target).rstrip('/')}/{folder.name}"


def is_published(target: str | None, folder: Path, journal: Journal) -> bool:
    """Are the files of a run where they shall be?"""
    return target is None or journal.meta(Fact.PUBLISHED) == place_of(target, folder)


def published(target: str | None, journal: Journal, summary: Summary) -> Summary:
    """Copy all files of a run, the summary last, and have it say where they are; what could not be done it says too."""
    if target is None:
        return summary
    place = place_of(target, summary.folder)
    names = [name for name in summary.fields["files"] if (summary.folder / name).exists()]
    journal.note(published=None)
    try:
        _copied(summary.folder, names, place)
        told = _told(summary, {"published": place})
        _copied(summary.folder, [SUMMARY], place)
    except PublishError as exc:
        LOGGER.info("not published to %s: %s", place, exc.what)
        return _told(summary, _failed(summary, place, exc, by_id(journal)))
    journal.note(published=place)
    LOGGER.info("published to %s", place)
    return told


def _told(summary: Summary, more: Mapping[str, Any]) -> Summary:
    """The summary with more in it, also in its file."""
    told = replace(summary, fields={**summary.fields, **more})
    told.write()
    return told


def _failed(summary: Summary, place: str, exc: PublishError, run_id: str) -> dict[str, Any]:
    """What the summary says of a copy that could not be made."""
    told = {"unpublished": f"{place} ({exc.what})"}
    if summary.fields["stop"]:
        return told
    safe = Advice(f"the run is done and they are safe in {summary.folder}", repeat=True, when="to publish them")
    stop = Stop(StopReason.NOT_PUBLISHED, f"{place} ({exc.what})", advice=safe)
    return {**told, "exitCode": int(stop.exit_code), "stop": stop.as_json(run_id)}


def _copied(folder: Path, names: Sequence[str], place: str) -> None:
    """Copy files of a run, each there whole or not at all. Raises PublishError."""
    confirm()
    files = [folder / name for name in names]
    if is_url(place):
        upload(files, place)
        return
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        if Path(place).samefile(folder):
            raise PublishError("that is the run's own folder")
        for file in files:
            aside = Path(place) / f".{file.name}.new"
            shutil.copyfile(file, aside)  # for whoever may read what is made there
            aside.replace(Path(place) / file.name)
    except OSError as exc:
        raise PublishError(f"{exc.strerror or exc}") from exc
