"""Replace the addresses of people in all finished runs and in all else that is kept in a reports folder (`forget`).

An address gets the same random value everywhere; which value that was is not kept. Runs that have not finished need
their addresses, and copies elsewhere are beyond reach: these are named. Interrupted, the same command completes it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from telemetron_batch.domain.errors import BatchError, LockedError
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.domain.urls import is_url
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.facts_reader import ImmutableFacts
from telemetron_batch.journal.layout import DESK, DESK_PLANS, JOURNAL_NAME, LOCK_NAME, run_folders
from telemetron_batch.journal.removed_runs import HISTORY_NAME, history_draft, history_holds
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.retention.addresses import AddressRewriter, parse_addresses
from telemetron_batch.retention.forget_run import (
    HAS_ADDRESS,
    files_with_addresses,
    forget_in_run,
    holds_or_unknown,
    reason_to_name,
    remaining_files,
    remove_leftovers,
)
from telemetron_batch.retention.run_files import foreign_files
from telemetron_batch.retention.workplace import WORKPLACE, Workplace, workplace
from telemetron_batch.run.removal import read_run_facts
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.lease_files import is_in_use
from telemetron_batch.verification.answers import ANSWERS_FOLDER, remove_answers_about

_TOKEN_BYTES: Final = 8
_UNBEGUN: Final = f"{JOURNAL_NAME}.new"


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """Whom to forget."""

    reports_dir: Path
    addresses: Sequence[str]
    dry_run: bool = False


@dataclass(slots=True)
class ForgetResult:
    """Where addresses were replaced, or with `--dry-run` would be, and where they still are."""

    dry_run: bool
    addresses: int
    changed: list[str] = field(default_factory=list)
    """Run ids, and names of what else is in the reports folder."""
    remaining: dict[str, str] = field(default_factory=dict)
    """Why an address still is in a place, or may be, by its path or URL."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""
        return ExitCode.ATTENTION if self.remaining else ExitCode.DONE

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the JSON document."""
        return {
            "exitCode": int(self.exit_code),
            "dryRun": self.dry_run,
            "addresses": self.addresses,
            "changed": self.changed,
            "remaining": [{"path": path, "reason": reason} for path, reason in sorted(self.remaining.items())],
        }


@translate_system_errors()
def forget(
    request: ForgetRequest,
    *,
    clock: Clock | None = None,
    make_token: Callable[[], str] = lambda: token_hex(_TOKEN_BYTES),
) -> ForgetResult:
    """Replace addresses in everything that is kept in a reports folder. Raises BatchError."""
    addresses = parse_addresses(request.addresses)
    rewriter = AddressRewriter.forgetting(addresses, iter(make_token, ""))
    result = ForgetResult(request.dry_run, len(addresses))
    with workplace(request.reports_dir, clock or RealClock()) as place:
        _Forgetting(place, rewriter, result).forget_all()
    return result


@dataclass(frozen=True, slots=True)
class _Forgetting:
    """The work of one command."""

    place: Workplace
    rewriter: AddressRewriter
    result: ForgetResult

    def forget_all(self) -> None:
        """Go through all that is in the reports folder."""
        reports_dir = self.place.reports_dir
        runs = run_folders(reports_dir, lambda _: None)
        for folder in runs:
            try:
                self._forget_run(folder)
            except BatchError as exc:
                self.result.remaining[str(folder)] = f"it may have an address: {exc.reason}"
        self._forget_history()
        if remove_answers_about(reports_dir, lambda text: self.rewriter.text(text) is not text, dry_run=self.dry_run):
            self.result.changed.append(ANSWERS_FOLDER)
        self._name_others(set(runs))

    @property
    def dry_run(self) -> bool:
        """Whether nothing is changed."""
        return self.result.dry_run

    def _forget_run(self, folder: Path) -> None:
        facts = read_run_facts(folder)
        if not facts.is_finished:
            self._name_files(folder, files_with_addresses(folder, self.rewriter), "the run has not finished")
        else:
            with self._held(folder):
                found = files_with_addresses(folder, self.rewriter)
                self._name_published(folder, was_found=bool(found))
                if found:
                    self.result.changed.append(folder.name)
                if not self.dry_run:
                    remove_leftovers(folder)
                    forget_in_run(folder, found, self.rewriter)
                    self._remove_plan_view(folder.name)
                self._name_rest(folder)
        self._name_foreign(folder)

    @contextmanager
    def _held(self, folder: Path) -> Iterator[None]:
        """Keep other processes from a run; with `--dry-run` only look. Raises LockedError."""
        if not self.dry_run:
            with self.place.hold(folder):
                yield
        elif is_in_use(folder / LOCK_NAME):
            raise LockedError(f"run {folder.name} is in use by another process")
        else:
            yield

    def _name_files(self, folder: Path, files: Sequence[Path], why: str) -> None:
        if files:
            self.result.remaining[str(folder)] = f"{why}, and it has an address ({files[0].name})"

    def _name_rest(self, folder: Path) -> None:
        """Search the files of a run again, and name those that still have, or may have, an address."""
        for file in remaining_files(folder):
            why = holds_or_unknown(file, self.rewriter)
            if why and not (self.dry_run and why == HAS_ADDRESS):
                self.result.remaining[str(file)] = why

    def _name_foreign(self, folder: Path) -> None:
        """Name the files in a run's folder that are not of this program, and a folder that is named for a person."""
        for name in foreign_files(folder):
            self._name_tree(folder / name)
        if self.rewriter.text(folder.name) is not folder.name:
            self.result.remaining[f"{folder}/"] = "the run id has an address; rename the folder, or remove it"

    def _name_published(self, folder: Path, *, was_found: bool) -> None:
        """Name the published copy of a run if it has an address, or if that cannot be seen."""
        with closing(ImmutableFacts(folder / JOURNAL_NAME)) as journal:
            copy = journal.fact(Fact.PUBLISHED)
        if copy is None:
            return
        if not is_url(copy):
            self._name_tree(Path(copy))
        elif was_found:
            self.result.remaining[str(copy)] = "the published copy of the run has an address"

    def _remove_plan_view(self, run_id: str) -> None:
        """Remove what the page for clerks shows of a plan, which is made again when it is needed."""
        with suppress(OSError):
            (self.place.reports_dir / DESK / DESK_PLANS / f"{run_id}.json").unlink()

    def _forget_history(self) -> None:
        reports_dir = self.place.reports_dir
        if history_holds(reports_dir, self.rewriter):
            self.result.changed.append(HISTORY_NAME)
            if not self.dry_run:
                with history_draft(reports_dir, self.place.folder) as draft:
                    draft.rewrite(self.rewriter)
        why = reason_to_name(lambda: history_holds(reports_dir, self.rewriter), self.rewriter)
        if why and not (self.dry_run and why == HAS_ADDRESS):
            self.result.remaining[str(reports_dir / HISTORY_NAME)] = why

    def _name_others(self, runs: set[Path]) -> None:
        """Name all other files with an address: of lists that are no runs yet, of runs that are not ours, of others."""
        done = {*runs, *(self.place.reports_dir / name for name in (WORKPLACE, ANSWERS_FOLDER, HISTORY_NAME))}
        for entry in sorted(os.scandir(self.place.reports_dir), key=lambda one: one.name):
            path = Path(entry.path)
            if path not in done:
                self._remove_unbegun(path)
                self._name_tree(path)

    def _remove_unbegun(self, folder: Path) -> None:
        """Remove the rows of a run that was killed before it began, as its next start does."""
        if not self.dry_run and not folder.is_symlink() and (folder / _UNBEGUN).exists():
            with suppress(BatchError), self.place.hold(folder):
                remove_leftovers(folder)

    def _name_tree(self, path: Path) -> None:
        """Name all files with an address in a folder, or a file. Follows no links."""
        for file in _files_in(path):
            if why := holds_or_unknown(file, self.rewriter):
                self.result.remaining[str(file)] = why


def _files_in(path: Path) -> Iterator[Path]:
    if path.is_symlink():
        return
    if path.is_dir():
        with suppress(PermissionError):
            for entry in sorted(os.scandir(path), key=lambda one: one.name):
                yield from _files_in(Path(entry.path))
    elif path.is_file():
        yield path
