"""Who has a device by what runs told: sure only where every course of events that fits leads to it."""

from collections.abc import Iterator, Sequence
from itertools import permutations, product

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.owners.last_words import WORD_SCHEMA, OwnerWord, RunTime, claims_of_words
from telemetron_batch.rows.owner_claims import ClaimKind

A, B = "a@x.com", "b@x.com"
GIVEN, TAKEN, MAY_BE_GIVEN, MAY_BE_TAKEN = OwnerWord.GIVEN, OwnerWord.TAKEN, *list(OwnerWord)[3:5]
TO_BE_GIVEN, TO_BE_TAKEN = list(OwnerWord)[5:]
GIVING = (GIVEN, MAY_BE_GIVEN, TO_BE_GIVEN)

Word = tuple[str, str, OwnerWord, int]
"""Customer, device, word, and the number of the run."""


def claims(words: Sequence[Word], times: Sequence[RunTime]) -> dict[tuple[str, str], tuple[ClaimKind, int]]:
    """Return kind and run of the claim about each pair."""
    columns = [*zip(*words, strict=True)] or [()] * len(WORD_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, WORD_SCHEMA, strict=True)]
    found = claims_of_words(pa.record_batch(arrays, schema=WORD_SCHEMA), times).to_pylist()
    pairs = {(one["customerEmail"], one["deviceIdentifier"]): (ClaimKind(one["kind"]), one["origin"]) for one in found}
    assert len(pairs) == len(found)
    return pairs


def kind_of(*words: OwnerWord, times: Sequence[RunTime] | None = None) -> ClaimKind:
    """Return the kind of the claim about one pair, from a word of each run."""
    spans = times or [RunTime(10.0 * number, 10.0 * number + 5) for number in range(len(words))]
    return claims([(A, "SN-1", word, number) for number, word in enumerate(words)], spans)[A, "SN-1"][0]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([GIVEN], ClaimKind.OWNS),
        ([GIVEN, TAKEN], ClaimKind.TAKEN),
        ([TAKEN, GIVEN], ClaimKind.OWNS),
        ([GIVEN, MAY_BE_TAKEN], ClaimKind.UNCLEAR),
        ([GIVEN, MAY_BE_GIVEN], ClaimKind.UNCLEAR),
        ([MAY_BE_TAKEN, GIVEN], ClaimKind.OWNS),
        ([GIVEN, TO_BE_TAKEN], ClaimKind.UNCLEAR),
        ([TO_BE_TAKEN, GIVEN], ClaimKind.OWNS),
    ],
)
def test_the_word_of_the_last_run_counts(words: list[OwnerWord], kind: ClaimKind) -> None:
    assert kind_of(*words) is kind


def test_within_a_run_the_last_row_counts() -> None:
    words = [(A, "SN-1", GIVEN, 0), (B, "SN-1", GIVEN, 0), (A, "SN-1", TAKEN, 0)]
    assert {pair[0]: kind for pair, (kind, _) in claims(words, [RunTime(0, 1)]).items()} == {
        A: ClaimKind.TAKEN,
        B: ClaimKind.OWNS,
    }


def test_of_runs_at_the_same_time_that_disagree_none_counts() -> None:
    times = [RunTime(0, 20), RunTime(10, 30)]
    assert kind_of(GIVEN, TAKEN, times=times) is ClaimKind.UNCLEAR
    assert kind_of(GIVEN, GIVEN, times=times) is ClaimKind.OWNS


def test_an_unanswered_attempt_may_act_after_the_next_run_began() -> None:
    soon, later = ([RunTime(0, 5, late_effect_s=900), RunTime(at, at + 5)] for at in (100.0, 1000.0))
    assert kind_of(MAY_BE_GIVEN, TAKEN, times=soon) is ClaimKind.UNCLEAR
    assert kind_of(MAY_BE_GIVEN, TAKEN, times=later) is ClaimKind.TAKEN
    assert kind_of(MAY_BE_GIVEN, GIVEN, times=soon) is ClaimKind.OWNS


