"""Unassigns without effect: they are counted, and want attention if no unassign of a run had an effect."""

from pathlib import Path

import pytest

from telemetron_batch.domain.errors import BrakeError
from telemetron_batch.rows.rows import joined_pairs
from telemetron_batch.run.history import has_taken_any, recorded_runs
from telemetron_batch.sharding.report import report_run
from tests.conftest import Desk, Ran
from tests.support.books import read_rows
from tests.support.builders import keys_of
from tests.support.scripted import BASE_URL, Loses, once

A, B, C = "a@x.com", "b@x.com", "c@x.com"
NO_EFFECT = "no effect: this customer does not have it"


def unassigns(*devices: str, customer: str = A) -> list[tuple[str, str, str]]:
    return [(customer, device, "unassign") for device in devices]


WRONG = unassigns("SN-1", "SN-2", "SN-3")


@pytest.fixture
def held(desk: Desk) -> Desk:
    """A desk whose customers hold devices; A holds none of those in WRONG."""
    desk.server.fleet.assign(A, ["SN-7", "SN-8", "SN-9"])
    desk.server.fleet.assign(B, ["SN-1", "SN-2", "SN-3"])
    return desk


def page(ran: Ran) -> str:
    return (ran.folder / "report.html").read_text(encoding="utf-8")


def attention(ran: Ran) -> list[dict[str, str]]:
    return read_rows(ran.folder / "attention.csv", "utf-8-sig")


# Counting


def test_unassigns_without_effect_are_counted_and_named_in_the_verdict(held: Desk) -> None:
    ran = held.run(unassigns("SN-1", "SN-2", "SN-7"))
    assert ran.outcomes == ["skipped", "skipped", "unassigned"]
    assert (ran.json["unassignsWithoutEffect"], ran.json["attention"], ran.json["exitCode"]) == (2, 0, 0)
    assert "All 3 rows are where they should be; 2 unassigns had no effect." in page(ran)
    assert "had no effect: the customer did not have the device" in page(ran)


def test_the_page_lists_the_lines_of_unassigns_without_effect(held: Desk) -> None:
    ran = held.run(unassigns("SN-7", "SN-2"))
    section = page(ran).partition('<section id="unassigns"')[2].partition("</section>")[0]
    assert "<bdi>3</bdi>" in section
    assert "SN-2" in section
    assert "SN-7" not in section


def test_a_skipped_assign_is_not_an_unassign_without_effect(held: Desk) -> None:
    ran = held.run([(A, "UNKNOWN-1", "assign"), *unassigns("SN-7")])
    assert ran.outcomes == ["skipped", "unassigned"]
    assert ran.json["unassignsWithoutEffect"] == 0
    assert "had no effect" not in page(ran)


def test_an_unassign_that_an_unanswered_attempt_may_have_done_is_not_without_effect(held: Desk) -> None:
    held.server.script = once(Loses(acted=True))
    ran = held.run(unassigns("SN-7"))
    assert ran.outcomes == ["skipped"]
    assert ran.json["unassignsWithoutEffect"] == 0


# When they want attention


def test_if_no_unassign_of_a_run_had_an_effect_all_want_attention(held: Desk) -> None:
    ran = held.run(WRONG)
    assert ran.outcomes == ["skipped"] * 3
    assert [row["detail"] for row in ran.rows] == [NO_EFFECT] * 3
    assert (ran.json["exitCode"], ran.json["attention"]) == (1, 3)
    assert [row["deviceIdentifier"] for row in attention(ran)] == ["SN-1", "SN-2", "SN-3"]
    assert "Check that the customers and the serials are right" in page(ran)


def test_a_repeated_report_says_the_same(held: Desk) -> None:
    ran = held.run(WRONG)
    again = report_run(ran.folder)
    assert again.fields["attention"] == 3
    assert [row["detail"] for row in ran.rows] == [NO_EFFECT] * 3


