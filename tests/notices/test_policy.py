"""Which ends are told, and what a ping says."""

from typing import Any

import pytest

from telemetron_batch.config.notices import DEFAULT_NOTIFY_ON, EndKind, NoticeOptions, PingFailure
from telemetron_batch.notices.ending import Ending
from telemetron_batch.notices.policy import counts_as_success, is_told, kind_of, ping_suffix

KINDS = {
    0: EndKind.FINISHED,
    1: EndKind.ATTENTION,
    2: EndKind.REFUSED,
    3: EndKind.STOPPED,
    4: EndKind.REFUSED,
    5: EndKind.STOPPED,
    6: None,
    7: EndKind.REFUSED,
}


def ending(exit_code: int, **more: Any) -> Ending:
    return Ending(exit_code=exit_code, run="night", **more)


@pytest.mark.parametrize("exit_code", KINDS)
def test_the_exit_code_says_what_kind_of_end_it_is(exit_code: int) -> None:
    assert kind_of(ending(exit_code)) is KINDS[exit_code]


def test_by_default_everything_but_a_finished_run_is_told() -> None:
    assert DEFAULT_NOTIFY_ON == (EndKind.ATTENTION, EndKind.STOPPED, EndKind.REFUSED)
    told = [code for code in KINDS if is_told(ending(code), NoticeOptions())]
    assert told == [1, 2, 3, 4, 5, 7]


def test_only_the_wanted_kinds_are_told() -> None:
    wanted = NoticeOptions(notify_on=(EndKind.FINISHED, EndKind.STOPPED))
    assert [code for code in KINDS if is_told(ending(code), wanted)] == [0, 3, 5]


def test_the_empty_code_is_a_finished_run_whatever_its_number() -> None:
    for code in (3, 6, 99):
        empty = ending(code, is_empty=True, fields={"stop": None})
        assert kind_of(empty) is EndKind.FINISHED
        assert (ping_suffix(empty, PingFailure.FAILURE), counts_as_success(empty)) == ("", False)


@pytest.mark.parametrize("more", [{"is_declined": True}, {"is_repeated": True}])
def test_a_no_and_a_repeated_finished_run_tell_nothing(more: dict[str, bool]) -> None:
    everything = NoticeOptions(notify_on=tuple(EndKind))
    assert not any(is_told(ending(code, **more), everything) for code in KINDS)


def test_a_run_that_another_process_took_over_is_told_by_that_process() -> None:
    fields = {"stop": {"code": "runLost"}}
    assert kind_of(ending(6, fields=fields)) is None


@pytest.mark.parametrize(("fail_on", "good"), [(PingFailure.FAILURE, [0, 1]), (PingFailure.ATTENTION, [0])])
def test_a_ping_fails_for_all_other_codes(fail_on: PingFailure, good: list[int]) -> None:
    suffixes = {code: ping_suffix(ending(code), fail_on) for code in KINDS}
    assert suffixes == {code: "" if code in good else "/fail" for code in KINDS}


def test_the_metrics_call_a_run_with_rows_for_attention_a_success() -> None:
    assert [code for code in KINDS if counts_as_success(ending(code))] == [0, 1]
