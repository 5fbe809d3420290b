"""The whole program against a scripted server, on a fake clock."""

import json
import os
import shutil
import socket
import sqlite3
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from telemetron_batch import __version__
from telemetron_batch.config.config import resolve
from telemetron_batch.config.option_values import DEFAULT_BASE_URL
from telemetron_batch.domain.errors import BrakeError, ConfigError, DiskError, InputError, JournalError, LockedError
from telemetron_batch.journal.writer import Writer
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.run import locking, pipeline, prepare
from telemetron_batch.run.stored_config import continued_config
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sharding.report import report_run
from telemetron_batch.storage import lease as leases
from telemetron_batch.storage.lease import TAKEOVER_AFTER_S
from telemetron_batch.storage.spill import Scratch, SpillLimits
from telemetron_batch.storage.system_users import SystemUsers
from tests.conftest import ENVIRON, KEY, Desk, Ran
from tests.support.books import reconciliation_of
from tests.support.scripted import (
    BASE_URL,
    Event,
    Hangs,
    Loses,
    Refuses,
    Rewrites,
    Says,
    ScriptedServer,
    Seen,
    Window,
    once,
)

A, B, C = "a@x.com", "b@x.com", "c@x.com"


def many(count: int, customer: str = A, action: str = "assign") -> list[tuple[str, str, str]]:
    return [(customer, f"SN-{number:05}", action) for number in range(count)]


def customers(count: int) -> list[tuple[str, str, str]]:
    return [(f"user{number:04}@x.com", f"SN-{number:05}", "assign") for number in range(count)]


def holding(*devices: str, status: int = 400, text: str = "Something about a device is wrong"):
    """Refuse every request that holds one of these devices."""

    def script(seen: Seen):
        return Says(status, {"error": text}) if set(devices) & set(seen.devices) else None

    return script


# The main job


