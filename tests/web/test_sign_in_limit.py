"""How often passwords may be tried."""

from telemetron_batch.web.sign_in_limit import PAIR, PEER, USER, SignInLimit, Try, peer_network


def admitted(limit: SignInLimit, attempts: list[Try], now: float = 0.0) -> int:
    return sum(limit.admit(one, now) == 0.0 for one in attempts)


def test_a_user_who_mistypes_a_few_times_is_not_held_up() -> None:
    assert admitted(SignInLimit(), [Try("ann", "10.0.0.1")] * PAIR.burst) == PAIR.burst


def test_ten_thousand_tries_at_once_from_one_place_are_admitted_a_few_times_only() -> None:
    limit = SignInLimit()
    assert admitted(limit, [Try(f"user{n}", "10.0.0.1") for n in range(10_000)]) == PEER.burst
    assert admitted(SignInLimit(), [Try("ann", "10.0.0.1")] * 10_000) == PAIR.burst


def test_ten_thousand_places_together_get_no_more_tries_for_one_user() -> None:
    attempts = [Try("ann", f"10.{n >> 8}.{n & 255}.1") for n in range(10_000)]
    assert admitted(SignInLimit(), attempts) == USER.burst


def test_the_time_to_wait_is_exactly_what_admits_the_next_try() -> None:
    limit = SignInLimit()
    admitted(limit, [Try("ann", "10.0.0.1")] * PAIR.burst)
    wait = limit.admit(Try("ann", "10.0.0.1"), 0.0)
    assert wait == PAIR.seconds_for_one
    assert limit.admit(Try("ann", "10.0.0.1"), wait - 0.01) > 0
    assert limit.admit(Try("ann", "10.0.0.1"), wait) == 0.0


def test_refused_tries_do_not_extend_the_wait() -> None:
    limit = SignInLimit()
    admitted(limit, [Try("ann", "10.0.0.1")] * 10_000)
    assert limit.admit(Try("ann", "10.0.0.1"), PAIR.seconds_for_one) == 0.0


def test_one_place_that_tries_all_the_time_cannot_lock_a_user_out_elsewhere() -> None:
    limit = SignInLimit()
    for second in range(3600):
        limit.admit(Try("ann", "6.6.6.6"), float(second))
        limit.admit(Try(f"user{second}", "6.6.6.6"), float(second))
    assert limit.admit(Try("ann", "10.0.0.1"), 3600.0) == 0.0


def test_a_known_browser_gets_in_while_thousands_of_places_try_for_its_user() -> None:
    limit = SignInLimit()
    admitted(limit, [Try("ann", f"10.{n >> 8}.{n & 255}.1") for n in range(10_000)])
    assert limit.admit(Try("ann", "10.0.0.1"), 0.0) > 0
    assert limit.admit(Try("ann", "10.0.0.1", device="browser"), 0.0) == 0.0


def test_a_success_gives_back_the_tries_of_that_place_only() -> None:
    limit = SignInLimit()
    here, there = Try("ann", "10.0.0.1"), Try("ann", "10.0.0.2")
    admitted(limit, [here] * PAIR.burst + [there] * PAIR.burst)
    limit.succeeded(here)
    assert limit.admit(here, 0.0) == 0.0
    assert limit.admit(there, 0.0) > 0


def test_memory_is_bounded_whoever_tries() -> None:
    limit = SignInLimit()
    for n in range(30_000):
        limit.admit(Try(f"user{n}", f"10.{n >> 8}.{n & 255}.1"), 0.0)
    assert max(len(one._spent) for one in (limit._pairs, limit._peers, limit._users)) <= 10_000


def test_refusals_of_a_peer_are_new_once_a_minute() -> None:
    limit = SignInLimit()
    assert [limit.is_new_refusal("10.0.0.1", at) for at in (0.0, 1.0, 59.0, 60.0)] == [True, False, False, True]


def test_the_addresses_that_one_customer_of_ipv6_has_count_as_one_place() -> None:
    assert peer_network("2001:db8:1:2::5") == peer_network("2001:db8:1:2:ffff::1") != peer_network("2001:db8:1:3::5")
    assert peer_network("::ffff:10.0.0.1") == peer_network("10.0.0.1")
