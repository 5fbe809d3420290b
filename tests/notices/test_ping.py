"""Pings: where they go, what they say, and what they do not take along."""

from collections.abc import Callable
from urllib.parse import urlsplit

import httpx2
import pytest

from telemetron_batch.config.network import NetworkOptions
from telemetron_batch.domain.model import Secret
from telemetron_batch.notices.ping import ping_url, send_ping
from tests.support.listeners import listening
from tests.support.listening import free_port

NETWORK = NetworkOptions()


@pytest.mark.parametrize(
    ("url", "suffix", "expected"),
    [
        ("https://hc.example/ab12", "/start", "https://hc.example/ab12/start"),
        ("https://hc.example/ab12/", "/fail", "https://hc.example/ab12/fail"),
        ("https://hc.example/ab12/", "", "https://hc.example/ab12/"),
        ("https://hc.example/ab12?rid=7&x=/", "/fail", "https://hc.example/ab12/fail?rid=7&x=/"),
        ("https://hc.example", "/start", "https://hc.example/start"),
        ("https://me:pw@hc.example/a", "/start", "https://hc.example/a/start"),
    ],
)
def test_a_suffix_comes_behind_the_path_and_before_the_query(url: str, suffix: str, expected: str) -> None:
    assert ping_url(urlsplit(url), suffix) == expected


def test_a_ping_is_a_get_with_the_exit_code_in_its_body_and_few_headers() -> None:
    with listening() as listener:
        assert send_ping(Secret(f"http://me:p%40ss@{listener.host}/p?x=1"), "/fail", "3", NETWORK) is None
    [heard] = listener.heard
    assert (heard.method, heard.path, heard.body) == ("GET", "/p/fail?x=1", "3")
    assert set(heard.headers) <= {"host", "user-agent", "content-type", "content-length", "authorization", "connection"}
    assert heard.headers["authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize(
    ("status", "problem"),
    [(200, None), (204, None), (404, "it answers HTTP 404"), (500, "it answers HTTP 500")],
)
def test_an_answer_that_is_no_success_is_a_problem(status: int, problem: str | None) -> None:
    with listening(status=status) as listener:
        assert send_ping(Secret(f"http://{listener.host}/p"), "", "0", NETWORK) == problem


def test_a_redirect_is_not_followed() -> None:
    with listening() as elsewhere, listening(status=302, location=f"http://{elsewhere.host}/") as listener:
        problem = send_ping(Secret(f"http://{listener.host}/p"), "", "0", NETWORK)
    assert problem == "it redirects elsewhere (HTTP 302), which is not followed"
    assert elsewhere.heard == []


def test_a_server_that_is_not_there_is_a_problem_in_words() -> None:
    problem = send_ping(Secret(f"http://127.0.0.1:{free_port()}/p"), "", "0", NETWORK)
    assert problem is not None
    assert "refused" in problem.lower()


def test_a_proxy_that_is_named_carries_pings_too() -> None:
    with listening() as proxy:
        network = NetworkOptions(proxy=Secret(f"http://{proxy.host}"))
        assert send_ping(Secret("http://hc.example/p"), "/start", "", network) is None
    assert [one.path for one in proxy.heard] == ["http://hc.example/p/start"]


@pytest.mark.parametrize(
    "failure", [httpx2.ConnectTimeout("timed out"), ImportError("no socksio"), OSError("x"), httpx2.ReadError("")]
)
def test_whatever_fails_is_a_problem_and_no_exception(failure: Exception) -> None:
    def fail(_: httpx2.Request) -> httpx2.Response:
        raise failure

    handler: Callable[[httpx2.Request], httpx2.Response] = fail
    assert send_ping(Secret("http://hc.example/p"), "", "0", NETWORK, httpx2.MockTransport(handler))


def test_a_ca_file_adds_to_the_authorities_of_the_system_and_the_client_certificate_stays_at_home() -> None:
    network = NetworkOptions(ca_file="/nowhere.pem", client_cert="/nowhere-else.pem")
    problem = send_ping(Secret("https://hc.example/p"), "", "0", network)
    assert problem is not None
    assert "nowhere-else" not in problem
