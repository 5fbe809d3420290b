"""The sessions of users who have signed in."""

from telemetron_batch.web.sessions import Sessions

IDLE, LONGEST = 100.0, 1000.0


def test_a_session_ends_when_it_is_idle_too_long() -> None:
    sessions = Sessions(IDLE, LONGEST)
    secret = sessions.start("ann", b"", 0.0)
    assert sessions.find(secret, IDLE) is not None
    assert sessions.find(secret, 2 * IDLE) is not None
    assert sessions.find(secret, 3 * IDLE + 1) is None
    assert sessions.find(secret, 2 * IDLE) is None


def test_a_look_that_is_no_use_does_not_keep_a_session() -> None:
    sessions = Sessions(IDLE, LONGEST)
    secret = sessions.start("ann", b"", 0.0)
    assert sessions.find(secret, IDLE, is_use=False) is not None
    assert sessions.find(secret, IDLE + 1) is None


def test_a_session_ends_at_last_however_much_it_is_used() -> None:
    sessions = Sessions(IDLE, LONGEST)
    secret = sessions.start("ann", b"", 0.0)
    seen = [sessions.find(secret, float(at)) is not None for at in range(0, 1200, 50)]
    assert seen == [at <= LONGEST for at in range(0, 1200, 50)]


def test_only_the_whole_secret_finds_a_session() -> None:
    sessions = Sessions(IDLE, LONGEST)
    secret = sessions.start("ann", b"", 0.0)
    assert len(secret) >= 43
    for other in ("", secret[:-1], secret + "x", secret.swapcase(), "\ud800"):
        assert sessions.find(other, 0.0) is None


def test_a_user_has_twenty_sessions_at_most_and_loses_the_oldest_first() -> None:
    sessions = Sessions(IDLE, LONGEST)
    of_bob = sessions.start("bob", b"", 0.0)
    secrets = [sessions.start("ann", b"", 0.0) for _ in range(25)]
    assert [sessions.find(one, 0.0) is not None for one in secrets] == [False] * 5 + [True] * 20
    assert sessions.find(of_bob, 0.0) is not None
