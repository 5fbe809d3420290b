"""Twelve nights of one job, as docs/night-job.md tells them: what each command tells, and how it ends."""

import pytest

from tests.support.docs import part
from tests.support.nights import PAGE, Night, play, table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Night]:
    return play(tmp_path_factory.mktemp("nights"))


def test_the_table_of_the_nights_is_what_they_told(nights: list[Night]) -> None:
    assert part(PAGE.read_text(), "nights") == table(nights), "run: make nights"


def test_every_command_that_starts_says_so_and_all_but_the_killed_one_say_how_it_ended(nights: list[Night]) -> None:
    for night in nights:
        assert night.pings.count("/ping/start") == len(night.exit_codes), night
        assert len(night.pings) == 2 * len(night.exit_codes) - night.exit_codes.count(None), night


def test_every_end_that_is_not_good_is_told_once_and_no_other(nights: list[Night]) -> None:
    for night in nights:
        assert len(night.messages) == sum(code != 0 for code in night.exit_codes), night


def test_no_message_has_an_address_or_a_serial(nights: list[Night]) -> None:
    titles = [title for night in nights for title in night.messages]
    assert titles
    assert not [title for title in titles if "@" in title or "SN-" in title]


def test_every_night_whose_export_is_good_ends_well(nights: list[Night]) -> None:
    assert [night.exit_codes[-1] for night in nights] == [0, 2, 2, 0, 0, 0, 0, 0, 5, 2, 0, 0]


def test_a_night_that_is_refused_or_has_nothing_to_do_sends_nothing(nights: list[Night]) -> None:
    assert [number for number, night in enumerate(nights, start=1) if not night.requests] == [2, 3, 10, 12]