@pytest.mark.parametrize(
    ("rows", "outcomes"),
    [
        (unassigns("SN-1", "SN-2"), ["skipped"] * 2),
        ([*WRONG, *unassigns("SN-7")], ["skipped"] * 3 + ["unassigned"]),
    ],
    ids=["two", "one that had"],
)
def test_two_unassigns_or_a_list_with_one_effect_do_not_want_attention(
    held: Desk, rows: list, outcomes: list[str]
) -> None:
    ran = held.run(rows)
    assert ran.outcomes == outcomes
    assert (ran.json["exitCode"], ran.json["attention"]) == (0, 0)


def test_a_repeated_row_counts_once(held: Desk) -> None:
    ran = held.run([*unassigns("SN-1", "SN-2"), *unassigns("SN-1", "SN-2")])
    assert ran.outcomes == ["skipped", "skipped", "duplicate", "duplicate"]
    assert ran.json["exitCode"] == 0


def test_assigns_in_the_same_run_do_not_matter(held: Desk) -> None:
    ran = held.run([*WRONG, (C, "SN-9", "assign")])
    assert ran.outcomes == ["skipped"] * 3 + ["assigned"]
    assert (ran.json["exitCode"], ran.json["attention"]) == (1, 3)


def test_a_failed_unassign_does_not_clear_the_list(held: Desk) -> None:
    ran = held.run([*WRONG, *unassigns("SN-5", customer="nobody@x.com")])
    assert ran.outcomes == ["skipped"] * 3 + ["failed"]
    assert ran.json["attention"] == 4


def test_an_unassign_that_may_have_been_done_clears_the_list(held: Desk) -> None:
    held.server.script = once(Loses(acted=True))
    ran = held.run([*unassigns("SN-7"), *unassigns("SN-7", "SN-8", "SN-9", customer=B)], concurrency="1")
    assert ran.outcomes == ["skipped"] * 4
    assert ran.json["attention"] == 0


def test_tolerating_skipped_leaves_exit_code_0(held: Desk) -> None:
    ran = held.run(WRONG, tolerate=("skipped",))
    assert (ran.json["exitCode"], ran.json["attention"]) == (0, 3)


def test_a_list_whose_devices_an_earlier_run_has_unassigned_does_not_want_attention(held: Desk) -> None:
    returned = unassigns("SN-7", "SN-8", "SN-9")
    assert held.run(returned, run_id="first").summary.exit_code == 0
    again = held.run(returned, run_id="second", again=True)
    assert again.outcomes == ["skipped"] * 3
    assert (again.json["exitCode"], again.json["attention"]) == (0, 0)


def test_a_list_that_an_earlier_run_found_wrong_wants_attention_again(held: Desk) -> None:
    held.run([*WRONG, *unassigns("SN-7")], run_id="first")
    again = held.run(WRONG, run_id="second")
    assert (again.json["exitCode"], again.json["attention"]) == (1, 3)


def test_a_since_last_run_does_not_question_its_unassigns(held: Desk) -> None:
    ran = held.run(WRONG, since_last=True)
    assert (ran.json["exitCode"], ran.json["attention"]) == (0, 0)


def test_a_run_of_an_own_report_does_not_question_its_unassigns(held: Desk) -> None:
    held.run([(A, f"SN-{number}", "assign") for number in (1, 2, 3)], run_id="first")
    held.server.fleet.unassign(A, ["SN-1", "SN-2", "SN-3"])
    ran = held.run(str(held.folder / "reports" / "first" / "undo.csv"), run_id="second")
    assert ran.outcomes == ["skipped"] * 3
    assert (ran.json["exitCode"], ran.json["attention"]) == (0, 0)


# Unassigns of earlier runs


def has_earlier_run_taken(desk: Desk, rows: list[tuple[str, str, str]], base_url: str = BASE_URL) -> bool:
    warned: list[str] = []
    runs = recorded_runs(desk.folder / "reports", Path("another"), warned.append)
    assert warned == []
    return has_taken_any(joined_pairs(keys_of(rows)), base_url, runs, warned.append)


