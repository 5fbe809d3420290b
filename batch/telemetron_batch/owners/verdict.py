"""Decide from claims who the owner of each wanted device is.

An identifier is matched exactly. A claim about another spelling of it is only mentioned, because two spellings may be
two devices. There is an owner only if exactly one customer has the device and no other may have it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.model import Problem
from telemetron_batch.rows.owner_claims import ClaimKind, comparable
from telemetron_batch.storage.text_hash import encode_texts

OriginNames = Callable[[Ints], pa.Array]
"""Returns the names of origins, such as `owners.csv line 12`."""
_NONE: Final = -1


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The owner of each wanted device.

    customer  "" without an owner
    problem   why there is none, as a `Problem`; 0 with an owner
    detail    where the owner was found, or what was found in place of one
    """

    customer: pa.Array
    problem: npt.NDArray[np.int8]
    detail: pa.Array


def judge(devices: pa.Array, claims: pa.RecordBatch, names: OriginNames, nowhere: str) -> Verdicts:
    """Return the owner of each device; `claims` may be about others. `nowhere` says that there is no claim at all."""
    findings = _Findings.of(devices, claims)
    problem = np.full(len(devices), Problem.OWNER_NOT_FOUND, np.int8)
    source = np.zeros(len(devices), np.int64)
    is_open, details, end = np.ones(len(devices), np.bool_), [pa.array([nowhere])], 1
    for code, claim, texts_of in _cases(findings, _Texts(claims, names)):
        chosen = np.flatnonzero(is_open & (claim != _NONE))
        is_open[chosen] = False
        problem[chosen] = code
        details.append(texts_of(chosen))
        source[chosen] = np.arange(end, end + len(chosen))
        end += len(chosen)
    owner = claims["customerEmail"].take(pa.array(findings.owner, mask=problem != Problem.NONE))
    return Verdicts(pc.fill_null(owner, ""), problem, pa.concat_arrays(details).take(pa.array(source)))


@dataclass(frozen=True, slots=True)
class _Findings:
    """By wanted device: the position of a claim of each kind, or `_NONE`.

    owner     the first customer who has it
    second    the first other customer who has it
    unclear   a customer who may have it
    unusable  an entry that cannot be used
    taken     the last customer from whom it was taken
    spelled   a claim about another spelling, if there is none about the device itself
    """

    owner: Ints
    second: Ints
    unclear: Ints
    unusable: Ints
    taken: Ints
    spelled: Ints

    @classmethod
    def of(cls, devices: pa.Array, claims: pa.RecordBatch) -> "_Findings":
        """Find the claims about these devices."""
        wanted, claimed = _codes(devices, claims["deviceIdentifier"])
        size = max(int(wanted.max(initial=_NONE)), int(claimed.max(initial=_NONE))) + 1
        kind, origin = claims["kind"].to_numpy(), claims["origin"].to_numpy()
        customer, _ = encode_texts(claims["customerEmail"])
        order = np.argsort(origin, kind="stable")

        def first_of(positions: Ints) -> Ints:
            """Return by device code the first of these claims."""
            found = np.full(size, _NONE)
            codes, at = np.unique(claimed[positions], return_index=True)
            found[codes] = positions[at]
            return found

        owns = order[kind[order] == ClaimKind.OWNS]
        owner = first_of(owns)
        others = owns[customer[owns] != customer[owner[claimed[owns]]]]
        taken = first_of(order[kind[order] == ClaimKind.TAKEN][::-1])
        return cls(
            owner=owner[wanted],
            second=first_of(others)[wanted],
            unclear=first_of(order[kind[order] == ClaimKind.UNCLEAR])[wanted],
            unusable=first_of(order[kind[order] == ClaimKind.INVALID])[wanted],
            taken=taken[wanted],
            spelled=_other_spellings(devices, claims["deviceIdentifier"], order),
        )


_Case = tuple[Problem, Ints, Callable[[Ints], pa.Array]]
"""A verdict, the claims by device that lead to it, and what returns the details of some devices."""