def test_every_row_has_its_outcome_in_input_order(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-2"])
    rows = [
        (A, "SN-1", "assign"),
        (A, "SN-2", "assign"),
        (A, "UNKNOWN-3", "assign"),
        (A, "SN-1", "assign"),
        (A, "", "x"),
    ]
    ran = desk.run(rows)
    assert ran.outcomes == ["assigned", "alreadyAssigned", "skipped", "duplicate", "invalid"]
    assert ran.summary.exit_code == 1
    assert ran.json["balanced"] is True


def test_devices_go_out_in_as_few_calls_as_possible(desk: Desk) -> None:
    ran = desk.run(many(1001))
    assert [len(seen.devices) for seen in ran.server.seen] == [500, 500, 1]
    assert ran.summary.exit_code == 0


def test_the_columns_are_those_that_readers_rely_on(desk: Desk) -> None:
    path = desk.file("E-Mail;Serial No;Movement;Order\nA@X.com ;SN-1;assign;77\n")
    row = desk.run(path).rows[0]
    assert list(row) == [
        "line", "customerEmail", "deviceIdentifier", "action", "outcome", "detail", "customerId", "deviceId",
        "customerWasCreated", "deviceWasCreated", "call", "attempts", "unclearAttempts", "httpStatus", "answeredAt",
        "devicesRemaining", "Order",
    ]  # fmt: skip
    assert (row["line"], row["customerEmail"], row["outcome"], row["Order"]) == ("2", A, "assigned", "77")
    assert (row["customerWasCreated"], row["deviceWasCreated"], row["httpStatus"]) == ("true", "false", "200")
    assert row["answeredAt"].endswith("Z")


def test_unassigns_come_before_assigns_for_any_order_of_rows(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-1"])
    ran = desk.run([(B, "SN-1", "assign"), (A, "SN-1", "unassign")])
    assert [seen.action for seen in ran.server.seen] == ["unassign", "assign"]
    assert ran.server.fleet.owners("SN-1") == {B}


def test_a_device_that_moves_twice_is_never_with_two_customers(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-1"])
    rows = [(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (B, "SN-1", "unassign"), (C, "SN-1", "assign")]
    most: list[int] = []
    desk.server.script = lambda _: most.append(len(desk.server.fleet.owners("SN-1")))
    assert desk.run(rows).outcomes == ["unassigned", "assigned", "unassigned", "assigned"]
    assert max(most) == 1
    assert desk.server.fleet.owners("SN-1") == {C}


def test_a_customer_never_has_two_calls_in_flight(desk: Desk) -> None:
    ran = desk.run([*many(300), *customers(3)], chunk_size="100", rate="1000/s")
    assert ran.server.most_for_one_customer == 1
    assert ran.server.most_in_flight > 1


def test_concurrency_limits_the_calls_in_flight(desk: Desk) -> None:
    desk.server.latency = 5
    assert desk.run(customers(40), concurrency="3", rate="1000/s").server.most_in_flight == 3


def test_created_devices_get_the_type_of_their_row(desk: Desk) -> None:
    desk.server.fleet.unassign(A, [])
    path = desk.file("customerEmail,deviceIdentifier,action,deviceType\na@x.com,UNKNOWN-1,assign,sensor\n"
                     "a@x.com,UNKNOWN-2,assign,gateway\n")  # fmt: skip
    ran = desk.run(path, auto_create_devices=True)
    assert [(seen.body["deviceType"], seen.body["autoCreateDevices"]) for seen in ran.server.seen] == [
        ("sensor", True),
        ("gateway", True),
    ]
    assert [row["deviceWasCreated"] for row in ran.rows] == ["true", "true"]


def test_without_a_type_devices_cannot_be_created(desk: Desk) -> None:
    with pytest.raises(InputError, match="--device-type"):
        desk.run([("a@x.com", "SN-1", "assign")], auto_create_devices=True)


# Rate limits


def test_a_known_limit_is_used_and_never_exceeded(desk: Desk) -> None:
    desk.server.script = window = Window(40, 1.0)
    ran = desk.run(customers(400), rate="40/s", concurrency="16")
    assert window.refused == 0
    assert ran.server.seen[-1].at - ran.server.seen[0].at < 400 / 40 / 0.9


def test_a_429_makes_all_wait_as_long_as_the_server_asks(desk: Desk) -> None:
    desk.server.script = lambda seen: (
        Says(429, {"error": "slow down"}, {"Retry-After": "7"}) if seen.number == 5 else None
    )
    ran = desk.run(customers(30), rate="20/s")
    fifth = ran.server.seen[4]
    after = [seen.at for seen in ran.server.seen if seen.at > fifth.at + 1]
    assert min(after) >= fifth.at + 7
    assert set(ran.outcomes) == {"assigned"}
    assert ran.json["refusals"] == 1


def test_a_retry_after_may_be_a_date(desk: Desk) -> None:
    at = desk.clock.wall() + 20
    from email.utils import formatdate

    desk.server.script = once(Says(503, {"error": "maintenance"}, {"Retry-After": formatdate(at, usegmt=True)}))
    ran = desk.run(many(1))
    assert ran.outcomes == ["assigned"]
    assert ran.server.seen[1].at - ran.server.seen[0].at >= 18


def test_throttling_does_not_use_up_attempts(desk: Desk) -> None:
    desk.server.script = once(*[Says(429, {"error": "slow down"})] * 20)
    ran = desk.run(many(1), attempts="2", max_failed="0")
    assert ran.outcomes == ["assigned"]


def test_an_unknown_limit_fails_no_row(desk: Desk) -> None:
    desk.server.script = window = Window(10, 1.0)
    ran = desk.run(customers(600), rate="100/s", concurrency="8")
    assert set(ran.outcomes) == {"assigned"}
    assert window.refused < 0.06 * len(ran.server.seen)


def test_auto_finds_a_limit_and_the_summary_says_what_it_found(desk: Desk) -> None:
    desk.server.script = window = Window(20, 1.0)
    ran = desk.run(customers(800), rate="auto")
    assert set(ran.outcomes) == {"assigned"}
    assert window.refused <= 0.03 * len(ran.server.seen)
    assert ran.summary.fields["rateFound"] == pytest.approx(20, rel=0.15)


def test_a_limit_without_a_refusal_is_not_reported_as_found(desk: Desk) -> None:
    assert desk.run(customers(3), rate="auto").summary.fields["rateFound"] is None


# Passing faults


@pytest.mark.parametrize(
    "event",
    [
        Refuses(), Loses(acted=False), Says(500, {"error": "boom"}), Says(502, b"<html>Bad gateway</html>"), Says(408),
        Says(409, {"error": "busy"}), Says(425), Says(200, b"<html>"), Says(200, b'{"success": tr'), Says(200, []),
        Says(200, {"success": False}), Says(200, b""), Hangs(acted=False),
    ],
)  # fmt: skip
def test_a_passing_fault_is_retried(desk: Desk, event: object) -> None:
    faults = once(event, event)
    desk.server.script = lambda seen: None if seen.action == "query" else faults(seen)
    ran = desk.run(many(3))
    assert ran.outcomes == ["assigned"] * 3
    assert ran.rows[0]["attempts"] == "3"


def test_a_lost_answer_is_marked_on_the_rows_that_it_affects(desk: Desk) -> None:
    desk.server.script = once(Loses(acted=True))
    row = desk.run(many(1)).rows[0]
    assert (row["outcome"], row["unclearAttempts"]) == ("alreadyAssigned", "1")
    assert "may be this run's own work" in row["detail"]


def test_an_attempt_that_was_never_sent_is_not_unclear(desk: Desk) -> None:
    desk.server.script = once(Refuses(), Refuses())
    row = desk.run(many(1)).rows[0]
    assert (row["outcome"], row["attempts"], row["unclearAttempts"], row["detail"]) == ("assigned", "3", "0", "")


def test_a_call_without_usable_answer_is_unconfirmed(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(502, b"<html>") if seen.customer == A else None
    ran = desk.run([*many(1), *customers(3)])
    assert ran.outcomes == ["unconfirmed", "assigned", "assigned", "assigned"]
    assert ran.rows[0]["unclearAttempts"] == "6"
    assert ran.summary.exit_code == 1


def test_a_hanging_answer_is_bounded_by_the_deadline_of_the_attempt(desk: Desk) -> None:
    desk.server.script = once(Hangs())
    ran = desk.run(many(1), timeout="5")
    assert 5 <= ran.server.seen[1].at - ran.server.seen[0].at <= 7


def test_with_a_baseline_lost_answers_are_attributed_exactly(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-1", "SN-9"])
    desk.server.script = lambda seen: Loses(acted=True) if seen.number in (2, 4) else None
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (A, "SN-9", "unassign"), (A, "SN-8", "unassign")]
    ran = desk.run(rows, baseline=True, concurrency="1")
    assert ran.outcomes == ["alreadyAssigned", "assigned", "unassigned", "skipped"]
    assert [row["detail"] for row in ran.rows[:3]] == ["", *["done by an earlier attempt, whose answer was lost"] * 2]
    assert [seen.action for seen in ran.server.seen].count("query") == 1


@pytest.mark.parametrize("held", ["sn-1", "SN1", "\uff33N-1"])
def test_with_a_baseline_another_spelling_of_a_device_is_marked(desk: Desk, held: str) -> None:
    # An API that ignores how identifiers are spelled had the device with the customer all along.
    desk.server.fleet.assign(A, [held])
    already = {"success": True, "alreadyAssigned": ["SN-1"]}
    desk.server.script = lambda seen: {2: Loses(acted=False), 3: Says(200, already)}.get(seen.number)
    ran = desk.run([("a@x.com", "SN-1", "assign")], baseline=True)
    assert ran.outcomes == ["alreadyAssigned"]
    assert "may be this run's own work" in ran.rows[0]["detail"]
    assert "SN-1" not in (ran.folder / "undo.csv").read_text()


def test_a_baseline_includes_the_changes_of_the_run_itself(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-1"])
    desk.server.script = lambda seen: Loses(acted=True) if seen.number == 3 else None
    ran = desk.run([(A, "SN-1", "unassign"), (A, "SN-1", "assign")], baseline=True, timeout="2")
    assert ran.outcomes == ["unassigned", "assigned"]


def test_without_an_answer_to_the_baseline_the_row_is_marked(desk: Desk) -> None:
    desk.server.script = lambda seen: (
        Says(400, {}) if seen.action == "query" else Loses(acted=True) if seen.number == 2 else None
    )
    row = desk.run(many(1), baseline=True).rows[0]
    assert row["outcome"] == "alreadyAssigned"
    assert "may be this run's own work" in row["detail"]


# Refusals


def test_a_refused_device_is_isolated_and_the_others_succeed(desk: Desk) -> None:
    desk.server.script = holding("SN-00123")
    ran = desk.run(many(500), rate="1000/s")
    assert ran.outcomes.count("assigned") == 499
    row = ran.rows[123]
    assert (row["outcome"], row["detail"], row["httpStatus"]) == (
        "failed",
        "400: Something about a device is wrong",
        "400",
    )
    assert len(ran.server.seen) <= 21


def test_a_device_that_the_error_names_is_tried_first(desk: Desk) -> None:
    desk.server.script = holding("SN-00077", text="Device SN-00077 is locked")
    ran = desk.run(many(200), rate="1000/s")
    assert ran.outcomes.count("assigned") == 199
    assert len(ran.server.seen) <= 4


def test_a_refused_email_fails_all_rows_of_its_call_at_once(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(400, {"error": "Invalid email format"}) if seen.customer == A else None
    ran = desk.run([*many(20), (B, "SN-1", "assign")])
    assert ran.outcomes == ["failed"] * 20 + ["assigned"]
    assert len(ran.server.seen) == 2


def test_a_call_of_only_unknown_devices_is_skipped(desk: Desk) -> None:
    ran = desk.run([(A, "UNKNOWN-1", "assign"), (A, "UNKNOWN-2", "assign")])
    assert ran.outcomes == ["skipped", "skipped"]
    assert ran.summary.exit_code == 1


@pytest.mark.parametrize("refusal", [Says(413), Says(400, {"error": "At most 100 devices are allowed"})])
def test_too_large_a_call_is_halved_and_the_maximum_remembered(desk: Desk, refusal: Says) -> None:
    desk.server.script = lambda seen: refusal if len(seen.devices) > 130 else None
    ran = desk.run([*many(500), *many(500, B)], concurrency="1")
    assert ran.outcomes == ["assigned"] * 1000
    assert [len(seen.devices) for seen in ran.server.seen] == [500, 250, *[125] * 8]


def test_an_unknown_customer_is_asked_for_once(desk: Desk) -> None:
    ran = desk.run(many(30, action="unassign"), chunk_size="10")
    assert ran.outcomes == ["failed"] * 30
    assert {row["detail"] for row in ran.rows} == {"customer not found"}
    assert len(ran.server.seen) == 1


def test_a_repeated_server_error_of_one_call_splits_it(desk: Desk) -> None:
    desk.server.script = holding("SN-00005", status=500, text="boom")
    ran = desk.run([*many(16), *[(f"u{n}@x.com", f"X-{n}", "assign") for n in range(60)]], rate="20/s")
    assert ran.outcomes.count("assigned") == 75
    assert ran.outcomes[5] == "unconfirmed"


def test_a_repeated_fast_503_of_one_call_splits_it(desk: Desk) -> None:
    poisoned = holding("SN-00005", status=503, text="boom")

    def hasty(seen: Seen) -> Event:
        event = poisoned(seen)
        desk.server.latency = 0.0 if event else 0.05
        return event

    desk.server.script = hasty
    ran = desk.run([*many(16), *[(f"u{n}@x.com", f"X-{n}", "assign") for n in range(300)]], rate="20/s")
    assert ran.summary.exit_code == 1
    assert ran.outcomes.count("assigned") == 315
    assert ran.outcomes[5] == "unconfirmed"
    assert sum(len(seen.devices) == 16 for seen in ran.server.seen) <= 5 + 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_run_at_once(desk: Desk, status: int) -> None:
    desk.server.script = lambda seen: Says(status, {"error": "Invalid or missing API key"}) if seen.number > 3 else None
    ran = desk.run(customers(100), rate="1000/s", concurrency="4")
    assert ran.summary.exit_code == 4
    assert len(ran.server.seen) <= 3 + 4
    assert set(ran.outcomes) == {"assigned", "notSent"}
    assert "key" in ran.rows[-1]["detail"]


def test_a_redirect_stops_the_run_and_is_not_followed(desk: Desk) -> None:
    desk.server.script = lambda _: Says(302, b"", {"Location": "https://elsewhere.example.com/"})
    ran = desk.run(many(1))
    assert ran.summary.exit_code == 4
    assert ran.outcomes == ["notSent"]
    assert len(ran.server.seen) == 1


# Answers


def test_a_device_missing_in_the_answer_is_sent_once_more(desk: Desk) -> None:
    def without_the_first(answer: dict) -> dict:
        return answer | {"assignedDevices": answer["assignedDevices"][1:]}

    desk.server.script = once(Rewrites(without_the_first))
    ran = desk.run(many(3))
    assert [list(seen.devices) for seen in ran.server.seen][1] == ["SN-00000"]
    assert ran.outcomes == ["alreadyAssigned", "assigned", "assigned"]


def test_a_device_missing_in_two_answers_is_unconfirmed(desk: Desk) -> None:
    desk.server.script = lambda _: Rewrites(lambda answer: answer | {"assignedDevices": [], "alreadyAssigned": []})
    ran = desk.run(many(2))
    assert ran.outcomes == ["unconfirmed", "unconfirmed"]
    assert len(ran.server.seen) == 2


def test_unexpected_devices_in_an_answer_are_reported_and_ignored(desk: Desk) -> None:
    foreign = {"identifier": "SN-99999", "deviceId": "dev_x", "wasCreated": False}
    desk.server.script = lambda _: Rewrites(lambda a: a | {"assignedDevices": [*a["assignedDevices"][::-1], foreign]})
    ran = desk.run(many(2))
    assert ran.outcomes == ["assigned", "assigned"]
    assert "SN-99999" in (ran.folder / "run.log").read_text()


# Held transfers


def test_an_assign_is_held_while_the_former_owner_may_still_have_the_device(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-1", "SN-2"])
    desk.server.script = lambda seen: Says(500) if seen.action == "unassign" and seen.devices == ["SN-1"] else None
    rows = [(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (B, "SN-2", "assign")]
    ran = desk.run(rows)
    assert ran.outcomes == ["unconfirmed", "held", "assigned"]
    assert A in ran.rows[1]["detail"]
    assert desk.server.fleet.owners("SN-1") == {A}


def test_no_hold_sends_an_assign_that_would_be_held(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-1"])
    desk.server.script = lambda seen: Says(500) if seen.action == "unassign" else None
    assert desk.run([(A, "SN-1", "unassign"), (B, "SN-1", "assign")], no_hold=True).outcomes == [
        "unconfirmed",
        "assigned",
    ]


def test_an_unknown_former_owner_holds_nothing(desk: Desk) -> None:
    assert desk.run([(A, "SN-1", "unassign"), (B, "SN-1", "assign")]).outcomes == ["failed", "assigned"]


def test_an_unassign_waits_for_an_unanswered_assign_of_its_device(desk: Desk) -> None:
    desk.server.script = once(Hangs(acted=False))
    ran = desk.run([(A, "SN-1", "assign"), (A, "SN-1", "unassign")], timeout="10")
    first, last = ran.server.seen[0], ran.server.seen[-1]
    assert last.action == "unassign"
    assert last.at - first.at >= 15 - 1e-6


# Stops


def test_an_api_that_is_down_stops_the_run_and_loses_nothing(desk: Desk) -> None:
    desk.server.script = lambda _: Refuses()
    ran = desk.run(customers(20), give_up_after="60s")
    assert ran.summary.exit_code == 3
    assert set(ran.outcomes) == {"notSent"}
    assert "cannot be reached" in ran.json["stop"]["reason"]


def test_an_outage_does_not_use_up_attempts(desk: Desk) -> None:
    began = desk.clock.monotonic
    desk.server.script = lambda _: Says(502, b"") if 2 < desk.clock.monotonic - began < 300 else None
    ran = desk.run(customers(100))
    assert set(ran.outcomes) <= {"assigned", "alreadyAssigned"}
    during = [seen for seen in ran.server.seen if 2 < seen.at - began < 300]
    assert len(during) <= 30


def test_a_dead_api_and_a_single_call_end_as_an_outage(desk: Desk) -> None:
    desk.server.script = lambda _: Refuses()
    ran = desk.run(many(3))
    assert ran.summary.exit_code == 3
    assert ran.outcomes == ["notSent"] * 3


def test_the_deadline_stops_cleanly(desk: Desk) -> None:
    ran = desk.run(customers(100), deadline="3s")
    assert ran.summary.exit_code == 3
    assert 25 <= ran.outcomes.count("assigned") <= 35
    assert ran.outcomes.count("notSent") == 100 - ran.outcomes.count("assigned")
    assert ran.json["callsSettled"] == ran.outcomes.count("assigned")


def test_a_wait_longer_than_allowed_stops_the_run(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "600"}) if seen.number == 20 else None
    ran = desk.run(customers(40), longest_wait="5m")
    asked = desk.clock.wall()
    stop, until = ran.json["stop"], datetime.fromisoformat(ran.json["resumeAt"])
    assert (ran.summary.exit_code, ran.outcomes.count("notSent") > 0) == (3, True)
    assert stop["reason"] == f"the API asks to wait until {until:%H:%M:%S}Z"
    assert asked + 590 < until.timestamp() <= asked + 601
    sent = len(desk.server.seen)
    again = desk.run(customers(40), longest_wait="5m")
    assert (again.summary.exit_code, len(desk.server.seen)) == (3, sent)
    desk.clock.sleep_blocking(until.timestamp() - asked)
    ended = desk.run(customers(40), longest_wait="5m")
    assert (ended.summary.exit_code, ended.json["resumeAt"]) == (0, None)


def test_a_wait_within_the_limit_is_waited_for(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "1200"}) if seen.number == 20 else None
    assert desk.run(customers(40), longest_wait="30m").summary.exit_code == 0


def test_a_wait_of_days_is_reported_with_its_date(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "200000"}) if seen.number == 20 else None
    assert desk.run(customers(40)).json["stop"]["reason"].startswith("the API asks to wait until 2026-01-03 07:")


def test_a_spent_quota_causes_a_wait_like_a_refusal(desk: Desk) -> None:
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "600"}
    desk.server.script = lambda seen: Says(429, {}, spent) if seen.number == 20 else None
    ran = desk.run(customers(40), longest_wait="5m")
    assert (ran.summary.exit_code, ran.json["resumeAt"] is not None) == (3, True)


def test_too_many_failures_stop_the_run(desk: Desk) -> None:
    desk.server.script = lambda _: Says(400, {"error": "Invalid email format"})
    ran = desk.run(customers(100), max_failed="5", concurrency="1")
    assert ran.summary.exit_code == 5
    assert ran.outcomes.count("failed") == 6


def test_a_run_stopped_by_a_brake_sends_nothing_more_until_the_brake_is_raised(desk: Desk) -> None:
    desk.server.script = lambda _: Says(400, {"error": "Invalid email format"})
    desk.run(customers(20), max_failed="5", concurrency="1")
    sent = len(desk.server.seen)
    assert desk.run(customers(20), max_failed="5", concurrency="1").summary.exit_code == 5
    assert len(desk.server.seen) == sent
    assert desk.run(customers(20), max_failed="50").outcomes.count("failed") == 20


def test_too_many_new_customers_stop_the_run(desk: Desk) -> None:
    ran = desk.run(customers(100), max_new_customers="5", concurrency="1")
    assert ran.summary.exit_code == 5
    assert ran.json["customersCreated"] == 6


def test_tolerated_outcomes_leave_exit_code_0(desk: Desk) -> None:
    rows = [(A, "SN-1", "assign"), (A, "UNKNOWN-1", "assign")]
    assert desk.run(rows, tolerate=("skipped",)).summary.exit_code == 0


# Before sending


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"max_unassign": "1"}, "--max-unassign"),
        ({"min_rows": "4"}, "--min-rows"),
        ({"expect_rows": "2"}, "--expect-rows"),
        ({"max_age": "1s"}, "--max-age"),
    ],
)
def test_a_brake_stops_before_anything_is_sent(desk: Desk, flags: dict, words: str) -> None:
    path = desk.file([(A, "SN-1", "unassign"), (A, "SN-2", "unassign"), (A, "SN-3", "assign")])
    os.utime(path, (0, 0))
    with pytest.raises(BrakeError, match=words):
        desk.run(path, **flags)
    assert desk.server.seen == []
    assert not (desk.folder / "reports" / "r1").exists()


def test_an_input_without_rows_is_refused_unless_allowed(desk: Desk) -> None:
    with pytest.raises(InputError, match="--allow-empty"):
        desk.run([])
    assert desk.run([], allow_empty=True).summary.exit_code == 0
    assert desk.run([], run_id="r2", empty_exit_code="99").summary.exit_code == 99


def test_without_a_key_nothing_starts(desk: Desk) -> None:
    from telemetron_batch.config.config import resolve

    with pytest.raises(ConfigError, match="TELEMETRON_API_KEY"):
        pipeline.run(resolve([desk.file(many(1))], {"reports_dir": str(desk.folder / "reports")}, {}))
    assert not (desk.folder / "reports" / "r1").exists()


def test_the_same_content_is_not_processed_twice(desk: Desk) -> None:
    desk.run(many(2))
    with pytest.raises(BrakeError, match="--again"):
        desk.run(many(2), run_id="r2")
    assert desk.run(many(2), run_id="r3", again=True).outcomes == ["alreadyAssigned"] * 2


# Continuing


def test_a_repeated_finished_run_sends_nothing(desk: Desk) -> None:
    first = desk.run([*many(2), (A, "", "assign")])
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*.csv")}
    again = desk.run([*many(2), (A, "", "assign")])
    assert len(desk.server.seen) == 1
    assert again.summary.exit_code == first.summary.exit_code == 1
    assert {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*.csv")} == before


def test_a_stopped_run_continues_where_it_ended(desk: Desk) -> None:
    stopped = desk.run(customers(50), deadline="2s")
    assert stopped.summary.exit_code == 3
    sent = len(desk.server.seen)
    ran = desk.run(customers(50))
    assert ran.outcomes == ["assigned"] * 50
    assert len(desk.server.seen) == 50
    assert sent < 50


def test_resume_uses_the_options_of_the_run(desk: Desk) -> None:
    desk.run(customers(30), deadline="1s", chunk_size="7")
    folder = desk.folder / "reports" / "r1"
    options = json.loads((folder / "summary.json").read_text())["options"]
    assert options["chunk_size"] == "7"
    assert KEY not in (folder / "summary.json").read_text()


@pytest.mark.parametrize("flags", [{"chunk_size": "10"}, {"base_url": "http://127.0.0.1:10/api"}, {"no_hold": True}])
def test_other_options_under_an_old_run_id_are_refused(desk: Desk, flags: dict) -> None:
    desk.run(many(3), deadline="1s")
    with pytest.raises(JournalError, match="other options"):
        desk.run(many(3), **flags)


def test_another_spelling_of_the_base_url_continues_the_run(desk: Desk) -> None:
    desk.run(many(3), deadline="1s")
    ran = desk.run(many(3), base_url="HTTP://localhost:9/x/../api//ext-v1/")
    assert ran.summary.exit_code == 0


def test_another_input_under_an_old_run_id_is_refused(desk: Desk) -> None:
    desk.run(many(3))
    with pytest.raises(JournalError, match="another input"):
        desk.run(many(4))


def test_the_files_can_be_written_again_from_the_journal_alone(desk: Desk) -> None:
    ran = desk.run([*many(3), (A, "", "assign"), (B, "UNKNOWN-1", "assign")])
    written = {name: (ran.folder / name).read_bytes() for name in ("reconciliation.csv", "attention.csv", "undo.csv")}
    for path in [*ran.folder.glob("*.csv"), ran.folder / "summary.json", *desk.folder.glob("*.csv")]:
        path.unlink()
    assert report_run(ran.folder).exit_code == 1
    assert {name: (ran.folder / name).read_bytes() for name in written} == written


def test_the_files_can_be_written_again_without_the_key_file(desk: Desk) -> None:
    key = desk.folder / "key"
    key.touch(0o600)
    key.write_text(KEY)
    ran = desk.run(many(3), api_key_file=str(key))
    key.unlink()
    assert report_run(ran.folder).fields == ran.summary.fields


# Files


def test_the_files_of_a_run_are_readable_by_the_owner_only(desk: Desk) -> None:
    folder = desk.run(many(1)).folder
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.iterdir() if path.stat().st_mode & 0o077] == []


def test_the_key_is_in_no_file(desk: Desk) -> None:
    folder = desk.run(many(1)).folder
    assert [path.name for path in folder.iterdir() if KEY.encode() in path.read_bytes()] == []
    assert desk.server.seen[0].headers["x-api-key"] == KEY


def test_undo_takes_back_exactly_what_the_run_did(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-1", "SN-2"])
    ran = desk.run([(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (A, "SN-2", "assign"), (B, "SN-3", "unassign")])
    undo = shutil.copy(ran.folder / "undo.csv", desk.folder / "undo.csv")
    desk.run(str(undo), run_id="undo")
    assert desk.server.fleet.owners("SN-1") == {A}
    assert desk.server.fleet.owners("SN-2") == {A}
    assert desk.server.fleet.owners("SN-3") == set()


def test_attention_can_be_corrected_and_fed_back(desk: Desk) -> None:
    ran = desk.run([(A, "UNKNOWN-1", "assign"), (A, "SN-2", "assign"), ("nobody", "SN-3", "assign")])
    text = (ran.folder / "attention.csv").read_text().replace("UNKNOWN-1", "SN-1").replace("nobody", B)
    fed = desk.run(desk.file(text, "fed.csv"), run_id="fed")
    assert fed.outcomes == ["assigned", "assigned"]
    assert list(fed.rows[0]).count("outcome") == 1


def test_several_files_make_one_run(desk: Desk) -> None:
    from telemetron_batch.config.config import resolve
    from tests.support.scripted import BASE_URL

    paths = [desk.file(many(2), "one.csv"), desk.file("E-Mail;Serial No;Movement\nb@x.com;SN-9;assign\n", "two.csv")]
    flags = {"base_url": BASE_URL, "reports_dir": str(desk.folder / "reports"), "run_id": "r"}
    config = resolve(paths, flags, {"TELEMETRON_API_KEY": KEY})
    summary = pipeline.run(config, transport=desk.server, clock=desk.clock)
    rows = reconciliation_of(summary.folder)
    assert [(row["file"], row["line"]) for row in rows] == [("one.csv", "2"), ("one.csv", "3"), ("two.csv", "2")]
    assert {row["outcome"] for row in rows} == {"assigned"}


def test_a_sandbox_run_needs_no_key_and_shows_every_kind_of_outcome(desk: Desk) -> None:
    from telemetron_batch.config.config import resolve

    rows = [*many(200), *many(200, B, "unassign")]
    flags = {"sandbox": True, "reports_dir": str(desk.folder / "reports"), "run_id": "s", "rate": "1000/s"}
    summary = pipeline.run(resolve([desk.file(rows)], flags, {}))
    kinds = {str(outcome) for outcome, count in summary.counts.items() if count}
    assert {"assigned", "alreadyAssigned", "skipped", "unassigned"} <= kinds
    with SandboxState(summary.folder / "sandbox.sqlite3") as fleet:
        assert len(fleet.devices_of(A)) > 150


def test_a_device_limit_of_one_customer_does_not_shrink_other_calls(desk: Desk) -> None:
    full = Says(400, {"error": "Customer has reached the maximum number of devices (10)"})
    desk.server.script = lambda seen: full if seen.customer == A else None
    ran = desk.run([*many(4), *many(40, B)], concurrency="1")
    assert ran.outcomes == ["failed"] * 4 + ["assigned"] * 40
    assert [len(seen.devices) for seen in ran.server.seen] == [4, 40]


def test_a_413_that_halving_does_not_help_is_not_remembered(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(413) if seen.customer == A else None
    ran = desk.run([*many(4), *many(40, B)], concurrency="1")
    assert ran.outcomes == ["failed"] * 4 + ["assigned"] * 40
    assert len(ran.server.seen[-1].devices) == 40


@pytest.mark.parametrize("bad", [0, 1, 2, 250, 499])
def test_a_refused_device_has_the_apis_text_at_any_position(desk: Desk, bad: int) -> None:
    desk.server.script = holding(f"SN-{bad:05}", text="This one is locked")
    rows = desk.run(many(500), rate="1000/s").rows
    assert [row["deviceIdentifier"] for row in rows if row["outcome"] == "failed"] == [f"SN-{bad:05}"]
    assert rows[bad]["detail"].startswith("400: This one is locked")


# The disk


def test_without_room_for_what_a_run_writes_nothing_is_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(DiskError, match="nothing was sent; make room"):
        desk.run(many(3))
    assert desk.server.seen == []
    assert not (desk.folder / "reports" / "r1").exists()


def test_an_unwritable_folder_is_refused_before_sending(desk: Desk) -> None:
    (desk.folder / "reports").write_text("a file in the way")
    with pytest.raises(ConfigError, match="name a folder that can be written to"):
        desk.run(many(3))
    assert desk.server.seen == []


def test_a_disk_that_fills_up_stops_the_run_without_loss(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = count(1)
    ordinary = Writer._transaction

    def filling_up(writer: Writer, connection: sqlite3.Connection, orders: list) -> list:
        if next(commits) == 30:
            writer._make_room()  # as it does when the disk refuses a commit
        return ordinary(writer, connection, orders)

    monkeypatch.setattr(Writer, "_transaction", filling_up)
    stopped = desk.run(customers(60))
    assert (stopped.summary.exit_code, stopped.json["stop"]["reason"]) == (3, "the disk is full")
    assert set(stopped.outcomes) == {"assigned", "notSent"}
    monkeypatch.setattr(Writer, "_transaction", ordinary)
    assert desk.run(customers(60)).outcomes == ["assigned"] * 60
    assert len(desk.server.seen) == 60


def test_a_workbook_needs_room_for_its_unpacked_sheets(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(prepare, "require_free_space", lambda _, needed: asked.append(needed))
    for run_id, xlsx in (("plain", False), ("sheet", True)):
        desk.run(many(1), run_id=run_id, xlsx=xlsx, again=True)
    assert asked[1] - asked[0] > 2_000


def test_a_finished_run_leaves_no_reserve_behind(desk: Desk) -> None:
    assert sorted(path.name for path in desk.run(many(1)).folder.iterdir()) == [
        "attention.csv", "journal.sqlite3", "journal.sqlite3-witness", "reconciliation.csv", "report.html", "run.lock",
        "run.log", "summary.json", "undo.csv",
    ]  # fmt: skip


def test_a_key_echoed_by_the_server_is_redacted(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(400, {"error": f"bad key {seen.headers['x-api-key']}"})
    ran = desk.run(many(1))
    assert ran.rows[0]["detail"] == "400: bad key ***"
    assert [path.name for path in ran.folder.iterdir() if KEY.encode() in path.read_bytes()] == []


ELSEWHERE = [
    Says(200, b"<html>"),
    Says(200, {}),
    Says(404, b"<html>Not Found"),
    Says(404),
    Says(405, {"message": "no"}),
]


@pytest.mark.parametrize("answer", ELSEWHERE)
def test_an_address_without_the_api_stops_the_run(desk: Desk, answer: Says) -> None:
    desk.server.script = lambda _: answer
    began = desk.clock.monotonic
    ran = desk.run([(f"{at}@x.com", f"SN-{at}", "unassign") for at in range(20)])
    assert ran.summary.exit_code == 4
    assert ran.summary.fields["stop"]["code"] == "notTheApi"
    assert f"there is no Telemetron API at {BASE_URL}" in ran.summary.fields["stop"]["reason"]
    assert set(ran.outcomes) == {"unconfirmed", "notSent"}
    assert ran.outcomes.count("unconfirmed") <= 8
    assert 60 <= desk.clock.monotonic - began < 70


@pytest.mark.parametrize("answer", ELSEWHERE)
def test_odd_answers_of_the_api_are_retried_and_end_unconfirmed(desk: Desk, answer: Says) -> None:
    desk.server.script = lambda seen: None if seen.action == "query" else answer
    ran = desk.run([(A, "SN-1", "unassign"), (A, "SN-2", "assign")])
    assert (ran.summary.exit_code, set(ran.outcomes)) == (1, {"unconfirmed"})
    assert sum(seen.action == "query" for seen in desk.server.seen) == 1


def test_an_api_that_comes_back_within_a_minute_is_recognised(desk: Desk) -> None:
    began = desk.clock.monotonic
    desk.server.script = lambda _: Says(404, b"<html>") if desk.clock.monotonic - began < 40 else None
    ran = desk.run([(A, f"SN-{at}", "assign") for at in range(3)])
    assert ran.outcomes == ["assigned"] * 3


def test_a_row_refused_before_the_stop_counts_its_attempts(desk: Desk) -> None:
    desk.server.script = lambda seen: (
        Says(429, {"error": "slow down"}) if seen.number < 3 else Says(401, {"error": "no"})
    )
    row = desk.run(many(1)).rows[0]
    assert (row["outcome"], row["attempts"], row["unclearAttempts"]) == ("notSent", "3", "0")
    assert row["detail"].startswith("refused each time")


def test_a_wait_beyond_the_year_9999_is_reported(desk: Desk) -> None:
    desk.server.script = lambda _: Says(429, {"error": "slow down"}, {"Retry-After": str(10**9 - 1)})
    stop = desk.run(many(1)).summary.fields["stop"]
    assert stop["reason"] == "the API asks to wait for more than a year"


def test_a_named_device_outweighs_the_word_customer_in_an_error(desk: Desk) -> None:
    refusal = Says(400, {"error": "Device SN-2 belongs to another customer"})
    desk.server.script = lambda seen: refusal if "SN-2" in seen.devices else None
    ran = desk.run([(A, f"SN-{at}", "assign") for at in range(1, 5)])
    assert ran.outcomes == ["assigned", "failed", "assigned", "assigned"]


@pytest.mark.parametrize("acted", [True, False])
def test_a_refusal_after_a_lost_answer_is_unconfirmed(desk: Desk, acted: bool) -> None:
    desk.server.script = once(
        Loses(acted=acted), Says(400, {"error": "The customer has reached its number of devices"})
    )
    row = desk.run([("a@x.com", "SN-1", "assign")]).rows[0]
    assert (row["outcome"], row["unclearAttempts"]) == ("unconfirmed", "1")
    assert "may have been carried out" in row["detail"]


@pytest.mark.parametrize(("baseline", "told"), [(False, ""), (True, "true")])
def test_creation_flags_after_a_lost_answer_are_blank_unless_known(desk: Desk, baseline: bool, told: str) -> None:
    assigns = iter([Loses(acted=True)])
    desk.server.script = lambda seen: next(assigns, None) if seen.action == "assign" else None
    ran = desk.run([("new@x.com", "SN-1", "assign")], baseline=baseline)
    assert ran.rows[0]["customerWasCreated"] == told
    fields = ran.summary.fields
    assert (fields["customersCreated"], fields["customersPerhapsCreated"]) == ((1, 0) if baseline else (0, 1))


def test_customers_possibly_created_by_a_lost_answer_count_for_the_brake(desk: Desk) -> None:
    lost = {}
    desk.server.script = lambda seen: (
        Loses(acted=True) if lost.setdefault(seen.customer, seen.number) == seen.number else None
    )
    ran = desk.run([(f"n{at}@x.com", f"SN-{at}", "assign") for at in range(20)], max_new_customers="3", concurrency="2")
    assert ran.summary.exit_code == 5
    created = len({seen.customer for seen in desk.server.seen})
    assert created <= ran.summary.fields["customersCreated"] + ran.summary.fields["customersPerhapsCreated"] <= 6


def test_a_hold_ends_when_a_later_unassign_succeeds(desk: Desk) -> None:
    desk.server.fleet.assign(A, ["SN-1"])
    failing = iter([Says(500, {"error": "x"})] * 2)
    desk.server.script = lambda seen: next(failing, None) if seen.action == "unassign" else None
    rows = [(A, "SN-1", "unassign"), (A, "SN-1", "assign"), (A, "SN-1", "unassign"), (B, "SN-1", "assign")]
    ran = desk.run(rows, attempts="2")
    assert ran.outcomes == ["unconfirmed", "alreadyAssigned", "unassigned", "assigned"]


def test_an_unknown_customer_is_asked_again_by_the_next_process(desk: Desk) -> None:
    rows = [("gone@x.com", "SN-1", "unassign"), ("gone@x.com", "SN-2", "unassign"), (B, "SN-1", "assign")]
    first = desk.run(rows, chunk_size="1", concurrency="1", max_failed="0")
    assert first.outcomes == ["failed", "notSent", "notSent"]
    desk.server.fleet.assign("gone@x.com", ["SN-1", "SN-2"])  # the customer is back
    again = desk.run(rows, chunk_size="1", concurrency="1", max_failed="9")
    assert again.outcomes == ["unassigned", "unassigned", "assigned"]


def test_a_brake_that_still_applies_sends_nothing(desk: Desk) -> None:
    rows = [("gone@x.com", "SN-1", "unassign"), ("gone@x.com", "SN-2", "unassign")]
    desk.run(rows, chunk_size="1", concurrency="1", max_failed="0")
    sent = len(desk.server.seen)
    again = desk.run(rows, chunk_size="1", concurrency="1", max_failed="0")
    assert (again.outcomes, len(desk.server.seen)) == (["failed", "notSent"], sent)


def test_a_device_assigned_since_is_not_unassigned_again(desk: Desk) -> None:
    rows = [(A, "SN-1", "unassign"), (A, "SN-1", "assign"), (B, "SN-9", "assign")]
    desk.server.script = lambda seen: Says(401, {"error": "no"}) if seen.customer == B else None
    first = desk.run(rows, concurrency="1")
    assert first.outcomes == ["failed", "assigned", "notSent"]
    desk.server.script = lambda _: None
    again = desk.run(rows, concurrency="1")
    assert again.outcomes == ["failed", "assigned", "assigned"]
    assert desk.server.fleet.devices_of(A) == ["SN-1"]


@pytest.mark.parametrize("status", [400, 409, 410, 422, 425])
def test_a_refusal_by_a_gateway_leaves_the_row_unclear(desk: Desk, status: int) -> None:
    """A request refused without the API's own error may still be carried out, and late."""
    desk.server.fleet.assign(A, ["SN-1"])
    answered = iter([None, Says(status, b"<html>gateway</html>")])
    desk.server.script = lambda _: next(answered, None)
    rows = [(C, "SN-7", "unassign"), (C, "SN-7", "assign"), (A, "SN-1", "unassign"), (A, "SN-1", "assign")]
    row = desk.run(rows, concurrency="1").rows[2]
    assert (row["outcome"] in ("unassigned", "unconfirmed"), row["unclearAttempts"]) == (True, "1")
    taken, *_, given = [seen.at for seen in desk.server.seen if seen.customer == A]
    assert given - taken >= 35


def test_a_query_of_an_earlier_process_is_repeated_unless_it_has_written_since(desk: Desk) -> None:
    desk.server.script = lambda seen: None if seen.action == "query" else Says(401, {"error": "no"})
    desk.run([("a@x.com", "SN-1", "assign")], baseline=True)
    desk.server.fleet.assign(A, ["SN-1"])  # by somebody else, between the two processes
    lost = iter([Loses(acted=True)])
    desk.server.script = lambda seen: None if seen.action == "query" else next(lost, None)
    row = desk.run([("a@x.com", "SN-1", "assign")], baseline=True).rows[0]
    assert (row["outcome"], row["customerWasCreated"], row["unclearAttempts"]) == ("alreadyAssigned", "false", "1")


def test_no_valid_devices_after_a_lost_answer_is_unconfirmed(desk: Desk) -> None:
    desk.server.script = once(Loses(acted=True), Says(400, {"error": "No valid devices found"}))
    row = desk.run([("a@x.com", "SN-1", "assign")]).rows[0]
    assert (row["outcome"], row["unclearAttempts"]) == ("unconfirmed", "1")


def test_a_finished_run_is_not_changed(desk: Desk) -> None:
    folder = desk.run(many(1)).folder
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    desk.run(many(1))
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before


def test_a_call_whose_answer_is_always_cut_does_not_block_others(desk: Desk) -> None:
    desk.server.script = lambda seen: Loses(acted=False) if seen.customer == A else None
    ran = desk.run([(A, "SN-1", "unassign"), *customers(5)], attempts="3")
    assert ran.outcomes == ["unconfirmed", *["assigned"] * 5]
    assert ran.summary.exit_code == 1


def test_a_finished_run_is_reported_without_a_key(desk: Desk) -> None:
    first = desk.run([*many(2), (A, "", "assign")])
    options = {"base_url": BASE_URL, "reports_dir": str(first.folder.parent), "run_id": first.folder.name}
    config = resolve([desk.file([*many(2), (A, "", "assign")])], options, {})
    assert pipeline.run(config, transport=desk.server, clock=desk.clock).exit_code == 1
    with pytest.raises(ConfigError, match="no API key"):
        pipeline.run(replace(config, run_id="another"), transport=desk.server, clock=desk.clock)


def test_a_single_call_without_answer_ends_after_give_up_after(desk: Desk) -> None:
    desk.server.script = lambda _: Refuses()
    began = desk.clock.monotonic
    assert desk.run(many(1), give_up_after="3s", attempts="50").summary.exit_code == 3
    assert desk.clock.monotonic - began < 40


# Many rows


def test_a_run_whose_rows_do_not_fit_into_memory_writes_the_same_files(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tables are spilled to files; the second report makes the plan again from the journal."""
    rows = [*many(7), *many(5, B, "unassign"), *many(7), (B, "SN-0", "assign"), ("?", "SN-1", "assign")]
    in_memory = desk.run(rows, run_id="memory")
    monkeypatch.setattr(locking, "Scratch", partial(Scratch, limits=SpillLimits(memory=0, parts=3)))
    desk.server = ScriptedServer()
    in_files = desk.run(rows, run_id="files", again=True)
    timeless = [[{**row, "answeredAt": ""} for row in ran.rows] for ran in (in_memory, in_files)]
    assert timeless[0] == timeless[1]
    for name in ("reconciliation.csv", "attention.csv", "undo.csv"):
        before = (in_files.folder / name).read_bytes()
        report_run(in_files.folder)
        assert (in_files.folder / name).read_bytes() == before
    assert not [*in_files.folder.glob(f"{locking.SCRATCH}*")]


def test_too_little_disk_space_is_an_error_before_reading_rows(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "Scratch", partial(Scratch, limits=SpillLimits(memory=0)))
    monkeypatch.setattr(prepare, "_SCRATCH_FACTOR", 1 << 50)
    with pytest.raises(DiskError, match="MiB free"):
        desk.run(many(3))


# Another host


def of_another_host(folder: Path, **changes: object) -> None:
    """Write the claim of a process on another host, dead or alive."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"pid": 7, "since": "then", "run": "r1", "host": "elsewhere", "boot": "another", "task": "", "apart": 1}
    (folder / "run.lease.1").write_text(json.dumps({**told, "token": "its own", "renewals": 5, **changes}))


class Told(RunObserver):
    """An observer that records its messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_message(self, kind: str, text: str) -> None:
        self.texts.append(f"{kind}: {text}")


def stopped_run(desk: Desk) -> Ran:
    """Run six calls, with a deadline that stops them after two or three."""
    return desk.run(customers(6), rate="1/s", deadline="2s", again=True)


def test_a_run_of_a_dead_process_on_another_host_is_continued(desk: Desk) -> None:
    folder = stopped_run(desk).folder
    of_another_host(folder)
    before = (folder / "journal.sqlite3").stat().st_ino
    desk.face, began = Told(), desk.clock.uptime()
    assert desk.run(customers(6), rate="1/s").outcomes == ["assigned"] * 6
    assert desk.clock.uptime() - began >= TAKEOVER_AFTER_S
    assert (
        "waiting: watching the lease for 45 s to see whether process 7 on host elsewhere (run r1, since then)"
        in " ".join(desk.face.texts)
    )
    assert (folder / "journal.sqlite3").stat().st_ino != before
    assert not [*folder.glob("*lease*"), *folder.glob("*apart*"), *folder.glob("scratch*")]


def test_stored_options_are_readable_while_another_host_has_the_run(desk: Desk) -> None:
    folder = stopped_run(desk).folder
    of_another_host(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    started = continued_config(folder, ENVIRON, "telemetron-batch resume r1")
    assert started.given_options["rate"] == "1/s"
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_report_waits_for_another_host_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TAKEOVER_AFTER_S", 0.0)
    folder = stopped_run(desk).folder
    of_another_host(folder)
    assert report_run(folder).fields["state"] == "stopped"
    assert not [*folder.glob("*lease*")]


def test_a_run_in_use_by_another_host_is_refused(desk: Desk) -> None:
    folder = stopped_run(desk).folder
    before = (folder / "journal.sqlite3").read_bytes()
    renewals = iter(range(6, 1000))

    class Living(RunObserver):
        def on_message(self, *_: object) -> None:
            of_another_host(folder, renewals=next(renewals))

    desk.face = Living()
    of_another_host(folder)
    with pytest.raises(LockedError, match="run r1 is in use by process 7 on host elsewhere"):
        desk.run(customers(6), rate="1/s")
    assert (folder / "journal.sqlite3").read_bytes() == before
    assert (folder / "run.lease.1").exists()


def gone_to_another_host(desk: Desk) -> dict[str, bytes]:
    """Pause the process while another host takes over its run; return the contents of its folder then."""
    folder = desk.folder / "reports" / "r1"
    of_another_host(folder)
    (folder / "run.lease.1").rename(folder / "run.lease.2")
    desk.clock.sleep_blocking(100)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_paused_process_that_lost_its_run_sends_and_writes_nothing(desk: Desk) -> None:
    left: dict[str, bytes] = {}

    def answer(told: dict[str, object]) -> object:
        left.update(gone_to_another_host(desk))
        return told

    desk.server.script = lambda seen: Rewrites(answer) if seen.number == 3 else None
    with pytest.raises(LockedError, match=r"no longer this process's: it has gone to process 7 on host elsewhere"):
        desk.run(customers(20), concurrency="1")
    assert len(desk.server.seen) == 3
    folder = desk.folder / "reports" / "r1"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == left
    assert "journal.sqlite3-wal" in left


def test_a_paused_process_that_lost_its_run_sends_no_prepared_request(desk: Desk) -> None:
    def script(seen: Seen) -> None:
        if seen.number == 3:  # the connection is there, and no byte has left
            gone_to_another_host(desk)

    desk.server.script = script
    with pytest.raises(LockedError):
        desk.run(customers(20), concurrency="1")
    assert [desk.server.fleet.owners(f"SN-{number:05}") != set() for number in range(4)] == [True, True, False, False]


def test_a_paused_process_that_kept_its_run_continues(desk: Desk) -> None:
    def script(seen: Seen) -> None:
        if seen.number == 3:
            desk.clock.sleep_blocking(100)

    desk.server.script = script
    ran = desk.run(customers(20), concurrency="1")
    assert ran.outcomes == ["assigned"] * 20
    assert ran.json["unclearAttempts"] == 0


def test_since_last_sends_rows_that_a_run_on_another_host_may_be_sending(desk: Desk) -> None:
    desk.run(customers(9), since_last=True, run_id="n1")
    folder = stopped_run(desk).folder
    of_another_host(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = desk.run(customers(9), since_last=True, run_id="n2")
    assert again.outcomes == ["alreadyAssigned"] * 6 + ["unchanged"] * 3
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert "run r1 is or was in use by process 7 on host elsewhere" in again.json["since"]["told"]


# Base URL and profile in the log


class Asked(Told):
    """An observer that also records what is said above the question."""

    def confirm_plan(self, plan: PlanSummary) -> bool:
        self.texts.extend(f"above the question: {sentence}" for sentence in plan.non_defaults)
        return True


def test_a_base_url_other_than_the_default_is_named_before_the_question_and_in_the_log(desk: Desk) -> None:
    desk.face = Asked()
    ran = desk.run([("a@x.com", "SN-1", "assign")])
    assert desk.face.texts == [f"above the question: calls go to {BASE_URL}"]
    assert f"calls go to {BASE_URL}" in (ran.folder / "run.log").read_text()
    desk.face = Asked()
    ran = desk.run([("a@x.com", "SN-1", "assign")], run_id="r2", again=True, base_url=DEFAULT_BASE_URL)
    assert desk.face.texts == []
    assert "calls go to" not in (ran.folder / "run.log").read_text()


def test_the_profile_file_in_use_is_named_before_the_question_and_in_the_log(desk: Desk) -> None:
    config = desk.folder / "p.toml"
    config.write_text("[night]\nchunk-size = 7\n")
    desk.face = Asked()
    ran = desk.run([("a@x.com", "SN-1", "assign")], profile="night", config=str(config))
    assert f"above the question: options are read from {config} [night]" in desk.face.texts
    assert f"options are read from {config} [night]" in (ran.folder / "run.log").read_text()


def test_the_summary_says_who_started_the_run_where_and_with_which_version(desk: Desk) -> None:
    fields = desk.run([("a@x.com", "A1", "assign")]).json["startedBy"]
    user = SystemUsers().current()
    assert fields == {"user": user.name, "uid": user.uid, "host": socket.gethostname(), "version": __version__}
