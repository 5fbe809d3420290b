"""What `holdings` and `compare` have found: counts, names, sentences and exit code."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from telemetron_batch.comparison.input_file import InputDraft, LeftOutDevices
from telemetron_batch.comparison.lookup import Lookup
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.storage.commands import run_command

_NAMED: Final = 20
"""Customers and devices that a warning names; the JSON has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupSummary:
    """What both commands have found."""

    output: Path
    next_command: str
    """The command that carries out the file."""
    customers: int
    asked: int
    """Number of customers that were asked now; of the others earlier answers were used."""
    oldest_answer: str
    rows: Mapping[Action, int]
    unknown: Sequence[str]
    """Customers that the API does not know."""
    left_out: LeftOutDevices

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""
        return ExitCode.ATTENTION if self._wants_attention() else ExitCode.DONE

    @property
    def fields(self) -> dict[str, Any]:
        """The fields under the names that the JSON documents use."""
        return {
            "exitCode": int(self.exit_code),
            "file": str(self.output),
            "customers": self.customers,
            "asked": self.asked,
            "oldestAnswer": self.oldest_answer or None,
            "unknownCustomers": [*self.unknown],
            "leftOut": self.left_out.count,
            "leftOutDevices": [
                {"customerEmail": one.customer, "deviceIdentifier": one.device, "reason": one.reason}
                for one in self.left_out.first
            ],
            **self._own_fields(),
        }

    def warnings(self) -> Iterator[str]:
        """Yield what wants attention, each as a sentence."""
        if self.unknown:
            are = "customer is" if len(self.unknown) == 1 else "customers are"
            yield f"{len(self.unknown):,} {are} unknown to Telemetron: {named(self.unknown, len(self.unknown))}"
        if self.left_out.count:
            first = [f"{one.device} of {one.customer} ({one.reason})" for one in self.left_out.first[:_NAMED]]
            devices = "device is" if self.left_out.count == 1 else "devices are"
            yield f"{self.left_out.count:,} {devices} left out of the file: {named(first, self.left_out.count, '; ')}"
        yield from self._own_warnings()

    def sentences(self) -> Iterator[str]:
        """Yield the result and the next step."""
        yield from self._result()
        if self.asked < self.customers:
            kept = self.customers - self.asked
            yield (
                f"Answers about {kept:,} of {self.customers:,} customers are from an earlier command, the oldest of "
                f"{self.oldest_answer}; --keep-answers 0 asks anew."
            )
        if any(self.rows.values()):
            yield f"Look at it, then run: {self.next_command}"

    def _wants_attention(self) -> bool:
        return bool(self.unknown or self.left_out.count or self._is_incomplete())

    # What a command adds.

    def _own_fields(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def _own_warnings(self) -> Iterable[str]:
        return ()

    def _is_incomplete(self) -> bool:
        return False

    def _result(self) -> Iterator[str]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingsSummary(LookupSummary):
    """What `holdings` has found."""

    without_devices: int
    """Number of known customers without devices."""

    def _own_fields(self) -> Mapping[str, Any]:
        return {"devices": self.rows[Action.UNASSIGN], "withoutDevices": self.without_devices}

    def _result(self) -> Iterator[str]:
        without = f"; {self.without_devices:,} without devices" if self.without_devices else ""
        devices = counted(self.rows[Action.UNASSIGN], "device")
        yield f"{devices} of {counted(self.customers, 'customer')}{without}: {self.output}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Removals that were not written, by the reason."""

    unreadable: int = 0
    """The file has rows whose customer cannot be read."""
    invalid: int = 0
    """The customer has a row that is invalid or doubtful."""
    spelling: int = 0
    """The customer holds a device that differs from a row by spelling only."""

    @property
    def total(self) -> int:
        """The number of removals that were not written."""
        return self.unreadable + self.invalid + self.spelling


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSummary(LookupSummary):
    """What `compare` has found."""

    held: int
    """Number of devices that the customers hold."""
    extra: int
    """Number of these that the file does not have."""
    removes_extra: bool
    duplicates: int
    invalid: int
    """Number of invalid rows."""
    withheld: Withheld
    transfers_withheld: int
    """Number of assigns that are left out because another customer of the file keeps the device."""
    unreadable_lines: Sequence[int]
    """The first lines of rows whose customer cannot be read."""
    kept_for_invalid: Sequence[tuple[str, str]]
    """The first customers and devices whose removal is withheld because the customer has such a row."""
    spelled_differently: Sequence[tuple[str, str]]
    """The first customers and devices that differ from a row by spelling only."""

    def _own_fields(self) -> Mapping[str, Any]:
        return {
            "assigns": self.rows[Action.ASSIGN],
            "unassigns": self.rows[Action.UNASSIGN],
            "held": self.held,
            "extra": self.extra,
            "removalsWithheld": {
                "unreadableCustomers": self.withheld.unreadable,
                "invalidRows": self.withheld.invalid,
                "spelling": self.withheld.spelling,
            },
            "transfersWithheld": self.transfers_withheld,
            "duplicates": self.duplicates,
            "invalid": self.invalid,
            "keptForInvalidRows": _as_json(self.kept_for_invalid),
            "spelledDifferently": _as_json(self.spelled_differently),
        }

    def _own_warnings(self) -> Iterator[str]:
        if self.unknown and self.rows[Action.ASSIGN]:
            yield "an assign creates an unknown customer: correct mistyped addresses before you run the file"
        if self.invalid:
            rows = "row of the file is" if self.invalid == 1 else "rows of the file are"
            yield f"{self.invalid:,} {rows} invalid and not compared: telemetron-batch plan lists them"
        if self.transfers_withheld:
            yield self._transfers_sentence()
        if self.removes_extra:
            yield from self._withheld_sentences()

    def _transfers_sentence(self) -> str:
        if self.transfers_withheld == 1:
            what, them, others = "1 assign is left out, since its device would have", "it", "its holder"
        else:
            count = f"{self.transfers_withheld:,} assigns"
            what, them, others = f"{count} are left out, since their devices would have", "them", "their holders"
        if self.removes_extra:
            return f"{what} two owners: correct the rows for which removals are withheld"
        return f"{what} two owners: with --remove-extra the file takes {them} from {others} first"

    def _withheld_sentences(self) -> Iterator[str]:
        withheld = self.withheld
        if withheld.unreadable:
            lines = ", ".join(map(str, self.unreadable_lines))
            yield (
                f"no device is removed: whose rows these are cannot be read (first lines: {lines}), and "
                f"{counted(withheld.unreadable, 'device')} beyond the file may be theirs"
            )
        if withheld.invalid:
            whose = "its customer has" if withheld.invalid == 1 else "their customers have"
            yield (
                f"{_staying(withheld.invalid)}: {whose} rows that are invalid or doubtful: "
                f"{_devices(self.kept_for_invalid, withheld.invalid)}"
            )
        if withheld.spelling:
            whose = "its customer holds" if withheld.spelling == 1 else "their customers hold"
            yield (
                f"{_staying(withheld.spelling)}: {whose} devices that differ from a row by spelling only: "
                f"{_devices(self.spelled_differently, len(self.spelled_differently))}"
            )

    def _is_incomplete(self) -> bool:
        return self.invalid > 0 or (self.removes_extra and self.withheld.total > 0)

    def _result(self) -> Iterator[str]:
        customers, held = counted(self.customers, "customer"), counted(self.held, "device")
        if not any(self.rows.values()):
            nothing = "Nothing to write" if self._is_incomplete() or self.left_out.count else "Nothing to do"
            yield f"{nothing}: {customers} with {held} compared; {self.output} has only a header."
        else:
            assigns, unassigns = self.rows[Action.ASSIGN], self.rows[Action.UNASSIGN]
            yield f"{assigns:,} to assign, {unassigns:,} to unassign; {customers} with {held} compared: {self.output}"
        if self.extra and not self.removes_extra:
            them = "it" if self.extra == 1 else "them"
            yield f"{_staying(self.extra)}; --remove-extra writes rows that remove {them}."


def _staying(number: int) -> str:
    return f"{counted(number, 'device')} beyond the file {'stays' if number == 1 else 'stay'}"


def _devices(pairs: Sequence[tuple[str, str]], total: int) -> str:
    """Return the first of some devices with their customers, and how many there are besides."""
    return named([f"{device} of {customer}" for customer, device in pairs[:_NAMED]], total)


def _as_json(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"customerEmail": customer, "deviceIdentifier": device} for customer, device in pairs]


def closing_facts(lookup: Lookup, draft: InputDraft, customers: int, unknown: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that both summaries have in common."""
    request = lookup.request
    return {
        "output": request.output,
        "next_command": run_command(request.output, request.config.reports_dir, request.config.base_url_flag),
        "customers": customers,
        "asked": lookup.asked,
        "oldest_answer": lookup.oldest_answer(),
        "rows": dict(draft.rows),
        "unknown": unknown,
        "left_out": draft.left_out,
    }


def named(names: Sequence[str], total: int, separator: str = ", ") -> str:
    """Return the first of some names, and how many there are besides."""
    more = total - min(total, _NAMED)
    return separator.join(islice(names, _NAMED)) + (f" and {more:,} more (--json has them)" if more else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
