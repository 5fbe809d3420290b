"""The verdict for each kind of failure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.api.classify import (
    CallRejected,
    DeviceRejected,
    ErrorResponse,
    FailureKind,
    NoUsableResponse,
    SideEffects,
    StopRun,
    Throttled,
    TooManyDevices,
    Transient,
    classify,
)
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.domain.stops import ExitCode, Stop, StopReason

BOTH = pytest.mark.parametrize("action", Action)


# No answer


@BOTH
@pytest.mark.parametrize("how", [FailureKind.CONNECTION, FailureKind.TIMEOUT, FailureKind.CUT, FailureKind.UNUSABLE])
def test_an_attempt_that_sent_something_may_have_acted(how: FailureKind, action: Action) -> None:
    verdict = classify(NoUsableResponse(how, sent=True, text="why"), action)
    reason = Reason.UNUSABLE_ANSWER if how is FailureKind.UNUSABLE else Reason.NO_ANSWER
    assert verdict == Transient(SideEffects.UNCLEAR, reason, "why", counts_as_down=how is not FailureKind.UNUSABLE)


@BOTH
@pytest.mark.parametrize("how", [FailureKind.CONNECTION, FailureKind.TIMEOUT, FailureKind.CUT])
def test_an_attempt_that_sent_nothing_did_nothing(how: FailureKind, action: Action) -> None:
    verdict = classify(NoUsableResponse(how, sent=False, text="why"), action)
    assert verdict == Transient(SideEffects.NOT_DONE, Reason.NO_CONNECTION, "why", counts_as_down=True)


@BOTH
def test_a_withdrawn_attempt_did_nothing_and_is_no_outage(action: Action) -> None:
    verdict = classify(NoUsableResponse(FailureKind.WITHDRAWN, sent=False, text="why"), action)
    assert verdict == Transient(SideEffects.NOT_DONE, Reason.WITHDRAWN, "why", counts_as_down=False)


# Statuses that say the same whatever the text


@BOTH
@pytest.mark.parametrize("asks_to_wait", [True, False])
def test_429_is_throttling_and_nothing_was_done(asks_to_wait: bool, action: Action) -> None:
    assert classify(ErrorResponse(429, "slow down", asks_to_wait), action) == Throttled(
        SideEffects.NOT_DONE, "429: slow down"
    )


@BOTH
def test_503_that_asks_to_wait_is_throttling_but_may_have_acted(action: Action) -> None:
    assert classify(ErrorResponse(503, "", asks_to_wait=True), action) == Throttled(SideEffects.UNCLEAR, "HTTP 503")


@BOTH
@pytest.mark.parametrize("status", [500, 502, 503, 504, 507, 520, 599])
def test_a_server_error_may_have_acted_and_counts_as_an_outage(status: int, action: Action) -> None:
    text = "no valid devices, email, too many devices"
    verdict = classify(ErrorResponse(status, text), action)
    assert (verdict.reason, verdict.text, verdict.counts_as_down) == (Reason.SERVER_ERROR, f"{status}: {text}", True)
    assert verdict.side_effects is not SideEffects.NOT_DONE


@BOTH
@pytest.mark.parametrize(
    ("status", "is_api_error", "side_effects"),
    [
        (500, True, SideEffects.UNCLEAR_BUT_OVER),
        (500, False, SideEffects.UNCLEAR),
        (502, True, SideEffects.UNCLEAR),
        (503, True, SideEffects.UNCLEAR),
        (504, True, SideEffects.UNCLEAR),
        (408, True, SideEffects.UNCLEAR),
        (409, True, SideEffects.NOT_DONE),
    ],
)
def test_only_an_answer_of_the_api_itself_ends_what_an_attempt_may_still_do(
    status: int, is_api_error: bool, side_effects: SideEffects, action: Action
) -> None:
    assert classify(ErrorResponse(status, "sorry", is_api_error=is_api_error), action).side_effects is side_effects


@BOTH
@pytest.mark.parametrize("status", [500, 502, 504])
def test_only_a_503_is_throttling_because_it_asks_to_wait(status: int, action: Action) -> None:
    assert isinstance(classify(ErrorResponse(status, "", asks_to_wait=True), action), Transient)


@BOTH
@pytest.mark.parametrize("status", [409, 425])
def test_a_passing_refusal_did_nothing_and_is_no_outage(status: int, action: Action) -> None:
    verdict = classify(ErrorResponse(status, "customer email conflict"), action)
    assert verdict == Transient(
        SideEffects.NOT_DONE, Reason.TEMPORARY_REFUSAL, f"{status}: customer email conflict", counts_as_down=False
    )


@BOTH
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_run_and_says_where_the_key_comes_from(status: int, action: Action) -> None:
    verdict = classify(ErrorResponse(status, "Invalid API key"), action)
    assert verdict == StopRun(Reason.KEY_REFUSED, Stop(StopReason.KEY_REFUSED, f"{status}: Invalid API key"))
    assert verdict.stop.exit_code is ExitCode.CLIENT_REFUSED
    assert verdict.text == f"the API refuses this key ({status}: Invalid API key)"
    advice = "check TELEMETRON_API_KEY, --api-key-file or --api-key-command, then run the same command again"
    assert verdict.stop.advice.words() == advice


@BOTH
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_stops_the_run_and_names_the_base_url(status: int, action: Action) -> None:
    verdict = classify(ErrorResponse(status, ""), action)
    assert verdict == StopRun(Reason.REDIRECTED, Stop(StopReason.REDIRECTED, str(status)))
    assert verdict.stop.exit_code is ExitCode.CLIENT_REFUSED
    assert "--base-url" in verdict.stop.advice.words()


# Refusals of the request itself


@pytest.mark.parametrize(
    "text",
    [
        "Customer not found for this organization",
        "Customer not found",
        "No such customer",
        "customer a@x.com does not exist",
        "Customer with this email was not found",
    ],
)
def test_404_on_unassign_is_an_unknown_customer_if_the_api_says_so(text: str) -> None:
    assert classify(ErrorResponse(404, text), Action.UNASSIGN) == CallRejected(
        Outcome.FAILED, Reason.CUSTOMER_NOT_FOUND
    )


@pytest.mark.parametrize(
    "text",
    [
        "Device D2 not found",
        "Not Found",
        "/customers/a@x.com/unassign: no route",
        "the customer-service is gone",
        "No such customer service",
        "unknown customer endpoint",
        "upstream customer not found",
        "Customer not found. No route /x",
        "Device D1 of customer not found",
        "Devices of customer a@x.com not found",
    ],
)
def test_404_on_unassign_about_something_else_is_no_unknown_customer(text: str) -> None:
    assert classify(ErrorResponse(404, text), Action.UNASSIGN).reason is not Reason.CUSTOMER_NOT_FOUND


@pytest.mark.parametrize("status", [400, 410, 422])
def test_a_refusal_that_is_not_the_apis_own_may_have_acted(status: int) -> None:
    verdict = classify(ErrorResponse(status, "customer", is_api_error=False), Action.ASSIGN)
    assert verdict == DeviceRejected(f"{status}: customer", SideEffects.UNCLEAR)


@BOTH
@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("text", ["", "404 Not Found nginx", "Customer not found"])
def test_what_has_nothing_of_the_api_is_tried_again_and_settles_nothing(status: int, text: str, action: Action) -> None:
    verdict = classify(ErrorResponse(status, text, is_api_error=False), action)
    assert isinstance(verdict, Transient)
    assert verdict.is_from_elsewhere
    assert (verdict.side_effects, verdict.counts_as_down) == (SideEffects.UNCLEAR, False)


def test_404_on_assign_is_read_like_any_other_refusal() -> None:
    assert classify(ErrorResponse(404, "Customer not found"), Action.ASSIGN) == CallRejected(
        Outcome.FAILED, Reason.CUSTOMER_REFUSED, "404: Customer not found"
    )
    assert classify(ErrorResponse(404, "Not Found"), Action.ASSIGN) == DeviceRejected("404: Not Found")


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "No valid devices",
        "no valid devices found for this customer",
        "No valid device identifiers provided",
        "no valid identifiers",
    ],
)
def test_no_valid_devices_skips_them_all(text: str, action: Action) -> None:
    assert classify(ErrorResponse(400, text), action) == CallRejected(
        Outcome.SKIPPED, Reason.NO_VALID_DEVICES, f"400: {text}"
    )


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "Too many devices",
        "Too many devices for customer a@b.c",
        "deviceIdentifiers must contain at most 1000 items",
        "A maximum of 1,000 devices is allowed",
        "max. 100 devices",
        "identifiers are limited to 100",
        "there is a limit of 100 devices",
        "no more than 100 identifiers",
        "payload exceeds the limit",
        "Request too large",
        "body too large",
        "items: array is too long",
        "array too long",
        "too many items",
    ],
)
def test_too_many_devices_is_recognised_in_many_phrases(text: str, action: Action) -> None:
    assert classify(ErrorResponse(400, text), action) == TooManyDevices(f"400: {text}")


@BOTH
@pytest.mark.parametrize("per", ["a request", "a call", "a payload", "a body", "an array", "a batch", "at once"])
def test_a_limit_of_the_request_is_too_many_even_where_it_names_the_customer(per: str, action: Action) -> None:
    text = f"customer: at most 100 devices {per}"
    assert classify(ErrorResponse(400, text), action) == TooManyDevices(f"400: {text}")


@BOTH
@pytest.mark.parametrize(
    "text", ["Customer has reached its maximum of 50 devices", "a@b.c: the email's quota of devices is exceeded"]
)
def test_a_customers_own_quota_is_not_called_too_many_for_no_smaller_request_would_help(
    text: str, action: Action
) -> None:
    assert classify(ErrorResponse(400, text), action) == CallRejected(
        Outcome.FAILED, Reason.CUSTOMER_REFUSED, f"400: {text}"
    )


@BOTH
@pytest.mark.parametrize("text", ["", "Payload Too Large", "email"])
def test_413_is_too_many_devices_with_any_text(text: str, action: Action) -> None:
    assert isinstance(classify(ErrorResponse(413, text), action), TooManyDevices)


@BOTH
@pytest.mark.parametrize(
    "text", ["Invalid email format", "No valid customer emails provided", "Invalid e-mail", "Customer is blocked"]
)
def test_a_refusal_of_the_customer_fails_all_rows_of_the_call(text: str, action: Action) -> None:
    assert classify(ErrorResponse(400, text), action) == CallRejected(
        Outcome.FAILED, Reason.CUSTOMER_REFUSED, f"400: {text}"
    )


@BOTH
@pytest.mark.parametrize(
    ("status", "text"), [(400, "SN-1 is malformed"), (400, ""), (422, "bad device"), (409 + 1, "gone")]
)
def test_any_other_refusal_suspects_the_devices(status: int, text: str, action: Action) -> None:
    assert isinstance(classify(ErrorResponse(status, text), action), DeviceRejected)


@BOTH
@pytest.mark.parametrize(("text", "words"), [("why", "400: why"), ("", "HTTP 400")])
def test_a_verdict_contains_status_and_text(text: str, words: str, action: Action) -> None:
    assert classify(ErrorResponse(400, text), action) == DeviceRejected(words)


def test_no_valid_devices_is_understood_by_the_name_of_the_field() -> None:
    verdict = classify(ErrorResponse(400, "No valid deviceIdentifiers provided"), Action.ASSIGN)
    assert verdict == CallRejected(Outcome.SKIPPED, Reason.NO_VALID_DEVICES, "400: No valid deviceIdentifiers provided")


@pytest.mark.parametrize("text", ["No valid deviceType given", "no valid device_types", "no valid deviceship"])
def test_another_field_without_a_valid_value_skips_nothing(text: str) -> None:
    assert classify(ErrorResponse(400, text), Action.ASSIGN) == DeviceRejected(f"400: {text}")


# Laws

REFUSALS = st.builds(
    ErrorResponse,
    st.integers(300, 599),
    st.sampled_from(["", "no valid devices", "too many devices", "bad email", "SN-1"]),
    st.booleans(),
)


@given(REFUSALS, st.sampled_from(Action))
def test_what_may_have_acted_is_never_called_done_with(ending: ErrorResponse, action: Action) -> None:
    verdict = classify(ending, action)
    assert (verdict.side_effects is not SideEffects.NOT_DONE) == (ending.status >= 500 or ending.status == 408)


@given(REFUSALS, st.sampled_from(Action))
def test_only_5xx_and_broken_connections_speak_of_an_outage(ending: ErrorResponse, action: Action) -> None:
    verdict = classify(ending, action)
    assert not getattr(verdict, "counts_as_down", False) or ending.status >= 500


@given(REFUSALS)
def test_only_an_unassign_learns_that_a_customer_is_unknown(ending: ErrorResponse) -> None:
    assert classify(ending, Action.ASSIGN).reason is not Reason.CUSTOMER_NOT_FOUND
