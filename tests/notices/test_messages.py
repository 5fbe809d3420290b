"""Messages by Apprise, to a webhook and a mail server of the tests."""

import pytest

from telemetron_batch.domain.model import Secret
from telemetron_batch.notices.messages import is_known, send_message
from telemetron_batch.notices.text import Message
from tests.support.listeners import listening
from tests.support.listening import free_port
from tests.support.mailbox import taking_mail

MESSAGE = Message("telemetron-batch: night stopped", "night stopped: é <b>.\n\nWhat to do: run it again")


def test_a_webhook_gets_title_and_text() -> None:
    with listening() as hook:
        assert send_message(Secret(f"json://me:sesame@{hook.host}/x?format=text"), MESSAGE) is None
    [message] = hook.messages
    assert (message["title"], message["message"]) == (MESSAGE.title, MESSAGE.body)
    assert hook.heard[0].headers["authorization"].startswith("Basic ")


def test_a_mail_has_the_title_as_subject_and_the_text_as_it_is() -> None:
    with taking_mail() as (box, port):
        url = f"mailto://127.0.0.1:{port}?from=night@example.com&to=ann@example.com,bob@example.com&mode=insecure"
        assert send_message(Secret(f"{url}&format=text"), MESSAGE) is None
    assert sorted(mail["to"] for mail in box.mails) == ["ann@example.com", "bob@example.com"]
    assert {mail["subject"] for mail in box.mails} == {MESSAGE.title}
    body = box.mails[0].get_body(("plain",))
    assert body is not None
    assert body.get_content().split() == MESSAGE.body.split()


@pytest.mark.parametrize("status", [500, 404])
def test_a_service_that_does_not_take_a_message_is_named_with_its_answer(
    status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with listening(status=status) as hook:
        problem = send_message(Secret(f"json://{hook.host}"), MESSAGE)
    assert problem is not None
    assert str(status) in problem
    assert capfd.readouterr() == ("", "")


def test_a_service_that_is_not_there_is_a_problem_in_words(capfd: pytest.CaptureFixture[str]) -> None:
    problem = send_message(Secret(f"json://127.0.0.1:{free_port()}"), MESSAGE)
    assert problem is not None
    assert "\n" not in problem
    assert capfd.readouterr() == ("", "")


def test_an_unknown_service_is_known_before_anything_is_sent() -> None:
    assert is_known(Secret("json://127.0.0.1"))
    assert not is_known(Secret("nosuchservice://127.0.0.1"))
    assert send_message(Secret("nosuchservice://127.0.0.1"), MESSAGE) is not None