def test_what_an_active_run_has_not_settled_is_never_superseded() -> None:
    times = [RunTime(0, 5, is_active=True), RunTime(100, 105)]
    assert kind_of(TO_BE_TAKEN, GIVEN, times=times) is ClaimKind.UNCLEAR
    assert kind_of(GIVEN, TAKEN, times=times) is ClaimKind.TAKEN


def test_without_words_there_are_no_claims() -> None:
    assert claims([], []) == {}


# Against every course of events

TIMES = st.builds(
    lambda began, length, late: RunTime(began, began + length, late),
    st.integers(0, 12).map(float),
    st.integers(0, 4).map(float),
    st.sampled_from([0.0, 3.0]),
)
WORDS = st.lists(
    st.tuples(
        st.sampled_from([A, B]),
        st.sampled_from(["SN-1", "SN-2"]),
        st.sampled_from([GIVEN, GIVEN, TAKEN, TAKEN, MAY_BE_GIVEN, MAY_BE_TAKEN]),
        st.integers(0, 3),
    ),
    max_size=10,
)


def courses(words: Sequence[tuple[OwnerWord, RunTime]]) -> Iterator[bool]:
    """Yield whether the customer has the device at the end of each course that the times allow."""
    sure = (GIVEN, TAKEN)
    for acted in product(*([True] if word in sure else [True, False] for word, _ in words)):
        events = [(at, word, time) for at, ((word, time), acts) in enumerate(zip(words, acted, strict=True)) if acts]
        for order in permutations(events):
            pairs = [(one, other) for at, one in enumerate(order) for other in order[at + 1 :]]
            if order and not any(must_precede(other, one) for one, other in pairs):
                yield order[-1][1] in GIVING


def must_precede(one: tuple[int, OwnerWord, RunTime], other: tuple[int, OwnerWord, RunTime]) -> bool:
    """Return whether the first of two events is surely earlier: rows of a run keep their order."""
    (first, word, time), (second, _, after) = one, other
    if time is after:
        return first < second
    late = time.late_effect_s if word in (MAY_BE_GIVEN, MAY_BE_TAKEN) else 0.0
    if time.ended_at + late < after.began_at:
        return True
    # Runs that touch but do not overlap keep their order, too.
    return time.ended_at + late == after.began_at and (time.ended_at, time.began_at) < (after.ended_at, after.began_at)


@given(words=WORDS, times=st.lists(TIMES, min_size=4, max_size=4, unique_by=id))
def test_an_owner_is_claimed_only_if_every_course_of_events_leads_to_it(
    words: list[Word], times: list[RunTime]
) -> None:
    for (customer, device), (kind, _) in claims(words, times).items():
        last = {
            run: word for who, which, word, run in words if (who, which) == (customer, device)
        }  # rows before the last one of their run cannot count any more
        ends = {*courses([(word, times[run]) for run, word in last.items()])}
        if kind is ClaimKind.OWNS:
            assert ends == {True}
        elif kind is ClaimKind.TAKEN:
            assert ends == {False}
        else:
            assert kind is ClaimKind.UNCLEAR


@given(words=WORDS)
def test_sure_words_of_runs_one_after_another_always_tell(words: list[Word]) -> None:
    sure = [word for word in words if word[2] in (GIVEN, TAKEN)]
    times = [RunTime(10.0 * number, 10.0 * number + 5) for number in range(4)]
    last: dict[tuple[str, str], OwnerWord] = {}
    for customer, device, word, _ in sorted(sure, key=lambda one: one[3]):
        last[customer, device] = word
    expected = {pair: ClaimKind.OWNS if word is GIVEN else ClaimKind.TAKEN for pair, word in last.items()}
    assert {pair: kind for pair, (kind, _) in claims(sure, times).items()} == expected
