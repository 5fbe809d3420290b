"""Set up the lookup of customers that `--owners` asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import InputFile, InputOptions, OwnersOption, OwnerSource, OwnersSummary
from telemetron_batch.domain.urls import redact_url
from telemetron_batch.input.dialect import match_requested
from telemetron_batch.input.load import Loaded
from telemetron_batch.input.own_reports import is_own_report
from telemetron_batch.input.owners_file import read_owners_file
from telemetron_batch.owners.lookup import CustomerLookup, SourceFacts
from telemetron_batch.rows.owner_claims import ClaimSink, WantedDevices
from telemetron_batch.run.owner_history import RunsSource
from telemetron_batch.storage.spill import Scratch

_CUSTOMER: Final = "customerEmail"
_RUNS: Final = "earlier runs"


class FileSource:
    """An owners file as a source of claims: an `OwnersSource`."""

    def __init__(self, path: str, options: InputOptions, spool: Path) -> None:
        self._path = path
        self._options = options
        self._spool = spool
        self.file: InputFile | None = None
        """The file as it was read; None as long as no row needed it."""

    def read(self, wanted: WantedDevices, sink: ClaimSink) -> SourceFacts:
        """Pass on the claims of the file about wanted devices. Raises InputError or ConfigError."""
        self.file = read_owners_file(self._path, self._options, wanted, sink, spool=self._spool)
        name = self.file.name

        def names(lines: Ints) -> pa.Array:
            return pc.binary_join_element_wise(f"{name} line ", pc.cast(pa.array(lines), pa.string()), "")

        return SourceFacts(names, f"owner not found: {name} does not list this device")

    def settle(self, claims: pa.RecordBatch) -> pa.RecordBatch:
        """Return the claims: those of a file are final."""
        return claims


class OwnerFinder:
    """The lookup of one run, and what to report of it."""

    def __init__(self, config: RunConfig, owners: OwnersOption, spool: Path, scratch: Scratch) -> None:
        self._options = config.input
        self._owners = owners
        self._source: FileSource | RunsSource = (
            FileSource(owners.path, config.input, spool)
            if owners.source is OwnerSource.FILE
            else RunsSource(config, spool)
        )
        self.lookup = CustomerLookup(self._source, scratch)

    def summary(self, loaded: Loaded) -> OwnersSummary:
        """Return what was found. Raises ConfigError if --column names a customer column that no file has."""
        counts, source = self.lookup.counts, self._owners.source
        found, missing = counts.found, counts.not_found
        if isinstance(self._source, RunsSource):
            warnings = tuple(self._source.warnings)
            return OwnersSummary(source=source, name=_RUNS, found=found, not_found=missing, warnings=warnings)
        file = self._source.file
        self._require_named_column(loaded, file)
        if file is None:
            return OwnersSummary(source=source, name=redact_url(self._owners.path), found=found, not_found=missing)
        warnings = tuple(f"{file.name}: {warning}" for warning in file.warnings)
        return OwnersSummary(
            source=source, name=file.name, found=found, not_found=missing, sha256=file.sha256, warnings=warnings
        )

    def _require_named_column(self, loaded: Loaded, owners: InputFile | None) -> None:
        header = self._options.columns.get(_CUSTOMER)
        inputs = [file for file in loaded.files if not is_own_report(file.name, file.header)]
        headers = [file.header for file in (*inputs, *filter(None, [owners]))]
        if inputs and header is not None and not any(match_requested(one, header) for one in headers):
            raise ConfigError(
                f'--column {_CUSTOMER}="{header}" names a column that neither the input nor the owners file has',
                "correct the header, or leave it out",
            )


@contextmanager
def owner_finder(config: RunConfig, owners: OwnersOption, size: int, spool: Path) -> Iterator[OwnerFinder]:
    """Return the lookup for an input of about `size` bytes, with temporary files below `spool`."""
    folder = spool / "owners"
    folder.mkdir()
    with Scratch(folder / "scratch") as scratch:
        scratch.reserve(2 * size)
        yield OwnerFinder(config, owners, folder, scratch)