def test_only_sure_unassigns_of_the_same_customer_count(held: Desk) -> None:
    held.run([*unassigns("SN-7", "SN-1"), (B, "SN-8", "assign")], run_id="first")
    assert has_earlier_run_taken(held, unassigns("SN-7"))
    assert not has_earlier_run_taken(held, unassigns("SN-1"))
    assert not has_earlier_run_taken(held, unassigns("SN-7", customer=B))
    assert not has_earlier_run_taken(held, unassigns("SN-7"), base_url="https://another.example/api/ext-v1")


def test_a_device_assigned_again_in_the_same_run_was_not_taken(held: Desk) -> None:
    held.run([*unassigns("SN-7"), (A, "SN-7", "assign"), *unassigns("SN-8")], run_id="first")
    assert not has_earlier_run_taken(held, unassigns("SN-7"))


# --max-skipped and --max-unassign


def test_more_skipped_unassigns_than_allowed_stop_the_run(held: Desk) -> None:
    ran = held.run(unassigns(*(f"SN-{n}" for n in range(10, 30))), max_skipped="4", chunk_size="1", concurrency="1")
    assert ran.summary.exit_code == 5
    assert ran.outcomes.count("skipped") == 5
    assert ran.json["stop"]["code"] == "maxSkipped"
    assert ran.json["stop"]["reason"] == "5 unassigns had no effect, more than --max-skipped allows"


def test_as_many_skipped_unassigns_as_allowed_do_not_stop_the_run(held: Desk) -> None:
    rows = [*unassigns("SN-7"), *unassigns("SN-1", "SN-2", "SN-3", "SN-4")]
    assert held.run(rows, max_skipped="4", chunk_size="1").summary.exit_code == 0


def test_a_percent_limit_refers_to_the_unassigns_of_the_plan(held: Desk) -> None:
    rows = [*unassigns("SN-7", "SN-8", "SN-1", "SN-2"), *[(B, f"SN-{n}", "assign") for n in range(20, 60)]]
    rows += [*unassigns("SN-7"), (A, "", "unassign")]
    assert held.run(rows, run_id="half", max_skipped="50%").summary.exit_code == 1
    stopped = held.run([*unassigns("SN-8"), *WRONG], run_id="third", max_skipped="74%")
    assert stopped.summary.exit_code == 5


def test_a_skipped_unassign_after_an_unanswered_attempt_does_not_count(held: Desk) -> None:
    held.server.script = once(Loses(acted=True))
    assert held.run(unassigns("SN-7"), max_skipped="0").summary.exit_code == 0


def test_a_skipped_assign_does_not_count(held: Desk) -> None:
    assert held.run([(A, "UNKNOWN-1", "assign")], max_skipped="0").summary.exit_code == 1


def test_skipped_unassigns_of_an_earlier_process_count(held: Desk) -> None:
    rows = unassigns(*(f"SN-{n}" for n in range(10, 30)))
    held.run(rows, run_id="run", max_skipped="4", chunk_size="1", concurrency="1")
    sent = len(held.server.seen)
    assert held.run(rows, run_id="run", max_skipped="4", chunk_size="1").summary.exit_code == 5
    assert len(held.server.seen) == sent
    assert held.run(rows, run_id="run", max_skipped="90%", chunk_size="1").summary.exit_code == 5
    assert held.run(rows, run_id="run", max_skipped="100%", chunk_size="1").outcomes == ["skipped"] * 20


def test_max_unassign_can_be_a_percentage_of_the_valid_rows(held: Desk) -> None:
    rows = [*unassigns("SN-7", "SN-8"), (B, "SN-20", "assign"), (B, "SN-21", "assign"), (B, "", "assign")]
    assert held.run(rows, run_id="half", max_unassign="50%").outcomes[:2] == ["unassigned"] * 2
    with pytest.raises(BrakeError, match=r"^2 rows are unassigns, more than --max-unassign 49%; nothing was sent"):
        held.run(rows, run_id="less", max_unassign="49%", again=True)
