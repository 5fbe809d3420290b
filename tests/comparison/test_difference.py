"""The comparison against a plain one, on any tables."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.comparison.difference import Pairs, distinct, find_difference
from telemetron_batch.domain.identifiers import as_column, latin_letters_and_digits

NAMES = st.sampled_from(
    [
        "SN-1",
        "sn1",
        " SN-1",
        "SN-1 ",
        "12",
        "0012",
        "00",
        "x",
        "",
        "ß",
        "ẞ",
        "\u00a0x",
        "12.0",
        "120",
        "\u0662,\u0030",
        "\u0410-7",
        "a7",
    ]
)
TABLES = st.lists(st.tuples(st.integers(0, 3), NAMES), max_size=12)


def pairs_of(table: list[tuple[int, str]]) -> Pairs:
    return Pairs(np.array([one for one, _ in table], np.int64), as_column(name for _, name in table))


def coarse(name: str) -> tuple[str, ...]:
    """Two forms of a name, in one of which two spellings are equal, without the zeros that a number may have lost."""
    whole = re.sub(r"^(\d+)[.,]0+$", r"\1", name)
    return tuple(str(latin_letters_and_digits(as_column([one]))[0]).lstrip("0") for one in (name, whole))


def is_alike(one: str, other: str) -> bool:
    return any(form == another for form, another in zip(coarse(one), coarse(other), strict=True))


@given(TABLES, TABLES)
def test_flags_are_those_of_a_comparison_row_by_row(wanted: list[tuple[int, str]], held: list[tuple[int, str]]) -> None:
    holdings = distinct(pairs_of(held))
    have = [*zip(holdings.customer.tolist(), holdings.device.to_pylist(), strict=True)]
    assert have == [*dict.fromkeys((customer, name.strip()) for customer, name in held)]
    want = [(customer, name.strip()) for customer, name in wanted]
    found = find_difference(pairs_of(wanted), holdings)
    assert found.repeated.tolist() == [pair in want[:at] for at, pair in enumerate(want)]
    assert found.missing.tolist() == [pair not in want[:at] and pair not in have for at, pair in enumerate(want)]
    assert found.extra.tolist() == [pair not in want for pair in have]
    assert found.alike.tolist() == [
        pair not in want and any(one[0] == pair[0] and is_alike(one[1], pair[1]) for one in want) for pair in have
    ]


@given(TABLES, TABLES)
def test_assigning_what_is_missing_and_removing_what_is_extra_leaves_no_difference(
    wanted: list[tuple[int, str]], held: list[tuple[int, str]]
) -> None:
    want, holdings = pairs_of(wanted), distinct(pairs_of(held))
    found = find_difference(want, holdings)
    missing, kept = want.where(found.missing), holdings.where(~found.extra)
    after = [*zip([*missing.customer, *kept.customer], [*missing.device, *kept.device], strict=True)]
    again = find_difference(want, distinct(pairs_of([(int(customer), str(name)) for customer, name in after])))
    assert not again.missing.any()
    assert not again.extra.any()
