"""Write what differs between a file and what its customers hold as an input file: the command `compare`.

The file is what should be. Its customers are compared part by part, so memory does not grow with their number.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.comparison.difference import Difference, Pairs, distinct, find_difference
from telemetron_batch.comparison.fleet_rows import FleetRows
from telemetron_batch.comparison.input_file import MAX_NAMED, InputDraft
from telemetron_batch.comparison.lookup import Lookup, LookupRequest, Surroundings, open_lookup
from telemetron_batch.comparison.second_owners import SecondOwnerSearch
from telemetron_batch.comparison.summary import CompareSummary, Withheld, closing_facts
from telemetron_batch.config.option_values import CountOrPercent
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.arrays import Flags
from telemetron_batch.domain.errors import BrakeError, InputError
from telemetron_batch.domain.identifiers import as_column
from telemetron_batch.input.load import Loaded
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.storage.atomic_file import disk_errors_in
from telemetron_batch.storage.spill import to_batch
from telemetron_batch.verification.queries import in_batches

_MAX_REMOVED: Final = CountOrPercent(10, percent=True)
"""Removals, of the devices that were read, from which the user has to say how many are meant."""


@dataclass(slots=True)
class _Totals:
    """What was found in all parts."""

    held: int = 0
    extra: int = 0
    duplicates: int = 0
    unknown: list[str] = field(default_factory=list)
    unreadable: int = 0
    invalid: int = 0
    spelling: int = 0
    transfers: int = 0
    kept_for_invalid: list[tuple[str, str]] = field(default_factory=list)
    alike: list[tuple[str, str]] = field(default_factory=list)

    @property
    def withheld(self) -> Withheld:
        """The removals that were not written."""
        return Withheld(unreadable=self.unreadable, invalid=self.invalid, spelling=self.spelling)


@translate_system_errors()
def compare_fleet(
    request: LookupRequest, *, remove_extra: bool = False, surroundings: Surroundings | None = None
) -> CompareSummary:
    """Query the customers of the file and write rows that make what they hold what the file says.

    Raises BatchError: QueryError where not all customers could be queried; then there is no file.
    """
    with open_lookup("compare", request, surroundings or Surroundings()) as lookup:
        loaded, rows = _load(lookup)
        customers = _customers_of(loaded)
        if len(customers):
            lookup.ask(customers)
        comparison = _Comparison(lookup, rows, remove_extra=remove_extra)
        with InputDraft(lookup.folder, request.config.input) as draft:
            for part in loaded.rows.keys.drain_parts():
                comparison.add(to_batch(part), draft)
            comparison.leave_out_transfers(draft)
            _check_removals(draft.rows[Action.UNASSIGN], comparison.totals.held, request)
            lookup.publish(draft)
        totals = comparison.totals
        return CompareSummary(
            **closing_facts(lookup, draft, len(customers), totals.unknown),
            held=totals.held,
            extra=totals.extra,
            removes_extra=remove_extra,
            duplicates=totals.duplicates,
            invalid=rows.invalid,
            withheld=totals.withheld,
            transfers_withheld=totals.transfers,
            unreadable_lines=rows.unreadable.lines,
            kept_for_invalid=totals.kept_for_invalid,
            spelled_differently=totals.alike,
        )


def _load(lookup: Lookup) -> tuple[Loaded, FleetRows]:
    """Load the file. Raises InputError if it has unassign rows or no rows."""
    (file,) = lookup.request.config.files
    options = replace(
        lookup.request.config.input, default_action=Action.ASSIGN, auto_create_devices=False, device_type=None
    )
    rows = FleetRows()
    loaded = lookup.load(file, options, rows)
    if rows.unassigns.count:
        lines = ", ".join(map(str, rows.unassigns.lines))
        count = f"{rows.unassigns.count:,} unassign row{'s' * (rows.unassigns.count != 1)} (first lines: {lines})"
        raise InputError(
            f"{file} has {count}, and compare takes a file for what its customers should hold",
            "remove these rows, or send the file with run",
        )
    if not len(loaded.rows) and not lookup.request.config.brakes.allow_empty:
        raise InputError(f"{file} has no data rows", "nothing was written; if that is meant, say --allow-empty")
    if options.allow_suspect:  # rows that only this option allows are doubtful
        strict = FleetRows()
        lookup.load_again(loaded, replace(options, allow_suspect=False), strict)
        rows.keep(strict.customers_to_keep())
    return loaded, rows


def _customers_of(loaded: Loaded) -> pa.Array:
    parts = [part["customerEmail"].unique().cast(pa.string()) for _, part in loaded.rows.keys.iter_parts()]
    return pa.concat_arrays([pa.array([], pa.string()), *parts])


class _Comparison:
    """Compares the customers of a file, part by part."""

    def __init__(self, lookup: Lookup, rows: FleetRows, *, remove_extra: bool) -> None:
        self._lookup = lookup
        self._keep = rows.customers_to_keep()
        self._has_unreadable = rows.unreadable.count > 0
        self._remove_extra = remove_extra
        self._second_owners = SecondOwnerSearch(lookup.scratch, MAX_NAMED)
        self.totals = _Totals()

    def add(self, rows: pa.RecordBatch, draft: InputDraft) -> None:
        """Compare all rows of some customers, and write what differs."""
        encoded = rows["customerEmail"].cast(pa.string()).dictionary_encode()
        customers, wanted = (
            encoded.dictionary,
            Pairs(encoded.indices.to_numpy().astype(np.int64), rows["deviceIdentifier"].cast(pa.string())),
        )
        held = self._held(customers)
        difference = find_difference(wanted, held)
        missing = wanted.where(difference.missing)
        assigned = draft.add(customers.take(pa.array(missing.customer)), missing.device, Action.ASSIGN)
        self.totals.held += len(held)
        self.totals.extra += int(np.count_nonzero(difference.extra))
        self.totals.duplicates += int(np.count_nonzero(difference.repeated))
        _note_first(self.totals.alike, customers, held.where(difference.alike))
        removed = self._removable(customers, held, difference) & self._remove_extra
        extra, kept = held.where(removed), held.where(difference.extra & ~removed)
        draft.add(customers.take(pa.array(extra.customer)), extra.device, Action.UNASSIGN)
        with disk_errors_in(self._lookup.folder):
            self._second_owners.add_assigns(assigned)
            self._second_owners.add_kept(customers.take(pa.array(kept.customer)), kept.device)

    def leave_out_transfers(self, draft: InputDraft) -> None:
        """Leave out the assigns of devices that another customer keeps, against the file."""
        with disk_errors_in(self._lookup.folder):
            found = self._second_owners.find()
        keeps = "keeps it" if self._remove_extra else "keeps it without --remove-extra"
        self.totals.transfers = int(np.count_nonzero(found.is_assign))
        draft.leave_out(
            Action.ASSIGN,
            found.is_assign,
            lambda number: f"{found.holders.get(number, 'another')} holds it and {keeps}",
        )

    def _held(self, customers: pa.Array) -> Pairs:
        """Return what the customers hold, each device once."""
        names: list[str] = []
        sizes: list[int] = []
        for batch in in_batches(customers):
            kept = self._lookup.read(batch)
            for customer in batch:
                devices = kept[customer].devices
                if devices is None:
                    self.totals.unknown.append(customer)
                names += devices or ()
                sizes.append(len(devices or ()))
        return distinct(Pairs(np.repeat(np.arange(len(customers)), sizes), as_column(names)))

    def _removable(self, customers: pa.Array, held: Pairs, difference: Difference) -> Flags:
        """Return which extra devices may be removed; count the others by the reason."""
        extra, totals = difference.extra, self.totals
        if self._has_unreadable:
            totals.unreadable += int(np.count_nonzero(extra))
            return np.zeros(len(held), np.bool_)
        has_bad_rows = pc.is_in(customers, value_set=self._keep).to_numpy(zero_copy_only=False)[held.customer]
        has_alike = np.isin(held.customer, held.customer[difference.alike])
        totals.invalid += int(np.count_nonzero(extra & has_bad_rows))
        _note_first(totals.kept_for_invalid, customers, held.where(extra & has_bad_rows))
        totals.spelling += int(np.count_nonzero(extra & has_alike & ~has_bad_rows))
        removable: Flags = extra & ~has_bad_rows & ~has_alike
        return removable


def _note_first(noted: list[tuple[str, str]], customers: pa.Array, pairs: Pairs) -> None:
    """Remember the first customers and devices of all parts."""
    room = MAX_NAMED - len(noted)
    owners = customers.take(pa.array(pairs.customer[:room])).to_pylist()
    noted += zip(owners, pairs.device.slice(0, room).to_pylist(), strict=True)


def _check_removals(removals: int, held: int, request: LookupRequest) -> None:
    """Raise BrakeError if more devices would be removed than the user says, by default a tenth of those read."""
    given = request.config.brakes.max_unassign
    limit = given or _MAX_REMOVED
    if removals <= limit.limit_for(held):
        return
    what = f"{removals:,} of the {held:,} devices that were read would be removed"
    if given is not None:
        raise BrakeError(f"{what}, more than --max-unassign {given}", "no file was written; raise it if that is meant")
    raise BrakeError(
        f"{what}, more than {limit}",
        f"no file was written; if that is meant, say --max-unassign {removals} (the file is not sent: look at it then)",
    )
