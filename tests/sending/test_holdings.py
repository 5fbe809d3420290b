"""What a list of holdings proves about rows: held, not held or unknown."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.planning.plan import RowsToSend
from telemetron_batch.sending import holdings
from telemetron_batch.sending.holdings import (
    ABSENCE_UNPROVEN,
    SPELLED_DIFFERENTLY,
    UNKNOWN,
    are_in_holdings,
    holding_states,
)

SPELLINGS = ["SN-1", "sn-1", "SN1", " SN-1", "SN-2 ", "SN-2", "\uff53n-2", "\u00e9", "\u00c9", "E\u0301", "X", "-", ""]
Pair = tuple[int, str]
pairs = st.tuples(st.integers(0, 3), st.sampled_from(SPELLINGS).map(str.strip))
lists = st.dictionaries(st.integers(0, 3), st.frozensets(st.sampled_from(SPELLINGS), max_size=4))


def keys_of(rows: list[Pair]) -> RowsToSend:
    devices = pa.array([device for _, device in rows], pa.string()).dictionary_encode()
    customers = np.array([customer for customer, _ in rows], np.int64)
    return RowsToSend(np.arange(len(rows)), customers, devices.indices.to_numpy().astype(np.int64), devices.dictionary)


def letters(text: str) -> str:
    return holdings.letters_and_digits(pa.array([text]))[0].as_py()


def expected(row: Pair, rows: list[Pair], held: dict[int, frozenset[str]], unproven: frozenset[int]) -> int:
    customer, device = row
    if customer not in held:
        return UNKNOWN
    names = {name.strip() for name in held[customer]}
    if device in names:
        return 1
    strays = names - {other for owner, other in rows if owner == customer}
    if letters(device) in map(letters, strays):
        return SPELLED_DIFFERENTLY
    return ABSENCE_UNPROVEN if customer in unproven and names else 0


@given(st.lists(pairs, max_size=8), lists, st.frozensets(st.integers(0, 4)), st.integers(1, 5))
def test_each_row_is_judged_as_one_alone_would_be(
    rows: list[Pair], held: dict[int, frozenset[str]], unproven: frozenset[int], batch_size: int
) -> None:
    before, holdings._BATCH_SIZE = holdings._BATCH_SIZE, batch_size  # type: ignore[misc]
    try:
        states = holding_states(keys_of(rows), held.items(), unproven)
    finally:
        holdings._BATCH_SIZE = before  # type: ignore[misc]
    assert states.tolist() == [expected(row, rows, held, unproven) for row in rows]


def test_absence_is_no_proof_where_the_api_spells_devices_in_a_form_of_its_own() -> None:
    rows = [(0, "SN-1"), (0, "SN-2"), (1, "SN-1"), (2, "SN-1")]
    held = [(0, frozenset({"SN-2", "dev 77"})), (1, frozenset({"X"})), (2, frozenset[str]())]
    assert holding_states(keys_of(rows), held, {0, 2}).tolist() == [ABSENCE_UNPROVEN, 1, 0, 0]


def test_of_one_customer_it_is_held_not_held_or_not_known() -> None:
    assert are_in_holdings(["SN-1", "SN-2", "X"], ["SN-1 ", "sn2"]) == [True, None, False]