def _cases(findings: _Findings, texts: "_Texts") -> Iterator[_Case]:
    """Yield all verdicts about devices with claims, the most important first."""
    yield Problem.OWNER_ROW_INVALID, findings.unusable, lambda chosen: texts.unusable(findings.unusable[chosen])
    yield Problem.OWNER_UNCLEAR, findings.unclear, lambda chosen: _unclear(texts, findings, chosen)
    yield Problem.SEVERAL_OWNERS, findings.second, lambda chosen: _several(texts, findings, chosen)
    yield Problem.NONE, findings.owner, lambda chosen: texts.found(findings.owner[chosen])
    yield Problem.OWNER_NOT_FOUND, findings.taken, lambda chosen: texts.taken(findings.taken[chosen])
    yield Problem.OWNER_SPELLED_OTHERWISE, findings.spelled, lambda chosen: texts.spelled(findings.spelled[chosen])


def _codes(devices: pa.Array, claimed: pa.Array) -> tuple[Ints, Ints]:
    """Return a code for each wanted and each claimed device; equal codes mean equal texts."""
    codes, _ = encode_texts(pa.concat_arrays([devices, claimed]))
    return codes[: len(devices)], codes[len(devices) :]


def _other_spellings(devices: pa.Array, claimed: pa.Array, order: Ints) -> Ints:
    """Return for each device the first claim about any spelling of it; to be used if none is about its own."""
    wanted, others = _codes(comparable(devices), comparable(claimed))
    found = np.full(max(int(wanted.max(initial=_NONE)), int(others.max(initial=_NONE))) + 1, _NONE)
    codes, at = np.unique(others[order], return_index=True)
    found[codes] = order[at]
    spelled: Ints = found[wanted]
    return spelled


def _unclear(texts: "_Texts", findings: _Findings, chosen: Ints) -> pa.Array:
    """Return who may have the devices and, if known, who surely has them."""
    unclear, owner = texts.who(findings.unclear[chosen]), texts.who(findings.owner[chosen])
    both = _joined("owner unclear: ", unclear, "; surely with ", owner)
    has_owner = pa.array(findings.owner[chosen] != _NONE)
    return pc.if_else(has_owner, both, _joined("owner unclear: ", unclear))


def _several(texts: "_Texts", findings: _Findings, chosen: Ints) -> pa.Array:
    """Return two customers who have the devices."""
    first, second = texts.who(findings.owner[chosen]), texts.who(findings.second[chosen])
    return _joined("two owners: ", first, ", ", second)


@dataclass(frozen=True, slots=True)
class _Texts:
    """Sentences about claims, given by position."""

    claims: pa.RecordBatch
    names: OriginNames

    def found(self, at: Ints) -> pa.Array:
        """Return where an owner was found."""
        return _joined("owner from ", self._origin(at))

    def who(self, at: Ints) -> pa.Array:
        """Return the customer, the origin and, if there is one, the detail; anything for `_NONE`."""
        customer, detail = self._column("customerEmail", at), self._column("detail", at)
        suffix = pc.if_else(pc.equal(detail, ""), "", _joined(": ", detail))
        return _joined(customer, " (", self._origin(at), suffix, ")")

    def taken(self, at: Ints) -> pa.Array:
        """Return that a customer has the device no more."""
        return _joined("owner not found: not with ", self._column("customerEmail", at), " since ", self._origin(at))

    def spelled(self, at: Ints) -> pa.Array:
        """Return the other spelling."""
        return _joined(
            "owner not found under this spelling: ",
            self._origin(at),
            ' has "',
            self._column("deviceIdentifier", at),
            '"; two spellings may be two devices',
        )

    def unusable(self, at: Ints) -> pa.Array:
        """Return why an entry is of no use."""
        return _joined("invalid owner row: ", self._origin(at), ": ", self._column("detail", at))

    def _origin(self, at: Ints) -> pa.Array:
        origins: Ints = self.claims["origin"].to_numpy()
        return self.names(origins[at]) if len(origins) else pa.repeat("", len(at))

    def _column(self, name: str, at: Ints) -> pa.Array:
        return pc.fill_null(self.claims[name].take(pa.array(at, mask=at == _NONE)), "")


def _joined(*parts: "str | pa.Array") -> pa.Array:
    """Return the texts joined row by row."""
    scalars = [pa.scalar(part) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*scalars, "")
