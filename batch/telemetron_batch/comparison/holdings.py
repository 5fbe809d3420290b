"""Write what customers hold as an input file that takes it from them: the command `holdings`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from telemetron_batch.comparison.difference import Pairs, distinct
from telemetron_batch.comparison.input_file import InputDraft
from telemetron_batch.comparison.lookup import Lookup, LookupRequest, Surroundings, open_lookup
from telemetron_batch.comparison.summary import HoldingsSummary, closing_facts
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.identifiers import as_column
from telemetron_batch.domain.model import ONLY_CUSTOMERS
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.emails import are_emails
from telemetron_batch.input.normalize import normalize, to_lower
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.verification.queries import in_batches


@dataclass(slots=True)
class _Found:
    """What the answers say about the customers themselves."""

    unknown: list[str] = field(default_factory=list)
    without_devices: int = 0


class _NoBlocks:
    """Takes the blocks of the loader, whose rows are enough."""

    def append(self, block: RowBlock) -> None:
        """Drop a block."""

    def clear(self) -> None:
        """Do nothing."""


@translate_system_errors()
def list_holdings(
    customers: Sequence[str], request: LookupRequest, surroundings: Surroundings | None = None
) -> HoldingsSummary:
    """Query these customers, and those of the file of the configuration, and write what they hold.

    Raises BatchError: QueryError where not all customers could be queried; then there is no file.
    """
    surroundings = surroundings or Surroundings()
    given = _given_addresses(customers)
    if not customers and not request.config.files:
        advice = "name addresses, or a file with --customers; the API cannot list all customers"
        raise ConfigError("no customers are named", advice)
    with open_lookup("holdings", request, surroundings) as lookup:
        listed = [_listed_addresses(file, lookup) for file in request.config.files]
        wanted = pa.concat_arrays([given, *listed]).unique()
        if not len(wanted):
            raise InputError(f"{request.config.files[0]} has no addresses", "nothing was written")
        lookup.ask(wanted)
        with InputDraft(lookup.folder, request.config.input) as draft:
            found = _write(wanted, lookup, draft)
            lookup.publish(draft)
        return HoldingsSummary(
            **closing_facts(lookup, draft, len(wanted), found.unknown), without_devices=found.without_devices
        )


def _given_addresses(customers: Sequence[str]) -> pa.Array:
    """Return addresses as the API compares them. Raises ConfigError for texts that are none."""
    texts = to_lower(normalize(as_column(customers)))
    wrong = np.flatnonzero(~are_emails(texts)).tolist()
    if wrong:
        named = ", ".join(f'"{printable(customers[at])}"' for at in wrong[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        are = "is not an email address" if len(wrong) == 1 else "are not email addresses"
        raise ConfigError(f"{named}{more} {are}", "correct it; nothing was asked")
    return texts


def _listed_addresses(file: str, lookup: Lookup) -> pa.Array:
    """Return the distinct addresses of a file. Raises InputError for cells that are none."""
    options = lookup.request.config.input
    given = options.columns
    options = replace(
        options,
        required=ONLY_CUSTOMERS,
        columns={name: header for name, header in given.items() if name in ONLY_CUSTOMERS},
        action=None,
        auto_create_devices=False,
        device_type=None,
    )
    loaded = lookup.load(file, options, _NoBlocks())
    if loaded.rows.invalid:
        first = loaded.rows.invalid[0]
        lines = ", ".join(map(str, first.lines))
        count = sum(one.rows for one in loaded.rows.invalid)
        rows = "row has" if count == 1 else "rows have"
        what = f"{count:,} {rows} no address that can be used ({first.title}, first lines: {lines})"
        raise InputError(f"{loaded.files[0].name}: {what}", "correct or remove them; nothing was asked")
    parts = [part["customerEmail"].unique().cast(pa.string()) for part in loaded.rows.keys.drain_parts()]
    return pa.concat_arrays([pa.array([], pa.string()), *parts])


def _write(customers: pa.Array, lookup: Lookup, draft: InputDraft) -> _Found:
    """Write a row for each device of the customers, customer after customer."""
    found = _Found()
    for batch in in_batches(customers):
        kept = lookup.read(batch)
        devices = [kept[customer].devices for customer in batch]
        found.unknown += [customer for customer, held in zip(batch, devices, strict=True) if held is None]
        found.without_devices += sum(held == [] for held in devices)
        owners = np.repeat(np.arange(len(batch)), [len(held or ()) for held in devices])
        names = as_column(device for held in devices for device in held or ())
        pairs = distinct(Pairs(owners, names))
        draft.add(as_column(batch).take(pa.array(pairs.customer)), pairs.device, Action.UNASSIGN)
    return found
