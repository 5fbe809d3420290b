"""The search for rejected devices: what it finds and how many requests it needs."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetron_batch.sending.rejected_search import STOP_AFTER_SAME_ERROR, Positions, Rejected, RejectedDeviceSearch


def each_its_own(position: int) -> str:
    return f"device {position} is refused"


def all_alike(_: int) -> str:
    return "a device is refused"


@dataclass
class Search:
    """A search against a server that refuses every request with a bad position."""

    split: RejectedDeviceSearch
    bad: Collection[int]
    text: Callable[[int], str] = each_its_own
    names: bool = False
    requests: list[Positions] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    condemned: list[int] = field(default_factory=list)
    reasons: dict[int, Rejected] = field(default_factory=dict)

    @property
    def extra(self) -> int:
        return len(self.requests) - 1

    def ask(self) -> bool:
        """Make one request; return whether there was one to make."""
        asked = self.split.next()
        if asked is None:
            return False
        self.requests.append(asked)
        refused = [position for position in asked if position in self.bad]
        if refused:
            self.split.refused(asked, self.text(refused[0]), refused[:1] if self.names else ())
        else:
            self.accepted += asked
            self.split.record_accepted(asked)
        self.reasons |= (new := self.split.take_rejected())
        self.condemned += new
        return True


def searched(
    size: int, bad: Collection[int], text: Callable[[int], str] = each_its_own, *, names: bool = False
) -> Search:
    search = Search(RejectedDeviceSearch(tuple(range(size)), size), frozenset(bad), text, names)
    while search.ask():
        pass
    return search


CALL = st.integers(1, 120).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1))))
RARE = st.sets(st.integers(0, 499), max_size=10)


def test_a_call_that_is_accepted_is_one_request() -> None:
    search = searched(500, ())
    assert search.requests == [tuple(range(500))]
    assert search.split.open() == ()


# What it finds


@given(CALL, st.sampled_from([each_its_own, all_alike]), st.booleans())
def test_every_position_is_settled_exactly_once(call: tuple[int, set[int]], text: Callable, names: bool) -> None:
    size, bad = call
    search = searched(size, bad, text, names=names)
    assert sorted(search.accepted + search.condemned) == list(range(size))
    assert search.split.open() == ()


@given(CALL, st.sampled_from([each_its_own, all_alike]), st.booleans())
def test_every_refused_device_is_condemned(call: tuple[int, set[int]], text: Callable, names: bool) -> None:
    size, bad = call
    assert bad <= set(searched(size, bad, text, names=names).condemned)


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize("size", range(1, 10))
def test_a_small_call_loses_just_its_refused_devices_whichever_they_are(size: int, names: bool) -> None:
    for mask in range(1 << size):
        bad = {position for position in range(size) if mask >> position & 1}
        assert set(searched(size, bad, names=names).condemned) == bad


@given(RARE)
def test_a_few_refused_devices_in_a_full_call_are_all_that_it_loses(bad: set[int]) -> None:
    assert set(searched(500, bad).condemned) == bad


@given(CALL)
def test_where_refusals_name_the_device_just_the_refused_ones_are_lost(call: tuple[int, set[int]]) -> None:
    size, bad = call
    assert set(searched(size, bad, names=True).condemned) == bad


# What it costs


@given(CALL, st.sampled_from([each_its_own, all_alike]), st.booleans())
@example((12, {1, 10}), each_its_own, False)
def test_a_call_of_n_devices_costs_at_most_n_plus_1_more_requests(
    call: tuple[int, set[int]], text: Callable, names: bool
) -> None:
    size, bad = call
    assert searched(size, bad, text, names=names).extra <= size + 1


@pytest.mark.parametrize("bad", [range(500), range(0, 500, 2), range(1, 500, 2), range(1, 500, 9), range(100, 500)])
def test_many_refused_devices_in_a_full_call_cost_no_more_than_asking_for_each(bad: range) -> None:
    assert searched(500, bad).extra <= 501


@pytest.mark.parametrize("bad", [*range(9), *range(9, 490, 13), *range(490, 500)])
def test_one_refused_device_in_500_costs_at_most_20_more_requests(bad: int) -> None:
    assert searched(500, {bad}).extra <= 20


def test_two_refused_devices_in_500_cost_at_most_40_more_requests() -> None:
    pairs = [(one, other) for one in range(0, 500, 23) for other in range(one + 1, 500, 37)]
    neighbours = [(one, one + 1) for one in range(0, 499, 31)]
    assert max(searched(500, pair).extra for pair in pairs + neighbours) <= 40


@given(st.integers(0, 499))
def test_a_refusal_that_names_its_device_costs_that_device_and_the_rest(bad: int) -> None:
    search = searched(500, {bad}, names=True)
    assert search.extra == 2
    assert search.condemned == [bad]


def test_a_named_device_that_goes_through_alone_is_not_to_blame() -> None:
    split = RejectedDeviceSearch((0, 1, 2, 3), 4)
    split.refused((0, 1, 2, 3), "device 0", [0])
    split.record_accepted((0,))
    assert split.take_rejected() == {}
    assert set(split.open()) == {1, 2, 3}


def test_a_search_lasts_from_the_first_refusal_until_nothing_is_open() -> None:
    split = RejectedDeviceSearch((0, 1), 2)
    assert not split.searching
    split.refused((0, 1), "refused")
    assert split.searching
    split.record_accepted((0,))
    split.refused((1,), "refused")
    assert not split.searching


def test_a_call_whose_first_16_devices_are_refused_alike_is_asked_once_more_and_refused_as_a_whole() -> None:
    search = searched(500, range(500), all_alike)
    assert STOP_AFTER_SAME_ERROR == 16
    assert search.extra == 16 + 1
    assert sorted(search.condemned) == list(range(500))


def test_15_devices_with_the_same_error_reject_no_other_device() -> None:
    assert set(searched(500, range(15), all_alike).condemned) == set(range(15))


def test_16_adjacent_bad_devices_reject_no_other_device() -> None:
    search = searched(500, range(16), all_alike)
    assert set(search.condemned) == set(range(16))
    assert search.extra == 16 + 1


def test_a_device_found_by_elimination_has_the_text_of_its_refusal() -> None:
    split: RejectedDeviceSearch[str] = RejectedDeviceSearch((0, 1), 2)
    split.refused((0, 1), "device 1")
    split.record_accepted((0,))
    split.refused((1,), "device 1")
    assert split.take_rejected()[1].refusal == "device 1"


@given(CALL)
def test_few_innocent_devices_are_condemned_and_none_of_them_as_having_stood_alone(call: tuple[int, set[int]]) -> None:
    size, bad = call
    search = searched(size, bad)
    assert len(set(search.condemned) - bad) <= size // 16
    assert not any(search.reasons[position].alone for position in set(search.condemned) - bad)


def test_16_devices_with_different_errors_reject_no_other_device() -> None:
    assert set(searched(500, range(16)).condemned) == set(range(16))


def test_16_devices_with_the_same_error_reject_no_other_once_one_alone_was_accepted() -> None:
    assert set(searched(500, range(1, 17), all_alike).condemned) == set(range(1, 17))


def test_a_whole_call_refused_for_one_device_is_refused_for_that_device() -> None:
    search = searched(1, {0})
    assert (search.condemned, search.extra) == ([0], 0)


# What was left out of an answer


def test_a_device_that_the_answer_leaves_out_is_asked_for_once_more() -> None:
    split = RejectedDeviceSearch((0, 1, 2, 3), 500)
    assert split.record_accepted((0, 1, 2, 3), [1, 3]) == ()
    assert split.next() == (1, 3)
    assert split.open() == (1, 3)


def test_a_device_left_out_twice_is_given_back() -> None:
    split = RejectedDeviceSearch((0, 1, 2, 3), 500)
    split.record_accepted((0, 1, 2, 3), [1, 3])
    assert split.record_accepted((1, 3), [3]) == (3,)
    assert split.next() is None


def test_devices_left_out_during_a_search_are_asked_for_after_it() -> None:
    split = RejectedDeviceSearch((0, 1, 2, 3), 500)
    split.refused((0, 1, 2, 3), "device 3", [3])
    assert split.next() == (3,)
    split.refused((3,), "device 3")
    asked = split.next()
    split.record_accepted(asked, [0])
    rest = [position for position in (0, 1, 2) if position not in asked]
    assert set(split.open()) == {0, *rest}


@given(st.integers(1, 40), st.data())
def test_with_any_omissions_every_position_is_settled_or_returned_once(size: int, data: st.DataObject) -> None:
    split, settled = RejectedDeviceSearch(tuple(range(size)), size), []
    bad = data.draw(st.sets(st.integers(0, size - 1)))
    while (asked := split.next()) is not None:
        if bad & set(asked):
            split.refused(asked, "refused")
        else:
            omitted = data.draw(st.sets(st.sampled_from(asked)))
            settled += {*asked} - omitted
            settled += split.record_accepted(asked, omitted)
        settled += split.take_rejected()
    assert sorted(settled) == list(range(size))


# Too many devices


def test_a_call_longer_than_the_known_maximum_is_cut_before_it_is_sent() -> None:
    split = RejectedDeviceSearch(tuple(range(7)), 3)
    assert split.open() == tuple(range(7))
    asked = []
    while (piece := split.next()) is not None:
        asked.append(piece)
        split.record_accepted(piece)
    assert asked == [(0, 1, 2), (3, 4, 5), (6,)]


def test_too_many_devices_are_cut_and_go_before_what_waits() -> None:
    split = RejectedDeviceSearch(tuple(range(6)), 4)
    split.record_too_large((0, 1, 2, 3), 2, "too many")
    assert split.next() == (0, 1)
    assert split.open() == (0, 1, 2, 3, 4, 5)


def test_one_device_that_is_too_many_is_condemned() -> None:
    split = RejectedDeviceSearch((0, 1), 1)
    split.record_too_large((0,), 1, "too many")
    assert [*split.take_rejected()] == [0]
    assert split.next() == (1,)


@given(st.integers(1, 300), st.integers(1, 300), st.sets(st.integers(0, 299), max_size=3))
def test_with_refused_devices_and_a_maximum_every_position_is_settled_once(
    size: int, max_devices: int, bad: set[int]
) -> None:
    split, settled = RejectedDeviceSearch(tuple(range(size)), size), []
    while (asked := split.next()) is not None:
        if len(asked) > max_devices:
            split.record_too_large(asked, len(asked) // 2, "too many")
        elif bad & set(asked):
            split.refused(asked, "refused")
        else:
            settled += asked
            split.record_accepted(asked)
        settled += split.take_rejected()
    assert sorted(settled) == list(range(size))


# The end, and the same again


def test_giving_up_before_the_first_request_gives_all_positions() -> None:
    split = RejectedDeviceSearch((0, 1, 2), 2)
    assert split.give_up() == (0, 1, 2)
    assert (split.next(), split.open()) == (None, ())


@given(CALL, st.integers(0, 30))
def test_giving_up_gives_exactly_the_positions_that_are_not_settled(call: tuple[int, set[int]], after: int) -> None:
    size, bad = call
    search = Search(RejectedDeviceSearch(tuple(range(size)), size), bad)
    for _ in range(after):
        search.ask()
    settled = search.accepted + search.condemned
    assert set(search.split.open()) == set(range(size)) - set(settled)
    assert sorted(search.split.give_up() + tuple(settled)) == list(range(size))
    assert search.split.next() is None


def test_a_rejected_position_is_returned_once() -> None:
    split = RejectedDeviceSearch((0,), 1)
    split.refused((0,), "refused")
    assert [*split.take_rejected()] == [0]
    assert split.take_rejected() == {}


@given(CALL, st.sampled_from([each_its_own, all_alike]), st.booleans())
def test_the_same_history_gives_the_same_next_request(call: tuple[int, set[int]], text: Callable, names: bool) -> None:
    size, bad = call
    first, second = (Search(RejectedDeviceSearch(tuple(range(size)), size), bad, text, names) for _ in range(2))
    while first.ask():
        assert second.ask()
        assert second.split.next() == first.split.next()
        assert second.condemned == first.condemned
    assert not second.ask()
