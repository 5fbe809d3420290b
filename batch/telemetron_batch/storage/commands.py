"""Complete shell commands for the advice in messages."""

from pathlib import Path
from typing import Final

from telemetron_batch.domain.shell import quote
from telemetron_batch.domain.stops import listed_flags
from telemetron_batch.storage.trusted_folders import is_shared

_PROGRAM: Final = "telemetron-batch"
_DEFAULT_REPORTS_DIR: Final = Path("reports")


def shard_command(folder: Path, shard: int | None = None, base_url: str | None = None) -> str:
    """Return the command that runs a shard of the run; without `shard`, with the placeholder N."""
    return f"{_PROGRAM} run --run-id {folder.name} --shard {shard or 'N'}{_reports_dir(folder)}{_flags(base_url)}"


def command(name: str, folder: Path, base_url: str | None = None) -> str:
    """Return a command for a run: with its id, or with its path if it is not below the default reports folder."""
    run = folder.name if folder.parent == _DEFAULT_REPORTS_DIR else quote(str(folder))
    return f"{_PROGRAM} {name} {run}{_flags(base_url)}"


def approve_command(folder: Path, fingerprint: str, approvals_dir: Path | None = None) -> str:
    """Return the command that approves a run, for another user, who may be in another folder."""
    named = "" if approvals_dir is None else f" --approvals-dir {quote(str(approvals_dir.absolute()))}"
    return f"{_PROGRAM} approve {quote(str(folder.absolute()))} {fingerprint}{named}"


def rerun_command(folder: Path, name: str, *, sandbox: bool, base_url: str | None) -> str:
    """Return the command whose input is a file of a run."""
    where = f"{_reports_dir(folder)}{' --sandbox' if sandbox else ''}"
    return f"{_PROGRAM} run {quote(str(folder / name))}{where}{_flags(base_url)}"


def run_command(file: Path, reports_dir: Path, base_url: str | None = None) -> str:
    """Return the command whose input is a file outside of a run's folder."""
    return f"{_PROGRAM} run {quote(str(file))}{_reports_dir(reports_dir / file.name)}{_flags(base_url)}"


def _reports_dir(folder: Path) -> str:
    return "" if folder.parent == _DEFAULT_REPORTS_DIR else f" --reports-dir {quote(str(folder.parent))}"


def _flags(base_url: str | None) -> str:
    """Return further flags of a command, each after a space."""
    flags = listed_flags("", base_url)
    return f"{' --shared-reports-dir' if is_shared() else ''}{f' {flags}' if flags else ''}"
